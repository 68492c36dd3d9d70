import pytest
import torch
from torch.nn import functional as F

from claimwise.layers import LocallyConnected2d


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_against_loops(stride, padding):
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 3, (6, 5), 3, stride=stride, padding=padding).double()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    found = layer(x)
    wide = F.pad(x, [padding] * 4)
    height, width = layer.output_size
    assert found.shape == (2, 3, height, width)
    for i in range(height):
        for j in range(width):
            window = wide[:, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
            for o in range(3):
                weight = layer.weight[i * width + j, o].reshape(2, 3, 3)
                wanted = (window * weight).sum((1, 2, 3)) + layer.bias[o, i, j]
                torch.testing.assert_close(found[:, o, i, j], wanted)


def test_equal_kernels_make_a_convolution():
    layer = LocallyConnected2d(3, 4, (8, 9), 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight[:] = layer.weight[:1]
    x = torch.randn(2, 3, 8, 9)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight[0].reshape(4, 3, 3, 3), padding=1))


def test_parameters():
    layer = LocallyConnected2d(3, 4, (10, 12), 5)
    assert sum(p.numel() for p in layer.parameters()) == 6 * 8 * 4 * (3 * 25 + 1)


def test_gradients():
    layer = LocallyConnected2d(1, 2, (4, 4), 2, stride=2).double()
    assert torch.autograd.gradcheck(layer, torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 1, (4, 4), 2), {}, "in_channels"),
        ((1, 1, (4, 4), 5), {}, "kernel"),
        ((1, 1, (4, 4), 2), {"stride": 0}, "stride"),
        ((1, 1, (4, 4), 2), {"padding": -1}, "padding"),
    ],
)
def test_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        LocallyConnected2d(*arguments, **options)


def test_refuses_another_image():
    with pytest.raises(ValueError, match="input must be"):
        LocallyConnected2d(1, 1, (4, 4), 2)(torch.zeros(1, 1, 5, 4))
