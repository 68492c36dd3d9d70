"""A layer of the LSTM family over all steps as machine code: the arguments of ``lstm_sweep.h``.

Products are done there too: the weights of a layer are packed once a sweep, and the rows of a step, few as they are, go
through them a tile at a time. Sequences are shared out among the threads that torch would use
(:func:`torch.get_num_threads`), each of which takes its own from the first step to the last.
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
"""Multiplications below which a further thread costs more than it does."""
SEQUENCES_OF_A_THREAD = 4


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
        *((name, ctypes.c_long) for name in ("inputs", "seen", "steps", "threads")),
        ("parallel", ctypes.c_void_p),
        *((name, ctypes.POINTER(ctypes.c_long)) for name in ("sizes", "offsets")),
        *((name, ctypes.c_void_p) for name in ("x", "w_ih", "w_hh", "w_gh", "bias", "y_start", "c_start")),
        *((name, ctypes.c_void_p) for name in ("gates", "ys", "cs", "d_ys", "d_y", "d_c")),
        *((name, ctypes.c_void_p) for name in ("d_x", "d_ih", "d_hh", "d_bias", "d_ph", "d_gh")),
    ]


@functools.cache
def _parallel() -> int | None:
    """The address of OpenMP's function that runs a team of threads, of the OpenMP that torch itself has loaded.

    Its threads wait for torch's next operation by spinning: threads of our own would share their processors with them.
    """
    with contextlib.suppress(AttributeError, OSError):
        return ctypes.cast(ctypes.CDLL(torch._C.__file__).GOMP_parallel, ctypes.c_void_p).value
    return None


def _call(
    way: str, shape: Shape, rows: PackedRows, width: int, peepholes: Tensor | None, tensors: dict[str, Tensor | None]
) -> None:
    """Runs ``lstm_sweep_forward`` or ``_backward``; what is to be filled in must be contiguous already."""
    x = tensors["x"]
    assert x is not None
    held = {name: None if tensor is None else tensor.contiguous() for name, tensor in tensors.items()}
    cell = _Cell(shape.hidden, width)
    for block in ("input", "forget", "candidate", "output"):
        setattr(cell, block, shape.inner.index(block) * shape.hidden if block in shape.inner else -1)
    cell.coupled = shape.variant.coupled
    cell.input_activation, cell.output_activation = shape.variant.input_activation, shape.variant.output_activation
    if peepholes is not None:
        peepholes = peepholes.contiguous()
        for k, gate in enumerate(shape.variant.own_gates):
            setattr(cell, f"peep_{gate}", peepholes[k].data_ptr())
    work = rows.total * (x.shape[1] + shape.hidden) * width
    threads = min(torch.get_num_threads(), rows.batch // SEQUENCES_OF_A_THREAD, work // WORK_OF_A_THREAD)
    steps = len(rows.sizes)
    sweep = _Sweep(
        ctypes.pointer(cell),
        x.shape[1],
        shape.seen,
        steps,
        max(1, threads),
        _parallel(),
        (ctypes.c_long * steps)(*rows.sizes),
        (ctypes.c_long * steps)(*rows.offsets),
        **{name: None if tensor is None else tensor.data_ptr() for name, tensor in held.items()},
    )
    functions = compiled_step(x.dtype, x.device)
    assert functions is not None
    if getattr(functions, f"lstm_sweep_{way}")(ctypes.addressof(sweep)):
        raise MemoryError(f"LSTM: too little memory for {rows.total} rows of {width} pre-activations")


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
    tensors = {"x": x, "w_ih": w_ih, "w_hh": w_hh, "w_gh": w_gh, "bias": bias, "y_start": states[0]}
    _call("forward", shape, rows, len(w_ih), w_ph, tensors | {"c_start": states[1], "gates": gates, "ys": ys, "cs": cs})
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
    tensors = {"x": x, "w_ih": w_ih, "w_hh": w_hh, "w_gh": w_gh, "y_start": states[0], "c_start": states[1]}
    tensors |= dict(zip(("ys", "gates", "cs"), kept, strict=True))
    tensors |= dict(zip(("d_ys", "d_y", "d_c"), d_states, strict=True))
    tensors |= dict(zip(("d_x", "d_ih", "d_hh", "d_bias", "d_ph", "d_gh"), sums, strict=True))
    _call("backward", shape, rows, len(w_ih), w_ph, tensors)
