import math

import pytest
import torch

from claimwise.adversarial import mistakes


def test_counts_over_all_and_confidence_over_the_wrong():
    torch.manual_seed(0)
    logits, y = torch.randn(40, 5), torch.randint(5, (40,))
    found = mistakes(logits, y)
    wrong, right = [], []
    for row, label in zip(logits.double().tolist(), y.tolist(), strict=True):
        total = sum(math.exp(value) for value in row)
        guess = max(range(5), key=lambda k: row[k])
        (right if guess == label else wrong).append(math.exp(row[guess]) / total)
    assert (found.count, found.total) == (len(wrong), 40)
    assert found.error == len(wrong) / 40
    assert found.confidence == pytest.approx(sum(wrong) / len(wrong), rel=1e-6)
    assert found.confidence_when_right == pytest.approx(sum(right) / len(right), rel=1e-6)
    assert torch.equal(found.wrong, found.prediction != y)


def test_no_mistakes_has_no_confidence():
    found = mistakes(torch.tensor([[5.0, 0.0]]), torch.tensor([0]))
    assert found.error == 0
    assert math.isnan(found.confidence)


def test_probabilities_are_the_callers():
    found = mistakes(torch.tensor([[-1.0, -3.0]]), torch.tensor([1]), probabilities=torch.exp)
    assert found.confidence == pytest.approx(math.exp(-1))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "no examples"),
        (torch.full((1, 2), float("nan")), torch.tensor([0]), "logits contain NaN"),
        (torch.zeros(1, 2), torch.tensor([2]), r"labels must be in 0..1"),
        (torch.zeros(3), torch.tensor([0, 0, 0]), r"got \(3,\)"),
    ],
)
def test_bad_input_is_refused_by_name(logits, y, message):
    with pytest.raises(ValueError, match=f"mistakes: .*{message}"):
        mistakes(logits, y)
