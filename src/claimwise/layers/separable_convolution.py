r"""Separable convolution by small matrix products or by FFT, whichever is cheaper for the size.

A convolution along one axis is a product with a banded matrix. Cut into blocks of B outputs, each depends on B + 2R
inputs, so the whole is one batch of dense (B + 2R, B) products, which a CPU does some twenty times faster per
multiplication than a loop over the kernel. Large kernels go through the FFT.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Boundary = Literal["symmetric", "reflect", "replicate", "circular", "zero"]
BOUNDARIES = ("symmetric", "reflect", "replicate", "circular", "zero")
Method = Literal["auto", "matrix", "fft"]

# Nanoseconds a sample on one core of a 2020s CPU; only their ratios matter. Fitted to benchmarks/scale_space.py.
_PASS = 1.0  # of reading, extending and writing an axis
_PRODUCT = 0.035  # a multiplication of a matrix product
_FFT_PASS = 5.0
_FFT = 0.5  # times log2 of the size, a transform there or back
_BLOCKS = (32, 64, 128)
_ROWS = 8
"""Fewer rows than this make no matrix worth the name."""
_WHOLE = 128
"""Axes up to this length are always one block: boundary included, the convolution is one square matrix."""


def separable_convolution(
    x: Float[Tensor, "*shape"],
    kernels: Sequence[Tensor] | Tensor,
    *,
    boundary: Boundary = "symmetric",
    method: Method = "auto",
) -> Float[Tensor, "*shape"]:
    r"""Convolves the last axes of a signal, each with a kernel of its own.

    .. math:: y_{\ldots i \ldots} = \sum_{k=-R}^{R} w_k\, x_{\ldots\, i - k\, \ldots}

    along the last axis with the last kernel, along the one before with the one before, and so on.

    ========== ========================= ==================================================
    boundary   beyond ``a b c d``        elsewhere called
    ========== ========================= ==================================================
    symmetric  ``b a | a b c d | d c``   SciPy "reflect", the default there too
    reflect    ``c b | a b c d | c b``   torch "reflect", SciPy "mirror"
    replicate  ``a a | a b c d | d d``   SciPy "nearest"
    circular   ``c d | a b c d | a b``   SciPy "wrap"
    zero       ``0 0 | a b c d | 0 0``   torch "constant", SciPy "constant"
    ========== ========================= ==================================================

    Kernels may be longer than the signal: reflection and wrapping go on.

    Args:
        x: Signals; any number of leading axes.
        kernels: One kernel of odd length for each of the last axes. They are converted to x's dtype and device, and may
            carry a gradient.
        boundary: What lies beyond the ends.
        method: ``"matrix"``, ``"fft"``, or whichever a cost model finds cheaper for the size.

    Shape:
        ``x`` (..., n_1, ..., n_d) -> the same, for d kernels.

    Raises:
        TypeError: ``x`` not floating point.
        ValueError: No kernel, more kernels than axes, a kernel of even length, an empty axis, an unknown boundary or
            method.

    Differences from the paper:
        none; no paper describes it.

    Example:
        >>> import torch
        >>> separable_convolution(torch.tensor([0.0, 0.0, 4.0, 0.0]), [torch.tensor([0.25, 0.5, 0.25])])
        tensor([0., 1., 2., 1.])
    """
    kernels = [kernels] if isinstance(kernels, Tensor) else list(kernels)
    check_separable("separable_convolution", x, kernels, boundary, method)
    kernels = [kernel.to(device=x.device, dtype=x.dtype) for kernel in kernels]
    if x.numel() == 0:
        return x.clone()
    radii = [len(kernel) // 2 for kernel in kernels]
    if method == "auto":
        method = cheaper_method(tuple(x.shape), radii)
    if method == "fft":
        return convolve_by_fft(x, [kernels], boundary)[0]
    for axis, kernel in zip(range(-len(kernels), 0), kernels, strict=True):
        x = _along(x, kernel, axis, boundary)
    return x


def cheaper_method(shape: Sequence[int], radii: Sequence[int]) -> Literal["matrix", "fft"]:
    r"""Which of the two a cost model finds faster.

    A matrix product costs :math:`a + b (B + 2R)` a sample and axis, for the best block B, and the FFT
    :math:`c \log_2 N'` a sample there and again on the way back, over axes extended to :math:`n' \ge n + 2R`.

    Args:
        shape: Of the signals.
        radii: Radius of the kernel for each of the last axes.

    Shape:
        None.

    Raises:
        Nothing.

    Differences from the paper:
        none; no paper describes it.

    Example:
        >>> cheaper_method((2048, 2048), (4, 4)), cheaper_method((2048, 2048), (900, 900))
        ('matrix', 'fft')
    """
    return "matrix" if matrix_cost(shape, radii) <= fft_cost(shape, radii, 1) else "fft"


def matrix_cost(shape: Sequence[int], radii: Sequence[int]) -> float:
    """Nanoseconds for one kernel an axis by matrix products, according to the model."""
    sides = shape[-len(radii) :]
    a_sample = sum(
        _PASS + _PRODUCT * (n if _as_one(n, r) else _cost_of(_block(n, r), n, r))
        for n, r in zip(sides, radii, strict=True)
    )
    return math.prod(shape) * a_sample


def fft_cost(shape: Sequence[int], radii: Sequence[int], scales: int) -> float:
    """Nanoseconds for several kernels of at most these radii, which share the transform of the signals."""
    sides = shape[-len(radii) :]
    lengths = [fast_length(n + 2 * r) for n, r in zip(sides, radii, strict=True)]
    samples = math.prod(shape) * math.prod(lengths) / math.prod(sides)
    return samples * (_FFT_PASS + _FFT * math.log2(math.prod(lengths)) * (1 + scales))


def check_separable(name: str, x: Tensor, kernels: Sequence[Tensor], boundary: str, method: str) -> None:
    """Refuse what cannot be convolved."""
    if not x.is_floating_point():
        raise TypeError(f"{name}: x must be floating point, got {x.dtype}; use x.float()")
    if not 1 <= len(kernels) <= x.ndim:
        raise ValueError(f"{name}: wants one kernel an axis, 1 to {x.ndim} of them, got {len(kernels)}")
    for kernel in kernels:
        if kernel.ndim != 1 or len(kernel) % 2 == 0:
            raise ValueError(
                f"{name}: a kernel must be (taps,) with an odd number of taps, so that it has a middle, "
                f"got shape {tuple(kernel.shape)}"
            )
    if boundary not in BOUNDARIES:
        raise ValueError(f"{name}: boundary must be one of {', '.join(BOUNDARIES)}, got {boundary!r}")
    if method not in ("auto", "matrix", "fft"):
        raise ValueError(f"{name}: method must be auto, matrix or fft, got {method!r}")
    if 0 in x.shape[-len(kernels) :]:
        raise ValueError(f"{name}: the axes to convolve must not be empty, got shape {tuple(x.shape)}")


def convolve_by_fft(x: Tensor, kernels: Sequence[Sequence[Tensor]], boundary: Boundary) -> list[Tensor]:
    """Each of several sets of kernels applied to the same signals: one transform there, one a set back."""
    dims = len(kernels[0])
    sides = x.shape[-dims:]
    radii = [max(len(each[d]) // 2 for each in kernels) for d in range(dims)]
    axes = list(range(-dims, 0))
    if boundary == "circular":
        lengths = list(sides)
        offsets = [0] * dims
    else:
        # the transform itself pads with zeros, at the far end, and that serves the near end too
        reach = 1 if boundary == "zero" else 2
        lengths = [fast_length(n + reach * r) for n, r in zip(sides, radii, strict=True)]
        offsets = [0] * dims if boundary == "zero" else radii
        for axis, r in zip(axes, offsets, strict=True):
            x = extended(x, axis, r, r, boundary)
    spectrum = torch.fft.rfftn(x, s=lengths, dim=axes)
    results = []
    for each in kernels:  # one at a time, so that memory does not grow with their number
        transfer = x.new_ones(())
        for d, kernel in enumerate(each):
            # tap k stands at index k modulo the length; a kernel longer than a circle wraps
            place = (torch.arange(len(kernel), device=x.device) - len(kernel) // 2) % lengths[d]
            wrapped = kernel.new_zeros(lengths[d]).index_add(0, place, kernel)
            transfer = transfer[..., None] * (torch.fft.rfft(wrapped) if d == dims - 1 else torch.fft.fft(wrapped))
        if each is kernels[-1] and not (spectrum.requires_grad or transfer.requires_grad):
            product = spectrum.mul_(transfer)  # nobody needs it any more, and fresh memory costs as much as the product
        else:
            product = spectrum * transfer
        result = torch.fft.irfftn(product, s=lengths, dim=axes)
        results.append(result[(..., *(slice(o, o + n) for o, n in zip(offsets, sides, strict=True)))])
    return results


def extended(x: Tensor, axis: int, before: int, after: int, boundary: Boundary) -> Tensor:
    """x with so many samples more at the ends of an axis."""
    if before == after == 0:
        return x
    n = x.shape[axis]
    if boundary == "zero":
        return F.pad(x, [0, 0] * (-axis - 1) + [before, after])
    near = _folded(torch.arange(-before, 0, device=x.device), n, boundary)
    far = _folded(torch.arange(n, n + after, device=x.device), n, boundary)
    return torch.cat([x.index_select(axis, near), x, x.index_select(axis, far)], axis)


def fast_length(n: int) -> int:
    """The smallest even product of 2, 3 and 5 that is at least n."""
    best = 1 << max(1, (n - 1).bit_length())
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three * 2
            while two < n:
                two *= 2
            best = min(best, two)
            three *= 3
        five *= 5
    return best


def _folded(place: Tensor, n: int, boundary: Boundary) -> Tensor:
    """Which of the samples 0..n-1 stands at a place beyond them."""
    if boundary == "replicate":
        return place.clamp(0, n - 1)
    if boundary == "circular":
        return place % n
    if boundary == "symmetric":
        place = place % (2 * n)
        return torch.minimum(place, 2 * n - 1 - place)
    period = max(1, 2 * (n - 1))  # reflect
    place = place % period
    return torch.minimum(place, period - place)


def _block(n: int, radius: int) -> int:
    """Outputs a block: short ones repeat the kernel's reach too often, long ones multiply with zeros."""
    return min(_BLOCKS, key=lambda b: (_cost_of(b, n, radius), b))


def _cost_of(block: int, n: int, radius: int) -> float:
    rounded = -(-n // block) * block / n  # the last block is computed whole
    return rounded * (block + 2 * radius) * (1 + 8 / block)  # short products run below full speed


def _as_one(n: int, radius: int) -> bool:
    """Whether one square matrix is no more work than blocks, each of which reaches over most of the axis."""
    return n <= _WHOLE or n <= _cost_of(_block(n, radius), n, radius)


def _along(x: Tensor, kernel: Tensor, axis: int, boundary: Boundary) -> Tensor:
    """One kernel along one axis, by matrix products."""
    n, radius = x.shape[axis], len(kernel) // 2
    if _as_one(n, radius):
        return _multiplied(x, whole_matrix(n, kernel, boundary), axis)
    block = _block(n, radius)
    count = -(-n // block)
    x = extended(x, axis, radius, count * block - n + radius, boundary)
    # input j of a block stands at j - radius, so output i takes tap i - (j - radius) from the middle
    tap = torch.arange(block, device=x.device)[:, None] - torch.arange(block + 2 * radius, device=x.device)
    tap = tap + 2 * radius  # index into the kernel
    inside = (tap >= 0) & (tap < len(kernel))
    matrix = torch.where(inside, kernel[tap.clamp(0, len(kernel) - 1)], 0.0)  # (block, block + 2 radius)
    windows = x.unfold(axis, block + 2 * radius, block)  # (..., count, ..., block + 2 radius)
    if axis == -1:
        rows = windows.reshape(-1, *windows.shape[-2:]) if windows.ndim != 3 else windows
        if len(rows) < _ROWS:
            y = torch.matmul(rows, matrix.T)  # (rows, count, block)
        else:  # block by block, which reads the windows where they lie; torch would copy them to make one product
            y = torch.bmm(rows.transpose(0, 1), matrix.T.expand(count, -1, -1)).transpose(0, 1)
        y = y.reshape(*x.shape[:-1], count * block)
    else:
        # (..., count, *after, length): the axes after stay where they are, so that rows are read as they lie
        after = -axis - 1  # axes behind this one
        kept = windows.shape[-1 - after : -1]
        windows = windows.movedim(-1, -1 - after).flatten(-after) if after > 1 else windows.transpose(-1, -2)
        # one signal at a time and the matrix expanded: torch would copy the windows, which overlap, for one product
        before = windows.shape[:-3]
        several = windows.reshape(-1, *windows.shape[-3:]) if len(before) != 1 else windows
        repeated = matrix.expand(count, -1, -1)
        y = torch.stack([torch.bmm(repeated, each) for each in several])  # (before, count, block, after)
        y = y.reshape(*before, count * block, *kept)
    return y.narrow(axis, 0, n)


def whole_matrix(n: int, kernel: Tensor, boundary: Boundary) -> Tensor:
    """The (n, n) matrix that convolves a signal of n samples, what lies beyond its ends included."""
    radius = len(kernel) // 2
    place = torch.arange(n, device=kernel.device)[:, None] - torch.arange(-radius, radius + 1, device=kernel.device)
    weights = kernel.expand(n, -1)
    if boundary == "zero":
        weights = torch.where((place >= 0) & (place < n), weights, 0.0)
        place = place.clamp(0, n - 1)
    else:
        place = _folded(place, n, boundary)
    return kernel.new_zeros(n, n).scatter_add(1, place, weights)


def _multiplied(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    if axis == -1:
        return torch.matmul(x, matrix.T)
    if axis == -2:
        return torch.matmul(matrix, x)
    return torch.matmul(x.movedim(axis, -1), matrix.T).movedim(-1, axis)
