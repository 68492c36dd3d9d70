import pytest
import torch
from torch import nn

from claimwise.adversarial import RBFClassifier, fooling_images, rubbish, rubbish_error


def test_inputs_are_standard_normal_and_come_from_the_generator():
    state = torch.random.get_rng_state()
    x, again = (rubbish(200, (10, 10), generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(x, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert abs(x.mean().item()) < 4 / 20_000**0.5
    assert x.var().item() == pytest.approx(1, abs=0.05)
    assert rubbish(2, (3,), dtype=torch.float64).dtype == torch.float64


def test_error_is_the_share_above_one_half():
    logits = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.2, 0.8], [0.45, 0.55]]).log()
    found = rubbish_error(lambda x: x, logits)
    assert (found.count, found.total, found.error) == (3, 4, 0.75)
    assert found.confidence == pytest.approx((0.6 + 0.8 + 0.55) / 3)
    assert found.accepted.tolist() == [True, False, True, True]


def test_reading_of_the_logits_is_the_callers():
    x = torch.tensor([[0.1, 0.1], [-0.1, -0.1]])
    assert rubbish_error(lambda x: x, x).error == 0
    assert rubbish_error(lambda x: x, x, probabilities=torch.sigmoid).error == 0.5


def test_a_radial_model_rejects_rubbish_where_a_linear_one_accepts():
    torch.manual_seed(0)
    x = rubbish(500, (64,), generator=torch.Generator().manual_seed(1))
    assert (
        rubbish_error(
            RBFClassifier(64, 10, centres=torch.rand(10, 64), init_precision=1.0), x, probabilities=torch.exp
        ).error
        == 0
    )
    linear = nn.Linear(64, 10)
    nn.init.normal_(linear.weight)
    assert rubbish_error(linear, x).error > 0.9


def test_runs_in_eval_mode():
    model = nn.Sequential(nn.Dropout(), nn.Linear(4, 2))
    x = rubbish(50, (4,))
    assert rubbish_error(model, x).count == rubbish_error(model, x).count
    assert model.training


def test_fooling_images_raise_the_classs_probability():
    torch.manual_seed(0)
    model = nn.Linear(20, 4)
    x = rubbish(30, (20,))
    moved = fooling_images(model, x, 2, epsilon=0.25)
    assert (moved - x).abs().max() <= 0.25 + 1e-6
    assert (model(moved).softmax(1)[:, 2] > model(x).softmax(1)[:, 2]).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rubbish(0, (2,)), "rubbish: sizes must be at least 1"),
        (lambda: rubbish_error(lambda x: x, torch.zeros(0, 2)), "no inputs"),
        (lambda: rubbish_error(lambda x: x, torch.zeros(1, 2), threshold=1.0), r"threshold must be in \[0, 1\), got 1"),
        (lambda: rubbish_error(lambda x: x * float("nan"), torch.zeros(1, 2)), "probabilities contain NaN"),
        (lambda: fooling_images(lambda x: x, torch.zeros(1, 2), 2, epsilon=0.1), "labels must be in 0..1"),
        (lambda: fooling_images(lambda x: x, torch.zeros(1, 2), 1, epsilon=-0.1), "epsilon must be >= 0, got -0.1"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
