r"""Intriguing properties of neural networks: features live in a space and not on its axes, and classifiers have blind
spots next to every image.

## What

Two findings that belong together only in that both contradict how networks were read in 2013.

First, it was usual to explain a unit by the images that excite it most. The paper does the same for *random
combinations* of units and finds the resulting images as alike in meaning. If so, it is the space of activations that
carries meaning, and single units are no special axes of it.

Second, next to each image, hardly to be told from it, lies another that the network puts into a wrong class. Such
**adversarial examples** are found by simple optimisation, for every network tried and practically every image; many
of them also fool networks of other architecture, or trained on other examples. Noise of the same size does nothing of
the kind. Training on them helps a little.

## How

For an image x of m pixels in [0, 1] and a class l that is not the network's answer:

minimise ‖r‖₂ subject to f(x + r) = l and x + r in [0, 1]ᵐ

which is hard; instead **box-constrained L-BFGS** minimises c‖r‖ + loss(x + r, l) for the c that just still reaches l.
For a convex loss this is exact. The *distortion* of a perturbation is √(Σ rᵢ²/m), comparable over image sizes. Table 1
gives the mean distortion that brings a network's accuracy on its training set to nothing.

Networks are trained by L-BFGS on all examples at once, to convergence, with λ Σ w²/k a layer added to the
cross-entropy (k: the layer's units). FC10(λ) is softmax regression; FC100-100-10, FC200-200-10 and FC123-456-10 have
two sigmoid layers; AE400-10 is a softmax on the code of a sparse autoencoder.

How unstable can a network be? A layer stretches a difference of inputs at most by its operator norm, so the network by
the product L = ∏ L_k. The largest singular value is that norm for a matrix; for a convolution of stride Δ Fourier
analysis splits it into one small matrix a frequency, whose singular values are computed one by one. Rectifiers and
max pooling (of windows that do not overlap) never stretch.

## Why

A network that merely stored its training set could not answer on new images, so one expects that it answers alike
within a small ball round each. Adversarial examples show that it does not: there are pockets of low probability,
rarely met at random and yet near every image, like the rational numbers among the real ones. What the operator norms
add: nothing forbids such pockets, since already the first layer of AlexNet stretches by more than 2.

## Where the notes or the paper mislead

- **"Line search to find the minimum c > 0"** stands in the paper and was copied into the notes. A smaller c makes r
  cheaper, hence larger. What is wanted is the *largest* c whose minimiser still reaches l, and that is what runs here.
- The notes bound a layer by "‖φ(x) − φ(x + r)‖ ≤ W‖r‖": the *norm* ‖W‖ is meant. For a fully connected layer they take
  "the maximum element"; it is the largest singular value.
- "Rectifier, pooling and contrast normalisation: L ≤ 1": the last only if ε ≥ 1. For x/(ε + ‖x‖²)^γ the constant is
  ε^(−γ), which is nearly met (3.161 of 3.162 for ε = .1, γ = .5).
- Amplified examples: the paper writes x + 0.1 (x′ − x)/‖x′ − x‖, which would be a distortion of .1/√784. Its table says
  distortion .1, and that is what is done here.
- "Training with adversarial examples gave 1.2 %": the paper says *below* 1.2 %.
- c‖r‖ in the text is the norm and not its square; code often has the square.
- The distortion depends on the target. The paper takes wrong labels and does not say which. Here they are drawn at
  random; the likeliest wrong label is nearer.
- Noise keeps its size here because it is not clipped. Clipped to [0, 1], noise on black pixels loses half.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from claimwise.adversarial import (
    BoxLBFGS,
    box_lbfgs,
    cap_operator_norm_,
    lipschitz_bound,
    local_lipschitz,
    mistakes,
    operator_norm,
    transfer_study,
)
from claimwise.adversarial.box_lbfgs import TargetRule
from claimwise.explain import random_directions, strongest_images
from claimwise.lab import (
    EXACT,
    PAPER,
    REDUCED,
    STAND_IN,
    Exact,
    Matrix,
    Measurements,
    NotTested,
    Paper,
    PerExample,
    Plan,
    Proportion,
    Reported,
    Results,
    Run,
    all_of,
    between,
    equal,
    equivalent,
    ordered,
)
from claimwise.papers.shared.images import images_of
from claimwise.vision import SQUEEZENET_PREPROCESSING, SqueezeNet

paper = Paper("intriguing")

SOFTMAX = {"fc10_light": 1e-4, "fc10_medium": 1e-2, "fc10_strong": 1.0}
"""Weight decay λ of the three softmax regressions."""
NAMES = {
    "fc10_light": "FC10(1e-4)",
    "fc10_medium": "FC10(1e-2)",
    "fc10_strong": "FC10(1)",
    "fc100": "FC100-100-10",
    "fc200": "FC200-200-10",
    "ae400": "AE400-10",
}
"""The paper's names of its networks, in the order of its tables."""
DECAY = (1e-5, 1e-5, 1e-6)
"""Weight decay λ of the three layers of the deep networks."""
CLASSES = 10

# Settings ------------------------------------------------------------------------------------------------------------
#
# Budget of `small`, fixed before the run: 25 minutes of one core, 1500 s. Estimated from one seed outside the plan, in
# seconds a seed on a busy machine: softmax regressions on all of MNIST 40, deep networks on 20,000 images 75, halves
# 47, training with adversarial examples 90, attacks 15: 267, at five seeds 1335; the ImageNet network, once, 150.


@dataclass(frozen=True)
class Training:
    """Networks trained by L-BFGS on all examples at once."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`."""
    examples: int = 0
    """Training examples used, from the first; 0 for all."""
    iterations: int = 1000
    """Iterations of L-BFGS at most; it ends by itself where nothing is to be gained."""


@dataclass(frozen=True)
class Deep(Training):
    """The networks with hidden layers, and the autoencoder."""

    autoencoder_examples: int = 0
    """Training examples that the autoencoder sees, from the first; 0 for all."""
    autoencoder_iterations: int = 400
    """Iterations of L-BFGS for the autoencoder."""
    code: int = 400
    """Units of the autoencoder."""
    sparsity: float = 0.1
    """Mean activity that its units are drawn to."""
    sparsity_weight: float = 3.0
    """Weight of the Kullback-Leibler divergence from that activity."""
    autoencoder_decay: float = 3e-3
    """Its weight decay, half of this times the sum of squares."""


@dataclass(frozen=True)
class Attack:
    """How perturbations are searched for."""

    images: int = 256
    """Images attacked, from the first."""
    bisections: int = 8
    """Halvings of the bracket of log c."""
    tolerance: float = 1e-6
    """Relative decrease at which a search at one c ends."""
    iterations: int = 100
    """Most evaluations at one c."""


@dataclass(frozen=True)
class Tables:
    """Tables 1 and 2: six networks attacked, and shown each other's adversarial examples."""

    softmax: Training = Training()
    """The softmax regressions."""
    deep: Deep = Deep()
    """The deep networks."""
    attack: Attack = Attack()
    """On training images, as in the paper."""
    fixed_class: int = 0
    """The class that every image is to be turned into, in the test of one fixed target."""
    fixed_images: int = 100
    """Images for that test, none of that class."""


@dataclass(frozen=True)
class Halves:
    """Tables 3 and 4: networks trained on two halves of the training set."""

    training: Training = Training()
    """Each half gets half of the examples."""
    attack: Attack = Attack()
    """On test images, which neither half has seen."""
    amplified: float = 0.1
    """Distortion that perturbations are rescaled to."""


@dataclass(frozen=True)
class Hardening:
    """FC100-100-10 trained in small batches: plainly, with dropout, with adversarial examples, with capped norms."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`."""
    examples: int = 0
    """Training examples used, from the first; 0 for all."""
    epochs: int = 200
    """Passes over the training set."""
    batch_size: int = 100
    """Examples a step, and as many adversarial ones for each place that is perturbed."""
    learning_rate: float = 2e-3
    """Step size of Adam."""
    dropout: float = 0.2
    """Share of hidden units dropped in the arm with dropout."""
    pool: int = 5000
    """Adversarial examples kept for each place."""
    renewed: int = 1000
    """Of them, how many are made anew in every epoch."""
    cap: float = 4.0
    """Largest operator norm of a layer in the arm with capped norms."""
    attack: Attack = Attack()
    """On test images, for the distortions of the plain and the capped network."""


@dataclass(frozen=True)
class Norms:
    """Operator norms of convolutions, and bounds for the deep networks."""

    deep: Deep = Deep()
    """The networks whose bounds are computed."""
    examples: int = 500
    """Test images whose differences are measured against the bound."""


@dataclass(frozen=True)
class Basis:
    """Units against random directions of a hidden layer."""

    deep: Deep = Deep()
    """The network is its FC200-200-10."""
    directions: int = 200
    """Units, and as many random directions."""
    strongest: int = 8
    """Test images for each."""


@dataclass(frozen=True)
class ImageNet:
    """SqueezeNet 1.1 and photographs, all to be taken for an ostrich."""

    weights: str = "imagenet_squeezenet1_1"
    """A data set of `claimwise data list`."""
    dataset: str = "imagenet_samples_256"
    """Photographs, cut to the middle `side` pixels."""
    side: int = 227
    """Pixels a side."""
    target: int = 9
    """ImageNet's class 9 is the ostrich."""
    attack: Attack = Attack(images=64)
    """How perturbations are searched for."""
    imperceptible: float = 0.01
    """Distortion that is not seen."""


MNIST_SOFTMAX = Training(iterations=150)
MNIST_DEEP = Deep(examples=20_000, iterations=120, autoencoder_examples=5_000, autoencoder_iterations=60)
DIGITS_SOFTMAX = Training("digits", iterations=30)
DIGITS_DEEP = Deep("digits", examples=400, iterations=40, autoencoder_iterations=20, code=100)
QUICK = Attack(images=40, bisections=2, tolerance=1e-3, iterations=15)

# Data and training ---------------------------------------------------------------------------------------------------


def sigmoid_network(*sizes: int, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers with sigmoids between; logits come out."""
    layers: list[nn.Module] = []
    for width, following in pairwise(sizes):
        layers += [nn.Linear(width, following), nn.Sigmoid()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers[: -2 if dropout else -1])


def decay(model: nn.Module, strengths: Sequence[float]) -> Tensor:
    """The paper's weight decay: a layer's strength times its squared weights over its units."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    return torch.stack(
        [strength * w.square().sum() / len(w) for strength, w in zip(strengths, weights, strict=True)]
    ).sum()


def minimise(run: Run, model: nn.Module, objective: Callable[[], Tensor], iterations: int, name: str) -> None:
    """L-BFGS on a function of a model's parameters, 10 iterations a step of the loop."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=10,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    def step(state: dict[str, Any], i: int) -> dict[str, float]:
        loss: Tensor = optimizer.step(closure)  # type: ignore[arg-type, assignment, no-untyped-call]
        return {"loss": float(loss.detach())}

    run.loop({"model": model, "optimizer": optimizer}, step, until=math.ceil(iterations / 10), name=name)
    model.requires_grad_(False)


def classifier(
    run: Run, sizes: Sequence[int], strengths: Sequence[float], x: Tensor, y: Tensor, iterations: int, name: str
) -> nn.Sequential:
    """A network trained on all of x at once."""
    model = sigmoid_network(*sizes).to(run.device)
    minimise(run, model, lambda: F.cross_entropy(model(x), y) + decay(model, strengths), iterations, name)
    return model.eval()


def encoder(run: Run, setup: Deep, x: Tensor) -> nn.Sequential:
    """The first half of a sparse autoencoder with sigmoids, as its first two layers."""
    both = nn.Sequential(
        nn.Linear(x.shape[1], setup.code), nn.Sigmoid(), nn.Linear(setup.code, x.shape[1]), nn.Sigmoid()
    ).to(run.device)
    x = x[: setup.autoencoder_examples or None]
    weights = [parameter for parameter in both.parameters() if parameter.ndim == 2]
    aim = setup.sparsity

    def objective() -> Tensor:
        code = both[:2](x)
        active = code.mean(0)
        sparse = aim * (aim / active).log() + (1 - aim) * ((1 - aim) / (1 - active)).log()
        error = (both[2:](code) - x).square().sum(1).mean() / 2
        size = torch.stack([w.square().sum() for w in weights]).sum()
        return error + setup.sparsity_weight * sparse.sum() + setup.autoencoder_decay / 2 * size

    minimise(run, both, objective, setup.autoencoder_iterations, "autoencoder")
    return nn.Sequential(*both[:2])


# Measuring -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def errors(model: nn.Module, x: Tensor, y: Tensor) -> Proportion:
    found = mistakes(model(x), y)
    return Proportion(found.count, found.total)


def attacked(model: nn.Module, x: Tensor, y: Tensor, target: Tensor | TargetRule, attack: Attack) -> BoxLBFGS:
    return box_lbfgs(
        model,
        x,
        y,
        target=target,
        bisections=attack.bisections,
        tolerance=attack.tolerance,
        iterations=attack.iterations,
    )


def wrong_labels(run: Run, y: Tensor) -> Tensor:
    """A wrong class for each image, drawn evenly."""
    away = torch.randint(1, CLASSES, y.shape, generator=run.generator("wrong labels")).to(y.device)
    return (y + away) % CLASSES


def part(found: BoxLBFGS, rows: slice) -> BoxLBFGS:
    """What was found for some of the images."""
    return BoxLBFGS(**{name: value[rows] for name, value in vars(found).items()})


def mean_distortion(found: BoxLBFGS) -> float:
    return float(found.distortion[found.success].mean())


def failures(found: Sequence[BoxLBFGS]) -> Proportion:
    return Proportion(sum(int((~each.success).sum()) for each in found), sum(len(each.success) for each in found))


def pictures(x: Tensor, models: Mapping[str, nn.Module], found: Mapping[str, BoxLBFGS], count: int = 4) -> Matrix:
    """For each network: images, perturbations and adversarial images, named after the two classes."""
    images, names = [], []
    for short, each in found.items():
        with torch.no_grad():
            before = models[short](x).argmax(1)
        shown = (each.success & (each.distortion > 0)).nonzero().flatten()[:count].tolist()
        for i in shown:
            images += [x[i], each.perturbation[i], each.x_adv[i]]
            label = f"{NAMES[short]}|{i}|{int(before[i])}|{int(each.target[i])}"
            names += [f"{label}|{kind}" for kind in ("image", "perturbation", "adversarial")]
    return Matrix(torch.stack(images).cpu(), names, [str(k) for k in range(x.shape[1])])


# Experiments ---------------------------------------------------------------------------------------------------------


@paper.experiment(
    quick=Plan(DIGITS_SOFTMAX, seeds=3),
    small=Plan(MNIST_SOFTMAX),
    paper=Plan(Training(), cost="about 5 min of one core a seed"),
)
def softmax(run: Run, setup: Training) -> Measurements:
    """Softmax regression with three strengths of weight decay."""
    x, y, x_test, y_test = images_of(run, setup.dataset, setup.examples, flat=True)
    measured: dict[str, Any] = {}
    for short, strength in SOFTMAX.items():
        model = classifier(run, (x.shape[1], CLASSES), (strength,), x, y, setup.iterations, short)
        run.save(short, model)
        measured |= {f"{short}_train_error": errors(model, x, y), f"{short}_test_error": errors(model, x_test, y_test)}
    return measured


def deep_network(short: str, setup: Deep, pixels: int) -> nn.Sequential:
    """The architecture of a deep network of table 1."""
    widths = {"fc100": (100, 100), "fc200": (200, 200), "ae400": (setup.code,)}[short]
    return sigmoid_network(pixels, *widths, CLASSES)


@paper.experiment(
    quick=Plan(DIGITS_DEEP, seeds=3),
    small=Plan(MNIST_DEEP),
    paper=Plan(Deep(), cost="about 1 h of one core a seed"),
)
def deep(run: Run, setup: Deep) -> Measurements:
    """The networks with hidden layers: trained as a whole, and on the code of an autoencoder."""
    x, y, x_test, y_test = images_of(run, setup.dataset, setup.examples, flat=True)
    models: dict[str, nn.Sequential] = {}
    for short, width in (("fc100", 100), ("fc200", 200)):
        sizes = (x.shape[1], width, width, CLASSES)
        models[short] = classifier(run, sizes, DECAY, x, y, setup.iterations, short)
    code = encoder(run, setup, x)
    top = classifier(run, (setup.code, CLASSES), DECAY[-1:], code(x), y, setup.iterations, "ae400")
    models["ae400"] = nn.Sequential(*code, *top)
    measured: dict[str, Any] = {}
    for short, model in models.items():
        run.save(short, model)
        measured |= {f"{short}_train_error": errors(model, x, y), f"{short}_test_error": errors(model, x_test, y_test)}
    return measured


def six_networks(run: Run, setup: Tables, pixels: int) -> dict[str, nn.Module]:
    """The networks of table 1, trained."""
    linear, others = run.needs(softmax, setup.softmax), run.needs(deep, setup.deep)
    models: dict[str, nn.Module] = {}
    for short in NAMES:
        model = (sigmoid_network(pixels, CLASSES) if short in SOFTMAX else deep_network(short, setup.deep, pixels)).to(
            run.device
        )
        model.load_state_dict((linear if short in SOFTMAX else others).load(short))
        models[short] = model.requires_grad_(False).eval()
    return models


@paper.experiment(
    quick=Plan(Tables(DIGITS_SOFTMAX, DIGITS_DEEP, QUICK, fixed_images=20), seeds=3),
    small=Plan(Tables(MNIST_SOFTMAX, MNIST_DEEP)),
    paper=Plan(Tables(attack=Attack(images=10_000)), cost="about 1 h of one core a seed, beside the networks"),
)
def tables(run: Run, setup: Tables) -> Measurements:
    """Every network attacked on its training images; each one's adversarial examples shown to every other."""
    x, y, _, _ = images_of(run, setup.softmax.dataset, flat=True)
    models = six_networks(run, setup, x.shape[1])
    other = (y != setup.fixed_class).nonzero().flatten()[: setup.fixed_images]
    fixed_images, fixed_labels = x[other], y[other]
    x, y = x[: setup.attack.images], y[: setup.attack.images]
    # Both kinds of target in one batch, which takes hardly longer than either.
    target = torch.cat([wrong_labels(run, y), torch.full_like(fixed_labels, setup.fixed_class)])
    images, labels = torch.cat([x, fixed_images]), torch.cat([y, fixed_labels])
    both = {short: attacked(model, images, labels, target, setup.attack) for short, model in models.items()}
    found = {short: part(each, slice(len(x))) for short, each in both.items()}
    one_class = [part(each, slice(len(x), None)) for each in both.values()]
    likeliest = attacked(models["fc100"], x, y, "likeliest", setup.attack)
    study = transfer_study(
        models, models, x, y, attack={s: each.x_adv for s, each in found.items()}, generator=run.generator("noise")
    )
    wrong, noisy = study.error.double(), study.noise_error.double()
    clean = study.clean_error.double()
    apart = ~torch.eye(len(models), dtype=torch.bool)
    # Of the images that the attack turns, the share that noise of the same size turns; the worst of the networks.
    flipped = ((noisy.diagonal() - clean) / (wrong.diagonal() - clean)).clamp_min(0)
    names = list(NAMES.values())
    gaussian = [gaussian_errors(run, models, x, y, deviation) for deviation in (0.1, 0.3)]
    return {
        **{f"{short}_distortion": mean_distortion(each) for short, each in found.items()},
        "failures": failures(list(found.values())),
        "fc100_likeliest_distortion": mean_distortion(likeliest),
        "errors": Matrix(wrong, names, names),
        "noise_errors": Matrix(noisy, names, names),
        "gaussian_errors": Matrix(gaussian, ["0.1", "0.3"], names),
        "pairs_above_noise": float((wrong > noisy)[apart].double().mean()),
        "noise_flips": float(flipped.max()),
        "fc100_gaussian_flips": gaussian[0][names.index(NAMES["fc100"])] - float(clean[names.index(NAMES["fc100"])]),
        "one_class_failures": failures(one_class),
        "one_class_distortion": float(np.mean([mean_distortion(each) for each in one_class])),
        "pictures": pictures(x, models, {short: found[short] for short in ("fc10_light", "fc100")}),
    }


def gaussian_errors(run: Run, models: Mapping[str, nn.Module], x: Tensor, y: Tensor, deviation: float) -> list[float]:
    """Errors on images with Gaussian noise, which is not clipped."""
    noise = torch.randn(x.shape, generator=run.generator(f"gaussian {deviation}")).to(x.device)
    found = [errors(model, x + deviation * noise, y) for model in models.values()]
    return [each.successes / each.total for each in found]


@paper.experiment(
    quick=Plan(Halves(Training("digits", examples=600, iterations=30), QUICK, amplified=0.2), seeds=3),
    small=Plan(Halves(Training(examples=20_000, iterations=120))),
    paper=Plan(Halves(), cost="about 1 h of one core a seed"),
)
def halves(run: Run, setup: Halves) -> Measurements:
    """Two networks from one half of the training set and a third from the other; who fools whom."""
    x, y, x_test, y_test = images_of(run, setup.training.dataset, setup.training.examples, flat=True)
    middle = len(x) // 2
    first, second = slice(0, middle), slice(middle, None)
    models: dict[str, nn.Module] = {}
    measured: dict[str, Any] = {}
    for short, widths, half, rest in (
        ("first", (100, 100), first, second),
        ("wide", (123, 456), first, second),
        ("second", (100, 100), second, first),
    ):
        sizes = (x.shape[1], *widths, CLASSES)
        models[short] = classifier(run, sizes, DECAY, x[half], y[half], setup.training.iterations, short)
        measured |= {
            f"{short}_other_half_error": errors(models[short], x[rest], y[rest]),
            f"{short}_test_error": errors(models[short], x_test, y_test),
        }
    x, y = x_test[: setup.attack.images], y_test[: setup.attack.images]
    target = wrong_labels(run, y)
    found = {short: attacked(model, x, y, target, setup.attack) for short, model in models.items()}
    made = {short: each.x_adv for short, each in found.items()}
    shown = {
        name: transfer_study(models, models, x, y, attack=made, rms=rms, generator=run.generator(name))
        for name, rms in (("as_found", None), ("amplified", setup.amplified))
    }
    names = ["FC100-100-10", "FC123-456-10", "FC100-100-10′"]
    for name, study in shown.items():
        measured[f"{name}_errors"] = Matrix(study.error, names, names)
        measured[f"{name}_noise_errors"] = Matrix(study.noise_error, names, names)
    # Rows and columns 0 and 1 share their training half; 2 has the other.
    amplified, noise = shown["amplified"].error, shown["amplified"].noise_error
    return {
        **measured,
        **{f"{short}_distortion": mean_distortion(each) for short, each in found.items()},
        "failures": failures(list(found.values())),
        "amplified_across": float(amplified[:2, 2].mean()),
        "amplified_noise_across": float(noise[:2, 2].mean()),
        "amplified_within": float(torch.stack([amplified[0, 1], amplified[1, 0]]).mean()),
    }


def places(arm: str) -> tuple[int, ...]:
    """Where adversarial perturbations go in: numbers of the layer of the network that receives them."""
    return {"input": (0,), "upper": (4,), "hidden": (2, 4), "both": (0, 2, 4)}.get(arm, ())


ARMS = ("plain", "dropout", "input", "upper", "hidden", "both", "capped")


def hardened(run: Run, setup: Hardening, arm: str, x: Tensor, y: Tensor) -> nn.Sequential:
    """FC100-100-10 trained in one of the ways; every way has the same weight decay."""
    model = sigmoid_network(x.shape[1], 100, 100, CLASSES, dropout=setup.dropout if arm == "dropout" else 0.0)
    model = model.to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=setup.learning_rate)
    generator = run.generator(arm)
    widths = {0: x.shape[1], 2: 100, 4: 100}
    pools = {
        str(place): {
            "image": torch.zeros(setup.pool, dtype=torch.long, device=x.device),
            "r": torch.zeros(setup.pool, widths[place], device=x.device),
            "filled": torch.zeros((), dtype=torch.long),
        }
        for place in places(arm)
    }

    def renew(place: int, pool: dict[str, Tensor]) -> None:
        """Replace the oldest adversarial examples by new ones, made for the network as it is."""
        image = torch.randperm(len(x), generator=generator)[: setup.renewed].to(x.device)
        with torch.no_grad():
            inputs = model[:place](x[image])
        r = box_lbfgs(model[place:], inputs, y[image], bisections=2, iterations=15, tolerance=1e-3).perturbation
        slots = (int(pool["filled"]) + torch.arange(len(image), device=x.device)) % setup.pool
        pool["image"][slots], pool["r"][slots] = image, r
        pool["filled"] += len(image)

    def step(state: dict[str, Any], epoch: int) -> dict[str, float]:
        model.train()
        for place, pool in pools.items():
            renew(int(place), pool)
        total = 0.0
        for number, rows in enumerate(torch.split(torch.randperm(len(x), generator=generator), setup.batch_size)):
            losses = [F.cross_entropy(model(x[rows]), y[rows])]
            for place, pool in pools.items():
                made = min(int(pool["filled"]), setup.pool)
                drawn = torch.randint(made, (len(rows),), generator=generator)
                inputs = model[: int(place)](x[pool["image"][drawn]]) + pool["r"][drawn]
                losses.append(F.cross_entropy(model[int(place) :](inputs.clamp(0, 1)), y[pool["image"][drawn]]))
            loss = torch.stack(losses).mean() + decay(model, DECAY)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach())
            if arm == "capped" and number % 10 == 9:
                cap_layers(model, setup.cap)
        if arm == "capped":
            cap_layers(model, setup.cap)
        return {"loss": total}

    run.loop(
        {"model": model, "optimizer": optimizer, "pools": pools, "generator": generator},
        step,
        until=setup.epochs,
        name=arm,
    )
    return model.eval().requires_grad_(False)


def cap_layers(model: nn.Module, cap: float) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            cap_operator_norm_(layer, cap)


@paper.experiment(
    small=Plan(Hardening(examples=10_000, epochs=15, pool=1000, renewed=200, attack=Attack(images=128))),
    paper=Plan(Hardening(), cost="about 6 h of one core a seed"),
)
def hardening(run: Run, setup: Hardening) -> Measurements:
    """One network, trained plainly, with dropout, with adversarial examples at several places, with capped norms."""
    x, y, x_test, y_test = images_of(run, setup.dataset, setup.examples, flat=True)
    models = {arm: hardened(run, setup, arm, x, y) for arm in ARMS}
    measured: dict[str, Any] = {f"{arm}_error": errors(model, x_test, y_test) for arm, model in models.items()}
    x, y = x_test[: setup.attack.images], y_test[: setup.attack.images]
    target = wrong_labels(run, y)
    below = 0
    for arm in ("plain", "capped"):
        found = attacked(models[arm], x, y, target, setup.attack)
        bound = lipschitz_bound(models[arm], x[:1]).bound
        below += nearer_than_allowed(models[arm], bound, x, found)
        measured |= {
            f"{arm}_distortion": mean_distortion(found),
            f"{arm}_bound": bound,
            f"{arm}_stretch": float(local_lipschitz(models[arm], x[:32]).jacobian.max()),
        }
    measured["plain_looseness"] = measured["plain_bound"] / measured["plain_stretch"]
    return {**measured, "nearer_than_allowed": Exact(below)}


def nearer_than_allowed(model: nn.Module, bound: float, x: Tensor, found: BoxLBFGS) -> int:
    """Adversarial examples nearer than the Lipschitz bound allows, which there cannot be.

    To let class l overtake class k the difference of two logits must fall by its value at x; that difference changes
    by at most sqrt(2) times the bound times the norm of the perturbation.
    """
    with torch.no_grad():
        logits = model(x)
    top = logits.max(1).values
    margin = top - logits.gather(1, found.target.unsqueeze(1)).squeeze(1)
    needed = margin / (math.sqrt(2) * bound)
    return int((found.success & (found.perturbation.norm(dim=1) < needed * (1 - 1e-4))).sum())


@paper.experiment(
    quick=Plan(Norms(DIGITS_DEEP, examples=100), seeds=3),
    small=Plan(Norms(MNIST_DEEP)),
    paper=Plan(Norms(), cost="seconds, beside the networks it needs"),
)
def norms(run: Run, setup: Norms) -> Measurements:
    """Norms of convolutions by Fourier analysis and by singular values; bounds of the deep networks put to the test."""
    _, _, x, _ = images_of(run, setup.deep.dataset, 1, flat=True)
    x = x[: setup.examples]
    trained = run.needs(deep, setup.deep)
    generator = run.generator("differences")
    exceeded = 0
    measured: dict[str, Any] = {}
    for short in ("fc100", "fc200", "ae400"):
        model = deep_network(short, setup.deep, x.shape[1]).to(run.device)
        model.load_state_dict(trained.load(short))
        model.requires_grad_(False).eval()
        bound = lipschitz_bound(model, x[:1]).bound
        # Differences between images, small random ones, and the directions that the network stretches most.
        local = local_lipschitz(model, x[:32])
        starts = torch.cat([x, x, x[:32]])
        moves = torch.cat(
            [x.flip(0) - x, 0.01 * torch.randn(x.shape, generator=generator).to(x.device), local.direction]
        )
        moved = moves.norm(dim=1)
        stretched = (model(starts + moves) - model(starts)).norm(dim=1)
        exceeded += int((stretched > bound * moved * (1 + 1e-5) + 1e-5).sum())
        measured |= {
            f"{short}_first_norm": operator_norm(model[0]),
            f"{short}_bound": bound,
            f"{short}_stretch": float(local.jacobian.max()),
        }
    return {**fourier_against_singular_values(run), **measured, "bounds_exceeded": Exact(exceeded)}


def fourier_against_singular_values(run: Run) -> dict[str, Any]:
    """Twelve convolutions on a torus whose norm is computed both ways; how many differ by more than a millionth."""
    generator = run.generator("kernels")
    apart, largest = 0, 0.0
    for stride in (1, 2, 3):
        for kernel, channels in ((1, 2), (3, 3), (5, 2), (3, 1)):
            layer = nn.Conv2d(
                channels, 4, kernel, stride, padding=kernel // 2, padding_mode="circular" if kernel > 1 else "zeros"
            ).double()
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64))
            shape = (channels, 12, 12)
            fourier, explicit = (operator_norm(layer, shape, method=method) for method in ("fourier", "exact"))
            difference = abs(fourier - explicit) / explicit
            apart, largest = apart + (difference > 1e-6), max(largest, difference)
    return {"norms_apart": Exact(apart), "largest_difference": largest}


@paper.experiment(
    quick=Plan(Basis(DIGITS_DEEP), seeds=3),
    small=Plan(Basis(MNIST_DEEP)),
    paper=Plan(Basis(), cost="seconds, beside the networks it needs"),
)
def basis(run: Run, setup: Basis) -> Measurements:
    """How alike the test images are that excite a unit most, or a random direction of the same layer."""
    _, _, x, y = images_of(run, setup.deep.dataset, 1, flat=True)
    model = deep_network("fc200", setup.deep, x.shape[1]).to(run.device)
    model.load_state_dict(run.needs(deep, setup.deep).load("fc200"))
    model.eval()
    axes = torch.eye(200, device=x.device)[: setup.directions]
    random = random_directions(setup.directions, 200, generator=run.generator("directions")).to(x.device)
    measured: dict[str, Any] = {}
    shown, names = [], []
    for name, directions in (("units", axes), ("random", random)):
        images = strongest_images(model, "3", x, directions=directions, k=setup.strongest).images
        measured |= {
            f"{name}_purity": purity(y[images]),
            f"{name}_similarity": similarity(x[images]),
            f"{name}_purities": Matrix(
                np.sort(purities(y[images]).numpy())[None], ["purity"], [str(k) for k in range(len(images))]
            ),
        }
        for k in range(min(4, len(images))):
            shown += list(x[images[k]])
            names += [f"{name} {k} {i}" for i in range(setup.strongest)]
    measured["pictures"] = Matrix(torch.stack(shown).cpu(), names, [str(k) for k in range(x.shape[1])])
    return measured


def purities(labels: Tensor) -> Tensor:
    """Share of the commonest class among each direction's images; labels (directions, images)."""
    counts = F.one_hot(labels, CLASSES).sum(1)
    return (counts.max(1).values / labels.shape[1]).cpu()


def purity(labels: Tensor) -> float:
    return float(purities(labels).double().mean())


def similarity(images: Tensor) -> float:
    """Mean cosine between two images of a direction; images (directions, k, pixels)."""
    unit = F.normalize(images, dim=2)
    k = images.shape[1]
    cosines = unit @ unit.transpose(1, 2)
    return float(((cosines.sum((1, 2)) - k) / (k * (k - 1))).double().mean())


class OnPixels(nn.Module):
    """An ImageNet network on RGB pixels in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(SQUEEZENET_PREPROCESSING(x))  # type: ignore[no-any-return]


@paper.experiment(
    small=Plan(ImageNet(attack=Attack(images=12, bisections=3, tolerance=1e-3, iterations=25)), seeds=1),
    paper=Plan(ImageNet(), seeds=1, cost="about 1 h of one core"),
)
def imagenet(run: Run, setup: ImageNet) -> Measurements:
    """A network trained on ImageNet, and photographs that it is to take for an ostrich. No picture is kept."""
    network = SqueezeNet().load_arrays(run.data(setup.weights)["all"]).requires_grad_(False).eval().to(run.device)
    data = run.data(setup.dataset)["all"]
    size = data["x"].shape[1]
    start = (size - setup.side) // 2
    cut = data["x"][:, start : start + setup.side, start : start + setup.side]
    other = np.flatnonzero(data["y"] != setup.target)[: setup.attack.images]
    x = torch.tensor(cut[other]).permute(0, 3, 1, 2).float().to(run.device) / 255
    y = torch.tensor(data["y"][other]).to(run.device)
    model = OnPixels(network).eval()
    distortion, success, clean = [], [], []
    for images, labels in zip(torch.split(x, 4), torch.split(y, 4), strict=True):  # a few at a time keep memory small
        found = attacked(model, images, labels, torch.full_like(labels, setup.target), setup.attack)
        with torch.no_grad():
            clean.append(model(images).argmax(1) != labels)
        distortion.append(found.distortion)
        success.append(found.success)
    reached, sizes = torch.cat(success).cpu(), torch.cat(distortion).cpu().double()
    small = reached & (sizes <= setup.imperceptible)
    return {
        "failures": PerExample((~reached).double().numpy()),
        "imperceptible": PerExample(small.double().numpy()),
        "distortion": PerExample(torch.where(reached, sizes, 1.0).numpy()),  # a failure counts as all of the range
        "clean_errors": PerExample(torch.cat(clean).cpu().double().numpy()),
        "first_norm": Exact(operator_norm(network.conv1, (3, setup.side, setup.side), method="power")),
    }


# Claims --------------------------------------------------------------------------------------------------------------

ALL = {"quick": STAND_IN, "small": REDUCED, "paper": PAPER}
FROM_SMALL = {"small": REDUCED, "paper": PAPER}
AT_PAPER = {"paper": PAPER}
ON_DIGITS = (
    "8×8 digits in the place of MNIST, deep networks from 400 of them; 40 images attacked, with a short search; the "
    "autoencoder has 100 units"
)
FEWER = (
    "deep networks from 20,000 training images and 120 iterations of L-BFGS in the place of 60,000 to convergence, the "
    "autoencoder from 5,000; 256 images attacked"
)
CHOICES = (
    "the paper leaves open which wrong labels it aims at (here drawn evenly) and how its autoencoder is made sparse"
)
USUAL = {"quick": ON_DIGITS + "; " + CHOICES, "small": FEWER + "; " + CHOICES, "paper": CHOICES}
SMALL_BATCHES = (
    "Adam in batches of 100; the paper does not say how these networks were trained, how large its pool was or how "
    "much of it was renewed when"
)
BRIEFLY = {
    "small": "10,000 training images, 15 epochs; " + SMALL_BATCHES,
    "paper": SMALL_BATCHES,
}


def from_small(texts: Mapping[str, str]) -> dict[str, str]:
    return {scale: text for scale, text in texts.items() if scale in FROM_SMALL}


paper.claim(
    "random-directions-are-as-pure-as-units",
    sheet="I1",
    says="The test images that excite a random direction of a hidden layer most are as much of one class as those that "
    "excite a unit most.",
    where="section 3, figures 1 and 2",
    holds=basis["units_purity"] - basis["random_purity"] < 0.0625,
    because="the claim is that random directions are not worse; half an image of eight is the smallest loss that would "
    "show in such a figure",
    fidelity=ALL,
    differences={
        "quick": "8×8 digits; the second hidden layer of FC200-200-10",
        **dict.fromkeys(
            ("small", "paper"), "the second hidden layer of FC200-200-10 in the place of a convolutional network"
        ),
    },
)
paper.claim(
    "random-directions-are-as-alike-as-units",
    sheet="I1",
    says="Those images look as much like each other.",
    where="section 3, figures 1 and 2",
    holds=basis["units_similarity"] - basis["random_similarity"] < 0.05,
    because="the claim is that random directions are not worse; .05 of a mean cosine between images is hard to see",
    fidelity=ALL,
    differences={
        "quick": "8×8 digits; the second hidden layer of FC200-200-10",
        **dict.fromkeys(
            ("small", "paper"), "the second hidden layer of FC200-200-10 in the place of a convolutional network"
        ),
    },
)
paper.claim(
    "directions-mean-something",
    sheet="I1",
    says="What the images of a random direction share is meaning, as people read it.",
    where="section 3, figures 1 to 4",
    not_tested=NotTested("people", "needs people who judge image sets blindly; class and likeness stand in for them"),
)

TABLE_1 = {
    "fc10_light": (0.062, 0.067, 0.074),
    "fc10_medium": (0.1, 0.1, 0.094),
    "fc10_strong": (0.14, 0.212, 0.2),
    "fc100": (0.058, 0.0, 0.0164),
    "fc200": (0.065, 0.0, 0.0154),
    "ae400": (0.086, 0.0057, 0.019),
}
"""Distortion, training error, test error."""


def near(measured: Any, reported: float, factor: float = 1.5) -> Any:
    return between(measured, reported / factor, reported * factor)


paper.claim(
    "every-image-has-an-adversarial",
    sheet="I2",
    says="For every network and practically every training image there is a perturbation within the pixels' range that "
    "the network takes for a wrong class drawn at random.",
    where="section 4.2, table 1",
    holds={"quick": tables["failures"] < 0.05, **dict.fromkeys(("small", "paper"), tables["failures"] < 0.01)},
    because="'every' can be refuted by counting only; fewer than one in a hundred failures leaves room for a search "
    "that misses what is there; the images at `quick` cannot tell less than five in a hundred",
    fidelity=ALL,
    differences=USUAL,
)
paper.claim(
    "decay-asks-for-larger-perturbations",
    sheet="I2",
    says="The more weight decay on softmax regression, the larger the perturbations needed.",
    where="table 1",
    reported={tables[f"{short}_distortion"]: Reported(TABLE_1[short][0], "seen") for short in SOFTMAX},
    holds=ordered(*(tables[f"{short}_distortion"] for short in SOFTMAX)),
    because="the order of three networks that differ in nothing else",
    fidelity=ALL,
    differences={
        "quick": ON_DIGITS + "; " + CHOICES,
        "small": "256 training images attacked; " + CHOICES,
        "paper": CHOICES,
    },
)
paper.claim(
    "autoencoder-asks-for-more-than-the-deep-networks",
    sheet="I2",
    says="The classifier on an autoencoder's code needs larger perturbations than the deep classifiers.",
    where="table 1",
    reported={
        tables[f"{short}_distortion"]: Reported(TABLE_1[short][0], "seen") for short in ("fc100", "fc200", "ae400")
    },
    holds=all_of(
        tables["ae400_distortion"] - tables["fc100_distortion"] > 0,
        tables["ae400_distortion"] - tables["fc200_distortion"] > 0,
    ),
    because="the order is the paper's; the level depends on how the autoencoder is made sparse",
    fidelity=ALL,
    differences=USUAL,
)
paper.claim(
    "softmax-distortions",
    sheet="I2",
    says="Softmax regression needs distortions of .062, .1 and .14.",
    where="table 1",
    holds=all_of(*(near(tables[f"{short}_distortion"], TABLE_1[short][0]) for short in SOFTMAX)),
    because="a factor of 1.5 either way covers the paper's unknown choice of wrong labels",
    fidelity=FROM_SMALL,
    differences={"small": "256 training images attacked; " + CHOICES, "paper": CHOICES},
)
paper.claim(
    "deep-distortions",
    sheet="I2",
    says="The deep networks need distortions of .058, .065 and .086.",
    where="table 1",
    holds=all_of(*(near(tables[f"{short}_distortion"], TABLE_1[short][0]) for short in ("fc100", "fc200", "ae400"))),
    because="a factor of 1.5 either way covers the paper's unknown choice of wrong labels",
    fidelity=FROM_SMALL,
    differences=from_small(USUAL),
)
paper.claim(
    "likeliest-class-is-nearer",
    sheet="I2",
    says="The perturbation to the likeliest wrong class is smaller than that to a random one, so that the figures of "
    "table 1 depend on the target.",
    where="our own check of table 1",
    holds=tables["fc100_distortion"] / tables["fc100_likeliest_distortion"] > 1.2,
    because="a fifth is more than the last digit of the paper's figures",
    fidelity=ALL,
    differences=USUAL,
)
paper.claim(
    "softmax-errors",
    sheet="I3",
    says="Softmax regression errs on 7.4, 9.4 and 20 % of the test set for λ of 1e-4, 1e-2 and 1.",
    where="table 1",
    reported={
        softmax[f"{short}_{split}_error"]: Reported(TABLE_1[short][k], "seen")
        for short in SOFTMAX
        for k, split in ((1, "train"), (2, "test"))
    },
    holds=all_of(
        *(
            between(softmax[f"{short}_test_error"], TABLE_1[short][2] - 0.005, TABLE_1[short][2] + 0.005)
            for short in SOFTMAX
        )
    ),
    because="a convex problem has one solution: half a point covers what is left to the last iterations",
    fidelity={"small": PAPER, "paper": PAPER},
    differences={"small": "150 iterations of L-BFGS at most", "paper": "none that we know of"},
)
paper.claim(
    "decay-raises-errors",
    sheet="I3",
    says="The more weight decay, the larger the test error of softmax regression.",
    where="table 1",
    holds=ordered(*(softmax[f"{short}_test_error"] for short in SOFTMAX)),
    because="the order of three networks that differ in nothing else",
    fidelity={"quick": STAND_IN, "small": PAPER, "paper": PAPER},
    differences={"quick": "8×8 digits", "small": "150 iterations of L-BFGS at most", "paper": "none that we know of"},
)
paper.claim(
    "deep-errors",
    sheet="I3",
    says="The deep networks err on no training image, and on 1.64, 1.54 and 1.9 % of the test set.",
    where="table 1",
    reported={
        deep[f"{short}_{split}_error"]: Reported(TABLE_1[short][k], "seen")
        for short in ("fc100", "fc200", "ae400")
        for k, split in ((1, "train"), (2, "test"))
    },
    holds=all_of(
        *(
            between(deep[f"{short}_test_error"], TABLE_1[short][2] - 0.004, TABLE_1[short][2] + 0.004)
            for short in ("fc100", "fc200", "ae400")
        )
    ),
    because="four tenths of a point is what such networks vary by with their start",
    fidelity=AT_PAPER,
    differences="how the autoencoder is made sparse is our choice",
)
paper.claim(
    "deep-networks-fit-their-training-set",
    sheet="I3",
    says="Trained by L-BFGS on all examples at once, the deep classifiers err on no training image.",
    where="table 1",
    holds=all_of(deep["fc100_train_error"] < 0.001, deep["fc200_train_error"] < 0.001),
    because="the paper prints 0 %; below one in a thousand rounds to it",
    fidelity=FROM_SMALL,
    differences=from_small(USUAL),
)

COLUMNS = tuple(NAMES.values())
TABLE_2 = {
    "FC10(1e-4)": (1.0, 0.117, 0.227, 0.02, 0.039, 0.027),
    "FC10(1e-2)": (0.871, 1.0, 0.352, 0.359, 0.273, 0.098),
    "FC10(1)": (0.719, 0.762, 1.0, 0.481, 0.47, 0.344),
    "FC100-100-10": (0.289, 0.137, 0.211, 1.0, 0.066, 0.02),
    "FC200-200-10": (0.382, 0.14, 0.238, 0.203, 1.0, 0.027),
    "AE400-10": (0.234, 0.16, 0.248, 0.094, 0.066, 1.0),
}
GAUSSIAN = {"0.1": (0.05, 0.101, 0.183, 0.0, 0.0, 0.008), "0.3": (0.156, 0.113, 0.227, 0.05, 0.043, 0.031)}


def recalled(row: str, column: str) -> Literal["seen", "high"]:
    """How sure we are of an entry of table 2."""
    return "seen" if column in (COLUMNS[0], COLUMNS[3], COLUMNS[5]) and row != COLUMNS[5] else "high"


paper.claim(
    "perturbations-transfer",
    sheet="I4",
    says="For most pairs of different networks, one's adversarial examples make the other err more than noise of equal "
    "distortion does.",
    where="table 2",
    reported={
        tables["errors"].at(row, column): Reported(value, recalled(row, column))
        for row, values in TABLE_2.items()
        for column, value in zip(COLUMNS, values, strict=True)
        if row != column
    },
    holds=tables["pairs_above_noise"] > 0.8,
    because="24 of the 30 pairs: the claim is general, but single pairs may be too unlike",
    fidelity=ALL,
    differences=USUAL,
)
paper.claim(
    "strong-decay-transfers-best",
    sheet="I4",
    says="What fools the strongly decayed softmax regression fools the other networks more than what fools the lightly "
    "decayed one.",
    where="table 2, first and third row",
    holds=all_of(
        *(
            tables["errors"].at("FC10(1)", column) - tables["errors"].at("FC10(1e-4)", column) > 0
            for column in COLUMNS[3:]
        )
    ),
    because="the largest difference in the table, for each deep network: its perturbations are the largest too",
    fidelity=ALL,
    differences=USUAL,
)
paper.claim(
    "noise-hardly-fools",
    sheet="I5",
    says="Noise of the same distortion turns at most a tenth of the images that the perturbations turn, for every "
    "network.",
    where="section 4.2, table 2",
    holds=tables["noise_flips"] < 0.1,
    because="the worst of six networks; a tenth is an order of magnitude",
    fidelity=ALL,
    differences=USUAL,
)
paper.claim(
    "strong-noise-hardly-fools",
    sheet="I5",
    says="Even noise of deviation .1, larger than its adversarial perturbations, hardly changes the error of "
    "FC100-100-10.",
    where="table 2, last rows",
    reported={
        tables["gaussian_errors"].at(row, column): Reported(value, recalled(row, column))
        for row, values in GAUSSIAN.items()
        for column, value in zip(COLUMNS, values, strict=True)
    },
    holds=tables["fc100_gaussian_flips"] < 0.02,
    because="the paper prints 0 %; two in a hundred is still a fiftieth of the attack's effect",
    fidelity=FROM_SMALL,
    differences=from_small(USUAL),
)

HALVED = {
    "quick": "8×8 digits, halves of 300; 40 images attacked, with a short search; amplified to .2, because with so few "
    "pixels the perturbations themselves are larger than .1; " + CHOICES,
    "small": "halves of 10,000 images and 120 iterations of L-BFGS in the place of 30,000 to convergence; 256 test "
    "images attacked; " + CHOICES,
    "paper": CHOICES,
}
paper.claim(
    "halves-have-the-papers-errors",
    sheet="I6",
    says="Networks trained on one half err on 2.3 to 2.5 % of the other and on 2.0 to 2.1 % of the test set.",
    where="table 3",
    reported={
        halves["first_other_half_error"]: Reported(0.024, "high"),
        halves["first_test_error"]: Reported(0.02, "high"),
        halves["wide_other_half_error"]: Reported(0.025, "high"),
        halves["wide_test_error"]: Reported(0.021, "high"),
        halves["second_other_half_error"]: Reported(0.023, "high"),
        halves["second_test_error"]: Reported(0.021, "high"),
    },
    holds=all_of(
        *(between(halves[f"{short}_other_half_error"], 0.019, 0.029) for short in ("first", "wide", "second")),
        *(between(halves[f"{short}_test_error"], 0.0165, 0.0245) for short in ("first", "wide", "second")),
    ),
    because="four to five tenths of a point is what such networks vary by with their start",
    fidelity=AT_PAPER,
    differences=CHOICES,
)
paper.claim(
    "halves-need-like-distortions",
    sheet="I6",
    says="Which half a network is trained on makes no difference to the perturbations it needs.",
    where="table 3",
    reported={
        halves["first_distortion"]: Reported(0.062, "high"),
        halves["wide_distortion"]: Reported(0.059, "high"),
        halves["second_distortion"]: Reported(0.058, "high"),
    },
    holds=equivalent(
        halves["second_distortion"] / halves["first_distortion"],
        1.0,
        margin=0.15,
        because="the paper's own ratio is .94; a seventh is less than what lies between its networks",
    ),
    because="the same architecture from another half; the ratio of the two mean distortions",
    fidelity=ALL,
    differences=HALVED,
)
paper.claim(
    "halves-distortions",
    sheet="I6",
    says="The distortions are about .06.",
    where="table 3",
    holds=all_of(
        near(halves["first_distortion"], 0.062),
        near(halves["wide_distortion"], 0.059),
        near(halves["second_distortion"], 0.058),
    ),
    because="a factor of 1.5 either way covers the paper's unknown choice of wrong labels",
    fidelity=FROM_SMALL,
    differences=from_small(HALVED),
)
H = ("FC100-100-10", "FC123-456-10", "FC100-100-10′")
paper.claim(
    "perturbations-cross-training-sets",
    sheet="I7",
    says="Perturbations amplified to a distortion of .1 make the network from the other half err at least three times "
    "as often as noise of that distortion.",
    where="table 4",
    reported={
        halves["as_found_errors"].at(H[0], H[1]): Reported(0.262, "seen"),
        halves["as_found_errors"].at(H[0], H[2]): Reported(0.059, "seen"),
        halves["as_found_errors"].at(H[1], H[0]): Reported(0.0625, "high"),
        halves["as_found_errors"].at(H[1], H[2]): Reported(0.051, "high"),
        halves["as_found_errors"].at(H[2], H[0]): Reported(0.082, "high"),
        halves["as_found_errors"].at(H[2], H[1]): Reported(0.082, "high"),
        halves["amplified_errors"].at(H[0], H[1]): Reported(0.98, "seen"),
        halves["amplified_errors"].at(H[0], H[2]): Reported(0.43, "seen"),
        halves["amplified_errors"].at(H[1], H[0]): Reported(0.96, "high"),
        halves["amplified_errors"].at(H[1], H[2]): Reported(0.22, "high"),
        halves["amplified_errors"].at(H[2], H[0]): Reported(0.27, "high"),
        halves["amplified_errors"].at(H[2], H[1]): Reported(0.5, "high"),
    },
    holds=halves["amplified_across"] - 3 * halves["amplified_noise_across"] > 0,
    because="the paper's ratios are 15 and 8; three times is beyond any doubt about noise",
    fidelity=ALL,
    differences=HALVED,
)
paper.claim(
    "same-half-transfers-better",
    sheet="I7",
    says="They transfer better to another architecture from the same half than to the same one from the other half.",
    where="table 4",
    holds=halves["amplified_within"] - halves["amplified_across"] > 0,
    because="the order in the paper: 98 and 96 % against 43 and 22 %",
    fidelity=ALL,
    differences=HALVED,
)

paper.claim(
    "fourier-analysis-gives-the-norm",
    sheet="I8",
    says="The norm of a convolution with stride, from Fourier analysis, is the largest singular value of its matrix.",
    where="section 4.3",
    holds=equal(norms["norms_apart"], 0),
    because="an identity on the torus: 12 kernels, strides 1 to 3, to a millionth in double precision",
    fidelity={"quick": EXACT, "small": EXACT, "paper": EXACT},
    differences="none",
)
paper.claim(
    "the-product-of-norms-is-a-bound",
    sheet="I8",
    says="No difference of two inputs is stretched beyond the product of the layers' norms.",
    where="section 4.3",
    holds=equal(norms["bounds_exceeded"], 0),
    because="a theorem, counted over differences between images, small random ones and the most stretched directions",
    fidelity={"quick": EXACT, "small": EXACT, "paper": EXACT},
    differences="networks of our own",
)
paper.claim(
    "first-layers-can-stretch",
    sheet="I8",
    says="The norm of a trained network's first layer is above 1, so instability can begin there.",
    where="section 4.3, table 5",
    holds=all_of(*(norms[f"{short}_first_norm"] > 1 for short in ("fc100", "fc200", "ae400"))),
    because="below 1 the layer would shrink every difference",
    fidelity=ALL,
    differences={scale: f"networks for MNIST in the place of AlexNet; {text}" for scale, text in USUAL.items()},
)
paper.claim(
    "an-imagenet-networks-first-layer-can-stretch",
    sheet="I8",
    says="So is the norm of the first convolution of an ImageNet network.",
    where="table 5",
    reported={"AlexNet's first convolution": Reported(2.75, "seen")},
    holds=imagenet["first_norm"] > 1,
    because="below 1 the layer would shrink every difference",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences="SqueezeNet 1.1 in the place of AlexNet, on pixels in 0..255 as it takes them",
)
paper.claim(
    "norms-of-alexnet",
    sheet="I8",
    says="AlexNet's layers have norms of 2.75, 10, 7, 7.5 and 11 (convolutions), 3.12, 4 and 4.",
    where="table 5",
    reported={
        f"AlexNet, {layer}": Reported(value, "seen")
        for layer, value in zip(
            ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2", "fc3"),
            (2.75, 10.0, 7.0, 7.5, 11.0, 3.12, 4.0, 4.0),
            strict=True,
        )
    },
    not_tested=NotTested("data", "needs the weights of the authors' AlexNet"),
)
paper.claim(
    "small-bounds-exclude-adversarials",
    sheet="I9",
    says="No adversarial example is nearer than the margin between two logits over the square root of 2 times the "
    "bound.",
    where="section 4.3",
    holds=equal(hardening["nearer_than_allowed"], 0),
    because="a theorem, counted over every adversarial example found for a plain and a capped network",
    fidelity={"small": EXACT, "paper": EXACT},
    differences="the paper says it in words",
)
paper.claim(
    "large-bounds-do-not-imply-adversarials",
    sheet="I9",
    says="The bound is far above what a plainly trained network does to differences near any image.",
    where="section 4.3",
    holds=hardening["plain_looseness"] > 2,
    because="twice the largest stretching that the Jacobian shows at any of 32 test images: such a bound says nothing",
    fidelity=FROM_SMALL,
    differences=BRIEFLY,
)
paper.claim(
    "capped-norms-ask-for-larger-perturbations",
    sheet="I9",
    says="A network whose layers' norms are capped while it is trained needs larger perturbations.",
    where="section 4.3, as a suggestion",
    holds=hardening["capped_distortion"] - hardening["plain_distortion"] > 0,
    because="the order of the mean distortions, paired by seed",
    fidelity=FROM_SMALL,
    differences={scale: "a cap in the place of a penalty; " + text for scale, text in BRIEFLY.items()},
)
paper.claim(
    "capped-norms-generalise-better",
    sheet="I9",
    says="It generalises better.",
    where="section 4.3, as a suggestion",
    holds=hardening["plain_error"] - hardening["capped_error"] > 0,
    because="the order of the test errors, paired by seed; the paper says that it might",
    fidelity=FROM_SMALL,
    differences={scale: "a cap in the place of a penalty; " + text for scale, text in BRIEFLY.items()},
)
paper.claim(
    "adversarial-training-beats-decay",
    sheet="I10",
    says="Training with adversarial examples for every layer lowers the test error of FC100-100-10 below that of "
    "weight decay alone.",
    where="section 4.2",
    reported={
        hardening["both_error"]: Reported(0.012, "seen"),
        hardening["plain_error"]: Reported(0.016, "seen"),
    },
    holds=hardening["plain_error"] - hardening["both_error"] > 0,
    because="the order of the test errors, paired by seed",
    fidelity=FROM_SMALL,
    differences=BRIEFLY,
)
paper.claim(
    "adversarial-training-beats-dropout",
    sheet="I10",
    says="It also lowers it below that of dropout.",
    where="section 4.2",
    reported={hardening["dropout_error"]: Reported(0.013, "seen")},
    holds=hardening["dropout_error"] - hardening["both_error"] > 0,
    because="the order of the test errors, paired by seed; the paper's difference is a tenth of a point",
    fidelity=FROM_SMALL,
    differences=BRIEFLY,
)
paper.claim(
    "only-hidden-adversarials-help",
    sheet="I11",
    says="Adversarial examples for the hidden layers help; for the input alone they help by less than two tenths of a "
    "point.",
    where="section 4.2",
    holds=all_of(
        hardening["plain_error"] - hardening["hidden_error"] > 0,
        hardening["plain_error"] - hardening["input_error"] < 0.002,
    ),
    because="'useful' is half of the gain of four tenths of a point that the paper reports for all layers",
    fidelity=FROM_SMALL,
    differences=BRIEFLY,
)
paper.claim(
    "higher-layers-help-more",
    sheet="I11",
    says="Adversarial examples for the upper hidden layer help more than for the input.",
    where="section 4.2",
    holds=hardening["input_error"] - hardening["upper_error"] > 0,
    because="the order of the test errors, paired by seed",
    fidelity=FROM_SMALL,
    differences=BRIEFLY,
)
paper.claim(
    "every-image-can-be-one-class",
    sheet="I12",
    says="Every network can be made to take practically every image for one and the same class.",
    where="section 4.2, figure 5",
    holds={
        "quick": tables["one_class_failures"] < 0.05,
        **dict.fromkeys(("small", "paper"), tables["one_class_failures"] < 0.01),
    },
    because="100 images for each of six networks; fewer than one failure in a hundred; 120 at `quick` cannot "
    "tell less than five",
    fidelity=ALL,
    differences={
        "quick": ON_DIGITS + "; 20 images",
        **dict.fromkeys(("small", "paper"), "MNIST, where the paper shows ImageNet"),
    },
)
paper.claim(
    "photographs-become-ostriches",
    sheet="I12",
    says="An ImageNet network can be made to take photographs for ostriches, by a distortion of a hundredth or less.",
    where="figure 5",
    reported={imagenet["distortion"]: Reported(0.006508, "seen")},
    holds=imagenet["imperceptible"] > 0.7,
    because="a hundredth of the pixel range is not seen; a dozen photographs without a failure leave an interval that "
    "begins above seven tenths",
    fidelity=FROM_SMALL | {"paper": REDUCED},
    differences={
        "small": "SqueezeNet 1.1 in the place of AlexNet; 12 photographs, a short search, so distortions are no minima",
        "paper": "SqueezeNet 1.1 in the place of AlexNet",
    },
)
paper.claim(
    "alexnet-and-quocnet",
    sheet="I12",
    says="AlexNet and QuocNet have adversarial examples too; 64 of AlexNet's have a mean distortion of .006508.",
    where="figures 5 and 6",
    reported={"AlexNet's distortion": Reported(0.006508, "seen")},
    not_tested=NotTested("data", "needs the weights of the authors' AlexNet and QuocNet"),
)

# Figures -------------------------------------------------------------------------------------------------------------


@paper.figure(
    tables,
    title="Images, differences and adversarial images",
    caption="Training images of which softmax regression (left) and FC100-100-10 (right) take the adversarial twin for "
    "another class (seed 0). Differences are drawn four times as strong as they are: red takes away, blue adds.",
)
def adversarial_pairs(results: Results) -> Any:
    from claimwise.lab.figures import image_grid

    stored = results[tables].measurements[0]["pictures"]
    assert isinstance(stored, Matrix)
    by_network: dict[str, list[tuple[np.ndarray, str, tuple[float, float], bool]]] = {}
    side = round(stored.values.shape[1] ** 0.5)
    for values, name in zip(stored.values, stored.rows, strict=True):
        network, _, before, after, kind = name.split("|")
        picture = values.reshape(side, side)
        title = {
            "image": before,
            "adversarial": after,
            "perturbation": f"{np.sqrt((values**2).mean()):.3f}",
        }[kind]
        by_network.setdefault(network, []).append((picture, title, (0.0, 1.0), kind == "perturbation"))
    rows = min(len(entries) for entries in by_network.values()) // 3
    drawn, titles = [], []
    for row in range(rows):
        for entries in by_network.values():
            for picture, title, _, signed in entries[3 * row : 3 * row + 3]:
                drawn.append(red_and_blue(4 * picture) if signed else grey(picture))
                titles.append(title)
    heads = [head for network in by_network for head in (network, "difference", "adversarial")]
    return image_grid(drawn, titles, columns=len(heads), column_titles=heads, size=0.95)


def grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[..., None], 3, 2)


def red_and_blue(signed: np.ndarray) -> np.ndarray:
    """White where nothing changes, blue where it gets lighter, red where it gets darker."""
    strength = np.clip(np.abs(signed), 0, 1)[..., None]
    colour = np.where(signed[..., None] > 0, np.array([0.02, 0.19, 0.55]), np.array([0.55, 0.05, 0.05]))
    return 1 - strength * (1 - colour)  # type: ignore[no-any-return]


@paper.figure(
    tables,
    title="Who is fooled by whose adversarial examples",
    caption="Error in per cent of each column's network on the adversarial examples made for each row's (left), and on "
    "noise of the same distortion (right). Mean over seeds.",
)
def transfer_table(results: Results) -> Any:
    from claimwise.lab.figures import INK, figure

    stored = results[tables]
    names = stored.rows("errors")
    fig, (left, right) = figure(6.5, 3.9, 1, 2)
    for axes, measure, title in (
        (left, "errors", "adversarial examples"),
        (right, "noise_errors", "noise of equal size"),
    ):
        values = 100 * stored[measure].mean(0)
        axes.imshow(values, cmap="Oranges", vmin=0, vmax=150, aspect="auto")
        for i, j in np.ndindex(*values.shape):
            axes.text(j, i, f"{values[i, j]:.0f}", ha="center", va="center", color=INK, fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8.5)
        axes.set_yticks(range(len(names)), names if axes is left else [""] * len(names), fontsize=8.5)
        axes.set_title(title)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    left.set_ylabel("made for")
    return fig


@paper.figure(
    tables,
    title="Distortion by network",
    caption="Mean distortion of the smallest perturbations found, one dot a seed, beside the paper's figure.",
)
def distortion_by_network(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure

    stored = results[tables]
    fig, axes = figure(5.6, 2.8)
    for row, short in enumerate(reversed(NAMES)):
        ours = stored[f"{short}_distortion"]
        axes.scatter(ours, np.full(len(ours), row), color=COLOURS.blue, s=26, label="ours" if row == 0 else None)
        axes.scatter(
            TABLE_1[short][0], row, marker="|", s=220, color=COLOURS.orange, label="paper" if row == 0 else None
        )
    axes.set_yticks(range(len(NAMES)), list(reversed(NAMES.values())))
    axes.set(xlabel="root mean square of the perturbation (pixels run from 0 to 1)", ylim=(-0.6, len(NAMES) - 0.4))
    axes.set_xlim(0, 1.05 * axes.get_xlim()[1])
    axes.grid(False, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return fig


@paper.figure(
    basis,
    title="Test images that excite units and random directions most",
    caption="Four units of the second hidden layer of FC200-200-10 (above) and four random directions of it (below), "
    "seed 0.",
)
def units_and_directions(results: Results) -> Any:
    from claimwise.lab.figures import image_grid

    stored = results[basis].measurements[0]["pictures"]
    assert isinstance(stored, Matrix)
    side = round(stored.values.shape[1] ** 0.5)
    columns = int(results[basis].setup["strongest"])
    kinds = [name.split()[0] for name in stored.rows[::columns]]
    names = {"units": "unit", "random": "direction"}
    titles = [f"{names[kind]} {kinds[: k + 1].count(kind)}" for k, kind in enumerate(kinds)]
    return image_grid(stored.values.reshape(-1, side, side), columns=columns, size=0.5, row_titles=titles)


@paper.figure(
    basis,
    title="How much of one class the images of a unit and of a direction are",
    caption="Share of the commonest class among the eight test images of each unit and each random direction, in "
    "ascending order; mean over seeds.",
)
def purity_of_units_and_directions(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure

    stored = results[basis]
    fig, axes = figure()
    for name, label, colour in (("units", "units", COLOURS.blue), ("random", "random directions", COLOURS.orange)):
        values = stored[f"{name}_purities"].mean(0)[0]
        axes.plot(np.linspace(0, 100, len(values)), values, label=label, color=colour)
    axes.set(xlabel="per cent of units or directions", ylabel="share of the commonest class", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    return fig


@paper.figure(
    hardening,
    title="Test error by training",
    caption="FC100-100-10 trained in seven ways; one dot a seed, the mean as a line.",
)
def error_by_training(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, INK, figure

    stored = results[hardening]
    labels = {
        "plain": "weight decay",
        "dropout": "and dropout",
        "input": "and adversarial inputs",
        "upper": "and adversarial upper layer",
        "hidden": "and adversarial hidden layers",
        "both": "and adversarial everywhere",
        "capped": "and capped norms",
    }
    fig, axes = figure(5.6, 3.0)
    for row, arm in enumerate(reversed(labels)):
        values = 100 * stored[f"{arm}_error"]
        axes.scatter(values, np.full(len(values), row), s=22, color=COLOURS.blue)
        axes.scatter(values.mean(), row, marker="|", s=220, color=INK)
    axes.set_yticks(range(len(labels)), list(reversed(labels.values())))
    axes.set(xlabel="test error in per cent")
    axes.grid(False, axis="y")
    return fig
