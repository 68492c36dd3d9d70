import pytest
import torch
from torch import nn

from claimwise.layers import HighwayLinear, HighwayStack


def twins(activation, depth=5, width=6):
    """A stack, and the same layers one by one, in double precision."""
    torch.manual_seed(0)
    stack = HighwayStack(width, depth, activation=activation, dtype=torch.float64)
    layers = nn.Sequential(*(HighwayLinear(width, activation=activation, dtype=torch.float64) for _ in range(depth)))
    with torch.no_grad():
        stack.bias.normal_()
        for k, layer in enumerate(layers):
            layer.weight.copy_(stack.weight[k])
            layer.bias.copy_(stack.bias[k])
    return stack, layers


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_equals_its_layers_one_by_one_forward_and_backward(activation):
    stack, layers = twins(activation)
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    away = torch.randn(2, 4, 6, dtype=torch.float64)
    made = stack(found)
    assert torch.allclose(made, layers(expected), rtol=1e-12)
    made.backward(away)
    layers(expected).backward(away)
    assert torch.allclose(found.grad, expected.grad, rtol=1e-10)
    for k, layer in enumerate(layers):
        assert torch.allclose(stack.weight.grad[k], layer.weight.grad, rtol=1e-10)
        assert torch.allclose(stack.bias.grad[k], layer.bias.grad, rtol=1e-10)
    with torch.no_grad():
        assert torch.allclose(stack(x), made, rtol=1e-12)


def test_backward_twice_gives_the_same():
    stack, _ = twins("relu")
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    y = stack(x).square().sum()
    first = torch.autograd.grad(y, [x, stack.weight, stack.bias], retain_graph=True)
    second = torch.autograd.grad(y, [x, stack.weight, stack.bias], create_graph=True)
    for a, b in zip(first, second, strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


def test_only_what_needs_a_gradient_gets_one():
    stack, _ = twins("relu")
    stack.weight.requires_grad_(False)
    x = torch.randn(3, 6, dtype=torch.float64)
    y = stack(x).square().sum()
    (again,) = torch.autograd.grad(y, [stack.bias], create_graph=True)
    y.backward()
    assert stack.weight.grad is None
    assert x.grad is None
    assert torch.allclose(stack.bias.grad, again, rtol=1e-10)


def test_starts_as_its_layers_do():
    stack = HighwayStack(20, 30, gate_bias=-3.0, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    for weight, bias in zip(stack.weight, stack.bias, strict=True):
        layer = HighwayLinear(20, gate_bias=-3.0, generator=generator)
        assert weight.equal(layer.weight)
        assert bias.equal(layer.bias)


def test_a_thousand_layers_carry_a_gradient():
    torch.manual_seed(0)
    stack = HighwayStack(8, 1000, gate_bias=-8.0)
    x = torch.randn(2, 8, requires_grad=True)
    stack(x).sum().backward()
    assert 0.01 < x.grad.norm() < 100
    assert stack.weight.grad.isfinite().all()


def test_an_empty_batch_passes():
    stack = HighwayStack(4, 3)
    assert stack(torch.zeros(0, 4, requires_grad=True)).shape == (0, 4)
