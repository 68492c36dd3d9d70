import copy

import pytest
import torch
from torch import nn

from claimwise.vision import LocalResponseNormalisation


def maps(*shape):
    return 20 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def twin(a, size, alpha, beta, k):
    result = torch.empty_like(a)
    channels = a.shape[1]
    for c in range(channels):
        total = torch.zeros_like(a[:, 0])
        for j in range(max(0, c - size // 2), min(channels - 1, c + size // 2) + 1):
            total += a[:, j] ** 2
        result[:, c] = a[:, c] / (k + alpha * total) ** beta
    return result


@pytest.mark.parametrize("shape", [(2, 7, 3, 4), (2, 7), (2, 3, 5), (1, 4, 2, 2, 3), (1, 1, 2, 2)])
@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 2.0), (3, 0.1, 0.5, 1.0), (1, 0.0, 1.0, 3.0)])
def test_equals_the_formula_in_loops(shape, size, alpha, beta, k):
    layer = LocalResponseNormalisation(size, alpha=alpha, beta=beta, k=k)
    torch.testing.assert_close(layer(maps(*shape)), twin(maps(*shape), size, alpha, beta, k))


def test_defaults_are_alexnets_and_torchs_alpha_is_divided():
    x = maps(2, 9, 4, 4)
    torch.testing.assert_close(LocalResponseNormalisation()(x), twin(x, 5, 1e-4, 0.75, 2.0))
    torch.testing.assert_close(LocalResponseNormalisation()(x), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(x))


@pytest.mark.usefixtures("unchecked")
def test_gradients_and_what_modules_must_survive():
    layer, x = LocalResponseNormalisation(3, alpha=0.01), maps(2, 4, 2, 2)
    assert torch.autograd.gradcheck(layer, x.clone().requires_grad_())
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))
    assert layer(x.float().contiguous(memory_format=torch.channels_last)).dtype == torch.float32
    assert "alpha=0.01" in repr(layer)
    assert not layer.state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 4}, "size must be odd and positive, got 4"),
        ({"size": -1}, "size must be odd and positive, got -1"),
        ({"k": 0.0}, "k must be positive, got 0.0"),
        ({"alpha": -1.0}, "alpha must be >= 0, got -1.0"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match="LocalResponseNormalisation: ") as error:
        LocalResponseNormalisation(**settings)
    assert message in str(error.value)
