"""One step of the gated recurrent unit in both published forms, forward and backward, over packed rows.

K. Cho et al. (2014), equations 5 to 8, and the first version of that paper. The notation is that of
:class:`~claimwise.recurrent.GRU`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from claimwise.recurrent.compiled_step import compiled_step
from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.recurrence import States, Trace, Weights

ROWS_AT_ONCE = 512
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
        (h,) = states
        hidden, dtype = h.shape[1], h.dtype
        hs = []
        for pre in torch.split(F.linear(x, w_ih, b_ih).to(dtype), rows.sizes):
            h = h[: len(pre)]
            if self.form == "reset-after":
                seen = F.linear(h, w_hh, b_hh).to(dtype)
                r, z = torch.sigmoid(pre[:, : 2 * hidden] + seen[:, : 2 * hidden]).chunk(2, 1)
                n = torch.tanh(pre[:, 2 * hidden :] + r * seen[:, 2 * hidden :])
            else:
                b_gates, b_candidate = (None, None) if b_hh is None else torch.split(b_hh, [2 * hidden, hidden])
                seen = F.linear(h, w_hh[: 2 * hidden], b_gates).to(dtype)
                r, z = torch.sigmoid(pre[:, : 2 * hidden] + seen).chunk(2, 1)
                n = torch.tanh(pre[:, 2 * hidden :] + F.linear(r * h, w_hh[2 * hidden :], b_candidate).to(dtype))
            h = torch.lerp(n, h, z)
            hs.append(h)
        return (torch.cat(hs),)

    # The same by hand. Reset after: a row of 4 blocks, reset, update, the candidate's product with the state (and its
    # bias), the candidate. One product fills the first three. Reset before: 3 blocks, two products.

    def _inputs(self, x: Tensor, weights: Weights) -> Tensor:
        """All that does not depend on the state: (rows, width)."""
        w_ih, _w_hh, b_ih, b_hh = weights
        hidden = len(w_ih) // 3
        if self.form == "reset-before":
            return F.linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        a = x.new_empty(len(x), 4 * hidden)
        gates, candidate = w_ih[: 2 * hidden].t(), w_ih[2 * hidden :].t()
        if b_ih is None or b_hh is None:
            torch.mm(x, gates, out=a[:, : 2 * hidden])
            torch.mm(x, candidate, out=a[:, 3 * hidden :])
            a[:, 2 * hidden : 3 * hidden] = 0
        else:
            torch.addmm(b_ih[: 2 * hidden] + b_hh[: 2 * hidden], x, gates, out=a[:, : 2 * hidden])
            torch.addmm(b_ih[2 * hidden :], x, candidate, out=a[:, 3 * hidden :])
            a[:, 2 * hidden : 3 * hidden] = b_hh[2 * hidden :]
        return a

    def sweep(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        _, w_hh, _, _ = weights
        h, n = states[0].resolve_neg().contiguous(), w_hh.shape[1]
        a = self._inputs(x, weights)
        hs = a.new_empty(rows.total, n)
        recurrent, step = w_hh.t(), compiled_step(a.dtype, a.device)
        reset_states = a.new_empty(rows.batch, n)
        for size, pre, made in zip(rows.sizes, torch.split(a, rows.sizes), torch.split(hs, rows.sizes), strict=True):
            h = h[:size]
            if self.form == "reset-after":
                pre[:, : 3 * n].addmm_(h, recurrent)
                if step is not None:
                    step.gru_forward(size, n, pre.data_ptr(), h.data_ptr(), made.data_ptr())
                else:
                    r, u, product, candidate = pre.chunk(4, 1)
                    pre[:, : 2 * n].sigmoid_()
                    candidate.addcmul_(r, product).tanh_()
                    torch.lerp(candidate, h, u, out=made)
            else:
                s = reset_states[:size]
                pre[:, : 2 * n].addmm_(h, recurrent[:, : 2 * n])
                if step is not None:
                    step.gru_before_gates(size, n, pre.data_ptr(), h.data_ptr(), s.data_ptr())
                else:
                    torch.mul(pre[:, : 2 * n].sigmoid_()[:, :n], h, out=s)
                pre[:, 2 * n :].addmm_(s, recurrent[:, 2 * n :])
                if step is not None:
                    step.gru_before_forward(size, n, pre.data_ptr(), h.data_ptr(), made.data_ptr())
                else:
                    torch.lerp(pre[:, 2 * n :].tanh_(), h, pre[:, n : 2 * n], out=made)
            h = made
        return (hs,), (hs, a)

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
        w_ih, w_hh, _b_ih, _b_hh = weights
        assert grads[0] is not None
        hs, a = kept
        start, n = states[0].resolve_neg().contiguous(), w_hh.shape[1]
        d_hs, d_h = grads[0].resolve_neg().contiguous(), torch.zeros_like(start)
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        d_ih, d_hh = torch.zeros_like(w_ih), torch.zeros_like(w_hh)
        d_bias = a.new_zeros(a.shape[1])
        pieces = rows.pieces(ROWS_AT_ONCE)
        room = a.new_empty(max(end - begin for _, _, begin, end in pieces), a.shape[1])
        for first, last, begin, end in reversed(pieces):
            d = room[: end - begin]
            for t in range(last - 1, first - 1, -1):
                size, here = rows.sizes[t], rows.offsets[t]
                h = start if t == 0 else hs[rows.offsets[t - 1] :][:size]
                self._step_back(
                    a[here : here + size], h, d_hs[here : here + size], d_h[:size], d[here - begin :][:size], w_hh
                )
            given, before = x[begin:end], rows.earlier(hs, first, last, start)
            # Blocks of d that the input, and those that the state had part in.
            by_input, by_state = self._columns(n)
            for row, column, width in by_input:
                part = d[:, column : column + width]
                if row == 0:
                    torch.mm(part, w_ih[:width], out=d_x[begin:end])
                else:
                    d_x[begin:end].addmm_(part, w_ih[row:])
                d_ih[row : row + width].addmm_(part.t(), given)
            for row, column, width in by_state:
                seen = before if self.form == "reset-after" or row == 0 else before * a[begin:end, :n]
                d_hh[row : row + width].addmm_(d[:, column : column + width].t(), seen)
            d_bias.add_(d.sum(0))
        by_input, by_state = self._columns(n)
        d_biases = [
            torch.cat([d_bias[column : column + width] for _, column, width in columns])
            for columns in (by_input, by_state)
        ]
        found = (d_x, d_h, d_ih, d_hh, *d_biases)
        return tuple(tensor if need else None for tensor, need in zip(found, needs, strict=True))

    def _columns(self, n: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Rows of a weight matrix, and which columns of a sweep's rows are theirs: (row, column, width)."""
        if self.form == "reset-after":
            return [(0, 0, 2 * n), (2 * n, 3 * n, n)], [(0, 0, 3 * n)]
        return [(0, 0, 3 * n)], [(0, 0, 2 * n), (2 * n, 2 * n, n)]

    def _step_back(self, a: Tensor, h: Tensor, d_above: Tensor, d_h: Tensor, d: Tensor, w_hh: Tensor) -> None:
        """Fills in ``d``, and turns ``d_h`` into the gradient of the state before."""
        size, n = d_h.shape
        step = compiled_step(a.dtype, a.device)
        if step is not None:
            back = step.gru_backward if self.form == "reset-after" else step.gru_before_backward
            back(size, n, a.data_ptr(), h.data_ptr(), d_above.data_ptr(), d_h.data_ptr(), d.data_ptr())
        else:
            r, u, candidate = a[:, :n], a[:, n : 2 * n], a[:, -n:]
            d_h.add_(d_above)
            torch.mul(d_h * (1 - u), 1 - candidate.square(), out=d[:, -n:])
            torch.mul(d_h * (h - candidate), u * (1 - u), out=d[:, n : 2 * n])
            if self.form == "reset-after":
                torch.mul(d[:, -n:], r, out=d[:, 2 * n : 3 * n])
                torch.mul(d[:, -n:] * a[:, 2 * n : 3 * n], r * (1 - r), out=d[:, :n])
            d_h.mul_(u)
        if self.form == "reset-after":
            d_h.addmm_(d[:, : 3 * n], w_hh)
            return
        d_s = d[:, 2 * n :] @ w_hh[2 * n :]  # of the reset state
        if step is not None:
            step.gru_before_reset(size, n, a.data_ptr(), h.data_ptr(), d_s.data_ptr(), d_h.data_ptr(), d.data_ptr())
        else:
            torch.mul(d_s * h, r * (1 - r), out=d[:, :n])
            d_h.addcmul_(d_s, r)
        d_h.addmm_(d[:, : 2 * n], w_hh[: 2 * n])
