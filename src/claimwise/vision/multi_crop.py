"""Multi-crop evaluation: class posteriors averaged over crops of an image.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 3.2: 5x5 crops with flips at each of three scales (150 in all, after Szegedy
et al. 2014); the ten crops are those of Krizhevsky et al. 2012.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def crop_grid(
    images: Float[Tensor, "batch channels height width"], size: int, *, grid: int = 5, flip: bool = True
) -> Float[Tensor, "batch crops channels size size"]:
    """Cuts a regular grid of crops out of each image, and their mirror images.

    Corners lie at ``round(i (H - size) / (grid - 1))``, so that the outermost crops touch the border; a grid of 1
    takes the centre.

    Args:
        images: Images.
        size: Side of a crop, in pixels.
        grid: Crops along each side.
        flip: Whether the mirror image of every crop follows, after all the upright ones.

    Shape:
        ``(batch, channels, height, width)`` -> ``(batch, crops, channels, size, size)`` with ``crops = grid**2``, or
        twice as many with flips.

    Raises:
        ValueError: ``grid`` or ``size`` below 1, or a crop larger than the image.

    Differences from the paper:
        None; the paper does not say how it rounds.

    Example:
        >>> import torch
        >>> from claimwise.vision import crop_grid
        >>> crop_grid(torch.zeros(2, 3, 48, 40), 32).shape
        torch.Size([2, 50, 3, 32, 32])
    """
    if grid < 1:
        raise ValueError(f"crop_grid: grid must be at least 1, got {grid}")
    tops, lefts = (_corners("crop_grid", side, size, grid).to(images.device) for side in images.shape[2:])
    return _cut(images, tops.repeat_interleave(grid), lefts.repeat(grid), size, flip)


def ten_crop(
    images: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch 10 channels size size"]:
    """Cuts the four corners and the centre out of each image, and their mirror images.

    In the order top left, top right, bottom left, bottom right, centre, then the same mirrored.

    Args:
        images: Images.
        size: Side of a crop, in pixels.

    Shape:
        ``(batch, channels, height, width)`` -> ``(batch, 10, channels, size, size)``.

    Raises:
        ValueError: ``size`` below 1, or a crop larger than the image.

    Differences from the paper:
        None; these are AlexNet's ten, which VGG replaces by the denser grid.

    Example:
        >>> import torch
        >>> from claimwise.vision import ten_crop
        >>> ten_crop(torch.zeros(2, 3, 40, 40), 32).shape
        torch.Size([2, 10, 3, 32, 32])
    """
    (top, middle, bottom), (left, centre, right) = (_corners("ten_crop", side, size, 3) for side in images.shape[2:])
    tops = torch.stack([top, top, bottom, bottom, middle]).to(images.device)
    lefts = torch.stack([left, right, left, right, centre]).to(images.device)
    return _cut(images, tops, lefts, size, flip=True)


def crop_posteriors(
    model: Callable[[Tensor], Tensor], crops: Float[Tensor, "batch crops channels height width"]
) -> Float[Tensor, "batch classes"]:
    r"""Averages a classifier's posteriors over the crops of each image.

    .. math:: p = \frac{1}{N} \sum_{n=1}^{N} \mathrm{softmax}(z(x_n))

    with :math:`x_n` the crops of one image and :math:`z` the model's scores. All crops run as one batch.

    Args:
        model: Maps images to scores, in the mode in which it is to run.
        crops: From :func:`crop_grid` or :func:`ten_crop`; those of several scales can be concatenated.

    Shape:
        ``(batch, crops, channels, height, width)`` -> probabilities ``(batch, classes)``.

    Raises:
        ValueError: No crops.

    Differences from the paper:
        None.

    Example:
        >>> import torch
        >>> from claimwise.vision import crop_posteriors, ten_crop
        >>> crops = ten_crop(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 4)
        >>> crop_posteriors(lambda x: x.mean((2, 3)), crops).sum(1)
        tensor([1., 1.])
    """
    if crops.shape[1] == 0:
        raise ValueError("crop_posteriors: needs at least one crop an image, got 0")
    posteriors = model(crops.flatten(0, 1)).softmax(1)
    return posteriors.reshape(*crops.shape[:2], -1).mean(1)


def _corners(name: str, side: int, size: int, grid: int) -> Tensor:
    """First pixels of ``grid`` crops spread evenly over a side."""
    if not 1 <= size <= side:
        raise ValueError(f"{name}: size must lie between 1 and the image's side of {side}, got {size}")
    if grid == 1:
        return torch.tensor([(side - size) // 2])
    return torch.linspace(0, side - size, grid, dtype=torch.float64).round().long()


def _cut(images: Tensor, tops: Tensor, lefts: Tensor, size: int, flip: bool) -> Tensor:
    """The crops with these corners: windows of a view, so that each pixel is copied once."""
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (batch, channels, rows, columns, size, size), no copy
    crops = windows[:, :, tops, lefts].transpose(1, 2)  # (batch, crops, channels, size, size)
    return torch.cat((crops, crops.flip(-1)), 1) if flip else crops.contiguous()
