r"""Scale space: one signal, or image, at many degrees of blur.

A. Witkin, *Scale-space filtering*, IJCAI 1983; J. Koenderink, *The structure of images*, Biological Cybernetics 50,
1984, https://doi.org/10.1007/BF00336961; T. Lindeberg, *Scale-space for discrete signals*, 1990,
https://doi.org/10.1109/34.49051.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.layers.gaussian import check_positive, discrete_gaussian_kernel, gaussian_kernel
from claimwise.layers.separable_convolution import (
    Boundary,
    Method,
    check_separable,
    convolve_by_fft,
    fft_cost,
    matrix_cost,
    separable_convolution,
)

Kernel = Literal["gaussian", "discrete"]


def scale_space(
    x: Float[Tensor, "*shape"],
    sigmas: Sequence[float] | Float[Tensor, " scales"],
    *,
    dims: int = 2,
    kernel: Kernel = "gaussian",
    blurred: float = 0.0,
    truncate: float = 4.0,
    boundary: Boundary = "symmetric",
    method: Method = "auto",
) -> Float[Tensor, "*scaled"]:
    r"""A signal smoothed by Gaussians of several widths.

    .. math:: L(\cdot, \sigma) = G_\sigma * I, \qquad
              G_\sigma(x, y) = \frac{1}{2\pi\sigma^2} \exp\left(-\frac{x^2 + y^2}{2\sigma^2}\right)

    with I the signal and :math:`\sigma` the scale. With :math:`t = \sigma^2` it is the heat equation's solution,
    :math:`\partial_t L = \frac12 \nabla^2 L`, and scales add up as :math:`G_{\sigma_1} * G_{\sigma_2} =
    G_{\sqrt{\sigma_1^2 + \sigma_2^2}}`. What is already blurred by :math:`\sigma_0` therefore needs only
    :math:`\sqrt{\sigma^2 - \sigma_0^2}` more, which is what ``blurred`` is for.

    All scales are computed at once: each by separable convolution in dense blocks, or in groups by FFT with the
    transform of the signal shared, as a cost model finds cheaper (:func:`separable_convolution`). Gradients reach x
    and, for the sampled Gaussian, sigmas.

    Args:
        x: Signals or images; any leading axes (batch, channels).
        sigmas: Standard deviations of the scales asked for, in samples.
        dims: How many of the last axes are smoothed: 1 for signals, 2 for images.
        kernel: ``"gaussian"``, sampled, or ``"discrete"``, Lindeberg's, which has the semigroup property exactly and in
            one dimension never makes a new extremum.
        blurred: Standard deviation of the blur that x has already.
        truncate: Standard deviations kept of the sampled Gaussian; the discrete one keeps all but 1e-12 of its mass.
        boundary: What lies beyond the ends, see :func:`separable_convolution`. With ``"zero"`` mass is lost there.
        method: ``"matrix"``, ``"fft"``, or the cheaper one for each scale.

    Shape:
        ``x`` (..., \*signal) -> (..., scales, \*signal), the signal having ``dims`` axes.

    Raises:
        TypeError: ``x`` not floating point.
        ValueError: No scale, a sigma not positive and finite or not above ``blurred``, ``dims`` or names out of range.

    Differences from the paper:
        the signal is finite, so something must lie beyond its ends; the kernel is cut off.

    Example:
        >>> import torch
        >>> image = torch.zeros(1, 9, 9)
        >>> image[0, 4, 4] = 1
        >>> levels = scale_space(image, [1.0, 2.0])
        >>> levels.shape, levels[0, :, 4, 4]
        (torch.Size([1, 2, 9, 9]), tensor([0.1592, 0.0398]))
    """
    if not 1 <= dims <= x.ndim:
        raise ValueError(f"scale_space: dims must be from 1 to the {x.ndim} axes of x, got {dims}")
    if kernel not in ("gaussian", "discrete"):
        raise ValueError(f"scale_space: kernel must be gaussian or discrete, got {kernel!r}")
    if not (math.isfinite(blurred) and blurred >= 0):
        raise ValueError(f"scale_space: blurred must be >= 0 and finite, got {blurred}")
    kernels = [_kernel(sigma, blurred, kernel, truncate, x) for sigma in sigmas]
    if not kernels:
        raise ValueError("scale_space: wants at least one sigma, got none")
    check_separable("scale_space", x, kernels[:1] * dims, boundary, method)
    radii = [len(weights) // 2 for weights in kernels]
    order = sorted(range(len(radii)), key=radii.__getitem__)  # narrow kernels first
    narrow = {"matrix": len(order), "fft": 0}.get(method)
    if narrow is None:
        narrow = _split(tuple(x.shape), [radii[k] for k in order], dims)
    levels: dict[int, Tensor] = {
        k: separable_convolution(x, [kernels[k]] * dims, boundary=boundary, method="matrix") for k in order[:narrow]
    }
    if narrow < len(order):
        wide = convolve_by_fft(x, [[kernels[k]] * dims for k in order[narrow:]], boundary)
        levels |= dict(zip(order[narrow:], wide, strict=True))
    if len(levels) == 1:
        return levels[0].unsqueeze(-1 - dims)  # no copy
    return torch.stack([levels[k] for k in range(len(kernels))], -1 - dims)


def _kernel(sigma: float | Tensor, blurred: float, kernel: Kernel, truncate: float, x: Tensor) -> Tensor:
    value = check_positive("scale_space", "each sigma", sigma)
    if value <= blurred:
        raise ValueError(f"scale_space: each sigma must be above blurred = {blurred}, got {value}; blur is not undone")
    if blurred:
        sigma = (sigma**2 - blurred**2) ** 0.5
    if kernel == "gaussian":
        return gaussian_kernel(sigma, truncate=truncate, dtype=x.dtype, device=x.device)
    return discrete_gaussian_kernel(float(sigma) ** 2, dtype=x.dtype, device=x.device)


def _split(shape: tuple[int, ...], radii: Sequence[int], dims: int) -> int:
    """How many of the scales, narrow ones first, to do by matrix products so that the whole is cheapest."""
    costs = []
    for count in range(len(radii) + 1):
        cost = sum(matrix_cost(shape, [r] * dims) for r in radii[:count])
        if count < len(radii):
            cost += fft_cost(shape, [radii[-1]] * dims, len(radii) - count)
        costs.append(cost)
    return min(range(len(costs)), key=costs.__getitem__)
