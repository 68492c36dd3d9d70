"""Sequences of different lengths in one padded batch: their lengths checked, and which steps are theirs."""

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
        found = _checked_lengths(name, lengths, batch, time)
        sequences = sequences.masked_fill(~valid_steps(found, time, sequences.device).unsqueeze(2), 0)
    check_finite(name, what, sequences)
    return sequences, found


def check_finite(name: str, what: str, *parts: Tensor) -> None:
    """Refuse values that are not finite; where a graph is being compiled or mapped, values cannot be looked at."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    if not all(bool(part.detach().isfinite().all()) for part in parts):
        raise ValueError(f"{name}: {what} must be finite, got NaN or infinite values; clean the batch first")


def _checked_lengths(name: str, lengths: Lengths, batch: int, time: int) -> Int[Tensor, " batch"]:
    found = torch.as_tensor(lengths)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"{name}: lengths must be integers, numbers of steps, got {found.dtype}")
    if found.shape != (batch,):
        raise ValueError(
            f"{name}: lengths must be one number of steps a sequence, shape ({batch},), got shape {tuple(found.shape)}"
        )
    found = found.detach().to("cpu", torch.int64)
    if torch.compiler.is_compiling():
        return found
    if batch and not 1 <= int(found.min()) <= int(found.max()) <= time:
        raise ValueError(
            f"{name}: lengths must be from 1 to the {time} steps of the batch, got {found.tolist()}; "
            "leave empty sequences out, and pad to the longest"
        )
    return found


def valid_steps(lengths: Int[Tensor, " batch"], time: int, device: torch.device) -> Bool[Tensor, "batch time"]:
    """True where a step belongs to its sequence, False where it is padding."""
    return torch.arange(time, device=device) < lengths.to(device).unsqueeze(1)
