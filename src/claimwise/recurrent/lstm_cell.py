"""One step of the LSTM family, forward and backward, over packed rows.

K. Greff et al., *LSTM: A Search Space Odyssey*, section II: the forward pass (II-A) and backpropagation through time
(II-B), https://arxiv.org/abs/1503.04069; memory blocks: S. Hochreiter, J. Schmidhuber, *Long Short-Term Memory* (1997);
peepholes: F. A. Gers, J. Schmidhuber, *Recurrent Nets that Time and Count* (2000). The notation is that of
:class:`~claimwise.recurrent.LSTM`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.recurrence import States, Trace, Weights
from claimwise.recurrent.variants import LSTMVariant


class LSTMCell:
    """The cell of a variant with ``cells_per_block`` cells a block."""

    states = 2

    def __init__(self, variant: LSTMVariant, hidden_size: int, cells_per_block: int) -> None:
        self.variant, self.hidden, self.cells = variant, hidden_size, cells_per_block
        self.gate_rows = hidden_size // cells_per_block
        self.blocks = variant.blocks
        self.widths = [hidden_size if block == "candidate" else self.gate_rows for block in self.blocks]

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
        assert w_ih is not None and w_hh is not None
        y, c = states
        gates = x.new_zeros(rows.batch, len(own) * self.gate_rows, dtype=c.dtype)
        ys, cs = [], []

        def each_cell(gate: Tensor) -> Tensor:  # (batch, blocks) -> (batch, hidden)
            return gate if self.cells == 1 else gate.repeat_interleave(self.cells, 1)

        def peep(gate: str, cell: Tensor) -> Tensor | float:  # (batch, hidden) -> (batch, blocks)
            if w_ph is None:
                return 0.0
            seen = cell * w_ph[own.index(gate)]
            return seen if self.cells == 1 else seen.unflatten(1, (self.gate_rows, self.cells)).sum(2)

        for pre in F.linear(x, w_ih, b_ih).split(rows.sizes):
            n = len(pre)
            y, c, gates = y[:n], c[:n], gates[:n]
            z = (pre + F.linear(y, w_hh, b_hh)).to(c.dtype)
            part = dict(zip(self.blocks, z.split(self.widths, 1), strict=True))
            if w_gh is not None:
                for gate, seen in zip(own, F.linear(gates, w_gh).to(c.dtype).chunk(len(own), 1), strict=True):
                    part[gate] = part[gate] + seen
            one = torch.ones_like(c)
            i = torch.sigmoid(part["input"] + peep("input", c)) if "input" in own else None
            if variant.coupled and i is not None:
                f = 1 - i
            else:
                f = torch.sigmoid(part["forget"] + peep("forget", c)) if "forget" in own else None
            g = torch.tanh(part["candidate"]) if variant.input_activation else part["candidate"]
            kept = c if f is None else each_cell(f) * c
            c = kept + (g if i is None else each_cell(i) * g)
            o = torch.sigmoid(part["output"] + peep("output", c)) if "output" in own else None
            h = torch.tanh(c) if variant.output_activation else c
            y = h if o is None else each_cell(o) * h
            if w_gh is not None:
                gates = torch.cat([{"input": i, "forget": f, "output": o}[gate] for gate in own], 1)  # type: ignore[misc]
            if trace is not None:
                seen_gates = {"input": i, "forget": f, "output": o}
                trace.append(
                    {name: one if gate is None else each_cell(gate) for name, gate in seen_gates.items()}
                    | {"candidate": g, "cell": c}
                )
            ys.append(y)
            cs.append(c)
        return torch.cat(ys), rows.last(torch.cat(cs))
