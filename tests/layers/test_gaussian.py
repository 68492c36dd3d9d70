import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimwise.layers import discrete_gaussian_kernel, gaussian_kernel


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("truncate", [3.0, 4.0])
def test_gaussian_against_its_formula(sigma, truncate):
    radius = int(truncate * sigma + 0.5)
    weights = [math.exp(-n * n / (2 * sigma * sigma)) for n in range(-radius, radius + 1)]
    found = gaussian_kernel(sigma, truncate=truncate, dtype=torch.float64)
    assert found.tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-14)


def test_gaussian_is_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    impulse = np.zeros(41)
    impulse[20] = 1
    theirs = ndimage.gaussian_filter1d(impulse, 3.0, mode="constant", truncate=4)
    ours = gaussian_kernel(3.0, dtype=torch.float64)  # radius 12
    np.testing.assert_allclose(ours, theirs[8:33], atol=1e-16)


def test_gaussian_takes_gradients_of_sigma():
    sigma = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: gaussian_kernel(s), sigma)  # 1.3 x 4 is far from where the radius jumps


@pytest.mark.parametrize("sigma", [0, -1.0, math.nan, math.inf, torch.tensor(-1.0)])
def test_gaussian_refuses(sigma):
    with pytest.raises(ValueError, match="gaussian_kernel: sigma must be positive"):
        gaussian_kernel(sigma)


def test_gaussian_refuses_tensors_that_are_no_number():
    with pytest.raises(TypeError, match="int64"):
        gaussian_kernel(torch.tensor(1))
    with pytest.raises(ValueError, match="one number"):
        gaussian_kernel(torch.ones(2))
    with pytest.raises(ValueError, match="truncate"):
        gaussian_kernel(1.0, truncate=0)


def bessel_by_series(n: int, t: float) -> float:
    """e^-t I_n(t) term by term."""
    return sum(
        math.exp((2 * k + n) * math.log(t / 2) - math.lgamma(k + 1) - math.lgamma(k + n + 1) - t) for k in range(400)
    )


@pytest.mark.parametrize("t", [0.01, 0.7, 4.0, 60.0])
def test_discrete_gaussian_against_its_series(t):
    found = discrete_gaussian_kernel(t, tail=1e-15, dtype=torch.float64)
    radius = len(found) // 2
    assert found.tolist() == pytest.approx([bessel_by_series(abs(n), t) for n in range(-radius, radius + 1)], rel=1e-11)


@pytest.mark.parametrize("t", [1e-8, 0.1, 1.0, 9.0, 900.0, 1e4, 1e6])
def test_discrete_gaussian_is_scipys(t):
    special = pytest.importorskip("scipy.special")
    found = discrete_gaussian_kernel(t, tail=1e-16, dtype=torch.float64)
    radius = len(found) // 2
    theirs = special.ive(np.arange(-radius, radius + 1), t)
    # SciPy's own error grows to some 1e-12 of the middle at large t
    np.testing.assert_allclose(found, theirs, rtol=0, atol=3e-12 * theirs.max())


@given(st.floats(0.05, 50), st.floats(0.05, 50))
def test_discrete_gaussian_is_a_semigroup_of_its_variance(s, t):
    kernels = {v: discrete_gaussian_kernel(v, tail=1e-16, dtype=torch.float64).numpy() for v in (s, t, s + t)}
    both, one = np.convolve(kernels[s], kernels[t]), kernels[s + t]
    margin = (len(both) - len(one)) // 2
    one = np.pad(one, margin) if margin >= 0 else one[-margin:margin]
    np.testing.assert_allclose(both, one, atol=1e-14)
    place = np.arange(len(one)) - len(one) // 2
    assert (one * place**2).sum() == pytest.approx(s + t, rel=1e-10)


def test_discrete_gaussian_solves_the_heat_equation():
    step, t = 1e-4, 2.0
    below, at, above = (discrete_gaussian_kernel(v, tail=1e-14, dtype=torch.float64) for v in (t - step, t, t + step))
    reach = 10  # T(11) is 1e-9 here
    below, at, above = (k[len(k) // 2 - reach : len(k) // 2 + reach + 1] for k in (below, at, above))
    change = (above - below) / (2 * step)
    # the error of the central difference is step^2 / 6 times a third derivative below 1
    torch.testing.assert_close(change[1:-1], (at[:-2] - 2 * at[1:-1] + at[2:]) / 2, rtol=0, atol=1e-8)


def test_discrete_gaussian_keeps_all_but_the_tail():
    special = pytest.importorskip("scipy.special")
    for tail in (1e-3, 1e-8):
        radius = len(discrete_gaussian_kernel(5.0, tail=tail)) // 2

        def beyond(r):
            return 1 - special.ive(np.arange(-r, r + 1), 5.0).sum()

        assert beyond(radius) < tail <= beyond(radius - 1)


@pytest.mark.parametrize(("arguments", "message"), [((0.0,), "t must"), ((math.nan,), "t must"), ((-1.0,), "t must")])
def test_discrete_gaussian_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        discrete_gaussian_kernel(*arguments)
    with pytest.raises(ValueError, match="tail"):
        discrete_gaussian_kernel(1.0, tail=1.0)
