import pytest
import torch
import torch.nn.functional as F
from torch import nn

from claimwise.explain import gradient_saliency, guided_backpropagation


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.dense = nn.Conv2d(1, 2, 3), nn.Linear(18, 4)

    def forward(self, x):
        return self.dense(torch.tanh(self.conv(x)).flatten(1)).softmax(1)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    model, x = Smooth().double(), torch.randn(2, 1, 5, 5, dtype=torch.float64)
    classes, step = torch.tensor([3, 1]), 1e-6
    found = gradient_saliency(model, classes, x)
    for i in range(2):
        for r in range(5):
            for c in range(5):
                ends = []
                for sign in (1, -1):
                    moved = x[i : i + 1].clone()
                    moved[0, 0, r, c] += sign * step
                    ends.append(float(model(moved)[0, classes[i]].detach()))
                assert float(found[i, 0, r, c]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_the_gradient_of_a_whole_map_is_that_of_its_sum():
    torch.manual_seed(0)
    model, x = Smooth().double(), torch.randn(2, 1, 5, 5, dtype=torch.float64)
    one = model.conv.weight[1, 0]
    expected = F.conv_transpose2d(torch.ones(1, 1, 3, 3, dtype=torch.float64), one[None, None]).expand(2, 1, 5, 5)
    torch.testing.assert_close(gradient_saliency(model, "conv", x, unit=1, position="all"), expected.detach())
    other = gradient_saliency(model, "conv", x, unit=1, position=(2, 0))
    assert torch.equal(other[1, 0, 2:5, 0:3], one.detach())
    assert other[1].count_nonzero() == 9


def test_guided_backpropagation_by_hand():
    """Springenberg et al., figure 1 b: a rectifier whose input is f, and what comes from above."""
    f = torch.tensor([[1.0, -1.0, 5.0], [2.0, -5.0, -7.0], [-3.0, 2.0, 4.0]])
    above = torch.tensor([[-2.0, 3.0, -1.0], [6.0, -3.0, 1.0], [2.0, -1.0, 3.0]])

    class Figure(nn.Module):
        def forward(self, x):
            return (F.relu(x) * above).sum((2, 3))

    found = guided_backpropagation(Figure(), 0, f[None, None])
    assert found[0, 0].tolist() == [[0.0, 0.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    plain = gradient_saliency(Figure(), 0, f[None, None])
    assert plain[0, 0].tolist() == [[-2.0, 0.0, -1.0], [6.0, 0.0, 0.0], [0.0, -1.0, 3.0]]


def test_without_a_rectifier_guided_backpropagation_is_the_gradient():
    torch.manual_seed(0)
    model, x = Smooth(), torch.randn(2, 1, 5, 5)
    assert torch.equal(guided_backpropagation(model, 2, x), gradient_saliency(model, 2, x))


def test_a_ceiling_stops_the_guided_signal():
    model = nn.Sequential(nn.Flatten(), nn.ReLU6(), nn.Linear(3, 1, bias=False))
    nn.init.ones_(model[2].weight)
    assert guided_backpropagation(model, 0, torch.tensor([[-1.0, 3.0, 7.0]])).tolist() == [[0.0, 1.0, 0.0]]
