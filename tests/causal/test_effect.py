import pytest
import torch

from claimwise.causal import SCM, Bernoulli, Finite, Normal, Variable, natural_indirect_effect, total_effect


@pytest.fixture
def coin():
    return SCM(
        {
            "X": Variable(lambda: 0),
            "Y": Variable(lambda x, u: x * u, parents=("X",), noise=Finite([1.0, 3.0], [0.75, 0.25])),
        }
    )


def test_exact_effects_are_weighted_sums_without_error(coin):
    effect = total_effect(coin, "X", "Y", x=1, reference=0, units=coin.enumerate())
    assert effect.per_unit.tolist() == [1.0, 3.0]
    assert float(effect) == 1.5
    assert float(effect.standard_error) == 0


def test_draws_give_mean_and_standard_error(coin):
    units = coin.sample(10_000, generator=torch.Generator().manual_seed(1))
    effect = total_effect(coin, "X", "Y", x=1, reference=0, units=units)
    values = effect.per_unit.tolist()
    mean = sum(values) / len(values)
    error = (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
    assert float(effect.mean) == pytest.approx(mean, rel=1e-12)
    assert float(effect.standard_error) == pytest.approx(error, rel=1e-12)
    assert abs(mean - 1.5) < 4 * error


def test_standard_error_covers_the_truth_as_often_as_it_says():
    model = SCM(
        {
            "X": Variable(lambda: 0),
            "Z": Variable(lambda x, u: x + u, parents=("X",), noise=Normal()),
            "Y": Variable(lambda z: z**2, parents=("Z",)),
        }
    )  # Y_1 - Y_0 = (1 + u)^2 - u^2 = 1 + 2u: mean 1
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):
        effect = natural_indirect_effect(model, "X", "Y", x=1, reference=0, units=model.sample(50, generator=generator))
        inside += abs(float(effect) - 1) <= 2.0096 * float(effect.standard_error)  # t quantile, 49 degrees
    assert 0.92 <= inside / 400 <= 0.98  # 0.95 with a standard error of 0.011


def test_vector_outcomes():
    model = SCM(
        {
            "X": Variable(lambda: 0),
            "Y": Variable(lambda x, u: torch.stack([x + u, 2 * x], 1), parents=("X",), noise=Bernoulli(0.5)),
        }
    )
    effect = total_effect(model, "X", "Y", x=1, reference=0, units=model.enumerate())
    assert effect.mean.tolist() == [1.0, 2.0]
    assert effect.standard_error.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_the_model_is_kept(dtype):
    noise = Finite(torch.tensor([0.5, 1.5], dtype=dtype), [0.5, 0.5])
    model = SCM({"X": Variable(lambda: 0), "Y": Variable(lambda x, u: x * u, parents=("X",), noise=noise)})
    effect = total_effect(model, "X", "Y", x=1, reference=0, units=model.enumerate())
    assert effect.mean.dtype == dtype
    assert float(effect) == 1.0


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"treatment": "X", "outcome": "X"}, "treatment and outcome must differ, got 'X' for both"),
        ({"treatment": "X", "outcome": "Q"}, "natural_indirect_effect: unknown variable 'Q'"),
        ({"treatment": "X", "outcome": "Y", "mediators": ["Z", "Y"]}, "neither treatment nor outcome, got 'Y'"),
        ({"treatment": "X", "outcome": "Y", "mediators": "V"}, "unknown variable 'V'"),
    ],
)
def test_bad_questions_are_refused(and_gate, question, message):
    with pytest.raises(ValueError, match=message):
        natural_indirect_effect(and_gate, **question, x=1, reference=0, units=and_gate.enumerate())
