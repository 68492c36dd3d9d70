"""How regular an image is: mirror symmetry, repetition, and the image with half of its repeats taken away.

Numbers for what A. Nguyen, J. Yosinski, J. Clune, *Deep Neural Networks are Easily Fooled*, CVPR 2015,
https://arxiv.org/abs/1412.1897, sections 3.2 to 3.4 and figure 10, show as pictures: CPPN images have symmetry and
repeats, and lose confidence with fewer repeats.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.doors import check_batch


def mirror_symmetry(images: Float[Tensor, "batch *channels height width"]) -> Float[Tensor, "batch 2"]:
    r"""How alike an image and its mirror image are: 1 where they are the same.

    .. math:: \rho = \frac{\sum_p (x_p - \bar x)(x_{m(p)} - \bar x)}{\sum_p (x_p - \bar x)^2}

    with :math:`m(p)` the mirrored place of :math:`p`, left to right and top to bottom, and :math:`\bar x` the channel's
    mean. An image of one grey has the score 1: it is its own mirror image.

    Args:
        images: A batch, with or without channels (whose sums are added up).

    Shape:
        ``images`` (batch, [channels,] height, width); result (batch, 2): left-right, top-bottom; in [-1, 1].

    Raises:
        TypeError: Not floating point.
        ValueError: Fewer than three or more than four dimensions, NaN or infinite pixels.

    Differences from the paper:
        The paper shows pictures and gives no number.

    Example:
        >>> mirror_symmetry(torch.tensor([[[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]]])).tolist()[0][0]
        1.0
    """
    x = _channels("mirror_symmetry", images)
    x = x - x.mean((2, 3), keepdim=True)
    energy = x.square().sum((1, 2, 3))
    flat = energy <= torch.finfo(x.dtype).eps * x.shape[1:].numel()
    scores = [
        torch.where(flat, 1.0, (x * x.flip(axis)).sum((1, 2, 3)) / energy.masked_fill(flat, 1)) for axis in (3, 2)
    ]
    return torch.stack(scores, 1).clamp_(-1, 1).to(images.dtype)


@dataclass(frozen=True, eq=False)
class Periodicity:
    """What :func:`periodicity` returns."""

    score: Float[Tensor, " batch"]
    """In [0, 1]."""
    period: Int[Tensor, "batch 2"]
    """The shift, rows and columns, at which the image repeats itself most; rows >= 0."""


def periodicity(images: Float[Tensor, "batch *channels height width"]) -> Periodicity:
    r"""How strongly an image repeats itself: a peak of its autocorrelation away from the centre.

    .. math:: A(d) = \frac{N}{N_d} \frac{\sum_p (x_p - \bar x)(x_{p + d} - \bar x)}{\sum_p (x_p - \bar x)^2}, \qquad
              \text{score} = \max_d \min\bigl(A(d), A(d) - \min_{k = 1 \dots 7} A(k d / 8)\bigr)

    over shifts :math:`d` of up to half the image, with :math:`N_d` the pixels that image and shifted image share, and
    :math:`k d / 8` rounded to whole pixels. The second term asks that the correlation fall on the way: a gradient,
    and a stripe along itself, are like their shifted selves without repeating. A negative maximum is given as 0, and
    an image of one grey scores 0. Of equal peaks the one of the least shift is taken.

    Args:
        images: A batch, with or without channels (whose sums are added up), at least 4 by 4 pixels.

    Shape:
        ``images`` (batch, [channels,] height, width).

    Raises:
        TypeError: Not floating point.
        ValueError: Fewer than three or more than four dimensions, fewer than 4 rows or columns, NaN or infinite pixels.

    Differences from the paper:
        The paper shows pictures and gives no number.

    Example:
        >>> stripes = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(4).expand(1, 16, 16)
        >>> found = periodicity(stripes)
        >>> round(found.score.item(), 3), found.period.tolist()
        (1.0, [[0, 4]])
    """
    x = _channels("periodicity", images)
    height, width = x.shape[2:]
    if min(height, width) < 4:
        raise ValueError(f"periodicity: images must have at least 4 rows and columns, got {height} x {width}")
    x = x - x.mean((2, 3), keepdim=True)
    energy = x.square().sum((1, 2, 3))
    flat = energy <= torch.finfo(x.dtype).eps * x.shape[1:].numel()
    spectrum = torch.fft.rfft2(x, s=(2 * height, 2 * width))
    products = torch.fft.irfft2(spectrum.abs().square().sum(1), s=(2 * height, 2 * width))  # (batch, 2 h, 2 w)
    rows = torch.arange(height // 2 + 1, device=x.device)
    columns = torch.arange(-(width // 2), width // 2 + 1, device=x.device)
    shared = ((height - rows)[:, None] * (width - columns.abs())).to(x.dtype)
    at = products[:, rows[:, None], columns % (2 * width)]  # (batch, shifts down, shifts across)
    correlation = at * (height * width / shared) / energy.masked_fill(flat, 1)[:, None, None]
    correlation = correlation.clamp(-1, 1)
    lowest = torch.full_like(correlation, math.inf)
    for k in range(1, 8):
        down = (rows * k / 8).round().long()[:, None]
        across = (columns * k / 8).round().long() + width // 2
        lowest = torch.minimum(lowest, correlation[:, down, across])
    score = torch.minimum(correlation, correlation - lowest)
    # Shifts by the length of which neighbours are told apart: one pixel is no repeat.
    far = torch.maximum(rows[:, None], columns.abs()) >= 2
    ahead = (rows[:, None] > 0) | (columns > 0)  # d and -d are one
    length = (rows[:, None] ** 2 + columns**2).double()
    score = score.masked_fill(~(far & ahead), -math.inf)
    best = score.flatten(1).amax(1)
    # Multiples of a period are as good up to rounding.
    equal = score.flatten(1) >= (best - 1e-4)[:, None]
    chosen = torch.where(equal, length.flatten(), math.inf).argmin(1)
    period = torch.stack([rows[chosen // len(columns)], columns[chosen % len(columns)]], 1)
    return Periodicity(best.clamp(min=0).masked_fill(flat, 0).to(images.dtype), period)


def mask_copies(
    images: Float[Tensor, "batch *channels height width"],
    period: Int[Tensor, "batch 2"],
    *,
    fill: float | None = None,
) -> Tensor:
    r"""The image without every second of its repeats.

    .. math:: x'_p = \begin{cases} x_p & \lfloor p \cdot d / \lVert d \rVert^2 \rfloor \text{ even} \\
                                   \text{fill} & \text{else} \end{cases}

    with :math:`p` the pixel's row and column and :math:`d` the period: bands of one period's width, across it, are kept
    and masked in turn.

    Args:
        images: A batch, with or without channels.
        period: One shift an image, rows and columns, as :func:`periodicity` finds it; not (0, 0).
        fill: What masked pixels get; the channel's mean by default, which tells the model least.

    Shape:
        ``images`` and result (batch, [channels,] height, width), ``period`` (batch, 2).

    Raises:
        TypeError: Not floating point.
        ValueError: Another shape, NaN or infinite pixels, a period of (0, 0), a ``fill`` that is not finite.

    Differences from the paper:
        The paper removes repeats by hand from chosen genomes; this masks pixels, by the image's own period.

    Example:
        >>> mask_copies(torch.ones(1, 1, 8), torch.tensor([[0, 2]]), fill=0.0).int().tolist()
        [[[1, 1, 0, 0, 1, 1, 0, 0]]]
    """
    x = _channels("mask_copies", images)
    if period.shape != (len(images), 2) or bool((period == 0).all(1).any()):
        raise ValueError(
            f"mask_copies: period must be one shift an image, shape ({len(images)}, 2), and not (0, 0), "
            f"got {tuple(period.shape)}: {period.tolist()[:4]}"
        )
    if fill is not None and not math.isfinite(fill):
        raise ValueError(f"mask_copies: fill must be finite, or None for the mean, got {fill}")
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device)[:, None]
    columns = torch.arange(width, device=x.device)
    down, across = period.to(x.device)[:, 0, None, None], period.to(x.device)[:, 1, None, None]
    band = torch.div(rows * down + columns * across, down**2 + across**2, rounding_mode="floor")
    masked = (band % 2 == 1).unsqueeze(1)  # (batch, 1, height, width)
    value = x.mean((2, 3), keepdim=True) if fill is None else torch.full_like(x[:, :, :1, :1], fill)
    return torch.where(masked, value, x).reshape(images.shape).to(images.dtype)


def _channels(name: str, images: Tensor) -> Tensor:
    """As (batch, channels, height, width) in at least single precision."""
    check_batch(name, images, None)
    if images.ndim not in (3, 4):
        raise ValueError(f"{name}: images must be (batch, [channels,] height, width), got shape {tuple(images.shape)}")
    x = images.detach()
    x = x if x.dtype == torch.float64 else x.float()
    return x.unsqueeze(1) if x.ndim == 3 else x
