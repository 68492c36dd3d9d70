r"""Run a model again after a local change of its input, and compute only what the change can reach.

A change inside a rectangle of the image moves, after a convolution of kernel :math:`k`, stride :math:`s`, padding
:math:`p` and dilation :math:`d`, only the outputs

.. math:: \lceil \frac{a + p - d (k - 1)}{s} \rceil \;\dots\; \lfloor \frac{b + p}{s} \rfloor

with :math:`a` and :math:`b` its first and last row (column). Everything outside keeps its value.
So a model is recorded once on the unchanged image (every operator of ATen that depends on it, whoever calls it:
modules, functions, reused modules); then, for many rectangles of one size at once, each operator runs on the windows
that the rectangles reach, cut out of the unchanged maps and pasted over with what has changed. Where the windows cover
most of a map, the maps are completed and the rest runs on whole maps. No step approximates.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

WHOLE_FROM = 0.75
"""Share of a map from which windows no longer pay: cutting out and pasting cost what the rest would."""

# fmt: off
_POINTWISE = (
    "relu", "leaky_relu", "elu", "gelu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh",
    "softplus", "threshold", "_prelu_kernel", "add", "sub", "rsub", "mul", "div", "pow", "sqrt", "rsqrt",
    "reciprocal", "exp", "log", "log1p", "expm1", "neg", "abs", "sign", "square", "sin", "cos", "erf", "clamp",
    "clamp_min", "clamp_max", "maximum", "minimum", "where", "gt", "ge", "lt", "le", "clone", "alias", "detach",
    "_to_copy", "log_sigmoid_forward",
)
_BATCH_NORMS = (
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_batch_norm_with_update",
    "miopen_batch_norm", "_native_batch_norm_legit", "batch_norm",
)
_SHAPES = ("view", "_unsafe_view", "reshape", "_reshape_copy")
# position of the dimensions among the arguments
_DIMENSIONS = {"unsqueeze": 1, "squeeze": 1, "slice": 1, "select": 1, "unbind": 1, "split": 2, "split_with_sizes": 2}
_REDUCTIONS = ("mean", "sum", "amax", "amin", "_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum")
_MATRIX = ("mm", "addmm", "linear")
_IMAGES = (
    "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "avg_pool3d",
    "max_pool2d_with_indices", "max_pool2d", "convolution", "constant_pad_nd", "reflection_pad2d",
    "replication_pad2d", "upsample_nearest2d", "upsample_bilinear2d", "native_layer_norm", "native_group_norm",
    "permute", "transpose", "expand", "cat", "stack",
)
# fmt: on


class UntraceableError(Exception):
    """The model does something that a recording cannot repeat for a batch of changed images; says what."""


@dataclass(frozen=True)
class _Value:
    """A tensor that depends on the image, by its number on the tape."""

    index: int


@dataclass(frozen=True, eq=False)
class _Call:
    operator: Any
    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    element: int | None
    """Which of several results this is."""
    output: int


@dataclass(eq=False)
class Tape:
    """A model's run on one unchanged image: the calls that depend on it, and their results."""

    clean: list[Tensor] = field(default_factory=list)
    """By number; 0 is the image (1, channels, height, width)."""
    calls: list[_Call] = field(default_factory=list)
    output: int = -1
    layer: int = -1
    """Number of the result of the layer asked for."""

    def widest(self) -> int:
        """Numbers in the largest map."""
        return max(value.numel() for value in self.clean)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, tape: Tape, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape
        self.trouble: str | None = None
        self.numbers = {id(image): 0}
        self.alive: list[Any] = [image]  # a number stands for an id, so no tensor may be freed meanwhile
        self.poison: set[int] = set()
        tape.clean.append(image)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if not any(id(leaf) in self.numbers or id(leaf) in self.poison for leaf in leaves):
            results = func(*args, **kwargs)
            self.alive.append(results)
            return results
        name = func._schema.name.split("::")[1]
        if self.trouble is not None:
            return func(*args, **kwargs)
        if any(id(leaf) in self.poison for leaf in leaves):
            self.trouble = f"{name} reads a second result, such as the indices of a pooling"
            return func(*args, **kwargs)
        operator = func
        if func._schema.is_mutable and name.endswith("_") and id(args[0]) in self.numbers:
            # On the tape a call in place is the call out of place, and its argument keeps its value.
            operator = getattr(getattr(torch.ops.aten, name[:-1], None), func._overloadname, None)
            name = name[:-1]
            number = self.numbers[id(args[0])]
            if self._is_shared(args[0], number):
                self.trouble = f"{name}_ writes into a tensor that another one is a view of"
                return func(*args, **kwargs)
            self.tape.clean[number] = args[0].clone()
            self.alive.append(self.tape.clean[number])
        elif func._schema.is_mutable and name not in _BATCH_NORMS:
            operator = None
        arguments, keywords = tree_map(self._placeholder, args), tree_map(self._placeholder, kwargs)
        results = func(*args, **kwargs)
        self.alive.append(results)
        if operator is None:
            self.trouble = f"{name} writes into a tensor"
            return results
        several = isinstance(results, tuple | list)
        only_first = several and name not in ("split", "split_with_sizes", "unbind")
        for element, result in enumerate(results if several else [results]):
            if not isinstance(result, Tensor):
                if result is not None:
                    self.trouble = f"{name} turns maps into a Python value"
                continue
            if only_first and element > 0:
                self.poison.add(id(result))
                continue
            call = _Call(operator, name, arguments, keywords, element if several else None, len(self.tape.clean))
            self.tape.clean.append(result)
            trouble = _objection(call, self.tape)
            if trouble is not None:
                self.trouble = trouble
                return results
            self.tape.calls.append(call)
            self.numbers[id(result)] = call.output
        return results

    def _is_shared(self, written: Tensor, number: int) -> bool:
        memory = written.untyped_storage().data_ptr()
        others = (value for i, value in enumerate(self.tape.clean) if i != number)
        return any(value.untyped_storage().data_ptr() == memory for value in others)

    def _placeholder(self, leaf: Any) -> Any:
        number = self.numbers.get(id(leaf)) if isinstance(leaf, Tensor) else None
        return leaf if number is None else _Value(number)


class _Readings(TorchFunctionMode):
    """Sees numbers leave for Python without an operator."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr) and self.recorder.trouble is None:
            self.recorder.trouble = f"{func.__name__} reads numbers out of tensors"
        return func(*args, **(kwargs or {}))


def record_tape(model: Callable[[Tensor], Any], image: Tensor, layer: nn.Module | None, call: int) -> Tape:
    """The tape of ``model`` on one image (1, channels, height, width), with the ``call``-th result of ``layer``.

    Raises:
        UntraceableError: The model cannot be repeated from a tape.
    """
    tape = Tape()
    recorder = _Recorder(tape, image)
    seen: list[int | None] = []
    handle = None
    if layer is not None:
        # The number is looked up at once: a rectifier in place gives the same tensor another one.
        handle = layer.register_forward_hook(lambda _m, _i, out: seen.append(recorder.numbers.get(id(out))))
    try:
        with torch.no_grad(), _Readings(recorder), recorder:
            output = model(image)
    finally:
        if handle is not None:
            handle.remove()
    if recorder.trouble is not None:
        raise UntraceableError(recorder.trouble)
    number = recorder.numbers.get(id(output))
    if number is None:
        raise UntraceableError("the output is no tensor that the recording has seen")
    tape.output = number
    if layer is not None:
        noted = seen[call]
        if noted is None:
            raise UntraceableError("the layer's output is no tensor that the recording has seen")
        tape.layer = noted
    return tape


def _values(call: _Call) -> list[int]:
    leaves = tree_flatten((call.arguments, call.keywords))[0]
    return [leaf.index for leaf in leaves if isinstance(leaf, _Value)]


def _objection(call: _Call, tape: Tape) -> str | None:
    """Why this call cannot be repeated for a batch, one changed image after the other in the first dimension."""
    name, clean = call.name, tape.clean
    result, dependent = clean[call.output], _values(call)
    if result.ndim == 0 or result.shape[0] != 1:
        return f"{name} does not keep the batch in front"
    first = call.arguments[0] if call.arguments else None
    dims = clean[dependent[0]].ndim
    if name in _POINTWISE:
        # Where dimensions are aligned from the right, the batch must not meet another one.
        tensors = [clean[leaf.index] if isinstance(leaf, _Value) else leaf for leaf in tree_flatten(call.arguments)[0]]
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.ndim == result.ndim and tensor.shape[0] != 1:
                return f"{name} gives the batch another size"
        if any(clean[number].ndim != result.ndim for number in dependent):
            return f"{name} aligns maps of different dimensions"
        return None
    if name in _BATCH_NORMS:
        training = [argument for argument in call.arguments if isinstance(argument, bool)]
        if name in ("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "batch_norm") and any(
            training[:1]
        ):
            return f"{name} reads statistics of the batch"
        return None if dependent == [first.index] else f"{name} has statistics that depend on the image"  # type: ignore[union-attr]
    if name in _SHAPES or name == "expand":
        return None if call.arguments[1][0] in (1, -1) else f"{name} folds the batch into another dimension"
    if name in _MATRIX:
        rows = call.arguments[1] if name == "addmm" else first
        if len(dependent) == 1 and isinstance(rows, _Value):
            return None
        return f"{name} multiplies two things that depend on the image"
    if name in ("permute", "transpose"):
        given = call.arguments[1] if name == "permute" else call.arguments[1:3]
        kept = given[0] == 0 if name == "permute" else 0 not in [d % dims for d in given]
        return None if kept else f"{name} moves the batch"
    if name in ("cat", "stack"):
        along = (call.arguments[1] if len(call.arguments) > 1 else 0) % result.ndim
        return f"{name} joins along the batch" if along == 0 else None
    if name in _DIMENSIONS or name in _REDUCTIONS:
        place = _DIMENSIONS.get(name, 1)
        along = call.arguments[place] if len(call.arguments) > place else (0 if name in _DIMENSIONS else None)
        listed = list(along) if isinstance(along, list | tuple) else [along]
        size = result.ndim if name == "unsqueeze" else dims
        if not listed or any(d is None or d % size == 0 for d in listed):
            return f"{name} works along the batch"
        return None
    if name == "native_layer_norm":
        return None if len(call.arguments[1]) < dims else f"{name} reads the whole batch"
    if name in _IMAGES:
        if dims < 3 or not isinstance(first, _Value) or dependent != [first.index]:
            return f"{name} has parameters that depend on the image"
        return None
    return f"{name} is not among the operators that can be repeated"


# --- windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Span:
    """What the rectangles reach along one dimension of a map, rectangle by rectangle."""

    first: NDArray[np.int64]
    end: NDArray[np.int64]
    """One past the last; ``first`` where nothing is reached."""
    size: int
    """Length of the whole map."""

    @property
    def length(self) -> int:
        """Of the windows, which are all as long as the longest, so that they make one batch."""
        return max(1, int((self.end - self.first).max()))

    @property
    def starts(self) -> NDArray[np.int64]:
        return np.minimum(self.first, self.size - self.length)

    def through(self, kernel: int, stride: int, padding: int, dilation: int, size: int) -> "_Span":
        first = -((dilation * (kernel - 1) - self.first - padding) // stride)
        end = (self.end - 1 + padding) // stride + 1
        first, end = first.clip(0, size - 1), end.clip(0, size)
        return _Span(first, np.maximum(first, np.where(self.end > self.first, end, first)), size)

    def union(self, other: "_Span") -> "_Span":
        empty, other_empty = self.end == self.first, other.end == other.first
        first = np.where(empty, other.first, np.where(other_empty, self.first, np.minimum(self.first, other.first)))
        end = np.where(empty, other.end, np.where(other_empty, self.end, np.maximum(self.end, other.end)))
        return _Span(first, end, self.size)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Maps of which only a window each is not that of the unchanged image."""

    values: Tensor
    """(rows * columns, ..., height, width)"""
    rows: _Span
    columns: _Span

    @property
    def share(self) -> float:
        """Of the map that a window covers."""
        return self.rows.length * self.columns.length / (self.rows.size * self.columns.size)


def _region(
    windows: _Windows,
    clean: Tensor,
    top: NDArray[np.int64],
    height: int,
    left: NDArray[np.int64],
    width: int,
    outside: float = 0.0,
) -> Tensor:
    """Rectangles of the changed maps, (rows * columns, ..., height, width); ``outside`` the map in the padding."""
    above, before = max(0, -int(top.min())), max(0, -int(left.min()))
    below = max(0, int(top.max()) + height - windows.rows.size)
    after = max(0, int(left.max()) + width - windows.columns.size)
    maps = clean[0]
    if above or below or before or after:
        maps = nn.functional.pad(maps, (before, after, above, below), value=outside)
    channels = maps.shape[:-2]
    region = maps.new_empty(len(top), len(left), *channels, height, width)
    bands = [maps[..., start : start + height, :] for start in (top + above).tolist()]
    band = torch.stack(bands)  # (rows, ..., height, width of the map)
    for column, start in enumerate((left + before).tolist()):
        region[:, column] = band[..., start : start + width]
    values = windows.values.reshape(len(top), len(left), *channels, windows.rows.length, windows.columns.length)
    for i, to_row, from_row, high in _overlaps(windows.rows, top, height):
        for j, to_column, from_column, wide in _overlaps(windows.columns, left, width):
            region[i, j][..., to_row : to_row + high, to_column : to_column + wide] = values[i, j][
                ..., from_row : from_row + high, from_column : from_column + wide
            ]
    return region.flatten(0, 1)


def _overlaps(span: _Span, starts: NDArray[np.int64], length: int) -> Iterator[tuple[slice, int, int, int]]:
    """Rectangles that lie alike to their windows: which, offset in the rectangle, offset in the window, length.

    Neighbours that lie alike come as one slice (of step 1, or of a step with which the stride repeats itself).
    """
    alike: dict[tuple[int, int, int], list[int]] = {}
    for i, (start, window) in enumerate(zip(starts.tolist(), span.starts.tolist(), strict=True)):
        low, high = max(start, window), min(start + length, window + span.length)
        if high > low:
            alike.setdefault((low - start, low - window, high - low), []).append(i)
    for (inside, within, overlap), members in alike.items():
        for run in _progressions(members):
            yield run, inside, within, overlap


def _progressions(members: Sequence[int]) -> Iterator[slice]:
    i = 0
    while i < len(members):
        step = members[i + 1] - members[i] if i + 1 < len(members) else 1
        j = i
        while j + 1 < len(members) and members[j + 1] - members[j] == step:
            j += 1
        yield slice(members[i], members[j] + 1, step)
        i = j + 1


def _whole(windows: _Windows, clean: Tensor) -> Tensor:
    rows, columns = windows.rows, windows.columns
    zeros = np.zeros_like
    return _region(windows, clean, zeros(rows.first), rows.size, zeros(columns.first), columns.size)


State = Tensor | _Windows


def whole_map(tape: Tape, number: int, state: State, channel: int | None = None) -> Tensor:
    """A result for all rectangles as whole maps; of one channel alone if it is given (which is kept as a dimension)."""
    clean = tape.clean[number]
    if isinstance(state, Tensor):
        return state if channel is None else state[:, channel : channel + 1]
    if channel is None:
        return _whole(state, clean)
    chosen = slice(channel, channel + 1)
    return _whole(_Windows(state.values[:, chosen], state.rows, state.columns), clean[:, chosen])


def replay(
    tape: Tape,
    patches: Tensor,
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    wanted: Sequence[int],
) -> dict[int, State]:
    """Results number ``wanted`` after rectangles of the image are replaced.

    Args:
        tape: The recording.
        patches: What stands in the rectangles, (rows * columns, channels, height, width), row by row.
        top: First row of the rectangles, (rows,).
        left: First column of the rectangles, (columns,).
        wanted: Numbers of results.
    """
    image = tape.clean[0]
    height, width = patches.shape[-2:]
    rows, columns = _Span(top, top + height, image.shape[-2]), _Span(left, left + width, image.shape[-1])
    states: dict[int, State] = {0: _Windows(patches, rows, columns)}
    needed = _needed(tape, wanted)
    last = {number: call.output for call in needed for number in _values(call)}
    for call in needed:
        states[call.output] = _repeat(tape, call, states, len(top) * len(left))
        for number in set(_values(call)):
            if last[number] == call.output and number not in wanted:
                del states[number]
    return {number: states[number] for number in wanted}


def _needed(tape: Tape, wanted: Sequence[int]) -> list[_Call]:
    reached, chosen = set(wanted), []
    for call in reversed(tape.calls):
        if call.output in reached:
            chosen.append(call)
            reached.update(_values(call))
    return chosen[::-1]


def _repeat(tape: Tape, call: _Call, states: dict[int, State], batch: int) -> State:
    numbers = list(dict.fromkeys(_values(call)))
    if all(isinstance(states[number], _Windows) for number in numbers):
        windowed = _repeat_windowed(tape, call, states, batch)
        if windowed is not None:
            return windowed
    for number in numbers:
        # kept whole from here on, also for whoever reads it next
        states[number] = whole_map(tape, number, states[number])
    return _run(call, lambda number: states[number], batch)


def _run(call: _Call, read: Callable[[int], Any], batch: int) -> Tensor:
    """The call on whole maps or on windows: everything but the first dimension (and a view's last two) as recorded."""
    fill = lambda leaf: read(leaf.index) if isinstance(leaf, _Value) else leaf  # noqa: E731
    arguments = list(tree_map(fill, call.arguments))
    if call.name in _SHAPES or call.name == "expand":
        arguments[1] = [batch, *arguments[1][1:]]
        if call.name in _SHAPES:
            return arguments[0].reshape(arguments[1])
    elif call.name in ("cat", "stack"):
        arguments[0] = [t.expand(batch, *t.shape[1:]) if t.shape[0] == 1 else t for t in arguments[0]]
    elif call.name == "native_group_norm":
        arguments[3] = batch
    result = call.operator(*arguments, **tree_map(fill, call.keywords))
    return result if call.element is None else result[call.element]


def _pair(value: Any, default: Any = None) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    listed = list(value)
    if not listed:
        return _pair(default)
    return (listed[0], listed[-1])


def _repeat_windowed(tape: Tape, call: _Call, states: dict[int, State], batch: int) -> _Windows | None:
    """The call on windows; None where it needs whole maps, or where windows would not pay."""
    numbers = list(dict.fromkeys(_values(call)))
    windows = {number: state for number in numbers if isinstance(state := states[number], _Windows)}
    some = windows[numbers[0]]
    clean, result = tape.clean[numbers[0]], tape.clean[call.output]
    arguments = call.arguments

    def option(place: int, otherwise: Any) -> Any:
        return arguments[place] if len(arguments) > place else otherwise

    if call.name in ("convolution", "max_pool2d_with_indices", "max_pool2d", "avg_pool2d"):
        if clean.ndim != 4:
            return None
        outside, ceil = 0.0, False
        if call.name == "convolution":
            if arguments[6] or arguments[1].ndim != 4:
                return None
            kernel = tuple(arguments[1].shape[-2:])
            stride, padding, dilation = _pair(arguments[3]), _pair(arguments[4]), _pair(arguments[5])
        else:
            kernel = _pair(arguments[1])
            stride, padding, dilation = _pair(option(2, []), kernel), _pair(option(3, 0)), (1, 1)
            if call.name == "avg_pool2d":
                ceil, counts_padding = option(4, False), option(5, True)
                if ceil or (padding != (0, 0) and not counts_padding):
                    return None  # its divisor differs along the border
            else:
                outside, dilation = -math.inf, _pair(option(4, 1))
        rows, columns = (
            span.through(kernel[i], stride[i], padding[i], dilation[i], result.shape[i - 2])
            for i, span in enumerate((some.rows, some.columns))
        )
        if rows.length * columns.length >= WHOLE_FROM * rows.size * columns.size:
            return None
        reach = [
            (span.starts * stride[i] - padding[i], (span.length - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1)
            for i, span in enumerate((rows, columns))
        ]
        region = _region(some, clean, *reach[0], *reach[1], outside=outside)
        if call.name == "convolution":
            values = call.operator(region, *arguments[1:4], [0, 0], *arguments[5:])
        elif call.name == "avg_pool2d":
            values = nn.functional.avg_pool2d(region, kernel, stride, divisor_override=option(6, None))
        else:
            values = nn.functional.max_pool2d(region, kernel, stride, dilation=dilation)
        return _Windows(values, rows, columns)

    if not _keeps_places(call, tape):
        return None
    if call.name == "constant_pad_nd":
        return _padded(call, some, clean, result)
    rows, columns = some.rows, some.columns
    for window in windows.values():
        rows, columns = rows.union(window.rows), columns.union(window.columns)
    if len(windows) > 1 and rows.length * columns.length >= WHOLE_FROM * rows.size * columns.size:
        return None
    aligned = {
        number: window.values
        if (window.rows is rows and window.columns is columns) or len(windows) == 1
        else _region(window, tape.clean[number], rows.starts, rows.length, columns.starts, columns.length)
        for number, window in windows.items()
    }
    constants = call
    if call.name in _SHAPES:
        sizes = [batch, *result.shape[1:-2], some.rows.length, some.columns.length]
        constants = _Call(call.operator, call.name, (arguments[0], sizes), {}, None, call.output)
    elif call.name in ("cat", "stack") and len(windows) < len(arguments[0]):
        return None  # something that does not depend on the image is joined to its maps
    return _Windows(_run(constants, aligned.__getitem__, batch), rows, columns)


def _padded(call: _Call, windows: _Windows, clean: Tensor, result: Tensor) -> _Windows | None:
    """Padding moves windows; what lies around them comes from the clean padded map."""
    pads = [*call.arguments[1], 0, 0, 0, 0][:4]
    if min(pads) < 0:
        return None
    rows, columns = (
        _Span(span.first + pad, span.end + pad, size)
        for span, pad, size in (
            (windows.rows, pads[2], result.shape[-2]),
            (windows.columns, pads[0], result.shape[-1]),
        )
    )
    reach = (rows.starts - pads[2], rows.length, columns.starts - pads[0], columns.length)
    value = call.arguments[2] if len(call.arguments) > 2 else 0.0
    values = _region(windows, clean, *reach, outside=float(value))
    if len(call.arguments[1]) > 4:
        values = call.operator(values, [0, 0, 0, 0, *call.arguments[1][4:]], *call.arguments[2:])
    return _Windows(values, rows, columns)


def _keeps_places(call: _Call, tape: Tape) -> bool:
    """Whether each place of the result (the last two dimensions) depends on that place of the maps alone."""
    result, numbers = tape.clean[call.output], _values(call)
    maps = [tape.clean[number] for number in numbers]
    if result.ndim < 3 or any(m.ndim < 3 for m in maps):
        return False
    same = all(m.shape[-2:] == result.shape[-2:] for m in maps)
    if call.name == "constant_pad_nd":
        return True
    if not same:
        return False
    if call.name in _POINTWISE:
        leaves = tree_flatten((call.arguments, call.keywords))[0]
        constants = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return all(math.prod(tensor.shape[-2:]) == 1 for tensor in constants)
    if call.name in _BATCH_NORMS:
        return True
    if call.name in _SHAPES:
        return True
    spatial = (result.ndim - 1, result.ndim - 2)
    if call.name in ("cat", "stack"):
        along = call.arguments[1] if len(call.arguments) > 1 else 0
        return along % result.ndim not in spatial
    if call.name == "transpose":
        return all(d % result.ndim not in spatial for d in call.arguments[1:3])
    if call.name in _DIMENSIONS:
        place = _DIMENSIONS[call.name]
        along = call.arguments[place]
        dims = result.ndim if call.name == "unsqueeze" else maps[0].ndim
        listed = along if isinstance(along, list | tuple) else [along]
        return all(d % dims not in (dims - 1, dims - 2) for d in listed)
    if call.name == "avg_pool3d":
        strides = call.arguments[2] if len(call.arguments) > 2 and call.arguments[2] else call.arguments[1]
        padding = call.arguments[3] if len(call.arguments) > 3 else [0]
        return (
            list(call.arguments[1][-2:]) == [1, 1]
            and (len(strides) == 1 or list(strides[-2:]) == [1, 1])
            and not any(padding[-2:] if len(padding) > 1 else padding)
        )
    return False
