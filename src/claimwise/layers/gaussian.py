r"""Gaussian kernels for scale space, sampled and discrete.

T. Lindeberg, *Scale-space for discrete signals*, IEEE Transactions on Pattern Analysis and Machine Intelligence 12(3),
1990, https://doi.org/10.1109/34.49051 (the discrete Gaussian: equation 18 and section IV).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_kernel(
    sigma: float | Tensor,
    *,
    truncate: float = 4.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, " taps"]:
    r"""The continuous Gaussian, sampled at whole numbers, cut off, and scaled so that its weights sum to 1.

    .. math:: g_n = \frac{\exp(-n^2 / 2\sigma^2)}{\sum_{m=-R}^{R} \exp(-m^2 / 2\sigma^2)}, \qquad
              R = \lfloor \text{truncate} \cdot \sigma + \tfrac12 \rfloor, \quad n = -R..R

    The weights are scaled by their own sum and not by :math:`1/\sqrt{2\pi}\sigma`, so that a constant signal stays as
    it is. In two dimensions the Gaussian is the outer product of two of these.

    Sampling and cutting off cost the semigroup property :math:`g_{\sigma_1} * g_{\sigma_2} = g_{\sqrt{\sigma_1^2 +
    \sigma_2^2}}` some digits: with ``truncate=4`` it holds to about 1e-4 of the largest weight, with ``truncate=6`` and
    sigma of at least 1 to 1e-6. :func:`discrete_gaussian_kernel` has it without sampling error at any scale.

    Args:
        sigma: Standard deviation, in samples. A tensor of one number may carry a gradient.
        truncate: Standard deviations kept on each side. SciPy's default is 4; below that the tails lost are visible in
            eight-bit images.
        dtype: Of the kernel; by default that of a tensor ``sigma``, else torch's default. Numbers are computed in
            double precision.
        device: Of the kernel; by default that of a tensor ``sigma``, else the CPU.

    Shape:
        Output (2R + 1,).

    Raises:
        TypeError: ``sigma`` is a tensor of integers.
        ValueError: ``sigma`` or ``truncate`` not positive and finite, or a tensor of several numbers.

    Differences from the paper:
        Lindeberg warns of this kernel (section VII): sampled coarsely it does not keep the theory's properties. It is
        here because it is what everyone uses.

    Example:
        >>> gaussian_kernel(0.5)
        tensor([2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04])
    """
    value = check_positive("gaussian_kernel", "sigma", sigma)
    check_positive("gaussian_kernel", "truncate", truncate)
    if isinstance(sigma, Tensor):
        dtype, device = dtype or sigma.dtype, device or sigma.device
        sigma = sigma.reshape(()).to(device=device, dtype=torch.float64)
    radius = math.floor(truncate * value + 0.5)
    place = torch.arange(-radius, radius + 1, dtype=torch.float64, device=device)
    # a sigma so small that its square underflows leaves the middle weight alone: place / sigma is squared instead
    weights = (-0.5 * (place / sigma).square()).exp()
    return (weights / weights.sum()).to(dtype or torch.get_default_dtype())


def discrete_gaussian_kernel(
    t: float,
    *,
    tail: float = 1e-12,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, " taps"]:
    r"""Lindeberg's discrete analogue of the Gaussian, the only one that never makes a new local extremum.

    .. math:: T(n, t) = e^{-t} I_n(t)

    with :math:`I_n` the modified Bessel function of the first kind of integer order and :math:`t = \sigma^2` the
    variance, which is exactly that of the kernel. It solves the heat equation in continuous scale and discrete space,

    .. math:: \partial_t T(n, t) = \tfrac12 \left( T(n - 1, t) - 2\, T(n, t) + T(n + 1, t) \right),
              \qquad T(n, 0) = [n = 0],

    and so is a semigroup: :math:`T(\cdot, s) * T(\cdot, t) = T(\cdot, s + t)` for all s and t.

    It is computed by Miller's backward recurrence in terms of ratios :math:`\rho_n = I_n / I_{n-1}
    = 1 / (2n/t + \rho_{n+1})`, which is stable because ratios stay within 0 and 1 and errors shrink by
    :math:`\rho^2` a step, and scaled by :math:`\sum_n T(n, t) = 1`. Nothing overflows at any t.

    Args:
        t: Scale, the variance, in squared samples.
        tail: Mass that may be cut off beyond both ends together; the rest is scaled to sum to 1.
        dtype: Of the kernel; by default torch's default. Numbers are computed in double precision.
        device: Of the kernel.

    Shape:
        Output (2R + 1,), R the smallest radius with less than ``tail`` beyond it.

    Raises:
        ValueError: ``t`` not positive and finite, ``tail`` not between 0 and 1 (exclusive).

    Differences from the paper:
        cut off; the paper's kernel is infinite.

    Example:
        >>> discrete_gaussian_kernel(1.0, tail=0.01)
        tensor([0.0082, 0.0501, 0.2084, 0.4668, 0.2084, 0.0501, 0.0082])
    """
    check_positive("discrete_gaussian_kernel", "t", t)
    if not 0 < tail < 1:
        raise ValueError(f"discrete_gaussian_kernel: tail must be a share between 0 and 1, got {tail}")
    # Chernoff: beyond n less than exp(-n^2 / 2(t + n/3)) a side is left; solved for twice a tail far below any double
    needed = math.log(2 / min(tail, 1e-20))
    bound = math.ceil(needed / 3 + math.sqrt(needed * needed / 9 + 2 * needed * t))
    start = bound + 50  # where the recurrence begins; what is wrong there has died out at the bound
    ratio = t / (start + 1 + math.hypot(start + 1, t))  # the ratio's asymptote, not 0: large t needs fewer steps
    ratios = []
    for n in range(start, 0, -1):
        ratio = 1 / (2 * n / t + ratio)
        ratios.append(ratio)
    ratios.reverse()  # of n = 1, 2, ...
    side = torch.tensor(ratios[:bound], dtype=torch.float64).cumprod(0)  # T(n) / T(0)
    side = side / (1 + 2 * side.sum())
    # the mass beyond n, summed from the small end
    beyond = 2 * side.flip(0).cumsum(0).flip(0)  # at n - 1: of n and further
    radius = int((beyond >= tail).sum())
    side = side[:radius]
    half = torch.cat([side.flip(0), (1 - beyond[0]).reshape(1), side])
    return (half / half.sum()).to(device=device, dtype=dtype or torch.get_default_dtype())


def check_positive(name: str, argument: str, value: float | Tensor) -> float:
    """Refuse what is no positive, finite number; the number."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise TypeError(f"{name}: {argument} must be a number or floating point, got {value.dtype}")
        if value.numel() != 1:
            raise ValueError(f"{name}: {argument} must be one number, got shape {tuple(value.shape)}")
        value = float(value.detach())
    if isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {argument} must be positive and finite, got {value}")
    return float(value)
