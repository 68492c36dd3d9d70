r"""Laplacians: of the grid, of a Gaussian, and the difference of Gaussians that comes near it.

D. Marr and E. Hildreth, *Theory of edge detection*, Proceedings of the Royal Society B 207, 1980,
https://doi.org/10.1098/rspb.1980.0020 (:math:`\nabla^2 G`: equation 5; as a difference of Gaussians: appendix B).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.layers.gaussian import check_positive, gaussian_kernel


def laplacian_kernel(
    diagonal: float = 0.0, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Float[Tensor, "3 3"]:
    r"""The second difference in both directions, on a 3 x 3 grid.

    .. math:: (1 - \gamma) \begin{pmatrix} 0 & 1 & 0 \\ 1 & -4 & 1 \\ 0 & 1 & 0 \end{pmatrix}
              + \gamma \begin{pmatrix} \frac12 & 0 & \frac12 \\ 0 & -2 & 0 \\ \frac12 & 0 & \frac12 \end{pmatrix}

    with :math:`\gamma` the weight of the diagonal neighbours: 0 gives the five points, 1/3 the most isotropic nine.

    Args:
        diagonal: The weight of the diagonal neighbours, from 0 to 1.
        dtype: Of the kernel; by default torch's default.
        device: Of the kernel.

    Shape:
        Output (3, 3).

    Raises:
        ValueError: ``diagonal`` not from 0 to 1.

    Differences from the paper:
        Marr and Hildreth smooth first, see :func:`laplacian_of_gaussian_kernel`.

    Example:
        >>> laplacian_kernel()
        tensor([[ 0.,  1.,  0.],
                [ 1., -4.,  1.],
                [ 0.,  1.,  0.]])
    """
    if not 0 <= diagonal <= 1:
        raise ValueError(f"laplacian_kernel: diagonal must be from 0 to 1, got {diagonal}")
    corner, side, middle = diagonal / 2, 1 - diagonal, 2 * diagonal - 4
    rows = [[corner, side, corner], [side, middle, side], [corner, side, corner]]
    return torch.tensor(rows, dtype=dtype, device=device)


def laplacian_of_gaussian_kernel(
    sigma: float,
    *,
    truncate: float = 4.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "taps taps"]:
    r"""The Mexican hat upside down: smoothing and Laplacian in one.

    .. math:: \nabla^2 G(x, y) = \frac{x^2 + y^2 - 2\sigma^2}{\sigma^4}\, G_\sigma(x, y)

    sampled, cut off as :func:`gaussian_kernel` is, and shifted by a constant so that the weights sum to 0: a constant
    image gives nothing.

    Args:
        sigma: Standard deviation of the Gaussian, in pixels. Below about 1 sampling no longer shows the function.
        truncate: Standard deviations kept on each side.
        dtype: Of the kernel; by default torch's default.
        device: Of the kernel.

    Shape:
        Output (2R + 1, 2R + 1), with R = floor(truncate sigma + 1/2).

    Raises:
        ValueError: ``sigma`` or ``truncate`` not positive and finite.

    Differences from the paper:
        cut off, and its sum made exactly 0.

    Example:
        >>> kernel = laplacian_of_gaussian_kernel(1.0)
        >>> kernel.shape, round(kernel[4, 4].item(), 3)
        (torch.Size([9, 9]), -0.318)
    """
    check_positive("laplacian_of_gaussian_kernel", "sigma", sigma)
    check_positive("laplacian_of_gaussian_kernel", "truncate", truncate)
    radius = math.floor(truncate * sigma + 0.5)
    place = torch.arange(-radius, radius + 1, dtype=torch.float64, device=device)
    square = (place.square()[:, None] + place.square()) / sigma**2
    hat = (square - 2) * (-square / 2).exp() / (2 * math.pi * sigma**4)
    return (hat - hat.mean()).to(dtype or torch.get_default_dtype())


def difference_of_gaussians_kernel(
    sigma: float,
    ratio: float = 1.6,
    *,
    truncate: float = 4.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "taps taps"]:
    r"""A wide Gaussian minus a narrow one.

    .. math:: G_{k\sigma} - G_\sigma \approx \tfrac12 (k^2 - 1)\, \sigma^2\, \nabla^2 G

    by the heat equation, the better the nearer k is to 1.

    Args:
        sigma: Standard deviation of the narrow Gaussian, in pixels.
        ratio: k, of the wide one to the narrow one, above 1. 1.6 is Marr and Hildreth's.
        truncate: Standard deviations kept on each side, of each.
        dtype: Of the kernel; by default torch's default.
        device: Of the kernel.

    Shape:
        Output (2R + 1, 2R + 1), with R = floor(truncate k sigma + 1/2).

    Raises:
        ValueError: ``sigma`` or ``truncate`` not positive and finite, ``ratio`` not above 1 and finite.

    Differences from the paper:
        cut off; Marr and Hildreth write the narrow one first, which flips the sign.

    Example:
        >>> kernel = difference_of_gaussians_kernel(1.0)
        >>> kernel.shape, abs(round(kernel.sum().item(), 5))
        (torch.Size([13, 13]), 0.0)
    """
    check_positive("difference_of_gaussians_kernel", "sigma", sigma)
    if not (math.isfinite(ratio) and ratio > 1):
        raise ValueError(f"difference_of_gaussians_kernel: ratio must be above 1 and finite, got {ratio}")
    narrow = gaussian_kernel(sigma, truncate=truncate, dtype=torch.float64, device=device)
    wide = gaussian_kernel(ratio * sigma, truncate=truncate, dtype=torch.float64, device=device)
    margin = (len(wide) - len(narrow)) // 2
    within = torch.nn.functional.pad(torch.outer(narrow, narrow), [margin] * 4)
    return (torch.outer(wide, wide) - within).to(dtype or torch.get_default_dtype())
