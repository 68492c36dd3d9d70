import copy
import math

import pytest
import torch

from claimwise.adversarial import RBFClassifier, fgsm, rbf_loss

PRECISIONS = ["scalar", "diagonal", "full"]


def trained(precision, dtype=torch.float64, features=4, classes=3):
    torch.manual_seed(0)
    model = RBFClassifier(features, classes, precision=precision).to(dtype)
    with torch.no_grad():
        model.raw_precision.add_(torch.randn_like(model.raw_precision))
    return model


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equals_the_quadratic_form_of_the_formula(precision):
    model, x = trained(precision), torch.randn(6, 4, dtype=torch.float64)
    found, beta = model(x), model.beta()
    for n in range(6):
        for k in range(3):
            away = x[n] - model.centre[k]
            quadratic = sum(away[i] * beta[k, i, j] * away[j] for i in range(4) for j in range(4))
            assert found[n, k].item() == pytest.approx(quadratic.item(), rel=1e-9)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_beta_is_negative_definite_and_has_its_shape(precision):
    beta = trained(precision).beta()
    assert (torch.linalg.eigvalsh(beta) < 0).all()
    off_diagonal = beta - torch.diag_embed(beta.diagonal(dim1=1, dim2=2))
    assert (off_diagonal.abs().max() > 0) == (precision == "full")
    one_value = beta.diagonal(dim1=1, dim2=2).std(dim=1) < 1e-12
    assert bool(one_value.all()) == (precision == "scalar")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_start_is_the_given_multiple_of_the_identity(precision):
    model = RBFClassifier(5, 2, precision=precision, init_precision=0.37)
    assert torch.allclose(model.beta(), -0.37 * torch.eye(5).expand(2, 5, 5), atol=1e-6)
    assert torch.allclose(RBFClassifier(5, 2, precision=precision).beta()[0], -0.2 * torch.eye(5), atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_at_the_centre_and_nothing_far_away(precision):
    centres = 100 + torch.rand(2, 300)
    model = RBFClassifier(300, 2, precision=precision, centres=centres, init_precision=1.0)
    # Float32, far from the origin: the expanded square must not lose its digits (nor become a probability above 1).
    assert (model(centres).diagonal() <= 0).all()
    assert (model(centres).diagonal() > -1e-3).all()
    near, far = model(centres + 0.1), model(centres + 50)
    assert torch.allclose(near.diagonal(), torch.full((2,), -300 * 0.01), rtol=2e-3)
    assert (far.exp() == 0).all()
    assert far.isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_never_a_probability_above_one(precision):
    torch.manual_seed(0)
    centres = torch.rand(20, 300)
    model = RBFClassifier(300, 20, precision=precision, centres=centres, init_precision=100.0)
    assert model(centres).max() <= 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients(precision):
    model = trained(precision)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, x)
    y = torch.tensor([0, 2, 1])
    names = [name for name, _ in model.named_parameters()]

    def loss(*parameters):
        return rbf_loss(torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), x.detach()), y)

    assert torch.autograd.gradcheck(loss, tuple(p.detach().clone().requires_grad_() for p in model.parameters()))


def test_loss_equals_the_bernoulli_likelihood():
    log_probability = torch.tensor([[-0.1, -3.0, -0.4], [-20.0, -0.69, -0.71]], dtype=torch.float64)
    y = torch.tensor([0, 2])
    expected = 0.0
    for row, label in zip(log_probability.tolist(), y.tolist(), strict=True):
        for k, value in enumerate(row):
            expected -= value if k == label else math.log(1 - math.exp(value))
    assert rbf_loss(log_probability, y).item() == pytest.approx(expected / 2, rel=1e-12)


def test_loss_keeps_its_digits_at_both_ends():
    far = torch.tensor([[-1e-3, -30.0]], dtype=torch.float32, requires_grad=True)
    loss = rbf_loss(far, torch.tensor([0]))
    assert loss.item() == pytest.approx(1e-3 + math.exp(-30), rel=1e-5)
    loss.backward()
    assert far.grad[0, 1].item() == pytest.approx(math.exp(-30), rel=1e-4, abs=0)
    at_a_rival = torch.zeros(1, 2, requires_grad=True)
    loss = rbf_loss(at_a_rival, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=1e-2)
    assert at_a_rival.grad.isfinite().all()


def test_can_be_attacked_and_moves_away_from_its_centre():
    model = RBFClassifier(4, 2, centres=torch.tensor([[0.2] * 4, [0.8] * 4]), init_precision=5.0)
    x = torch.tensor([[0.3] * 4])
    moved = fgsm(model, x, torch.tensor([0]), epsilon=0.1, loss=rbf_loss)
    assert torch.allclose(moved, torch.full((1, 4), 0.4))


@pytest.mark.usefixtures("unchecked")
def test_images_state_dict_deepcopy_and_compile():
    model = RBFClassifier(64, 10)
    x = torch.rand(3, 1, 8, 8)
    other = RBFClassifier(64, 10)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), torch.compile(model, backend="aot_eager")):
        assert torch.allclose(twin(x), model(x), atol=1e-6)
    assert "precision='diagonal'" in repr(model)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RBFClassifier(0, 1), "sizes must be at least 1, got 0 features, 1 classes"),
        (lambda: RBFClassifier(2, 1, precision="spherical"), "precision must be .* got 'spherical'"),
        (lambda: RBFClassifier(2, 1, centres=torch.zeros(2, 2)), r"centres must have shape \(1, 2\), got \(2, 2\)"),
        (lambda: RBFClassifier(2, 1, init_precision=-1.0), "init_precision must be > 0, got -1"),
        (lambda: RBFClassifier(2, 1)(torch.zeros(1, 3)), "input must have 2 features, got 3"),
        (lambda: rbf_loss(torch.zeros(1, 2), torch.tensor([2])), r"rbf_loss: labels must be in 0..1"),
    ],
)
def test_bad_input_is_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()
