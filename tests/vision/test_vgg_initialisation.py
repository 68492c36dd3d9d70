from math import sqrt

import pytest
import torch
from torch import nn

from claimwise.vision import INITIALISATIONS, VGG, initialise


def layers():
    return [nn.Conv2d(30, 60, 3), nn.Linear(300, 200), nn.Conv2d(30, 60, 3, groups=3)]


def fans(layer):
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    area = 9
    return layer.in_channels // layer.groups * area, layer.out_channels // layer.groups * area


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(
    ("rule", "deviation", "bound"),
    [
        ("variance 0.01", lambda i, o: 0.1, None),
        ("std 0.01", lambda i, o: 0.01, None),
        ("glorot", lambda i, o: sqrt(2 / (i + o)), lambda i, o: sqrt(6 / (i + o))),
        ("he", lambda i, o: sqrt(2 / i), None),
    ],
)
def test_deviation_is_the_rules(rule, deviation, bound, index):
    layer = layers()[index]
    initialise(layer, rule, generator=torch.Generator().manual_seed(0))
    weight = layer.weight.detach()
    expected = deviation(*fans(layer))
    # standard error of a deviation is sigma / sqrt(2 n) at most; 4 of them
    assert abs(weight.std().item() - expected) < 4 * expected / sqrt(2 * weight.numel())
    assert abs(weight.mean().item()) < 4 * expected / sqrt(weight.numel())
    assert not layer.bias.any()
    if bound:
        assert 0.99 * bound(*fans(layer)) < weight.abs().max() <= bound(*fans(layer))
    else:
        assert weight.abs().max() > 3 * expected  # normal, not uniform


def test_variance_is_not_deviation():
    torch.manual_seed(0)
    ratio = [
        VGG("A", width=1 / 8, image_size=32, initialisation=name).features[0].weight.std() for name in INITIALISATIONS
    ]
    assert 7 < ratio[0] / ratio[1] < 13


def test_leaves_other_layers_alone_and_needs_no_bias():
    norm, bare = nn.BatchNorm2d(3), nn.Linear(3, 3, bias=False)
    norm.weight.data.fill_(5.0)
    initialise(nn.Sequential(norm, bare), "he")
    assert (norm.weight == 5).all()


def test_the_global_generator_serves_by_default():
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        layer = nn.Linear(4, 4)
        initialise(layer, "he")
        values.append(layer.weight.detach().clone())
    assert torch.equal(*values)


def test_refuses_an_unknown_rule():
    with pytest.raises(ValueError, match=r"initialise: initialisation must be one of .*glorot, he, got 'xavier'"):
        initialise(nn.Linear(2, 2), "xavier")
