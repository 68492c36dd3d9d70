import pytest
import torch
from torch import nn

from claimwise.layers import HighwayConv2d, HighwayStack, count_highway_layers, gates, routing
from claimwise.vision import (
    convolutional_highway_network,
    convolutional_plain_network,
    highway_network,
    parameter_counts,
    plain_network,
)


def test_parameters_a_layer_are_matched_as_in_the_paper():
    # Section 3.1: "each block had approximately 5000 parameters".
    plain, highway = plain_network(784, 10, 10), highway_network(784, 10, 10)
    assert [layer.total for layer in parameter_counts(plain).layers] == [785 * 71, *[5112] * 9, 720]
    assert [layer.total for layer in parameter_counts(highway).layers] == [785 * 50, 9 * 5100, 510]


@pytest.mark.parametrize(("width", "parameters"), [(16, 38_730), (32, 151_178)])
def test_parameters_of_table_1(width, parameters):
    # The paper prints 39 K and 151 K, of 10 layers with the softmax.
    model = convolutional_highway_network([(width, 3)] * 3)
    assert parameter_counts(model).total == parameters
    layers = [module for module in model if isinstance(module, (nn.Conv2d, nn.Linear, HighwayConv2d))]
    assert len(layers) == 10
    assert count_highway_layers(model) == 8


def slow_highway(model, x):
    """The formulas, layer by layer."""
    first, stack, last = model[1], model[3], model[4]
    f = torch.relu if stack.activation == "relu" else torch.tanh
    x = f(x.flatten(1) @ first.weight.T + first.bias)
    width = x.shape[1]
    for weight, bias in zip(stack.weight, stack.bias, strict=True):
        h, t = f(x @ weight[:width].T + bias[:width]), torch.sigmoid(x @ weight[width:].T + bias[width:])
        x = h * t + x * (1 - t)
    return x @ last.weight.T + last.bias


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_networks_equal_their_formulas(activation):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    model = highway_network(6, 4, 5, width=3, activation=activation).double()
    assert torch.allclose(model(x), slow_highway(model, x), rtol=1e-12)
    assert gates(model, x).shape == (4, 3, 3)
    plain = plain_network(6, 4, 3, width=5, activation=activation).double()
    y = x.flatten(1)
    linear = [module for module in plain if isinstance(module, nn.Linear)]
    for layer in linear[:-1]:
        y = getattr(torch, activation)(layer(y))
    assert torch.allclose(plain(x), linear[-1](y), rtol=1e-12)
    assert len(linear) == 4


def test_initial_weights_keep_the_signal_of_a_plain_network():
    generator = torch.Generator().manual_seed(0)
    model = plain_network(400, 10, 8, width=400, generator=generator)
    for layer in model:
        if isinstance(layer, nn.Linear) and layer.out_features == 400:
            assert layer.weight.var().item() == pytest.approx(2 / 400, rel=0.03)
            assert layer.bias.eq(0).all()
    tanh = plain_network(400, 10, 2, width=400, activation="tanh", generator=generator)
    assert tanh[3].weight.var().item() == pytest.approx(1 / 400, rel=0.03)


def test_gates_start_where_told():
    model = highway_network(8, 3, 4, width=5, gate_bias=-7.0)
    assert isinstance(model[3], HighwayStack)
    assert model[3].bias[:, 5:].eq(-7).all()
    convolutional = convolutional_highway_network([(4, 2), (6, 2)], gate_bias=-4.0)
    for layer in convolutional:
        if isinstance(layer, HighwayConv2d):
            assert layer.bias[layer.channels :].eq(-4).all()


def test_blocks_change_width_by_a_plain_layer_and_halve_the_image():
    x = torch.randn(2, 3, 16, 16)
    model = convolutional_highway_network([(4, 3), (6, 2)], 5, in_channels=3, image_size=16, dropout=0.3)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == [
        *("Conv2d", "ReLU", "HighwayConv2d", "HighwayConv2d", "MaxPool2d", "Dropout"),
        *("Conv2d", "ReLU", "HighwayConv2d", "MaxPool2d", "Dropout", "Flatten", "Linear"),
    ]
    assert model(x).shape == (2, 5)
    assert [tuple(gate.shape) for gate in routing(model, x).gates] == [(2, 4, 16, 16)] * 2 + [(2, 6, 8, 8)]
    plain = convolutional_plain_network([(4, 3), (6, 2)], 5, in_channels=3, image_size=16)
    assert [type(layer).__name__ for layer in plain].count("Conv2d") == 5
    assert plain(x).shape == (2, 5)


def test_equal_generators_give_equal_networks():
    for make in (
        lambda g: plain_network(8, 3, 4, generator=g),
        lambda g: highway_network(8, 3, 4, generator=g),
        lambda g: convolutional_highway_network([(4, 3)], generator=g),
    ):
        one, other = (make(torch.Generator().manual_seed(5)).state_dict() for _ in range(2))
        assert all(value.equal(other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plain_network(8, 3, 0), "plain_network: depth must be at least 1, got 0"),
        (lambda: highway_network(8, 3, 1), "highway_network: depth must be at least 2"),
        (lambda: highway_network(8, 3, 4, gate_bias=float("nan")), "gate_bias must be finite, got nan"),
        (lambda: highway_network(8, 3, 4, width=0), "width must be at least 1, got 0"),
        (lambda: convolutional_highway_network([]), "blocks must name at least one block"),
        (lambda: convolutional_highway_network([(4, 0)]), "layers must be at least 1, got 0"),
        (lambda: convolutional_highway_network([(4, 1)] * 6), "28 pixels cannot be halved 6 times"),
        (lambda: convolutional_plain_network([(4, 1)], dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_forms_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
