from math import sqrt

import pytest
import torch
from torch import nn

from claimwise.vision import INITIALISATIONS, VGG, initialise, preinitialise


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


def network(name, **settings):
    settings = {"width": 1 / 32, "image_size": 16, "pools": 3, "classes": 4} | settings
    model = VGG(name, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_()
    return model


# where conv1-1, conv2-1, conv3-1, conv3-2 of A are in the deeper network's features
@pytest.mark.parametrize(
    ("name", "places"), [("B", (0, 5, 10, 12)), ("C", (0, 5, 10, 12)), ("D", (0, 5, 10, 12)), ("E", (0, 5, 10, 12))]
)
def test_preinitialise_copies_four_convolutions_and_the_fc_layers(name, places):
    shallow, deep = network("A"), network(name)
    before = {key: value.clone() for key, value in deep.state_dict().items()}
    preinitialise(deep, shallow)
    copied = set()
    for source, target in zip((0, 3, 6, 8), places, strict=True):
        for kind in ("weight", "bias"):
            copied.add(f"features.{target}.{kind}")
            assert torch.equal(getattr(deep.features[target], kind), getattr(shallow.features[source], kind))
    for index in (0, 3, 6):
        for kind in ("weight", "bias"):
            copied.add(f"classifier.{index}.{kind}")
            assert torch.equal(getattr(deep.classifier[index], kind), getattr(shallow.classifier[index], kind))
    for key, value in deep.state_dict().items():
        assert torch.equal(value, before[key]) == (key not in copied)


def test_preinitialise_copies_and_does_not_share():
    shallow, deep = network("A"), network("D")
    preinitialise(deep, shallow)
    shallow.features[0].weight.data.fill_(7.0)
    assert not (deep.features[0].weight == 7).any()


def test_preinitialise_refuses_other_shapes_and_copies_nothing_then():
    deep = network("D")
    before = [p.clone() for p in deep.parameters()]
    with pytest.raises(
        ValueError, match=r"preinitialise: FC layer 3 has shape \(5, 128\) in the shallow network and \(4, 128\)"
    ):
        preinitialise(deep, network("A", classes=5))
    with pytest.raises(ValueError, match="preinitialise: conv1-1"):
        preinitialise(network("B-5x5"), network("A"))
    with pytest.raises(ValueError, match=r"preinitialise: conv3-2.*nothing in the deeper"):
        preinitialise(network("B-5x5"), _shapes_of_5x5())
    assert all(torch.equal(a, b) for a, b in zip(before, deep.parameters(), strict=True))


def _shapes_of_5x5():
    """A, but with kernels of 5, so that the first difference is a layer that B-5x5 has not got."""
    model = network("A")
    for index in (0, 3, 6):
        layer = model.features[index]
        model.features[index] = nn.Conv2d(layer.in_channels, layer.out_channels, 5, padding=2)
    return model
