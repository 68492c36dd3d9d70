import math

import pytest
import torch

from claimwise.adversarial import ContrastNormalisation


def test_against_the_formula_in_loops():
    x = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ContrastNormalisation(0.3, 0.7)(x)
    for example, result in zip(x, found, strict=True):
        energy = sum(float(value) ** 2 for value in example.flatten())
        for value, normalised in zip(example.flatten(), result.flatten(), strict=True):
            assert float(normalised) == pytest.approx(float(value) / (0.3 + energy) ** 0.7)


@pytest.mark.parametrize("gamma", [0.5, 0.75, 1.0])
def test_the_constant_is_met_at_zero_and_nowhere_passed(gamma):
    layer = ContrastNormalisation(0.1, gamma)
    constant = 0.1**-gamma
    x = torch.randn(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x * torch.logspace(-3, 2, 2000, dtype=torch.float64)[:, None]
    jacobians = torch.func.vmap(torch.func.jacrev(lambda one: layer(one[None])[0]))(x)
    slopes = torch.linalg.matrix_norm(jacobians, ord=2)
    assert float(slopes.max()) <= constant * (1 + 1e-12)
    assert float(slopes.max()) == pytest.approx(constant, rel=1e-3)


def test_gradient():
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(ContrastNormalisation(0.5, 0.8), x)


@pytest.mark.parametrize(("epsilon", "gamma"), [(0.0, 0.5), (-1.0, 0.5), (math.nan, 0.5), (1.0, -0.1), (1.0, math.inf)])
def test_refuses(epsilon, gamma):
    with pytest.raises(ValueError, match=r"ContrastNormalisation: (epsilon|gamma) must be"):
        ContrastNormalisation(epsilon, gamma)
