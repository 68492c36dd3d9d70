r"""Shift consistency: whether a classifier still says the same when its input moves.

R. Zhang, *Making convolutional networks shift-invariant again*, ICML 2019, https://arxiv.org/abs/1904.11486, section
4.1 (there between two random shifts; here against the image where it was, shift by shift).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.doors import check_batch, check_labels, check_logits
from claimwise.layers.separable_convolution import BOUNDARIES, Boundary, extended
from claimwise.undisturbed import Mode, undisturbed


def shifted(
    x: Float[Tensor, "*batch height width"], down: int, right: int, *, boundary: Boundary = "zero"
) -> Float[Tensor, "*batch height width"]:
    r"""Images moved by whole pixels.

    .. math:: y_{ij} = x_{i - \text{down},\, j - \text{right}}

    Args:
        x: Images.
        down: Rows they move down; negative for up.
        right: Columns they move right; negative for left.
        boundary: What comes in from beyond the border, see :func:`separable_convolution`.

    Shape:
        ``x`` (..., height, width) -> the same.

    Raises:
        ValueError: An unknown boundary.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> shifted(torch.tensor([[1.0, 2.0, 3.0]]), 0, 1)
        tensor([[0., 1., 2.]])
    """
    if boundary not in BOUNDARIES:
        raise ValueError(f"shifted: boundary must be one of {', '.join(BOUNDARIES)}, got {boundary!r}")
    for axis, step in ((-2, down), (-1, right)):
        side = x.shape[axis]
        x = extended(x, axis, max(step, 0), max(-step, 0), boundary).narrow(axis, max(-step, 0), side)
    return x


@dataclass(frozen=True, eq=False)
class ShiftConsistency:
    """What :func:`shift_consistency` returns."""

    shifts: tuple[tuple[int, int], ...]
    """(down, right) of each."""
    same: Int[Tensor, " shifts"]
    """Examples whose class is that of the unshifted image, by shift."""
    right: Int[Tensor, " shifts"] | None
    """Examples classified correctly, by shift; none without labels."""
    total: int
    """Examples."""

    @property
    def consistency(self) -> float:
        """Share of examples and shifts at which the class is unchanged."""
        return float(self.same.sum()) / (len(self.shifts) * self.total)

    @property
    def accuracy(self) -> float:
        """Share of examples and shifts at which the class is right; NaN without labels."""
        return float("nan") if self.right is None else float(self.right.sum()) / (len(self.shifts) * self.total)


def shift_consistency(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    shifts: Sequence[tuple[int, int]],
    *,
    y: Int[Tensor, " batch"] | None = None,
    boundary: Boundary = "zero",
    batch_size: int = 1000,
    mode: Mode = "eval",
) -> ShiftConsistency:
    r"""The share of examples whose class is unchanged when the image moves.

    .. math:: \frac1{nm} \sum_{i=1}^{n} \sum_{s=1}^{m}
              \left[ \arg\max f(S_s x_i) = \arg\max f(x_i) \right]

    with :math:`S_s` the m shifts, n the examples and f the model. A model may be consistent and wrong: give labels to
    have its accuracy at each shift beside it.

    Args:
        model: Any callable from images to logits.
        x: Images, the last two axes height and width.
        shifts: (down, right) in pixels.
        y: Class numbers, for the accuracy.
        boundary: What comes in from beyond the border: ``"zero"`` for black backgrounds, ``"circular"`` so that
            nothing is lost.
        batch_size: Images at once.
        mode: ``"eval"``, or ``"as-is"`` to leave the model's modes alone.

    Shape:
        ``x`` (batch, ..., height, width); counts (shifts,).

    Raises:
        TypeError: ``x`` or ``y`` of a wrong dtype.
        ValueError: No shifts or examples, a batch size below 1, images without height and width, labels out of range.

    Differences from the paper:
        against the unshifted image, not between two random shifts, so that consistency can be drawn against the shift.

    Example:
        >>> import torch
        >>> whole = lambda x: torch.stack([x.sum((1, 2)), 1 - x.sum((1, 2))], 1)  # blind to position
        >>> shift_consistency(whole, torch.eye(4)[None], [(0, 1), (1, 1)], boundary="circular").consistency
        1.0
    """
    check_batch("shift_consistency", x, None)
    if x.ndim < 3:
        raise ValueError(f"shift_consistency: x must be images, (batch, ..., height, width), got {tuple(x.shape)}")
    if not len(x) or not len(shifts):
        raise ValueError(f"shift_consistency: wants examples and shifts, got {len(x)} and {len(shifts)}")
    if batch_size < 1:
        raise ValueError(f"shift_consistency: batch_size must be at least 1, got {batch_size}")

    def classes(x: Tensor) -> Tensor:
        found = []
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size]
            logits = model(part)
            check_logits("shift_consistency", logits, len(part))
            if y is not None:
                check_labels("shift_consistency", y, len(x), logits.shape[1])
            if bool(logits.isnan().any()):
                raise ValueError("shift_consistency: logits contain NaN; a model that has diverged has no class")
            found.append(logits.argmax(1))
        return torch.cat(found)

    with undisturbed(model, mode), torch.no_grad():
        before = classes(x)
        after = torch.stack([classes(shifted(x, down, right, boundary=boundary)) for down, right in shifts])
    return ShiftConsistency(
        shifts=tuple((down, right) for down, right in shifts),
        same=(after == before).sum(1),
        right=None if y is None else (after == y).sum(1),
        total=len(x),
    )
