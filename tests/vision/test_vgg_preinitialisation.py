"""Tests of :mod:`claimwise.vision.vgg_preinitialisation`."""

import pytest
import torch
from torch import nn

from claimwise.vision import VGG, preinitialise


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
