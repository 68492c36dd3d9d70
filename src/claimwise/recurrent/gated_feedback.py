r"""Gated-feedback recurrent networks: a stack in which every layer's last state feeds every layer, through gates.

J. Chung, C. Gulcehre, K. Cho, Y. Bengio, *Gated Feedback Recurrent Neural Networks*, ICML 2015, section 3 (the global
reset gate) and 3.1 (with tanh, LSTM and GRU units), https://arxiv.org/abs/1502.02367.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from claimwise.recurrent.gated_feedback_sweep import CELLS, Form, Sweep, step_by_step
from claimwise.recurrent.recurrence import by_ordinary_operations
from claimwise.recurrent.sequence_lengths import Lengths, check_finite, checked_sequences

Cell = Literal["tanh", "gru", "lstm"]


# Blocks of rows in torch's order, of the cell's gates and then of its candidate.
_ORDER = {"tanh": (0,), "gru": (0, 1, 2), "lstm": (0, 1, 3, 2)}


class _Start(NamedTuple):
    """What a call works on, sequences sorted by length."""

    sizes: list[int]
    """How many sequences reach each step."""
    order: Tensor | None
    x: Tensor
    h: Tensor
    c: Tensor
    recurrent: Tensor
    vertical: tuple[Tensor, ...]
    bias: tuple[Tensor | None, ...]


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
        if cell not in CELLS:
            raise ValueError(f"GatedFeedback: cell must be one of {', '.join(CELLS)}, got {cell!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.cell, self.gated, self.bias, self.batch_first = cell, gated, bias, batch_first
        blocks = len(_ORDER[cell])
        made: dict[str, tuple[int, ...]] = {}
        for k in range(num_layers):
            below = hidden_size if k else input_size
            made[f"weight_ih_l{k}"] = (blocks * hidden_size, below)
            if bias:
                made[f"bias_l{k}"] = (blocks * hidden_size,)
            if gated:
                made[f"weight_gate_ih_l{k}"] = (num_layers, below)
        made["weight_hh"] = (num_layers, (num_layers + blocks - 1) * hidden_size, hidden_size)
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
        trace: list[Tensor] = []
        sizes, order, x, h, c, recurrent, vertical, bias = self._start(input, hx, lengths)
        step_by_step(self._form, sizes, x, h, c, recurrent, vertical, bias, trace)
        gates = torch.stack(trace).view(len(sizes), self.num_layers, *trace[0].shape).transpose(1, 2)
        gates = _given_order(gates, order, 1)
        gates = F.pad(gates, (0, 0, 0, 0, 0, 0, 0, input.shape[int(self.batch_first)] - len(gates)))
        return gates.transpose(0, 1) if self.batch_first else gates

    def forward(
        self, input: Tensor, hx: Tensor | tuple[Tensor, Tensor] | None = None, *, lengths: Lengths | None = None
    ) -> tuple[Float[Tensor, "..."], Tensor | tuple[Tensor, Tensor]]:
        sizes, order, x, h, c, recurrent, vertical, bias = self._start(input, hx, lengths)
        inputs = (x, h, c, recurrent, *vertical, *bias)
        if by_ordinary_operations(x):
            output, h, c = step_by_step(self._form, sizes, x, h, c, recurrent, vertical, bias)
        else:
            keep = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in inputs)
            output, h, c = Sweep.apply(self._form, sizes, keep, *inputs)  # type: ignore[no-untyped-call]
        if sizes[-1] < sizes[0]:
            reached = torch.tensor(sizes, device=x.device).unsqueeze(1) > torch.arange(sizes[0], device=x.device)
            output = output * reached.unsqueeze(2)
        output = F.pad(output, (0, 0, 0, 0, 0, input.shape[int(self.batch_first)] - len(output)))
        output, h, c = (_given_order(part, order, 1) for part in (output, h, c))
        if self.batch_first:
            output = output.transpose(0, 1)
        return output, ((h, c) if self.cell == "lstm" else h)

    @property
    def _form(self) -> Form:
        return Form(self.cell, self.num_layers, self.hidden_size, self.gated)

    def _start(self, input: Tensor, hx: Tensor | tuple[Tensor, Tensor] | None, lengths: Lengths | None) -> _Start:
        x, found = checked_sequences(
            "GatedFeedback", "input", input, self.input_size, lengths, batch_first=self.batch_first
        )
        dtype = self.weight_hh.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"GatedFeedback: input is {x.dtype}, the parameters are {dtype}; use x.to({dtype})")
        batch, time, _ = x.shape
        shape = (self.num_layers, batch, self.hidden_size)
        parts = 2 if self.cell == "lstm" else 1
        if hx is None:
            h = x.new_zeros(shape, dtype=dtype)
            c = h if parts == 2 else h[..., :0]
        else:
            given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
            shapes = [tuple(part.shape) for part in given]
            if shapes != [shape] * parts or isinstance(hx, Tensor) != (parts == 1):
                wanted = f"a tuple (h, c), each {shape}" if parts == 2 else f"one tensor {shape}"
                raise ValueError(f"GatedFeedback: hx must be {wanted}, got {shapes}")
            for part in given:
                if part.dtype != dtype or part.device != self.weight_hh.device:
                    raise TypeError(
                        f"GatedFeedback: hx is {part.dtype} on {part.device}, the parameters are {dtype} on "
                        f"{self.weight_hh.device}; use .to()"
                    )
            check_finite("GatedFeedback", "hx", *given)
            h, c = given if parts == 2 else (given[0], given[0][..., :0])
        x = x.transpose(0, 1)
        order, sizes = None, [batch] * time
        if found is not None:
            found, order = found.sort(descending=True, stable=True)
            sizes = (found > torch.arange(int(found[0]) if batch else time).unsqueeze(1)).sum(1).tolist()
            order = order.to(x.device)
            x, h, c = (part.index_select(1, order) for part in (x[: len(sizes)], h, c))
        maps = [self._vertical(layer) for layer in range(self.num_layers)]
        vertical, bias = tuple(weight for weight, _ in maps), tuple(bias for _, bias in maps)
        return _Start(sizes, order, x, h, c, self._recurrent(), vertical, bias)

    def _vertical(self, layer: int) -> tuple[Tensor, Tensor | None]:
        """What a layer does with what comes from below, as one affine map: gates, candidate, logits of global gates."""
        size, order = self.hidden_size, _ORDER[self.cell]
        rows = torch.split(getattr(self, f"weight_ih_l{layer}"), size)
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

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, cell={self.cell!r}"
        if not self.gated:
            text += ", gated=False"
        return text + (", batch_first=True" if self.batch_first else "")


def _given_order(part: Tensor, order: Tensor | None, axis: int) -> Tensor:
    """Sequences where the caller has them; they were sorted by length."""
    return part if order is None else part.index_select(axis, order.argsort())
