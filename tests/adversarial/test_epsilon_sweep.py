import pytest
import torch

from claimwise.adversarial import fgsm, fgsm_direction, logits_along


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_equals_the_model_on_one_attack_an_epsilon(digits_like, bounds):
    model, x, y = digits_like
    epsilons = [0.0, 0.05, 0.4]
    logits = logits_along(model, x, fgsm_direction(model, x, y), epsilons, bounds=bounds)
    assert model.training
    model.eval()
    for i, epsilon in enumerate(epsilons):
        moved = fgsm(model, x, y, epsilon=epsilon, bounds=bounds)
        assert torch.allclose(logits[i], model(moved), atol=1e-5)
    assert not logits.requires_grad


def test_a_negative_epsilon_goes_the_other_way():
    logits = logits_along(lambda x: x, torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([-1.0, 2.0]), bounds=None)
    assert logits[:, 0, 0].tolist() == [-1.0, 2.0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("x", "direction", "epsilons", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), [0.1], r"direction must have the shape of x, \(2, 3\), got \(2, 4\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), [], r"one or more finite numbers, got \[\]"),
        (torch.zeros(2, 3), torch.zeros(2, 3), [float("nan")], r"finite numbers, got \[nan\]"),
        (torch.full((2, 3), 2.0), torch.zeros(2, 3), [0.1], r"x must lie within bounds"),
    ],
)
def test_bad_input_is_refused_by_name(x, direction, epsilons, message):
    with pytest.raises(ValueError, match=message):
        logits_along(lambda x: x, x, direction, epsilons)
