import pytest
import torch
import torch.nn.functional as F
from torch import nn

from claimwise.adversarial import AdversarialObjective, fgsm


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_is_the_mixture_of_the_formula(digits_like, alpha, bounds):
    model, x, y = digits_like
    model.eval()
    expected = alpha * F.cross_entropy(model(x), y) + (1 - alpha) * F.cross_entropy(
        model(fgsm(model, x, y, epsilon=0.1, bounds=bounds)), y
    )
    found = AdversarialObjective(epsilon=0.1, alpha=alpha, bounds=bounds)(model, x, y)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradient_is_that_of_the_loss_on_fixed_examples(digits_like):
    """Nothing flows through the sign: with x_adv made beforehand and held constant, the gradients are the same."""
    model, x, y = digits_like
    model.eval()
    AdversarialObjective(epsilon=0.1)(model, x, y).backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    fixed = fgsm(model, x, y, epsilon=0.1).detach()
    (0.5 * F.cross_entropy(model(x), y) + 0.5 * F.cross_entropy(model(fixed), y)).backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-7)


def test_examples_are_made_anew_at_every_step():
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), torch.rand(5, 4), torch.randint(3, (5,))
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    objective = AdversarialObjective(epsilon=0.2)
    objective(model, x, y)
    with torch.no_grad():
        model.weight.neg_()
    objective(model, x, y)
    first, second = (max(seen[k : k + 3], key=lambda batch: (batch - x).abs().max()) for k in (0, 3))
    assert (first - x).abs().max() > 0.1
    assert not torch.equal(first, second)


def test_attack_in_eval_mode_losses_in_training_mode():
    modes = []
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
    model[0].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    x, y = torch.rand(4, 3), torch.randint(2, (4,))
    AdversarialObjective(epsilon=0.1)(model, x, y)
    assert modes == [False, True, True]
    modes.clear()
    AdversarialObjective(epsilon=0.1, mode="as-is")(model, x, y)
    assert modes == [True, True, True]


def test_custom_loss_is_attacked_and_minimised():
    model, x, y = nn.Linear(3, 1), torch.rand(4, 3), torch.rand(4)

    def squared(output, y):
        return (output.squeeze(1) - y).square().mean()

    found = AdversarialObjective(epsilon=0.1, loss=squared, bounds=None)(model, x, y)
    moved = fgsm(model, x, y, epsilon=0.1, loss=squared, bounds=None)
    assert found.item() == pytest.approx((0.5 * squared(model(x), y) + 0.5 * squared(model(moved), y)).item())


def test_training_on_it_makes_a_model_robust():
    """Two features: a strong robust one and a weak one that is always right; only plain training relies on the weak."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (400,), generator=generator)
    sign = (2 * y - 1).float()
    flip = torch.where(torch.rand(400, generator=generator) < 0.05, -1.0, 1.0)
    x = torch.stack([sign * flip, 0.1 * sign], 1)
    errors = []
    for objective in (lambda m, x, y: F.cross_entropy(m(x), y), AdversarialObjective(epsilon=0.3, bounds=None)):
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(300):
            optimizer.zero_grad()
            objective(model, x, y).backward()
            optimizer.step()
        moved = fgsm(model, x, y, epsilon=0.3, bounds=None)
        errors.append((model(moved).argmax(1) != y).float().mean().item())
    assert errors[1] < 0.1 < errors[0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.1, "alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"epsilon": -0.1}, r"epsilon must be >= 0, got -0.1"),
        ({"epsilon": float("nan")}, r"epsilon must be >= 0, got nan"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=f"AdversarialObjective: {message}"):
        AdversarialObjective(**settings)


def test_shows_its_settings():
    assert "epsilon=0.25, alpha=0.5" in repr(AdversarialObjective(epsilon=0.25))
