r"""Counting local extrema: what a scale-space kernel must never increase.

T. Lindeberg, *Scale-space for discrete signals*, 1990, https://doi.org/10.1109/34.49051, definition 1.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def local_extrema(
    x: Float[Tensor, "*shape"], *, dims: int = 1, boundary: str = "open", tolerance: float = 0.0
) -> Int[Tensor, "*batch"]:
    r"""How many local maxima and minima each signal or image has.

    In one dimension, how often the difference of neighbours changes its sign, zeros left out: a plateau counts once,
    and not at all where the signal goes on as before. In two dimensions, the inner pixels that exceed all eight
    neighbours or are below all of them; a plateau of more than one pixel counts as none.

    That smoothing makes no new extrema is a theorem in **one** dimension only (for kernels whose generating function
    is a Polya frequency one, such as :func:`discrete_gaussian_kernel`); in two, even the Gaussian can split a ridge
    into two hills.

    Args:
        x: Signals or images; any leading axes.
        dims: 1 for signals, 2 for images.
        boundary: ``"open"``, ends count for nothing, or ``"circular"``, the signal is a ring.
        tolerance: Differences of neighbours up to this size count as none: what rounding may make.

    Shape:
        ``x`` (..., \*signal) -> (...).

    Raises:
        ValueError: ``dims`` not 1 or 2, too few axes, an unknown boundary, a negative tolerance, NaN.

    Differences from the paper:
        none in one dimension.

    Example:
        >>> import torch
        >>> local_extrema(torch.tensor([0.0, 2.0, 2.0, 1.0, 3.0])).item()
        2
    """
    if dims not in (1, 2) or x.ndim < dims:
        raise ValueError(f"local_extrema: dims must be 1 or 2 and x must have as many axes, got {dims}, {x.ndim} axes")
    if boundary not in ("open", "circular"):
        raise ValueError(f"local_extrema: boundary must be open or circular, got {boundary!r}")
    if not tolerance >= 0:
        raise ValueError(f"local_extrema: tolerance must be >= 0, got {tolerance}")
    if bool(x.isnan().any()):
        raise ValueError("local_extrema: x contains NaN, which has no order; clean it first")
    if min(x.shape[-dims:]) < 2:
        return x.new_zeros(x.shape[:-dims], dtype=torch.long)
    if boundary == "circular":
        for axis in range(-dims, 0):  # in one dimension once round and one further; in two a rim of one pixel
            ends = [x.narrow(axis, -1, 1), x, x.narrow(axis, 0, 1)]
            x = torch.cat(ends if dims == 2 else ends[1:], axis)
    if dims == 1:
        return _sign_changes(x, boundary == "circular", tolerance)
    height, width = x.shape[-2] - 2, x.shape[-1] - 2
    if height < 1 or width < 1:
        return x.new_zeros(x.shape[:-2], dtype=torch.long)
    middle = x[..., 1:-1, 1:-1]
    above = torch.ones_like(middle, dtype=torch.bool)
    below = above.clone()
    for i in range(3):
        for j in range(3):
            if (i, j) != (1, 1):
                difference = middle - x[..., i : i + height, j : j + width]
                above &= difference > tolerance
                below &= difference < -tolerance
    return (above | below).sum((-2, -1))


def _sign_changes(x: Tensor, ring: bool, tolerance: float) -> Tensor:
    difference = x.diff(dim=-1)
    sign = torch.where(difference.abs() > tolerance, difference.sign(), 0.0)  # (..., n - 1)
    place = torch.arange(1, sign.shape[-1] + 1, device=x.device)
    latest = torch.where(sign != 0, place, 0).cummax(-1).values  # 1 + place of the last sign, 0 before any
    filled = torch.where(latest > 0, sign.gather(-1, (latest - 1).clamp(min=0)), 0.0)
    if ring:  # what comes before the first sign is the last one
        last = filled[..., -1:]
        filled = torch.cat([last, torch.where(filled == 0, last, filled)], -1)
    return (filled[..., 1:] * filled[..., :-1] < 0).sum(-1)
