"""Recurrent networks: the LSTM and its variants, GRU, plain and gated-feedback networks, their gradients over time."""

from claimwise.recurrent.gate_activity import (
    gate_activity,
)
from claimwise.recurrent.gated_feedback import (
    GatedFeedback,
)
from claimwise.recurrent.gru import (
    GRU,
)
from claimwise.recurrent.lstm import (
    LSTM,
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
    "EncoderDecoder",
    "GatedFeedback",
    "LSTMVariant",
    "ManyToMany",
    "ManyToOne",
    "OneToMany",
    "OneToOne",
    "gate_activity",
]
