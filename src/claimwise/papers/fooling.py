r"""Deep neural networks are easily fooled: images that mean nothing to us, and of which a network is certain.

## What

Take a good classifier and search for images that it gives a class with near certainty, starting from noise and never
looking at a photograph. The search succeeds, and what it finds looks like television snow or like wallpaper. On MNIST
a network (LeNet) is more than 99.99 % sure of such images for every digit, after a few minutes; on ImageNet a search
among regular patterns finds them for most classes, while a search among single pixels mostly fails. Networks trained to
put these images into a class of their own are fooled again by new ones: always on MNIST, less on ImageNet. An image of
this kind is the mirror of an adversarial one: there a class goes missing under a change that we cannot see, here a
class appears where we see nothing.

## How

**MAP-Elites** keeps one champion a class. In each generation pairs of champions get offspring, and an offspring takes
the place of the champion of *every* class in which the network is surer of it: progress in one class is open to all
others. Fitness is the softmax probability of the class, at full precision and without temperature.

Two genomes. **Direct encoding**: one gene a pixel, uniform noise at first; each gene mutates with probability .1 by
Deb's polynomial step. **CPPN encoding**: a small network from a pixel's place (x, y, distance to the centre, bias) to
its colour, whose nodes are sines, Gaussians, sigmoids and lines; it grows by mutation. Because such a network is a
composition of regular functions its images are symmetric and repeat themselves. **Gradient ascent** on the softmax
probability is the third way, for who has the weights.

**Retraining**: the fooling images join the training set as class n + 1, a new network is trained from scratch, and the
search starts again against it.

A person must say whether an image is recognisable. A machine can only say something weaker, and the claims that do so
are stated as the weaker sentence: how far the image lies from every training image compared with how far test images
lie; what a vote of the nearest training images says; how probable it is under a Gaussian fitted to each class.

## Why

A discriminative network learns p(y | x) and cuts the whole space into regions, for where training images lie. Most of
space is far from all of them, and yet belongs to a region, often deep inside. A generative model of p(x, y) could see
that p(x) is tiny there; the paper leaves it as an explanation and a hope. The champions carry features that *tell
apart* and lack those that every instance has: two bars of a "1", the bow of a school bus.

## Where the notes or the paper mislead

- **"Hard to fool" holds for one encoding.** The notes say that ImageNet networks are harder to fool because data and
  capacity are larger. With single pixels that is so (median 21.6 %). With CPPNs the same network is fooled to a median
  of 88 %. Capacity as the reason is a conjecture of the paper.
- **Fewer than 50 generations for 99.99 % of every digit** is the paper's sentence; with the published code's population
  (200) on the paper's own network it takes about twice that (claim `direct-every-digit-within-50`). The sentence about
  200 generations stands.
- **The published evolution runs the network off its training.** The network was trained on pixels / 256; the file that
  the evolution loads subtracts a mean image as well, which triples the test error (claim `mean-file-costs`). The
  claims about the paper's network are tested as the paper ran it, and once more without the mean.
- **Text and code differ**: the code crosses pairs of champions (SBX, η = 10, in half of the cases), which the paper
  does not mention, and does not halve the mutation rate every 1,000 generations, which it does. We follow the code.
- Caffe's LeNet has **no rectifier after its convolutions**. Versions that have one are other networks.
- "First" in the notes is shared: the rubbish class of Goodfellow et al. (see `fgsm`) appeared at the same time.
- A vote of the nearest neighbours is *not* unsure about noise by nature: the nearest digit to almost anything is one
  with little ink. That it does not share the network's opinion is one claim, that it is unsure another.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from claimwise.adversarial import (
    CPPNEncoding,
    DirectEncoding,
    MapElites,
    add_fooling_class,
    class_probabilities,
    fooling_ascent,
    mask_copies,
    mirror_symmetry,
    periodicity,
)
from claimwise.lab import (
    PAPER,
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
    Reported,
    Results,
    Run,
    all_of,
    between,
)
from claimwise.lab.paper import Experiment
from claimwise.papers.shared.images import Images, images_of
from claimwise.vision import SQUEEZENET_PREPROCESSING, LeNet, SqueezeNet, load_nguyen_lenet

paper = Paper("fooling")

ENCODINGS = ("direct", "cppn")
DIGITS = 10

# Settings ------------------------------------------------------------------------------------------------------------
#
# Budget of `small`, fixed before the run: 25 minutes of one core for everything, 1500 s. Measured on one seed outside
# the plan, on a busy machine, in seconds a seed: three retrained networks with both evolutions against each 120, an own
# network 15 and what fools it 26, two more for transfer 20, the paper's network 25 with its mean file and 19 without,
# one evolution a class 20, ascent 8, CIFAR-10 45: about 300, at five seeds 1500. SqueezeNet takes 60, at three seeds
# 180. On a calm machine all is a quarter less.


@dataclass(frozen=True)
class Attack:
    """The evolution; by default as the published code runs it on MNIST."""

    population: int = 200
    """Offspring a generation, two of each pair of parents; also the number of random images to start with."""
    generations: int = 200
    """Generations after the random images."""


@dataclass(frozen=True)
class Recipe:
    """A LeNet and how it is trained; by default Caffe's recipe for MNIST (10,000 steps of 64 images)."""

    dataset: str = "mnist"
    """A data set of `claimwise data list`: grey images."""
    examples: int = 0
    """Training examples used, from the first; 0 for all."""
    filters: tuple[int, int] = (20, 50)
    """Filters of the two convolutions."""
    kernel: int = 5
    """Side of their kernels."""
    hidden: int = 500
    """Units of the hidden fully connected layer."""
    epochs: int = 11
    """Passes over the training set."""
    batch_size: int = 64
    """Examples a step."""
    learning_rate: float = 0.01
    """Step size at the start; at step t it is divided by (1 + t / 10,000) to the power .75, Caffe's rule."""
    momentum: float = 0.9
    """Momentum of gradient descent."""
    weight_decay: float = 0.0005
    """Weight decay."""


@dataclass(frozen=True)
class Errors:
    """The paper's own LeNet on the test digits."""

    dataset: str = "mnist"
    """The digits."""


@dataclass(frozen=True)
class Victim:
    """Which network is fooled, and how its champions are compared with digits."""

    attack: Attack = Attack()
    """The evolution."""
    recipe: Recipe = Recipe()
    """How a network of our own is trained; for the paper's network only its data set counts."""
    subtract_mean: bool = True
    """Whether the paper's network loses the mean image of its inputs first, as in the paper's evolution."""
    encodings: tuple[str, ...] = ENCODINGS
    """Genomes: "direct", "cppn"."""
    reference: int = 1000
    """Test images, from the first, with which champions are compared."""
    neighbours: int = 10
    """Nearest training images that vote."""


@dataclass(frozen=True)
class Transfer:
    """Champions of one network, shown to two others."""

    victim: Victim = Victim()
    """The network they were evolved against."""
    hidden: int = 500
    """Units of each of the two hidden layers of the fully connected network."""


@dataclass(frozen=True)
class Retraining:
    """Networks with a fooling class, one after the other."""

    victim: Victim = Victim()
    """The first network and the evolution."""
    networks: int = 15
    """How many networks are fooled, the first among them."""
    first: int = 6000
    """Fooling images for the second network's fooling class (as many as images of a digit)."""
    more: int = 1000
    """Further ones for each network after it; the class stays as large as the others."""
    sure: float = 0.99
    """Confidence from which a champion, of whatever generation, counts as a fooling image."""


@dataclass(frozen=True)
class Goals:
    """One evolution for all classes, or one for each."""

    victim: Victim = Victim()
    """The network and the evolution."""
    supplied: bool = True
    """The paper's network, or one of our own."""


@dataclass(frozen=True)
class Ascent:
    """Gradient ascent on the probability of a class."""

    victim: Victim = Victim()
    """The network, and the evolution whose champions are compared."""
    supplied: bool = True
    """The paper's network, or one of our own."""
    steps: int = 500
    """Gradient steps; the step size is the authors' policy, a given progress of the probability a step."""


@dataclass(frozen=True)
class Objects:
    """A small convolutional network on CIFAR-10, in the place of one on ImageNet."""

    dataset: str = "cifar10"
    """A data set of `claimwise data list`."""
    examples: int = 0
    """Training examples used, from the first; 0 for all."""
    filters: tuple[int, int] = (64, 128)
    """Filters of the two 3x3 convolutions."""
    hidden: int = 256
    """Units of the hidden fully connected layer."""
    epochs: int = 30
    """Passes over the training set."""
    batch_size: int = 64
    """Examples a step."""
    learning_rate: float = 0.02
    """Step size of gradient descent with momentum .9; it falls to 0 in a straight line."""
    attack: Attack = Attack(400, 5000)
    """The evolution."""
    fooling: int = 5000
    """Fooling images that the second network is trained with (as many as images of a class)."""
    sure: float = 0.9
    """Confidence from which a champion counts as a fooling image."""


@dataclass(frozen=True)
class Thousand:
    """An ImageNet-trained SqueezeNet 1.1, attacked at small resolution."""

    size: int = 227
    """Side of the images in pixels; the network was trained at 227 and averages over any map."""
    attack: Attack = Attack(400, 5000)
    """The evolution."""
    ascent_classes: int = 20
    """Classes, spread evenly, for which gradient ascent is tried."""
    ascent_steps: int = 500
    """Its gradient steps."""
    ascent_step_size: float = 1.0
    """Size of a step along the gradient of the logarithm of the probability.

    Planned anew after a pilot outside the planned seeds: among a thousand classes the probability of one starts below
    .001, from where the authors' step (a progress of .03 to first order) leaps out of the range where the gradient
    means anything. The logarithm has no such trouble. The criteria stayed as they were.
    """
    masked: int = 200
    """Champions of highest confidence in which copies of a pattern are looked for."""


TINY = Recipe("digits", filters=(8, 16), kernel=3, hidden=32, epochs=6, batch_size=64, learning_rate=0.1)
"""For 1,437 digits of 8 x 8 pixels: the same layers with kernels of 3."""
BRIEF = Recipe(examples=20_000, epochs=1, batch_size=32, learning_rate=0.02)
"""A third of MNIST once: 625 steps."""

QUICK = Victim(Attack(60, 40), TINY, reference=360, neighbours=5)
SMALL = Victim(Attack(), BRIEF)

# Data, networks and training ------------------------------------------------------------------------------------------


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def lenet_for(recipe: Recipe, side: int, classes: int = DIGITS) -> LeNet:
    """The network of a recipe, untrained."""
    return LeNet(classes, image_size=side, kernel=recipe.kernel, filters=recipe.filters, hidden=recipe.hidden)


def train(run: Run, recipe: Recipe, model: nn.Module, x: Tensor, y: Tensor, name: str) -> None:
    """Gradient descent as Caffe's solver for MNIST has it: momentum, weight decay, a step size that falls slowly."""

    def falling(optimizer: torch.optim.Optimizer, step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 + 1e-4 * step) ** -0.75

    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    run.fit(
        model,
        cross_entropy,
        (x, y),
        optimizer=optimizer,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        schedule=falling,
        name=name,
    )


@torch.no_grad()
def wrong(model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Test images that a network gets wrong."""
    model.eval()
    return sum(
        int((model(a).argmax(1) != b).sum()) for a, b in zip(torch.split(x, 500), torch.split(y, 500), strict=True)
    )


@torch.no_grad()
def probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Softmax probabilities at double precision, (n, classes)."""
    model.eval()
    return torch.cat([model(part).double().softmax(1) for part in torch.split(x, 500)])


# Evolution ------------------------------------------------------------------------------------------------------------


class Evolved(NamedTuple):
    """What an evolution leaves."""

    images: Tensor
    """(classes, channels, side, side): the champions."""
    confidence: Tensor
    """(classes,): how sure the network is of each."""
    history: np.ndarray
    """(generations + 1, classes): the same from the random images on."""
    gallery: Tensor
    """(generations, classes, channels, side, side): the champions of each generation, or no generation."""


def encoding_of(name: str, shape: tuple[int, ...]) -> Any:
    colour = shape[0] == 3
    return CPPNEncoding(shape) if name == "cppn" else DirectEncoding(shape, hsv=colour)


def evolve(
    run: Run,
    model: nn.Module,
    encoding: str,
    shape: tuple[int, ...],
    attack: Attack,
    *,
    classes: int = DIGITS,
    name: str = "",
    goal_switching: bool = True,
    keep: bool = False,
) -> Evolved:
    """MAP-Elites against the first `classes` outputs of a network; `keep` the champions of every generation."""
    model.eval()
    name = name or encoding
    evolution = MapElites(
        class_probabilities(model, probabilities=lambda logits: logits.double().softmax(1)[:, :classes]),
        encoding_of(encoding, shape),
        classes=classes,
        population=attack.population,
        initial=attack.population,
        generator=run.generator(name),
        goal_switching=goal_switching,
        device=run.device,
    )
    generations = attack.generations if keep else 0
    gallery = torch.zeros(generations, classes, *shape, device=run.device)
    state: dict[str, Any] = {"evolution": evolution, "gallery": gallery}

    def step(state: dict[str, Any], generation: int) -> dict[str, float] | None:
        progress = evolution.step()
        if keep:
            state["gallery"][generation] = evolution.elites.images
        return progress if generation % 10 == 9 else None

    state = run.loop(state, step, until=attack.generations, name=name)
    elites = evolution.elites
    return Evolved(elites.images, elites.confidence, elites.history.cpu().numpy(), state["gallery"])


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Of probabilities at double precision, which tells .9999 from .999999; at most about 36."""
    p = np.clip(probability, 1e-16, 1 - 1e-16)
    return np.log(p) - np.log1p(-p)


def progress_of(encoding: str, evolved: Evolved) -> dict[str, Any]:
    """Least and median confidence over the classes, at the end and by generation."""
    generations = np.arange(len(evolved.history))
    least, median = evolved.history.min(1), np.median(evolved.history, axis=1)
    return {
        f"{encoding}_least": float(least[-1]),
        f"{encoding}_median": float(median[-1]),
        f"{encoding}_leasts": Curve(generations, least),
        f"{encoding}_medians": Curve(generations, median),
    }


# What a machine can say about recognisability -------------------------------------------------------------------------


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(len(a), len(b)), of flat images."""
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp_(min=0)


class Digits:
    """What is known of an image from the training digits alone: distance to the nearest, their vote, its density.

    The density is a mixture of one Gaussian a class, fitted to the training images; .01 is added to the variances, a
    tenth of the pixel range as standard deviation, since pixels that are always black have none.
    """

    def __init__(self, data: Images, neighbours: int) -> None:
        self.x, self.y, self.neighbours = data.x.flatten(1), data.y, neighbours
        self.gaussians = []
        for label in range(DIGITS):
            members = self.x[self.y == label].double()
            covariance = torch.cov(members.T) + 0.01 * torch.eye(
                members.shape[1], dtype=torch.float64, device=members.device
            )
            root = torch.linalg.cholesky(covariance)
            share = torch.tensor(len(members) / len(self.x), dtype=torch.float64)
            constant = share.log() - root.diagonal().log().sum()
            self.gaussians.append((members.mean(0), root, constant))

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Distance to the nearest training image, (n,), and the share of each class in the vote, (n, 10)."""
        distance, votes = [], []
        for part in torch.split(images.flatten(1), 200):
            squared, index = squared_distances(part, self.x).topk(self.neighbours, dim=1, largest=False)
            distance.append(squared[:, 0].sqrt())
            votes.append(F.one_hot(self.y[index], DIGITS).double().mean(1))
        return torch.cat(distance), torch.cat(votes)

    def log_density(self, images: Tensor) -> Tensor:
        """(n,): up to a constant."""
        flat = images.flatten(1).double()
        by_class = [
            constant - 0.5 * torch.linalg.solve_triangular(root, (flat - mean).T, upper=False).square().sum(0)
            for mean, root, constant in self.gaussians
        ]
        return torch.stack(by_class).logsumexp(0)


def likeness(digits: Digits, tested: Tensor, champions: Tensor, labels: Tensor) -> dict[str, Any]:
    """Champions (n images, each with the class it was evolved for) compared with test images."""
    reference, reference_votes = digits.nearest(tested)
    distance, votes = digits.nearest(champions)
    density = digits.log_density(champions)
    usual = digits.log_density(tested)
    far, improbable = distance > reference.quantile(0.99), density < usual.quantile(0.001)
    return {
        "far_from_digits": Proportion(int(far.sum()), len(far)),
        "improbable": Proportion(int(improbable.sum()), len(improbable)),
        "vote_for_the_class": float(votes.gather(1, labels[:, None]).mean()),
        "surest_vote": float(votes.amax(1).mean()),
        "surest_vote_on_test_images": float(reference_votes.amax(1).mean()),
    }


def bars(image: np.ndarray) -> float:
    """How much more columns differ from one another than rows do: above 0 for vertical bars, below for horizontal."""
    columns, rows = image.mean(0).var(), image.mean(1).var()
    return float(np.log((columns + 1e-6) / (rows + 1e-6)))


def regularity(encoding: str, images: Tensor) -> dict[str, float]:
    """Mean mirror symmetry (about the better of two axes) and mean repetition of champions."""
    return {
        f"{encoding}_symmetry": float(mirror_symmetry(images).amax(1).mean()),
        f"{encoding}_repetition": float(periodicity(images).score.mean()),
    }


def names(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def pictures(images: Tensor, rows: Iterable[object]) -> Matrix:
    """Images for a gallery, flat."""
    flat = images.flatten(1).cpu().numpy()
    return Matrix(np.round(flat, 3), names(rows), names(range(flat.shape[1])))


def fooled(run: Run, model: nn.Module, victim: Victim, data: Images) -> tuple[dict[str, Any], dict[str, Evolved]]:
    """Evolve champions with each encoding, and measure them."""
    shape = tuple(data.x.shape[1:])
    labels = torch.arange(DIGITS, device=run.device)
    evolved = {e: evolve(run, model, e, shape, victim.attack, keep=True) for e in victim.encodings}
    measured: dict[str, Any] = {}
    for encoding, found in evolved.items():
        measured |= progress_of(encoding, found)
        measured |= regularity(encoding, found.images)
        measured[f"{encoding}_confidence"] = Curve(range(DIGITS), found.confidence)
        measured[f"{encoding}_champions"] = pictures(found.images, range(DIGITS))
    champions = torch.cat([found.images for found in evolved.values()])
    measured |= likeness(
        Digits(data, victim.neighbours), data.x_test[: victim.reference], champions, labels.repeat(len(evolved))
    )
    if "cppn" in evolved:
        grey = evolved["cppn"].images[:, 0].cpu().numpy()
        measured["bars_in_the_one"] = bars(grey[1])
        measured["bars_in_the_two"] = bars(grey[2][len(grey[2]) // 2 :])
    return measured, evolved


# Experiments ----------------------------------------------------------------------------------------------------------


def supplied_network(run: Run, subtract_mean: bool) -> LeNet:
    return load_nguyen_lenet(run.data("nguyen_lenet")["all"], subtract_mean=subtract_mean).to(run.device)


@paper.experiment(small=Plan(Errors(), seeds=1), paper=Plan(Errors(), seeds=1))
def errors(run: Run, setup: Errors) -> Measurements:
    """Test errors of the network that the paper attacks, with and without its mean file."""
    data = images_of(run, setup.dataset)
    counts = {mean: wrong(supplied_network(run, mean), data.x_test, data.y_test) for mean in (False, True)}
    return {
        "error": Exact(counts[False] / len(data.x_test), unit="fraction"),
        "error_with_mean": Exact(counts[True] / len(data.x_test), unit="fraction"),
    }


@paper.experiment(small=Plan(SMALL, seeds=5), paper=Plan(Victim(), seeds=50, cost="about 20 min on one core"))
def supplied(run: Run, setup: Victim) -> Measurements:
    """The paper's own network, fooled as the paper fooled it: with its mean file."""
    data = images_of(run, setup.recipe.dataset)
    measured, evolved = fooled(run, supplied_network(run, setup.subtract_mean), setup, data)
    run.save("champions", {name: found.images for name, found in evolved.items()})
    return measured


@paper.experiment(
    small=Plan(replace(SMALL, subtract_mean=False), seeds=5),
    paper=Plan(Victim(subtract_mean=False), seeds=50, cost="about 20 min on one core"),
)
def supplied_as_trained(run: Run, setup: Victim) -> Measurements:
    """The paper's own network on inputs as it was trained on: without the mean file."""
    model = supplied_network(run, setup.subtract_mean)
    found = {e: evolve(run, model, e, (1, 28, 28), setup.attack) for e in setup.encodings}
    return {name: value for e, evolved in found.items() for name, value in progress_of(e, evolved).items()}


@paper.experiment(quick=Plan(TINY), small=Plan(BRIEF), paper=Plan(Recipe(), cost="about 6 min a seed on one core"))
def lenet(run: Run, setup: Recipe) -> Measurements:
    """A LeNet of our own."""
    data = images_of(run, setup.dataset, setup.examples)
    model = lenet_for(setup, data.x.shape[-1]).to(run.device)
    train(run, setup, model, data.x, data.y, "training")
    run.save("model", model)
    return {"error": Proportion(wrong(model, data.x_test, data.y_test), len(data.x_test))}


def own_network(run: Run, recipe: Recipe, data: Images) -> LeNet:
    """The trained network of `lenet`, of the same seed."""
    model = lenet_for(recipe, data.x.shape[-1]).to(run.device)
    model.load_state_dict(run.needs(lenet, recipe).load("model"))
    return model.eval()


@paper.experiment(
    quick=Plan(QUICK),
    small=Plan(SMALL),
    paper=Plan(Victim(), seeds=10, cost="about 7 min a seed on one core, training included"),
)
def own(run: Run, setup: Victim) -> Measurements:
    """LeNets of our own, fooled: each seed has another network."""
    data = images_of(run, setup.recipe.dataset)
    measured, evolved = fooled(run, own_network(run, setup.recipe, data), setup, data)
    run.save("champions", {name: found.images for name, found in evolved.items()})
    run.save("gallery", {name: (found.gallery * 255).round().byte() for name, found in evolved.items()})
    run.save("histories", {name: found.history for name, found in evolved.items()})
    return measured


@paper.experiment(
    quick=Plan(Transfer(QUICK, hidden=32)),
    small=Plan(Transfer(SMALL)),
    paper=Plan(Transfer(), seeds=10, cost="about 8 min a seed on one core"),
)
def transfer(run: Run, setup: Transfer) -> Measurements:
    """Champions of one LeNet, shown to a LeNet from other initial weights and to a fully connected network."""
    recipe = setup.victim.recipe
    champions = run.needs(own, setup.victim).load("champions")
    data = images_of(run, recipe.dataset, recipe.examples)
    side = data.x.shape[-1]
    others = {
        "sibling": lenet_for(recipe, side),
        "dense": nn.Sequential(
            nn.Flatten(),
            nn.Linear(side * side, setup.hidden),
            nn.ReLU(),
            nn.Linear(setup.hidden, setup.hidden),
            nn.ReLU(),
            nn.Linear(setup.hidden, DIGITS),
        ),
    }
    measured: dict[str, Any] = {}
    rates = np.zeros((len(others), len(champions)))
    for row, (name, model) in enumerate(others.items()):
        train(run, recipe, model.to(run.device), data.x, data.y, name)
        measured[f"{name}_error"] = Proportion(wrong(model, data.x_test, data.y_test), len(data.x_test))
        sure = 0
        for column, images in enumerate(champions.values()):
            own_class = probabilities(model, images.to(run.device)).diagonal()
            rates[row, column] = float((own_class >= 0.99).double().mean())
            sure += int((own_class >= 0.99).sum())
        measured[f"{name}_fooled"] = Proportion(sure, DIGITS * len(champions))
    return {**measured, "rates": Matrix(rates, list(others), list(champions))}


def sampled(found: Sequence[tuple[Tensor, np.ndarray]], count: int, sure: float, rng: np.random.Generator) -> Tensor:
    """Fooling images from every generation of several evolutions: (gallery, history) pairs, as many from each."""
    drawn = []
    for gallery, history in found:
        flat = gallery.reshape(-1, *gallery.shape[2:])
        confidence = history[1:].reshape(-1)
        certain = np.flatnonzero(confidence >= min(sure, confidence.max()))  # one at least
        taken = rng.permutation(certain)[: -(-count // len(found))]
        drawn.append(flat[torch.tensor(taken, device=flat.device)])
    return torch.cat(drawn)[:count]


@paper.experiment(
    quick=Plan(Retraining(QUICK, networks=2, first=140, more=20)),
    small=Plan(Retraining(SMALL, networks=4, first=2000, more=500)),
    paper=Plan(Retraining(), seeds=5, cost="about 2 h a seed on one core"),
)
def retraining(run: Run, setup: Retraining) -> Measurements:
    """A fooling class: each network is trained from scratch with what fooled those before it, and fooled again."""
    victim, recipe = setup.victim, setup.victim.recipe
    data = images_of(run, recipe.dataset, recipe.examples)
    shape = tuple(data.x.shape[1:])
    rng = run.rng("fooling images")
    before = run.needs(own, victim)
    galleries, histories = before.load("gallery"), before.load("histories")
    found = [(galleries[e].to(run.device).float() / 255, np.asarray(histories[e])) for e in victim.encodings]
    medians = {e: [float(np.median(histories[e][-1]))] for e in victim.encodings}
    shown, sure = [found[-1][0][-1]], [histories[victim.encodings[-1]][-1]]  # of the last encoding: CPPN
    fooling = torch.empty(0, *shape, device=run.device)
    rejected: list[float] = []
    model = lenet_for(recipe, shape[-1], DIGITS + 1)
    for number in range(2, setup.networks + 1):
        new = sampled(found, setup.first if number == 2 else setup.more, setup.sure, rng)
        fooling = torch.cat([fooling, new])
        x, y = add_fooling_class(data.x, data.y, fooling, DIGITS, generator=run.generator(f"class{number}"))
        model = lenet_for(recipe, shape[-1], DIGITS + 1).to(run.device)
        train(run, recipe, model, x, y, f"network{number}")
        rejected.append(float((probabilities(model, new).argmax(1) == DIGITS).double().mean()))
        evolved = [
            evolve(run, model, e, shape, victim.attack, name=f"{e}{number}", keep=True) for e in victim.encodings
        ]
        found = [(e.gallery, e.history) for e in evolved]
        shown.append(evolved[-1].images)
        sure.append(evolved[-1].history[-1])
        for encoding, e in zip(victim.encodings, evolved, strict=True):
            medians[encoding].append(float(np.median(e.history[-1])))
    numbers = range(1, setup.networks + 1)
    rows = [f"{network}: {digit}" for network in numbers for digit in range(DIGITS)]
    return {
        **{f"{e}_medians": Curve(numbers, medians[e]) for e in victim.encodings},
        "recognised": Curve(numbers[1:], rejected),
        "error": Proportion(wrong(model, data.x_test, data.y_test), len(data.x_test)),
        "fooling_images": len(fooling),
        "champions": pictures(torch.cat(shown), rows),
        "champions_confidence": Matrix(np.stack(sure), names(numbers), names(range(DIGITS))),
    }


def champions_of(run: Run, setup: Goals | Ascent) -> tuple[nn.Module, Any, Images]:
    """The network that an experiment attacks, the run that evolved champions against it, and the data."""
    data = images_of(run, setup.victim.recipe.dataset)
    if setup.supplied:
        return supplied_network(run, setup.victim.subtract_mean), run.needs(supplied, setup.victim), data
    return own_network(run, setup.victim.recipe, data), run.needs(own, setup.victim), data


@paper.experiment(small=Plan(Goals(SMALL)), paper=Plan(Goals(), seeds=10, cost="about 5 min on one core"))
def goals(run: Run, setup: Goals) -> Measurements:
    """One evolution for all classes against one evolution a class, with equally many evaluations."""
    model, together, data = champions_of(run, setup)
    measured: dict[str, Any] = {}
    for encoding in setup.victim.encodings:
        alone = evolve(run, model, encoding, tuple(data.x.shape[1:]), setup.victim.attack, goal_switching=False)
        one = np.array(together.measurements[f"{encoding}_confidence"].y)
        measured[f"{encoding}_gain"] = float(np.median(log_odds(one)) - np.median(log_odds(alone.history[-1])))
        measured[f"{encoding}_alone_median"] = float(np.median(alone.history[-1]))
        measured[f"{encoding}_alone_medians"] = Curve(np.arange(len(alone.history)), np.median(alone.history, axis=1))
    return measured


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """Pixel by pixel, of image i of the one and image i of the other."""
    a, b = ((x.flatten(1) - x.flatten(1).mean(1, keepdim=True)) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)


@paper.experiment(small=Plan(Ascent(SMALL)), paper=Plan(Ascent(), seeds=10, cost="about 5 min on one core"))
def ascent(run: Run, setup: Ascent) -> Measurements:
    """Gradient ascent on each digit's probability, from noise and from the mean training image."""
    model, evolved, data = champions_of(run, setup)
    labels = torch.arange(DIGITS, device=run.device)
    noise = torch.rand(DIGITS, *data.x.shape[1:], generator=run.generator("noise")).to(run.device)
    starts = {"noise": noise, "mean": data.x.mean(0, keepdim=True).repeat(DIGITS, 1, 1, 1)}
    measured: dict[str, Any] = {}
    champions = [images.to(run.device) for images in evolved.load("champions").values()]
    for name, start in starts.items():
        images = fooling_ascent(model, labels, start, steps=setup.steps, step_size="progress").images
        own_class = probabilities(model, images).diagonal()
        least = float(own_class.min())
        # From the mean image on the paper's own network nothing is drawn: seeds are no replicates.
        measured[f"{name}_least"] = Exact(least) if name == "mean" and setup.supplied else least
        measured[f"{name}_likeness"] = float(torch.stack([correlations(images, c) for c in champions]).abs().mean())
        measured[f"{name}_images"] = pictures(images, range(DIGITS))
        measured[f"{name}_confidence"] = Curve(range(DIGITS), own_class)
    return measured


def objects_network(setup: Objects, classes: int) -> nn.Sequential:
    first, second = setup.filters
    return nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * 64, setup.hidden),
        nn.ReLU(),
        nn.Linear(setup.hidden, classes),
    )


def train_objects(run: Run, setup: Objects, model: nn.Module, x: Tensor, y: Tensor, name: str) -> None:
    steps = setup.epochs * -(-len(x) // setup.batch_size)

    def falling(optimizer: torch.optim.Optimizer, step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = setup.learning_rate * (1 - step / steps)

    run.fit(
        model,
        cross_entropy,
        (x, y),
        optimizer=torch.optim.SGD(model.parameters(), lr=setup.learning_rate, momentum=0.9),
        epochs=setup.epochs,
        batch_size=setup.batch_size,
        schedule=falling,
        name=name,
    )


@paper.experiment(
    small=Plan(
        Objects(
            examples=15_000,
            filters=(16, 32),
            hidden=128,
            epochs=2,
            batch_size=32,
            attack=Attack(100, 100),
            fooling=1500,
        ),
        seeds=5,
    ),
    paper=Plan(Objects(), cost="about 6 h on one GPU"),
)
def objects(run: Run, setup: Objects) -> Measurements:
    """A network for CIFAR-10: both encodings against it, and CPPNs against its successor with a fooling class."""
    data = images_of(run, setup.dataset, setup.examples)
    model = objects_network(setup, DIGITS).to(run.device)
    train_objects(run, setup, model, data.x, data.y, "network1")
    first = {e: evolve(run, model, e, (3, 32, 32), setup.attack, keep=e == "cppn") for e in ENCODINGS}
    cppn = first["cppn"]
    fooling = sampled([(cppn.gallery, cppn.history)], setup.fooling, setup.sure, run.rng("fooling images"))
    x, y = add_fooling_class(data.x, data.y, fooling, DIGITS, generator=run.generator("class"))
    successor = objects_network(setup, DIGITS + 1).to(run.device)
    train_objects(run, setup, successor, x, y, "network2")
    second = evolve(run, successor, "cppn", (3, 32, 32), setup.attack, name="cppn2")
    return {
        "error": Proportion(wrong(model, data.x_test, data.y_test), len(data.x_test)),
        "successor_error": Proportion(wrong(successor, data.x_test, data.y_test), len(data.x_test)),
        "fooling_images": len(fooling),
        **progress_of("direct", first["direct"]),
        **progress_of("cppn", cppn),
        **progress_of("successor", second),
        "cppn_confidence": Curve(range(DIGITS), cppn.confidence),
        "direct_confidence": Curve(range(DIGITS), first["direct"].confidence),
        "cppn_champions": pictures(cppn.images, range(DIGITS)),
        "direct_champions": pictures(first["direct"].images, range(DIGITS)),
    }


class Prepared(nn.Module):
    """SqueezeNet on RGB images in [0, 1]."""

    def __init__(self, network: SqueezeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(SQUEEZENET_PREPROCESSING(images.clamp(0, 1)))
        return logits


def fewer_copies(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Confidence of images that repeat themselves (the ten that do most, at least) without every second repeat."""
    found = periodicity(images)
    kept = (found.score >= min(0.3, float(found.score.sort().values[-10:].min()))).nonzero().squeeze(1)
    images, labels, period = images[kept], labels.to(images.device)[kept, None], found.period[kept]
    before = probabilities(model, images).gather(1, labels)
    after = probabilities(model, mask_copies(images, period)).gather(1, labels)
    return {
        "fell_without_copies": Proportion(int((after < before).sum()), len(kept)),
        "kept_without_copies": float((after / before).median()),
    }


PETS = range(151, 294)
"""ImageNet's dogs and wild dogs (151 to 280) and cats (281 to 293)."""


@paper.experiment(
    small=Plan(Thousand(64, Attack(100, 60), ascent_classes=10, ascent_steps=150), seeds=3),
    paper=Plan(Thousand(), seeds=3, cost="about 8 h on one GPU"),
)
def thousand(run: Run, setup: Thousand) -> Measurements:
    """An ImageNet network of another architecture: both encodings and gradient ascent, and patterns with copies."""
    network = SqueezeNet().load_arrays(run.data("imagenet_squeezenet1_1")["all"])
    model = Prepared(network).to(run.device).eval()
    shape = (3, setup.size, setup.size)
    measured: dict[str, Any] = {}
    found = {}
    for encoding in ENCODINGS:
        found[encoding] = evolved = evolve(run, model, encoding, shape, setup.attack, classes=1000)
        measured |= progress_of(encoding, evolved)
        measured[f"{encoding}_sure_classes"] = int((evolved.confidence >= 0.99).sum())
        measured |= regularity(encoding, evolved.images)
    cppn = found["cppn"]
    pets = torch.zeros(1000, dtype=torch.bool)
    pets[list(PETS)] = True
    confidence = cppn.confidence.cpu()
    measured["pets_behind_others"] = float(confidence[~pets].median() - confidence[pets].median())
    surest = confidence.argsort(descending=True)
    measured |= fewer_copies(model, cppn.images[surest[: setup.masked]], surest[: setup.masked])
    labels = torch.linspace(0, 999, setup.ascent_classes).long().to(run.device)
    noise = torch.rand(len(labels), *shape, generator=run.generator("noise")).to(run.device)
    mean = torch.tensor(SQUEEZENET_PREPROCESSING.mean).flip(0) / 255  # of BGR bytes
    starts = {"noise": noise, "mean": mean[None, :, None, None].expand_as(noise).to(run.device)}
    for name, start in starts.items():
        climbed = fooling_ascent(
            model,
            labels,
            start,
            steps=setup.ascent_steps,
            step_size=setup.ascent_step_size,
            objective="log-probability",
        ).images
        reached = probabilities(model, climbed).gather(1, labels[:, None])
        least = float(reached.min())
        measured[f"{name}_least"] = Exact(least) if name == "mean" else least  # from the mean nothing is drawn
        measured[f"{name}_sure_classes"] = Proportion(int((reached >= 0.99).sum()), len(labels))
    things = [str(name).partition(",")[0] for name in run.data("imagenet_classes")["all"]["names"]]
    for encoding, evolved in found.items():
        sure = evolved.confidence.cpu()
        best = sure.argsort(descending=True)[:6]
        rows = [f"{k} {things[k]}" for k in best.tolist()]
        measured[f"{encoding}_best"] = Matrix(sure[None, best], ["confidence"], names(range(1, 7)))
        measured[f"{encoding}_champions"] = pictures(F.adaptive_avg_pool2d(evolved.images[best], 32), rows)
    return measured


# Claims ---------------------------------------------------------------------------------------------------------------

ALL = {"quick": STAND_IN, "small": REDUCED, "paper": PAPER}
THEIRS = {"small": PAPER, "paper": PAPER}
ON_DIGITS = "1,437 digits of 8 x 8 pixels and a narrow LeNet with kernels of 3; 40 generations of 60"
OURS = {
    "quick": ON_DIGITS,
    "small": "LeNets of our own, trained on a third of MNIST once; 5 in the place of 50 runs",
    "paper": "LeNets of our own by Caffe's recipe; 10 runs",
}
AS_PUBLISHED = (
    "crossover and constant mutation rate as in the published code, not as in the text; 5 in the place of 50 runs"
)
PEOPLE = NotTested("people", "needs people to look at the images")
PRINTED = "the precision of the printed figure"

paper.claim(
    "direct-fools-by-200",
    sheet="E1",
    says="Evolved from noise pixel by pixel, images of a median confidence of 99.99 % are there after 200 generations, "
    "on the network that the paper attacks.",
    where="section 3.1, figure 4",
    reported={supplied["direct_median"]: Reported(0.9999, "seen", 0.0001, PRINTED)},
    holds=supplied["direct_median"] >= 0.9999,
    because="the paper's own figure; the interval over runs says whether every run can be expected to reach it",
    fidelity=THEIRS,
    differences=AS_PUBLISHED,
)
paper.claim(
    "direct-every-digit-within-50",
    sheet="E1",
    says="Fewer than 50 generations suffice for 99.99 % in every digit, in every run.",
    where="section 3.1",
    reported={supplied["direct_leasts"].at(50): Reported(0.9999, "seen", 0.0001, PRINTED)},
    holds=supplied["direct_leasts"].at(50) >= 0.9999,
    because="the paper's own figure, for the digit that the network is least sure of",
    fidelity=THEIRS,
    differences=AS_PUBLISHED,
)
paper.claim(
    "direct-fools-the-network-as-trained",
    sheet="E1 E13",
    says="The same network is fooled to a median of 99.99 % within 200 generations also without the mean file, on "
    "inputs as it was trained on; by direct encoding and by CPPN.",
    where="section 3.1; ours",
    holds=all_of(supplied_as_trained["direct_median"] >= 0.9999, supplied_as_trained["cppn_median"] >= 0.9999),
    because="were it otherwise, the mean file would be the reason for the paper's result",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences="the paper ran the network with the mean file",
)
paper.claim(
    "direct-fools-other-lenets",
    sheet="E1",
    says="So are LeNets from other initial weights: direct encoding reaches a median of 99.99 %.",
    where="section 3.1; supplementary material",
    reported={own["direct_median"]: Reported(0.9999, "seen", 0.0001, PRINTED)},
    holds=own["direct_median"] >= 0.9999,
    because="the paper's own figure",
    fidelity=ALL,
    differences=OURS,
)
paper.claim(
    "nothing-like-digits",
    sheet="E2",
    says="The images look nothing like digits.",
    where="section 3.1, figure 4",
    not_tested=PEOPLE,
)
paper.claim(
    "far-from-every-digit",
    sheet="E2",
    says="Weaker: nearly all champions, of both encodings, lie further from every training image than 99 % of test "
    "images do.",
    where="section 3.1, figures 4 and 5",
    holds={"quick": own["far_from_digits"] > 0.9, "small": supplied["far_from_digits"] > 0.9}
    | {"paper": supplied["far_from_digits"] > 0.9},
    because="9 in 10 is nearly all; of images that are digits 1 in 100 lies so far",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences={
        "quick": ON_DIGITS + "; distance between pixels in the place of a person",
        "small": "distance between pixels in the place of a person",
        "paper": "distance between pixels in the place of a person",
    },
)
paper.claim(
    "neighbours-do-not-see-the-digit",
    sheet="E2",
    says="Weaker: of the nearest training images fewer than half show the digit that the network is certain of.",
    where="section 3.1, figures 4 and 5",
    holds={"quick": own["vote_for_the_class"] < 0.5, "small": supplied["vote_for_the_class"] < 0.5}
    | {"paper": supplied["vote_for_the_class"] < 0.5},
    because="of a test image nearly all of the nearest show its digit; below one half the vote is not for it",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences={
        "quick": ON_DIGITS + "; a vote of neighbours in the place of a person",
        "small": "a vote of neighbours in the place of a person",
        "paper": "a vote of neighbours in the place of a person",
    },
)
paper.claim(
    "neighbours-are-less-sure",
    sheet="E2",
    says="Weaker: a vote of the nearest training images is far less sure of champions, of whatever digit, than it is "
    "of test images.",
    where="section 3.1, figures 4 and 5",
    holds={
        "quick": own["surest_vote_on_test_images"] - own["surest_vote"] > 0.25,
        "small": supplied["surest_vote_on_test_images"] - supplied["surest_vote"] > 0.25,
        "paper": supplied["surest_vote_on_test_images"] - supplied["surest_vote"] > 0.25,
    },
    because="a quarter of the votes is far more than test images differ among one another",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences={
        "quick": ON_DIGITS + "; a vote of neighbours in the place of a person",
        "small": "a vote of neighbours in the place of a person",
        "paper": "a vote of neighbours in the place of a person",
    },
)
paper.claim(
    "cppn-fools-by-200",
    sheet="E3",
    says="Regular images (CPPN encoding) reach a median of 99.99 % as well, on the network that the paper attacks.",
    where="section 3.2, figure 5",
    reported={supplied["cppn_median"]: Reported(0.9999, "high", 0.0001, PRINTED)},
    holds=supplied["cppn_median"] >= 0.9999,
    because="the paper's own figure",
    fidelity=THEIRS,
    differences="growth of the networks capped at 64 hidden nodes; 5 in the place of 50 runs",
)
paper.claim(
    "cppn-fools-other-lenets",
    sheet="E3",
    says="So they do on LeNets from other initial weights.",
    where="section 3.2; supplementary material",
    reported={own["cppn_median"]: Reported(0.9999, "high", 0.0001, PRINTED)},
    holds=own["cppn_median"] >= 0.9999,
    because="the paper's own figure",
    fidelity=ALL,
    differences=OURS,
)
IN_NUMBERS = {
    "quick": ON_DIGITS,
    "small": "a number in the place of pictures; 5 in the place of 50 runs",
    "paper": "a number in the place of pictures",
}
paper.claim(
    "cppn-images-are-symmetric",
    sheet="E3",
    says="CPPN champions are more symmetric than champions of the direct encoding.",
    where="section 3.2, figures 4 and 5",
    holds={
        "quick": own["cppn_symmetry"] - own["direct_symmetry"] > 0,
        "small": supplied["cppn_symmetry"] - supplied["direct_symmetry"] > 0,
        "paper": supplied["cppn_symmetry"] - supplied["direct_symmetry"] > 0,
    },
    because="the paper shows it in pictures; correlation with the mirror image is the plainest number for it",
    fidelity=ALL | THEIRS,
    differences=IN_NUMBERS,
)
paper.claim(
    "cppn-images-repeat",
    sheet="E3",
    says="CPPN champions repeat themselves more than champions of the direct encoding.",
    where="section 3.2, figures 4 and 5",
    holds={
        "quick": own["cppn_repetition"] - own["direct_repetition"] > 0,
        "small": supplied["cppn_repetition"] - supplied["direct_repetition"] > 0,
        "paper": supplied["cppn_repetition"] - supplied["direct_repetition"] > 0,
    },
    because="the paper shows it in pictures; a peak of the autocorrelation is the plainest number for it",
    fidelity=ALL | THEIRS,
    differences=IN_NUMBERS,
)
paper.claim(
    "features-recur",
    sheet="E3",
    says="Images evolved as '1' have vertical bars and as '2' a horizontal bar below, in all of 50 runs.",
    where="section 3.2",
    not_tested=PEOPLE,
)
paper.claim(
    "ones-are-vertical",
    sheet="E3",
    says="Weaker: in images evolved as '1' columns differ more from one another than rows do.",
    where="section 3.2, figure 5",
    holds=supplied["bars_in_the_one"] > 0,
    because="vertical bars, whatever their place and number, make columns differ and rows alike",
    fidelity=THEIRS,
    differences="a number in the place of a person; 5 in the place of 50 runs",
)
paper.claim(
    "twos-are-horizontal-below",
    sheet="E3",
    says="Weaker: in the lower half of images evolved as '2' rows differ more from one another than columns do.",
    where="section 3.2, figure 5",
    holds=supplied["bars_in_the_two"] < 0,
    because="a horizontal bar makes rows differ and columns alike",
    fidelity=THEIRS,
    differences="a number in the place of a person; 5 in the place of 50 runs",
)

ALEXNET = NotTested("data", "needs the ImageNet network of the paper (AlexNet in Caffe), whose weights are not at hand")
ON_CIFAR = {
    "small": "CIFAR-10 and a small network in the place of ImageNet and AlexNet; 100 generations of 100",
    "paper": "CIFAR-10 in the place of ImageNet",
}
ON_SQUEEZENET = {
    "small": "SqueezeNet 1.1 in the place of AlexNet; images of 64 pixels; 60 generations of 100, not 20,000 or "
    "5,000 of 400",
    "paper": "SqueezeNet 1.1 in the place of AlexNet",
}
paper.claim(
    "direct-hardly-fools-imagenet",
    sheet="E4",
    says="On ImageNet direct encoding reaches a median of 21.59 % after 20,000 generations, and 99 % for 45 classes "
    "only.",
    where="section 3.3, figure 7",
    reported={
        "median confidence": Reported(0.2159, "high"),
        "classes of 99 %": Reported(45, "high"),
    },
    not_tested=ALEXNET,
)
paper.claim(
    "direct-below-cppn-on-squeezenet",
    sheet="E4 E5",
    says="Weaker: on another ImageNet network, direct encoding stays below CPPN encoding at equally many evaluations.",
    where="sections 3.3 and 3.4, figures 7 and 8",
    reported={
        thousand["direct_median"]: Reported(0.2159, "high"),
        thousand["direct_sure_classes"]: Reported(45, "high"),
        thousand["cppn_median"]: Reported(0.8811, "high"),
    },
    holds=thousand["cppn_median"] - thousand["direct_median"] > 0,
    because="the claim is the order; the levels depend on the number of generations",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences=ON_SQUEEZENET,
)
paper.claim(
    "direct-below-cppn-on-cifar",
    sheet="E4 E5",
    says="Weaker: so it does on a network for CIFAR-10.",
    where="sections 3.3 and 3.4, figures 7 and 8",
    holds=objects["cppn_median"] - objects["direct_median"] > 0,
    because="the claim is the order; the levels depend on the number of generations",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences=ON_CIFAR,
)
paper.claim(
    "cppn-fools-imagenet",
    sheet="E5",
    says="On ImageNet CPPN encoding reaches a median of 88.11 % after 5,000 generations.",
    where="section 3.4, figure 8",
    reported={"median confidence": Reported(0.8811, "high")},
    not_tested=ALEXNET,
)
paper.claim(
    "cppn-fools-cifar",
    sheet="E5",
    says="Weaker: CPPN encoding reaches a median of 80 % and more on a network for CIFAR-10.",
    where="section 3.4, figure 8",
    holds=objects["cppn_median"] > 0.8,
    because="ten classes are no harder than a thousand; 80 % is a little below the paper's 88 %",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences=ON_CIFAR,
)
paper.claim(
    "dogs-and-cats-are-hardest",
    sheet="E5",
    says="Dogs and cats, of which there are many kinds, are the hardest classes: their median confidence stays below "
    "that of the others.",
    where="section 3.4, figure 8",
    holds=thousand["pets_behind_others"] > 0,
    because="the claim is the order",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences=ON_SQUEEZENET,
)
paper.claim(
    "copies-help",
    sheet="E6",
    says="Without some of the copies of a repeated pattern the network is less sure.",
    where="section 3.4, figure 10",
    holds=thousand["fell_without_copies"] > 0.8,
    because="more than four in five images: repetition is the rule, not an accident of some",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences={
        "small": ON_SQUEEZENET["small"] + "; every second copy is masked by grey, where the paper cuts genes by hand",
        "paper": ON_SQUEEZENET["paper"] + "; every second copy is masked by grey, where the paper cuts genes by hand",
    },
)
paper.claim(
    "some-fool-another-lenet",
    sheet="E7",
    says="Some champions, but not all, fool a LeNet from other initial weights into the same digit at 99 %.",
    where="section 3.5",
    holds=all_of(transfer["sibling_fooled"] > 0, transfer["sibling_fooled"] < 1),
    because="some and not all: the whole interval between none and all",
    fidelity=ALL,
    differences=OURS,
)
paper.claim(
    "fewer-fool-another-architecture",
    sheet="E7",
    says="Fewer fool a network of another architecture.",
    where="section 3.5",
    holds=transfer["sibling_fooled"] - transfer["dense_fooled"] > 0,
    because="the claim is the order",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences={
        scale: f"{text}; the other architecture is fully connected, where the paper compares AlexNet and GoogLeNet"
        for scale, text in OURS.items()
    },
)
ITERATIONS = {
    "quick": ON_DIGITS + "; 2 networks; fooling images from every generation of one evolution",
    "small": OURS["small"] + "; 4 networks in the place of 15; 2,000 and then 500 fooling images in the place of "
    "6,000 and 1,000, from every generation of one evolution",
    "paper": "fooling images from every generation of one evolution, where the paper gathers them from many",
}
paper.claim(
    "retraining-does-not-help-on-mnist",
    sheet="E8",
    says="Each retrained network is fooled as surely as the one before: CPPN images reach 99.99 % at every iteration.",
    where="section 3.6, supplementary table 1",
    reported={retraining["cppn_medians"].min(): Reported(0.9999, "high", 0.0001, PRINTED)},
    holds=retraining["cppn_medians"].min() >= 0.99,
    because="99 % for the worst of the networks: the defence would have to cost the attack more than a hundredth",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences=ITERATIONS,
)
paper.claim(
    "retraining-does-not-help-against-pixels",
    sheet="E8",
    says="Nor does it against direct encoding.",
    where="section 3.6, supplementary table 1",
    holds=retraining["direct_medians"].min() >= 0.99,
    because="as for CPPN images",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences=ITERATIONS,
)
paper.claim(
    "retraining-helps-on-imagenet",
    sheet="E9",
    says="On ImageNet it helps: the median falls from 88.1 to 11.7 % (p < .0001).",
    where="section 3.6, figure 12",
    reported={
        "median of the first network": Reported(0.881, "high"),
        "median of the second": Reported(0.117, "high"),
    },
    not_tested=NotTested("data", "needs ImageNet's training images to train a second network"),
)
paper.claim(
    "retraining-helps-on-cifar",
    sheet="E9",
    says="Weaker: on CIFAR-10 the median falls from the first to the second network.",
    where="section 3.6, figure 12",
    holds=objects["cppn_median"] - objects["successor_median"] > 0,
    because="the claim is the order, seed by seed",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences=ON_CIFAR,
)
paper.claim(
    "ascent-fools-lenet",
    sheet="E10",
    says="Gradient ascent from noise and from the mean image reaches 99.99 % for every digit.",
    where="section 3.7, figure 13",
    reported={ascent["noise_least"]: Reported(0.9999, "high", 0.0001, PRINTED)},
    holds=all_of(ascent["noise_least"] >= 0.9999, ascent["mean_least"] >= 0.9999),
    because="the paper's own figure, for the digit that the network is least sure of",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences={
        "small": "figure 13 is of the ImageNet network; this is the paper's MNIST network",
        "paper": "figure 13 is of the ImageNet network; this is the paper's MNIST network",
    },
)
WITH_ASCENT = {
    "small": "SqueezeNet 1.1 in the place of AlexNet; 10 classes; images of 64 pixels; 150 steps; "
    "climbs the logarithm of the probability, without decay",
    "paper": "SqueezeNet 1.1 in the place of AlexNet; 20 classes; climbs the logarithm of the probability, "
    "without decay",
}
paper.claim(
    "ascent-from-noise-fools-squeezenet",
    sheet="E10",
    says="From noise it does so for every class of an ImageNet network that was tried.",
    where="section 3.7, figure 13",
    reported={thousand["noise_least"]: Reported(0.9999, "high", 0.0001, PRINTED)},
    holds={"small": thousand["noise_least"] >= 0.99, "paper": thousand["noise_least"] >= 0.9999},
    because="the paper's own figure; with 150 steps 99 %",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences=WITH_ASCENT,
)
paper.claim(
    "ascent-from-the-mean-fools-squeezenet",
    sheet="E10",
    says="From an image of the mean colour too.",
    where="section 3.7, figure 13",
    reported={thousand["mean_least"]: Reported(0.9999, "high", 0.0001, PRINTED)},
    holds={"small": thousand["mean_least"] >= 0.99, "paper": thousand["mean_least"] >= 0.9999},
    because="as from noise",
    fidelity={"small": REDUCED, "paper": REDUCED},
    differences=WITH_ASCENT,
)
paper.claim(
    "ascent-looks-different",
    sheet="E10",
    says="Weaker: what gradient ascent finds hardly correlates, pixel by pixel, with the champions of the same digit.",
    where="section 3.7, figure 13",
    holds=all_of(ascent["noise_likeness"] < 0.3, ascent["mean_likeness"] < 0.3),
    because="a correlation of .3 is a tenth of the variance",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences={
        "small": "the paper's MNIST network, not ImageNet's; correlation in the place of a person",
        "paper": "the paper's MNIST network, not ImageNet's; correlation in the place of a person",
    },
)
paper.claim(
    "features-tell-apart",
    sheet="E11",
    says="Evolution finds features that tell a class apart and not all that are typical of it.",
    where="section 3.4",
    not_tested=PEOPLE,
)
ON_MNIST = {
    "small": "the paper's MNIST network, where the paper speaks of ImageNet",
    "paper": "the paper's MNIST network, where the paper speaks of ImageNet",
}
paper.claim(
    "switching-goals-helps-cppn",
    sheet="E11",
    says="One CPPN evolution for all classes gets surer champions than an evolution for each, at equally many "
    "evaluations.",
    where="section 3.4; supplementary material",
    holds=goals["cppn_gain"] > 0,
    because="the claim is the order; in log-odds of the median, which do not saturate",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences=ON_MNIST,
)
paper.claim(
    "switching-goals-helps-direct",
    sheet="E11",
    says="So it does with direct encoding.",
    where="section 3.4; supplementary material",
    holds=goals["direct_gain"] > 0,
    because="the claim is the order; in log-odds of the median, which do not saturate",
    fidelity={"small": STAND_IN, "paper": STAND_IN},
    differences=ON_MNIST,
)
paper.claim(
    "regions-are-large",
    sheet="E12",
    says="Networks are fooled because discriminative models give large regions far from data to classes, which a "
    "generative model would not.",
    where="section 4",
    not_tested=NotTested("not empirical", "an explanation, offered as such"),
)
paper.claim(
    "density-is-low",
    sheet="E12",
    says="Weaker: under a Gaussian for each digit nearly all champions are less probable than 99.9 % of test images.",
    where="section 4",
    holds={"quick": own["improbable"] > 0.9, "small": supplied["improbable"] > 0.9}
    | {"paper": supplied["improbable"] > 0.9},
    because="9 in 10 is nearly all; of images that are digits 1 in 1,000 is so improbable",
    fidelity={"quick": STAND_IN, "small": REDUCED, "paper": REDUCED},
    differences={
        "quick": ON_DIGITS + "; the paper names no generative model",
        "small": "the paper names no generative model",
        "paper": "the paper names no generative model",
    },
)
paper.claim(
    "lenet-errs-rarely",
    sheet="E13",
    says="The network that the paper attacks errs on fewer than 1 % of the test digits.",
    where="section 2.1",
    reported={errors["error"]: Reported(0.0094, "high")},
    holds=errors["error"] < 0.01,
    because="0.94 % is printed; the claim that matters is that a network is fooled that errs on fewer than 1 in 100",
    fidelity={"small": PAPER, "paper": PAPER},
)
paper.claim(
    "lenet-is-the-one-reported",
    sheet="E13",
    says="The published weights are those whose error is 0.94 %.",
    where="section 2.1",
    holds=between(errors["error"], 0.00935, 0.00945),
    because="a count on the same 10,000 images has no other value than the printed one, to its precision",
    fidelity={"small": PAPER, "paper": PAPER},
)
paper.claim(
    "mean-file-costs",
    sheet="E13",
    says="Ours: with the mean file that the evolution loads, the network errs more than twice as often as without.",
    where="section 2.1; the authors' code",
    holds=errors["error_with_mean"] / errors["error"] > 2,
    because="a factor of two is no rounding: the evolution runs the network off its training",
    fidelity={"small": PAPER, "paper": PAPER},
)
paper.claim(
    "our-lenets-err-as-reported",
    sheet="E13",
    says="A LeNet of our own errs about as often as the paper's: on fewer than 1 % with Caffe's recipe.",
    where="section 2.1",
    reported={lenet["error"]: Reported(0.0094, "high")},
    holds=lenet["error"] < 0.01,
    because="0.94 % is printed; runs differ by about a tenth of that",
    fidelity={"paper": PAPER},
)
paper.claim(
    "alexnet-error",
    sheet="E13",
    says="The ImageNet network (AlexNet in Caffe) errs on 42.6 % of validation images, against 40.7 % of the original.",
    where="section 2.1",
    reported={"top-1 error of Caffe's": Reported(0.426, "high"), "of the original": Reported(0.407, "high")},
    not_tested=NotTested("data", "needs AlexNet's weights and ImageNet's validation images"),
)

# Figures --------------------------------------------------------------------------------------------------------------


def percent(probability: float) -> str:
    """Rounded down: what is not quite certain is not shown as 100."""
    return f"{np.floor(1e4 * probability) / 100:.2f}"


def of_first_seed(results: Results, experiment: Experiment, name: str) -> np.ndarray:
    """A matrix' values, or a curve's."""
    found = results[experiment].measurements[0][name]
    assert isinstance(found, Matrix | Curve)
    values: np.ndarray = found.values if isinstance(found, Matrix) else found.y
    return values


def gallery(rows: Sequence[tuple[str, Any, Any]], side: int, channels: int = 1, titles: Sequence[str] = ()) -> Any:
    """Rows of images, each (label, flat images, confidences), with how sure the network is in percent."""
    from claimwise.lab.figures import image_grid

    drawn, sure = [], []
    for _, flat, confidence in rows:
        for pixels, p in zip(flat, confidence, strict=True):
            image = np.asarray(pixels).reshape(channels, side, side)
            drawn.append(image[0] if channels == 1 else image.transpose(1, 2, 0))
            sure.append(percent(float(p)))
    columns = len(drawn) // len(rows)
    longest = max(len(line) for label, _, _ in rows for line in label.split("\n"))
    size = (6.45 - 0.075 * longest) / columns - 0.12
    return image_grid(
        drawn, sure, columns=columns, row_titles=[label for label, _, _ in rows], column_titles=titles, size=size
    )


LABELS = {"direct": "pixels", "cppn": "CPPN"}
AS_DIGITS = [f"as {digit}" for digit in range(DIGITS)]


def champions_gallery(results: Results, experiment: Experiment, encodings: Sequence[str] = ENCODINGS) -> Any:
    """The champions of seed 0, a row an encoding."""
    rows = [
        (
            f"{LABELS[e]}\n% sure",
            of_first_seed(results, experiment, f"{e}_champions"),
            of_first_seed(results, experiment, f"{e}_confidence"),
        )
        for e in encodings
    ]
    return gallery(rows, round(rows[0][1].shape[1] ** 0.5), titles=AS_DIGITS)


@paper.figure(
    own,
    title="Images that LeNets of our own are sure of",
    caption="One champion a digit after the last generation (first seed); below each, how sure the network is of it.",
)
def our_champions(results: Results) -> Any:
    return champions_gallery(results, own)


@paper.figure(
    supplied,
    title="Images that the paper's network is sure of",
    caption="One champion a digit after the last generation (first seed); below each, how sure the network is of it.",
)
def their_champions(results: Results) -> Any:
    return champions_gallery(results, supplied)


NINES = {0.0: "0 %", 1.0: "90 %", 2.0: "99 %", 3.0: "99.9 %", 4.0: "99.99 %", 6.0: "99.9999 %", 8.0: "1 − 10⁻⁸"}


def nines(confidence: np.ndarray) -> np.ndarray:
    """1 for .9, 2 for .99, 4 for .9999; at most 9."""
    return -np.log10(np.clip(1 - confidence, 1e-9, 1))


def by_nines(axes: Any, highest: float) -> None:
    from claimwise.lab.figures import MUTED

    shown = [level for level in NINES if level <= highest + 0.5]
    axes.set_yticks(shown, [NINES[level] for level in shown])
    axes.axhline(4, color=MUTED, linewidth=1, linestyle=":", zorder=1)


def confidence_by_generation(results: Results, experiment: Experiment) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[experiment]
    fig, axes = figure(5.2, 3.2)
    highest = 0.0
    for encoding, name, colour in (("direct", "pixels", COLOURS.blue), ("cppn", "CPPN", COLOURS.orange)):
        for which, of, style in (("medians", "median of ten digits", "-"), ("leasts", "least", "--")):
            values = nines(stored[f"{encoding}_{which}"])
            highest = max(highest, float(values.max()))
            mean_band(
                axes,
                stored.x(f"{encoding}_{which}"),
                values,
                label=f"{name}, {of}",
                colour=colour,
                linestyle=style,
            )
    by_nines(axes, max(highest, 4.0))
    axes.set(xlabel="generation", ylabel="confidence of champions")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2)
    return fig


@paper.figure(
    own,
    title="Confidence by generation, our LeNets",
    caption="Mean over seeds with its 95 % band, on a scale where each nine counts the same; dotted: 99.99 %.",
)
def our_confidence_by_generation(results: Results) -> Any:
    return confidence_by_generation(results, own)


@paper.figure(
    supplied,
    title="Confidence by generation, the paper's LeNet",
    caption="Mean over seeds with its 95 % band, on a scale where each nine counts the same; dotted: 99.99 %.",
)
def their_confidence_by_generation(results: Results) -> Any:
    return confidence_by_generation(results, supplied)


@paper.figure(
    retraining,
    title="Confidence after retraining",
    caption="Median confidence of champions against each network; from the second on, each was trained with what "
    "fooled those before it. Mean over seeds with its 95 % band; dotted: 99.99 %.",
)
def confidence_by_network(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[retraining]
    fig, axes = figure()
    highest = 0.0
    for encoding, name, colour in (("direct", "pixels", COLOURS.blue), ("cppn", "CPPN", COLOURS.orange)):
        values = nines(stored[f"{encoding}_medians"])
        highest = max(highest, float(values.max()))
        mean_band(axes, stored.x(f"{encoding}_medians"), values, label=name, colour=colour, marker="o")
    numbers = stored.x("cppn_medians")
    by_nines(axes, max(highest, 4.0))
    axes.set(xlabel="network", ylabel="median confidence", ylim=(0, None))
    axes.set_xticks(numbers, [f"{number:.0f}" for number in numbers])
    axes.legend(loc="lower left")
    return fig


@paper.figure(
    retraining,
    title="Fooling images, network by network",
    caption="CPPN champions of each digit (first seed); the second row fools a network that was trained to reject "
    "images like those of the first, and so on. Below each, how sure the network is.",
)
def images_by_network(results: Results) -> Any:
    flat = of_first_seed(results, retraining, "champions")
    confidence = of_first_seed(results, retraining, "champions_confidence")
    rows = [
        (f"network {k + 1}\n% sure", flat[k * DIGITS : (k + 1) * DIGITS], confidence[k])
        for k in range(len(flat) // DIGITS)
    ]
    return gallery(rows, round(flat.shape[1] ** 0.5), titles=AS_DIGITS)


@paper.figure(
    transfer,
    title="Champions shown to other networks",
    caption="Share of champions that another network takes for the same digit at 99 % and more. Bars are means over "
    "seeds, dots are seeds.",
)
def shown_to_others(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, INK, figure

    stored = results[transfer]
    rates = stored["rates"]  # (seeds, networks, encodings)
    fig, axes = figure(4.4, 2.8)
    columns = [LABELS[name] for name in stored.columns("rates")]
    for k, (label, colour) in enumerate(zip(columns, COLOURS, strict=False)):
        place = np.arange(rates.shape[1]) + 0.36 * (k - (len(columns) - 1) / 2)
        axes.bar(place, rates[:, :, k].mean(0), width=0.32, color=colour, label=label, zorder=2)
        spread = np.linspace(-0.1, 0.1, len(rates)) if len(rates) > 1 else np.zeros(1)
        for seed, values in enumerate(rates[:, :, k]):
            axes.plot(place + spread[seed], values, linestyle="", marker="o", markersize=3, color=INK, zorder=3)
    axes.set_xticks(range(rates.shape[1]), ["LeNet, other start", "fully connected"])
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="share fooled", ylim=(0, 1.03))
    axes.legend(loc="upper right", ncols=len(columns), bbox_to_anchor=(1, 1.15))
    return fig


@paper.figure(
    ascent,
    title="Gradient ascent",
    caption="What gradient ascent makes of noise and of the mean training image, digit by digit (first seed); below "
    "each, how sure the paper's network is.",
)
def ascended(results: Results) -> Any:
    rows = [
        (
            f"from {start}\n% sure",
            of_first_seed(results, ascent, f"{start}_images"),
            of_first_seed(results, ascent, f"{start}_confidence"),
        )
        for start in ("noise", "mean")
    ]
    return gallery(rows, round(rows[0][1].shape[1] ** 0.5), titles=AS_DIGITS)


THINGS = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")
"""CIFAR-10's classes."""


@paper.figure(
    objects,
    title="Images that a network for CIFAR-10 is sure of",
    caption="One champion a class (first seed); below each, how sure the network is of it.",
)
def their_things(results: Results) -> Any:
    rows = [
        (
            f"{LABELS[e]}\n% sure",
            of_first_seed(results, objects, f"{e}_champions"),
            of_first_seed(results, objects, f"{e}_confidence"),
        )
        for e in ENCODINGS
    ]
    return gallery(rows, 32, 3, titles=THINGS)


@paper.figure(
    thousand,
    title="Images that an ImageNet network is surest of",
    caption="The six champions of highest confidence of each encoding (first seed), with class and confidence.",
)
def thousand_champions(results: Results) -> Any:
    from claimwise.lab.figures import image_grid

    first = results[thousand].measurements[0]
    drawn, titles = [], []
    for encoding in ENCODINGS:
        found = first[f"{encoding}_champions"]
        assert isinstance(found, Matrix)
        sure = of_first_seed(results, thousand, f"{encoding}_best")[0]
        for name, flat, p in zip(found.rows, found.values, sure, strict=True):
            drawn.append(flat.reshape(3, 32, 32).transpose(1, 2, 0))
            titles.append("\n".join([f"{percent(p)} %", *wrap(name.partition(" ")[2], 14)]))
    return image_grid(drawn, titles, columns=6, row_titles=[LABELS[e] for e in ENCODINGS], size=0.85)
