r"""Delving deep into rectifiers: slopes that are learned, and initial weights that let thirty layers train.

## What

Two things about rectifiers, and a network that uses both. **PReLU** replaces max(0, y) by max(0, y) + a·min(0, y) with
a learned, one slope a channel or one a layer: next to no parameters, and the network fits better. **The
initialisation** derives how large weights must be so that a rectifier network neither loses nor blows up its signal:
with it a network of 30 layers trains from scratch, where the usual "Xavier" leaves it standing still. An ensemble
reaches 4.94 % top-5 error on ImageNet, below the 5.1 % that a trained person is reported to make.

## How

The slope's gradient is the sum, over examples and positions (and over channels if they share it), of the gradient
behind it where y ≤ 0 times y. Slopes start at .25, are updated with momentum, and carry **no weight decay**, which
would pull them to 0 and PReLU back to ReLU.

For the initialisation, follow one layer. y = Wx + b with n products a unit has Var[y] = n Var[w] E[x²], and a rectifier
of a symmetric y passes on E[x²] = ½(1 + a²) Var[y]. The signal keeps its variance through all layers when
½(1 + a²) n Var[w] = 1: weights of deviation √(2 / ((1 + a²) n)), biases 0. Going back, the gradient keeps its own when
½(1 + a²) n̂ Var[w] = 1, where n = k²c counts the connections into a unit (fan-in) and n̂ = k²d those out of one
(fan-out). Either will do: with the first form the gradient changes only by the ratio of the widths at the ends, and the
product over layers of factors that are *not* 1 is what kills.

Xavier's rule, as the paper and Caffe mean it, is Var[w] = 1 / n. It was derived for linear units; behind rectifiers
each layer halves the variance. After 30 layers the deviation is 2⁻¹⁵ of what it was.

## Why

A rectifier throws half of its input away, and nobody had put that half into the variance of the weights. The factor 2
is a matter of starting somewhat later in a network of ten or twenty layers, and everything in one of thirty. That
depth itself then does not help (30 layers are *worse* than 14, on the training set) is said plainly here, and left to
the residual networks of the following year.

Learned slopes tell where a network needs sign: the first layer's filters are edge and colour detectors whose negative
responses mean something, and its slopes come out large; deeper layers become more decidedly rectifying.

## Where the notes or the paper mislead

- **"Xavier" here is 1 / fan-in**, not Glorot and Bengio's 2 / (fan-in + fan-out). The two agree only between layers of
  one width. `claimwise.layers.initial_std` names them apart.
- n counts k²·c of the *input* channels; forgetting k² is off by a factor of 3 in deviation.
- For PReLU the rule has (1 + a²) with a at the start: for a = .25 it makes 3 % in deviation.
- The stall needs plain gradient descent and layers without shortcuts or normalisation. Adam divides by the size of the
  gradient and so can rescue Xavier.
- **The border takes its share**: zeros around a map are not products, so in small maps even He's rule loses signal
  (about 5 % of the deviation a layer at 7 × 7). The propagation is therefore measured on maps without a border.
- "Exceeds human level" is top-5 on ImageNet against one annotator on 1,500 images; the paper itself warns that it does
  not mean machines see better.
- A convergence that is said to be *earlier* (22 layers) is a matter of curves; the paper gives no number for it.
- The wording "either form suffices" is of networks whose widths change by small factors along the way.
"""

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from claimwise.lab import (
    EXACT,
    REDUCED,
    STAND_IN,
    Curve,
    Exact,
    Measurements,
    NotTested,
    Paper,
    Plan,
    Proportion,
    Reported,
    Results,
    Run,
    all_of,
    between,
    equal,
    equivalent,
)
from claimwise.layers import (
    PReLU,
    initial_std,
    initialise_weights,
    parameter_groups,
    signal_propagation,
    slopes,
    will_it_train,
)
from claimwise.papers.shared.images import Images, images_of
from claimwise.vision import PLAIN_CONFIGURATIONS, PlainConfiguration, parameter_counts, plain_rectifier_network

paper = Paper("prelu")

CLASSES = 10
GUESSING = log(CLASSES)
"""Loss of a network that gives every class the same probability."""
POINT = 10
"""Steps averaged into a point of the training curves."""

# Exact: the theory, and counts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Theory:
    """What follows from the formulas alone."""

    layers: int = 30
    """Depth over which variances are followed."""


THEORY = Plan(Theory(), seeds=1)
VGG_B = (3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512)
"""Channels into and out of the ten convolutions of VGG's network B."""
UNEVEN = (3, 48, 64, 96, 32, 128, 80)
"""Channels of a network whose widths change, for the two forms of the condition."""


@paper.experiment(quick=THEORY, small=THEORY, paper=THEORY)
def theory(run: Run, setup: Theory) -> Measurements:
    """Slopes of the variance by depth, deviations by width, the two forms of the condition, and counts."""
    he, xavier, small = (
        will_it_train(setup.layers, initialisation=scheme, width=64, kernel=3)
        for scheme in ("he", "xavier", "constant")  # type: ignore[arg-type]
    )
    parametric = will_it_train(setup.layers, activation="prelu", width=64, kernel=3)
    vgg = will_it_train(width=VGG_B, kernel=3, initialisation="constant")
    inwards, outwards = (will_it_train(width=UNEVEN, kernel=3, mode=mode) for mode in ("fan-in", "fan-out"))
    plain, shared = (
        parameter_counts(plain_rectifier_network("E", rectifier=kind, device="meta")).total
        for kind in ("relu", "prelu-shared")
    )
    return {
        "he_slope": Exact(he.activation_slope),
        "xavier_slope": Exact(xavier.activation_slope),
        "prelu_slope": Exact(parametric.activation_slope),
        "he_gradient_slope": Exact(he.gradient_slope),
        "xavier_gradient_slope": Exact(xavier.gradient_slope),
        "constant_last": Exact(small.activation_std[-1]),
        **{f"std_{c}": Exact(initial_std(9 * c, 9 * c)) for c in (64, 128, 256, 512)},
        "vgg_b_shrinks_by": Exact(1 / vgg.gradient_std[0]),
        "fan_in_gradient_ratio": Exact((inwards.gradient_std[0] / inwards.gradient_std[-1]) ** 2),
        "ratio_of_widths": Exact(UNEVEN[-1] / UNEVEN[1]),
        "fan_out_gradient_slope": Exact(outwards.gradient_slope),
        "extra_parameters": Exact(shared - plain),
        "layers_E": Exact(PLAIN_CONFIGURATIONS["E"].layers),
        "layers_B": Exact(PLAIN_CONFIGURATIONS["B"].layers),
        "layers_E_30": Exact(PLAIN_CONFIGURATIONS["E-30"].layers),
    }


# Propagation through random networks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Propagation:
    """Random networks of equal layers, before any training."""

    layers: int = 30
    """Weight layers, each with its rectifier."""
    channels: int = 64
    """Channels, or units, of each."""
    kernel: int = 3
    """Side of the kernels; 1 for fully connected layers."""
    side: int = 8
    """Side of the maps, whose opposite edges meet; not used by fully connected layers."""
    examples: int = 4
    """Standard normal inputs."""
    draws: int = 5
    """Networks a seed: theory speaks of the mean square over weights."""


SCHEMES: dict[str, tuple[str, bool]] = {
    "he": ("he", False),
    "xavier": ("xavier", False),
    "constant": ("constant", False),
    "prelu": ("he", True),
}
"""Initialisations by the name of their measurements, and whether the rectifiers are PReLU."""


def random_network(setup: Propagation, parametric: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(setup.layers):
        if setup.kernel == 1:
            layers.append(nn.Linear(setup.channels, setup.channels))
        else:
            around = setup.kernel // 2
            layers.append(
                nn.Conv2d(setup.channels, setup.channels, setup.kernel, padding=around, padding_mode="circular")
            )
        layers.append(PReLU(setup.channels) if parametric else nn.ReLU())
    return nn.Sequential(*layers)


@paper.experiment(
    quick=Plan(Propagation(channels=256, kernel=1, examples=16, draws=1), seeds=10),
    small=Plan(Propagation(), seeds=10),
)
def propagation(run: Run, setup: Propagation) -> Measurements:
    """Measured scales of signals and gradients in 30 layers, for three initialisations and PReLU."""
    found: dict[str, Any] = {}
    position = () if setup.kernel == 1 else (setup.side, setup.side)
    x = torch.randn(setup.examples, setup.channels, *position, generator=run.generator("inputs")).to(run.device)
    for name, (scheme, parametric) in SCHEMES.items():
        model = random_network(setup, parametric)
        weights, towards = run.generator(f"weights of {name}"), run.generator(f"gradients of {name}")
        squares = np.zeros((2, setup.layers))
        for _ in range(setup.draws):
            model.cpu()  # where the generators draw
            initialise_weights(model, scheme, slope=0.25 if parametric else 0.0, generator=weights)  # type: ignore[arg-type]
            measured = signal_propagation(model.to(run.device), x, generator=towards).measured
            squares[0] += np.square(measured.activation_std) / setup.draws
            squares[1] += np.square(measured.gradient_std) / setup.draws
        layers = np.arange(1, setup.layers + 1)
        found |= {
            f"{name}_slope": float(np.polyfit(layers, np.log2(squares[0]), 1)[0]),
            f"{name}_gradient_slope": float(np.polyfit(layers, np.log2(squares[1][::-1]), 1)[0]),
            f"{name}_last": float(np.sqrt(squares[0, -1])),
            f"{name}_std": Curve(layers, np.log10(squares[0]) / 2),
            f"{name}_gradient": Curve(layers, np.log10(squares[1]) / 2),
        }
    return found


# Trained networks ----------------------------------------------------------------------------------------------------
#
# No plan here reaches the scale `paper`: it needs ImageNet, which nobody may pass on. All that is trained stands in.
#
# Budget of `small`, fixed before the run: 18 minutes of one core. Measured over ten steps outside the plan, on a busy
# machine: 500 steps of 30 and 14 layers from two starts 65 s a seed, 5.5 min for five; 450 of 22 layers from two starts
# 75 s, 4 min for three; 300 of two nets for the two fans 26 s, 2 min for five; 250 of five rectifiers 42 s, 3.5 min for
# five; random networks half a minute: 16 in all. `quick` has no training to a result: in a first run its 30 layers were
# at 1.8 nats after the 120 steps that fit, too few to tell; what it looks at is the first gradient.


@dataclass(frozen=True)
class Deep:
    """Plain rectifier networks of several depths, trained from He's and from Xavier's weights."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`."""
    depths: tuple[int, ...] = (30, 14)
    """Layers with weights, three of them fully connected."""
    channels: int = 32
    """Channels of every convolution. He's own net of 30 layers needs about 32 to get going in so few steps."""
    convolutional: bool = True
    """Whether all but the last three layers are convolutions; otherwise only the first one is."""
    first: tuple[int, int] = (7, 4)
    """Kernel and stride of the first convolution, which is all the down-sampling there is."""
    hidden: int = 128
    """Units of the hidden fully connected layers."""
    images: int = 32_000
    """The first so many training images."""
    epochs: int = 1
    """Passes over them."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 0.01
    """Step size of gradient descent with momentum .9."""
    weight_decay: float = 5e-4
    """On all parameters but slopes."""
    tests: int = 2_000
    """The first so many test images."""

    def configuration(self, depth: int) -> PlainConfiguration:
        kernel, stride = self.first
        first = (kernel, self.channels, stride)
        if self.convolutional:
            hidden = (self.hidden, self.hidden)
            return PlainConfiguration(first, 1, ((self.channels, depth - 4),), 3, bins=(), hidden=hidden)
        return PlainConfiguration(first, 1, (), 3, bins=(), hidden=(self.hidden,) * (depth - 2))


def pictures(run: Run, setup: Any) -> Images:
    """Images standardised by the training set's mean and deviation."""
    x, y, tests, labels = images_of(run, setup.dataset, setup.images, setup.tests)
    mean, deviation = x.mean(), x.std()
    return Images((x - mean) / deviation, y, (tests - mean) / deviation, labels)


def train(
    run: Run, setup: Any, model: nn.Module, x: Tensor, y: Tensor, name: str, slope_decay: float = 0.0
) -> np.ndarray:
    """Trains a network as its setup says; the loss of each step, at most twice guessing's."""
    groups = parameter_groups(model, setup.weight_decay)
    for group in groups[1:]:
        group["weight_decay"] = slope_decay
    optimizer = torch.optim.SGD(groups, lr=setup.learning_rate, momentum=0.9)
    losses = torch.zeros(-(-len(x) // setup.batch_size) * setup.epochs)
    latest = torch.zeros(())

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        latest.copy_(loss.detach())
        return loss

    def after_step(step: int) -> None:
        losses[step] = latest

    run.fit(
        model,
        objective,
        (x, y),
        optimizer=optimizer,
        epochs=setup.epochs,
        batch_size=setup.batch_size,
        after_step=after_step,
        also={"losses": losses},
        name=name,
    )
    return np.nan_to_num(losses.numpy(), nan=2 * GUESSING, posinf=2 * GUESSING).clip(max=2 * GUESSING)


def points(losses: np.ndarray) -> np.ndarray:
    """Means of ten steps each."""
    if len(losses) < POINT:
        raise ValueError(f"prelu: at least {POINT} steps make a curve, got {len(losses)}; take more images or epochs")
    return losses[: len(losses) // POINT * POINT].reshape(-1, POINT).mean(1)


def steps_until(losses: np.ndarray, below: float) -> int:
    """Steps until the mean of ten falls below a loss; all steps and ten more where it never does."""
    reached = np.flatnonzero(points(losses) < below)
    return POINT * (int(reached[0]) + 1 if len(reached) else len(points(losses)) + 1)


@torch.no_grad()
def test_error(model: nn.Module, x: Tensor, y: Tensor) -> Proportion:
    model.eval()
    wrong = sum(
        int((model(a).argmax(1) != b).sum()) for a, b in zip(torch.split(x, 250), torch.split(y, 250), strict=True)
    )
    return Proportion(wrong, len(y))


def learned(losses: np.ndarray, model: nn.Module, tests: Tensor, labels: Tensor, name: str) -> dict[str, Any]:
    """How a training went: its curve, the loss of its last tenth, and the test error."""
    curve = points(losses)
    return {
        f"{name}_curve": Curve((np.arange(len(curve)) + 0.5) * POINT, curve, unit="nats"),
        f"{name}_loss": float(losses[-len(losses) // 10 :].mean()),
        f"{name}_error": test_error(model, tests, labels),
    }


STARTED = 1.5
"""A loss that only a network which has begun to tell the digits apart has."""


def from_both_starts(run: Run, setup: Deep) -> Measurements:
    x, y, tests, labels = pictures(run, setup)
    found: dict[str, Any] = {}
    for depth in setup.depths:
        for scheme in ("he", "xavier"):
            name = f"{scheme}_{depth}"
            model = plain_rectifier_network(
                setup.configuration(depth),
                image_size=x.shape[-1],
                channels=1,
                classes=CLASSES,
                dropout=0.0,
                initialisation=scheme,  # type: ignore[arg-type]
                generator=run.generator(f"weights at depth {depth}"),  # the same draws, scaled
            ).to(run.device)
            first = x[: setup.batch_size], y[: setup.batch_size]
            before = signal_propagation(model, first[0], objective=lambda z, y=first[1]: F.cross_entropy(z, y)).measured
            losses = train(run, setup, model, x, y, name)
            found |= learned(losses, model, tests, labels, name)
            found[f"{name}_steps"] = steps_until(losses, STARTED)
            found[f"{name}_gradient_ratio"] = float(np.log10(before.gradient_std[0] / before.gradient_std[-1]))
    return found


@paper.experiment(
    quick=Plan(
        Deep("digits", (30,), channels=64, convolutional=False, first=(8, 8), hidden=64, images=1280, tests=360),
        seeds=5,
    ),
    small=Plan(Deep(), seeds=5),
)
def deep(run: Run, setup: Deep) -> Measurements:
    """Thirty layers and fourteen, from He's and from Xavier's weights."""
    return from_both_starts(run, setup)


@paper.experiment(small=Plan(Deep(depths=(22,), images=28_800), seeds=3))
def twenty_two(run: Run, setup: Deep) -> Measurements:
    """Twenty-two layers, from He's and from Xavier's weights."""
    return from_both_starts(run, setup)


@dataclass(frozen=True)
class Fans:
    """Fourteen layers whose width grows, from both forms of the condition."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`."""
    stages: tuple[tuple[int, int], ...] = ((16, 3), (32, 3), (64, 4))
    """Channels and convolutions of each stage behind the first convolution of 16 channels."""
    hidden: int = 128
    """Units of the two hidden fully connected layers."""
    images: int = 19_200
    """The first so many training images."""
    epochs: int = 1
    """Passes over them."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 0.01
    """Step size of gradient descent with momentum .9."""
    weight_decay: float = 5e-4
    """On all parameters."""
    tests: int = 2_000
    """The first so many test images."""


@paper.experiment(small=Plan(Fans(), seeds=5))
def fans(run: Run, setup: Fans) -> Measurements:
    """Fan-in against fan-out: the same draws, scaled layer by layer."""
    x, y, tests, labels = pictures(run, setup)
    hidden = (setup.hidden, setup.hidden)
    configuration = PlainConfiguration((7, 16, 4), 1, setup.stages, 3, pool=1, bins=(), hidden=hidden)
    found: dict[str, Any] = {}
    for name, mode in (("fan_in", "fan-in"), ("fan_out", "fan-out")):
        model = plain_rectifier_network(
            configuration,
            image_size=x.shape[-1],
            channels=1,
            classes=CLASSES,
            dropout=0.0,
            mode=mode,  # type: ignore[arg-type]
            generator=run.generator("weights"),
        ).to(run.device)
        found |= learned(train(run, setup, model, x, y, name), model, tests, labels, name)
    return found


@dataclass(frozen=True)
class Rectifiers:
    """One network with four kinds of rectifiers, and with decay on its slopes."""

    dataset: str = "fashion_mnist"
    """A data set of `claimwise data list`."""
    channels: tuple[int, int] = (16, 32)
    """Channels of the two stages of three convolutions; the first convolution has those of the first."""
    hidden: int = 128
    """Units of the hidden fully connected layer."""
    leaky_slope: float = 0.25
    """Fixed slope of the leaky rectifier: where PReLU starts, so that what differs is that it learns."""
    slope_decay: float = 0.5
    """Weight decay on slopes, where they have it. The paper's 5e-4 over its 750,000 steps is a pull that 250 steps need
    a thousand times the strength for."""
    images: int = 16_000
    """The first so many training images."""
    epochs: int = 1
    """Passes over them."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 0.01
    """Step size of gradient descent with momentum .9."""
    weight_decay: float = 5e-4
    """On all parameters but slopes."""
    tests: int = 5_000
    """The first so many test images."""


VARIANTS: dict[str, str] = {"relu": "relu", "leaky": "leaky", "wise": "prelu", "shared": "prelu-shared"}
"""Kinds of rectifiers by the name of their measurements."""


@paper.experiment(small=Plan(Rectifiers(), seeds=5))
def rectifiers(run: Run, setup: Rectifiers) -> Measurements:
    """ReLU, leaky ReLU, PReLU with a slope a channel and a slope a layer; slopes by depth, with and without decay."""
    x, y, tests, labels = pictures(run, setup)
    narrow, wide = setup.channels
    configuration = PlainConfiguration((5, narrow, 2), 1, ((narrow, 3), (wide, 3)), 3, bins=(), hidden=(setup.hidden,))

    def fit(name: str, kind: str, slope_decay: float = 0.0) -> nn.Module:
        model = plain_rectifier_network(
            configuration,
            image_size=x.shape[-1],
            channels=1,
            classes=CLASSES,
            rectifier=kind,  # type: ignore[arg-type]
            slope=setup.leaky_slope if kind == "leaky" else 0.25,
            dropout=0.0,
            generator=run.generator("weights"),
        ).to(run.device)
        losses = train(run, setup, model, x, y, name, slope_decay)
        found.update(learned(losses, model, tests, labels, name))
        return model

    found: dict[str, Any] = {}
    models = {name: fit(name, kind) for name, kind in VARIANTS.items()}
    models["decayed"] = fit("decayed", "prelu", setup.slope_decay)
    for name in ("wise", "shared", "decayed"):
        by_layer = np.array([float(a.mean()) for a in slopes(models[name]).values()])
        found[f"{name}_slopes"] = Curve(np.arange(1, len(by_layer) + 1), by_layer)
        found[f"{name}_size"] = float(torch.cat([a.abs() for a in slopes(models[name]).values()]).mean())
        found[f"{name}_first_slope"] = by_layer[0]
        found[f"{name}_largest_other_slope"] = by_layer[1:].max()
        found[f"{name}_rank_correlation"] = rank_correlation(by_layer)
    return found


def rank_correlation(values: np.ndarray) -> float:
    """Spearman's correlation of values with their place."""
    ranks = values.argsort().argsort()
    return float(np.corrcoef(np.arange(len(values)), ranks)[0, 1])


# Claims --------------------------------------------------------------------------------------------------------------

ALWAYS_EXACT = {"quick": EXACT, "small": EXACT, "paper": EXACT}
ON_STAND_IN = {"small": STAND_IN}
NEEDS_IMAGENET = NotTested("data", "needs ImageNet's 1.3 million images")

paper.claim(
    "shared-slopes-are-13-parameters",
    sheet="K1",
    says="In the network of 14 layers, slopes shared by the channels of a layer are 13 parameters more.",
    where="section 2.1, after table 2",
    reported={theory["extra_parameters"]: Reported(13, "seen")},
    holds=all_of(equal(theory["extra_parameters"], 13), equal(theory["layers_E"], 14)),
    because="counted in the network: one a layer but the last",
    fidelity=ALWAYS_EXACT,
)

RECTIFIERS_DIFFER = (
    "Fashion-MNIST for ImageNet; 7 convolutions of 16 and 32 channels and 2 fully connected layers for model E's 11 "
    "and 3; 250 steps of 64 images, no dropout; top-1 error of 5,000 test images, one view for ten"
)
paper.claim(
    "prelu-fits-better",
    sheet="K1",
    says="With learned slopes, one a channel or one a layer, the training loss is lower than with rectifiers.",
    where="section 2.1",
    holds=all_of(
        rectifiers["relu_loss"] - rectifiers["wise_loss"] > 0, rectifiers["relu_loss"] - rectifiers["shared_loss"] > 0
    ),
    because="the sign, paired by seed, which fixes the draws of weights: the paper claims a better fit before all else",
    fidelity=ON_STAND_IN,
    differences=RECTIFIERS_DIFFER,
)
paper.claim(
    "prelu-errs-less",
    sheet="K1",
    says="The test error is lower with PReLU, channel-wise or shared, than with rectifiers.",
    where="table 2",
    reported={
        rectifiers["relu_error"]: Reported(0.3382, "seen"),
        rectifiers["shared_error"]: Reported(0.3271, "seen"),
        rectifiers["wise_error"]: Reported(0.3264, "seen"),
        "top-5 error, ReLU": Reported(0.1334, "seen"),
        "top-5 error, shared": Reported(0.1287, "seen"),
        "top-5 error, channel-wise": Reported(0.1275, "seen"),
    },
    holds=all_of(
        rectifiers["relu_error"] - rectifiers["wise_error"] > 0,
        rectifiers["relu_error"] - rectifiers["shared_error"] > 0,
    ),
    because="the sign; 1.2 points of 34 belong to ImageNet",
    fidelity=ON_STAND_IN,
    differences=RECTIFIERS_DIFFER,
)
paper.claim(
    "one-slope-a-layer-is-as-good",
    sheet="K1",
    says="One slope a layer does about as well as one a channel.",
    where="section 2.1, table 2",
    reported={rectifiers["shared_error"] - rectifiers["wise_error"]: Reported(0.0007, "computed")},
    holds=equivalent(
        rectifiers["shared_error"],
        rectifiers["wise_error"],
        margin=0.01,
        because="a point is what either of them gains over ReLU in table 2; the two differ by 0.07 points there",
    ),
    because="the whole interval within the margin",
    fidelity=ON_STAND_IN,
    differences=RECTIFIERS_DIFFER,
)

TABLE_1 = {  # layer: shared, channel-wise
    "conv1": (0.681, 0.596),
    "conv2_1": (0.103, 0.321),
    "conv2_2": (0.099, 0.204),
    "conv2_3": (0.228, 0.294),
    "conv2_4": (0.561, 0.464),
    "conv3_1": (0.126, 0.196),
    "conv3_2": (0.089, 0.152),
    "conv3_3": (0.124, 0.145),
    "conv3_4": (0.062, 0.124),
    "conv3_5": (0.008, 0.134),
    "conv3_6": (0.210, 0.198),
    "fc1": (0.063, 0.074),
    "fc2": (0.031, 0.075),
}
paper.claim(
    "slopes-of-table-1",
    sheet="K2",
    says="The slopes that model E learns on ImageNet, layer by layer.",
    where="table 1",
    reported={
        f"{layer}, {kind}": Reported(value, "seen" if layer == "conv1" else "med")
        for layer, values in TABLE_1.items()
        for kind, value in zip(("shared", "channel-wise"), values, strict=True)
    },
    not_tested=NEEDS_IMAGENET,
)
paper.claim(
    "first-slopes-are-largest",
    sheet="K2 K3",
    says="The first convolution learns the largest slopes, shared or channel-wise: it keeps positive and negative "
    "responses.",
    where="section 2.1, table 1",
    holds=all_of(
        rectifiers["wise_first_slope"] - rectifiers["wise_largest_other_slope"] > 0,
        rectifiers["shared_first_slope"] - rectifiers["shared_largest_other_slope"] > 0,
    ),
    because="larger than the largest mean slope of any other layer, as in table 1",
    fidelity=ON_STAND_IN,
    differences=RECTIFIERS_DIFFER,
)
paper.claim(
    "slopes-fall-with-depth",
    sheet="K3",
    says="Deeper layers learn smaller slopes (channel-wise): the network becomes more non-linear with depth.",
    where="section 2.1",
    holds=rectifiers["wise_rank_correlation"] < 0,
    because="the rank correlation of a layer's mean slope with its place",
    fidelity=ON_STAND_IN,
    differences=RECTIFIERS_DIFFER,
)
paper.claim(
    "large-model-gains-too",
    sheet="K4",
    says="In the large network A, PReLU lowers the error at every scale of the test image, and with all of them.",
    where="table 4",
    reported={
        "A, ReLU, multi-scale, top-1": Reported(0.2402, "seen"),
        "A, PReLU, multi-scale, top-1": Reported(0.2297, "seen"),
        "A, ReLU, multi-scale, top-5": Reported(0.0651, "seen"),
        "A, PReLU, multi-scale, top-5": Reported(0.0628, "seen"),
        "A, ReLU, 256, top-1": Reported(0.2625, "med"),
        "A, PReLU, 256, top-1": Reported(0.2581, "med"),
        "A, ReLU, 384, top-1": Reported(0.2477, "med"),
        "A, PReLU, 384, top-1": Reported(0.2420, "med"),
        "A, ReLU, 480, top-1": Reported(0.2546, "med"),
        "A, PReLU, 480, top-1": Reported(0.2483, "med"),
    },
    not_tested=NEEDS_IMAGENET,
)
paper.claim(
    "one-wide-model-beats-earlier-ensembles",
    sheet="K5",
    says="The single network C has 5.71 % top-5 error, less than all earlier ensembles.",
    where="table 6",
    reported={
        "C, top-1": Reported(0.2159, "seen"),
        "C, top-5": Reported(0.0571, "seen"),
        "B, top-1": Reported(0.2285, "med"),
        "B, top-5": Reported(0.0627, "med"),
    },
    not_tested=NEEDS_IMAGENET,
)
paper.claim(
    "below-the-human-figure",
    sheet="K6",
    says="Six networks together have 4.94 % top-5 error in ImageNet's test, below GoogLeNet's 6.66 % and the 5.1 % "
    "reported for a trained person.",
    where="table 7, section 4",
    reported={
        "six networks": Reported(0.0494, "seen"),
        "GoogLeNet": Reported(0.0666, "seen"),
        "Baidu": Reported(0.0598, "seen"),
        "a trained annotator": Reported(0.051, "seen"),
    },
    not_tested=NotTested("data", "needs ImageNet's images and its test server"),
)
paper.claim(
    "he-keeps-what-xavier-halves",
    sheet="K7",
    says="Behind rectifiers, He's weights keep the variance of signals and gradients from layer to layer, also for "
    "PReLU; Xavier's (1 / fan-in) halve both.",
    where="section 2.2, equations 9 to 15",
    holds=all_of(
        between(theory["he_slope"], -1e-9, 1e-9),
        between(theory["prelu_slope"], -1e-9, 1e-9),
        between(theory["he_gradient_slope"], -1e-9, 1e-9),
        between(theory["xavier_slope"], -1 - 1e-9, -1 + 1e-9),
        between(theory["xavier_gradient_slope"], -1 - 1e-9, -1 + 1e-9),
    ),
    because="log2 of the variance per layer is 0 or -1 by the recursion; rounding alone may differ",
    fidelity=ALWAYS_EXACT,
)
MEASURED = {
    "quick": "fully connected layers of 256 units; one network a seed",
    "small": "random networks of 64 channels on maps of 8 × 8 whose opposite edges meet; 5 networks a seed",
}
paper.claim(
    "random-networks-follow-the-theory",
    sheet="K7",
    says="In random networks of 30 layers the variance of signals stays as it is with He's weights, also for PReLU, "
    "and halves at each layer with Xavier's.",
    where="section 2.2",
    reported={
        propagation["he_last"]: Reported(1.78, "computed"),
        propagation["prelu_last"]: Reported(1.23, "computed"),
        propagation["xavier_last"]: Reported(3.5e-5, "computed"),
    },
    holds=all_of(
        between(propagation["he_slope"], -0.1, 0.1),
        between(propagation["prelu_slope"], -0.1, 0.1),
        between(propagation["xavier_slope"], -1.1, -0.9),
    ),
    because="a tenth of a doubling a layer is a factor of 3 in the deviation over 30 layers: far from a stall, and "
    "more than the chance of few networks of finite width; the reported figures are single draws of our own",
    fidelity={"quick": REDUCED, "small": REDUCED},
    differences=MEASURED,
)
paper.claim(
    "random-gradients-follow-the-theory",
    sheet="K7",
    says="So does the variance of gradients, on the way back.",
    where="section 2.2, equation 14",
    holds=all_of(
        between(propagation["he_gradient_slope"], -0.1, 0.1),
        between(propagation["prelu_gradient_slope"], -0.1, 0.1),
        between(propagation["xavier_gradient_slope"], -1.1, -0.9),
    ),
    because="as for signals",
    fidelity={"quick": REDUCED, "small": REDUCED},
    differences=MEASURED,
)
paper.claim(
    "deviations-by-width",
    sheet="K7",
    says="Convolutions of 3×3 with 64, 128, 256 and 512 channels want deviations of .059, .042, .029 and .021.",
    where="section 2.2",
    reported={
        theory[f"std_{c}"]: Reported(value, "computed", 0.0005, "printed to three places")
        for c, value in ((64, 0.059), (128, 0.042), (256, 0.029), (512, 0.021))
    },
    holds=all_of(
        *(
            between(theory[f"std_{c}"], value - 0.0005, value + 0.0005)
            for c, value in ((64, 0.059), (128, 0.042), (256, 0.029), (512, 0.021))
        )
    ),
    because="each must round to the printed figure",
    fidelity=ALWAYS_EXACT,
)
paper.claim(
    "a-constant-deviation-starves-vgg-b",
    sheet="K7",
    says="With a constant deviation of .01 the gradient shrinks to 1 / 17,000 from the tenth convolution of VGG's "
    "network B to the second.",
    where="section 2.2",
    reported={theory["vgg_b_shrinks_by"]: Reported(1.7e4, "computed", 500, "printed to two digits")},
    holds=between(theory["vgg_b_shrinks_by"], 1.65e4, 1.75e4),
    because="the product must round to the printed figure",
    fidelity=ALWAYS_EXACT,
)

DEEP_DIFFERS = (
    "MNIST for ImageNet; {convolutions} convolutions of 32 channels on maps of 7 × 7 and 3 fully connected layers of "
    "128; {steps} steps of 64 images, no dropout; errors of 2,000 test images"
)
paper.claim(
    "twenty-two-layers-converge-from-both",
    sheet="K8",
    says="A network of 22 layers converges from He's weights and from Xavier's.",
    where="section 2.2, figure 2",
    holds=all_of(twenty_two["he_22_loss"] < GUESSING / 2, twenty_two["xavier_22_loss"] < GUESSING / 2),
    because="half of what guessing costs: no network that stands still has that",
    fidelity=ON_STAND_IN,
    differences=DEEP_DIFFERS.format(convolutions=19, steps=450) + "; a network that has not begun may begin later",
)
paper.claim(
    "he-starts-earlier-at-22-layers",
    sheet="K8",
    says="With 22 layers He's weights reduce the loss earlier than Xavier's.",
    where="section 2.2, figure 2",
    holds=twenty_two["xavier_22_steps"] - twenty_two["he_22_steps"] > 0,
    because="steps until the loss is below 1.5, paired by seed; one that never gets there counts all steps",
    fidelity=ON_STAND_IN,
    differences=DEEP_DIFFERS.format(convolutions=19, steps=450),
)
paper.claim(
    "neither-start-wins-at-14-layers",
    sheet="K8",
    says="With 14 layers the start makes no clear difference in the error.",
    where="section 2.2",
    reported={
        deep["xavier_14_error"]: Reported(0.3390, "high"),
        deep["he_14_error"]: Reported(0.3382, "seen"),
        "top-5, Xavier": Reported(0.1344, "high"),
        "top-5, He": Reported(0.1334, "seen"),
    },
    holds=equivalent(
        deep["xavier_14_error"],
        deep["he_14_error"],
        margin=0.01,
        because="a point is about what PReLU gains, and the paper calls that much; its starts differ by 0.08 points",
    ),
    because="the whole interval within the margin",
    fidelity=ON_STAND_IN,
    differences=DEEP_DIFFERS.format(convolutions=11, steps=500) + ", long before either has settled",
)
DEEP_AT = {
    "quick": "digits of 8 × 8 pixels; one convolution and 29 fully connected layers of 64 units",
    "small": DEEP_DIFFERS.format(convolutions=27, steps=500),
}
paper.claim(
    "thirty-layers-need-he",
    sheet="K9",
    says="A network of 30 layers converges from He's weights, and stands still from Xavier's.",
    where="section 2.2, figure 3",
    holds=all_of(deep["he_30_loss"] < GUESSING / 2, deep["xavier_30_loss"] > 0.95 * GUESSING),
    because="half of what guessing costs is convergence under way; within a twentieth of it nothing was learned",
    fidelity=ON_STAND_IN,
    differences=DEEP_AT["small"],
)
paper.claim(
    "the-stall-is-a-vanished-gradient",
    sheet="K9",
    says="Before the first step, the gradient that reaches the first layer is of the size of the last one's with He's "
    "weights, and gone with Xavier's.",
    where="section 2.2",
    holds=all_of(deep["he_30_gradient_ratio"] > -2, deep["xavier_30_gradient_ratio"] < -3),
    because="log10 of the ratio: theory says 0 and -4.4; borders and chance take a factor of some units from either",
    fidelity={"quick": STAND_IN, "small": STAND_IN},
    differences=DEEP_AT,
)
paper.claim(
    "thirty-layers-are-worse-than-fourteen",
    sheet="K10",
    says="From He's weights the network of 30 layers has a higher training loss than the one of 14 after as many "
    "steps: depth alone does not help.",
    where="section 2.2",
    reported={
        deep["he_30_error"]: Reported(0.3856, "seen"),
        deep["he_14_error"]: Reported(0.3382, "seen"),
        "top-5, 30 layers": Reported(0.1659, "seen"),
        "top-5, 14 layers": Reported(0.1334, "seen"),
    },
    holds=deep["he_30_loss"] - deep["he_14_loss"] > 0,
    because="the paper finds the training error higher too; the sign, paired by seed",
    fidelity=ON_STAND_IN,
    differences=DEEP_DIFFERS.format(convolutions="27 and 11", steps=500) + ", not to convergence",
)
paper.claim(
    "fan-in-changes-gradients-by-the-ends-only",
    sheet="K11",
    says="With the condition on signals (fan-in), gradients change over all layers by the ratio of the widths at the "
    "ends, whatever lies between; with that on gradients (fan-out) they do not change.",
    where="section 2.2, after equation 14",
    holds=all_of(
        between(theory["fan_in_gradient_ratio"] / theory["ratio_of_widths"], 1 - 1e-9, 1 + 1e-9),
        between(theory["fan_out_gradient_slope"], -1e-9, 1e-9),
    ),
    because="the product telescopes; rounding alone may differ",
    fidelity=ALWAYS_EXACT,
)
paper.claim(
    "either-form-suffices",
    sheet="K11",
    says="Networks trained from either form end with about the same error.",
    where="section 2.2",
    holds=equivalent(
        fans["fan_in_error"],
        fans["fan_out_error"],
        margin=0.02,
        because="two points are less than half of what 16 more layers cost in the paper (4.7), and no one would choose "
        "a form for less; the paper gives no figure",
    ),
    because="the whole interval within the margin",
    fidelity=ON_STAND_IN,
    differences="MNIST for ImageNet; 11 convolutions of 16 to 64 channels on maps of 7 × 7 and 3 fully connected "
    "layers; 300 steps of 64 images",
)
paper.claim(
    "decay-pulls-slopes-to-0",
    sheet="K12",
    says="Weight decay on the slopes makes them smaller, towards ReLU.",
    where="section 2.1",
    holds=rectifiers["wise_size"] - rectifiers["decayed_size"] > 0,
    because="the mean size of slopes, paired by seed",
    fidelity=ON_STAND_IN,
    differences=RECTIFIERS_DIFFER + "; decay of .5 on slopes for 5e-4, since there are 3,000 times fewer steps",
)
paper.claim(
    "errors-by-class",
    sheet="K13",
    says="113 of 1,000 classes have no top-5 error; the worst are letter opener (49 %), spotlight (38 %) and "
    "restaurant (36 %), and PReLU improves most classes.",
    where="section 4",
    reported={
        "classes without error": Reported(113, "seen"),
        "letter opener": Reported(0.49, "seen"),
        "spotlight": Reported(0.38, "seen"),
        "restaurant": Reported(0.36, "seen"),
    },
    not_tested=NEEDS_IMAGENET,
)


# Figures -------------------------------------------------------------------------------------------------------------


@paper.figure(
    propagation,
    title="How signals and gradients travel through thirty layers",
    caption="Deviations before each rectifier and of the gradient there, in random networks, mean over seeds with 95 % "
    "band (thin). Dashed: theory.",
)
def signal_through_layers(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, INK, figure, mean_band

    stored = results[propagation]
    fig, panels = figure(6.6, 3.2, columns=2, sharey=True)
    setup = stored.setup
    lines: dict[str, tuple[str, str, dict[str, Any]]] = {
        "he": ("He", COLOURS.blue, {"initialisation": "he"}),
        "prelu": ("He, PReLU", COLOURS.green, {"initialisation": "he", "activation": "prelu"}),
        "xavier": ("Xavier", COLOURS.orange, {"initialisation": "xavier"}),
        "constant": ("σ = .01", COLOURS.purple, {"initialisation": "constant"}),
    }
    for axes, what, theory_of in zip(panels, ("std", "gradient"), ("activation_std", "gradient_std"), strict=True):
        for name, (label, colour, scheme) in lines.items():
            curve = f"{name}_{what}"
            layers = stored.x(curve)
            mean_band(axes, layers, stored[curve], label=label if what == "std" else "", colour=colour)
            predicted = will_it_train(
                int(setup["layers"]), width=int(setup["channels"]), kernel=int(setup["kernel"]), **scheme
            )
            axes.plot(layers, np.log10(getattr(predicted, theory_of)), color=INK, linewidth=0.9, linestyle="--")
        axes.set(xlabel="layer")
    panels[0].set(ylabel="log10 of the deviation", title="signals")
    panels[1].set(title="gradients")
    panels[0].legend(loc="lower left")
    return fig


def training_panel(axes: Any, stored: Any, depth: int) -> None:
    from claimwise.lab.figures import COLOURS, MUTED, mean_band

    for scheme, label, colour in (("he", "He", COLOURS.blue), ("xavier", "Xavier", COLOURS.orange)):
        curve = f"{scheme}_{depth}_curve"
        mean_band(axes, stored.x(curve), stored[curve], label=label, colour=colour)
    axes.axhline(GUESSING, color=MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel="step", title=f"{depth} layers", ylim=(0, 1.2 * GUESSING))


@paper.figure(
    deep,
    twenty_two,
    title="Training from He's and from Xavier's weights",
    caption="Training loss of every seed, mean and 95 % band. The dashed line is guessing.",
)
def training_curves(results: Results) -> Any:
    from claimwise.lab.figures import figure

    fig, panels = figure(6.6, 3.0, columns=2, sharey=True)
    training_panel(panels[0], results[twenty_two], 22)
    training_panel(panels[1], results[deep], 30)
    panels[0].set(ylabel="training loss (nats)")
    panels[0].legend(loc="lower left")
    return fig


@paper.figure(
    rectifiers,
    title="Learned slopes by depth",
    caption="Mean slope of each layer after training, every seed, mean and 95 % band. All start at .25 (dashed).",
)
def slopes_by_depth(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, MUTED, figure, mean_band

    stored = results[rectifiers]
    fig, axes = figure(4.4, 3.1)
    for name, label, colour in (
        ("wise", "a slope a channel", COLOURS.blue),
        ("shared", "a slope a layer", COLOURS.orange),
        ("decayed", "a channel, with decay", COLOURS.grey),
    ):
        curve = f"{name}_slopes"
        mean_band(axes, stored.x(curve), stored[curve], label=label, colour=colour, marker="o")
    axes.axhline(0.25, color=MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel="layer", ylabel="mean slope a")
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    return fig


@paper.figure(
    rectifiers,
    title="Training curves by rectifier",
    caption="Training loss on Fashion-MNIST, mean over seeds and 95 % band.",
)
def rectifier_curves(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[rectifiers]
    fig, axes = figure(4.4, 3.1)
    for name, label, colour in (
        ("relu", "ReLU", COLOURS.grey),
        ("leaky", "leaky, a = .25", COLOURS.amber),
        ("shared", "PReLU, a layer", COLOURS.orange),
        ("wise", "PReLU, a channel", COLOURS.blue),
    ):
        curve = f"{name}_curve"
        mean_band(axes, stored.x(curve), stored[curve], label=label, colour=colour)
    axes.set(xlabel="step", ylabel="training loss (nats)")
    axes.legend(loc="upper right")
    return fig
