import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from claimwise.layers import PReLU
from claimwise.vision import (
    PLAIN_CONFIGURATIONS,
    PlainConfiguration,
    SpatialPyramidPooling,
    parameter_counts,
    plain_rectifier_network,
)

WEIGHTED = (nn.Conv2d, nn.Linear)
TINY = PlainConfiguration((3, 4, 1), 1, ((4, 2), (6, 2)), 3, bins=(), hidden=(5,))


@pytest.mark.parametrize(("name", "layers"), [("E", 14), ("E-30", 30), ("A", 19), ("B", 22), ("C", 22)])
def test_layers_of_the_paper(name, layers):
    model = plain_rectifier_network(name, device="meta")
    assert sum(isinstance(layer, WEIGHTED) for layer in model) == layers == PLAIN_CONFIGURATIONS[name].layers
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


def test_thirty_layers_are_27_convolutions_and_3_others():
    model = plain_rectifier_network("E-30", device="meta")
    assert sum(isinstance(layer, nn.Conv2d) for layer in model) == 27
    added = [layer for layer in model if isinstance(layer, nn.Conv2d) and layer.out_channels == 256]
    fewer = [layer for layer in plain_rectifier_network("E", device="meta") if isinstance(layer, nn.Conv2d)]
    assert len(added) - sum(layer.out_channels == 256 for layer in fewer) == 16


def test_table_1_channels_kernels_and_parameters():
    model = plain_rectifier_network("E", device="meta")
    shapes = [tuple(layer.weight.shape) for layer in model if isinstance(layer, nn.Conv2d)]
    assert shapes == [
        (64, 3, 7, 7),
        (128, 64, 2, 2),
        *[(128, 128, 2, 2)] * 3,
        (256, 128, 2, 2),
        *[(256, 256, 2, 2)] * 5,
    ]
    dense = [layer.in_features for layer in model if isinstance(layer, nn.Linear)]
    assert dense == [256 * (36 + 9 + 4 + 1), 4096, 4096]


def test_slopes_of_table_1_are_13_or_one_a_channel():
    plain, shared, wise = (
        parameter_counts(plain_rectifier_network("E", rectifier=r, device="meta")).total
        for r in ("relu", "prelu-shared", "prelu")
    )
    assert shared - plain == 13
    assert wise - plain == 64 + 4 * 128 + 6 * 256 + 2 * 4096


@pytest.mark.parametrize("side", [1, 2, 5, 7])
def test_pyramid_against_loops(side):
    torch.manual_seed(0)
    x = torch.randn(2, 3, side, side + 1, dtype=torch.float64)
    found = SpatialPyramidPooling((4, 3, 1))(x)
    rows = []
    for image in x:
        row = []
        for b in (4, 3, 1):
            for channel in image:
                for i in range(b):
                    for j in range(b):
                        top, bottom = math.floor(i * side / b), math.ceil((i + 1) * side / b)
                        left, right = math.floor(j * (side + 1) / b), math.ceil((j + 1) * (side + 1) / b)
                        row.append(max(channel[top:bottom, left:right].flatten().tolist()))
        rows.append(row)
    assert found.tolist() == rows


def test_any_image_size_gives_one_length_with_a_pyramid():
    model = plain_rectifier_network("B", width=1 / 64, image_size=64, classes=3).eval()
    for side in (33, 64, 90):
        assert model(torch.randn(1, 3, side, side)).shape == (1, 3)


@pytest.mark.parametrize("size", [28, 31, 33])
@pytest.mark.parametrize("kernel", [2, 3])
def test_flattened_maps_have_the_counted_size(size, kernel):
    configuration = replace(TINY, kernel=kernel, stages=((4, 3), (6, 2)), first=(7, 4, 2), first_pool=3)
    model = plain_rectifier_network(configuration, image_size=size, channels=1, classes=3)
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_even_kernels_move_maps_to_neither_side():
    """A point in the middle is seen as far to the left as to the right after an even number of convolutions."""
    configuration = PlainConfiguration((1, 1, 1), 1, ((1, 4),), 2, bins=(), hidden=())
    convolutions = plain_rectifier_network(configuration, image_size=15, channels=1, classes=1)[:10].double()
    for layer in convolutions[::2]:
        nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    x[0, 0, 7, 7] = 1
    seen = convolutions(x)[0, 0]
    assert seen.shape == (15, 15)
    assert torch.equal(seen, seen.flip(0))
    assert torch.equal(seen, seen.flip(1))


def test_rectifiers_slopes_and_deviations():
    model = plain_rectifier_network(
        "E", width=0.25, rectifier="prelu", slope=0.5, generator=torch.Generator().manual_seed(0)
    )
    assert [m.init for m in model if isinstance(m, PReLU)] == [0.5] * 13
    layer = [m for m in model if isinstance(m, nn.Conv2d)][-1]
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 1.25 / (4 * 64)), rel=0.02)
    leaky = plain_rectifier_network(TINY, image_size=8, rectifier="leaky", slope=0.1)
    assert [m.negative_slope for m in leaky if isinstance(m, nn.LeakyReLU)] == [0.1] * 6
    assert not any(isinstance(m, nn.Dropout) for m in plain_rectifier_network(TINY, image_size=8, dropout=0.0))


def test_generator_alone_decides_the_weights():
    a, b = (
        plain_rectifier_network(TINY, image_size=8, initialisation="xavier", generator=torch.Generator().manual_seed(3))
        for _ in "ab"
    )
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.usefixtures("unchecked")  # a compiler cannot look through run-time type checks
def test_survives_what_modules_must_survive():
    configuration = replace(TINY, bins=(2, 1))
    model = plain_rectifier_network(configuration, image_size=8, rectifier="prelu", classes=3).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    twin = copy.deepcopy(model)
    other = plain_rectifier_network(configuration, image_size=8, rectifier="prelu", classes=3).double().eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))
    assert torch.equal(other(x), model(x))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.float()(x.float()).isfinite().all()


def test_refuses(unchecked):
    for arguments, message in (
        ({"configuration": "D"}, "E, E-30, A, B, C or a PlainConfiguration, got 'D'"),
        ({"rectifier": "elu"}, "got 'elu'"),
        ({"width": 0.0}, "width must be > 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"image_size": 5}, "5 pixels is too small"),
        ({"configuration": replace(TINY, hidden=(0,))}, "hidden must be at least 1"),
        ({"configuration": replace(TINY, stages=((4, 0),))}, "stages must be at least 1"),
        ({"initialisation": "he-uniform"}, "scheme must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            plain_rectifier_network(**arguments)
    for bins in ((), (2, 0)):
        with pytest.raises(ValueError, match="SpatialPyramidPooling: bins"):
            SpatialPyramidPooling(bins)
