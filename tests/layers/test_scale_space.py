import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.layers import local_extrema, scale_space

module = sys.modules["claimwise.layers.scale_space"]


def image(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", ["auto", "matrix", "fft"])
@pytest.mark.parametrize("shape", [(28, 28), (2, 3, 140, 30), (300, 260)])
def test_every_scale_is_scipys(shape, method):
    ndimage = pytest.importorskip("scipy.ndimage")
    x, sigmas = image(*shape), [5.0, 0.8, 12.0]  # not in order
    found = scale_space(x, sigmas, method=method)
    assert found.shape == (*shape[:-2], 3, *shape[-2:])
    for k, sigma in enumerate(sigmas):
        theirs = ndimage.gaussian_filter(x.numpy(), (0,) * (len(shape) - 2) + (sigma, sigma))
        np.testing.assert_allclose(found.select(-3, k), theirs, atol=1e-12)


@pytest.mark.parametrize("split", [0, 1, 2, 3])
def test_any_division_between_the_methods_is_the_same(monkeypatch, split):
    x, sigmas = image(2, 150), [9.0, 1.0, 3.0]
    before = scale_space(x, sigmas, dims=1, method="matrix")
    monkeypatch.setattr(module, "_split", lambda *_: split)
    torch.testing.assert_close(scale_space(x, sigmas, dims=1), before, atol=1e-13, rtol=0)


def test_signals_and_images():
    x = image(4, 50)
    each = torch.stack([scale_space(row, [2.0], dims=1) for row in x])
    torch.testing.assert_close(scale_space(x, [2.0], dims=1), each)


@pytest.mark.parametrize(("kernel", "options"), [("gaussian", {"truncate": 6.0}), ("discrete", {})])
@pytest.mark.parametrize("boundary", ["symmetric", "circular"])
def test_semigroup(kernel, options, boundary):
    """One blur after another is one blur of the root of the sum of squares, at these boundaries up to the ends."""
    x, (first, second) = image(60, 70), (1.5, 2.0)
    both = math.hypot(first, second)

    def blur(x, sigma, **more):
        return scale_space(x, [sigma], kernel=kernel, boundary=boundary, **options, **more)[0]

    once = blur(x, both)
    twice = blur(blur(x, first), second)
    assert float((once - twice).abs().max()) < (1e-6 if kernel == "gaussian" else 1e-11)
    rest = blur(blur(x, first), both, blurred=first)
    assert float((once - rest).abs().max()) < (1e-6 if kernel == "gaussian" else 1e-11)


def test_truncating_at_two_sigma_breaks_the_semigroup():
    x = image(60, 70)

    def blur(x, sigma):
        return scale_space(x, [sigma], truncate=2.0)[0]

    assert float((blur(x, 2.5) - blur(blur(x, 1.5), 2.0)).abs().max()) > 1e-3


def test_heat_equation():
    """Change with t = sigma^2 is half the Laplacian; for the discrete Gaussian that of the grid, exactly."""
    x, t, step = image(40, 45), 4.0, 1e-3
    scales = [math.sqrt(v) for v in (t - step, t, t + step)]
    below, at, above = scale_space(x, scales, kernel="discrete", boundary="circular").unbind(0)
    laplacian = sum(at.roll(s, d) for s in (1, -1) for d in (0, 1)) - 4 * at
    torch.testing.assert_close((above - below) / (2 * step), laplacian / 2, rtol=0, atol=1e-6)


@settings(max_examples=60)
@given(st.lists(st.floats(-1, 1, width=16), min_size=3, max_size=60), st.floats(0.3, 4), st.floats(0.1, 4))
def test_the_discrete_gaussian_makes_no_extremum(signal, sigma, more):
    x = torch.tensor(signal, dtype=torch.float64)
    levels = scale_space(x, [sigma, math.hypot(sigma, more)], dims=1, kernel="discrete", boundary="circular")
    counts = [
        int(local_extrema(level, boundary="circular", tolerance=tolerance))
        for level, tolerance in ((x, 0.0), (levels[0], 1e-11), (levels[1], 1e-10))
    ]
    assert counts[0] >= counts[1] >= counts[2]


def test_gradients():
    x = image(2, 7, 8).requires_grad_()
    sigmas = torch.tensor([0.9, 1.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: scale_space(x, s), (x, sigmas), fast_mode=True)


def test_constant_images_stay():
    for kernel in ("gaussian", "discrete"):
        found = scale_space(torch.full((30, 200), 0.7, dtype=torch.float64), [1.0, 30.0], kernel=kernel)
        assert float((found - 0.7).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("sigmas", "options", "message"),
    [
        ([], {}, "at least one sigma"),
        ([1.0, 0.0], {}, "each sigma must be positive"),
        ([math.nan], {}, "each sigma must be positive"),
        ([-1.0], {"kernel": "discrete"}, "each sigma must be positive"),
        ([1.0], {"blurred": 1.0}, "blur is not undone"),
        ([1.0], {"blurred": -1.0}, "blurred"),
        ([1.0], {"dims": 3}, "dims"),
        ([1.0], {"kernel": "box"}, "kernel"),
        ([1.0], {"method": "fast"}, "method"),
    ],
)
def test_refuses(unchecked, sigmas, options, message):
    with pytest.raises(ValueError, match=message):
        scale_space(torch.zeros(5, 5), sigmas, **options)
