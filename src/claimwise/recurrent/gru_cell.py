"""One step of the gated recurrent unit in both published forms, forward and backward, over packed rows."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.recurrence import States, Trace, Weights

Form = Literal["reset-after", "reset-before"]


class GRUCell:
    """The cell of a form; rows of the parameters in torch's order: reset, update, candidate."""

    states = 1

    def __init__(self, form: Form) -> None:
        self.form = form

    def shapes(self, inputs: int, hidden: int, bias: bool) -> dict[str, tuple[int, ...]]:
        rows = 3 * hidden
        return {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, hidden),
            "bias_ih": (rows,) if bias else (),
            "bias_hh": (rows,) if bias else (),
        }

    def unrolled(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights, trace: Trace | None = None
    ) -> tuple[Tensor, ...]:
        w_ih, w_hh, b_ih, b_hh = weights
        assert w_ih is not None and w_hh is not None
        (h,) = states
        hidden, dtype = h.shape[1], h.dtype
        hs = []
        for pre in F.linear(x, w_ih, b_ih).to(dtype).split(rows.sizes):
            h = h[: len(pre)]
            if self.form == "reset-after":
                seen = F.linear(h, w_hh, b_hh).to(dtype)
                r, z = torch.sigmoid(pre[:, : 2 * hidden] + seen[:, : 2 * hidden]).chunk(2, 1)
                n = torch.tanh(pre[:, 2 * hidden :] + r * seen[:, 2 * hidden :])
            else:
                b_gates, b_candidate = (None, None) if b_hh is None else b_hh.split([2 * hidden, hidden])
                seen = F.linear(h, w_hh[: 2 * hidden], b_gates).to(dtype)
                r, z = torch.sigmoid(pre[:, : 2 * hidden] + seen).chunk(2, 1)
                n = torch.tanh(pre[:, 2 * hidden :] + F.linear(r * h, w_hh[2 * hidden :], b_candidate).to(dtype))
            h = torch.lerp(n, h, z)
            hs.append(h)
        return (torch.cat(hs),)
