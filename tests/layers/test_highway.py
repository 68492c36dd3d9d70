import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from claimwise.layers import (
    Highway,
    HighwayConv2d,
    HighwayLinear,
    HighwayStack,
    count_highway_layers,
    gates,
    lesioned,
    routing,
)

DOUBLE = {"dtype": torch.float64}


def spread_(layer):
    """Parameters of any size, so that neither biases nor gates are at their start."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.7)
    return layer


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def slow_units(values, x, activation, free):
    """One position's outputs by the formula, unit by unit; values: affine map's output, H then T then C."""
    n = len(x)
    f = {"relu": lambda z: max(z, 0.0), "tanh": math.tanh}[activation]
    out = []
    for i in range(n):
        t = sigmoid(values[n + i])
        c = sigmoid(values[2 * n + i]) if free else 1 - t
        out.append(f(values[i]) * t + x[i] * c)
    return out


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("carry", ["coupled", "free"])
def test_fully_connected_equals_explicit_loops(activation, carry):
    torch.manual_seed(0)
    layer = spread_(HighwayLinear(4, activation=activation, carry=carry, **DOUBLE))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    x = torch.randn(2, 3, 4, **DOUBLE)
    slow = np.empty(x.shape)
    for i in range(2):
        for j in range(3):
            row = x[i, j].tolist()
            values = [sum(weight[r, k] * row[k] for k in range(4)) + bias[r] for r in range(len(weight))]
            slow[i, j] = slow_units(values, row, activation, carry == "free")
    assert np.allclose(layer(x).detach(), slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("carry", ["coupled", "free"])
def test_convolution_equals_explicit_loops(carry):
    torch.manual_seed(0)
    layer = spread_(HighwayConv2d(2, 3, activation="tanh", carry=carry, **DOUBLE))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    x = torch.randn(1, 2, 4, 5, **DOUBLE)
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    slow = np.empty(x.shape)
    for r in range(4):
        for c in range(5):
            values = [(weight[k] * padded[:, r : r + 3, c : c + 3]).sum() + bias[k] for k in range(len(weight))]
            slow[0, :, r, c] = slow_units(values, x[0, :, r, c].tolist(), "tanh", carry == "free")
    assert np.allclose(layer(x).detach(), slow, rtol=1e-12, atol=1e-12)


def test_any_transform_equals_the_fused_layer():
    torch.manual_seed(0)
    fused = spread_(HighwayLinear(5, activation="tanh", carry="free", **DOUBLE))
    linear = partial(nn.Linear, 5, 5, **DOUBLE)
    transform, gate, carry = (linear() for _ in range(3))
    with torch.no_grad():
        for part, module in enumerate((transform, gate, carry)):
            module.weight.copy_(fused.weight[5 * part : 5 * part + 5])
            module.bias.copy_(fused.bias[5 * part : 5 * part + 5])
    x = torch.randn(7, 5, **DOUBLE)
    layer = Highway(nn.Sequential(transform, nn.Tanh()), gate, carry_gate=carry, gate_bias=None)
    assert torch.allclose(layer(x), fused(x), rtol=1e-12)
    coupled = spread_(HighwayLinear(5, activation="tanh", **DOUBLE))
    with torch.no_grad():
        for part, module in enumerate((transform, gate)):
            module.weight.copy_(coupled.weight[5 * part : 5 * part + 5])
            module.bias.copy_(coupled.bias[5 * part : 5 * part + 5])
    layer = Highway(nn.Sequential(transform, nn.Tanh()), gate, gate_bias=None)
    assert torch.allclose(layer(x), coupled(x), rtol=1e-12)


def test_a_factory_makes_fresh_modules_and_gates_start_where_told():
    linear = partial(nn.Linear, 3, 3)
    first, second = (Highway(linear, linear, carry_gate=linear, gate_bias=-3.0) for _ in range(2))
    assert first.transform is not second.transform
    assert first.gate.bias.tolist() == [-3.0] * 3
    assert first.carry_gate.bias.tolist() == [3.0] * 3
    gate = nn.Linear(3, 3)
    before = gate.bias.detach().clone()
    assert Highway(linear, gate, gate_bias=None).gate.bias.equal(before)


def test_one_gate_for_all_channels_broadcasts():
    torch.manual_seed(0)
    layer = Highway(partial(nn.Conv2d, 3, 3, 3, padding=1), partial(nn.Conv2d, 3, 1, 1))
    x = torch.randn(2, 3, 4, 4)
    t = layer.gate(x).sigmoid()
    assert torch.allclose(layer(x), layer.transform(x) * t + x * (1 - t), atol=1e-6)
    assert gates(layer, x).shape == (1, 2, 3, 4, 4)


FORMS = {
    "linear": lambda: (HighwayLinear(3, **DOUBLE), (2, 3)),
    "linear tanh": lambda: (HighwayLinear(3, activation="tanh", **DOUBLE), (2, 3)),
    "linear free": lambda: (HighwayLinear(3, carry="free", **DOUBLE), (2, 3)),
    "convolution": lambda: (HighwayConv2d(2, **DOUBLE), (1, 2, 3, 3)),
    "any": lambda: (Highway(nn.Linear(3, 3, **DOUBLE), nn.Linear(3, 3, **DOUBLE)), (2, 3)),
    "stack": lambda: (HighwayStack(3, 2, **DOUBLE), (2, 3)),
}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "linear free"])
def test_shut_gates_carry_the_input_and_its_gradient(form):
    layer, shape = FORMS[form]()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith("bias") and "transform" not in name:
                half = parameter.shape[-1] // 2 if form != "any" else 0
                parameter[..., half:] = -800.0  # its sigmoid is 0 in double precision
    x = torch.randn(shape, **DOUBLE)
    assert layer(x).equal(x)
    jacobian = torch.autograd.functional.jacobian(layer, x).reshape(x.numel(), x.numel())
    assert jacobian.equal(torch.eye(x.numel(), **DOUBLE))


def test_open_gates_are_the_plain_layer():
    torch.manual_seed(0)
    layer = HighwayLinear(4, gate_bias=800.0, **DOUBLE)
    x = torch.randn(5, 4, **DOUBLE)
    assert torch.allclose(layer(x), (x @ layer.weight[:4].T).relu(), rtol=1e-12)
    convolution = HighwayConv2d(2, gate_bias=800.0, **DOUBLE)
    x = torch.randn(1, 2, 5, 5, **DOUBLE)
    plain = torch.conv2d(x, convolution.weight[:2], padding=1).relu()
    assert torch.allclose(convolution(x), plain, rtol=1e-12)


def test_a_free_carry_gate_starts_as_the_coupled_one():
    torch.manual_seed(0)
    free = HighwayLinear(4, gate_bias=-1.5, carry="free", **DOUBLE)
    assert free.bias.tolist() == [0.0] * 4 + [-1.5] * 4 + [1.5] * 4
    coupled = HighwayLinear(4, gate_bias=-1.5, **DOUBLE)
    with torch.no_grad():
        free.weight[4:] = 0
        coupled.weight.copy_(free.weight[:8])
    x = torch.randn(6, 4, **DOUBLE)
    assert torch.allclose(free(x), coupled(x), rtol=1e-12)
    assert HighwayLinear(4, carry="free", carry_bias=0.25).bias[8:].tolist() == [0.25] * 4


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_initial_weights_have_their_schemes_variance(activation):
    layer = HighwayLinear(300, activation=activation, gate_bias=-4.0, generator=torch.Generator().manual_seed(1))
    h, t = layer.weight.detach().split(300)
    assert h.var().item() == pytest.approx((2 if activation == "relu" else 1) / 300, rel=0.03)
    assert t.var().item() == pytest.approx(1 / 300, rel=0.03)
    assert layer.bias.tolist() == [0.0] * 300 + [-4.0] * 300
    again = HighwayLinear(300, activation=activation, gate_bias=-4.0, generator=torch.Generator().manual_seed(1))
    assert again.weight.equal(layer.weight)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    torch.manual_seed(1)
    layer, shape = FORMS[form]()
    layer = spread_(layer)
    x = torch.randn(shape, **DOUBLE, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def called(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(called, inputs)
    assert torch.autograd.gradgradcheck(called, inputs)


# the module's contract


@pytest.mark.parametrize("form", FORMS)
def test_survives_deepcopy_state_dict_and_compilation(form, unchecked):
    torch.manual_seed(0)
    layer, shape = FORMS[form]()
    layer = spread_(layer)
    x = torch.randn(shape, **DOUBLE)
    expected = layer(x)
    assert copy.deepcopy(layer)(x).equal(expected)
    other, _ = FORMS[form]()
    other.load_state_dict(layer.state_dict())
    assert other(x).equal(expected)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    made = compiled(x.clone().requires_grad_())
    assert torch.allclose(made, expected, rtol=1e-12)
    made.sum().backward()
    found = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x).sum().backward()
    for grad, parameter in zip(found, layer.parameters(), strict=True):
        assert torch.allclose(grad, parameter.grad, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_autocast(form):
    layer, shape = FORMS[form]()
    layer, x = layer.float(), torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(x)
    assert torch.allclose(made.float(), layer(x), atol=0.05)
    made.float().sum().backward()


# reading gates


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 4), nn.Dropout(0.5), HighwayLinear(4), HighwayStack(4, 3), nn.BatchNorm1d(4), nn.Linear(4, 2)
    )


def test_gates_are_those_of_the_forward_pass():
    model = spread_(network()).eval()
    x = torch.randn(5, 6)
    found = gates(model, x)
    assert found.shape == (4, 5, 4)
    y = model[0](x)
    for layer in range(4):
        weight, bias = (
            (model[2].weight, model[2].bias) if layer == 0 else (model[3].weight[layer - 1], model[3].bias[layer - 1])
        )
        z = y @ weight.T + bias
        t = z[:, 4:].sigmoid()
        assert torch.allclose(found[layer], t, atol=1e-6)
        y = t * z[:, :4].relu() + (1 - t) * y
    traced = routing(model, x)
    assert torch.allclose(traced.outputs[-1], y, atol=1e-6)
    assert torch.allclose(traced.inputs[0], model[0](x), atol=1e-6)
    assert all(out.equal(given) for out, given in zip(traced.outputs[:-1], traced.inputs[1:], strict=True))


def test_reading_leaves_the_model_as_it_was():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    rng = torch.get_rng_state()
    found = gates(model, torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))
    assert not found.requires_grad
    assert model.training
    assert model[1].training
    assert torch.get_rng_state().equal(rng)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        gates(model, torch.randn(5, 7))
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_of_different_shapes_are_read_one_by_one():
    model = nn.Sequential(HighwayConv2d(2), nn.MaxPool2d(2), HighwayConv2d(2))
    x = torch.randn(1, 2, 4, 4)
    assert [tuple(gate.shape) for gate in routing(model, x).gates] == [(1, 2, 4, 4), (1, 2, 2, 2)]
    with pytest.raises(ValueError, match=r"routing\(model, x\)\.gates"):
        gates(model, x)


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="no highway layers"):
        gates(nn.Linear(3, 3), torch.zeros(1, 3))
    shared = HighwayLinear(3)
    with pytest.raises(ValueError, match="called once in a forward pass, got 2 calls"):
        routing(nn.Sequential(shared, shared), torch.zeros(1, 3))


# lesions


@pytest.mark.parametrize("form", FORMS)
def test_a_lesion_is_a_gate_held_shut(form):
    torch.manual_seed(0)
    layer, shape = FORMS[form]()
    layer = spread_(layer)
    x = torch.randn(shape, **DOUBLE)
    whole = layer(x)
    with lesioned(layer, 0):
        assert gates(layer, x)[0].eq(0).all()
        if form == "linear free":
            expected = x * (x @ layer.weight[6:].T + layer.bias[6:]).sigmoid()
        elif form == "stack":
            z = x @ layer.weight[1].T + layer.bias[1]
            expected = torch.lerp(x, z[:, :3].relu(), z[:, 3:].sigmoid())
            assert routing(layer, x).outputs[0].equal(x)
        else:
            expected = x
        assert torch.allclose(layer(x), expected, rtol=1e-12)
        assert torch.allclose(routing(layer, x).outputs[-1], expected, rtol=1e-12)
    assert layer(x).equal(whole)


def test_lesions_count_through_the_model_nest_and_heal():
    model = spread_(network()).eval()
    assert count_highway_layers(model) == 4
    x = torch.randn(3, 6)
    whole = model(x)
    with lesioned(model, range(4)):
        assert torch.allclose(model(x), model[5](model[4](model[0](x))))
        assert gates(model, x).eq(0).all()
    with lesioned(model, 3):
        assert (gates(model, x) == 0).flatten(1).all(1).tolist() == [False, False, False, True]
        with lesioned(model, [0, 3]):
            assert (gates(model, x) == 0).flatten(1).all(1).tolist() == [True, False, False, True]
        assert (gates(model, x) == 0).flatten(1).all(1).tolist() == [False, False, False, True]
    with pytest.raises(KeyError), lesioned(model, 1):
        raise KeyError
    assert model(x).equal(whole)
    assert "lesions" not in "".join(model.state_dict())


@pytest.mark.parametrize("layer", [-1, 4, [0, 9]])
def test_a_lesion_of_no_layer_is_refused(layer):
    model = network()
    with pytest.raises(ValueError, match="lesioned: layer must be from 0 to 3"), lesioned(model, layer):
        pass
    assert all(module.lesions == () for module in (model[2], model[3]))


def test_gradients_flow_through_a_lesioned_stack():
    torch.manual_seed(0)
    stack = spread_(HighwayStack(3, 3, **DOUBLE))
    x = torch.randn(4, 3, **DOUBLE)
    with lesioned(stack, 1):
        stack(x).sum().backward()
    assert stack.weight.grad[1].eq(0).all()
    assert stack.weight.grad[0].ne(0).any()


# bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HighwayLinear(0), "features must be at least 1, got 0"),
        (lambda: HighwayLinear(3, gate_bias=math.nan), "gate_bias must be finite, got nan"),
        (lambda: HighwayLinear(3, gate_bias=-math.inf), "gate_bias must be finite, got -inf"),
        (lambda: HighwayLinear(3, carry="free", carry_bias=math.nan), "must be finite, got nan"),
        (lambda: HighwayLinear(3, carry_bias=1.0), "use carry='free'"),
        (lambda: HighwayConv2d(0), "channels must be at least 1, got 0"),
        (lambda: HighwayConv2d(3, 4), "kernel_size must be odd"),
        (lambda: HighwayConv2d(3, gate_bias=math.nan), "gate_bias must be finite, got nan"),
        (lambda: HighwayStack(0, 3), "features must be at least 1, got 0"),
        (lambda: HighwayStack(3, 0), "depth must be at least 1, got 0"),
        (lambda: HighwayStack(3, 3, gate_bias=math.nan), "gate_bias must be finite, got nan"),
        (lambda: Highway(nn.Identity(), nn.Linear(3, 3, bias=False)), "gate Linear has no bias to start at -2.0"),
        (lambda: Highway(nn.Identity(), nn.Linear(3, 3), gate_bias=math.nan), "must be finite, got nan"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_words_are_refused(unchecked):
    with pytest.raises(ValueError, match="activation must be one of relu, tanh, got 'gelu'"):
        HighwayLinear(3, activation="gelu")
    with pytest.raises(ValueError, match="carry must be one of coupled, free, got 'none'"):
        HighwayConv2d(3, carry="none")
    with pytest.raises(ValueError, match="activation must be one of relu, tanh, got 'gelu'"):
        HighwayStack(3, 3, activation="gelu")
    with pytest.raises(TypeError, match="transform must be a module or a function that makes one, got 3"):
        Highway(3, nn.Linear(3, 3))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (HighwayLinear(3), (2, 4)),
        (HighwayStack(3, 2), (2, 4)),
        (HighwayConv2d(3), (2, 4, 5, 5)),
        (Highway(nn.Linear(3, 4), nn.Linear(3, 3)), (2, 3)),
    ],
)
def test_sizes_that_cannot_be_carried_say_the_ways_out(layer, shape):
    with pytest.raises(ValueError, match=r"plain layer.*zero-padding.*sub-sampling"):
        layer(torch.zeros(shape))


def test_a_gate_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"gate of shape \(2, 5\) does not broadcast"):
        Highway(nn.Linear(3, 3), nn.Linear(3, 5))(torch.zeros(2, 3))
