"""A layer of the LSTM family over all steps as machine code: the arguments of ``lstm_sweep.h``.

Products are done there too: the weights of a layer are packed once a sweep, and the rows of a step, few as they are, go
through them a tile at a time. Threads, at most as many as torch would use (:func:`torch.get_num_threads`), share the
sequences or, where weights are many and sequences few, the units.
"""

import contextlib
import ctypes
import functools
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from claimwise.recurrent.compiled_step import compiled_step
from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.variants import LSTMVariant

WORK_OF_A_THREAD = 4_000_000
"""Multiplications of a sweep that are worth a further thread."""
SEQUENCES_OF_A_THREAD = 2
WEIGHTS_AT_HAND = 300_000
"""Recurrent weights that a thread reads at every step without delay: about what its second-level cache holds."""
UNITS_OF_A_THREAD = 32
STEP_OF_A_THREAD = 30_000
"""Multiplications of a step that are worth waiting for each other at its end."""
PACKED_A_STEP = 800_000
"""Weights that can be packed in the time that torch's operations need for a step beyond their products."""


@runtime_checkable  # while testing, annotations are checked
class Shape(Protocol):
    """Of an LSTMCell: which blocks a row has, and how wide they are."""

    variant: LSTMVariant
    hidden: int
    inner: tuple[str, ...]
    seen: int


class _Cell(ctypes.Structure):
    """The C struct ``lstm``: where its blocks begin (-1: not there), its switches, its peepholes."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("hidden", "width", "input", "forget", "candidate", "output")),
        *((name, ctypes.c_long) for name in ("coupled", "input_activation", "output_activation")),
        *((name, ctypes.c_void_p) for name in ("peep_input", "peep_forget", "peep_output")),
    ]


class _Sweep(ctypes.Structure):
    """The C struct ``sweep``."""

    _fields_ = [
        ("cell", ctypes.POINTER(_Cell)),
        *((name, ctypes.c_long) for name in ("inputs", "seen", "steps", "threads", "by_units")),
        *((name, ctypes.c_void_p) for name in ("parallel", "barrier", "thread", "team")),
        *((name, ctypes.POINTER(ctypes.c_long)) for name in ("sizes", "offsets")),
        *((name, ctypes.c_void_p) for name in ("x", "w_ih", "w_hh", "w_gh", "bias", "y_start", "c_start")),
        *((name, ctypes.c_void_p) for name in ("gates", "ys", "cs", "d_ys", "d_y", "d_c")),
        *((name, ctypes.c_void_p) for name in ("d_x", "d_ih", "d_hh", "d_bias", "d_ph", "d_gh")),
    ]


@functools.cache
def _openmp() -> tuple[int, ...] | None:
    """Addresses of functions of the OpenMP that torch itself uses, if it is one that has them.

    Its threads wait for torch's next operation by spinning: threads of our own would share their processors with them.
    What the whole process sees comes first, since a library that was loaded before torch's serves torch too.
    """
    names = ("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads")
    for library in (None, torch._C.__file__):
        with contextlib.suppress(AttributeError, OSError, TypeError):
            loaded = ctypes.CDLL(library)
            return tuple(ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0 for name in names)
    return None


def _threads(shape: Shape, rows: PackedRows, inputs: int, width: int) -> tuple[int, bool]:
    """How many threads share the work, and whether they share units rather than sequences."""
    threads = torch.get_num_threads()
    step = rows.total // len(rows.sizes) * shape.hidden * width
    by_sequences = min(
        threads, rows.batch // SEQUENCES_OF_A_THREAD, rows.total * (inputs + shape.hidden) * width // WORK_OF_A_THREAD
    )
    by_units = (
        _openmp() is not None
        and threads > 1
        and shape.hidden >= UNITS_OF_A_THREAD * threads
        and step >= STEP_OF_A_THREAD * threads
        and (shape.hidden * width > WEIGHTS_AT_HAND or by_sequences < threads)
    )
    return (threads, True) if by_units else (max(1, by_sequences), False)


def pays(shape: Shape, rows: PackedRows, inputs: int, width: int) -> bool:
    """Whether there are steps enough for packing the weights; a single step of a wide layer is better off without.

    It depends on the sizes alone, so that both ways go the same way.
    """
    return (inputs + shape.hidden) * width <= PACKED_A_STEP * len(rows.sizes)


def _call(
    way: str,
    shape: Shape,
    rows: PackedRows,
    width: int,
    peepholes: Tensor | None,
    read: dict[str, Tensor | None],
    written: dict[str, Tensor | None],
) -> None:
    """Runs ``lstm_sweep_forward`` or ``_backward``."""
    assert width % shape.hidden == 0  # the shares of units are of blocks as wide as the layer
    assert all(tensor is None or tensor.is_contiguous() for tensor in written.values())
    held = {name: None if tensor is None else _as_it_lies(tensor) for name, tensor in read.items()}
    x = held["x"]
    assert x is not None
    cell = _Cell(shape.hidden, width)
    for block in ("input", "forget", "candidate", "output"):
        setattr(cell, block, shape.inner.index(block) * shape.hidden if block in shape.inner else -1)
    cell.coupled = shape.variant.coupled
    cell.input_activation, cell.output_activation = shape.variant.input_activation, shape.variant.output_activation
    if peepholes is not None:
        peepholes = _as_it_lies(peepholes)
        for k, gate in enumerate(shape.variant.own_gates):
            setattr(cell, f"peep_{gate}", peepholes[k].data_ptr())
    threads, by_units = _threads(shape, rows, x.shape[1], width)
    steps = len(rows.sizes)
    sweep = _Sweep(
        ctypes.pointer(cell),
        x.shape[1],
        0 if held["w_gh"] is None else shape.seen,
        steps,
        threads,
        by_units,
        *(_openmp() or (None,) * 4),
        (ctypes.c_long * steps)(*rows.sizes),
        (ctypes.c_long * steps)(*rows.offsets),
        **{name: None if tensor is None else tensor.data_ptr() for name, tensor in (held | written).items()},
    )
    functions = compiled_step(x.dtype, x.device)
    assert functions is not None
    if getattr(functions, f"lstm_sweep_{way}")(ctypes.addressof(sweep)):
        raise MemoryError(f"LSTM: too little memory for {rows.total} rows of {width} pre-activations")


def _as_it_lies(tensor: Tensor) -> Tensor:
    """The numbers in memory one after another, as machine code reads them."""
    return tensor.resolve_neg().contiguous()


def sweep_forward(
    shape: Shape,
    x: Tensor,
    rows: PackedRows,
    states: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, activations and cells of all rows."""
    w_ih, w_hh, bias, w_ph, w_gh = weights
    gates, ys, cs = (x.new_empty(rows.total, columns) for columns in (len(w_ih), shape.hidden, shape.hidden))
    read = {"x": x, "w_ih": w_ih, "w_hh": w_hh, "w_gh": w_gh, "bias": bias, "y_start": states[0], "c_start": states[1]}
    _call("forward", shape, rows, len(w_ih), w_ph, read, {"gates": gates, "ys": ys, "cs": cs})
    return ys, gates, cs


def sweep_backward(
    shape: Shape,
    x: Tensor,
    rows: PackedRows,
    states: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None],
    kept: tuple[Tensor, ...],
    d_states: tuple[Tensor | None, Tensor, Tensor],
    sums: tuple[Tensor | None, ...],
) -> None:
    """Fills in d_x, turns gradients of the last states into those of the first, adds those of weights to ``sums``."""
    w_ih, w_hh, _, w_ph, w_gh = weights
    d_ys, d_y, d_c = d_states
    read = {"x": x, "w_ih": w_ih, "w_hh": w_hh, "w_gh": w_gh, "y_start": states[0], "c_start": states[1], "d_ys": d_ys}
    written = dict(zip(("d_x", "d_ih", "d_hh", "d_bias", "d_ph", "d_gh"), sums, strict=True))
    read |= dict(zip(("ys", "gates", "cs"), kept, strict=True))
    _call("backward", shape, rows, len(w_ih), w_ph, read, written | {"d_y": d_y, "d_c": d_c})
