import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from claimwise.layers import PReLU, parameter_groups, slopes
from claimwise.layers import prelu as module

DOUBLE = torch.float64


@pytest.fixture(params=["ours", "native"])
def path(request, monkeypatch):
    """Both ways to the gradient, however small the input."""
    monkeypatch.setattr(module, "SMALL", 0 if request.param == "ours" else 10**9)
    return request.param


def slow(x, a, g):
    """Output, gradient of the input and of the slopes, entry by entry; a shared slope has one entry."""
    y, for_x, for_a = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(a)
    for index in torch.cartesian_prod(*[torch.arange(n) for n in x.shape]).tolist():
        at = tuple(index)
        i = at[1] if len(a) > 1 else 0
        value = float(x[at])
        y[at] = max(0.0, value) + float(a[i]) * min(0.0, value)
        for_x[at] = g[at] * (1.0 if value > 0 else a[i])
        for_a[i] += g[at] * min(0.0, value)  # summed over examples and positions, not averaged
    return y, for_x, for_a


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 2), (1, 2, 2, 2, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_output_and_gradients_against_loops(path, shape, shared):
    torch.manual_seed(0)
    layer = PReLU(None if shared else shape[1], dtype=DOUBLE)
    with torch.no_grad():
        layer.weight.normal_()
    x, g = torch.randn(shape, dtype=DOUBLE), torch.randn(shape, dtype=DOUBLE)
    x[0, 0] = 0.0  # the formula's y <= 0
    x.requires_grad_()
    out = layer(x)
    for_x, for_a = torch.autograd.grad(out, (x, layer.weight), g)
    for found, wanted in zip((out, for_x, for_a), slow(x.detach(), layer.weight.detach(), g), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [None, 3])
def test_gradients_numerically(path, channels):
    layer = PReLU(channels, dtype=DOUBLE)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=DOUBLE)
    x = (x + 0.1 * x.sign()).requires_grad_()

    def call(x, a):
        return torch.func.functional_call(layer, {"weight": a}, (x,))

    assert torch.autograd.gradcheck(call, (x, layer.weight))
    assert torch.autograd.gradgradcheck(call, (x, layer.weight))


def test_large_inputs_take_the_fast_gradient_and_agree_with_torch():
    torch.manual_seed(0)
    x, g = torch.randn(8, 4, 50, 50), torch.randn(8, 4, 50, 50)
    for channels in (None, 4):
        ours, peer = PReLU(channels), nn.PReLU(channels or 1)
        assert "_Rectify" in type(ours(x).grad_fn).__name__
        ours(x).backward(g)
        peer(x).backward(g)
        assert torch.equal(ours(x), peer(x))
        torch.testing.assert_close(ours.weight.grad, peer.weight.grad, rtol=1e-4, atol=1e-2)  # a sum of thousands


def test_gradient_of_the_input_is_torchs_bit_for_bit():
    torch.manual_seed(0)
    x, g = torch.randn(8, 4, 50, 50), torch.randn(8, 4, 50, 50)
    found = []
    for layer in (PReLU(4), nn.PReLU(4)):
        leaf = x.clone().requires_grad_()
        found.append(torch.autograd.grad(layer(leaf), leaf, g)[0])
    assert torch.equal(*found)


def test_only_what_needs_a_gradient_gets_one(path):
    layer = PReLU(2).requires_grad_(False)
    x = torch.randn(3, 2, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    layer.requires_grad_()
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None


def test_vmap_and_jacobians(path):
    layer = PReLU(3, dtype=DOUBLE)
    x = torch.randn(5, 2, 3, dtype=DOUBLE)
    torch.testing.assert_close(torch.vmap(layer)(x), torch.stack([layer(part) for part in x]))
    jacobian = torch.func.jacrev(layer)(x[0])
    diagonal = torch.where(x[0] > 0, 1.0, 0.25).to(DOUBLE).flatten()
    torch.testing.assert_close(jacobian.reshape(6, 6), torch.diag(diagonal))


@given(a=st.floats(-2, 2), y=st.floats(-100, 100, width=32))
def test_is_the_leaky_rectifier_of_its_slope(a, y):
    x = torch.tensor([[y]])
    torch.testing.assert_close(PReLU(1, init=a)(x), F.leaky_relu(x, a))


def test_the_papers_update_is_momentum_without_decay():
    a, momentum, rate = 0.25, 0.9, 0.1
    model = nn.Sequential(PReLU())
    optimizer = torch.optim.SGD(parameter_groups(model, 0.5), lr=rate, momentum=momentum)
    x, change, slope = torch.tensor([[-1.0, 2.0], [-3.0, -0.5]]), 0.0, a
    for _ in range(3):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        change = momentum * change - rate * -4.5  # dE/da is the sum of what is negative
        slope += change
        assert model[0].weight.item() == pytest.approx(slope, rel=1e-6)


def test_groups_hold_each_parameter_once_and_slopes_apart():
    shared = PReLU(2)
    model = nn.Sequential(nn.Linear(3, 2), shared, nn.Linear(2, 2), shared, nn.PReLU(), nn.BatchNorm1d(2))
    decayed, free = parameter_groups(model, 1e-2)
    assert [id(p) for p in free["params"]] == [id(shared.weight), id(model[4].weight)]
    assert len(decayed["params"]) == 6
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-2, 0.0)
    assert len(parameter_groups(nn.Linear(2, 2), 0.1)) == 1
    assert parameter_groups(PReLU(), 0.1)[0]["weight_decay"] == 0


def test_slopes_are_copies_in_order():
    model = nn.Sequential(PReLU(2, 0.1), nn.Sequential(nn.ReLU(), nn.PReLU(init=0.3)))
    found = slopes(model)
    assert list(found) == ["0", "1.1"]
    found["0"].zero_()
    assert model[0].weight.tolist() == pytest.approx([0.1, 0.1])


def test_thirteen_rectifiers_share_thirteen_slopes():
    assert sum(p.numel() for _ in range(13) for p in PReLU().parameters()) == 13


def test_copies_state_and_torchs_state():
    layer = PReLU(3, 0.7)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin.weight, layer.weight)
    other = nn.PReLU(3)
    other.load_state_dict(layer.state_dict())
    layer.load_state_dict(nn.PReLU(3).state_dict())
    assert other.weight.tolist() == pytest.approx([0.7] * 3)
    assert layer.weight.tolist() == [0.25] * 3


@pytest.mark.parametrize("channels", [None, 4])
def test_compiles(unchecked, channels):
    torch.manual_seed(0)
    layer = PReLU(channels)
    x = torch.randn(8, 4, 50, 50)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    compiled(x).square().sum().backward()
    found, layer.weight.grad = layer.weight.grad, None
    layer(x).square().sum().backward()
    torch.testing.assert_close(found, layer.weight.grad, rtol=1e-4, atol=1e-3)


def test_autocast_and_other_types(path):
    layer = PReLU(2)
    x = torch.randn(3, 2, dtype=torch.bfloat16)
    assert layer(x).dtype == torch.bfloat16
    layer(x).sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nn.Sequential(nn.Linear(2, 2), layer)(torch.randn(3, 2)).dtype == torch.bfloat16


def test_refuses(unchecked):
    with pytest.raises(ValueError, match=r"at least 1.*got 0"):
        PReLU(0)
    with pytest.raises(ValueError, match="finite, got nan"):
        PReLU(init=float("nan"))
    with pytest.raises(ValueError, match=r"\(batch, 3, ...\), got shape \(2, 4\)"):
        PReLU(3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="got shape"):
        PReLU(3)(torch.zeros(3))
    with pytest.raises(TypeError, match=r"x.float\(\)"):
        PReLU()(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"weight_decay must be >= 0.*got -0.1"):
        parameter_groups(PReLU(), -0.1)
    with pytest.raises(ValueError, match="no parameters"):
        parameter_groups(nn.ReLU(), 0.1)
    with pytest.raises(TypeError, match="got int"):
        parameter_groups(3, 0.1)
    with pytest.raises(TypeError, match="got str"):
        slopes("model")
