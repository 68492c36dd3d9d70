import itertools
import sys

import numpy as np
import pytest
import torch

from claimwise.layers import gaussian_kernel, separable_convolution

module = sys.modules["claimwise.layers.separable_convolution"]  # the package names the function so
SCIPY = {"symmetric": "reflect", "reflect": "mirror", "replicate": "nearest", "circular": "wrap", "zero": "constant"}


def beyond(signal: list[float], i: int, boundary: str) -> float:
    """Sample i of a signal that goes on, one step inwards at a time."""
    n = len(signal)
    if boundary == "zero":
        return signal[i] if 0 <= i < n else 0.0
    while not 0 <= i < n:
        if boundary == "replicate":
            i = min(max(i, 0), n - 1)
        elif boundary == "circular":
            i += n if i < 0 else -n
        elif boundary == "symmetric":
            i = -1 - i if i < 0 else 2 * n - 1 - i
        else:
            i = 0 if n == 1 else (-i if i < 0 else 2 * n - 2 - i)
    return signal[i]


def by_loops(signal: list[float], kernel: list[float], boundary: str) -> list[float]:
    radius = len(kernel) // 2
    return [
        sum(kernel[k + radius] * beyond(signal, i - k, boundary) for k in range(-radius, radius + 1))
        for i in range(len(signal))
    ]


@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("method", ["matrix", "fft"])
@pytest.mark.parametrize(("length", "taps"), [(1, 1), (1, 5), (4, 3), (5, 21), (140, 9), (140, 81), (131, 301)])
def test_against_loops(boundary, method, length, taps):
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(length, generator=generator, dtype=torch.float64)
    kernel = torch.randn(taps, generator=generator, dtype=torch.float64)  # not symmetric: a convolution flips it
    found = separable_convolution(x, kernel, boundary=boundary, method=method)
    assert found.tolist() == pytest.approx(by_loops(x.tolist(), kernel.tolist(), boundary), abs=1e-11)


@pytest.mark.parametrize("shape", [(3, 28, 30), (2, 2, 150, 140), (140, 20), (9, 129, 131), (2, 130, 5, 9)])
@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("method", ["matrix", "fft"])
def test_images_are_scipys(shape, boundary, method):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dims = 3 if shape[-1] == 9 else 2
    sigmas = (2.5, 1.0, 6.0)[:dims]
    kernels = [gaussian_kernel(sigma, dtype=torch.float64) for sigma in sigmas]
    found = separable_convolution(x, kernels, boundary=boundary, method=method)
    theirs = ndimage.gaussian_filter(x.numpy(), (0,) * (len(shape) - dims) + sigmas, mode=SCIPY[boundary])
    np.testing.assert_allclose(found, theirs, atol=1e-13)


@pytest.mark.parametrize(("size", "method"), [*itertools.product([(6, 7), (131, 2), (2, 131)], ["matrix", "fft"])])
def test_gradients(size, method):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *size, dtype=torch.float64, generator=generator, requires_grad=True)
    kernels = [torch.randn(k, dtype=torch.float64, generator=generator, requires_grad=True) for k in (3, 5)]
    assert torch.autograd.gradcheck(
        lambda x, *kernels: separable_convolution(x, kernels, method=method), (x, *kernels), fast_mode=True
    )


def test_the_cost_model_turns_to_the_transform_for_wide_kernels_only():
    assert [module.cheaper_method((4096, 4096), (r, r)) for r in (3, 2000)] == ["matrix", "fft"]
    assert module.cheaper_method((1000, 28, 28), (100, 100)) == "matrix"
    x = torch.randn(16, 20_000, generator=torch.Generator().manual_seed(0))
    wide = gaussian_kernel(125.0)
    assert module.cheaper_method(x.shape, (len(wide) // 2,)) == "fft"
    torch.testing.assert_close(
        separable_convolution(x, wide), separable_convolution(x, wide, method="matrix"), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("n", range(1, 400))
def test_fast_lengths_are_smooth_and_close(n):
    found = module.fast_length(n)

    def smooth(m):
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        return m == 1

    assert found == next(m for m in range(n, 2 * n + 3) if smooth(m) and m % 2 == 0)


def test_dtype_and_empty_batches_stay():
    assert separable_convolution(torch.zeros(0, 4), torch.ones(3)).shape == (0, 4)
    assert separable_convolution(torch.zeros(4, dtype=torch.float64), torch.ones(3)).dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "kernels", "options", "error", "message"),
    [
        (torch.zeros(4, dtype=torch.long), [torch.ones(3)], {}, TypeError, "floating point"),
        (torch.zeros(4), [], {}, ValueError, "one kernel an axis"),
        (torch.zeros(4), [torch.ones(3)] * 2, {}, ValueError, "one kernel an axis"),
        (torch.zeros(4), [torch.ones(2)], {}, ValueError, "odd"),
        (torch.zeros(4), [torch.ones(3, 3)], {}, ValueError, "odd"),
        (torch.zeros(4, 0), [torch.ones(3)], {}, ValueError, "empty"),
        (torch.zeros(4), [torch.ones(3)], {"boundary": "wrap"}, ValueError, "boundary"),
        (torch.zeros(4), [torch.ones(3)], {"method": "direct"}, ValueError, "method"),
    ],
)
def test_refuses(unchecked, x, kernels, options, error, message):
    with pytest.raises(error, match=message):
        separable_convolution(x, kernels, **options)
