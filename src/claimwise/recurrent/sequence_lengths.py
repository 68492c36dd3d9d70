"""Sequences of different lengths in one padded batch: their lengths checked, and which steps are theirs."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Lengths = Sequence[int] | Tensor


def checked_sequences(
    name: str,
    what: str,
    sequences: Tensor,
    features: int,
    lengths: Lengths | None = None,
    *,
    batch_first: bool = True,
) -> tuple[Tensor, Int[Tensor, " batch"] | None]:
    """Refuse what is no (batch, time, features) of finite numbers, or time first, and lengths that do not fit it.

    Returns the sequences batch first, with 0 for padding, so that whatever stands there reaches neither a result nor a
    gradient, and the lengths on the CPU, where packing wants them.
    """
    if not isinstance(sequences, Tensor):
        raise TypeError(f"{name}: {what} must be a torch.Tensor, got {type(sequences).__name__}; use torch.as_tensor")
    if not sequences.is_floating_point():
        raise TypeError(
            f"{name}: {what} must be floating point, got {sequences.dtype}; embed class numbers, or use F.one_hot and "
            ".float()"
        )
    if sequences.ndim != 3 or sequences.shape[2] != features:
        axes = "batch, time" if batch_first else "time, batch"
        raise ValueError(
            f"{name}: {what} must be ({axes}, {features}) in this order, got shape {tuple(sequences.shape)}"
        )
    if not batch_first:
        sequences = sequences.transpose(0, 1)
    batch, time, _ = sequences.shape
    if time == 0:
        raise ValueError(f"{name}: {what} must have at least one step, got shape {tuple(sequences.shape)}")
    found = None
    if lengths is not None:
        if isinstance(lengths, Tensor) and torch.compiler.is_compiling():  # its values cannot be looked at
            found = lengths.detach().to("cpu", torch.int64)
        else:
            found = torch.tensor(checked_lengths(name, lengths, batch, time))
        sequences = sequences.masked_fill(~valid_steps(found, time, sequences.device).unsqueeze(2), 0)
    check_finite(name, what, sequences)
    return sequences, found


def check_finite(name: str, what: str, *parts: Tensor) -> None:
    """Refuse values that are not finite; where a graph is being compiled or mapped, values cannot be looked at."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    for part in parts:
        if part.numel() == 0:
            continue
        low, high = (float(extreme) for extreme in torch.aminmax(part.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            found = "NaN" if math.isnan(low) else "infinite"
            raise ValueError(
                f"{name}: {what} must be finite, got {found} values; clean them first, and give lengths= where they "
                "are padding"
            )


def checked_lengths(name: str, lengths: Lengths, batch: int, time: int) -> list[int]:
    """Refuse lengths that are not one number of steps a sequence, each from 1 to ``time``."""
    if isinstance(lengths, Tensor):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise TypeError(f"{name}: lengths must be integers, got {lengths.dtype}; use lengths.long()")
        if lengths.ndim != 1:
            raise ValueError(f"{name}: lengths must be one a sequence, ({batch},), got shape {tuple(lengths.shape)}")
        lengths = lengths.tolist()
    lengths = list(lengths)
    if not all(isinstance(length, int) and not isinstance(length, bool) for length in lengths):
        raise TypeError(f"{name}: lengths must be integers, one a sequence, got {lengths}")
    if len(lengths) != batch:
        raise ValueError(f"{name}: lengths must be one a sequence, {batch}, got {len(lengths)}")
    for k, length in enumerate(lengths):
        if not 1 <= length <= time:
            way = "leave empty sequences out" if length < 1 else "pad the input or correct the length"
            raise ValueError(
                f"{name}: lengths must be in 1..{time} (the input's steps), got {length} for sequence {k}; {way}"
            )
    return lengths


def valid_steps(lengths: Int[Tensor, " batch"], time: int, device: torch.device) -> Bool[Tensor, "batch time"]:
    """True where a step belongs to its sequence, False where it is padding."""
    return torch.arange(time, device=device) < lengths.to(device).unsqueeze(1)
