"""Recurrent networks: the LSTM and its variants, GRU, plain and gated-feedback networks, their gradients over time."""

from claimwise.recurrent.structures import (
    EncoderDecoder,
    ManyToMany,
    ManyToOne,
    OneToMany,
    OneToOne,
)

__all__ = [
    "EncoderDecoder",
    "ManyToMany",
    "ManyToOne",
    "OneToMany",
    "OneToOne",
]
