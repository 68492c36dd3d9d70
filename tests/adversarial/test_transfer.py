import math
from functools import partial

import pytest
import torch
from torch import nn

from claimwise.adversarial import (
    RBFClassifier,
    agreement_on_mistakes,
    fgsm,
    mistakes,
    rbf_loss,
    transfer_matrix,
)

ATTACK = partial(fgsm, epsilon=0.2)


def three_models():
    torch.manual_seed(0)
    return {
        "linear": nn.Linear(6, 3),
        "deep": nn.Sequential(nn.Linear(6, 8), nn.Dropout(), nn.Tanh(), nn.Linear(8, 3)),
        "radial": RBFClassifier(6, 3, centres=torch.rand(3, 6)),
    }


def test_equals_loops_over_pairs_and_examples():
    models = three_models()
    x, y = torch.rand(50, 6), torch.randint(3, (50,))
    attacks = {"linear": ATTACK, "deep": ATTACK, "radial": partial(fgsm, epsilon=0.1, loss=rbf_loss)}
    readings = {"linear": partial(torch.softmax, dim=1), "deep": partial(torch.softmax, dim=1), "radial": torch.exp}
    found = transfer_matrix(models, x, y, attack=attacks, probabilities=readings)
    assert models["deep"].training
    models["deep"].eval()
    assert found.names == ("linear", "deep", "radial")
    for s, source in enumerate(found.names):
        moved = attacks[source](models[source], x, y)
        own = models[source](moved).argmax(1).tolist()
        for t, target in enumerate(found.names):
            logits = models[target](moved).detach()
            guess, label = logits.argmax(1).tolist(), y.tolist()
            wrong = [i for i in range(50) if guess[i] != label[i]]
            assert found.error[s, t].item() == pytest.approx(len(wrong) / 50)
            sure = [readings[target](logits)[i, guess[i]].item() for i in wrong]
            assert found.confidence[s, t].item() == pytest.approx(sum(sure) / len(sure), rel=1e-5)
            own_wrong = [i for i in range(50) if own[i] != label[i]]
            both = [i for i in own_wrong if guess[i] != label[i]]
            same = [i for i in own_wrong if guess[i] == own[i]]
            assert found.agreement[s, t].item() == pytest.approx(len(same) / len(own_wrong))
            assert found.agreement_when_both_wrong[s, t].item() == pytest.approx(len(same) / len(both))
            assert found.prediction[s, t].tolist() == guess
    for t, target in enumerate(found.names):
        assert found.clean_error[t].item() == pytest.approx(mistakes(models[target](x), y).error)


def test_a_model_agrees_with_itself():
    found = transfer_matrix(three_models(), torch.rand(30, 6), torch.randint(3, (30,)), attack=ATTACK)
    assert found.agreement.diagonal().tolist() == [1.0, 1.0, 1.0]


def test_agreement_conditions_on_what_it_says():
    first, second, y = torch.tensor([1, 1, 1, 0]), torch.tensor([1, 2, 0, 1]), torch.tensor([0, 0, 0, 0])
    assert agreement_on_mistakes(first, second, y) == (1 / 3, 1 / 2)
    assert agreement_on_mistakes(second, first, y) == (1 / 3, 1 / 2)
    assert all(math.isnan(share) for share in agreement_on_mistakes(y, second, y))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "needs models and examples, got 0 models"),
        ({"x": torch.zeros(0, 6), "y": torch.zeros(0, dtype=torch.long)}, "got 3 models, 0 examples"),
        ({"attack": {"linear": ATTACK}}, "attack missing for deep, radial"),
        ({"probabilities": {"linear": torch.exp, "deep": torch.exp}}, "probabilities missing for radial"),
        ({"attack": lambda model, x, y: x[:1]}, r"the attack on 'linear' must keep the shape \(4, 6\), got \(1, 6\)"),
        ({"y": torch.tensor([0, 1, 2, 3])}, r"labels must be in 0..2"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    given = {"models": three_models(), "x": torch.rand(4, 6), "y": torch.tensor([0, 1, 2, 0]), "attack": ATTACK}
    given |= change
    with pytest.raises(ValueError, match=message):
        transfer_matrix(given.pop("models"), given.pop("x"), given.pop("y"), **given)


@pytest.mark.usefixtures("unchecked")
def test_agreement_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"shapes must be equal, got \(1,\), \(2,\) and \(1,\)"):
        agreement_on_mistakes(torch.zeros(1).long(), torch.zeros(2).long(), torch.zeros(1).long())
