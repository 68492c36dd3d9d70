import copy
import math

import pytest
import torch
from torch import nn

from claimwise.explain import correspondence


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(27, 6)
    ).double()


def parts_of(batch):
    torch.manual_seed(1)
    corners = torch.randint(0, 5, (2, batch, 2))
    return torch.cat([corners, torch.randint(1, 4, (2, batch, 2))], 2)


def slow_correspondence(model, layer, x, parts, fill):
    """Pair by pair, feature by feature, over ordered pairs as the paper writes it."""
    model = copy.deepcopy(model).eval()[: layer + 1]
    result = []
    for part in parts.tolist():
        signs = []
        for image, (top, left, height, width) in zip(x, part, strict=True):
            hidden = image.clone()
            for h in range(top, top + height):
                for w in range(left, left + width):
                    hidden[:, h, w] = fill
            change = (model(image[None].clone()) - model(hidden[None])).flatten().tolist()
            signs.append([0 if c == 0 else math.copysign(1, c) for c in change])
        total = sum(
            sum(a != b for a, b in zip(signs[i], signs[j], strict=True)) / len(signs[i])
            for i in range(len(x))
            for j in range(len(x))
            if i != j
        )
        result.append(total / (len(x) * (len(x) - 1)))
    return torch.tensor(result, dtype=torch.float64)


def test_equals_the_slow_twin():
    model, x, parts = network(), torch.randn(4, 2, 8, 8, dtype=torch.float64), parts_of(4)
    found = correspondence(model, ["0", "1", "5"], x, parts, fill=0.25)
    assert found.layers == ("0", "1", "5")
    for row, layer in enumerate((0, 1, 5)):
        with torch.no_grad():
            expected = slow_correspondence(model, layer, x, parts, 0.25)
        assert (found.mean[row] - expected).abs().max() < 1e-12
    assert found.distances.shape == (3, 2, 6)
    assert torch.allclose(found.spread, found.distances.std(2))


def test_equal_images_with_equal_parts_correspond_fully():
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64).repeat(3, 1, 1, 1)
    parts = torch.tensor([[[1, 2, 3, 4]] * 3])
    assert correspondence(network(), "5", x, parts).mean.item() == 0


def test_opposite_changes_do_not_correspond_at_all():
    x = torch.stack([torch.ones(1, 2, 2), -torch.ones(1, 2, 2)])
    found = correspondence(nn.Identity(), "", x, torch.tensor([[[0, 0, 2, 2]] * 2]))
    assert found.mean.item() == 1
    assert math.isnan(found.spread.item())  # one pair has no spread


def test_leaves_the_model_as_it_was():
    model, x = network(), torch.randn(4, 2, 8, 8, dtype=torch.float64)
    kept = x.clone()
    correspondence(model, "1", x, parts_of(4))
    assert all(module.training for module in model.modules())
    assert torch.equal(x, kept)


BAD = [
    ({"layers": "nowhere"}, ValueError, "no layer 'nowhere'"),
    ({"x": torch.zeros(1, 2, 8, 8), "parts": torch.zeros(1, 1, 4).long()}, ValueError, "at least two images"),
    ({"x": torch.full((4, 2, 8, 8), math.nan).double()}, ValueError, "finite, got NaN"),
    ({"parts": torch.zeros(2, 4, 4)}, TypeError, "tensor of integers"),
    ({"parts": torch.zeros(2, 3, 4).long()}, ValueError, "one rectangle an image"),
    ({"parts": torch.zeros(1, 4, 4).long()}, ValueError, "must lie in the image of 8 x 8"),
    ({"parts": torch.tensor([[[0, 6, 2, 3]] * 4])}, ValueError, "left 6, height 2, width 3"),
    ({"parts": torch.tensor([[[-1, 0, 2, 3]] * 4])}, ValueError, "top -1"),
    ({"fill": math.inf}, ValueError, "correspondence: fill must be finite"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_refuses_bad_input_in_one_clear_error(wrong, error, message):
    given = {"layers": "1", "x": torch.zeros(4, 2, 8, 8, dtype=torch.float64), "parts": parts_of(4)} | wrong
    with pytest.raises(error, match=message):
        correspondence(network(), **given)
