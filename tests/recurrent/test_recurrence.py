import subprocess
import sys

import pytest
import torch
from torch import nn

from claimwise.recurrent import GRU, LSTM, RNN, GatedFeedback

COMPILES = """
import torch
from claimwise.recurrent import GRU, LSTM, RNN
for module in (LSTM(2, 4, variant="FGR", cells_per_block=2), GRU(2, 3, form="reset-before"), RNN(2, 3)):
    x = torch.randn(2, 2, 2)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x)[0], module(x)[0], atol=1e-6)
print("compiled")
"""


def test_one_graph_for_a_compiler():
    """In a process of its own: the signature checks that tests install are what a compiler cannot follow."""
    done = subprocess.run([sys.executable, "-c", COMPILES], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "compiled", done.stderr


@pytest.mark.parametrize(("layer", "numbers"), [(LSTM, 6), (GRU, 5), (RNN, 1)])
def test_memory_is_what_the_documentation_says(layer, numbers):
    """Numbers kept for the way back a unit, step and sequence, beside the input."""
    kept = {}

    def keep(tensor):
        if len(tensor) == 640:  # not parameters and states
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(8, 8)(torch.randn(20, 32, 8))
    assert sum(kept.values()) == (numbers + 1) * 640 * 8


MODULES = {
    "lstm": lambda: LSTM(3, 5),
    "lstm of several steps a call": lambda: LSTM(3, 80),
    "gru": lambda: GRU(3, 5),
    "gru, reset before": lambda: GRU(3, 5, form="reset-before"),
    "rnn": lambda: RNN(3, 5),
    "gated feedback": lambda: GatedFeedback(3, 5, 2, cell="gru"),
    "ungated feedback": lambda: GatedFeedback(3, 5, 2, cell="lstm", gated=False),
}


@pytest.fixture(params=MODULES)
def module(request):
    torch.manual_seed(0)
    return MODULES[request.param]().double()


def _off(found, expected):
    return max(float((a - b).detach().abs().max()) for a, b in zip(found, expected, strict=True))


def test_gradients_are_the_same_with_a_graph_of_their_own(module):
    """A state that came from the same weights: what goes through it is counted once."""
    x, parameters = torch.randn(4, 2, 3).double(), list(module.parameters())

    def loss():
        output, state = module(x)
        return module(torch.sin(x + output.sum()), state)[0].square().sum()

    plain = torch.autograd.grad(loss(), parameters)
    assert _off(torch.autograd.grad(loss(), parameters, create_graph=True), plain) < 1e-10


def test_tied_weights_have_one_gradient():
    model = RNN(5, 5).double()
    model.weight_ih_l0 = model.weight_hh_l0
    x, parameters = torch.randn(4, 2, 5).double(), list(model.parameters())
    plain = torch.autograd.grad(model(x)[0].square().sum(), parameters)
    assert _off(torch.autograd.grad(model(x)[0].square().sum(), parameters, create_graph=True), plain) < 1e-12


def test_many_gradients_at_once(module):
    x = torch.randn(4, 2, 3).double()

    def sums(x):
        return module(x)[0].sum(-1)

    one_by_one = torch.autograd.functional.jacobian(sums, x)
    assert _off([torch.autograd.functional.jacobian(sums, x, vectorize=True)], [one_by_one]) < 1e-12


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.usefixtures("unchecked")
def test_it_can_be_traced(module):
    traced = torch.jit.trace(module, (torch.zeros(4, 2, 3).double(),))
    x = torch.randn(4, 2, 3).double()
    assert _off([traced(x)[0]], [module(x)[0]]) < 1e-12


def test_gradients_are_exact_when_taken_within_autocast():
    torch.manual_seed(0)
    for model in (RNN(3, 5), GatedFeedback(3, 5, 2, cell="tanh")):
        x, parameters = torch.randn(4, 2, 3), list(model.parameters())
        plain = torch.autograd.grad(model(x)[0].square().sum(), parameters)
        loss = model(x)[0].square().sum()
        with torch.autocast("cpu", torch.bfloat16):
            assert _off(torch.autograd.grad(loss, parameters), plain) < 1e-5


@pytest.mark.parametrize("hidden", [5, 80])
def test_peepholes_may_lie_in_memory_as_they_like(hidden):
    model, other = LSTM(3, hidden), LSTM(3, hidden)
    other.load_state_dict(model.state_dict())
    other.weight_ph_l0 = nn.Parameter(model.weight_ph_l0.detach().t().contiguous().t())
    assert not other.weight_ph_l0.is_contiguous()
    x = torch.randn(4, 2, 3, requires_grad=True)
    for found, expected in zip(
        (other(x)[0], *torch.autograd.grad(other(x)[0].square().sum(), [x, other.weight_ph_l0])),
        (model(x)[0], *torch.autograd.grad(model(x)[0].square().sum(), [x, model.weight_ph_l0])),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "weight", "got"),
    [
        ("weight_hh_l0", torch.zeros(20, 4), r"got \(20, 4\), torch.float32"),
        ("weight_ph_l0", torch.zeros(1, 5), r"got \(1, 5\), torch.float32"),
        ("weight_hh_l0", torch.zeros(20, 5).double(), r"got \(20, 5\), torch.float64"),
    ],
)
def test_replaced_weights_must_fit(name, weight, got):
    model = LSTM(3, 5)
    setattr(model, name, nn.Parameter(weight))
    with pytest.raises(ValueError, match=f"LSTM: {name} must have shape .*{got}"):
        model(torch.zeros(2, 1, 3))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("count", [1, 3])
def test_an_lstm_has_two_states(count):
    with pytest.raises(ValueError, match=rf"LSTM: hx must be \(h_0, c_0\), got {count} of them"):
        LSTM(3, 5)(torch.zeros(2, 1, 3), (torch.zeros(1, 1, 5),) * count)


def test_feedback_takes_states_of_its_own_precision():
    with pytest.raises(TypeError, match=r"GatedFeedback: hx is torch.float64 .* the parameters are torch.float32"):
        GatedFeedback(3, 5, 2)(torch.zeros(2, 1, 3), torch.zeros(2, 1, 5).double())
