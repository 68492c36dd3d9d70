r"""Convolution, scale space, receptive fields, the neocognitron and pooling: notes without a single paper behind them.

## What

Five old ideas that convolutional networks stand on. A **convolution** slides one small pattern over an image and
answers where the image resembles it; it needs few weights, because the pattern is the same everywhere. Blurring with
**Gaussians** of growing width gives an image at every scale, and of all kernels only the Gaussian does so without
inventing detail. A unit's **receptive field** is the part of the image it can see; stacked layers see more. The
**neocognitron** (Fukushima 1980) put shared feature extraction and tolerance of position in turn, and learned without
a teacher, before there was backpropagation for such networks. **Pooling** throws away where exactly a feature was.

## How

- Cross-correlation, which everyone calls convolution: y[o, i, j] = b_o + Σ_c Σ_uv W[o, c, u, v] x[c, i + u, j + v]. It
  has O (C k² + 1) parameters, whatever the size of the image. A fully connected layer between the same maps has
  (C H W + 1) O H' W', a locally connected one (a kernel of its own at each place) O H' W' (C k² + 1).
- By Cauchy and Schwarz, ⟨w, x_n⟩ / (‖w‖ ‖x_n‖) is 1 exactly where the window x_n is a multiple of the template w: the
  matched filter. Sobel's masks are templates of a step.
- Scale space: L(·, σ) = G_σ * I, G_σ(x, y) = exp(−(x² + y²) / 2σ²) / 2πσ². G_σ1 * G_σ2 = G_√(σ1² + σ2²), and with
  t = σ² ∂L/∂t = ½ ∇²L. On a grid the same holds exactly for Lindeberg's T(n, t) = e⁻ᵗ I_n(t).
- Receptive fields: r_l = r_(l−1) + (k_l − 1) Π_(i<l) s_i.
- S-cells: excitation by what was learned, divided by an inhibition that measures all there is in the window, so that a
  cell answers to a pattern and not to brightness. C-cells: any S-cell of the plane within a window. In learning the
  strongest cell of a neighbourhood wins and takes its plane along.

## Why

Natural images are made of like parts at many places and scales. Sharing weights builds in the first, scale space the
second, and receptive fields that grow from layer to layer make wholes of parts. Each of the claims below either is a
theorem, and is checked by counting exceptions, or says that building in such knowledge helps to learn from few
examples, and is checked by training networks that lack it.

## Where the notes or the paper mislead

- **"I(x, y): scaling so that the weights sum to 1" takes the image for the normaliser.** In L = G * I, I is the image;
  what makes the weights sum to 1 is 1/2πσ², and after sampling and cutting off the sum of the weights itself.
- **"The Gaussian is the only linear kernel" needs its axioms**: linearity, shift invariance, the semigroup, isotropy,
  *and* that no new extrema appear (causality). Without the last, every kernel with transform exp(−t |ω|^α) is a
  semigroup: Cauchy's for α = 1, biharmonic diffusion for α = 4. The experiment `alphas` walks through that family. In
  two dimensions "no new extrema" is false even for the Gaussian; Koenderink's causality (no new level curves) takes
  its place.
- A Gaussian **cut off at 2σ** is no semigroup to any useful accuracy; 4σ is good to four digits, 6σ to more than six.
  The sampled one also fails at small σ; Lindeberg's does not.
- A plain convolution is *not* a matched filter: without dividing by the window's norm, bright windows win
  (`brightness-beats-likeness`).
- That a convolution has few parameters is arithmetic. That this *helps* is another claim, tested by networks of equal
  numbers of parameters.
- "Max pooling keeps the useful part" is about classes, not places: a network that must say *where* has lost it.
- The neocognitron's cells are not sigmoid units: the inhibition divides, and the learned feature is bounded by it.
- The notes give no figures, so none is compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

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
    Matrix,
    Measurements,
    NotTested,
    Paper,
    Plan,
    Proportion,
    Results,
    Run,
    all_of,
    equal,
    ordered,
)
from claimwise.layers import (
    LocallyConnected2d,
    Neocognitron,
    Pool,
    Pooling,
    Stage,
    discrete_gaussian_kernel,
    gaussian_kernel,
    local_extrema,
    matched_filter,
    scale_space,
    separable_convolution,
    shift_consistency,
    shifted,
    sobel,
    sobel_kernels,
)
from claimwise.papers.shared.images import images_of
from claimwise.vision import receptive_field

paper = Paper("convolution")

IDENTITY = {"quick": EXACT, "small": EXACT}
ALL = {"quick": STAND_IN, "small": REDUCED}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trained(run: Run, model: nn.Module, x: Tensor, y: Tensor, setup: "Trained", name: str) -> nn.Module:
    """By Adam, whose step size falls to nothing along a half cosine."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=setup.learning_rate)
    steps = setup.epochs * -(-len(x) // setup.batch_size)

    def cosine(optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.param_groups[0]["lr"] = setup.learning_rate * (1 + np.cos(np.pi * step / steps)) / 2

    run.fit(
        model.to(run.device),
        lambda model, x, y: F.cross_entropy(model(x), y),
        (x, y),
        optimizer=optimizer,
        epochs=setup.epochs,
        batch_size=setup.batch_size,
        schedule=cosine,
        name=name,
    )
    return model


@torch.no_grad()
def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Proportion:
    said = torch.cat([model(x[start : start + 1000]).argmax(1) for start in range(0, len(x), 1000)])
    return Proportion(int((said != y).sum()), len(y))


@dataclass(frozen=True)
class Trained:
    """Data, and how each network is trained on it."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`."""
    examples: int = 5000
    """Training examples, from the first; 0 for all."""
    tested: int = 0
    """Test examples, from the first; 0 for all."""
    epochs: int = 8
    """Passes over the training examples."""
    batch_size: int = 100
    """Examples a step."""
    learning_rate: float = 0.003
    """Adam's step size at the start."""
    channels: int = 8
    """Channels of the first convolution; the second, where there is one, has twice as many."""


# matched filter and edges ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Templates:
    """Random images with a random template embedded, and images of one step."""

    images: int = 500
    """How many."""
    side: int = 16
    """Of an image, in pixels."""
    window: int = 5
    """Side of a template, in pixels."""


@paper.experiment(quick=Plan(Templates(), seeds=1), small=Plan(Templates(20_000), seeds=1))
def templates(run: Run, setup: Templates) -> Measurements:
    """Where responses are largest."""
    generator = run.generator("images")
    count, side, window = setup.images, setup.side, setup.window
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    places = torch.randint(0, side - window + 1, (count, 2), generator=generator)
    missed = misled = uneven = 0
    for i, j in places.tolist():
        image, template = draw(1, 1, side, side).abs(), draw(1, window, window).abs()
        image[0, :, i : i + window, j : j + window] = 0.5 * template  # fainter than what is around
        target = i * (side - window + 1) + j
        missed += int(matched_filter(image, template).argmax()) != target
        plain = F.conv2d(image, template[None])
        misled += int(plain.argmax()) != target
        uneven += not torch.equal(plain.roll(1, -1)[..., 1:], F.conv2d(image.roll(1, -1), template[None])[..., 1:])
    # a step of random height between two random columns, upright or level
    height = draw(count).abs() + 0.1
    column = torch.randint(2, side - 2, (count,), generator=generator)
    steps = height[:, None, None] * (torch.arange(side) >= column[:, None])[:, None].double().expand(-1, side, -1)
    level = torch.rand(count, generator=generator) < 0.5
    steps = torch.where(level[:, None, None], steps.mT, steps) + draw(count, 1, 1)
    strength = sobel(steps).magnitude
    strength = torch.where(level[:, None, None], strength.mT, strength)[:, side // 2]  # (images, side), across the step
    beside = (torch.arange(side) == column[:, None]) | (torch.arange(side) == column[:, None] - 1)
    at = torch.where(beside, strength, torch.inf).amin(1)
    away = torch.where(beside, 0.0, strength).amax(1)
    return {
        "images": Exact(count),
        "matched_elsewhere": Exact(missed),
        "plain_elsewhere": Exact(misled),
        "shift_violations": Exact(uneven),
        "edges_elsewhere": Exact(int(((at - 4 * height).abs() > 1e-9).logical_or(away > 1e-9).sum())),
    }


paper.claim(
    "matched-filter-finds-its-template",
    sheet="24.1",
    says="The normalised response of a convolution is largest where its template is embedded.",
    where="notes, convolution",
    holds=equal(templates["matched_elsewhere"], 0),
    because="Cauchy and Schwarz allow no exception; random windows are proportional to the template with probability 0",
    fidelity=IDENTITY,
)
paper.claim(
    "brightness-beats-likeness",
    sheet="24.1",
    says="Without dividing by the norm of the window, a brighter window that is less alike may answer more.",
    where="notes, convolution (their inner product, taken literally)",
    holds=templates["plain_elsewhere"] > 0,
    because="one image where the plain response is largest elsewhere shows it",
    fidelity=IDENTITY,
)
paper.claim(
    "convolution-moves-with-its-input",
    sheet="24.1",
    says="Convolution keeps local structure: when the image moves, the response moves with it and is the same.",
    where="notes, convolution",
    holds=equal(templates["shift_violations"], 0),
    because="shift equivariance has no exceptions away from the border; equal to the bit",
    fidelity=IDENTITY,
)
paper.claim(
    "sobel-answers-at-steps",
    sheet="24.1",
    says="Sobel's magnitude is four times a step's height on both sides of it, and nothing elsewhere.",
    where="notes, edge detection",
    holds=equal(templates["edges_elsewhere"], 0),
    because="arithmetic of the two masks, so no exception beyond rounding (1e-9)",
    fidelity=IDENTITY,
    differences="upright and level steps, between two constants",
)

# learned against fixed kernels ----------------------------------------------------------------------------------------


def fixed_kernels(kind: str, generator: torch.Generator) -> Tensor:
    """Sixteen first-layer kernels (16, 3, 5, 5): eight patterns, each on brightness and on red against blue."""
    turns = torch.arange(8) * torch.pi / 4
    if kind == "random":
        drawn = torch.randn(16, 3, 5, 5, generator=generator)
        return drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]
    if kind == "sobel":
        across, down = F.pad(sobel_kernels(), [1] * 4)
        patterns = turns.cos()[:, None, None] * across + turns.sin()[:, None, None] * down
    else:  # four orientations, even and odd
        place = torch.arange(-2.0, 3.0)
        y, x = torch.meshgrid(place, place, indexing="ij")
        patterns = torch.stack(
            [
                wave(torch.pi / 2 * (turn.cos() * x + turn.sin() * y)) * torch.exp(-(x**2 + y**2) / 4)
                for turn in turns[:4]
                for wave in (torch.cos, torch.sin)
            ]
        )
        patterns = patterns - patterns.mean((1, 2), keepdim=True)
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0]])
    kernels = torch.einsum("kc,pij->kpcij", colours, patterns).flatten(0, 1)
    return kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None]


FIRST = ("learned", "sobel", "gabor", "random")


@paper.experiment(small=Plan(Trained("cifar10", 10_000, 5_000, epochs=8, learning_rate=0.002, channels=16), seeds=5))
def kernels(run: Run, setup: Trained) -> Measurements:
    """A small network on colour images whose first layer is learned, or frozen at kernels made by hand or by chance."""
    x, y, x_test, y_test = images_of(run, setup.dataset, setup.examples, setup.tested)
    measured: dict[str, Any] = {}
    for kind in FIRST:
        model = nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 2 * setup.channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * setup.channels * (x.shape[-1] // 4) ** 2, 10),
        )
        first = cast(nn.Conv2d, model[0])
        with torch.no_grad():  # the learned one starts as the random one stays
            first.weight.copy_(fixed_kernels("random" if kind == "learned" else kind, run.generator("kernels")))
            assert first.bias is not None
            first.bias.zero_()
        first.weight.requires_grad_(kind == "learned")  # the bias learns in all
        trained(run, model, x, y, setup, kind)
        measured[f"{kind}_error"] = wrong(model, x_test, y_test)
        if run.seed == 0:
            measured[f"{kind}_kernels"] = Matrix(first.weight.detach().cpu().flatten(1), names(16), names(75))
    return measured


def names(count: int) -> list[str]:
    return [str(k) for k in range(count)]


for kind, what in (("sobel", "Sobel's masks"), ("gabor", "Gabor functions"), ("random", "random numbers")):
    paper.claim(
        f"learned-beats-{kind}",
        sheet="24.2",
        says=f"A first layer that is learned gives fewer errors than one frozen at {what}.",
        where="notes, kernels",
        holds=kernels[f"{kind}_error"] - kernels["learned_error"] > 0,
        because="the notes say better; the sign of the difference in test error, paired by seed",
        fidelity={"small": REDUCED},
        differences={
            "small": "10,000 images of CIFAR-10, 8 passes, two convolutions; the notes name neither data nor "
            "network. Sixteen kernels of 5 x 5 in each; biases and all later layers are learned in all. After 8 passes "
            "the learned kernels still look like the random ones that they started from",
        },
    )

# parameters and sharing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Layers whose parameters are counted."""

    layers: int = 25
    """Random layers."""


@paper.experiment(quick=Plan(Sizes(), seeds=1), small=Plan(Sizes(2_000), seeds=1))
def counts(run: Run, setup: Sizes) -> Measurements:
    """Formulas against the layers themselves."""
    rng = run.rng("sizes")
    off = resized = 0
    fewest = np.inf
    for _ in range(setup.layers):
        inputs, outputs, kernel = (int(rng.integers(1, high)) for high in (9, 9, 6))
        sides = [int(s) for s in rng.integers(8, 17, 2)]
        maps = [s - kernel + 1 for s in sides]
        with torch.device("meta"):
            shared = parameters(nn.Conv2d(inputs, outputs, kernel))
            unshared = parameters(LocallyConnected2d(inputs, outputs, (sides[0], sides[1]), kernel))
            full = parameters(nn.Linear(inputs * sides[0] * sides[1], outputs * maps[0] * maps[1]))
            moved = nn.Conv2d(inputs, outputs, kernel)
            moved(torch.empty(1, inputs, *sides))
            moved(torch.empty(1, inputs, *[s + 5 for s in sides]))  # the same weights take a larger image
        places = maps[0] * maps[1]
        off += (shared, unshared, full) != (
            outputs * (inputs * kernel**2 + 1),
            outputs * places * (inputs * kernel**2 + 1),
            (inputs * sides[0] * sides[1] + 1) * outputs * places,
        )
        resized += parameters(moved) != shared
        fewest = min(fewest, full / shared)
    example = nn.Conv2d(1, 16, 5)
    with torch.device("meta"):
        dense = nn.Linear(28 * 28, 16 * 24 * 24)
    return {
        "formulas_off": Exact(off),
        "changed_by_the_image": Exact(resized),
        "least_ratio": Exact(float(fewest)),
        "mnist_convolution": Exact(parameters(example)),
        "mnist_ratio": Exact(parameters(dense) / parameters(example)),
    }


paper.claim(
    "parameters-are-counted-right",
    sheet="24.3",
    says="A convolution has O (C k² + 1) parameters, a locally connected layer H' W' times as many, a fully connected "
    "one between the same maps (C H W + 1) O H' W'.",
    where="notes, convolution",
    holds=equal(counts["formulas_off"], 0),
    because="a formula for a count holds for every layer or is wrong",
    fidelity=IDENTITY,
)
paper.claim(
    "parameters-do-not-depend-on-the-image",
    sheet="24.3",
    says="A convolution's parameters depend on kernel and channels only: the same weights take a larger image.",
    where="notes, convolution",
    holds=equal(counts["changed_by_the_image"], 0),
    because="a count, for every layer",
    fidelity=IDENTITY,
)
paper.claim(
    "convolutions-have-far-fewer-parameters",
    sheet="24.3",
    says="A convolution has far fewer parameters than the fully connected layer between the same maps.",
    where="notes, convolution",
    holds=counts["mnist_ratio"] > 1000,
    because="for 16 kernels of 5 x 5 on an image of MNIST's size; far fewer: by more than three orders of magnitude",
    fidelity=IDENTITY,
    differences="the ratio grows with the fourth power of the image's side; over random small layers its least value "
    "is stored as `least_ratio`",
)


def networks(side: int, channels: int, hidden: int) -> dict[str, nn.Module]:
    """One hidden layer each: convolutional, locally connected, fully connected twice, the second far wider."""
    kernel, reach = (3, 3) if side < 16 else (5, 4)  # reach: what is pooled to one

    def head(maps: int, outputs: int) -> list[nn.Module]:
        pooled = (side - kernel + 1) // reach
        return [nn.ReLU(), nn.MaxPool2d(reach), nn.Flatten(), nn.Linear(maps * pooled**2, outputs)]

    shared = nn.Sequential(nn.Conv2d(1, channels, kernel), *head(channels, 10))
    budget = parameters(shared)

    def unshared(maps: int) -> nn.Module:
        return nn.Sequential(LocallyConnected2d(1, maps, (side, side), kernel), *head(maps, 10))

    def full(units: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(side**2, units), nn.ReLU(), nn.Linear(units, 10))

    return {
        "shared": shared,
        "unshared": unshared(max(1, round(budget / parameters(unshared(1))))),
        "unshared_wide": unshared(channels),
        "full": full(max(1, round(budget / (side**2 + 11)))),
        "full_wide": full(hidden),
    }


SHARING = ("shared", "unshared", "unshared_wide", "full", "full_wide")


@dataclass(frozen=True)
class Sharing:
    """Networks of one hidden layer with and without weight sharing."""

    training: Trained = Trained(epochs=10, channels=32)
    """Data and training; `channels` are those of the convolution, which sets the number of parameters."""
    hidden: int = 256
    """Units of the wide fully connected network."""


@paper.experiment(
    quick=Plan(Sharing(Trained("digits", 720, epochs=5, batch_size=144, learning_rate=0.01, channels=16), 64), seeds=5),
    small=Plan(Sharing(), seeds=5),
)
def sharing(run: Run, setup: Sharing) -> Measurements:
    """Errors of each, and their numbers of parameters."""
    how = setup.training
    x, y, x_test, y_test = images_of(run, how.dataset, how.examples, how.tested)
    measured: dict[str, Any] = {}
    for name, model in networks(x.shape[-1], how.channels, setup.hidden).items():
        trained(run, model, x, y, how, name)
        measured[f"{name}_error"] = wrong(model, x_test, y_test)
        measured[f"{name}_parameters"] = Exact(parameters(model))
    return measured


ONE_LAYER = {
    "quick": "digits of 8 x 8 pixels for MNIST; one hidden layer, kernels of 3 x 3, max pooling",
    "small": "one hidden layer, kernels of 5 x 5, max pooling of 4 x 4, 5,000 labels, 10 passes; the notes give no "
    "network",
}
paper.claim(
    "sharing-beats-full-connection-at-equal-parameters",
    sheet="24.3",
    says="With as many parameters, the convolutional network errs less than the fully connected one.",
    where="notes, convolution",
    holds=sharing["full_error"] - sharing["shared_error"] > 0,
    because="few parameters are an advantage if they do as much; the sign of the difference, paired by seed",
    fidelity=ALL,
    differences=ONE_LAYER,
)
paper.claim(
    "sharing-beats-local-connection-at-equal-parameters",
    sheet="24.3",
    says="With as many parameters, it errs less than a locally connected one, so that sharing helps beyond locality.",
    where="notes, convolution",
    holds=sharing["unshared_error"] - sharing["shared_error"] > 0,
    because="the locally connected network has the same receptive fields; the sign of the difference, paired by seed",
    fidelity=ALL,
    differences=ONE_LAYER,
)
paper.claim(
    "far-more-parameters-are-no-better",
    sheet="24.3",
    says="Fully connected and locally connected networks with far more parameters do no better than the convolution.",
    where="notes, convolution",
    holds=all_of(
        sharing["shared_error"] - sharing["full_wide_error"] < 0.01,
        sharing["shared_error"] - sharing["unshared_wide_error"] < 0.01,
        sharing["full_wide_parameters"] - 2 * sharing["shared_parameters"] > 0,
        sharing["unshared_wide_parameters"] - 2 * sharing["shared_parameters"] > 0,
    ),
    because="no better: worse by no more than one error in a hundred, the least that matters here; far more: at least "
    "twice as many",
    fidelity=ALL,
    differences=ONE_LAYER,
)

# scale space: which kernels -------------------------------------------------------------------------------------------


def sampled(kind: str, sigma: float, truncate: float = 6.0) -> Tensor:
    """A kernel of standard deviation sigma, sampled, with weights that sum to 1 (the Laplacian's to 0)."""
    if kind == "gaussian":
        return gaussian_kernel(sigma, truncate=truncate, dtype=torch.float64)
    if kind == "discrete":
        return discrete_gaussian_kernel(sigma**2, tail=1e-14, dtype=torch.float64)
    place = torch.arange(-round(20 * sigma), round(20 * sigma) + 1, dtype=torch.float64) / sigma
    weights = {
        "box": (place.abs() <= 3**0.5).double(),
        "triangle": (1 - place.abs() / 6**0.5).relu(),
        "exponential": (-(2**0.5) * place.abs()).exp(),
        "laplacian": (place.square() - 1) * (-place.square() / 2).exp(),
    }[kind]
    return weights - weights.mean() if kind == "laplacian" else weights / weights.sum()


def semigroup_gap(kind: str, first: float, second: float, truncate: float = 6.0) -> float:
    """How far two blurs are from the one of the root of the sum of squares, relative to its largest weight."""
    a, b, both = (sampled(kind, s, truncate).numpy() for s in (first, second, (first**2 + second**2) ** 0.5))
    twice = np.convolve(a, b)
    length = max(len(twice), len(both))
    twice, both = (np.pad(k, (length - len(k)) // 2) for k in (twice, both))
    if kind == "laplacian":  # without a sum to scale it by: its largest weight
        twice, both = (k / np.abs(k).max() for k in (twice, both))
    return float(np.abs(twice - both).max() / np.abs(both).max())


@dataclass(frozen=True)
class Pairs:
    """Pairs of scales at which kernels are composed."""

    pairs: int = 20
    """Random pairs."""
    widest: float = 8.0
    """Largest standard deviation, in samples; the smallest is 1."""


OTHERS = ("box", "triangle", "exponential", "laplacian")


@paper.experiment(quick=Plan(Pairs(), seeds=1), small=Plan(Pairs(1_000, 30.0), seeds=1))
def semigroup(run: Run, setup: Pairs) -> Measurements:
    """The largest gap over pairs for Gaussians, the smallest for the others (at scales that sample them well)."""
    rng = run.rng("scales")
    pairs = rng.uniform(1.0, setup.widest, (setup.pairs, 2)).tolist()
    largest = {kind: max(semigroup_gap(kind, *pair) for pair in pairs) for kind in ("gaussian", "discrete")}
    cut = {
        at: [semigroup_gap("gaussian", *pair, truncate=at) for pair in rng.uniform(2.0, 8.0, (20, 2)).tolist()]
        for at in (2.0, 4.0, 6.0)
    }
    # alike scales are the hardest to tell from a semigroup: equal ones too
    ratios = (1.0, 4 / 3, 2.0)
    smallest = {kind: min(semigroup_gap(kind, 15.0, 15.0 * ratio) for ratio in ratios) for kind in OTHERS}
    return {
        "gaussian_gap": Exact(largest["gaussian"]),
        "discrete_gap": Exact(largest["discrete"]),
        "gap_cut_at_2": Exact(min(cut[2.0])),
        "gap_cut_at_4": Exact(max(cut[4.0])),
        "gap_cut_at_6": Exact(max(cut[6.0])),
        **{f"{kind}_gap": Exact(gap) for kind, gap in smallest.items()},
    }


paper.claim(
    "gaussians-add-up",
    sheet="24.4",
    says="Blurring by σ1 and then σ2 is blurring once by the root of the sum of their squares, for the Gaussian.",
    where="notes, scale space",
    holds=all_of(semigroup["gaussian_gap"] < 1e-6, semigroup["discrete_gap"] < 1e-11),
    because="one part in a million for the sampled kernel (σ at least 1, cut off at 6σ), rounding and a tail of 1e-14 "
    "for Lindeberg's",
    fidelity=IDENTITY,
)
paper.claim(
    "other-kernels-do-not",
    sheet="24.4",
    says="Box, triangle, two-sided exponential and Laplacian of a Gaussian are no semigroups in the variance.",
    where="notes, scale space",
    holds=all_of(*(semigroup[f"{kind}_gap"] > 0.01 for kind in OTHERS)),
    because="one part in a hundred is ten thousand times what the Gaussian is allowed, and far above the error of "
    "sampling at 15 samples a σ",
    fidelity=IDENTITY,
    differences="the Laplacian, whose weights sum to 0, is compared by shape",
)
paper.claim(
    "cutting-off-breaks-it",
    sheet="24.4",
    says="Cut off at 2σ, the Gaussian is no semigroup; at 4σ it is one to a thousandth, at 6σ to a millionth.",
    where="notes, scale space (which cut off without a word)",
    holds=all_of(semigroup["gap_cut_at_2"] > 1e-3, semigroup["gap_cut_at_4"] < 1e-3, semigroup["gap_cut_at_6"] < 1e-6),
    because="the mass cut off is .05, 6e-5 and 2e-9 of the whole",
    fidelity=IDENTITY,
)

# scale space: extrema -------------------------------------------------------------------------------------------------


def signals(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Signals on a ring: noise, random walks, and steps at a few places; a third each, (count, length)."""
    noise = torch.randn(count, length, generator=generator, dtype=torch.float64)
    walk = noise.cumsum(1) - torch.arange(1, length + 1) / length * noise.sum(1, keepdim=True)
    rare = torch.rand(count, length, generator=generator, dtype=torch.float64) < 6 / length
    steps = torch.where(rare, noise, 0.0).cumsum(1)
    kind = torch.arange(count)[:, None] % 3
    return torch.where(kind == 0, noise, torch.where(kind == 1, walk, steps))


ROUNDING = 1e-10
"""Differences of neighbours that count as none: values are of the order of 1 to 10, and kernels lack 1e-12 of mass."""
extrema_of: Callable[[Tensor], Tensor] = partial(local_extrema, boundary="circular", tolerance=ROUNDING)


@dataclass(frozen=True)
class Signals:
    """Random signals on a ring, smoothed more and more."""

    signals: int = 600
    """How many."""
    length: int = 128
    """Samples in each."""


@paper.experiment(quick=Plan(Signals(), seeds=1), small=Plan(Signals(30_000), seeds=1))
def extrema(run: Run, setup: Signals) -> Measurements:
    """Local extrema by scale, under Lindeberg's Gaussian and under boxes of the same variances."""
    x = signals(setup.signals, setup.length, run.generator("signals"))
    widths = [3, 5, 7, 9, 13, 17, 25, 33]
    sigmas = [((w * w - 1) / 12) ** 0.5 for w in widths]
    start = extrema_of(x)
    measured: dict[str, Any] = {}
    for name in ("gaussian", "box"):
        if name == "gaussian":
            levels = scale_space(x, sigmas, dims=1, kernel="discrete", boundary="circular").unbind(-2)
        else:
            boxes = [torch.full((w,), 1 / w, dtype=torch.float64) for w in widths]
            levels = tuple(separable_convolution(x, box, boundary="circular") for box in boxes)
        found = torch.stack([start, *(extrema_of(level) for level in levels)], 1)  # (signals, scales)
        measured[f"{name}_increases"] = Exact(int((found.diff(dim=1) > 0).any(1).sum()))
        measured[f"{name}_extrema"] = Curve([0.0, *sigmas], found.double().mean(0))
    return measured


paper.claim(
    "gaussian-makes-no-extremum",
    sheet="24.4",
    says="The number of local extrema of a signal never grows with σ under the discrete Gaussian.",
    where="notes, scale space; Lindeberg 1990, theorem 4",
    holds=equal(extrema["gaussian_increases"], 0),
    because="a theorem has no exceptions: random signals of three kinds on a ring, each step from scale to scale",
    fidelity=IDENTITY,
    differences="one dimension, in which alone it is true",
)
paper.claim(
    "box-makes-extrema",
    sheet="24.4",
    says="Under a box, the moving average, it grows for some signals.",
    where="notes, scale space",
    holds=extrema["box_increases"] > 0,
    because="one signal with more extrema after more smoothing is a counterexample",
    fidelity=IDENTITY,
)


@paper.experiment(quick=Plan(Signals(300), seeds=1), small=Plan(Signals(15_000), seeds=1))
def alphas(run: Run, setup: Signals) -> Measurements:
    """Kernels with transform exp(−t/2 (2 − 2 cos ω)^(α/2)): all semigroups in t, on a ring, without sampling error."""
    x = signals(setup.signals, setup.length, run.generator("signals"))
    spectrum = torch.fft.rfft(x)
    omega = 2 * torch.pi * torch.arange(spectrum.shape[1], dtype=torch.float64) / setup.length
    times = [0.25, 1.0, 4.0, 16.0]

    def transfer(alpha: float, t: float) -> Tensor:
        return torch.exp(-t / 2 * (2 - 2 * omega.cos()).clamp(min=0) ** (alpha / 2))

    found, gap = {}, 0.0
    for alpha in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0):
        levels = [torch.fft.irfft(spectrum * transfer(alpha, t), n=setup.length) for t in times]
        counts = torch.stack([extrema_of(level) for level in (x, *levels)], 1)
        found[alpha] = int((counts.diff(dim=1) > 0).any(1).sum())
        again = torch.fft.irfft(torch.fft.rfft(levels[1]) * transfer(alpha, times[2] - times[1]), n=setup.length)
        gap = max(gap, float((again - levels[2]).abs().max()))
    return {
        "increases_at_2": Exact(found[2.0]),
        "fewest_increases_elsewhere": Exact(min(count for alpha, count in found.items() if alpha != 2)),
        "largest_gap": Exact(gap),
        "increases": Curve(list(found), [count / setup.signals for count in found.values()]),
    }


paper.claim(
    "semigroups-abound",
    sheet="24.4",
    says="The semigroup alone does not single out the Gaussian: exp(−t |ω|^α) is one for every α.",
    where="notes, scale space (which name linearity only)",
    holds=alphas["largest_gap"] < 1e-11,
    because="exponents add; what is left is rounding of transforms of 128 samples",
    fidelity=IDENTITY,
)
paper.claim(
    "only-the-gaussian-is-causal-among-them",
    sheet="24.4",
    says="Of these, only α = 2, the Gaussian, makes no new extremum.",
    where="notes, scale space; the missing axiom",
    holds=all_of(equal(alphas["increases_at_2"], 0), alphas["fewest_increases_elsewhere"] > 0),
    because="none at 2 and a counterexample at each other α of the seven",
    fidelity=IDENTITY,
    differences="seven α from .5 to 4, on a grid, where α = 2 is Lindeberg's T(n, t)",
)
paper.claim(
    "uniqueness",
    sheet="24.4",
    says="The Gaussian is the only kernel that is linear, shift-invariant, isotropic, a semigroup and causal.",
    where="notes, scale space; Koenderink 1984, Lindeberg 1990",
    not_tested=NotTested("not empirical", "a theorem about all kernels; the claims above check its parts and examples"),
)

# scale space: smoothness ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """Pictures at growing scales."""

    dataset: str = "cifar10"
    """A data set of `claimwise data list`."""
    pictures: int = 500
    """Test pictures, from the first."""
    shown: int = 5
    """Which one is drawn."""


@paper.experiment(quick=Plan(Pictures("digits", 100), seeds=1), small=Plan(Pictures(), seeds=1))
def smoothness(run: Run, setup: Pictures) -> Measurements:
    """Total variation and the energy of high frequencies by scale."""
    _, _, x, _ = images_of(run, setup.dataset, 1, setup.pictures)
    x = x.double()
    sigmas = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    levels = torch.stack([x, *scale_space(x, sigmas, kernel="discrete").unbind(-3)])  # (scales, pictures, c, h, w)
    variation = sum(levels.diff(dim=axis).abs().sum((2, 3, 4)) for axis in (-1, -2))  # (scales, pictures)
    # mirrored, a picture is periodic, and smoothing it a product in the Fourier domain
    mirrored = torch.cat([levels, levels.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    side = mirrored.shape[-1]
    high = torch.fft.fftfreq(side)[:, None].abs().maximum(torch.fft.rfftfreq(side).abs()) > 0.25  # upper half band
    energy = (torch.fft.rfft2(mirrored).abs().square() * high).sum((2, 3, 4))
    shown = levels[:, setup.shown % x.shape[0]].permute(0, 2, 3, 1)  # (scales, h, w, colours)
    return {
        "variation_increases": Exact(int((cast(Tensor, variation).diff(dim=0) > 1e-9).sum())),
        "energy_increases": Exact(int((energy.diff(dim=0) > 1e-9).sum())),
        "variation": Curve([0.0, *sigmas], (cast(Tensor, variation) / cast(Tensor, variation)[0]).mean(1)),
        "energy": Curve([0.0, *sigmas], (energy / energy[0]).mean(1)),
        "strip": Matrix(shown.flatten(1), [f"{s:g}" for s in (0.0, *sigmas)], names(shown[0].numel())),
    }


paper.claim(
    "wider-is-smoother",
    sheet="24.5",
    says="The larger σ, the smoother the picture: total variation and the energy of high frequencies only fall.",
    where="notes, scale space",
    holds=all_of(equal(smoothness["variation_increases"], 0), equal(smoothness["energy_increases"], 0)),
    because="both are theorems for the discrete Gaussian with mirrored borders: no picture and no step may be "
    "an exception",
    fidelity=IDENTITY,
    differences="total variation along rows and columns; high: above a quarter of the sampling rate in either "
    "direction",
)

# pooling --------------------------------------------------------------------------------------------------------------


POOLED = ("none", "stride", "average", "max", "global-average", "global-max")
KEYS = {kind: kind.replace("-", "_") for kind in POOLED}


def pooled_network(kind: str, side: int, channels: int) -> nn.Sequential:
    """Two convolutions, pooled twice; the global poolings take the place of the second pooling, after a max pooling."""

    def pool(last: bool) -> nn.Module:
        if kind == "none":
            return nn.Identity()
        if kind.startswith("global"):
            return Pool(cast(Pooling, kind)) if last else Pool("max", 2)
        return Pool(cast(Pooling, kind), 2)

    left = side if kind == "none" else 1 if kind.startswith("global") else side // 4
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        pool(last=False),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        pool(last=True),
        nn.Flatten(),
        nn.Linear(2 * channels * left**2, 10),
    )


@dataclass(frozen=True)
class Shifts:
    """Networks that differ in how they pool, and how far their images move."""

    training: Trained = Trained(tested=2_000, epochs=6)
    """Data and training."""
    margin: int = 0
    """Black pixels put around each image, so that nothing moves out."""
    farthest: int = 4
    """Largest shift, in pixels; in each of four directions."""


DIGITS = Trained("digits", 0, epochs=5, batch_size=72, learning_rate=0.01, channels=6)


@paper.experiment(quick=Plan(Shifts(DIGITS, 2, 2), seeds=3), small=Plan(Shifts(), seeds=5))
def pooling(run: Run, setup: Shifts) -> Measurements:
    """Error, and consistency under shifts, of each kind of pooling."""
    how = setup.training
    x, y, x_test, y_test = images_of(run, how.dataset, how.examples, how.tested)
    x, x_test = (F.pad(images, [setup.margin] * 4) for images in (x, x_test))  # black pixels around each
    measured: dict[str, Any] = {}
    distances = range(1, setup.farthest + 1)
    directions = ((1, 0), (-1, 0), (0, 1), (0, -1))
    for kind in POOLED:
        model = pooled_network(kind, x.shape[-1], how.channels)
        trained(run, model, x, y, how, kind)
        moved = shift_consistency(model, x_test, [(d * a, d * b) for d in distances for a, b in directions], y=y_test)
        same = moved.same.reshape(-1, 4).sum(1).double() / (4 * len(x_test))
        key = KEYS[kind]
        measured |= {
            f"{key}_error": wrong(model, x_test, y_test),
            f"{key}_consistency": moved.consistency,
            f"{key}_accuracy_moved": moved.accuracy,
            f"{key}_head": Exact(parameters(model[-1])),
            f"{key}_consistency_by_distance": Curve([0, *distances], [1.0, *same.tolist()]),
        }
    return measured


MOVED = {
    "quick": "digits of 8 x 8 pixels with a margin of 2 for images in general; 6 and 12 channels, shifts of 1 and "
    "2 pixels",
    "small": "5,000 images of MNIST, 6 passes, 8 and 16 channels, shifts of 1 to 4 pixels; the notes name neither data "
    "nor network",
}
paper.claim(
    "pooling-reduces-data",
    sheet="24.6",
    says="Pooling shrinks what the last layer must read, and so its parameters: by about 16 after two poolings of "
    "2 x 2, and global pooling leaves one number a channel.",
    where="notes, pooling",
    holds=all_of(
        pooling["none_head"] / pooling["max_head"] > 12,
        ordered(pooling["global_max_head"], pooling["max_head"], pooling["none_head"]),
        equal(pooling["max_head"] - pooling["average_head"], 0),
        equal(pooling["global_max_head"] - pooling["global_average_head"], 0),
    ),
    because="counts; 12 and not 16 because biases and rounded-down sides stay",
    fidelity=IDENTITY,
)
paper.claim(
    "pooling-keeps-what-matters",
    sheet="24.6",
    says="The useful part stays: max and average pooling cost at most a point of accuracy against none.",
    where="notes, pooling",
    holds=all_of(
        pooling["max_error"] - pooling["none_error"] < 0.01, pooling["average_error"] - pooling["none_error"] < 0.01
    ),
    because="a point is the smallest loss that would matter on these data",
    fidelity=ALL,
    differences=MOVED,
)
for kind in ("max", "average"):
    paper.claim(
        f"{kind}-pooling-tolerates-shifts",
        sheet="24.6",
        says=f"With {kind} pooling the class changes less often under shifts than when samples are only left out.",
        where="notes, pooling",
        holds=pooling[f"{kind}_consistency"] - pooling["stride_consistency"] > 0,
        because="the sign of the difference in the share of unchanged classes, paired by seed",
        fidelity=ALL,
        differences=MOVED,
    )
paper.claim(
    "global-pooling-tolerates-shifts-most",
    sheet="24.6",
    says="With global pooling it changes less often than with pooling of 2 x 2.",
    where="notes, pooling",
    holds=all_of(
        pooling["global_max_consistency"] - pooling["max_consistency"] > 0,
        pooling["global_average_consistency"] - pooling["average_consistency"] > 0,
    ),
    because="a global pool forgets all of the place; the sign of the difference, maximum with maximum, mean with mean",
    fidelity=ALL,
    differences={
        **MOVED,
        "small": MOVED["small"]
        + ". Networks with a global pool learn much less in that time, the one with the mean errs on "
        "most digits, and whoever has learned little changes its mind less: the comparison favours them",
    },
)


@dataclass(frozen=True)
class Windows:
    """Random maps whose windows of 2 x 2 are shuffled inside."""

    maps: int = 200
    """How many."""
    side: int = 8
    """Of a map, even."""


@paper.experiment(quick=Plan(Windows(), seeds=1), small=Plan(Windows(5_000), seeds=1))
def forgetting(run: Run, setup: Windows) -> Measurements:
    """What pooling cannot see: the order inside its windows."""
    x = torch.randn(setup.maps, 1, setup.side, setup.side, generator=run.generator("maps"), dtype=torch.float64)
    half = setup.side // 2
    windows = x.reshape(-1, half, 2, half, 2).transpose(2, 3).reshape(-1, half, half, 4)
    turned = windows[..., [1, 2, 3, 0]].reshape(-1, half, half, 2, 2).transpose(2, 3).reshape(x.shape)
    kinds: tuple[Pooling, ...] = ("max", "average", "stride")
    changed = {
        kind: Exact(int(((Pool(kind, 2)(x) - Pool(kind, 2)(turned)).abs() > 1e-12).flatten(1).any(1).sum()))
        for kind in kinds
    }
    return {f"{kind}_changes": count for kind, count in changed.items()} | {"maps": Exact(setup.maps)}


paper.claim(
    "pooling-forgets-where",
    sheet="24.6",
    says="Pooling blurs: max and average pooling do not see where in a window a value was; leaving samples out does.",
    where="notes, pooling",
    holds=all_of(
        equal(forgetting["max_changes"], 0),
        equal(forgetting["average_changes"], 0),
        equal(forgetting["stride_changes"] - forgetting["maps"], 0),
    ),
    because="maximum and mean are symmetric functions of a window; random numbers are all different",
    fidelity=IDENTITY,
)

# receptive fields -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stacks:
    """Random stacks of convolutions and poolings."""

    stacks: int = 8
    """How many."""
    layers: int = 3
    """Layers in each."""


@paper.experiment(quick=Plan(Stacks(), seeds=1), small=Plan(Stacks(100, 4), seeds=1))
def fields(run: Run, setup: Stacks) -> Measurements:
    """The formula for receptive fields against the support of gradients."""
    rng = run.rng("stacks")
    wrong_size = wrong_place = apart = overlapping = 0
    for _ in range(setup.stacks):
        drawn = [
            (int(k), int(min(s, k)))
            for k, s in zip(rng.integers(2, 5, setup.layers), rng.integers(1, 3, setup.layers), strict=True)
        ]
        size, stride = 1, 1
        layers: list[nn.Module] = []
        for kernel, step in drawn:  # r_l = r_{l-1} + (k_l - 1) * product of the strides before
            size += (kernel - 1) * stride
            stride *= step
            convolutional = rng.random() < 0.6
            layers.append(nn.Conv2d(1, 1, kernel, step) if convolutional else nn.MaxPool2d(kernel, step))
        model = nn.Sequential(*layers)
        side = size + 8 * stride
        found = receptive_field(model, (1, side, side), method="probed")
        wrong_size += found.size != (size, size)
        # unit i sees the pixels from i stride on
        wrong_place += found.stride != (stride, stride) or found.span(2, 3)[1] != (
            3.0 * stride,
            3.0 * stride + size - 1,
        )
        if size > stride:
            apart += 1
            overlapping += found.span(0, 0)[1][1] >= found.span(0, 1)[1][0]
    return {
        "wrong_sizes": Exact(wrong_size),
        "wrong_places": Exact(wrong_place),
        "neighbours_that_do_not_overlap": Exact(apart - overlapping),
        "stacks": Exact(setup.stacks),
    }


paper.claim(
    "fields-grow-by-the-formula",
    sheet="24.7",
    says="A unit's receptive field has side r_l = r_(l−1) + (k_l − 1) Π s, and nothing outside of it moves the unit.",
    where="notes, receptive fields",
    holds=equal(fields["wrong_sizes"], 0),
    because="the support of gradients and of NaN, for each random stack, against arithmetic",
    fidelity=IDENTITY,
)
paper.claim(
    "fields-move-and-overlap",
    sheet="24.7",
    says="Fields lie side by side at steps of Π s, and neighbouring ones overlap wherever the field is wider than a "
    "step.",
    where="notes, receptive fields",
    holds=all_of(equal(fields["wrong_places"], 0), equal(fields["neighbours_that_do_not_overlap"], 0)),
    because="arithmetic, for each random stack",
    fidelity=IDENTITY,
)

# neocognitron ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fukushima:
    """A neocognitron of two stages, with and without the tolerance of C-cells."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`."""
    side: int = 16
    """To which images are shrunk; the paper's input layer is 16 x 16."""
    margin: int = 3
    """Black pixels around each image."""
    patterns: int = 600
    """Training images that the layers organise themselves by."""
    labelled: int = 5_000
    """Training images, from the first, whose answers the read-out averages by class."""
    tested: int = 2_000
    """Test images, from the first."""
    planes: tuple[int, int] = (24, 48)
    """Planes of each stage; the paper has 24 in each of three."""
    window: int = 5
    """Side of the S-cells' windows."""
    pool: int = 5
    """Side of the C-cells' windows; 1 in the network without."""
    farthest: int = 3
    """Shift of the test images, in pixels, in eight directions."""


def neocognitron_of(setup: Fukushima, tolerant: bool, generator: torch.Generator) -> Neocognitron:
    """Equal but for the C-cells' windows: strides, and numbers of cells, are the same."""
    pool, padding = (setup.pool, setup.pool // 2) if tolerant else (1, 0)
    return Neocognitron(
        1,
        [
            Stage(setup.planes[0], setup.window, pool, 2, padding, selectivity=4.0, speed=1.0),
            Stage(setup.planes[1], setup.window, pool, 2, padding, selectivity=1.5, speed=16.0),
        ],
        generator=generator,
    )


@torch.no_grad()
def answers(network: nn.Module, x: Tensor) -> Tensor:
    """Of the last cells, as unit vectors (examples, cells)."""
    parts = [network(x[start : start + 500]).flatten(1) for start in range(0, len(x), 500)]
    return F.normalize(torch.cat(parts), dim=1)


def class_specificity(cells: Tensor, y: Tensor) -> float:
    """How much of a plane's answer goes to one class: the mean share of its favourite, over planes that answer."""
    by_class = torch.stack([cells[y == k].mean(0) for k in range(10)])  # (classes, planes)
    total = by_class.sum(0)
    alive = total > 0
    return float((by_class.amax(0)[alive] / total[alive]).mean())


@paper.experiment(
    quick=Plan(Fukushima("digits", 8, 2, 100, 500, 0, (12, 24), 3, 3, 1), seeds=5), small=Plan(Fukushima(), seeds=5)
)
def neocognitron(run: Run, setup: Fukushima) -> Measurements:
    """Layers organise themselves without labels; an image is of the class whose mean answer is nearest in angle."""
    x, y, x_test, y_test = images_of(run, setup.dataset, setup.labelled, setup.tested)
    if x.shape[-1] != setup.side:
        x, x_test = (F.interpolate(images, (setup.side, setup.side), mode="area") for images in (x, x_test))
    x, x_test = (F.pad(images, [setup.margin] * 4) for images in (x, x_test))
    order = torch.randperm(len(x), generator=run.generator("order"))[: setup.patterns].to(x.device)
    d = setup.farthest
    shifts = [(a, b) for a in (-d, 0, d) for b in (-d, 0, d) if (a, b) != (0, 0)]
    measured: dict[str, Any] = {}
    for name, tolerant in (("with", True), ("without", False)):
        network = neocognitron_of(setup, tolerant, run.generator("weights")).to(run.device)
        used = network.learn(x[order])
        learned = answers(network, x)
        means = F.normalize(torch.stack([learned[y == k].mean(0) for k in range(10)]), dim=1)

        def right(images: Tensor, network: nn.Module = network, means: Tensor = means) -> int:
            return int(((answers(network, images) @ means.T).argmax(1) == y_test).sum())

        measured |= {
            f"{name}_accuracy": Proportion(right(x_test), len(y_test)),
            f"{name}_accuracy_shifted": Proportion(
                sum(right(shifted(x_test, a, b)) for a, b in shifts), len(shifts) * len(y_test)
            ),
            f"{name}_planes_used": Matrix(np.array([used]), ["planes"], ["first stage", "second stage"]),
        }
        if tolerant:
            first = network[1](network[0](x_test))
            second = network[3](network[2](first))
            measured["specific_first"] = class_specificity(first.mean((2, 3)), y_test)
            measured["specific_second"] = class_specificity(second.mean((2, 3)), y_test)
            if run.seed == 0:
                weights = cast(Tensor, network[0].weight)[:, 0].cpu()
                measured["features"] = Matrix(weights.flatten(1), names(len(weights)), names(weights[0].numel()))
    return measured


TWO_STAGES = {
    "quick": "digits of 8 x 8 pixels in place of the paper's 16 x 16; two stages of 12 and 24 planes in place of three "
    "of 24; layers learn in turn; the class is read off the last C-cells by the nearest class mean, which has labels",
    "small": "MNIST, shrunk to 16 x 16, in place of five drawn digits; two stages of 24 and 48 planes in place of "
    "three of 24; layers learn in turn; the class is read off the last C-cells by the nearest class mean, which has "
    "labels",
}
paper.claim(
    "neocognitron-recognises-shifted-digits",
    sheet="24.8",
    says="A neocognitron that organised itself without a teacher recognises shifted digits above chance.",
    where="notes, neocognitron; Fukushima 1980, section 5",
    holds=neocognitron["with_accuracy_shifted"] > 0.2,
    because="twice the chance of one in ten is above chance by more than any test set's noise",
    fidelity=ALL,
    differences=TWO_STAGES,
)
paper.claim(
    "c-cells-make-it-tolerant",
    sheet="24.8",
    says="Without the C-cells' windows the same network recognises fewer shifted digits.",
    where="notes, neocognitron; Fukushima 1980, section 2",
    holds=neocognitron["with_accuracy_shifted"] - neocognitron["without_accuracy_shifted"] > 0,
    because="the sign of the difference, paired by seed; both networks have as many cells",
    fidelity=ALL,
    differences=TWO_STAGES,
)
paper.claim(
    "parts-first-wholes-later",
    sheet="24.8",
    says="It takes patterns apart step by step: planes of the first stage are shared by digits more than planes of the "
    "second, which are more specific to one.",
    where="notes, neocognitron",
    holds=neocognitron["specific_second"] - neocognitron["specific_first"] > 0,
    because="weaker than a hierarchy of sub-patterns, of which it is one consequence: the share of a plane's answer "
    "that goes to its favourite digit grows",
    fidelity=ALL,
    differences=TWO_STAGES,
)
paper.claim(
    "first-of-its-kind",
    sheet="24.8",
    says="The neocognitron is the first convolutional network, and the first artificial one with receptive fields.",
    where="notes, neocognitron",
    not_tested=NotTested("not empirical", "priority is a question for historians"),
)

# Figures --------------------------------------------------------------------------------------------------------------


@paper.figure(
    smoothness,
    title="Scale space of a picture",
    caption="One test picture, from left to right at growing σ (in pixels).",
)
def strip(results: Results) -> Any:
    from claimwise.lab.figures import image_grid

    stored = results[smoothness]
    flat = stored["strip"][0]
    colours = 3 if stored.setup["dataset"] == "cifar10" else 1
    side = round((flat.shape[1] / colours) ** 0.5)
    pictures = [row.reshape(side, side, colours) if colours == 3 else row.reshape(side, side) for row in flat]
    titles = [f"σ = {name}" if float(name) else "as it is" for name in stored.rows("strip")]
    return image_grid(pictures, titles, columns=len(pictures), size=0.8)


@paper.figure(
    extrema,
    title="Extrema against scale",
    caption="Mean number of local extrema of random signals of 128 samples on a ring. For the Gaussian no signal's "
    "ever grows; for the box many a one's does.",
)
def extrema_against_scale(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure

    stored = results[extrema]
    fig, axes = figure()
    for name, colour, label in (("gaussian", COLOURS.blue, "discrete Gaussian"), ("box", COLOURS.orange, "box")):
        increases = int(stored[f"{name}_increases"][0])
        axes.plot(
            stored.x(f"{name}_extrema"),
            stored[f"{name}_extrema"][0],
            color=colour,
            marker="o",
            label=f"{label}: grows for {increases:,} of {stored.setup['signals']:,}",
        )
    axes.set(xlabel="σ (samples)", ylabel="local extrema a signal", ylim=(0, None))
    axes.legend(loc="upper right")
    return fig


@paper.figure(
    alphas,
    title="Which semigroup makes no extrema",
    caption="Share of random signals that gain an extremum on the way through the scales, under the kernels with "
    "transform exp(−t |ω|^α / 2). Only the Gaussian, α = 2, makes none.",
)
def extrema_by_alpha(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure

    stored = results[alphas]
    fig, axes = figure()
    axes.plot(stored.x("increases"), stored["increases"][0], color=COLOURS.blue, marker="o")
    axes.set(xlabel="α", ylabel="signals that gain an extremum", ylim=(-0.03, 1.03))
    return fig


@paper.figure(
    pooling,
    title="Consistency under shifts",
    caption="Share of test images whose class is unchanged when they move by so many pixels, mean of four directions; "
    "in brackets the share that is wrong unmoved. Mean over seeds with its 95 % band.",
)
def consistency_against_shift(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[pooling]
    fig, axes = figure(height=3.6)
    for (kind, key), colour in zip(KEYS.items(), COLOURS, strict=True):
        name = f"{key}_consistency_by_distance"
        error = 100 * stored[f"{key}_error"].mean()
        label = f"{kind.replace('-', ' ')} ({error:.1f} %)"
        mean_band(axes, stored.x(name), stored[name], label=label, colour=colour)
    axes.set(xlabel="shift (pixels)", ylabel="class unchanged", ylim=(0, 1.02))
    axes.set_xticks(stored.x(name))
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2)
    return fig


@paper.figure(
    kernels,
    title="Learned against fixed kernels",
    caption="The sixteen kernels of the first layer (seed 0), each on a scale of its own with grey for zero, and the "
    "test error of the network, mean over seeds.",
)
def first_layers(results: Results) -> Any:
    from claimwise.lab.figures import image_grid

    stored = results[kernels]
    drawn: list[np.ndarray] = []
    rows = []
    for kind in FIRST:
        flat = cast(Matrix, stored.measurements[0][f"{kind}_kernels"]).values
        drawn += [k.reshape(3, 5, 5).transpose(1, 2, 0) / np.abs(k).max() for k in flat]
        rows.append(f"{kind}\n{100 * stored[f'{kind}_error'].mean():.1f} % wrong")
    return image_grid(drawn, columns=16, limits=(-1, 1), row_titles=rows, size=0.2)


@paper.figure(
    sharing,
    title="Error against parameters",
    caption="Networks of one hidden layer, test error of each seed. Left to right: more parameters.",
)
def error_against_parameters(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure

    stored = results[sharing]
    labels = {
        "shared": "convolution",
        "unshared": "locally connected",
        "unshared_wide": "locally connected, wide",
        "full": "fully connected",
        "full_wide": "fully connected, wide",
    }
    fig, axes = figure(height=3.4)
    sizes: list[float] = []
    for (name, label), colour in zip(labels.items(), COLOURS, strict=False):
        errors = stored[f"{name}_error"]
        count = float(stored[f"{name}_parameters"][0])
        axes.plot([count] * len(errors), errors, "o", color=colour, label=label, alpha=0.8)
        sizes.append(count)
    axes.set(xlabel="parameters", ylabel="test error", xscale="log", ylim=(0, None))
    places = [count for k, count in enumerate(sorted(sizes)) if k == 0 or count > 2 * sorted(sizes)[k - 1]]
    axes.set_xticks(places, [f"{count:,.0f}" for count in places])
    axes.set_xticks([], minor=True)
    axes.legend(loc="lower center", bbox_to_anchor=(0.42, 1.0), ncols=2)
    return fig


@paper.figure(
    neocognitron,
    title="What first-stage S-cells have learned",
    caption="Excitatory weights of each plane of the first stage (seed 0), learned without labels; each on a scale of "
    "its own.",
)
def first_stage(results: Results) -> Any:
    from claimwise.lab.figures import image_grid

    flat = cast(Matrix, results[neocognitron].measurements[0]["features"]).values
    side = round(flat.shape[1] ** 0.5)
    return image_grid([row.reshape(side, side) for row in flat], columns=12, limits=None, size=0.4)
