"""Scale jitter: every training image at a scale of its own, then a random crop.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 3.1 ("training image size").
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def rescale(
    images: Float[Tensor, "batch channels height width"], side: int
) -> Float[Tensor, "batch channels newheight newwidth"]:
    r"""Rescales images isotropically so that their smallest side is ``side`` (the paper's S in training, Q in testing).

    .. math:: (H', W') = \mathrm{round}\big((H, W) \cdot \mathrm{side} / \min(H, W)\big)

    Args:
        images: Images.
        side: Length of the smallest side afterwards, in pixels.

    Shape:
        ``(batch, channels, height, width)`` -> ``(batch, channels, height', width')``.

    Raises:
        ValueError: ``side`` below 1.

    Differences from the paper:
        Bilinear without antialiasing, as :func:`scale_jitter`; the paper does not say.

    Example:
        >>> import torch
        >>> from claimwise.vision import rescale
        >>> rescale(torch.zeros(1, 3, 32, 48), 40).shape
        torch.Size([1, 3, 40, 60])
    """
    if side < 1:
        raise ValueError(f"rescale: side must be at least 1, got {side}")
    height, width = images.shape[2:]
    smallest = min(height, width)
    if smallest == side:
        return images
    size = (round(height * side / smallest), round(width * side / smallest))
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def scale_jitter(
    images: Float[Tensor, "batch channels height width"],
    low: int,
    high: int,
    crop: int,
    *,
    flip: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch channels crop crop"]:
    r"""Rescales each image to a random scale of its own and takes a random crop of it.

    .. math::
        S \sim U\{low, \dots, high\}, \quad (t, l) \sim U\{0, \dots, H' - c\} \times U\{0, \dots, W' - c\}

    with :math:`S` the smallest side after rescaling to :math:`H' \times W'`, :math:`c` the side of the crop and
    :math:`(t, l)` its top left corner. ``low == high`` is training at a fixed scale. All images of the batch are
    sampled at once; the result equals rescaling each by :func:`rescale` and slicing.

    Args:
        images: Images.
        low: Smallest S, in pixels; at least ``crop``.
        high: Largest S, in pixels.
        crop: Side of the crop, in pixels.
        flip: Mirror each image left to right with probability 1/2.
        generator: Source of the draws, on the CPU or the images' device; torch's global one by default.

    Shape:
        ``(batch, channels, height, width)`` -> ``(batch, channels, crop, crop)``.

    Raises:
        ValueError: ``crop`` below 1, ``low`` below ``crop``, ``high`` below ``low``.

    Differences from the paper:
        Bilinear without antialiasing: meant for enlarging or for shrinking by less than 2. The paper's random RGB
        shift is not part of this.

    Example:
        >>> import torch
        >>> from claimwise.vision import scale_jitter
        >>> x = torch.zeros(8, 3, 32, 32)
        >>> scale_jitter(x, 32, 48, 32, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 32, 32])
    """
    if crop < 1:
        raise ValueError(f"scale_jitter: crop must be at least 1, got {crop}")
    if low < crop:
        raise ValueError(f"scale_jitter: low must be at least crop={crop}, got low={low}")
    if high < low:
        raise ValueError(f"scale_jitter: high must be at least low={low}, got high={high}")
    count, device = images.shape[0], images.device
    drawn_on = generator.device if generator is not None else device
    scales = torch.randint(low, high + 1, (count,), generator=generator, device=drawn_on)
    corners = torch.rand(count, 2, generator=generator, device=drawn_on, dtype=torch.float64)
    mirrored = torch.rand(count, generator=generator, device=drawn_on) < 0.5 if flip else None

    sides = torch.tensor(images.shape[2:], device=drawn_on, dtype=torch.float64)
    scaled = (sides * scales[:, None] / sides.min()).round()  # (batch, 2): H', W'
    corners = (corners * (scaled - crop + 1)).floor()  # (batch, 2): t, l
    return _sample(
        images, scaled.to(device), corners.to(device), crop, None if mirrored is None else mirrored.to(device)
    )


def _sample(
    images: Float[Tensor, "batch channels height width"],
    scaled: Float[Tensor, "batch 2"],
    corners: Float[Tensor, "batch 2"],
    crop: int,
    mirrored: Tensor | None,
) -> Float[Tensor, "batch channels crop crop"]:
    """Bilinear samples of the crop of each image in its rescaled coordinates."""
    inside = torch.arange(crop, device=images.device, dtype=torch.float64) + 0.5
    # grid_sample runs from -1 to 1 over the image's edges, whatever its size
    places = (2 * (corners[:, :, None] + inside) / scaled[:, :, None] - 1).to(images.dtype)  # (batch, 2, crop)
    rows, columns = places[:, 0], places[:, 1]
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    grid = torch.stack(
        (columns[:, None, :].expand(-1, crop, -1), rows[:, :, None].expand(-1, -1, crop)), dim=-1
    )  # (batch, crop, crop, 2), x before y
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
