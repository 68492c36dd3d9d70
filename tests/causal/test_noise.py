import pytest
import torch

from claimwise.causal import Bernoulli, Draws, Finite, Normal


def test_values_keep_their_kind():
    assert Finite([0, 1], [0.5, 0.5]).values.dtype == torch.int64
    assert Finite([0.0, 0.1], [0.5, 0.5]).values.dtype == torch.float64
    assert Finite([0.0, 0.1], [0.5, 0.5]).values[1] == 0.1  # not rounded to single precision
    assert Bernoulli(1).probabilities.tolist() == [0.0, 1.0]


def test_draws_follow_the_probabilities_and_the_generator():
    noise = Finite([[0, 0], [1, 1], [5, 5]], [0.2, 0.5, 0.3])
    drawn = noise.draw(20_000, torch.Generator().manual_seed(3))
    assert drawn.shape == (20_000, 2)
    assert torch.equal(drawn, noise.draw(20_000, torch.Generator().manual_seed(3)))
    shares = torch.stack([(drawn[:, 0] == v).double().mean() for v in (0, 1, 5)])
    assert (shares - noise.probabilities).abs().max() < 4 * (0.25 / 20_000) ** 0.5  # four standard errors


def test_normal_has_the_covariance_asked_for():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 1.0]])
    drawn = Normal(covariance=covariance).draw(100_000, torch.Generator().manual_seed(0))
    assert (drawn.T.cov() - covariance).abs().max() < 0.04  # entries have standard errors below 0.009
    assert Normal(0).draw(4, torch.Generator()).tolist() == [0] * 4
    assert Normal(3.0).draw(100_000, torch.Generator().manual_seed(0)).std() == pytest.approx(3.0, abs=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Finite([], []), "at least one row"),
        (lambda: Finite([1, 2], [1.0]), "one per value"),
        (lambda: Finite([1, 2], [0.5, 0.6]), r"sum to 1, got .*sum 1.1\); divide"),
        (lambda: Finite([1, 2], [1.5, -0.5]), ">= 0"),
        (lambda: Finite([1, 2], [float("nan"), 1]), ">= 0 and sum to 1"),
        (lambda: Bernoulli(1.5), r"\[0, 1\], got 1.5"),
        (lambda: Normal(-1.0), ">= 0, got -1.0"),
        (lambda: Normal(float("inf")), "finite"),
        (lambda: Normal(2.0, covariance=[[1.0]]), "got both"),
        (lambda: Normal(covariance=[[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: Normal(covariance=[[1.0, 0.2], [0.1, 1.0]]), "symmetric"),
        (lambda: Draws(lambda n, g: torch.zeros(n + 1)).draw(2, torch.Generator()), r"2 rows, got \(3,\)"),
        (lambda: Draws(lambda n, g: [0] * n).draw(2, torch.Generator()), "got list"),
    ],
)
def test_bad_noise_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
