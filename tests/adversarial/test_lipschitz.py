"""Bounds against Jacobians in float64, measured ratios against bounds, constants against a search."""

import math

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from claimwise.adversarial import (
    ContrastNormalisation,
    Maxout,
    MaxoutConv2d,
    lipschitz,
    lipschitz_bound,
    local_lipschitz,
)


def steepest(model: nn.Module, x: Tensor) -> float:
    """Largest spectral norm of the Jacobian among the examples, written out."""
    model = model.double().eval()
    norms = []
    for example in x.double():
        jacobian = torch.autograd.functional.jacobian(lambda one: model(one[None])[0], example)
        norms.append(float(torch.linalg.svdvals(jacobian.reshape(-1, example.numel()))[0]))
    return max(norms)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act, self.head = (
            nn.Conv2d(2, 2, 3, padding=1),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.Linear(4, 3),
        )
        self.scale = nn.Parameter(torch.tensor([0.5, -2.0]).reshape(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.bn(self.act(self.conv(x))) * self.scale
        pooled = torch.cat([F.max_pool2d(x, 2).mean((2, 3)), F.avg_pool2d(x, 2).mean((2, 3))], 1)
        return self.head(F.dropout(pooled, 0.5, self.training)) / 2


def networks() -> list[tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    return [
        (nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 3), nn.Softmax(1)), (5,)),
        (
            nn.Sequential(
                nn.Conv2d(1, 3, 3, 2), nn.BatchNorm2d(3), nn.GELU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Dropout(),
                nn.Linear(12, 4),
            ),
            (1, 7, 7),
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, eps=0.5), nn.LeakyReLU(3.0), nn.LogSoftmax(1)), (4,)),
        (nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.LocalResponseNorm(3, 0.5, 0.75, 1.0), nn.ELU(2.0)), (2, 4, 4)),
        (nn.Sequential(MaxoutConv2d(1, 2, 2, 3, padding=1), nn.Flatten(), Maxout(32, 5, 3)), (1, 4, 4)),
        (nn.Sequential(nn.Flatten(), ContrastNormalisation(0.1, 0.5), nn.Linear(9, 2), nn.SiLU()), (1, 3, 3)),
        (Residual(), (2, 4, 4)),
    ]  # fmt: skip


@pytest.mark.parametrize("which", range(7))
@given(seed=st.integers(0, 2**20), scale=st.sampled_from([0.01, 1.0, 30.0]), radius=st.sampled_from([1e-3, 0.1, 5.0]))
@settings(max_examples=8, deadline=None)
def test_no_measurement_passes_the_bound(which, seed, scale, radius):
    model, shape = networks()[which]
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(4, *shape, dtype=torch.float64, generator=generator)
    model = model.double()
    bound = lipschitz_bound(model, x).bound
    found = local_lipschitz(model, x, radius=radius, generator=generator)
    assert float(found.jacobian.max()) <= bound * (1 + 1e-9)
    assert float(found.finite.max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("which", range(7))
def test_measured_jacobian_norm_is_that_of_the_matrix(which, few, monkeypatch):
    """By power iteration and from the whole Jacobian."""
    monkeypatch.setattr(lipschitz, "FEW_OUTPUTS", few)
    model, shape = networks()[which]
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = local_lipschitz(model.double(), x, tolerance=1e-9, iterations=2000)
    for example, norm, direction in zip(x, found.jacobian, found.direction, strict=True):
        assert float(norm) == pytest.approx(steepest(model, example[None]), rel=1e-5)
        assert float(direction.norm()) == pytest.approx(1.0)
        stretched = torch.func.jvp(model, (example[None],), (direction[None],))[1]
        assert float(stretched.norm()) == pytest.approx(float(norm), rel=1e-5)


def test_a_linear_network_by_hand():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[0.0, 2.0], [5.0, 0.0]]))
    bound = lipschitz_bound(model, torch.zeros(1, 2))
    assert [layer.bound for layer in bound.layers] == pytest.approx([3.0, 1.0, 5.0, 0.25])
    assert [layer.so_far for layer in bound.layers] == pytest.approx([3.0, 3.0, 15.0, 3.75])
    assert bound.bound == pytest.approx(3.75)
    assert bound.product == pytest.approx(3.75)
    assert bound["2"].kind == "Linear"
    with pytest.raises(KeyError, match="no layer 'x'; there are 0, 1, 2, 3"):
        bound["x"]
    assert str(bound).splitlines()[3] == "2      Linear   5      15      operator norm"


class Graph(nn.Module):
    """One expression in x, with the constant it should get."""

    def __init__(self, expression) -> None:
        super().__init__()
        self.expression, self.double_up, self.relu = expression, nn.Linear(4, 4, bias=False), nn.ReLU(inplace=True)
        self.double_up.weight = nn.Parameter(2 * torch.eye(4))
        self.register_buffer("row", torch.tensor([1.0, -3.0, 2.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.expression(self, x)


def accumulated(m: Graph, x: Tensor) -> Tensor:
    y = m.double_up(x)
    y.mul_(3.0)  # the old name now holds six times x
    return y + 0.0


def aliased(m: Graph, x: Tensor) -> Tensor:
    y = m.double_up(x)
    kept = y
    y += m.double_up(x)
    return kept


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (lambda m, x: x + m.double_up(x), 3.0),
        (lambda m, x: x - x, 2.0),
        (lambda m, x: torch.add(x, x, alpha=4), 8.0),  # sound, not tight: 5
        (lambda m, x: torch.cat([x, m.double_up(x)], 1), math.sqrt(5)),
        (lambda m, x: torch.stack([x, x, x]), math.sqrt(3)),
        (lambda m, x: (x * m.row) / 2, 1.5),
        (lambda m, x: 3 * x + 1, 3.0),
        (lambda m, x: x.mean(1), 0.5),
        (lambda m, x: torch.sum(x, dim=1), 2.0),
        (lambda m, x: torch.maximum(x, m.double_up(x)), math.sqrt(5)),
        (lambda m, x: x[:, :2] + x.chunk(2, dim=1)[1], 2.0),
        (lambda m, x: F.linear(x, m.double_up.weight), 2.0),
        (lambda m, x: m.relu(m.double_up(x)).view(x.size(0), -1), 2.0),
        (lambda m, x: torch.sigmoid(F.gelu(x)), 1.12891 / 4),
        (lambda m, x: F.log_softmax(x, dim=1), 2.0),
        (lambda m, x: F.conv1d(x[:, None], m.row.reshape(2, 1, 2), stride=2), math.sqrt(7 + math.sqrt(13))),
        (lambda m, x: x + x.mean(1, keepdim=True), 2.0),  # the mean is copied to 4 places: 1/2 times 2
    ],
)
def test_functions_in_a_graph(expression, expected):
    model = Graph(expression)
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    bound = lipschitz_bound(model, x).bound
    assert bound == pytest.approx(expected)
    assert steepest(model, x) <= bound * (1 + 1e-6)


def test_a_trace_that_computes_something_else_is_refused():
    """torch.fx writes ``y += z`` as ``y + z``; whoever reads y under its old name would get a wrong bound."""
    with pytest.raises(ValueError, match="computes something else"):
        lipschitz_bound(Graph(aliased), torch.ones(1, 4))


def test_in_place_arithmetic_is_seen_under_the_old_name():
    model = Graph(accumulated)
    x = torch.ones(1, 4)
    assert lipschitz_bound(model, x).bound >= steepest(model, x) - 1e-6
    assert torch.equal(x, torch.ones(1, 4))


@pytest.mark.parametrize(
    ("expression", "match"),
    [
        (lambda m, x: x * x, "no bound known for the function 'mul'"),
        (lambda m, x: x * m.double_up(x), "'mul'"),
        (lambda m, x: 1 / x, "'truediv'"),
        (lambda m, x: torch.exp(x), "'exp'"),
        (lambda m, x: x[:, [0, 0, 0]], "may repeat entries"),
        (lambda m, x: F.dropout(x, 0.5), "drops units always"),
        (lambda m, x: x if x.sum() > 0 else -x, "cannot be traced"),
    ],
)
def test_what_has_no_bound_is_refused(expression, match):
    with pytest.raises(ValueError, match=match):
        lipschitz_bound(Graph(expression), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil", "expected"),
    [
        (2, 2, 0, 1, False, 1.0),
        (3, 2, 0, 1, False, 2.0),
        (3, 1, 1, 1, False, 3.0),
        (2, 3, 0, 1, False, 1.0),
        (2, 1, 0, 2, True, 2.0),
    ],
)
def test_max_pooling_bound_is_met(kernel, stride, padding, dilation, ceil, expected):
    """One pixel above all others moves every window over it."""
    model = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
    bound = lipschitz_bound(model, torch.zeros(1, 1, 7, 7)).bound
    assert bound == pytest.approx(expected)
    peaks = torch.eye(49).reshape(49, 1, 7, 7)
    assert float(model(peaks).flatten(1).norm(dim=1).max()) == pytest.approx(expected)


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Tanh(), nn.Softplus(2.0), nn.Softsign(),
        nn.LogSigmoid(), nn.Tanhshrink(), nn.Softshrink(), nn.CELU(3.0), nn.Sigmoid(), nn.Hardsigmoid(), nn.SiLU(),
        nn.Mish(), nn.Hardswish(),
        nn.GELU(), nn.GELU("tanh"), nn.LeakyReLU(-2.0), nn.ELU(3.0), nn.SELU(), nn.PReLU(1, 1.5), nn.RReLU(),
    ],
    ids=lambda activation: str(activation),
)  # fmt: skip
def test_slopes_by_search(activation):
    """The stated constant is the largest slope: not below it, and not 1 part in 10000 above."""
    activation = activation.double().eval()
    x = torch.linspace(-12, 12, 400_001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(activation(x).sum(), x)
    bound = lipschitz_bound(nn.Sequential(activation), torch.zeros(1, 1, dtype=torch.float64)).bound
    assert float(slope.abs().max()) <= bound * (1 + 1e-12)
    assert float(slope.abs().max()) >= bound * (1 - 1e-4)


@pytest.mark.parametrize("layer", [nn.Softmax(1), nn.LogSoftmax(1), nn.LayerNorm(3, 0.1), nn.RMSNorm(3, 0.1)])
def test_vector_constants_are_approached(layer):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 3, dtype=torch.float64, generator=generator) * torch.logspace(-3, 1.5, 3000)[:, None]
    x[0] = torch.tensor([20.0, 20.0, -20.0])
    bound = lipschitz_bound(layer.double(), x).bound
    assert 0.97 * bound <= steepest(layer, x[::10]) <= bound * (1 + 1e-9)


def test_local_response_norm_is_not_passed():
    generator = torch.Generator().manual_seed(0)
    layer = nn.LocalResponseNorm(3, alpha=3.0, beta=0.75, k=1.0).double()
    x = (
        torch.randn(300, 6, 1, 1, dtype=torch.float64, generator=generator)
        * torch.logspace(-2, 1, 300)[:, None, None, None]
    )
    bound = lipschitz_bound(layer, x).bound
    assert bound == pytest.approx(1 + 2 * math.sqrt(3) * (3 / 7) ** 1.75)
    assert steepest(layer, x) <= bound


def test_contrast_normalisation_as_the_sheet_measures_it():
    """At epsilon .1, gamma .5: constant 3.1623, nearly met close to 0."""
    layer = ContrastNormalisation(0.1, 0.5)
    bound = lipschitz_bound(layer, torch.zeros(1, 2)).bound
    assert bound == pytest.approx(3.1623, abs=1e-4)
    assert steepest(layer, torch.full((1, 2), 1e-3)) == pytest.approx(bound, rel=1e-4)


class Strange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -2 * x


def test_constants_of_ones_own():
    model = nn.Sequential(nn.Linear(3, 3), Strange(), nn.Bilinear(1, 1, 1))[:2]
    x = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="cannot be traced"):
        lipschitz_bound(model, x)
    plain = lipschitz_bound(nn.Sequential(model[0]), x).bound
    for constants in ({"1": 2.0}, {Strange: 2.0}, {Strange: lambda module, shape: shape[1] - 1.0}):
        bound = lipschitz_bound(model, x, constants=constants)
        assert bound.bound == pytest.approx(2 * plain)
        assert bound["1"].method == "given"
    assert lipschitz_bound(Strange(), x, constants={"": 2.0}).bound == 2.0
    assert lipschitz_bound(nn.Sequential(nn.ReLU()), x, constants={"0": 0.5}).bound == 0.5  # overrides
    with pytest.raises(ValueError, match="is no layer"):
        lipschitz_bound(model, x, constants={"7": 1.0})
    with pytest.raises(ValueError, match="must be >= 0 and finite, got -1"):
        lipschitz_bound(model, x, constants={"1": -1.0})


def test_unknown_layer_names_itself_and_the_way_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Hardshrink())
    with pytest.raises(ValueError, match=r"layer '1' \(Hardshrink\); give one, constants=\{'1': ...\}"):
        lipschitz_bound(model, torch.zeros(1, 3))


def test_the_model_is_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.ReLU(inplace=True)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    lipschitz_bound(model, x)
    with torch.inference_mode():
        local_lipschitz(model, x, radius=0.1)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.equal(x, kept)


@pytest.mark.parametrize("few", [0, 1000])
def test_examples_are_measured_apart(few, monkeypatch):
    monkeypatch.setattr(lipschitz, "FEW_OUTPUTS", few)
    model, shape = networks()[1]
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = model.double()
    together = local_lipschitz(model, x, tolerance=1e-10, iterations=3000).jacobian
    alone = torch.cat([local_lipschitz(model, one[None], tolerance=1e-10, iterations=3000).jacobian for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def test_what_the_measurement_refuses():
    layer, x = nn.Linear(2, 2), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="radius must be > 0"):
        local_lipschitz(layer, x, radius=0.0)
    with pytest.raises(ValueError, match="directions must be >= 0"):
        local_lipschitz(layer, x, radius=1.0, directions=-1)
    with pytest.raises(ValueError, match="iterations must be >= 1"):
        local_lipschitz(layer, x, iterations=0)
    with pytest.raises(ValueError, match="depend on x"):
        local_lipschitz(lambda x: torch.ones(1, 2), x)
    with pytest.raises(ValueError, match="finite"):
        lipschitz_bound(layer, torch.full((1, 2), math.nan))
    assert local_lipschitz(layer, torch.zeros(0, 2), radius=1.0).finite.shape == (0,)
    assert float(local_lipschitz(nn.ReLU(), -torch.ones(1, 2)).jacobian) == 0.0  # a flat spot
