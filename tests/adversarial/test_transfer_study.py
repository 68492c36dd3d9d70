import math
from functools import partial

import pytest
import torch
from torch import nn

from claimwise.adversarial import fgsm, transfer_matrix, transfer_study

ATTACK = partial(fgsm, epsilon=0.2)


def models():
    torch.manual_seed(0)
    return {
        "linear": nn.Linear(6, 3),
        "deep": nn.Sequential(nn.Linear(6, 8), nn.Dropout(), nn.Tanh(), nn.Linear(8, 3)),
        "wide": nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 3)),
    }


def data(examples=40):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(examples, 6, generator=generator), torch.randint(3, (examples,), generator=generator)


def seeded():
    return torch.Generator().manual_seed(3)


def rms(r):
    return math.sqrt(sum(v * v for v in r.tolist()) / len(r))


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("amplified", [None, 0.3])
def test_equals_loops_over_sources_targets_and_examples(amplified, bounds):
    nets, (x, y) = models(), data()
    sources = {name: nets[name] for name in ("linear", "deep")}
    found = transfer_study(
        sources, nets, x, y, attack=ATTACK, generator=seeded(), rms=amplified, bounds=bounds, draws=2
    )
    assert nets["deep"].training
    nets["deep"].eval()
    generator = seeded()
    assert (found.sources, found.targets) == (("linear", "deep"), ("linear", "deep", "wide"))
    for s, source in enumerate(found.sources):
        r = ATTACK(sources[source], x, y) - x
        if amplified is not None:
            r = torch.stack([v * (amplified / rms(v)) for v in r])
        noises = [torch.randn(x.shape, generator=generator) for _ in range(2)]

        def cut(image):
            return image if bounds is None else image.clamp(*bounds)

        shown = [cut(x[i] + r[i]) for i in range(len(x))]
        noisy = [[cut(x[i] + z[i] * (rms(r[i]) / rms(z[i]))) for i in range(len(x))] for z in noises]
        assert found.distortion[s].item() == pytest.approx(
            sum(rms(shown[i] - x[i]) for i in range(len(x))) / len(x), rel=1e-4
        )
        assert found.noise_distortion[s].item() == pytest.approx(
            sum(rms(z[i] - x[i]) for z in noisy for i in range(len(x))) / len(x) / 2, rel=1e-4
        )
        for t, target in enumerate(found.targets):
            guess = [int(nets[target](image.unsqueeze(0)).argmax()) for image in shown]
            assert found.prediction[s, t].tolist() == guess
            wrong = sum(g != label for g, label in zip(guess, y.tolist(), strict=True))
            assert found.error[s, t].item() == pytest.approx(wrong / len(x))
            missed = sum(
                int(nets[target](z[i].unsqueeze(0)).argmax()) != y[i].item() for z in noisy for i in range(len(x))
            )
            assert found.noise_error[s, t].item() == pytest.approx(missed / len(x) / 2)


def test_agrees_with_the_transfer_matrix():
    nets, (x, y) = models(), data()
    found = transfer_study(nets, nets, x, y, attack=ATTACK, generator=seeded())
    square = transfer_matrix(nets, x, y, attack=ATTACK)
    assert torch.equal(found.prediction, square.prediction)
    assert torch.allclose(found.error, square.error)
    assert torch.allclose(found.clean_error, square.clean_error)


def test_unclipped_noise_has_exactly_the_distortion_of_its_row():
    nets, (x, y) = models(), data()
    found = transfer_study(nets, nets, x, y, attack=ATTACK, generator=seeded())
    assert torch.allclose(found.noise_distortion, found.distortion, rtol=1e-5)
    clipped = transfer_study(nets, nets, x, y, attack=ATTACK, generator=seeded(), bounds=(0.0, 1.0))
    assert torch.allclose(clipped.distortion, found.distortion, rtol=1e-5)  # the attack kept to the box itself
    assert (clipped.noise_distortion < clipped.distortion).all()


def test_examples_that_are_ready_are_shown_as_they_are():
    nets, (x, y) = models(), data()
    expected = transfer_study(nets, nets, x, y, attack=ATTACK, generator=seeded(), rms=0.1)
    ready = {name: ATTACK(net, x, y) for name, net in nets.items()}
    found = transfer_study(nets, nets, x, y, attack=ready | {"deep": ATTACK}, generator=seeded(), rms=0.1)
    assert torch.equal(found.prediction, expected.prediction)
    assert found.distortion.tolist() == pytest.approx([0.1] * 3)


def test_an_example_without_a_perturbation_is_not_amplified():
    nets, (x, y) = models(), data()
    found = transfer_study(nets, nets, x, y, attack=lambda model, x, y: x, generator=seeded(), rms=0.5)
    assert found.distortion.tolist() == [0.0] * 3
    assert torch.allclose(found.error[0], found.clean_error)
    assert torch.allclose(found.noise_error[0], found.clean_error)


def test_noise_comes_from_the_generator_alone():
    nets, (x, y) = models(), data()
    before = torch.random.get_rng_state()
    a, b = (transfer_study(nets, nets, x, y, attack=ATTACK, generator=seeded(), rms=1.0) for _ in range(2))
    assert torch.equal(a.noise_error, b.noise_error)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_float64_and_images():
    nets = {"linear": nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()}
    x, y = data()
    found = transfer_study(nets, nets, x.double().reshape(-1, 1, 2, 3), y, attack=ATTACK, generator=seeded())
    assert found.prediction.shape == (1, 1, 40)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": {}}, "needs sources, targets and examples, got 0, 3 and 4"),
        ({"targets": {}}, "got 3, 0 and 4"),
        ({"x": torch.zeros(0, 6), "y": torch.zeros(0, dtype=torch.long)}, "got 3, 3 and 0"),
        ({"attack": {"linear": ATTACK}}, "attack missing for deep, wide"),
        ({"attack": lambda model, x, y: x[:1]}, r"for 'linear' must be a tensor .* \(4, 6\), got \(1, 6\)"),
        ({"attack": lambda model, x, y: x / 0}, "for 'linear' are not finite"),
        ({"attack": lambda model, x, y: None}, "got NoneType"),
        ({"rms": 0.0}, "rms must be above 0, or None for no rescaling, got 0.0"),
        ({"rms": float("nan")}, "rms must be above 0"),
        ({"draws": 0}, "draws must be a whole number >= 1, got 0"),
        ({"bounds": (1.0, 0.0)}, r"transfer_study: bounds must be \(low, high\)"),
        ({"y": torch.tensor([0, 1, 2, 3])}, r"labels must be in 0..2"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    x, y = data(4)
    given = {"sources": models(), "targets": models(), "x": x, "y": y, "attack": ATTACK, "generator": seeded()}
    given |= change
    with pytest.raises(ValueError, match=message):
        transfer_study(given.pop("sources"), given.pop("targets"), given.pop("x"), given.pop("y"), **given)
