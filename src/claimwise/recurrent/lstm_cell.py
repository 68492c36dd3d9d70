"""One step of the LSTM family, forward and backward, over packed rows.

K. Greff et al., *LSTM: A Search Space Odyssey*, section II: the forward pass (II-A) and backpropagation through time
(II-B), https://arxiv.org/abs/1503.04069; memory blocks: S. Hochreiter, J. Schmidhuber, *Long Short-Term Memory* (1997);
peepholes: F. A. Gers, J. Schmidhuber, *Recurrent Nets that Time and Count* (2000). The notation is that of
:class:`~claimwise.recurrent.LSTM`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from claimwise.recurrent.compiled_lstm import pays, sweep_backward, sweep_forward
from claimwise.recurrent.compiled_step import compiled_step
from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.recurrence import States, Trace, Weights
from claimwise.recurrent.variants import LSTMVariant

ROWS_AT_ONCE = 512
"""Rows whose gradients are gathered in one product: enough for its speed, and few enough to stay in the cache."""


class LSTMCell:
    """The cell of a variant with ``cells_per_block`` cells a block."""

    states = 2

    def __init__(self, variant: LSTMVariant, hidden_size: int, cells_per_block: int) -> None:
        self.variant, self.hidden, self.cells = variant, hidden_size, cells_per_block
        self.gate_rows = hidden_size // cells_per_block
        self.blocks = variant.blocks
        self.widths = [hidden_size if block == "candidate" else self.gate_rows for block in self.blocks]
        # Inside a sweep the gates stand together where they see each other: one product over all of them.
        self.seen = len(variant.own_gates) * self.gate_rows
        self.inner = (*variant.own_gates, "candidate") if variant.gate_recurrence else self.blocks

    def shapes(self, inputs: int, hidden: int, bias: bool) -> dict[str, tuple[int, ...]]:
        rows, gates = sum(self.widths), len(self.variant.own_gates)
        return {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, hidden),
            "bias_ih": (rows,) if bias else (),
            "bias_hh": (rows,) if bias else (),
            "weight_ph": (gates, hidden) if self.variant.peepholes and gates else (),
            "weight_gh": (gates * self.gate_rows,) * 2 if self.variant.gate_recurrence else (),
        }

    def unrolled(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights, trace: Trace | None = None
    ) -> tuple[Tensor, ...]:
        variant, own = self.variant, self.variant.own_gates
        w_ih, w_hh, b_ih, b_hh, w_ph, w_gh = weights
        y, c = states[0], states[1]
        gates = x.new_zeros(rows.batch, len(own) * self.gate_rows, dtype=c.dtype)
        ys, cs = [], []

        def peep(gate: str, cell: Tensor) -> Tensor | float:
            return 0.0 if w_ph is None else self._each_block(cell * w_ph[own.index(gate)])

        for pre in torch.split(F.linear(x, w_ih, b_ih), rows.sizes):
            n = len(pre)
            y, c, gates = y[:n], c[:n], gates[:n]
            z = (pre + F.linear(y, w_hh, b_hh)).to(c.dtype)
            part = dict(zip(self.blocks, torch.split(z, self.widths, 1), strict=True))
            if w_gh is not None:
                for gate, around in zip(own, F.linear(gates, w_gh).to(c.dtype).chunk(len(own), 1), strict=True):
                    part[gate] = part[gate] + around
            one = torch.ones_like(c)
            i = torch.sigmoid(part["input"] + peep("input", c)) if "input" in own else None
            f: Tensor | None = None
            if variant.coupled and i is not None:
                f = 1 - i
            elif "forget" in own:
                f = torch.sigmoid(part["forget"] + peep("forget", c))
            g = torch.tanh(part["candidate"]) if variant.input_activation else part["candidate"]
            kept = c if f is None else self._each_cell(f) * c
            c = kept + (g if i is None else self._each_cell(i) * g)
            o = torch.sigmoid(part["output"] + peep("output", c)) if "output" in own else None
            h = torch.tanh(c) if variant.output_activation else c
            y = h if o is None else self._each_cell(o) * h
            if w_gh is not None:
                gates = torch.cat([{"input": i, "forget": f, "output": o}[gate] for gate in own], 1)  # type: ignore[misc]
            if trace is not None:
                read_gates = {"input": i, "forget": f, "output": o}
                trace.append(
                    {name: one if gate is None else self._each_cell(gate) for name, gate in read_gates.items()}
                    | {"candidate": g, "cell": c}
                )
            ys.append(y)
            cs.append(c)
        return torch.cat(ys), rows.last(torch.cat(cs))

    # The same by hand. A row of pre-activations is overwritten by activations, which the way back needs.

    def sweep(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        w_ih, w_hh, b_ih, b_hh, w_ph, w_gh = weights
        y, c = states[0], states[1]
        bias = None if b_ih is None else self._inward(b_ih + b_hh)
        if self._compiled(x, rows):
            ys, gates, cs = sweep_forward(
                self, x, rows, (y, c), (self._inward(w_ih), self._inward(w_hh), bias, w_ph, w_gh)
            )
            return (ys, rows.last(cs)), (ys, gates, cs)
        recurrent = self._inward(w_hh).t()
        gates = F.linear(x, self._inward(w_ih), bias)  # (rows, width)
        ys, cs = gates.new_empty(rows.total, self.hidden), gates.new_empty(rows.total, self.hidden)
        around = None if w_gh is None else w_gh.t()
        earlier: Tensor | None = None  # gates of the step before
        for n, pre, c_next, y_next in zip(
            rows.sizes,
            torch.split(gates, rows.sizes),
            torch.split(cs, rows.sizes),
            torch.split(ys, rows.sizes),
            strict=True,
        ):
            pre.addmm_(y[:n], recurrent)
            if around is not None:
                if earlier is not None:
                    pre[:, : self.seen].addmm_(earlier[:n], around)
                earlier = pre[:, : self.seen]
            self._step_forward(w_ph, pre, c, c_next, y_next)
            y, c = y_next, c_next
        return (ys, rows.last(cs)), (ys, gates, cs)

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
        w_ih, w_hh, _, _, w_ph, w_gh = weights
        first_y, first_c = states[0], states[1]
        inputs, recurrent = self._inward(w_ih), self._inward(w_hh)
        d_c = first_c.new_zeros(first_c.shape)
        if grads[1] is not None:
            d_c.copy_(grads[1])
        d_y = first_y.new_zeros(first_y.shape)  # of the output, from the step after
        need_x, need_y, need_c, need_ih, need_hh, need_b_ih, need_b_hh, need_ph, need_gh = needs
        d_x = x.new_empty(x.shape) if need_x else None
        d_ih = inputs.new_zeros(inputs.shape) if need_ih else None
        d_hh = recurrent.new_zeros(recurrent.shape) if need_hh else None
        d_bias = inputs.new_zeros(len(inputs)) if need_b_ih or need_b_hh else None
        d_ph = w_ph.new_zeros(w_ph.shape) if w_ph is not None and need_ph else None
        d_gh = w_gh.new_zeros(w_gh.shape) if w_gh is not None and need_gh else None
        given = (x, rows, (first_y, first_c), (inputs, recurrent, None, w_ph, w_gh), kept, (grads[0], d_y, d_c))
        if self._compiled(x, rows):
            sweep_backward(self, *given, (d_x, d_ih, d_hh, d_bias, d_ph, d_gh))
        else:
            self._sweep_back(*given, (d_x, d_ih, d_hh, d_bias, d_ph, d_gh))
        return (
            d_x,
            d_y if need_y else None,
            d_c if need_c else None,
            None if d_ih is None else self._outward(d_ih),
            None if d_hh is None else self._outward(d_hh),
            self._outward(d_bias) if d_bias is not None and need_b_ih else None,
            self._outward(d_bias).clone() if d_bias is not None and need_b_hh else None,
            d_ph,
            d_gh,
        )

    def _compiled(self, x: Tensor, rows: PackedRows) -> bool:
        """Whether machine code does all steps; for memory blocks there is none."""
        if self.cells > 1 or compiled_step(x.dtype, x.device) is None:
            return False
        return pays(self, rows, x.shape[1], sum(self.widths))

    def _sweep_back(
        self,
        x: Tensor,
        rows: PackedRows,
        states: States,
        weights: Weights,
        kept: tuple[Tensor, ...],
        d_states: tuple[Tensor | None, Tensor, Tensor],
        sums: tuple[Tensor | None, ...],
    ) -> None:
        """Fills in d_x, turns gradients of the last states into those of the first, adds those of weights to sums."""
        (first_y, first_c), (inputs, recurrent, _, w_ph, w_gh), (ys, gates, cs) = states, weights, kept
        d_ys, d_y, d_c = d_states
        d_x, d_ih, d_hh, d_bias, d_ph, d_gh = sums
        d_seen = None if w_gh is None else gates.new_zeros(rows.batch, self.seen)
        pieces = rows.pieces(ROWS_AT_ONCE)
        room = gates.new_empty(max(end - start for _, _, start, end in pieces), gates.shape[1])
        for first, last, start, end in reversed(pieces):
            d = room[: end - start]  # gradients of the pre-activations of steps first to last
            for t in range(last - 1, first - 1, -1):
                n, here = rows.sizes[t], rows.offsets[t]
                before = first_c if t == 0 else cs[rows.offsets[t - 1] : here]
                above = None if d_ys is None else d_ys[here : here + n]
                d_now, d_y_now = d[here - start :][:n], d_y[:n]
                a, after = gates[here : here + n], cs[here : here + n]
                self._step_backward(w_ph, a, before, after, above, d_y_now, d_seen, d_c, d_now)
                torch.mm(d_now, recurrent, out=d_y_now)
                if d_seen is not None:
                    torch.mm(d_now[:, : self.seen], w_gh, out=d_seen[:n])
            if d_x is not None:
                torch.mm(d, inputs, out=d_x[start:end])
            if d_ih is not None:
                d_ih.addmm_(d.t(), x[start:end])
            if d_hh is not None:
                d_hh.addmm_(d.t(), rows.earlier(ys, first, last, first_y))
            if d_bias is not None:
                d_bias.add_(d.sum(0))
            if d_ph is not None:
                d_ph.add_(self._d_peepholes(d, rows.earlier(cs, first, last, first_c), cs[start:end]))
            if d_gh is not None:
                ungated = gates.new_zeros(rows.batch, gates.shape[1])
                d_gh.addmm_(d[:, : self.seen].t(), rows.earlier(gates, first, last, ungated)[:, : self.seen])

    def _inward(self, tensor: Tensor) -> Tensor:
        """Blocks of rows as a sweep has them."""
        if self.inner == self.blocks:
            return tensor
        parts = dict(zip(self.blocks, torch.split(tensor, self.widths), strict=True))
        return torch.cat([parts[block] for block in self.inner])

    def _outward(self, tensor: Tensor) -> Tensor:
        """Blocks of rows as parameters have them."""
        if self.inner == self.blocks:
            return tensor
        parts = self._parts(tensor, 0)
        return torch.cat([parts[block] for block in self.blocks])

    def _parts(self, tensor: Tensor, dim: int = 1) -> dict[str, Tensor]:
        widths = [self.hidden if block == "candidate" else self.gate_rows for block in self.inner]
        return dict(zip(self.inner, torch.split(tensor, widths, dim), strict=True))

    def _each_cell(self, gate: Tensor) -> Tensor:
        """A block's gate for each of its cells: (rows, blocks) -> (rows, hidden)."""
        return gate if self.cells == 1 else gate.repeat_interleave(self.cells, 1)

    def _each_block(self, values: Tensor) -> Tensor:
        """Sums over the cells of a block: (rows, hidden) -> (rows, blocks)."""
        return values if self.cells == 1 else values.reshape(len(values), self.gate_rows, self.cells).sum(2)

    def _step_forward(self, w_ph: Tensor | None, pre: Tensor, before: Tensor, after: Tensor, y: Tensor) -> None:
        part, variant, own = self._parts(pre), self.variant, self.variant.own_gates
        before = before[: len(pre)]

        def open_gate(gate: str, cell: Tensor) -> Tensor:
            if w_ph is not None:
                part[gate].add_(self._each_block(cell * w_ph[own.index(gate)]))
            return self._each_cell(part[gate].sigmoid_())

        z = part["candidate"].tanh_() if variant.input_activation else part["candidate"]
        if "forget" in own:
            torch.mul(open_gate("forget", before), before, out=after)
        else:
            after.copy_(before)
        if variant.coupled:
            after.addcmul_(open_gate("input", before), z - before)
        elif "input" in own:
            after.addcmul_(open_gate("input", before), z)
        else:
            after.add_(z)
        if variant.output_activation:
            torch.tanh(after, out=y)
        else:
            y.copy_(after)
        if "output" in own:
            y.mul_(open_gate("output", after))

    def _step_backward(
        self,
        w_ph: Tensor | None,
        a: Tensor,
        before: Tensor,
        after: Tensor,
        d_above: Tensor | None,
        d_y: Tensor,
        d_seen: Tensor | None,
        d_c: Tensor,
        d: Tensor,
    ) -> None:
        n = len(a)
        part, d_part, own = self._parts(a), self._parts(d), self.variant.own_gates
        before, d_c = before[:n], d_c[:n]
        if d_above is not None:
            d_y = d_y + d_above
        d_around = None if d_seen is None else dict(zip(own, d_seen[:n].chunk(len(own), 1), strict=True))

        def d_gate(gate: str, d_opened: Tensor) -> None:
            """The gradient of a gate's pre-activation from that of the gate as each cell sees it."""
            opened = part[gate]
            d_opened = self._each_block(d_opened)
            if d_around is not None:
                d_opened = d_opened + d_around[gate]
            torch.mul(d_opened, opened * (1 - opened), out=d_part[gate])

        def through_peephole(gate: str) -> None:
            if w_ph is not None and gate in own:
                d_c.addcmul_(self._each_cell(d_part[gate]), w_ph[own.index(gate)])

        h = torch.tanh(after) if self.variant.output_activation else after
        d_h = d_y * self._each_cell(part["output"]) if "output" in own else d_y
        d_c.add_(d_h * (1 - h.square()) if self.variant.output_activation else d_h)
        if "output" in own:
            d_gate("output", d_y * h)
            through_peephole("output")
        z, d_z = part["candidate"], d_part["candidate"]
        if "input" in own:
            i = self._each_cell(part["input"])
            torch.mul(d_c, i, out=d_z)
            d_gate("input", d_c * (z - before if self.variant.coupled else z))
        else:
            d_z.copy_(d_c)
        if self.variant.input_activation:
            d_z.mul_(1 - z.square())
        if "forget" in own:
            d_gate("forget", d_c * before)
            d_c.mul_(self._each_cell(part["forget"]))
        elif self.variant.coupled:
            d_c.mul_(1 - i)
        through_peephole("input")
        through_peephole("forget")

    def _d_peepholes(self, d_gates: Tensor, before: Tensor, after: Tensor) -> Tensor:
        d_part = self._parts(d_gates)
        return torch.stack(
            [
                (self._each_cell(d_part[gate]) * (after if gate == "output" else before)).sum(0)
                for gate in self.variant.own_gates
            ]
        )
