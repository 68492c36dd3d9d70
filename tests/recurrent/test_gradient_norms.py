import pytest
import torch
from torch import nn

from claimwise.recurrent import GRU, LSTM, RNN, GatedFeedback, decay_rate, gradient_norms

TIME, BATCH, INPUT, HIDDEN = 6, 2, 3, 4


def example():
    return torch.randn(TIME, BATCH, INPUT, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


MODELS = {
    "torch RNN": lambda: nn.RNN(INPUT, HIDDEN, 2),
    "torch GRU": lambda: nn.GRU(INPUT, HIDDEN, 2),
    "torch LSTM": lambda: nn.LSTM(INPUT, HIDDEN, 2),
    "torch LSTM projected": lambda: nn.LSTM(INPUT, HIDDEN, 2, proj_size=3),
    "RNN": lambda: RNN(INPUT, HIDDEN, 2),
    "GRU": lambda: GRU(INPUT, HIDDEN, 2),
    "LSTM": lambda: LSTM(INPUT, HIDDEN, 2),
    "gated feedback tanh": lambda: GatedFeedback(INPUT, HIDDEN, 2),
    "gated feedback LSTM": lambda: GatedFeedback(INPUT, HIDDEN, 2, "lstm"),
}


def parts(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("name", MODELS)
def test_is_the_derivative_by_the_state_handed_on(name):
    """Central differences: the rest of the sequence from a state moved by a little, unit by unit."""
    torch.manual_seed(0)
    model, x = MODELS[name]().double(), example()
    weigh = torch.randn(model(x)[0].shape[-1], dtype=torch.float64)
    norms = gradient_norms(model, x, loss=lambda output: (output @ weigh).square().sum())

    def loss(state, t):
        return (model(x[t:], state)[0][-1] @ weigh).square().sum().item()

    with torch.no_grad():
        for t in (1, 3, TIME - 1):
            state = tuple(part.clone() for part in parts(model(x[:t])[1]))
            total = 0.0
            for part in state:
                for place in range(part.numel()):
                    values = []
                    for move in (1e-5, -1e-5):
                        moved = [p.clone() for p in state]
                        moved[[p is part for p in state].index(True)].view(-1)[place] += move
                        values.append(loss(tuple(moved) if len(moved) > 1 else moved[0], t))
                    total += ((values[0] - values[1]) / 2e-5) ** 2
            assert norms[t - 1].item() == pytest.approx(total**0.5, rel=1e-6)
        output = model(x)[0][-1]
    assert norms[-1].item() == pytest.approx((2 * (output @ weigh).unsqueeze(1) * weigh).norm().item(), rel=1e-12)


def test_a_linear_network_with_an_orthogonal_matrix_keeps_the_norm_and_a_scaled_one_scales_it():
    torch.manual_seed(0)
    model = RNN(INPUT, HIDDEN, nonlinearity="linear", dtype=torch.float64)
    for factor in (0.5, 1.0, 2.0):
        with torch.no_grad():
            nn.init.orthogonal_(model.weight_hh_l0).mul_(factor)
        norms = gradient_norms(model, example())
        expected = (BATCH * HIDDEN) ** 0.5 * factor ** torch.arange(TIME - 1, -1, -1, dtype=torch.float64)
        assert torch.allclose(norms, expected, rtol=1e-12)
        fit = decay_rate(norms)
        assert fit.factor == pytest.approx(factor, rel=1e-9)
        assert fit.r_squared == pytest.approx(1, abs=1e-9)


def test_small_weights_vanish_exponentially():
    torch.manual_seed(0)
    model = nn.RNN(INPUT, 32).double()
    with torch.no_grad():
        nn.init.orthogonal_(model.weight_hh_l0).mul_(0.9)
    x = torch.randn(60, BATCH, INPUT, dtype=torch.float64)
    fit = decay_rate(gradient_norms(model, x))
    assert fit.r_squared > 0.95
    assert fit.factor < 0.9  # the largest singular value bounds it


def test_layouts_agree():
    model = nn.GRU(INPUT, HIDDEN).double()
    other = nn.GRU(INPUT, HIDDEN, batch_first=True).double()
    other.load_state_dict(model.state_dict())
    expected = gradient_norms(model, example())
    assert gradient_norms(other, example().transpose(0, 1)).equal(expected)
    assert gradient_norms(other, example().transpose(0, 1), batch_first=True).equal(expected)
    bare = lambda x, state: other(x, state)  # noqa: E731
    assert gradient_norms(bare, example().transpose(0, 1), batch_first=True).equal(expected)


def test_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.LSTM(INPUT, HIDDEN, 2, dropout=0.5).double()
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    x = example()
    first = gradient_norms(model, x)
    with torch.no_grad():
        assert gradient_norms(model, x).equal(first)  # no dropout, and gradients where they are switched off
    assert torch.get_rng_state().equal(random)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert x.grad is None
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not gradient_norms(model, x, mode="as-is").equal(first)
    frozen = model.requires_grad_(False)
    assert gradient_norms(frozen, x).equal(first)


@pytest.mark.parametrize(
    ("model", "x", "options", "error", "words"),
    [
        (nn.GRU(3, 4), torch.zeros(5, 3), {}, ValueError, r"input must be \(time, batch, features\)"),
        (nn.GRU(3, 4), torch.zeros(0, 2, 3), {}, ValueError, "at least one step"),
        (nn.GRU(3, 4), torch.full((5, 2, 3), float("nan")), {}, ValueError, "must be finite"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 3).long(), {}, TypeError, "must be floating point"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 3), {"batch_first": True}, ValueError, "contradicts the model's False"),
        (nn.GRU(3, 4, bidirectional=True), torch.zeros(5, 2, 3), {}, ValueError, "got a bidirectional one"),
        (lambda x, state: x, torch.zeros(5, 2, 3), {}, TypeError, r"must return \(output, state\), got Tensor"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 3), {"loss": lambda y: y}, ValueError, r"one number .* got \(2, 4\)"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 3), {"loss": lambda y: 1.0}, ValueError, "one number .* got float"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 3), {"loss": lambda y: y.detach().sum()}, ValueError, "does not depend"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(model, x, options, error, words):
    with pytest.raises(error, match=f"gradient_norms: .*{words}"):
        gradient_norms(model, x, **options)


def test_decay_rate_is_the_least_squares_line():
    numpy = pytest.importorskip("numpy")
    norms = torch.rand(20, generator=torch.Generator().manual_seed(0)) + 0.1
    slope, offset = numpy.polyfit(numpy.arange(19, -1, -1), norms.double().log().numpy(), 1)
    fit = decay_rate(norms)
    assert fit.rate == pytest.approx(-slope, rel=1e-9)
    left = norms.double().log().numpy() - slope * numpy.arange(19, -1, -1) - offset
    logs = norms.double().log()
    assert fit.r_squared == pytest.approx(1 - (left**2).sum() / ((logs - logs.mean()) ** 2).sum().item(), rel=1e-9)
    constant = decay_rate(torch.full((5,), 0.3))
    assert constant.rate == pytest.approx(0, abs=1e-12)
    assert constant.r_squared == 1


@pytest.mark.parametrize(
    ("norms", "error", "words"),
    [
        (torch.ones(2), ValueError, r"at least 3 steps, got shape \(2,\)"),
        (torch.ones(4, 2), ValueError, r"got shape \(4, 2\)"),
        (torch.tensor([0.0, 0.1, 0.2]), ValueError, "positive and finite, got from 0 to 0.2"),
        (torch.tensor([float("nan"), 0.1, 0.2]), ValueError, "positive and finite"),
        (torch.ones(4).long(), TypeError, "got torch.int64"),
        ([1.0, 2.0, 3.0], TypeError, "got list"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_decay_rate_refuses(norms, error, words):
    with pytest.raises(error, match=f"decay_rate: .*{words}"):
        decay_rate(norms)
