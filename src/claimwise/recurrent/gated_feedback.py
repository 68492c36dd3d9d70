r"""Gated-feedback recurrent networks: a stack in which every layer's last state feeds every layer, through gates.

J. Chung, C. Gulcehre, K. Cho, Y. Bengio, *Gated Feedback Recurrent Neural Networks*, ICML 2015, section 3 (the global
reset gate) and 3.1 (with tanh, LSTM and GRU units), https://arxiv.org/abs/1502.02367.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from claimwise.recurrent.sequence_lengths import Lengths, checked_sequences, valid_steps

Cell = Literal["tanh", "gru", "lstm"]


@dataclass(frozen=True)
class _Blocks:
    """Which blocks of ``hidden_size`` rows a layer's parameters have, in torch's order."""

    gates: tuple[int, ...]
    """Those of the gates of a cell; they see their own layer's last state."""
    candidate: int
    """That of the candidate; it sees all layers' last states."""
    state_parts: int

    @property
    def count(self) -> int:
        return len(self.gates) + 1


_CELLS = {
    "tanh": _Blocks(gates=(), candidate=0, state_parts=1),
    "gru": _Blocks(gates=(0, 1), candidate=2, state_parts=1),  # reset, update, candidate
    "lstm": _Blocks(gates=(0, 1, 3), candidate=2, state_parts=2),  # input, forget, candidate, output
}


def _cell(cell: str, vertical: Tensor, own: Tensor, feedback: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One layer's next state; ``vertical`` holds the gates' blocks, then the candidate's."""
    size = feedback.shape[1]
    if cell == "tanh":
        return torch.tanh(vertical + feedback), c
    gates = torch.sigmoid(vertical[:, :-size] + own).chunk(own.shape[1] // size, 1)
    if cell == "gru":
        reset, update = gates
        candidate = torch.tanh(vertical[:, -size:] + reset * feedback)
        return candidate + update * (h - candidate), c
    keep_in, forget, out = gates
    c = forget * c + keep_in * torch.tanh(vertical[:, -size:] + feedback)
    return out * torch.tanh(c), c


class GatedFeedback(nn.Module):
    r"""A recurrent stack with gated feedback from all layers to all layers.

    The j-th of L layers takes :math:`h_t^{j-1}` from below (:math:`h_t^0 = x_t`) and the last states of *all* layers,
    each through a global gate, one number for each pair of layers, step and sequence:

    .. math::
        s_t^j = \sum_{i=1}^L g_t^{i \to j} U^{i \to j} h_{t-1}^i, \qquad
        g_t^{i \to j} = \sigma(w_g^{i \to j} \cdot h_t^{j-1} + u_g^{i \to j} \cdot h_{t-1}^*), \qquad
        h^* = [h^1, \ldots, h^L]

    With tanh units, :math:`h_t^j = \tanh(W^j h_t^{j-1} + b^j + s_t^j)`. Of gated cells only the candidate takes
    :math:`s`, the gates take the layer's own last state:

    .. math::
        \text{GRU:}\quad & \tilde h = \tanh(W^j h_t^{j-1} + b^j + r \odot s_t^j), \quad
        h_t^j = (1 - z) \odot \tilde h + z \odot h_{t-1}^j \\
        \text{LSTM:}\quad & \tilde c = \tanh(W^j h_t^{j-1} + b^j + s_t^j), \quad
        c_t^j = f \odot c_{t-1}^j + i \odot \tilde c, \quad h_t^j = o \odot \tanh c_t^j

    where each of r, z, i, f, o is :math:`\sigma(W_\cdot^j h_t^{j-1} + U_\cdot^j h_{t-1}^j + b_\cdot^j)`.

    All products with last states are one batched product a step, those of the first layer with the input one product
    for all steps.

    Args:
        input_size: Size of x.
        hidden_size: Size of each :math:`h^j`.
        num_layers: L.
        cell: ``"tanh"``, ``"gru"`` or ``"lstm"``.
        gated: False fixes all g to 1: feedback from all layers without its gates.
        bias: Whether there are b.
        batch_first: Whether input and output are (batch, time, features) instead of (time, batch, features).
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        ``input`` (time, batch, input_size), ``hx`` the first state (num_layers, batch, hidden_size), for ``"lstm"`` a
        tuple of two, h and c; by default 0; ``lengths`` (batch) -> the top layer's states (time, batch, hidden_size),
        0 beyond a length, and the last state (at the length), in the form of ``hx``.

        Parameters: ``weight_ih_l{k}`` and ``bias_l{k}``, the W and b of layer k from 0, blocks of rows as in
        ``torch.nn``; ``weight_hh`` (L, (L + gates) hidden_size, hidden_size), for each layer i that feeds
        :math:`U^{i \to 1}, \ldots, U^{i \to L}`, then the U of its own gates; ``weight_gate_ih_l{k}``, the w_g of all i
        to layer k; ``weight_gate_hh`` (L, L, L hidden_size), the u_g by receiving and by feeding layer.

    Raises:
        TypeError: on calling, an input or lengths of another type.
        ValueError: a size below 1, an unknown cell; on calling, an input of another size or not finite, a state of
            another form, lengths of 0 or beyond the input.

    Differences from the paper:
        Biases, which the equations leave out. The GRU's z keeps where the paper's renews (1 - z), as in ``torch.nn``;
        both are the same family. All weights start uniform within :math:`\pm 1/\sqrt{\text{hidden\_size}}`, as in
        ``torch.nn``; the paper does not say. LSTM without peepholes, as in the paper.

    Example:
        >>> import torch
        >>> model = GatedFeedback(5, 8, num_layers=3, cell="lstm", batch_first=True)
        >>> output, (h, c) = model(torch.randn(2, 7, 5), lengths=[7, 4])
        >>> output.shape, h.shape, output[1, 4:].abs().max().item()
        (torch.Size([2, 7, 8]), torch.Size([3, 2, 8]), 0.0)
    """

    weight_hh: Tensor
    weight_gate_hh: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 3,
        cell: Cell = "tanh",
        *,
        gated: bool = True,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise ValueError(f"GatedFeedback: {name} must be at least 1, got {size}")
        if cell not in _CELLS:
            raise ValueError(f"GatedFeedback: cell must be one of {', '.join(_CELLS)}, got {cell!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.cell, self.gated, self.bias, self.batch_first = cell, gated, bias, batch_first
        blocks = _CELLS[cell]
        made: dict[str, tuple[int, ...]] = {}
        for k in range(num_layers):
            below = hidden_size if k else input_size
            made[f"weight_ih_l{k}"] = (blocks.count * hidden_size, below)
            if bias:
                made[f"bias_l{k}"] = (blocks.count * hidden_size,)
            if gated:
                made[f"weight_gate_ih_l{k}"] = (num_layers, below)
        made["weight_hh"] = (num_layers, (num_layers + len(blocks.gates)) * hidden_size, hidden_size)
        if gated:
            made["weight_gate_hh"] = (num_layers, num_layers, num_layers * hidden_size)
        for name, shape in made.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, from torch's global generator."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def feedback(self, source: int, target: int) -> Float[Tensor, "hidden hidden"]:
        """The matrix U from layer ``source`` to layer ``target``, both from 0: a view of ``weight_hh``."""
        for what, layer in (("source", source), ("target", target)):
            if not 0 <= layer < self.num_layers:
                raise ValueError(f"GatedFeedback: {what} must be a layer from 0 to {self.num_layers - 1}, got {layer}")
        return self.weight_hh[source, target * self.hidden_size : (target + 1) * self.hidden_size]

    def global_gates(
        self, input: Tensor, hx: Tensor | tuple[Tensor, Tensor] | None = None, *, lengths: Lengths | None = None
    ) -> Float[Tensor, "time batch target source"]:
        """The gates g at every step, by the layer that is fed and the layer that feeds; 1 where they are fixed.

        Args and Raises as on calling; time first or batch first as the input is. Beyond a length they mean nothing.
        """
        x, h, c, valid = self._start(input, hx, lengths)
        trace: list[Tensor] = []
        self._step_by_step(x, h, c, valid, trace)
        gates = torch.stack(trace).view(len(x), self.num_layers, *trace[0].shape).transpose(1, 2)
        return gates.transpose(0, 1) if self.batch_first else gates

    def forward(
        self, input: Tensor, hx: Tensor | tuple[Tensor, Tensor] | None = None, *, lengths: Lengths | None = None
    ) -> tuple[Float[Tensor, "..."], Tensor | tuple[Tensor, Tensor]]:
        x, h, c, valid = self._start(input, hx, lengths)
        output, h, c = self._step_by_step(x, h, c, valid)
        if valid is not None:
            output = output * valid
        if self.batch_first:
            output = output.transpose(0, 1)
        return output, ((h, c) if self.cell == "lstm" else h)

    def _start(
        self, input: Tensor, hx: Tensor | tuple[Tensor, Tensor] | None, lengths: Lengths | None
    ) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, "time batch one"] | None]:
        """Input (time, batch, input_size), first state (layers, batch, hidden_size) and which steps are valid."""
        x, found = checked_sequences(
            "GatedFeedback", "input", input, self.input_size, lengths, batch_first=self.batch_first
        )
        batch, time, _ = x.shape
        shape = (self.num_layers, batch, self.hidden_size)
        parts = _CELLS[self.cell].state_parts
        if hx is None:
            h = c = x.new_zeros(shape, dtype=self.weight_hh.dtype)
        else:
            given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
            shapes = [tuple(part.shape) for part in given]
            if shapes != [shape] * parts or isinstance(hx, Tensor) != (parts == 1):
                wanted = f"a tuple (h, c), each {shape}" if parts == 2 else f"one tensor {shape}"
                raise ValueError(f"GatedFeedback: hx must be {wanted}, got {shapes}")
            h, c = given[0], given[-1]
            if not torch.compiler.is_compiling() and not all(bool(part.detach().isfinite().all()) for part in given):
                raise ValueError("GatedFeedback: hx must be finite, got NaN or infinite values")
        valid = None if found is None else valid_steps(found, time, x.device).t().unsqueeze(2)
        return x.transpose(0, 1), h, c, valid

    def _vertical(self, layer: int) -> tuple[Tensor, Tensor | None]:
        """What a layer does with what comes from below, as one affine map: gates, candidate, logits of global gates."""
        blocks, size = _CELLS[self.cell], self.hidden_size
        weight: Tensor = getattr(self, f"weight_ih_l{layer}")
        order = [*blocks.gates, blocks.candidate]
        rows = torch.split(weight, size)
        parts = [rows[block] for block in order]
        bias: Tensor | None = None
        if self.bias:
            offsets = torch.split(getattr(self, f"bias_l{layer}"), size)
            bias = torch.cat([offsets[block] for block in order])
        if self.gated:
            parts.append(getattr(self, f"weight_gate_ih_l{layer}"))
            if bias is not None:
                bias = F.pad(bias, (0, self.num_layers))
        return torch.cat(parts), bias

    def _recurrent(self) -> Float[Tensor, "source rows hidden"]:
        """What all layers do with the last state of each: feedback to all, own gates, logits of all global gates."""
        if not self.gated:
            return self.weight_hh
        layers = self.num_layers
        logits = self.weight_gate_hh.view(layers * layers, layers, -1).transpose(0, 1)  # (source, to x from, hidden)
        return torch.cat([self.weight_hh, logits], 1)

    def _step_by_step(
        self, x: Tensor, h: Tensor, c: Tensor, valid: Tensor | None, trace: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Top layer's states and the last state, by ordinary operations."""
        layers, size = self.num_layers, self.hidden_size
        weights = [self._vertical(layer) for layer in range(layers)]
        recurrent = self._recurrent().transpose(1, 2)
        first = F.linear(x, *weights[0])  # (time, batch, rows)
        candidate_rows = _CELLS[self.cell].count * size
        outputs = []
        for t in range(len(x)):
            reached = torch.bmm(h, recurrent)  # (source, batch, rows)
            feedback, own, logits = torch.split(
                reached, [layers * size, candidate_rows - size, layers * layers if self.gated else 0], 2
            )
            logits = logits.sum(0)
            hidden: list[Tensor] = []
            cells: list[Tensor] = []
            for j in range(layers):
                vertical = first[t] if j == 0 else F.linear(hidden[-1], *weights[j])
                fed = feedback[:, :, j * size : (j + 1) * size]
                if self.gated:
                    gates = torch.sigmoid(vertical[:, candidate_rows:] + logits[:, j * layers : (j + 1) * layers])
                    fed = fed * gates.t().unsqueeze(2)
                    vertical = vertical[:, :candidate_rows]
                else:
                    gates = vertical.new_ones(len(vertical), layers)
                if trace is not None:
                    trace.append(gates)
                new_h, new_c = _cell(self.cell, vertical, own[j], fed.sum(0), h[j], c[j])
                hidden.append(new_h.to(h.dtype))
                cells.append(new_c.to(c.dtype))
            new_states = torch.stack(hidden), torch.stack(cells)
            if valid is None:
                h, c = new_states
            else:
                h, c = (torch.where(valid[t], new, old) for new, old in zip(new_states, (h, c), strict=True))
            outputs.append(h[-1])
        return torch.stack(outputs), h, c

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, cell={self.cell!r}"
        if not self.gated:
            text += ", gated=False"
        return text + (", batch_first=True" if self.batch_first else "")
