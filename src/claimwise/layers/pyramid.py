r"""Gaussian pyramid: smooth, keep every second sample, again.

P. Burt and E. Adelson, *The Laplacian pyramid as a compact image code*, IEEE Transactions on Communications 31(4),
1983, https://doi.org/10.1109/TCOM.1983.1095851, section II.
"""

from jaxtyping import Float
from torch import Tensor

from claimwise.layers.scale_space import Kernel, scale_space
from claimwise.layers.separable_convolution import Boundary


def gaussian_pyramid(
    x: Float[Tensor, "*shape"],
    levels: int,
    *,
    sigma: float = 1.0,
    dims: int = 2,
    kernel: Kernel = "gaussian",
    boundary: Boundary = "symmetric",
) -> list[Tensor]:
    r"""A signal at halving sizes.

    .. math:: x_0 = x, \qquad x_{l+1}[i] = (G_\sigma * x_l)[2i]

    along each of the last ``dims`` axes. In samples of the original, level l is smoothed by :math:`\sigma
    \sqrt{(4^l - 1) / 3}`.

    Args:
        x: Signals or images; any leading axes.
        levels: How many, the original included.
        sigma: Standard deviation of the blur before each halving, in samples of the level. Below about 1, frequencies
            that the coarser level cannot carry come back as others (aliasing).
        dims: How many of the last axes are signal.
        kernel: As in :func:`scale_space`.
        boundary: As in :func:`separable_convolution`.

    Shape:
        ``x`` (..., \*signal) -> a list of (..., \*signal / 2^l), rounded up.

    Raises:
        ValueError: ``levels`` below 1, or so many that a side of one sample would be halved; else as
            :func:`scale_space`.

    Differences from the paper:
        a Gaussian in the place of the five weights of Burt and Adelson, which approximate one.

    Example:
        >>> import torch
        >>> [tuple(level.shape) for level in gaussian_pyramid(torch.ones(3, 20, 9), 3)]
        [(3, 20, 9), (3, 10, 5), (3, 5, 3)]
    """
    if levels < 1:
        raise ValueError(f"gaussian_pyramid: levels must be at least 1, got {levels}")
    found = [x]
    for _ in range(levels - 1):
        sides = found[-1].shape[-dims:]
        if min(sides) < 2:
            raise ValueError(
                f"gaussian_pyramid: {levels} levels are too many for sides {tuple(x.shape[-dims:])}, "
                f"level {len(found) - 1} is already {tuple(sides)}"
            )
        level = scale_space(found[-1], [sigma], dims=dims, kernel=kernel, boundary=boundary).select(-1 - dims, 0)
        for axis in range(-dims, 0):
            level = level.movedim(axis, 0)[::2].movedim(0, axis)
        found.append(level)
    return found
