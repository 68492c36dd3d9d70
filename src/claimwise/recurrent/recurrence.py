"""What every recurrent layer shares: layers, directions, packed rows, initial states, dropout, bad input.

A cell says what one step computes; this file runs cells over sequences. S. Hochreiter, J. Schmidhuber, *Long
Short-Term Memory*, Neural Computation 9 (1997); M. Schuster, K. K. Paliwal, *Bidirectional Recurrent Neural Networks*,
IEEE Transactions on Signal Processing 45 (1997). How it is computed is ours.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.sequence_lengths import Lengths, check_finite, checked_lengths

Weights = tuple[Any, ...]  # a tensor each, or None where the cell has no such parameter
States = tuple[Tensor, ...]
Trace = list[dict[str, Tensor]]


@runtime_checkable  # while testing, annotations are checked
class Cell(Protocol):
    """One recurrent layer in one direction, over packed rows. States are (batch, hidden), the first is the output."""

    states: int
    """How many states: 2 for the LSTM, else 1."""

    def shapes(self, inputs: int, hidden: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in torch's order."""

    def unrolled(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights, trace: Trace | None = None
    ) -> tuple[Tensor, ...]:
        """Output rows, and the last of the states after the first, by ordinary operations; ``trace`` gets each step."""

    def sweep(
        self, x: Tensor, rows: PackedRows, states: States, weights: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The same without a graph; and what the way back needs."""

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
        """Gradients of x, the states and the weights."""


class _Sweep(torch.autograd.Function):
    """A layer over all steps as one node of the graph: backpropagation through time written by hand."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, rows: PackedRows, x: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        states, weights = tensors[: cell.states], tensors[cell.states :]
        made, kept = cell.sweep(x, rows, states, weights)  # type: ignore[arg-type]
        ctx.cell, ctx.rows = cell, rows
        ctx.save_for_backward(x, *tensors, *kept)
        ctx.given = 1 + len(tensors)
        ctx.set_materialize_grads(False)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cell, saved, needs = ctx.cell, ctx.saved_tensors, ctx.needs_input_grad[2:]
        given, kept = saved[: ctx.given], saved[ctx.given :]
        if not any(grad is not None for grad in grads):
            return (None,) * (2 + ctx.given)

        def unrolled(*given: Tensor | None) -> tuple[Tensor, ...]:
            x, states, weights = given[0], given[1 : 1 + cell.states], given[1 + cell.states :]
            made: tuple[Tensor, ...] = cell.unrolled(x, ctx.rows, states, weights)
            return made

        with torch.autocast(given[0].device.type, enabled=False):  # whatever it is called within
            if needs_a_graph(grads):
                return None, None, *gradients_with_a_graph(unrolled, given, needs, grads)
            x, states, weights = given[0], given[1 : 1 + cell.states], given[1 + cell.states :]
            return None, None, *cell.sweep_back(x, ctx.rows, states, weights, kept, grads, needs)


def needs_a_graph(grads: Sequence[Tensor | None]) -> bool:
    """Whether a gradient is wanted of the gradient, or many gradients at once (``is_grads_batched``)."""
    functorch = torch._C._functorch
    return torch.is_grad_enabled() or any(
        grad is not None and (functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad))
        for grad in grads
    )


def gradients_with_a_graph(
    function: Callable[..., tuple[Tensor, ...]],
    given: Sequence[Tensor | None],
    needs: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> Iterator[Tensor | None]:
    """Gradients of what is needed among ``given``, by autograd through ordinary operations.

    Aliases stand for ``given``: what one of them was made from may be another, and one tensor may stand there twice.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = [None if tensor is None else tensor.view_as(tensor) for tensor in given]
        wanted = [alias for alias, need in zip(aliases, needs, strict=True) if need and alias is not None]
        pairs = [
            (out, grad)
            for out, grad in zip(function(*aliases), grads, strict=True)
            if grad is not None and out.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [out for out, _ in pairs],
                wanted,
                [grad for _, grad in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return (next(found) if need else None for need in needs)


def by_ordinary_operations(x: Tensor) -> bool:
    """Whether compilers, tracing, autocast, torch.func or forward-mode derivatives must see ordinary operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch.is_autocast_enabled(x.device.type)
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def has_fused_kernels(x: Tensor) -> bool:
    """Whether torch's recurrent functions are one kernel on x's device: cuDNN's. See the benchmark for the CPU's."""
    return x.is_cuda and not torch._C._are_functorch_transforms_active()


class Recurrence(nn.Module):
    """Layers and directions of a cell; LSTM, GRU and RNN are it."""

    cell: Cell
    weight_ih_l0: Tensor

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for what, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name}: {what} must be an integer, got {size!r}")
            if size < 1:
                raise ValueError(f"{name}: {what} must be at least 1, got {size}")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be a probability in [0, 1], got {dropout}")
        self.cell = cell
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self._names: list[list[str | None]] = []  # of each layer and direction, as the cell's sweep takes them
        self._shapes: list[list[tuple[int, ...]]] = []
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * self.directions
            for suffix in ("", "_reverse")[: self.directions]:
                names: list[str | None] = []
                shapes = cell.shapes(inputs, hidden_size, bias)
                self._shapes.append(list(shapes.values()))
                for prefix, shape in shapes.items():
                    parameter = f"{prefix}_l{layer}{suffix}" if shape else None
                    names.append(parameter)
                    if parameter is not None:
                        self.register_parameter(parameter, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
                self._names.append(names)
        self.reset_parameters()

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """All parameters uniform within 1 / sqrt(hidden_size), in torch's order, from torch's global generator."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _weights(self, index: int) -> Weights:
        return tuple(None if name is None else getattr(self, name) for name in self._names[index])

    # Doors

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: input must be a torch.Tensor or a PackedSequence, got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(
                f"{name}: input must be floating point, got {x.dtype}; embed class numbers, or use x.float()"
            )
        if x.shape[-1:] != (self.input_size,):
            raise ValueError(
                f"{name}: input must have {self.input_size} features in its last dimension (input_size), "
                f"got shape {tuple(x.shape)}"
            )
        parameter = self.weight_ih_l0
        if x.dtype != parameter.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f"{name}: input is {x.dtype}, the parameters are {parameter.dtype}; use x.to({parameter.dtype}) "
                "or the module's .to()"
            )

    def _check_weights(self, index: int, weights: Weights, like: Tensor) -> None:
        """Weights may have been replaced; what is compiled reads their memory."""
        for parameter, weight, shape in zip(self._names[index], weights, self._shapes[index], strict=True):
            if weight is not None and (
                weight.shape != shape or weight.dtype != like.dtype or weight.device != like.device
            ):
                raise ValueError(
                    f"{type(self).__name__}: {parameter} must have shape {shape} and be {like.dtype} on {like.device} "
                    f"as the input is, got {tuple(weight.shape)}, {weight.dtype} on {weight.device}"
                )

    def _check_states(self, hx: tuple[Tensor, ...], batch: int, batched: bool, like: Tensor) -> States:
        """Initial states as (layers * directions, batch, hidden)."""
        name = type(self).__name__
        stacked = self.num_layers * self.directions
        shape = (stacked, batch, self.hidden_size) if batched else (stacked, self.hidden_size)
        names = ("h_0", "c_0")[: self.cell.states]
        if not isinstance(hx, tuple | list) or len(hx) != len(names):
            got = f"{len(hx)} of them" if isinstance(hx, tuple | list) else type(hx).__name__
            raise ValueError(f"{name}: hx must be ({', '.join(names)}), got {got}")
        for what, state in zip(names, hx, strict=True):
            if not isinstance(state, Tensor):
                raise TypeError(f"{name}: {what} must be a torch.Tensor, got {type(state).__name__}")
            if state.shape != shape:
                meaning = "(num_layers * directions, batch, hidden_size)" if batched else "unbatched"
                raise ValueError(
                    f"{name}: {what} must have shape {shape} {meaning}, got {tuple(state.shape)}"
                    + ("; the batch is the second dimension, also with batch_first" if batched else "")
                )
            if state.dtype != like.dtype:
                raise TypeError(f"{name}: {what} is {state.dtype}, the input {like.dtype}; use {what}.to({like.dtype})")
            if state.device != like.device:
                raise ValueError(
                    f"{name}: {what} is on {state.device}, the parameters on {like.device}; "
                    f"use {what}.to('{like.device}')"
                )
            check_finite(name, what, state)
        return hx if batched else tuple(state.unsqueeze(1) for state in hx)

    # Running

    def _recur(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, ...] | None,
        lengths: Lengths | None,
        traces: list[tuple[Trace, PackedRows]] | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, ...]]:
        """Outputs and last states; ``traces`` gets what each layer and direction did, step by step."""
        name = type(self).__name__
        order: Tensor | None = None  # which sequence is the k-th longest
        back: Tensor | None = None  # the inverse
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError(f"{name}: a PackedSequence has its own lengths, got lengths= too; leave them out")
            x, order, back = input.data, input.sorted_indices, input.unsorted_indices
            self._check_input(x)
            rows, batched, steps = PackedRows(input.batch_sizes.tolist(), x.device), True, len(input.batch_sizes)
        else:
            x = input
            self._check_input(x)
            if x.ndim not in (2, 3):
                layout = "(batch, time, features)" if self.batch_first else "(time, batch, features)"
                raise ValueError(
                    f"{name}: input must be {layout}, or (time, features) unbatched, got shape {tuple(x.shape)}"
                )
            batched = x.ndim == 3
            x = (x.transpose(0, 1) if self.batch_first else x) if batched else x.unsqueeze(1)
            steps, batch = x.shape[:2]
            if steps == 0 or batch == 0:
                raise ValueError(f"{name}: input must have a step and a sequence, got shape {tuple(input.shape)}")
            x = x.reshape(steps * batch, self.input_size)
            rows = PackedRows([batch] * steps, x.device)
            if lengths is not None:
                found = checked_lengths(name, lengths, batch, steps)
                if min(found) < steps:
                    ranks = sorted(range(batch), key=lambda k: -found[k])
                    reached = torch.tensor(found) > torch.arange(max(found)).unsqueeze(1)  # (steps, batch)
                    rows = PackedRows(reached.sum(1).tolist(), x.device)
                    order = torch.tensor(ranks, device=x.device)
                    back = order.argsort()
                    x = x.index_select(0, rows.padded_places(order))
        check_finite(name, "input", x)

        like = self.weight_ih_l0
        stacked = self.num_layers * self.directions
        if hx is None:
            zeros = torch.zeros(stacked, rows.batch, self.hidden_size, dtype=like.dtype, device=x.device)
            hx = (zeros,) * self.cell.states
        else:
            hx = self._check_states(hx, rows.batch, batched, like)
            if order is not None:
                hx = tuple(state.index_select(1, order) for state in hx)

        if traces is None and self._platform_kernel() is not None and has_fused_kernels(x):
            x, finals = self._by_platform(x, rows, hx)
        else:
            x, finals = self._by_cells(x, rows, hx, traces)
        if back is not None:
            finals = tuple(state.index_select(1, back) for state in finals)
        if isinstance(input, PackedSequence):
            return PackedSequence(x, input.batch_sizes, order, back), finals
        output = rows.pad(x, order, steps)
        if not batched:
            return output.squeeze(1), tuple(state.squeeze(1) for state in finals)
        return output.transpose(0, 1) if self.batch_first else output, finals

    def _platform_kernel(self) -> Callable[..., Any] | None:
        """torch's function that computes exactly this, if there is one."""
        return None

    def _by_platform(self, x: Tensor, rows: PackedRows, hx: States) -> tuple[Tensor, States]:
        kernel = self._platform_kernel()
        assert kernel is not None
        flat = [getattr(self, name) for names in self._names for name in names if name is not None]
        states = list(hx) if self.cell.states > 1 else hx[0]
        how = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        if rows.equal:
            padded = x.reshape(len(rows.sizes), rows.batch, x.shape[1])
            y, *finals = kernel(padded, states, flat, *how, False)  # False: not batch first
            return y.reshape(rows.total, -1), tuple(finals)
        y, *finals = kernel(x, torch.tensor(rows.sizes), states, flat, *how)
        return y, tuple(finals)

    def _by_cells(
        self, x: Tensor, rows: PackedRows, hx: States, traces: list[tuple[Trace, PackedRows]] | None
    ) -> tuple[Tensor, States]:
        plain = traces is not None or by_ordinary_operations(x)
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                given = rows.reverse(x) if direction else x
                states, weights = tuple(state[index] for state in hx), self._weights(index)
                if plain:
                    trace: Trace | None = None if traces is None else []
                    y, *others = self.cell.unrolled(given, rows, states, weights, trace)
                    if traces is not None and trace is not None:
                        traces.append((trace, rows))
                else:
                    self._check_weights(index, weights, given)
                    y, *others = _Sweep.apply(self.cell, rows, given, *states, *weights)  # type: ignore[no-untyped-call]
                last.append((rows.last(y), *others))
                outputs.append(rows.reverse(y) if direction else y)
            x = outputs[0] if self.directions == 1 else torch.cat(outputs, 1)
            if self.dropout and self.training and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout)

        return x, tuple(torch.stack(states) for states in zip(*last, strict=True))

    def flatten_parameters(self) -> None:
        """Nothing: parameters stay where they are. Here for code written for torch's modules."""

    def extra_repr(self) -> str:
        said = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            if (value := getattr(self, name)) != default:
                said += f", {name}={value}"
        return said
