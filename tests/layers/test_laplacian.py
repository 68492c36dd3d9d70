import math

import numpy as np
import pytest
import torch

from claimwise.layers import difference_of_gaussians_kernel, laplacian_kernel, laplacian_of_gaussian_kernel

DOUBLE = {"dtype": torch.float64}


@pytest.mark.parametrize("diagonal", [0.0, 1 / 3, 1.0])
def test_the_grid_laplacian_of_a_paraboloid_is_its_curvature(diagonal):
    kernel = laplacian_kernel(diagonal, **DOUBLE)
    y, x = np.mgrid[-1:2, -1:2]
    assert float(kernel.sum()) == pytest.approx(0, abs=1e-15)
    assert float((kernel * torch.tensor(3.0 * x**2 + 5 * y**2 + x - y)).sum()) == pytest.approx(2 * 3 + 2 * 5)


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_laplacian_of_gaussian_against_its_formula(sigma):
    found = laplacian_of_gaussian_kernel(sigma, truncate=6, **DOUBLE)
    radius = len(found) // 2
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            s = x * x + y * y
            value = (s - 2 * sigma**2) / sigma**4 * math.exp(-s / (2 * sigma**2)) / (2 * math.pi * sigma**2)
            assert float(found[y + radius, x + radius]) == pytest.approx(value, abs=1e-4 if sigma < 1 else 1e-9)
    assert float(found.sum()) == pytest.approx(0, abs=1e-12)


def test_difference_of_gaussians_nears_the_laplacian_as_the_scales_near():
    """By the heat equation; its error is of the order of k^2 - 1."""
    sigma, errors = 2.0, []
    for ratio in (1.2, 1.05, 1.0125):
        found = difference_of_gaussians_kernel(sigma, ratio, truncate=6, **DOUBLE) / (0.5 * (ratio**2 - 1) * sigma**2)
        hat = laplacian_of_gaussian_kernel(sigma, truncate=6, **DOUBLE)
        margin = (len(found) - len(hat)) // 2
        hat = torch.nn.functional.pad(hat, [margin] * 4)
        errors.append(float((found - hat).abs().max() / hat.abs().max()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.03


def test_refuse():
    with pytest.raises(ValueError, match="diagonal"):
        laplacian_kernel(1.5)
    for function in (laplacian_of_gaussian_kernel, difference_of_gaussians_kernel):
        for sigma in (0.0, math.nan, -2.0):
            with pytest.raises(ValueError, match="sigma must be positive"):
                function(sigma)
    for ratio in (1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="ratio"):
            difference_of_gaussians_kernel(1.0, ratio)
