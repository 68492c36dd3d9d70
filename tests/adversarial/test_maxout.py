import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from claimwise.adversarial import Maxout, MaxoutConv2d, max_col_norm_, maxout_network


def test_linear_equals_the_loops_of_the_formula():
    torch.manual_seed(0)
    layer, x = Maxout(4, 3, 2).double(), torch.randn(5, 4, dtype=torch.float64)
    weight, bias = layer.weight.reshape(2, 3, 4), layer.bias.reshape(2, 3)
    found = layer(x)
    for n in range(5):
        for i in range(3):
            pieces = [sum(weight[j, i, f] * x[n, f] for f in range(4)) + bias[j, i] for j in range(2)]
            assert found[n, i].item() == pytest.approx(max(pieces).item(), rel=1e-12)


def test_convolution_equals_the_loops_of_the_formula():
    torch.manual_seed(0)
    layer = MaxoutConv2d(2, 3, 2, 3, stride=2, padding=1).double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    weight, bias = layer.weight.reshape(2, 3, 2, 3, 3), layer.bias.reshape(2, 3)
    padded, found = F.pad(x, (1, 1, 1, 1)), layer(x)
    assert found.shape == (2, 3, 3, 3)
    for n in range(2):
        for i in range(3):
            for r in range(3):
                for c in range(3):
                    patch = padded[n, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
                    pieces = [(patch * weight[j, i]).sum() + bias[j, i] for j in range(2)]
                    assert found[n, i, r, c].item() == pytest.approx(max(pieces).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"), [(Maxout(3, 2, 4), (2, 3)), (MaxoutConv2d(1, 2, 3, 2), (2, 1, 3, 3)), (Maxout(3, 2, 1), (2, 3))]
)
def test_gradients(layer, shape):
    torch.manual_seed(0)
    layer = layer.double()
    assert torch.autograd.gradcheck(layer, torch.randn(shape, dtype=torch.float64, requires_grad=True))


def test_accepts_any_leading_shape_and_no_bias():
    layer = Maxout(3, 2, 4, bias=False)
    assert layer(torch.zeros(3)).shape == (2,)
    assert layer(torch.zeros(5, 6, 3)).shape == (5, 6, 2)
    assert layer.bias is None


def test_initialisation_of_the_recipe_and_of_torch():
    torch.manual_seed(0)
    recipe, default = Maxout(100, 50, 5, init_range=0.005), Maxout(100, 50, 5)
    assert recipe.bias.abs().max() == 0
    assert 0.0049 < recipe.weight.abs().max() <= 0.005
    assert 0.099 < default.weight.abs().max() <= 0.1
    assert 0.09 < default.bias.abs().max() <= 0.1
    conv = MaxoutConv2d(4, 50, 5, 5)
    assert 0.099 < conv.weight.abs().max() <= 0.1  # 4 * 25 inputs a kernel


@pytest.mark.parametrize("layer", [nn.Linear(6, 9), Maxout(6, 3, 3), MaxoutConv2d(2, 3, 3, 2), nn.Conv2d(2, 4, 2)])
def test_column_norms_are_cut_to_the_limit_and_only_there(layer):
    torch.manual_seed(0)
    before = layer.weight.detach().clone()
    norms = before.flatten(1).norm(dim=1)
    limit = norms.median().item()
    bias = layer.bias.detach().clone()
    max_col_norm_(layer, limit)
    for i, norm in enumerate(norms.tolist()):
        expected = before[i] * min(1.0, limit / norm)
        assert torch.allclose(layer.weight[i], expected, atol=1e-7)
    assert torch.equal(layer.bias, bias)


def test_column_norms_of_zero_columns_and_of_normalisation_layers():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    nn.init.constant_(model[0].weight, 3.0)
    nn.init.zeros_(model[2].weight)
    nn.init.constant_(model[1].weight, 9.0)
    max_col_norm_(model, 1.0)
    assert torch.allclose(model[0].weight.norm(dim=1), torch.ones(2))
    assert model[1].weight.tolist() == [9.0, 9.0]
    assert model[2].weight.tolist() == [[0.0, 0.0]]


def test_network_is_the_recipes():
    model = maxout_network(784, 10)
    sizes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert sizes == [(1200, 784), (1200, 240), (10, 240)]
    assert [m.p for m in model if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert model[-1].weight.abs().max() <= 0.005
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.usefixtures("unchecked")
def test_state_dict_deepcopy_compile_and_autocast():
    torch.manual_seed(0)
    model = maxout_network(8, 3, hidden=(4,), pieces=2, init_range=None).eval()
    x = torch.rand(5, 8)
    other = maxout_network(8, 3, hidden=(4,), pieces=2)
    other.load_state_dict(model.state_dict())
    for twin in (other.eval(), copy.deepcopy(model), torch.compile(model, backend="aot_eager")):
        assert torch.allclose(twin(x), model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(model(x).float(), model(x.clone()).float())
    assert "pieces=2" in repr(model)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Maxout(0, 1, 1), "Maxout: in_features must be at least 1, got 0"),
        (lambda: Maxout(1, 1, 0), "Maxout: pieces must be at least 1, got 0"),
        (lambda: Maxout(1, 1, 1, init_range=-1.0), "Maxout: init_range must be > 0, got -1"),
        (lambda: Maxout(3, 1, 1)(torch.zeros(2, 4)), r"Maxout: input must end in 3 features, got shape \(2, 4\)"),
        (lambda: MaxoutConv2d(1, 0, 1, 1), "MaxoutConv2d: channels must be at least 1, got 0"),
        (lambda: MaxoutConv2d(1, 1, 1, 1, stride=0), "MaxoutConv2d: stride must be at least 1, got 0"),
        (lambda: MaxoutConv2d(1, 1, 1, 1, padding=-1), "MaxoutConv2d: padding must be at least 0, got -1"),
        (lambda: maxout_network(3, 0), "maxout_network: classes must be at least 1, got 0"),
        (lambda: max_col_norm_(nn.Linear(1, 1), 0.0), "max_col_norm_: max_norm must be > 0, got 0"),
        (lambda: max_col_norm_(nn.ReLU(), 1.0), "max_col_norm_: ReLU has no parameter named weight"),
    ],
)
def test_bad_input_is_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()
