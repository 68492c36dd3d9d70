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
        (h,) = states
        hs = []
        for pre in torch.split(F.linear(x, w_ih, b_ih), rows.sizes):
            h = (pre + F.linear(h[: len(pre)], w_hh, b_hh)).to(states[0].dtype)
            if self.nonlinearity != "linear":
                h = torch.tanh(h) if self.nonlinearity == "tanh" else torch.relu(h)
            hs.append(h)
        return (torch.cat(hs),)

    # The same by hand. Outputs overwrite pre-activations: they are all that the way back needs.

    def sweep(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        w_ih, w_hh, b_ih, b_hh = weights
        h, recurrent = states[0], w_hh.t()
        hs = F.linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        for made in torch.split(hs, rows.sizes):
            made.addmm_(h[: len(made)], recurrent)
            if self.nonlinearity != "linear":
                torch.tanh_(made) if self.nonlinearity == "tanh" else torch.relu_(made)
            h = made
        return (hs,), (hs,)

    def sweep_back(
        self,
        x: Tensor,
        rows: PackedRows,
        states: States,
        weights: Weights,
        kept: tuple[Tensor, ...],
        grads: tuple[Tensor | None, ...],
        needs: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        w_ih, w_hh, _, _ = weights
        assert grads[0] is not None
        (hs,), (start,) = kept, states
        d = grads[0].clone(memory_format=torch.contiguous_format)  # becomes that of the pre-activations
        made, d_h = torch.split(hs, rows.sizes), torch.zeros_like(start)
        for h, d_now in zip(reversed(made), reversed(torch.split(d, rows.sizes)), strict=True):
            d_now.add_(d_h[: len(h)])
            if self.nonlinearity == "tanh":
                torch.ops.aten.tanh_backward.grad_input(d_now, h, grad_input=d_now)
            elif self.nonlinearity == "relu":
                d_now.mul_(h > 0)
            torch.mm(d_now, w_hh, out=d_h[: len(h)])
        need_x, need_h, need_ih, need_hh, need_b_ih, need_b_hh = needs
        return (
            d @ w_ih if need_x else None,
            d_h if need_h else None,
            d.t() @ x if need_ih else None,
            d.t() @ rows.earlier(hs, 0, len(rows.sizes), start) if need_hh else None,
            d.sum(0) if need_b_ih else None,
            d.sum(0) if need_b_hh else None,
        )
