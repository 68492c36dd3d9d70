import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from claimwise.explain import deconvnet, strongest_activations
from claimwise.vision import ReceptiveField, SqueezeNet, receptive_field


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.pool, self.conv2 = (
            nn.Conv2d(2, 3, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, padding=1),
        )
        self.dense = nn.Linear(4 * 36, 5)

    def forward(self, x):
        x = F.relu(self.conv2(self.pool(F.relu(self.conv1(x)))))
        return self.dense(x.flatten(1))


def problem(seed=0, images=11):
    torch.manual_seed(seed)
    return Net().double(), torch.randn(images, 2, 12, 12, dtype=torch.float64)


def cut(image, corner, size):
    patch = torch.zeros(image.shape[0], size, size, dtype=image.dtype)
    for r in range(size):
        for c in range(size):
            row, column = corner[0] + r, corner[1] + c
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                patch[:, r, c] = image[:, row, column]
    return patch


def test_equals_the_slow_twin():
    model, x = problem()
    found = strongest_activations(model, "conv2", x, k=4, batch_size=3)
    assert found.patches.shape == (4, 4, 2, 8, 8)  # conv2's 3x3 on the pooled map: 3 * 2 + 2 pixels
    with torch.no_grad():
        maps = model.conv2(model.pool(model.conv1(x).relu()))
    for m in range(4):
        ranked = sorted(((float(maps[i, m].max()), i) for i in range(len(x))), reverse=True)[:4]
        for j, (value, i) in enumerate(ranked):
            place = divmod(int(maps[i, m].argmax()), 6)
            corner = (2 * (place[0] - 1) - 1, 2 * (place[1] - 1) - 1)
            assert found.values[m, j] == pytest.approx(value, rel=1e-9)
            assert int(found.images[m, j]) == i
            assert tuple(found.positions[m, j].tolist()) == place
            assert tuple(found.corners[m, j].tolist()) == corner
            assert torch.equal(found.patches[m, j], cut(x[i], corner, 8))
            whole = deconvnet(model, "conv2", x[i : i + 1], unit=m, position=place)[0]
            torch.testing.assert_close(found.reconstructions[m, j], cut(whole, corner, 8))
            # nothing of the reconstruction lies outside of the patch
            torch.testing.assert_close(found.reconstructions[m, j].abs().sum(), whole.abs().sum())
    assert found.units.tolist() == [0, 1, 2, 3]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 50), batch_size=st.integers(1, 12), k=st.integers(1, 6))
def test_batches_do_not_matter(seed, batch_size, k):
    model, x = problem(seed)
    field = ReceptiveField((8, 8), (2.0, 2.0), (0.5, 0.5), (False, False))  # as computed above; that takes a while
    whole = strongest_activations(model, model.conv2, x, k=k, reconstruct=False, field=field)
    assert whole.reconstructions is None
    pairs = [(part, torch.zeros(len(part))) for part in x.split(batch_size)]
    for other in (
        strongest_activations(model, "conv2", x, k=k, batch_size=batch_size, field=field),
        strongest_activations(model, "conv2", iter(pairs), k=k, reconstruct=False, field=field),
    ):
        torch.testing.assert_close(other.values, whole.values)
        for part in ("images", "positions", "corners", "patches"):
            assert torch.equal(getattr(other, part), getattr(whole, part))


def test_of_equal_activations_the_earlier_image_leads():
    model, x = problem(images=1)
    found = strongest_activations(model, "conv1", x.repeat(7, 1, 1, 1), k=3, batch_size=2)
    assert (found.images == torch.arange(3)).all()


def test_some_units_only():
    model, x = problem()
    everything = strongest_activations(model, "conv2", x, k=2)
    some = strongest_activations(model, "conv2", x, k=2, units=[3, 1])
    assert some.units.tolist() == [3, 1]
    for part in ("values", "images", "positions", "patches", "reconstructions"):
        torch.testing.assert_close(getattr(some, part), getattr(everything, part)[[3, 1]])


def test_a_dense_unit_sees_the_whole_image():
    model, x = problem()
    found = strongest_activations(model, "dense", x, k=2)
    assert found.positions.shape == (5, 2, 0)
    assert not found.corners.any()
    assert torch.equal(found.images, model(x).topk(2, 0).indices.T)
    assert torch.equal(found.patches, x[found.images])
    for m in range(5):
        torch.testing.assert_close(found.reconstructions[m], deconvnet(model, m, x[found.images[m]]))


def test_a_network_that_is_no_stack():
    torch.manual_seed(0)
    model, x = SqueezeNet(4).eval(), torch.rand(3, 3, 64, 64)
    field = receptive_field(model, (3, 64, 64), layer="fire2.expand3x3")
    assert not any(field.clipped)
    found = strongest_activations(model, "fire2.expand3x3", x, k=2, units=[0, 5])
    assert found.patches.shape[-2:] == field.size
    unit = found.reconstructions[0, 0]
    whole = deconvnet(model, "fire2.expand3x3", x[found.images[0, :1]], unit=0)
    torch.testing.assert_close(unit.abs().sum(), whole.abs().sum())
    assert strongest_activations(model, "conv10", x, k=1, units=[0]).patches.shape[-2:] == (64, 64)  # clipped


def test_one_of_several_calls_with_a_field_of_ones_own():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(self.relu(self.conv(x))))

    torch.manual_seed(0)
    model, x = Again(), torch.rand(4, 1, 9, 9)
    with pytest.raises(ValueError, match="give its receptive field with field="):
        strongest_activations(model, "relu", x, k=1, call=0)
    field = ReceptiveField((3, 3), (1.0, 1.0), (0.0, 0.0), (False, False))
    found = strongest_activations(model, "relu", x, k=1, call=0, field=field)
    image, (row, column) = int(found.images), found.positions[0, 0].tolist()
    assert torch.equal(found.patches[0, 0], cut(x[image], (row - 1, column - 1), 3))


def test_signals_of_one_dimension():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv1d(1, 2, 4), nn.ReLU(), nn.MaxPool1d(2)), torch.randn(5, 1, 20)
    found = strongest_activations(model, "2", x, k=2)
    assert found.patches.shape == (2, 2, 1, 5)
    best = int(found.images[1, 0]), int(found.corners[1, 0, 0])
    assert torch.equal(found.patches[1, 0, 0], x[best[0], 0, best[1] : best[1] + 5])


def test_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout())
    x, state = torch.randn(3, 1, 5, 5), copy.deepcopy(model.state_dict())
    draws = torch.random.get_rng_state()
    strongest_activations(model, "3", x, k=1)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(part.training for part in model.modules())
    assert torch.equal(draws, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("layer", "change", "how", "error", "message"),
    [
        ("conv9", None, {}, ValueError, "no layer 'conv9'; nearest"),
        ("conv2", None, {"k": 0}, ValueError, "strongest_activations: k must be >= 1, got 0"),
        ("conv2", None, {"k": 12}, ValueError, "k=12 activations a map need as many images, got 11"),
        ("conv2", None, {"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ("conv2", None, {"units": [0, 4, -1]}, ValueError, r"units must be some of 0..3, got \[4, -1\]"),
        ("conv2", None, {"units": []}, ValueError, "got none"),
        ("conv2", lambda x: x[:0], {}, ValueError, "need as many images, got 0"),
        ("conv2", lambda x: [], {}, ValueError, "need as many images, got 0"),
        ("conv2", lambda x: x.long(), {}, TypeError, "must be floating point"),
        ("conv2", lambda x: x * float("nan"), {}, ValueError, "x must be finite"),
        ("conv2", lambda x: [x[:2], x[2:4] * float("inf")], {}, ValueError, "x must be finite"),
        ("conv2", None, {"field": ReceptiveField((3,), (1.0,), (0.0,), (False,))}, ValueError, "must have the dim"),
    ],
)
def test_refuses(layer, change, how, error, message):
    model, x = problem()
    with pytest.raises(error, match=message):
        strongest_activations(model, layer, change(x) if change else x, **({"k": 1} | how))


def test_refuses_activations_that_are_not_finite():
    model, x = problem()
    model.conv2.bias.data[1] = float("nan")
    with pytest.raises(ValueError, match="activations must be finite"):
        strongest_activations(model, "conv2", x, k=1)
