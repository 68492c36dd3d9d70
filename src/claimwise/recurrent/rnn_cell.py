"""One step of the plain recurrent network, forward and backward, over packed rows."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.recurrence import States, Trace, Weights

Nonlinearity = Literal["tanh", "relu", "linear"]


class RNNCell:
    """The cell of a nonlinearity."""

    states = 1

    def __init__(self, nonlinearity: Nonlinearity) -> None:
        self.nonlinearity = nonlinearity

    def shapes(self, inputs: int, hidden: int, bias: bool) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (hidden, inputs),
            "weight_hh": (hidden, hidden),
            "bias_ih": (hidden,) if bias else (),
            "bias_hh": (hidden,) if bias else (),
        }

    def unrolled(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights, trace: Trace | None = None
    ) -> tuple[Tensor, ...]:
        w_ih, w_hh, b_ih, b_hh = weights
        assert w_ih is not None and w_hh is not None
        (h,) = states
        hs = []
        for pre in F.linear(x, w_ih, b_ih).split(rows.sizes):
            h = (pre + F.linear(h[: len(pre)], w_hh, b_hh)).to(states[0].dtype)
            if self.nonlinearity != "linear":
                h = torch.tanh(h) if self.nonlinearity == "tanh" else torch.relu(h)
            hs.append(h)
        return (torch.cat(hs),)
