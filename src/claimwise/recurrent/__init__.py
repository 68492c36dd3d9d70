"""Recurrent networks: the LSTM and its variants, GRU, plain and gated-feedback networks, their gradients over time."""

from claimwise.recurrent.bptt import (
    Gradients,
    bptt,
)
from claimwise.recurrent.compiled_step import (
    recurrent_step,
)
from claimwise.recurrent.gate_activity import (
    gate_activity,
)
from claimwise.recurrent.gated_feedback import (
    GatedFeedback,
)
from claimwise.recurrent.gradient_norms import (
    DecayRate,
    decay_rate,
    gradient_norms,
)
from claimwise.recurrent.gru import (
    GRU,
)
from claimwise.recurrent.lstm import (
    LSTM,
)
from claimwise.recurrent.recurrent_connections import (
    recurrent_connections,
)
from claimwise.recurrent.rnn import (
    RNN,
)
from claimwise.recurrent.structures import (
    EncoderDecoder,
    ManyToMany,
    ManyToOne,
    OneToMany,
    OneToOne,
)
from claimwise.recurrent.variants import (
    LSTM_VARIANTS,
    LSTMVariant,
)

__all__ = [
    "GRU",
    "LSTM",
    "LSTM_VARIANTS",
    "RNN",
    "DecayRate",
    "EncoderDecoder",
    "GatedFeedback",
    "Gradients",
    "LSTMVariant",
    "ManyToMany",
    "ManyToOne",
    "OneToMany",
    "OneToOne",
    "bptt",
    "decay_rate",
    "gate_activity",
    "gradient_norms",
    "recurrent_connections",
    "recurrent_step",
]
