import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.adversarial import adversarial_logistic_loss, fgsm, linear_worst_case


def corners(x, epsilon):
    """Every corner of the ball around one example; the maximum of a convex loss lies on one."""
    for signs in itertools.product((-1.0, 1.0), repeat=len(x)):
        yield x + epsilon * torch.tensor(signs, dtype=x.dtype)


def problem(seed, classes=None, batch=4, features=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, features, generator=generator, dtype=torch.float64)
    if classes is None:
        weight, bias = torch.randn(features, generator=generator, dtype=torch.float64), 0.3
        y = 2 * torch.randint(2, (batch,), generator=generator) - 1
    else:
        weight = torch.randn(classes, features, generator=generator, dtype=torch.float64)
        bias = torch.randn(classes, generator=generator, dtype=torch.float64)
        y = torch.randint(classes, (batch,), generator=generator)
    return weight, bias, x, y


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 2))
def test_binary_equals_the_search_over_all_corners(seed, epsilon):
    weight, bias, x, y = problem(seed)
    found = linear_worst_case(weight, bias, x, y, epsilon=epsilon)
    losses = adversarial_logistic_loss(weight, bias, x, y, epsilon=epsilon, reduction="none")
    for i in range(len(x)):
        margin = min(
            y[i].item() * sum(w * v for w, v in zip(weight, corner, strict=True)) + y[i].item() * bias
            for corner in corners(x[i], epsilon)
        )
        assert found.margin[i].item() == pytest.approx(margin.item(), abs=1e-9)
        assert y[i] * (found.x_adv[i] @ weight + bias) == pytest.approx(margin.item(), abs=1e-9)
        assert losses[i].item() == pytest.approx(math.log1p(math.exp(-margin.item())), rel=1e-9)
        assert found.rival[i] == -y[i]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 2), st.integers(2, 4))
def test_many_classes_equals_the_search_over_all_corners(seed, epsilon, classes):
    weight, bias, x, y = problem(seed, classes)
    found = linear_worst_case(weight, bias, x, y, epsilon=epsilon)
    for i in range(len(x)):
        margins = []
        for corner in corners(x[i], epsilon):
            scores = [float(weight[k] @ corner + bias[k]) for k in range(classes)]
            margins.append(scores[y[i]] - max(score for k, score in enumerate(scores) if k != y[i]))
        assert found.margin[i].item() == pytest.approx(min(margins), abs=1e-9)
        scores = weight @ found.x_adv[i] + bias
        assert (scores[y[i]] - scores[found.rival[i]]).item() == pytest.approx(min(margins), abs=1e-9)


def test_fgsm_finds_it_for_two_classes_and_does_less_for_more():
    weight, bias, x, y = problem(0, classes=2)
    worst = linear_worst_case(weight, bias, x, y, epsilon=0.3)
    moved = fgsm(lambda x: x @ weight.T + bias, x, y, epsilon=0.3, bounds=None)
    assert torch.allclose(moved, worst.x_adv)
    weight, bias, x, y = problem(1, classes=6, batch=200)
    worst = linear_worst_case(weight, bias, x, y, epsilon=0.3)
    scores = fgsm(lambda x: x @ weight.T + bias, x, y, epsilon=0.3, bounds=None) @ weight.T + bias
    own = scores.gather(1, y.unsqueeze(1)).squeeze(1)
    margin = own - scores.scatter(1, y.unsqueeze(1), -math.inf).amax(1)
    assert (margin >= worst.margin - 1e-9).all()
    assert (margin > worst.margin + 1e-3).any()


def test_one_epsilon_an_example():
    weight, bias, x, y = problem(2, classes=3)
    radii = torch.tensor([0.0, 0.1, 0.2, 0.3], dtype=torch.float64)
    together = linear_worst_case(weight, bias, x, y, epsilon=radii)
    for i, radius in enumerate(radii.tolist()):
        alone = linear_worst_case(weight, bias, x[i : i + 1], y[i : i + 1], epsilon=radius)
        assert torch.allclose(together.margin[i], alone.margin[0])
        assert torch.allclose(together.x_adv[i], alone.x_adv[0])


def test_the_printed_form_is_no_worst_case_for_the_negative_class():
    """zeta(y (eps |w|_1 - w.x - b)), as printed, falls with epsilon where y = -1; the true loss rises."""
    weight, bias, x, _ = problem(3)
    y = -torch.ones(4, dtype=torch.long)

    def printed(epsilon):
        return F.softplus(y * (epsilon * weight.abs().sum() - x @ weight - bias)).mean()

    assert printed(0.5) < printed(0.0)
    true = [adversarial_logistic_loss(weight, bias, x, y, epsilon=e).item() for e in (0.0, 0.5)]
    assert true[1] > true[0] == pytest.approx(printed(0.0).item())
    y = -y
    assert adversarial_logistic_loss(weight, bias, x, y, epsilon=0.5).item() == pytest.approx(
        F.softplus(0.5 * weight.abs().sum() - x @ weight - bias).mean().item()
    )


def test_gradients_of_the_loss():
    weight, _, x, y = problem(4)
    bias = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w, b: adversarial_logistic_loss(w, b, x, y, epsilon=0.1), (weight.requires_grad_(), bias)
    )


def test_the_penalty_switches_off_when_the_margin_is_wide():
    weight, x, y = torch.tensor([1.0, -1.0]), torch.tensor([[50.0, -50.0]]), torch.tensor([1])
    weight.requires_grad_()
    adversarial_logistic_loss(weight, 0.0, x, y, epsilon=0.1).backward()
    assert weight.grad.abs().max() < 1e-20


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epsilon": -1}, ValueError, "linear_worst_case: epsilon must be >= 0, got -1"),
        ({"y": torch.tensor([0, 1, 1, 0])}, ValueError, r"must be -1 or 1, got \[0, 1\]; use 2 \* y - 1"),
        ({"y": torch.zeros(4)}, TypeError, "integer class numbers, got torch.float32"),
        ({"x": torch.zeros(4, 2, 5)}, ValueError, r"x must be \(batch, features\), got shape \(4, 2, 5\)"),
        ({"weight": torch.zeros(4)}, ValueError, r"weight must have shape \(5,\) or \(classes, 5\), got \(4,\)"),
        ({"weight": torch.zeros(1, 5)}, ValueError, r"one row, no rival class"),
        ({"weight": torch.zeros(3, 5), "y": torch.tensor([0, 1, 2, 3])}, ValueError, r"labels must be in 0..2"),
        ({"bias": torch.zeros(2)}, ValueError, r"bias must be a number or have shape \(\), got \(2,\)"),
    ],
)
def test_bad_input_is_refused_by_name(change, error, message):
    given = {"weight": torch.ones(5), "bias": 0.0, "x": torch.zeros(4, 5), "y": torch.tensor([1, -1, 1, 1])} | change
    with pytest.raises(error, match=message):
        linear_worst_case(given["weight"], given["bias"], given["x"], given["y"], epsilon=given.get("epsilon", 0.1))


@pytest.mark.usefixtures("unchecked")
def test_the_loss_refuses_many_classes_and_unknown_reductions():
    x, y = torch.zeros(2, 3), torch.tensor([1, 0])
    with pytest.raises(ValueError, match=r"weight must have shape \(features,\), got \(2, 3\)"):
        adversarial_logistic_loss(torch.ones(2, 3), 0.0, x, y, epsilon=0.1)
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'max'"):
        adversarial_logistic_loss(torch.ones(3), 0.0, x, 2 * y - 1, epsilon=0.1, reduction="max")
