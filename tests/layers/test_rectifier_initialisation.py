import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from claimwise.layers import Fans, fans, initial_std, initialise_weights, rectifier_gain
from claimwise.vision import initialise

LAYERS = {
    "linear": (nn.Linear(7, 3), (7,)),
    "3x3": (nn.Conv2d(4, 6, 3), (4, 14, 14)),
    "1d, groups": (nn.Conv1d(4, 6, 5, groups=2), (4, 20)),
    "7x7, stride 2": (nn.Conv2d(3, 4, 7, stride=2), (3, 33, 33)),
    "dilated": (nn.Conv2d(2, 3, 3, dilation=2), (2, 20, 20)),
    "3d": (nn.Conv3d(2, 3, 2), (2, 6, 6, 6)),
    "transposed": (nn.ConvTranspose2d(4, 6, 4, stride=2), (4, 12, 12)),
    "transposed, groups": (nn.ConvTranspose1d(4, 6, 6, stride=3, groups=2), (4, 20)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_fans_count_connections_inside_the_image(name):
    """Weights of 1 count paths: an output is its fan-in, and the gradient of the sum an input's fan-out."""
    layer, shape = LAYERS[name]
    layer = layer.double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    x = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    (g,) = torch.autograd.grad(y.sum(), x)

    def middle(t):
        """A window away from the borders whose sides hold whole periods of the stride."""
        side = 6 if t.ndim > 2 else 1
        for axis in range(2, t.ndim):
            start = (t.shape[axis] - min(side, t.shape[axis])) // 2
            t = t.narrow(axis, start, min(side, t.shape[axis]))
        return t.detach().mean().item()

    found = fans(layer)
    if name != "3d":  # too small for a window away from the borders of its gradient
        assert middle(g) == pytest.approx(found.fan_out)
    assert middle(y) == pytest.approx(found.fan_in)


def test_the_papers_deviations():
    assert [round(initial_std(*fans(nn.Conv2d(c, c, 3))), 3) for c in (64, 128, 256, 512)] == [
        0.059,
        0.042,
        0.029,
        0.021,
    ]
    assert rectifier_gain(0.25) ** 2 == pytest.approx(2 / 1.0625)


def test_xavier_is_not_glorot():
    one = initial_std(100, 300, "xavier")
    assert one == pytest.approx(0.1)
    assert initial_std(100, 300, "xavier", mode="fan-out") == pytest.approx(300**-0.5)
    assert initial_std(100, 300, "glorot") == pytest.approx(math.sqrt(2 / 400))
    assert initial_std(100, 300, "glorot", mode="fan-out") == initial_std(100, 300, "glorot")
    assert initial_std(100, 300, "constant", std=0.3) == 0.3


@given(fan=st.integers(1, 10**6), slope=st.floats(-3, 3))
def test_he_keeps_the_mean_square(fan, slope):
    assert 0.5 * (1 + slope**2) * fan * initial_std(fan, 7, slope=slope) ** 2 == pytest.approx(1)
    assert 0.5 * (1 + slope**2) * fan * initial_std(7, fan, slope=slope, mode="fan-out") ** 2 == pytest.approx(1)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_draws_have_the_deviation_and_biases_are_zero(distribution):
    layer = nn.Conv2d(32, 48, 5, groups=2)
    initialise_weights(
        layer, slope=0.5, mode="fan-out", distribution=distribution, generator=torch.Generator().manual_seed(0)
    )
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 1.25 / (25 * 24)), rel=0.02)  # 19,200 draws
    assert layer.bias.abs().max() == 0
    kurtosis = (layer.weight**4).mean() / (layer.weight**2).mean() ** 2
    assert kurtosis.item() == pytest.approx(3 if distribution == "normal" else 1.8, rel=0.05)


@pytest.mark.parametrize(("scheme", "distribution"), [("he", "normal"), ("glorot", "uniform")])
def test_draws_are_those_of_the_vgg_rules(scheme, distribution):
    models = [nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Linear(5, 4)) for _ in "ab"]
    initialise_weights(models[0], scheme, distribution=distribution, generator=torch.Generator().manual_seed(1))
    initialise(models[1], scheme, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_agrees_with_torch_where_that_counts_right():
    layer = nn.Conv2d(6, 10, 3)
    for mode, theirs in (("fan-in", "fan_in"), ("fan-out", "fan_out")):
        initialise_weights(layer, slope=0.2, mode=mode, generator=torch.Generator().manual_seed(2))
        other = nn.init.kaiming_normal_(
            torch.empty_like(layer.weight), 0.2, theirs, generator=torch.Generator().manual_seed(2)
        )
        torch.testing.assert_close(layer.weight.data, other)


def test_draws_from_its_generator_alone():
    layer = nn.Linear(3, 3)
    before = torch.get_rng_state()
    initialise_weights(layer, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


def test_refuses(unchecked):
    assert fans(nn.Linear(2, 3)) == Fans(2, 3)
    with pytest.raises(TypeError, match="got ReLU"):
        fans(nn.ReLU())
    with pytest.raises(ValueError, match="slope must be finite, got inf"):
        rectifier_gain(math.inf)
    for arguments, message in (
        ({"scheme": "kaiming"}, "he, xavier, glorot, constant, got 'kaiming'"),
        ({"mode": "fan_in"}, "fan-in, fan-out, got 'fan_in'"),
        ({"std": -1.0}, r"std must be >= 0 and finite, got -1\.0"),
        ({"slope": math.nan}, "slope must be finite"),
        ({"distribution": "cauchy"}, "normal, uniform, got 'cauchy'"),
    ):
        with pytest.raises(ValueError, match=message):
            initialise_weights(nn.Linear(2, 2), **arguments)
    with pytest.raises(ValueError, match="fans must be > 0, got 0"):
        initial_std(0, 1)
    with pytest.raises(ValueError, match="neither a linear layer nor a convolution"):
        initialise_weights(nn.ReLU())
    with pytest.raises(TypeError, match="run the model once"):
        initialise_weights(nn.LazyLinear(3))
