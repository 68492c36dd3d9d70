import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from claimwise.adversarial import fgsm, fgsm_direction


def slow_fgsm(model, x, y, epsilon, bounds, targeted=False):
    """One example at a time, float64, one backward pass each."""
    model = copy.deepcopy(model).double().eval()
    results = []
    for i in range(len(x)):
        example = x[i : i + 1].double().requires_grad_()
        logits = model(example)[0]
        loss = torch.log(torch.exp(logits).sum()) - logits[y[i]]
        loss.backward()
        radius = epsilon[i] if isinstance(epsilon, list) else epsilon
        moved = example.detach().clone().flatten()
        for j, slope in enumerate(example.grad.flatten().tolist()):
            step = 0.0 if slope == 0 else radius * (1 if slope > 0 else -1) * (-1 if targeted else 1)
            moved[j] = moved[j].item() + step
            if bounds is not None:
                moved[j] = min(max(moved[j].item(), bounds[0]), bounds[1])
        results.append(moved.reshape(example.shape))
    return torch.cat(results)


@pytest.mark.parametrize("epsilon", [0, 0.1, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("targeted", [False, True])
def test_equals_the_slow_twin(digits_like, epsilon, bounds, targeted):
    model, x, y = digits_like
    found = fgsm(model, x, y, epsilon=epsilon, bounds=bounds, targeted=targeted)
    expected = slow_fgsm(model, x, y, epsilon, bounds, targeted)
    assert (found.double() - expected).abs().max() < 1e-6


def test_is_epsilon_sign_w_for_a_logistic_model():
    """The paper's own case: for a linear score the perturbation is epsilon times the sign of the weights."""
    torch.manual_seed(0)
    layer, x, y = nn.Linear(20, 1), torch.rand(6, 20), torch.tensor([1, -1, 1, 1, -1, -1])
    moved = fgsm(layer, x, y, epsilon=0.25, bounds=None, loss=lambda score, y: F.softplus(-y * score.squeeze(1)).mean())
    assert torch.allclose(moved - x, -0.25 * y.unsqueeze(1) * layer.weight.sign(), atol=1e-6)


def test_a_zero_gradient_moves_nothing():
    x = torch.full((1, 3), 0.5)
    moved = fgsm(lambda x: x[:, :2] * 2, x, torch.tensor([0]), epsilon=0.25)
    assert moved.tolist() == [[0.25, 0.75, 0.5]]


def test_targeted_lowers_and_untargeted_raises_the_loss(digits_like):
    model, x, y = digits_like
    model.eval()
    losses = [F.cross_entropy(model(fgsm(model, x, y, epsilon=0.01, targeted=t)), y).item() for t in (True, False)]
    assert losses[0] < F.cross_entropy(model(x), y).item() < losses[1]


def test_direction_is_reused_over_radii(digits_like):
    model, x, y = digits_like
    direction = fgsm_direction(model, x, y)
    assert set(direction.unique().tolist()) <= {-1.0, 0.0, 1.0}
    for epsilon in (0.0, 0.03, 0.3):
        assert torch.allclose(x + epsilon * direction, fgsm(model, x, y, epsilon=epsilon, bounds=None), atol=1e-7)
    assert torch.equal(fgsm_direction(model, x, y, targeted=True), -direction)


def test_an_examples_attack_does_not_depend_on_its_neighbours(digits_like):
    model, x, y = digits_like
    assert torch.equal(fgsm(model, x, y, epsilon=0.1)[2:3], fgsm(model, x[2:3], y[2:3], epsilon=0.1))


def test_a_confident_example_in_a_large_batch_still_has_a_direction():
    """A mean over the batch would underflow: the gradient here is near the smallest float64."""
    x = torch.zeros(10_000, 2, dtype=torch.float64)
    moved = fgsm(lambda x: x + torch.tensor([0.0, 740.0]), x, torch.ones(10_000).long(), epsilon=0.1, bounds=None)
    assert (moved[:, 0] == 0.1).all()


def test_custom_loss_one_value_an_example_or_a_mean(digits_like):
    model, x, y = digits_like
    expected = fgsm(model, x, y, epsilon=0.1)
    each = fgsm(model, x, y, epsilon=0.1, loss=lambda z, y: F.cross_entropy(z, y, reduction="none"))
    mean = fgsm(model, x, y, epsilon=0.1, loss=F.cross_entropy)
    assert torch.equal(each, expected)
    assert torch.equal(mean, expected)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_model_as_it_was(digits_like, fails):
    model, x, y = digits_like
    model[1].eval()  # modes differ among the modules
    if fails:
        model.append(Fails())
    F.cross_entropy(model[:6](x), y).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model[0].weight.requires_grad_(False)
    state, modes = snapshot(model), [module.training for module in model.modules()]
    generator_state = torch.random.get_rng_state()
    x.requires_grad_()
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            fgsm(model, x, y, epsilon=0.1)
    else:
        fgsm(model, x, y, epsilon=0.1)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert x.grad is None
    assert torch.equal(torch.random.get_rng_state(), generator_state)


def test_as_is_attacks_the_model_in_its_training_mode(digits_like):
    model, x, y = digits_like
    before = model[1].running_mean.clone()
    torch.manual_seed(1)
    as_is = fgsm(model, x, y, epsilon=0.1, mode="as-is")
    assert not torch.equal(model[1].running_mean, before)
    assert not torch.equal(as_is, fgsm(model, x, y, epsilon=0.1))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(digits_like, context):
    model, x, y = digits_like
    expected = fgsm(model, x, y, epsilon=0.1)
    with context():
        assert torch.equal(fgsm(model, x.clone(), y.clone(), epsilon=0.1), expected)


def test_result_has_no_graph_and_input_is_not_written(digits_like):
    model, x, y = digits_like
    kept = x.clone()
    moved = fgsm(model, x, y, epsilon=0.1)
    assert not moved.requires_grad
    assert torch.equal(x, kept)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_the_dtype(digits_like, dtype):
    model, x, y = digits_like
    assert fgsm(model.to(dtype), x.to(dtype), y, epsilon=[0.1] * 7).dtype == dtype


def test_float64_radii_keep_their_digits(digits_like):
    model, x, y = digits_like
    moved = fgsm(model.double(), x.double(), y, epsilon=[0.1] * 7, bounds=None)
    assert ((moved - x).abs() - 0.1).abs().max() < 1e-12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(digits_like):
    model, x, y = digits_like
    expected = fgsm(model, x, y, epsilon=0.1)
    assert torch.allclose(fgsm(model.cuda(), x.cuda(), y.cuda(), epsilon=[0.1] * 7).cpu(), expected, atol=1e-6)


def test_compiled_model(digits_like):
    model, x, y = digits_like
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.allclose(fgsm(compiled, x, y, epsilon=0.1), fgsm(model, x, y, epsilon=0.1), atol=1e-6)
    assert model.training


def test_empty_batch(digits_like):
    model, x, y = digits_like
    assert fgsm(model, x[:0], y[:0], epsilon=0.1).shape == (0, 1, 8, 8)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2), st.integers(0, 10_000))
def test_stays_in_the_ball_and_within_bounds(epsilon, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(3, 6, generator=generator), torch.randint(4, (3,), generator=generator)
    weight = torch.randn(6, 4, generator=generator)
    moved = fgsm(lambda x: torch.tanh(x @ weight), x, y, epsilon=epsilon)
    assert (moved - x).abs().max() <= epsilon + 1e-6
    assert 0 <= moved.min() <= moved.max() <= 1


class TestDoors:
    pytestmark = pytest.mark.usefixtures("unchecked")

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"epsilon": -0.1}, ValueError, r"fgsm: epsilon must be >= 0, got -0.1"),
            ({"epsilon": float("nan")}, ValueError, r"epsilon must be >= 0, got nan"),
            ({"epsilon": float("inf")}, ValueError, r"epsilon must be >= 0, got inf"),
            ({"epsilon": [0.1] * 6}, ValueError, r"shape \(7,\), got shape \(6,\)"),
            ({"epsilon": [0.1] * 6 + [-0.2]}, ValueError, r"every example, got a smallest of -0.2"),
            ({"epsilon": torch.tensor(-1.0)}, ValueError, r"epsilon must be >= 0, got -1"),
            ({"epsilon": "much"}, TypeError, r"epsilon must be a number .* got 'much'"),
            ({"epsilon": True}, TypeError, r"epsilon must be a number .* got True"),
            ({"bounds": (1.0, 0.0)}, ValueError, r"bounds must be \(low, high\).*got \(1.0, 0.0\)"),
            ({"bounds": (0.0, 0.5)}, ValueError, r"x must lie within bounds \(0.0, 0.5\).*bounds=None"),
            ({"mode": "train"}, ValueError, r"mode must be 'eval' or 'as-is', got 'train'"),
            ({"y": torch.tensor([0, 1, 2, 3, 4, 5, 0])}, ValueError, r"labels must be in 0..4 .* from 0 to 5"),
            ({"y": torch.tensor([0, 1, 2, 3, 4, -1, 0])}, ValueError, r"labels must be in 0..4 .* from -1 to 4"),
            ({"y": torch.zeros(6, dtype=torch.long)}, ValueError, r"shape \(7,\), got shape \(6,\)"),
            ({"y": torch.zeros(7, 5, dtype=torch.long)}, ValueError, r"shape \(7,\), got shape \(7, 5\)"),
            ({"y": torch.zeros(7)}, TypeError, r"y must hold integer class numbers, got torch.float32"),
            ({"y": [0] * 7}, TypeError, r"y must be a torch.Tensor, got list"),
            (
                {"x": torch.zeros(7, 1, 8, 8, dtype=torch.uint8)},
                TypeError,
                r"x must be floating point, got torch.uint8",
            ),
            ({"x": np.zeros((7, 1, 8, 8))}, TypeError, r"x must be a torch.Tensor, got ndarray"),
            ({"x": torch.full((7, 1, 8, 8), float("nan"))}, ValueError, r"x must be finite, got NaN"),
            ({"x": torch.full((7, 1, 8, 8), float("inf")), "bounds": None}, ValueError, r"finite, got infinite"),
            ({"x": torch.zeros(7)}, ValueError, r"x must be a batch.*got shape \(7,\).*unsqueeze"),
            ({"model": lambda x: x.detach()[:, 0, 0, :5]}, ValueError, r"the loss does not depend on x"),
            ({"model": lambda x: x[:, 0, 0, 0]}, ValueError, r"logits of shape \(batch, classes\).*got \(7,\)"),
            ({"model": lambda x: (x,)}, TypeError, r"logits as one tensor, got tuple"),
            ({"model": lambda x: x[:, 0, 0, :5] / 0 * 0}, ValueError, r"the gradient is NaN for 7 of 7 examples"),
        ],
    )
    def test_bad_input_is_refused_by_name(self, digits_like, change, error, message):
        model, x, y = digits_like
        given = {"model": model, "x": x, "y": y, "epsilon": 0.1} | change
        with pytest.raises(error, match=message):
            fgsm(given.pop("model"), given.pop("x"), given.pop("y"), **given)

    def test_a_parameter_alone_is_no_dependence_on_x(self, digits_like):
        _, x, y = digits_like
        bias = nn.Parameter(torch.zeros(7, 5))
        with pytest.raises(ValueError, match="does not depend on x"):
            fgsm(lambda x: bias, x, y, epsilon=0.1)


@pytest.fixture(scope="module")
def oracle_case():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10)).eval()
    return model, torch.rand(16, 1, 8, 8), torch.randint(10, (16,))


def test_equals_torchattacks(oracle_case):
    torchattacks = pytest.importorskip("torchattacks")
    model, x, y = oracle_case
    assert (fgsm(model, x, y, epsilon=0.2) - torchattacks.FGSM(model, eps=0.2)(x, y)).abs().max() < 1e-6


def test_equals_foolbox(oracle_case):
    foolbox = pytest.importorskip("foolbox")
    model, x, y = oracle_case
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, (expected,), _ = foolbox.attacks.LinfFastGradientAttack()(wrapped, x, y, epsilons=[0.2])
    assert (fgsm(model, x, y, epsilon=0.2) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("targeted", [False, True])
def test_equals_adversarial_robustness_toolbox(oracle_case, targeted):
    pytest.importorskip("art")
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    model, x, y = oracle_case
    wrapped = PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu")
    attack = FastGradientMethod(wrapped, eps=0.2, targeted=targeted)
    expected = torch.as_tensor(attack.generate(x.numpy(), F.one_hot(y, 10).numpy()))
    assert (fgsm(model, x, y, epsilon=0.2, targeted=targeted) - expected).abs().max() < 1e-6
