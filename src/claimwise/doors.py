"""What the functions of every topic check before they compute: bad input is refused by name, value and way out."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Bounds = tuple[float, float] | None
Epsilon = float | Sequence[float] | Tensor


def check_batch(name: str, x: Tensor, bounds: Bounds) -> None:
    """Refuse an ``x`` that is no batch of floating-point numbers, not finite, or outside ``bounds``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: x must be a torch.Tensor, got {type(x).__name__}; use torch.as_tensor(x)")
    if not x.is_floating_point():
        raise TypeError(
            f"{name}: x must be floating point, got {x.dtype}; convert and scale it, for instance x.float() / 255"
        )
    if x.ndim < 2:
        raise ValueError(
            f"{name}: x must be a batch, (batch, ...), got shape {tuple(x.shape)}; use x.unsqueeze(0) for one example"
        )
    if bounds is not None and not (
        len(bounds) == 2 and all(math.isfinite(bound) for bound in bounds) and bounds[0] < bounds[1]
    ):
        raise ValueError(f"{name}: bounds must be (low, high) with low < high, or None for no clipping, got {bounds}")
    if x.numel() == 0:
        return
    low, high = (float(extreme) for extreme in torch.aminmax(x.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        found = "NaN" if math.isnan(low) else "infinite"
        raise ValueError(f"{name}: x must be finite, got {found} values; clean the batch first")
    if bounds is not None and (low < bounds[0] or high > bounds[1]):
        raise ValueError(
            f"{name}: x must lie within bounds {bounds}, got values from {low:.6g} to {high:.6g}; "
            "give the bounds of your inputs, or bounds=None for no clipping"
        )


def check_labels(name: str, y: Tensor, batch: int, classes: int | None = None) -> None:
    """Refuse labels that are not one class number an example."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: y must be a torch.Tensor, got {type(y).__name__}; use torch.as_tensor(y)")
    if y.dtype == torch.bool or y.is_floating_point() or y.is_complex():
        raise TypeError(f"{name}: y must hold integer class numbers, got {y.dtype}; use y.long()")
    if y.shape != (batch,):
        raise ValueError(
            f"{name}: y must hold one class number an example, shape ({batch},), got shape {tuple(y.shape)}"
        )
    if batch and classes is not None:
        low, high = (int(extreme) for extreme in torch.aminmax(y))
        if low < 0 or high >= classes:
            raise ValueError(
                f"{name}: labels must be in 0..{classes - 1} (the model has {classes} outputs), "
                f"got labels from {low} to {high}"
            )


def check_epsilon(name: str, epsilon: Epsilon, x: Tensor) -> float | Tensor:
    """Refuse a negative or non-finite radius; return a number, or a tensor of shape (batch, 1, ...) on x's device."""
    if isinstance(epsilon, bool):
        raise TypeError(f"{name}: epsilon must be a number or one number an example, got {epsilon}")
    if isinstance(epsilon, int | float):
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise ValueError(f"{name}: epsilon must be >= 0, got {epsilon}")
        return float(epsilon)
    try:
        radii = torch.as_tensor(
            epsilon, dtype=epsilon.dtype if isinstance(epsilon, Tensor) else x.dtype, device=x.device
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: epsilon must be a number or one number an example, got {epsilon!r}") from error
    if radii.is_complex() or radii.dtype == torch.bool:
        raise TypeError(f"{name}: epsilon must be a number or one number an example, got {radii.dtype}")
    if radii.ndim == 0:
        return check_epsilon(name, radii.item(), x)
    if radii.shape != (len(x),):
        raise ValueError(
            f"{name}: epsilon must be a number or one number an example, shape ({len(x)},), "
            f"got shape {tuple(radii.shape)}"
        )
    if len(radii) and not bool((radii.isfinite() & (radii >= 0)).all()):
        raise ValueError(f"{name}: epsilon must be >= 0 for every example, got a smallest of {radii.min().item()}")
    return radii.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def check_logits(name: str, logits: Tensor, batch: int) -> None:
    """Refuse a model output that is not (batch, classes)."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name}: the model must return logits as one tensor, got {type(logits).__name__}")
    if logits.ndim != 2 or len(logits) != batch:
        raise ValueError(
            f"{name}: the model must return logits of shape (batch, classes) = ({batch}, classes), "
            f"got {tuple(logits.shape)}; wrap the model, or give a loss of your own with loss="
        )
