import pytest
import torch
from torch import nn

from claimwise.layers import shift_consistency, shifted

SHIFTS = [(0, 0), (0, 1), (-2, 1)]


@pytest.mark.parametrize("boundary", ["zero", "circular", "replicate"])
@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, -1), (-3, 2), (9, 0)])
def test_shifting_against_loops(boundary, down, right):
    x = torch.arange(20.0).reshape(4, 5)
    found = shifted(x, down, right, boundary=boundary)
    for i in range(4):
        for j in range(5):
            a, b = i - down, j - right
            if boundary == "circular":
                wanted = x[a % 4, b % 5]
            elif boundary == "replicate":
                wanted = x[min(max(a, 0), 3), min(max(b, 0), 4)]
            else:
                wanted = x[a, b] if 0 <= a < 4 and 0 <= b < 5 else 0.0
            assert float(found[i, j]) == float(wanted)


def test_counts_against_loops():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x, y = torch.randn(50, 1, 6, 6), torch.randint(0, 3, (50,))
    found = shift_consistency(model, x, SHIFTS, y=y, batch_size=7)
    for k, (down, right) in enumerate(SHIFTS):
        before, after = (model(images).argmax(1) for images in (x, shifted(x, down, right)))
        assert int(found.same[k]) == sum(int(a == b) for a, b in zip(before, after, strict=True))
        assert int(found.right[k]) == sum(int(a == b) for a, b in zip(after, y, strict=True))
    assert found.same[0] == 50
    assert found.consistency == pytest.approx(int(found.same.sum()) / 150)
    assert found.accuracy == pytest.approx(int(found.right.sum()) / 150)


def test_global_average_of_a_ring_convolution_is_consistent():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(4, 3)).double()
    x = torch.randn(40, 1, 8, 8, dtype=torch.float64)
    assert shift_consistency(model, x, SHIFTS, boundary="circular").consistency == 1


def test_leaves_the_model_alone():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shift_consistency(model, torch.randn(5, 1, 4, 4), SHIFTS)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("x", "shifts", "options", "message"),
    [
        (torch.zeros(2, 4), SHIFTS, {}, "images"),
        (torch.zeros(0, 4, 4), SHIFTS, {}, "examples and shifts"),
        (torch.zeros(2, 4, 4), [], {}, "examples and shifts"),
        (torch.zeros(2, 4, 4), SHIFTS, {"batch_size": 0}, "batch_size"),
        (torch.zeros(2, 4, 4), SHIFTS, {"boundary": "wrap"}, "boundary"),
        (torch.zeros(2, 4, 4), SHIFTS, {"y": torch.tensor([0, 4])}, "labels"),
        (torch.full((2, 4, 4), float("nan")), SHIFTS, {}, "finite"),
    ],
)
def test_refuses(unchecked, x, shifts, options, message):
    with pytest.raises(ValueError, match=message):
        shift_consistency(lambda x: x.flatten(1)[:, :4], x, shifts, **options)
