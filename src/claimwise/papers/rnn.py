r"""Recurrent networks and gated feedback: networks that carry a state from step to step, and how to stack them.

## What

A recurrent network reads a sequence one step at a time and keeps a state, so that one set of weights serves sequences
of any length. Karpathy's figure tells five uses apart by where inputs enter and outputs leave. Training unrolls the
network and propagates back through time; a plain network then learns over short gaps only, because its gradients fade
(or explode) exponentially with distance. Gated feedback (Chung et al. 2015) is about stacks of layers: it lets *every*
layer's last state reach every layer, through gates that are learned.

## How

h_t = tanh(U x_t + W h_(t−1) + b), o_t = V h_t + c, ŷ_t = softmax(o_t), L = Σ_t L_t. With cross-entropy, from the last
step backwards,

δ_t = Vᵀ (ŷ_t − y_t) + Wᵀ diag(1 − h²_(t+1)) δ_(t+1),

∂L/∂W = Σ_t diag(1 − h_t²) δ_t h_(t−1)ᵀ, ∂L/∂U = Σ_t diag(1 − h_t²) δ_t x_tᵀ, ∂L/∂b = Σ_t diag(1 − h_t²) δ_t,
∂L/∂V = Σ_t (ŷ_t − y_t) h_tᵀ, ∂L/∂c = Σ_t (ŷ_t − y_t).

The sums say that one weight is shared by all steps: it is as if each step had a copy, whose gradients are added.

Every step back multiplies δ by Wᵀ diag(1 − h²), a matrix of norm at most σ_max(W). Where σ_max(W) < 1 the gradient must
vanish exponentially; it can explode only where σ_max(W) > 1. LSTM and GRU add to their state rather than multiply it.

In a **gated-feedback** stack the state of layer i reaches layer j through a global gate, one number

g^(i→j) = σ(w^(i→j) · h_t^(j−1) + u^(i→j) · h*_(t−1)), with h* the states of all layers beside each other (h⁰ = x), and

h_t^j = tanh(W^(j−1→j) h_t^(j−1) + Σ_i g^(i→j) U^(i→j) h^i_(t−1)) for units of tanh. GRU and LSTM take the same sum in
their candidate only; their own gates see what they see in any stack.

## Why

One network for sequences of any length needs shared weights; a memory over long gaps needs a path along which the
gradient does not shrink. Layers of a stack are meant to keep different times, slow ones above fast ones. With feedback
from above, and a gate that decides when to listen, a fast layer can start anew where a slow one says that something
ended. The paper reports better character models and programs evaluated more often rightly, for equally many parameters.

## Where the notes or the paper mislead

- **The Jacobian lacks W.** The notes have ∂h_(t+1)/∂h_t = diag(1 − h²_(t+1)); it is diag(1 − h²_(t+1)) W. Without W
  nothing would vanish or explode by the weights, and a gradient made from it is wrong (`the-jacobian-needs-w`).
- **"Accumulated from σ^(t)"** is a misprint for δ^(t), the gradient at the state.
- **Squared loss with softmax does not give ŷ − y.** That is the gradient of cross-entropy; a squared loss has the
  derivative of the output's activation in front (`squared-loss-needs-its-derivative`).
- σ_max(W) > 1 is *necessary* for explosion, not sufficient: with a spectral radius below 1 gradients vanish
  nevertheless (`a-large-singular-value-is-not-enough`).
- "A plain network cannot learn long gaps" is about gradient descent from usual initial weights, not about what such
  networks can represent; and an LSTM also needs its forget gates open at first. Here they begin with a bias of 5, half
  forgotten after a hundred steps.
- "Neurons of a recurrent layer connect to their own layer's previous state only" speaks of *direct* connections: within
  a step, layer j sees layer j − 1, and through it all layers below.
- Gated feedback is not free: at equal parameters its layers are narrower. Widths here match parameters within 1 %.
- The BPC of table 2 are of 100 MB of Wikipedia. Differences of .02 BPC need that much; small data decide less.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from claimwise.lab import (
    EXACT,
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
    Value,
    all_of,
    equal,
    ordered,
)
from claimwise.papers.shared.images import images_of
from claimwise.recurrent import (
    GRU,
    LSTM,
    RNN,
    EncoderDecoder,
    GatedFeedback,
    ManyToMany,
    ManyToOne,
    OneToMany,
    OneToOne,
    bptt,
    decay_rate,
    gradient_norms,
    recurrent_connections,
)

paper = Paper("rnn")

# Budget of `small`, fixed before any verdict: 25 minutes of one core. Measured over some steps of every network outside
# the plan, on a busy machine: characters 5.3 min a seed, 16 min for three; recall 36 s, 3 min for five; arithmetic 19 s
# and the structures 19 s, 1.6 min each for five: 22 in all. Characters first had 240 steps, which would have compared
# networks that had hardly learned to spell. Characters and arithmetic have no plan for `quick`: in the fifty steps that
# fit nothing is learned that could tell architectures apart.

# Training ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """How every network here is trained: Adam, with the gradient's norm cut off."""

    batch_size: int = 50
    """Sequences a step."""
    learning_rate: float = 0.01
    """Adam's step size."""
    clip: float = 1.0
    """Largest norm of the gradient; a longer one is shortened to it."""


def learn(
    run: Run,
    setup: Learning,
    model: nn.Module,
    objective: Callable[..., Tensor],
    data: Sequence[Tensor],
    *,
    epochs: int = 1,
    name: str,
) -> list[float]:
    """Trains a network as its setup says; mean loss by epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=setup.learning_rate)

    def cut_off(*_: Any) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), setup.clip)

    optimizer.register_step_pre_hook(cut_off)
    history = run.fit(
        model.to(run.device),
        objective,
        data,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=setup.batch_size,
        name=name,
    )
    return history["loss"]


def one_hot(numbers: Tensor, symbols: int) -> Tensor:
    return F.one_hot(numbers, symbols).to(torch.get_default_dtype())


class OneHot(nn.Module):
    """Symbols by number as vectors."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols

    def forward(self, numbers: Tensor) -> Tensor:
        return one_hot(numbers, self.symbols)


def classified(model: nn.Module, x: Tensor, y: Tensor) -> Proportion:
    """How many examples a network gives their class."""
    with torch.no_grad():
        right = sum(
            int((model(a).argmax(1) == b).sum()) for a, b in zip(torch.split(x, 500), torch.split(y, 500), strict=True)
        )
    return Proportion(right, len(y))


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


# Backpropagation through time ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backpropagation:
    """Random networks small enough for finite differences, in float64."""

    networks: int = 5
    """Networks, each with its own sequences."""
    steps: int = 6
    """Steps of the sequences."""
    sequences: int = 2
    """Sequences that a loss is summed over."""
    inputs: int = 3
    """Size of x."""
    hidden: int = 4
    """Size of h."""
    outputs: int = 3
    """Size of o; for cross-entropy, classes."""


Weights = dict[str, Tensor]
"""U (hidden, inputs), W (hidden, hidden), V (outputs, hidden), b (hidden), c (outputs)."""
TOLERANCE = 1e-6
"""Largest error, as a share of a gradient's norm, that rounding of float64 and central differences may explain."""


def drawn(setup: Backpropagation, generator: torch.Generator) -> tuple[Tensor, Tensor, Weights]:
    """Sequences (sequences, steps, inputs), classes (sequences, steps), and weights of a random network."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs, hidden, outputs = setup.inputs, setup.hidden, setup.outputs
    shapes = {"U": (hidden, inputs), "W": (hidden, hidden), "V": (outputs, hidden), "b": (hidden,), "c": (outputs,)}
    x = normal(setup.sequences, setup.steps, inputs)
    y = torch.randint(outputs, (setup.sequences, setup.steps), generator=generator)
    return x, y, {name: normal(*shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}


def states(x: Tensor, weights: Weights, copies: Tensor | None = None) -> list[Tensor]:
    """h_1 to h_T, each (sequences, hidden); with copies (T, hidden, hidden), step t has a W of its own."""
    h = x.new_zeros(len(x), len(weights["b"]))
    made = []
    for t in range(x.shape[1]):
        recurrent = weights["W"] if copies is None else copies[t]
        h = torch.tanh(x[:, t] @ weights["U"].T + h @ recurrent.T + weights["b"])
        made.append(h)
    return made


Loss = Literal["cross-entropy", "squared", "squared-softmax"]
LOSSES: tuple[Loss, ...] = ("cross-entropy", "squared", "squared-softmax")
"""Of softmax; half the squared distance from the class of the logistic function, and of softmax."""


def classes(y: Tensor, outputs: int) -> Tensor:
    """The classes as targets of a squared loss."""
    return F.one_hot(y, outputs).double()


def losses(x: Tensor, y: Tensor, weights: Weights, kind: Loss, copies: Tensor | None = None) -> list[Tensor]:
    """L_1 to L_T, summed over sequences."""
    made = []
    for t, h in enumerate(states(x, weights, copies)):
        o = h @ weights["V"].T + weights["c"]
        if kind == "cross-entropy":
            made.append(F.cross_entropy(o, y[:, t], reduction="sum"))
        else:
            said = o.sigmoid() if kind == "squared" else o.softmax(1)
            made.append((said - classes(y[:, t], o.shape[1])).square().sum() / 2)
    return made


def by_autograd(x: Tensor, y: Tensor, weights: Weights, kind: Loss) -> Weights:
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    total = torch.stack(losses(x, y, leaves, kind)).sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def by_differences(x: Tensor, y: Tensor, weights: Weights, kind: Loss, step: float = 1e-5) -> Weights:
    """Central differences, entry by entry."""
    found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for name, weight in weights.items():
        for i in range(weight.numel()):
            sides = []
            for sign in (1, -1):
                moved = weight.clone()
                moved.view(-1)[i] += sign * step
                sides.append(sum(losses(x, y, {**weights, name: moved}, kind)))
            found[name].view(-1)[i] = (sides[0] - sides[1]) / (2 * step)
    return found


def without_w(x: Tensor, y: Tensor, weights: Weights) -> Weights:
    """The gradient of cross-entropy as the notes' Jacobian has it: δ_t = Vᵀ(ŷ_t − y_t) + diag(1 − h²_(t+1)) δ_(t+1)."""
    h = states(x, weights)
    found = {name: torch.zeros_like(weights[name]) for name in "UWb"}
    behind = torch.zeros_like(h[0])  # what the last step handed back
    for t in reversed(range(len(h))):
        o = h[t] @ weights["V"].T + weights["c"]
        delta = (o.softmax(1) - classes(y[:, t], o.shape[1])) @ weights["V"] + behind
        behind = (1 - h[t].square()) * delta
        found["U"] += behind.T @ x[:, t]
        found["b"] += behind.sum(0)
        if t:
            found["W"] += behind.T @ h[t - 1]
    return found


def error(found: Tensor, true: Tensor) -> float:
    """Norm of the difference as a share of the true norm."""
    return float((found - true).norm() / true.norm())


def off(found: Weights, true: Weights) -> int:
    """Gradients that are off by more than rounding."""
    return sum(error(found[name], true[name]) > TOLERANCE for name in found)


BACKPROPAGATION = Plan(Backpropagation(), seeds=1)


@paper.experiment(quick=BACKPROPAGATION, small=BACKPROPAGATION)
def gradients(run: Run, setup: Backpropagation) -> Measurements:
    """Counts of closed, printed and tied gradients that are not those of autograd and finite differences."""
    generator = run.generator("networks")
    names = (
        "off_autograd",
        "off_differences",
        "printed_gradient_off",
        "printed_jacobian_off",
        "full_jacobian_off",
        "squared_as_cross_entropy_off",
        "loss_off",
        "copies_off",
    )
    count = dict.fromkeys(names, 0)
    for _ in range(setup.networks):
        x, y, weights = drawn(setup, generator)
        true: dict[Loss, Weights] = {}
        closed: dict[Loss, Weights] = {}
        for kind in LOSSES:
            true[kind] = by_autograd(x, y, weights, kind)
            target = y if kind == "cross-entropy" else classes(y, setup.outputs)
            found = bptt(x, target, **weights, loss=kind)
            closed[kind] = {name: getattr(found, name) for name in weights}
            count["off_autograd"] += off(closed[kind], true[kind])
            count["off_differences"] += off(closed[kind], by_differences(x, y, weights, kind))
            count["loss_off"] += error(found.loss, torch.stack(losses(x, y, weights, kind)).sum()) > TOLERANCE
        # The notes' formulas: wrong in a network where the gradients of U, W and b all are.
        count["printed_gradient_off"] += off(without_w(x, y, weights), true["cross-entropy"]) == 3
        count["squared_as_cross_entropy_off"] += off(closed["cross-entropy"], true["squared-softmax"]) == len(weights)
        h = states(x[:1], weights)[0][0].requires_grad_()
        after = torch.tanh(weights["U"] @ x[0, 1] + weights["W"] @ h + weights["b"])
        jacobian = torch.stack([torch.autograd.grad(entry, h, retain_graph=True)[0] for entry in after])
        printed = torch.diag(1 - after.square()).detach()
        count["printed_jacobian_off"] += error(printed, jacobian) > TOLERANCE
        count["full_jacobian_off"] += error(printed @ weights["W"], jacobian) > TOLERANCE
        copies = weights["W"].expand(setup.steps, -1, -1).clone().requires_grad_()
        total = torch.stack(losses(x, y, weights, "cross-entropy", copies)).sum()
        (apart,) = torch.autograd.grad(total, copies)
        count["copies_off"] += error(apart.sum(0), closed["cross-entropy"]["W"]) > TOLERANCE
    return {"networks": Exact(setup.networks), **{name: Exact(number) for name, number in count.items()}}


# Gradients over distance ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distance:
    """Random networks whose gradients are followed back from the last step."""

    hidden: int = 64
    """Units."""
    inputs: int = 8
    """Size of the standard normal inputs."""
    steps: int = 50
    """Steps of the one sequence."""
    vanishing: float = 0.9
    """Largest singular value of W of the network of tanh."""
    exploding: float = 1.4
    """Spectral radius of W of the linear network that explodes. In a first run it was 1.1: over 50 steps that is a
    growth of 5 nats, in which the chance of directions drowns the exponential (R² from .55 to .98)."""
    large: float = 1.5
    """Largest singular value of W of the linear network that vanishes nevertheless."""
    forget_bias: float = 5.0
    """Added to the initial bias of the LSTM's forget gates."""


def singular_value(w: Tensor) -> float:
    """The largest one."""
    return float(torch.linalg.matrix_norm(w, 2))


def spectral_radius(w: Tensor) -> float:
    return float(torch.linalg.eigvals(w).abs().max())


def open_forget_gates(model: LSTM, bias: float) -> None:
    """Adds to the bias of a first layer's forget gates, the second quarter of all gates' biases."""
    with torch.no_grad():
        model.get_parameter("bias_ih_l0").chunk(4)[1].add_(bias)


@paper.experiment(quick=Plan(Distance(), seeds=5), small=Plan(Distance(), seeds=10))
def distance(run: Run, setup: Distance) -> Measurements:
    """Norms of the last loss's gradient at every state, and their exponential fits."""
    generator = run.generator("weights")
    x = torch.randn(1, setup.steps, setup.inputs, generator=run.generator("inputs"), dtype=torch.float64)
    w = torch.randn(setup.hidden, setup.hidden, generator=generator, dtype=torch.float64)
    shape = (setup.inputs, setup.hidden)
    models: dict[str, nn.Module] = {}
    for name, kind, scaled in (
        ("vanishing", "tanh", w * setup.vanishing / singular_value(w)),
        ("exploding", "linear", w * setup.exploding / spectral_radius(w)),
        ("large", "linear", w * setup.large / singular_value(w)),
    ):
        models[name] = RNN(*shape, nonlinearity=kind, batch_first=True, dtype=torch.float64)  # type: ignore[arg-type]
        with torch.no_grad():
            models[name].get_parameter("weight_hh_l0").copy_(scaled)
    lstm = LSTM(*shape, batch_first=True, variant="NP", dtype=torch.float64)
    open_forget_gates(lstm, setup.forget_bias)
    models["lstm"] = lstm
    found: dict[str, Any] = {}
    for name, model in models.items():
        norms = gradient_norms(model.to(run.device), x.to(run.device)).cpu()
        fit = decay_rate(norms)
        found[f"{name}_factor"], found[f"{name}_fit"] = fit.factor, fit.r_squared
        found[f"{name}_norms"] = Curve(np.arange(setup.steps), (norms / norms[-1]).log10().flip(0))
        if name == "vanishing":
            allowed = setup.vanishing * norms[1:] * (1 + 1e-9)
            found["bound_exceptions"] = Exact(int((norms[:-1] > allowed).sum()))
    large = models["large"].get_parameter("weight_hh_l0").detach()
    # The same for every seed, but for rounding.
    found["large_singular_value"] = Exact(round(singular_value(large), 9))
    found["large_spectral_radius"] = spectral_radius(large)
    return found


# Connections between layers ------------------------------------------------------------------------------------------

Cell = Literal["tanh", "gru", "lstm"]
CELLS: tuple[Cell, ...] = ("tanh", "gru", "lstm")
Architecture = Literal["single", "stacked", "gf", "ungated"]
"""One layer; three; three with gated feedback; the same with all global gates held at 1."""
LAYERS = 3


def core_of(cell: Cell, architecture: Architecture, inputs: int, width: int) -> nn.Module:
    if architecture in ("gf", "ungated"):
        gated = architecture == "gf"
        return GatedFeedback(inputs, width, num_layers=LAYERS, cell=cell, gated=gated, batch_first=True)
    layers = 1 if architecture == "single" else LAYERS
    if cell == "tanh":
        return RNN(inputs, width, num_layers=layers, batch_first=True)
    if cell == "gru":
        return GRU(inputs, width, num_layers=layers, batch_first=True)
    return LSTM(inputs, width, num_layers=layers, batch_first=True, variant="NP")


@dataclass(frozen=True)
class Connections:
    """Stacks of recurrent layers, plain and with gated feedback, with random weights."""

    width: int = 5
    """Units a layer."""
    inputs: int = 4
    """Size of the input."""


CONNECTIONS = Plan(Connections(), seeds=1)


@paper.experiment(quick=CONNECTIONS, small=CONNECTIONS)
def connections(run: Run, setup: Connections) -> Measurements:
    """Pairs of layers of which one's last state reaches the other directly: the layer itself, or a foreign one."""
    found: dict[str, Any] = {}
    for name, architecture in (("stacked", "stacked"), ("feedback", "gf")):
        reached = torch.stack(
            [
                recurrent_connections(core_of(cell, architecture, setup.inputs, setup.width).double()) > 0  # type: ignore[arg-type]
                for cell in CELLS
            ]
        )  # (cells, target, source)
        own = int(reached.diagonal(dim1=1, dim2=2).sum())
        found[f"{name}_own"], found[f"{name}_foreign"] = Exact(own), Exact(int(reached.sum()) - own)
    return found


# The five structures -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Structures(Learning):
    """One small task for each structure of inputs and outputs."""

    dataset: str = "mnist"
    """Images, read whole, row by row, or written row by row."""
    images: int = 5_000
    """The first so many training images."""
    tests: int = 2_000
    """The first so many test images."""
    epochs: int = 3
    """Passes over the images."""
    hidden: int = 64
    """Units of every network."""
    music: str = "music_jsb_chorales"
    """Pieces of music."""
    music_epochs: int = 15
    """Passes over the pieces."""
    pieces_a_step: int = 16
    """Pieces of music a step."""
    symbols: int = 8
    """Symbols of the sequences that are to be reversed."""
    longest: int = 8
    """Longest sequence to be reversed; the shortest has 3 symbols."""
    reversals: int = 20_000
    """Sequences to be reversed, each seen once."""


def by_rows(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of images that are written from their class, row by row."""
    return F.mse_loss(written(model, y, x), x)


def written(model: nn.Module, y: Tensor, like: Tensor) -> Tensor:
    """Images (batch, rows, columns) that a network writes from their class."""
    return model(one_hot(y, 10), steps=like.shape[1])


class Pieces(NamedTuple):
    """Music: which keys sound at each step, padded with silence, and the steps of each piece."""

    roll: Tensor  # (pieces, steps, keys)
    steps: Tensor  # (pieces)


def in_pieces(roll: np.ndarray, length: np.ndarray) -> Pieces:
    """Pieces beside each other from pieces one after the other."""
    padded = nn.utils.rnn.pad_sequence(list(torch.split(torch.tensor(roll), length.tolist())), batch_first=True)
    return Pieces(padded.to(torch.get_default_dtype()), torch.tensor(length))


def next_step_loss(model: nn.Module, roll: Tensor, steps: Tensor) -> Tensor:
    """Negative log-likelihood of a step's keys given the steps before, in nats a step, as of the second."""
    return nats_a_step(model(roll[:, :-1], lengths=steps - 1), roll, steps)


def nats_a_step(logits: Tensor, roll: Tensor, steps: Tensor) -> Tensor:
    """The same for any prediction of all steps but the first, or one for every step."""
    following = roll[:, 1:]
    sounding = torch.arange(1, roll.shape[1], device=roll.device) < steps[:, None]  # (pieces, steps - 1)
    nats = F.binary_cross_entropy_with_logits(logits.expand_as(following), following, reduction="none").sum(2)
    return (nats * sounding).sum() / sounding.sum()


def frequencies(pieces: Pieces) -> Tensor:
    """How often each key sounds, as a logit; one more step with and one without it are counted."""
    steps = pieces.steps.sum()
    return torch.logit((pieces.roll.sum((0, 1)) + 1) / (steps + 2))


class Pairs(NamedTuple):
    """Sequences of symbols to be answered by sequences of symbols."""

    source: Tensor  # (pairs, steps), padded with 0
    lengths: Tensor  # (pairs)
    told: Tensor  # (pairs, answers): start, then the answer one step late
    answer: Tensor  # (pairs, answers), padded with PADDING


PADDING = -100
"""Stands for no symbol; cross-entropy leaves it out."""


def pairs(sources: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], start: int) -> Pairs:
    def padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
        return nn.utils.rnn.pad_sequence([torch.tensor(s) for s in sequences], batch_first=True, padding_value=value)

    lengths = torch.tensor([len(source) for source in sources])
    return Pairs(
        padded(sources, 0), lengths, padded([[start, *a[:-1]] for a in answers], start), padded(answers, PADDING)
    )


def answer_logits(model: EncoderDecoder, source: Tensor, lengths: Tensor, told: Tensor) -> Tensor:
    """What an encoder and decoder says at each step of the answer, told the right one so far."""
    return model(one_hot(source, model.encoder.input_size), one_hot(told, model.decoder.input_size), lengths=lengths)


def answer_loss(model: EncoderDecoder, source: Tensor, lengths: Tensor, told: Tensor, answer: Tensor) -> Tensor:
    logits = answer_logits(model, source, lengths, told)
    return F.cross_entropy(logits.flatten(0, 1), answer.flatten(), ignore_index=PADDING)


def reversals(rng: np.random.Generator, count: int, symbols: int, longest: int) -> Pairs:
    """Random sequences and the same backwards."""
    forwards = [rng.integers(0, symbols, rng.integers(3, longest + 1)).tolist() for _ in range(count)]
    return pairs(forwards, [sequence[::-1] for sequence in forwards], start=symbols)


@torch.no_grad()
def said_rightly(model: EncoderDecoder, asked: Pairs) -> Proportion:
    """Symbols that are right where the network hears only what it said itself."""
    start = model.decoder.input_size - 1
    said = model.generate(
        one_hot(asked.source, model.encoder.input_size),
        asked.answer.shape[1],
        one_hot(torch.tensor(start), start + 1).to(asked.source.device),
        lengths=asked.lengths,
    ).argmax(2)
    return Proportion(int((said == asked.answer).sum()), int((asked.answer != PADDING).sum()))


@paper.experiment(
    quick=Plan(
        Structures(
            dataset="digits",
            images=1_437,
            tests=360,
            epochs=2,
            hidden=32,
            music="generated_chorales",
            music_epochs=8,
            pieces_a_step=4,
            symbols=4,
            longest=4,
            # In a first run, of 3,000 reversals at a rate of .01, two of the five ended before they could tell.
            reversals=4_000,
            learning_rate=0.02,
        ),
        seeds=3,
    ),
    small=Plan(Structures(), seeds=5),
)
def structures(run: Run, setup: Structures) -> Measurements:
    """The five structures, each trained on a task of its kind and tested on what it has not seen."""
    x, y, tests, labels = images_of(run, setup.dataset, setup.images, setup.tests)
    x, tests = x[:, 0], tests[:, 0]  # (images, rows, columns)
    rows, columns = x.shape[1:]

    def core(inputs: int) -> LSTM:
        return LSTM(inputs, setup.hidden, batch_first=True, variant="NP")

    network = OneToOne(rows * columns, setup.hidden, 10)
    learn(run, setup, network, cross_entropy, (x.flatten(1), y), epochs=setup.epochs, name="one-to-one")

    writer = OneToMany(core(10), columns)
    learn(run, setup, writer, by_rows, (x, y), epochs=setup.epochs, name="one-to-many")
    with torch.no_grad():
        from_class, from_mean = (
            F.mse_loss(p, tests) for p in (written(writer, labels, tests), x.mean(0).expand_as(tests))
        )

    reader = ManyToOne(core(columns), 10)
    learn(run, setup, reader, cross_entropy, (x, y), epochs=setup.epochs, name="many-to-one")

    music = run.data(setup.music)
    pieces, heard = (in_pieces(**music[split]) for split in ("train", "test"))
    player = ManyToMany(core(pieces.roll.shape[2]), pieces.roll.shape[2])
    few = replace(setup, batch_size=setup.pieces_a_step)
    learn(run, few, player, next_step_loss, pieces, epochs=setup.music_epochs, name="many-to-many")
    heard = Pieces(*(part.to(run.device) for part in heard))
    with torch.no_grad():
        by_network = float(next_step_loss(player, *heard))
        by_frequency = float(nats_a_step(frequencies(pieces).to(run.device), *heard))

    rng = run.rng("reversals")
    asked, unseen = (reversals(rng, count, setup.symbols, setup.longest) for count in (setup.reversals, 500))
    translator = EncoderDecoder(core(setup.symbols), core(setup.symbols + 1), setup.symbols + 1)
    learn(run, setup, translator, answer_loss, asked, name="encoder-decoder")
    return {
        "one_to_one_accuracy": classified(network, tests.flatten(1), labels),
        "one_to_many_explained": float(1 - from_class / from_mean),
        "many_to_one_accuracy": classified(reader, tests, labels),
        "many_to_many_nats": Value(by_network, unit="nats"),
        "many_to_many_gain": Value(by_frequency - by_network, unit="nats"),
        "encoder_decoder_accuracy": said_rightly(translator, Pairs(*(part.to(run.device) for part in unseen))),
        "encoder_decoder_chance": Exact(1 / setup.symbols),
    }


# Recall over gaps ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recall(Learning):
    """A plain network and an LSTM that are to name the first symbol of a sequence after a gap."""

    gaps: tuple[int, ...] = (5, 20, 50, 100)
    """Steps between the symbol and the end, filled at random with symbols of no meaning."""
    symbols: int = 4
    """Symbols to be remembered."""
    fillers: int = 2
    """Symbols of no meaning."""
    hidden: int = 64
    """Units of either network."""
    sequences: int = 20_000
    """Sequences to learn from, each seen once."""
    tests: int = 1_000
    """Sequences to be tested on."""
    forget_bias: float = 5.0
    """Added to the initial bias of the LSTM's forget gates."""


def recalls(rng: np.random.Generator, setup: Recall, gap: int, count: int) -> tuple[Tensor, Tensor]:
    """Sequences (count, gap + 1) of numbers, and the first of each."""
    first = rng.integers(0, setup.symbols, (count, 1))
    gaps = rng.integers(setup.symbols, setup.symbols + setup.fillers, (count, gap))
    return torch.tensor(np.hstack([first, gaps])), torch.tensor(first[:, 0])


@paper.experiment(
    quick=Plan(Recall(gaps=(5,), hidden=32, sequences=5_000), seeds=3),
    small=Plan(Recall(), seeds=5),
)
def recall(run: Run, setup: Recall) -> Measurements:
    """Accuracy of a plain network and of an LSTM, by gap."""
    inputs = setup.symbols + setup.fillers
    found: dict[str, Any] = {}
    for gap in setup.gaps:
        rng = run.rng(f"gap {gap}")
        x, y = recalls(rng, setup, gap, setup.sequences)
        tests, labels = (t.to(run.device) for t in recalls(rng, setup, gap, setup.tests))
        plain = RNN(inputs, setup.hidden, batch_first=True)
        gated = LSTM(inputs, setup.hidden, batch_first=True, variant="NP")
        open_forget_gates(gated, setup.forget_bias)
        for name, core in (("plain", plain), ("lstm", gated)):
            model = nn.Sequential(OneHot(inputs), ManyToOne(core, setup.symbols))
            learn(run, setup, model, cross_entropy, (x, y), name=f"{name}-{gap}")
            found[f"{name}_{gap}"] = classified(model, tests, labels)
    for name in ("plain", "lstm"):
        right = [found[f"{name}_{gap}"] for gap in setup.gaps]
        found[f"{name}_accuracy"] = Curve(setup.gaps, [p.successes / p.total for p in right])
    return found


# Gated feedback: characters ------------------------------------------------------------------------------------------

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,-'"
"""The symbols of a text, whose letters are taken small; whatever else stands there is one further symbol."""
SYMBOLS = len(ALPHABET) + 1


def parameters_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@dataclass(frozen=True)
class Characters(Learning):
    """Models of the next character of a text, of equally many parameters."""

    text: str = "multi30k_raw"
    """A data set with English sentences."""
    window: int = 50
    """Characters that are read in one go, from the state 0."""
    windows: int = 6_000
    """The first so many windows to learn from."""
    epochs: int = 5
    """Passes over them."""
    tests: int = 1_000
    """The first so many windows of the test text."""
    cells: tuple[Cell, ...] = ("tanh", "gru", "lstm")
    """Units."""
    widths: tuple[tuple[int, int, int], ...] = ((82, 43, 29), (106, 52, 44), (100, 49, 43))
    """Units a layer for each of them: of one layer, of each of three, of each of three with gated feedback."""
    learning_rate: float = 0.005
    """Adam's step size."""


def windows(text: str, length: int, count: int) -> tuple[Tensor, Tensor]:
    """The first windows of a text, side by side, and the characters that follow each of theirs. (windows, length)

    Raises:
        ValueError: where the text is too short.
    """
    known = {character: number for number, character in enumerate(ALPHABET)}
    numbers = torch.tensor([known.get(character, len(ALPHABET)) for character in text[: count * length + 1].lower()])
    if len(numbers) <= count * length:
        raise ValueError(f"rnn: {count} windows of {length} characters need {count * length + 1}, got {len(numbers)}")
    return numbers[:-1].view(count, length), numbers[1:].view(count, length)


def bits(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy in bits a character."""
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten()) / math.log(2)


@torch.no_grad()
def tested_bits(model: nn.Module, x: Tensor, y: Tensor) -> float:
    parts = list(zip(torch.split(x, 250), torch.split(y, 250), strict=True))
    return float(sum(bits(model, *part) * len(part[0]) for part in parts) / len(x))


@paper.experiment(
    small=Plan(Characters(), seeds=3),
)
def characters(run: Run, setup: Characters) -> Measurements:
    """Bits a character of one layer, a stack, and gated feedback with and without its gates, for each kind of unit."""
    data = run.data(setup.text)
    (x, y), tests = (
        windows("\n".join(data[split]["en"].tolist()), setup.window, count)
        for split, count in (("train", setup.windows), ("test", setup.tests))
    )
    tests = tests[0].to(run.device), tests[1].to(run.device)
    found: dict[str, Any] = {}
    for cell, (single, stacked, feedback) in zip(setup.cells, setup.widths, strict=True):
        trained: dict[Architecture, int] = {"single": single, "stacked": stacked, "gf": feedback, "ungated": feedback}
        if cell == "tanh":
            del trained["ungated"]  # the claim is about what gates add where feedback helps
        for architecture, width in trained.items():
            name = f"{architecture}_{cell}"
            core = core_of(cell, architecture, SYMBOLS, width)
            model = nn.Sequential(OneHot(SYMBOLS), ManyToMany(core, SYMBOLS))
            curve = learn(run, setup, model, bits, (x, y), epochs=setup.epochs, name=name)
            found[f"{name}_bits"] = Value(tested_bits(model, *tests), unit="bits a character")
            found[f"{name}_curve"] = Curve(np.arange(1, len(curve) + 1), curve, unit="bits a character")
            found[f"{name}_parameters"] = Exact(parameters_of(model))
    return found


# Gated feedback: arithmetic ------------------------------------------------------------------------------------------

WRITTEN = "0123456789-+()"
"""Symbols of an expression."""
ANSWERED = "0123456789-."
"""Symbols of its value, with the mark that begins and ends it."""


@dataclass(frozen=True)
class Arithmetic(Learning):
    """Networks that read an arithmetic expression and write its value, trained on all difficulties mixed."""

    nesting: int = 3
    """Most operations in an expression, each but the last within brackets."""
    digits: int = 3
    """Most digits of its numbers."""
    expressions: int = 15_000
    """Expressions to learn from, each seen once."""
    tests: int = 300
    """Expressions of each difficulty to be tested on."""
    widths: tuple[int, int] = (43, 36)
    """Units a layer: of each of three, of each of three with gated feedback."""
    learning_rate: float = 0.005
    """Adam's step size."""


def expression(rng: np.random.Generator, nesting: int, digits: int) -> tuple[str, int]:
    """An expression of so many operations, each within the next one's brackets, and its value.

    Numbers have exactly so many digits, and no leading 0.
    """
    low, high = (10 ** (digits - 1) if digits > 1 else 0), 10**digits
    value = int(rng.integers(low, high))
    text = str(value)
    for level in range(nesting):
        number, adds, behind = int(rng.integers(low, high)), rng.random() < 0.5, rng.random() < 0.5
        if level:
            text = f"({text})"
        text = f"{text}{'+' if adds else '-'}{number}" if behind else f"{number}{'+' if adds else '-'}{text}"
        value = value + number if adds else (value - number if behind else number - value)
    return text, value


def expressions(rng: np.random.Generator, difficulties: Sequence[tuple[int, int]]) -> Pairs:
    """An expression for each (nesting, digits), with its value."""
    made = [expression(rng, *difficulty) for difficulty in difficulties]
    stop = ANSWERED.index(".")
    answers = [[ANSWERED.index(c) for c in f"{value}."] for _, value in made]
    return pairs([[WRITTEN.index(c) for c in text] for text, _ in made], answers, start=stop)


@torch.no_grad()
def answered_rightly(model: EncoderDecoder, asked: Pairs) -> Proportion:
    """Characters of values that are right, told the right ones so far; the end is not counted."""
    counted = (asked.answer != PADDING) & (asked.answer != ANSWERED.index("."))
    said = answer_logits(model, *asked[:3]).argmax(2)
    return Proportion(int(((said == asked.answer) & counted).sum()), int(counted.sum()))


@paper.experiment(small=Plan(Arithmetic(), seeds=5))
def arithmetic(run: Run, setup: Arithmetic) -> Measurements:
    """Accuracy of a stack of GRUs and of gated feedback, by nesting and digits."""
    rng = run.rng("expressions")
    difficulties = [(n, d) for n in range(1, setup.nesting + 1) for d in range(1, setup.digits + 1)]
    drawn = rng.integers(0, len(difficulties), setup.expressions)
    data = expressions(rng, [difficulties[i] for i in drawn])
    tests = {d: Pairs(*(t.to(run.device) for t in expressions(rng, [d] * setup.tests))) for d in difficulties}
    found: dict[str, Any] = {}
    architectures: tuple[Architecture, ...] = ("stacked", "gf")
    for name, width in zip(architectures, setup.widths, strict=True):
        encoder, decoder = (core_of("gru", name, inputs, width) for inputs in (len(WRITTEN), len(ANSWERED)))
        model = EncoderDecoder(encoder, decoder, len(ANSWERED))
        learn(run, setup, model, answer_loss, data, name=name)
        right = {difficulty: answered_rightly(model, asked) for difficulty, asked in tests.items()}
        accuracy = np.array([p.successes / p.total for p in right.values()]).reshape(setup.nesting, setup.digits)
        rows, columns = (list(map(str, range(1, most + 1))) for most in (setup.nesting, setup.digits))
        found[f"{name}_accuracy"] = Matrix(accuracy, rows, columns)
        found[f"{name}_easiest"], found[f"{name}_hardest"] = right[difficulties[0]], right[difficulties[-1]]
        found[f"{name}_parameters"] = Exact(parameters_of(model))
    return found


# Claims --------------------------------------------------------------------------------------------------------------

IDENTITY = {"quick": EXACT, "small": EXACT}
ALWAYS = {"quick": STAND_IN, "small": STAND_IN}
AT_SMALL = {"small": STAND_IN}

TASKS_DIFFER = "the notes name uses, no tasks: {}"
paper.claim(
    "one-to-one-learns",
    sheet="28.1",
    says="One input, one output: a network of fixed size learns to classify images.",
    where="Karpathy 2015, first figure",
    holds=structures["one_to_one_accuracy"] > 0.5,
    because="five times chance, of ten classes",
    fidelity=ALWAYS,
    differences={
        "quick": TASKS_DIFFER.format("digits of 8 × 8 pixels"),
        "small": TASKS_DIFFER.format("5,000 images of MNIST"),
    },
)
paper.claim(
    "one-to-many-learns",
    sheet="28.1",
    says="One input, many outputs: from its class alone a network writes an image, row by row.",
    where="Karpathy 2015, first figure",
    holds=structures["one_to_many_explained"] > 0,
    because="share of the squared difference from the mean image that is explained in test images: 0 knows no class, "
    "and even the mean image of each class leaves most of it",
    fidelity=ALWAYS,
    differences={
        "quick": TASKS_DIFFER.format("rows of digits for words of a caption"),
        "small": TASKS_DIFFER.format("rows of MNIST for words of a caption"),
    },
)
paper.claim(
    "many-to-one-learns",
    sheet="28.1",
    says="Many inputs, one output: a network that reads images row by row classifies them.",
    where="Karpathy 2015, first figure",
    holds=structures["many_to_one_accuracy"] > 0.5,
    because="five times chance, of ten classes",
    fidelity=ALWAYS,
    differences={
        "quick": TASKS_DIFFER.format("rows of digits for words of a review"),
        "small": TASKS_DIFFER.format("rows of MNIST for words of a review"),
    },
)
paper.claim(
    "many-to-many-learns",
    sheet="28.1",
    says="An output at each step: a network predicts the next step of music better than the frequencies of keys do.",
    where="Karpathy 2015, first figure",
    holds=structures["many_to_many_gain"] > 0,
    because="nats a step, in pieces it has not heard: frequencies are what one knows without hearing the piece",
    fidelity=ALWAYS,
    differences={
        "quick": TASKS_DIFFER.format("generated chorales for frames of a video"),
        "small": TASKS_DIFFER.format("chorales by Bach for frames of a video"),
    },
)
paper.claim(
    "encoder-decoder-learns",
    sheet="28.1",
    says="Many inputs, then many outputs: an encoder and a decoder learn to say a sequence backwards.",
    where="Karpathy 2015, first figure",
    holds=structures["encoder_decoder_accuracy"] - 2 * structures["encoder_decoder_chance"] > 0,
    because="twice chance, for symbols in sequences not seen before, where the decoder hears only itself",
    fidelity=ALWAYS,
    differences=TASKS_DIFFER.format("reversal for translation"),
)

paper.claim(
    "closed-forms-are-the-gradient",
    sheet="28.2",
    says="The closed forms of backpropagation through time are the gradient of the loss, for cross-entropy and for "
    "squared losses.",
    where="the notes' equations, corrected",
    holds=all_of(equal(gradients["off_autograd"], 0), equal(gradients["off_differences"], 0)),
    because="in random networks none of the gradients of U, W, V, b and c is off by more than a millionth of its norm, "
    "from autograd or from central differences, in float64",
    fidelity=IDENTITY,
)
paper.claim(
    "the-jacobian-needs-w",
    sheet="28.2",
    says="Without the factor W, as the notes print the Jacobian of one state by the last, neither the Jacobian nor the "
    "gradients of W, U and b are right, in any network.",
    where="the notes' ∂h_(t+1)/∂h_t",
    holds=all_of(
        equal(gradients["networks"] - gradients["printed_jacobian_off"], 0),
        equal(gradients["networks"] - gradients["printed_gradient_off"], 0),
        equal(gradients["full_jacobian_off"], 0),
    ),
    because="counts of random networks in which they are off by more than a millionth; the full Jacobian never is",
    fidelity=IDENTITY,
)
paper.claim(
    "squared-loss-needs-its-derivative",
    sheet="28.2",
    says="ŷ − y is no gradient of squared loss behind a softmax, in any network.",
    where="the notes' squared loss",
    holds=equal(gradients["networks"] - gradients["squared_as_cross_entropy_off"], 0),
    because="the count of random networks in which a gradient made from it is off by more than a millionth",
    fidelity=IDENTITY,
)
paper.claim(
    "delta-is-accumulated",
    sheet="28.2",
    says="What is accumulated from the last step backwards is δ^(t), not σ^(t).",
    where="the notes' text",
    not_tested=NotTested("not empirical", "a misprint; the claims above check the sums over δ"),
)
paper.claim(
    "shared-weights-add-their-gradients",
    sheet="28.3",
    says="The loss is summed over the whole sequence, and the gradient of shared weights is the sum of those that "
    "copies, one a step, would have.",
    where="the notes on unrolling",
    holds=all_of(equal(gradients["loss_off"], 0), equal(gradients["copies_off"], 0)),
    because="off by more than a millionth in none of the random networks",
    fidelity=IDENTITY,
)

paper.claim(
    "gradients-vanish-exponentially",
    sheet="28.4",
    says="Where the largest singular value of W is below 1, the gradient at a state fades exponentially with its "
    "distance from the loss.",
    where="Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013, section 2.1",
    holds=all_of(distance["vanishing_fit"] > 0.95, distance["vanishing_factor"] < 1),
    because="R² of the exponential fit as the notes ask for, and a falling one",
    fidelity=ALWAYS,
    differences="random inputs and random weights of 64 units, scaled; the loss is at the last step",
)
paper.claim(
    "the-singular-value-bounds-gradients",
    sheet="28.4",
    says="In no step back does the gradient at a state grow by more than the largest singular value of W.",
    where="Pascanu et al. 2013, section 2.1",
    holds=equal(distance["bound_exceptions"], 0),
    because="a theorem, since tanh has no slope above 1; steps that break it are counted",
    fidelity=IDENTITY,
)
paper.claim(
    "linear-networks-explode",
    sheet="28.4",
    says="Where W of a linear network is larger than 1, the gradient grows exponentially with distance.",
    where="Pascanu et al. 2013, section 2.1",
    holds=all_of(distance["exploding_fit"] > 0.95, distance["exploding_factor"] > 1),
    because="R² of the exponential fit as for vanishing, and a rising one",
    fidelity=ALWAYS,
    differences="random weights of 64 units with a spectral radius of 1.4, which puts the largest singular value above "
    "it; random inputs, the loss at the last step. The radius was 1.1 in a first quick run, whose growth was too small "
    "to tell its shape",
)
paper.claim(
    "a-large-singular-value-is-not-enough",
    sheet="28.4",
    says="A largest singular value above 1 does not make gradients explode: with a spectral radius below 1 they vanish "
    "also in a linear network.",
    where="Pascanu et al. 2013, section 2.1: necessary, not sufficient",
    holds=all_of(distance["large_singular_value"] > 1, distance["large_factor"] < 1),
    because="the sign of the fitted rate, for a W whose largest singular value is measured",
    fidelity=ALWAYS,
    differences="random weights of 64 units with a largest singular value of 1.5; random inputs",
)
RECALL_DIFFERS = (
    "first symbol of four, 64 units, 400 steps of 50 sequences; the LSTM's forget gates begin open (bias 5). After so "
    "few steps it still guesses at a gap of 100, at every seed"
)
paper.claim(
    "plain-networks-bridge-short-gaps",
    sheet="28.4",
    says="A plain network names the first symbol of a sequence after a short gap.",
    where="the notes on long-term dependencies",
    holds=recall["plain_5"] > 0.9,
    because="nine in ten, where guessing gives one in four",
    fidelity=ALWAYS,
    differences={
        "quick": "first symbol of four after 5 steps, 32 units, 100 steps of 50 sequences",
        "small": RECALL_DIFFERS,
    },
)
paper.claim(
    "lstm-bridges-gaps-that-plain-networks-do-not",
    sheet="28.4",
    says="After gaps of 50 and of 100 steps an LSTM names the first symbol more often than a plain network.",
    where="the notes on long-term dependencies; Hochreiter and Schmidhuber 1997",
    holds=all_of(recall["lstm_50"] - recall["plain_50"] > 0, recall["lstm_100"] - recall["plain_100"] > 0),
    because="the sign, paired by seed",
    fidelity=AT_SMALL,
    differences=RECALL_DIFFERS,
)

paper.claim(
    "layers-see-their-own-last-state-only",
    sheet="28.5",
    says="In a plain stack of recurrent layers, a layer is connected to its own last state and to no other layer's.",
    where="the notes on structure",
    holds=all_of(equal(connections["stacked_foreign"], 0), equal(connections["stacked_own"], 9)),
    because="direct Jacobians of each layer's state by each layer's last one, for three kinds of units and three "
    "layers: exactly 0 but for the 9 own ones",
    fidelity=IDENTITY,
)
paper.claim(
    "gated-feedback-connects-all-layers",
    sheet="28.6",
    says="In a gated-feedback stack every layer's last state reaches every layer directly.",
    where="Chung et al. 2015, section 3",
    holds=all_of(equal(connections["feedback_foreign"], 18), equal(connections["feedback_own"], 9)),
    because="direct Jacobians as for the plain stack: none of the 27 pairs of layers is without",
    fidelity=IDENTITY,
)

CHARACTERS_DIFFER = (
    "300,000 characters of Multi30k English, letters made small, for 100 MB of Wikipedia; 12,000 (tanh), 48,000 (GRU) "
    "and 57,000 (LSTM) parameters; 600 steps of Adam on windows of 50 characters; GRU and LSTM as in torch.nn. Stacks "
    "are far from converged then, those of LSTMs most"
)
TABLE_2 = {
    "tanh": {"single": 1.937, "stacked": 1.892, "gf": 1.949},
    "gru": {"single": 1.883, "stacked": 1.871, "gf": 1.855},
    "lstm": {"single": 1.887, "stacked": 1.868, "gf": 1.842},
}


def table_2(*cells: str) -> dict[Any, Reported]:
    return {
        characters[f"{architecture}_{cell}_bits"]: Reported(value, "med")
        for cell in cells
        for architecture, value in TABLE_2[cell].items()
    }


paper.claim(
    "feedback-below-stack-below-single-layer",
    sheet="28b.1",
    says="With equally many parameters, gated feedback needs fewer bits a character than a stack, and a stack fewer "
    "than a single layer, with GRUs and with LSTMs.",
    where="Chung et al. 2015, table 2",
    reported=table_2("gru", "lstm"),
    holds=all_of(
        ordered(characters["gf_gru_bits"], characters["stacked_gru_bits"], characters["single_gru_bits"]),
        ordered(characters["gf_lstm_bits"], characters["stacked_lstm_bits"], characters["single_lstm_bits"]),
    ),
    because="the order of table 2, in test text, paired by seed",
    fidelity=AT_SMALL,
    differences=CHARACTERS_DIFFER,
)
paper.claim(
    "feedback-helps-gated-units-only",
    sheet="28b.2",
    says="Gated feedback needs fewer bits a character than a stack with GRUs and with LSTMs, but not with units of "
    "tanh.",
    where="Chung et al. 2015, section 6.1",
    reported=table_2("tanh"),
    holds=all_of(
        characters["stacked_gru_bits"] - characters["gf_gru_bits"] > 0,
        characters["stacked_lstm_bits"] - characters["gf_lstm_bits"] > 0,
        characters["stacked_tanh_bits"] - characters["gf_tanh_bits"] < 0.008,
    ),
    because="no gain is less than .008 bits, half of the smaller gain of gated units in table 2",
    fidelity=AT_SMALL,
    differences=CHARACTERS_DIFFER,
)
paper.claim(
    "large-feedback-network-is-best",
    sheet="28b.3",
    says="A large LSTM with gated feedback needs 1.58 bits a character, fewer than the best networks before.",
    where="Chung et al. 2015, table 3",
    reported={
        "gated feedback, LSTM": Reported(1.58, "seen"),
        "multiplicative network": Reported(1.60, "seen"),
        "stacked LSTM": Reported(1.67, "seen"),
    },
    not_tested=NotTested("data", "needs the 100 MB of Wikipedia of the Hutter prize, which the registry does not hold"),
)
paper.claim(
    "the-gates-make-the-gain",
    sheet="28b.4",
    says="With all global gates held at 1, feedback loses most of what it gains over a stack, with GRUs and with "
    "LSTMs.",
    where="Chung et al. 2015, section 6.1",
    holds=all_of(
        *(
            part
            for cell in ("gru", "lstm")
            for part in (
                characters[f"stacked_{cell}_bits"] - characters[f"gf_{cell}_bits"] > 0,
                characters[f"ungated_{cell}_bits"]
                - 0.5 * (characters[f"stacked_{cell}_bits"] + characters[f"gf_{cell}_bits"])
                > 0,
            )
        )
    ),
    because="there is a gain, and without gates the bits are nearer to the stack's than to those with gates, or above: "
    "more than half is lost",
    fidelity=AT_SMALL,
    differences=CHARACTERS_DIFFER,
)
paper.claim(
    "feedback-converges-in-fewer-updates",
    sheet="28b.4",
    says="While training, gated feedback is ahead of a stack after equally many updates, with GRUs and with LSTMs.",
    where="Chung et al. 2015, figure 4",
    holds=all_of(
        *(
            characters[f"stacked_{cell}_curve"].mean() - characters[f"gf_{cell}_curve"].mean() > 0
            for cell in ("gru", "lstm")
        )
    ),
    because="bits a character in training, as the mean over all updates: the area between the two curves",
    fidelity=AT_SMALL,
    differences=CHARACTERS_DIFFER,
)
paper.claim(
    "feedback-converges-in-less-time",
    sheet="28b.4",
    says="It is also ahead after equal time.",
    where="Chung et al. 2015, figure 4",
    not_tested=NotTested("hardware", "the figure's hours are those of the authors' GPU and code"),
)
ARITHMETIC_DIFFERS = (
    "sums and differences of up to four numbers, nested in brackets, for Python programs; {} GRUs a layer of 3, 300 "
    "steps of 50 expressions, trained on all difficulties mixed"
).format("43 (36 with feedback)")
paper.claim(
    "feedback-computes-better-at-every-difficulty",
    sheet="28b.5",
    says="A gated-feedback encoder and decoder writes more characters of results rightly than a stacked one, for every "
    "nesting and length.",
    where="Chung et al. 2015, section 6.2, figure 5",
    holds=(arithmetic["gf_accuracy"] - arithmetic["stacked_accuracy"]).min() > 0,
    because="the smallest difference of the nine difficulties, paired by seed; its interval asks that all be above 0",
    fidelity=AT_SMALL,
    differences=ARITHMETIC_DIFFERS,
)
paper.claim(
    "feedback-gains-more-where-it-is-harder",
    sheet="28b.5",
    says="Its advantage is larger in the hardest programs than in the easiest.",
    where="Chung et al. 2015, section 6.2, figure 5",
    holds=(arithmetic["gf_hardest"] - arithmetic["stacked_hardest"])
    - (arithmetic["gf_easiest"] - arithmetic["stacked_easiest"])
    > 0,
    because="the sign of the difference between deepest and longest, and flat and shortest, paired by seed",
    fidelity=AT_SMALL,
    differences=ARITHMETIC_DIFFERS,
)


# Figures -------------------------------------------------------------------------------------------------------------


class Diagram(NamedTuple):
    """Where inputs enter and outputs leave an unrolled network."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    task: str
    score: str
    """The measurement that tells how well the task is learned."""


DIAGRAMS = (
    Diagram("one to one", (0,), (0,), "image → class", "one_to_one_accuracy"),
    Diagram("one to many", (0,), (0, 1, 2), "class → rows", "one_to_many_explained"),
    Diagram("many to one", (0, 1, 2), (2,), "rows → class", "many_to_one_accuracy"),
    Diagram("many to many", (0, 1, 2), (0, 1, 2), "step → next step", "many_to_many_gain"),
    Diagram("encoder, decoder", (0, 1, 2), (3, 4), "sequence → reversed", "encoder_decoder_accuracy"),
)


PLACES = ((0.5, 4.5), (3.4, 4.5), (7.6, 4.5), (0.5, 0), (5.0, 0))
"""Where each of them is drawn: its first step, and the height of its inputs."""


def scored(stored: Any, measurement: str) -> str:
    """A measurement in words, its mean over seeds."""
    mean = float(np.mean(stored[measurement]))
    if measurement.endswith("accuracy"):
        return f"{mean:.0%} right"
    return f"{mean:.0%} explained" if measurement.endswith("explained") else f"{mean:.2f} nats gained"


@paper.figure(
    structures,
    title="The five structures, unrolled",
    caption="Time runs to the right: inputs x, states h, outputs y. Under each the task that it learns here and how "
    "well, in the mean over seeds. What a decoder is told of its own output is not drawn.",
)
def unrolled(results: Results) -> Any:
    from matplotlib.patches import FancyBboxPatch

    from claimwise.lab.figures import COLOURS, GROUND, INK, MUTED, figure

    fig, axes = figure(6.6, 5.0)
    size = 0.64  # of a box; places are one apart

    def box(x: float, y: float, letter: str, colour: str) -> None:
        style = "round,pad=0,rounding_size=0.1"
        corner = (x - size / 2, y - size / 2)
        axes.add_patch(
            FancyBboxPatch(corner, size, size, boxstyle=style, facecolor=GROUND, edgecolor=colour, linewidth=1.6)
        )
        axes.text(x, y, letter, ha="center", va="center", fontsize=9, color=colour)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
        axes.annotate("", xy=end, xytext=start, arrowprops=style)

    for diagram, (left, base) in zip(DIAGRAMS, PLACES, strict=True):
        count = 1 + max(diagram.inputs + diagram.outputs)
        for t in range(count):
            x, y = left + t, base + 1
            box(x, y, "h", COLOURS.green)
            if t:
                arrow((x - 1 + size / 2, y), (x - size / 2, y))
            if t in diagram.inputs:
                box(x, y - 1, "x", COLOURS.orange)
                arrow((x, y - 1 + size / 2), (x, y - size / 2))
            if t in diagram.outputs:
                box(x, y + 1, "y", COLOURS.blue)
                arrow((x, y + size / 2), (x, y + 1 - size / 2))
        middle = left + (count - 1) / 2
        axes.text(middle, base + 2.6, diagram.name, ha="center", fontsize=10, weight="bold")
        words = f"{diagram.task}\n{scored(results[structures], diagram.score)}"
        axes.text(middle, base - 0.5, words, ha="center", va="top", fontsize=9, color=MUTED)
    axes.set(xlim=(-0.9, 10.1), ylim=(-1.3, 7.6), aspect="equal", xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return fig


@paper.figure(
    distance,
    title="The gradient's norm against distance",
    caption="log10 of the norm at a state, over that at the last one, every seed, mean and 95 % band. All networks are "
    "random; σ is the largest singular value of W, ρ its spectral radius.",
)
def norms_by_distance(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[distance]
    fig, axes = figure(4.6, 3.1)
    for name, label, colour in (
        ("exploding", "linear, ρ = 1.4", COLOURS.orange),
        ("lstm", "LSTM, open forget gates", COLOURS.blue),
        ("large", "linear, σ = 1.5, ρ < 1", COLOURS.amber),
        ("vanishing", "tanh, σ = .9", COLOURS.grey),
    ):
        mean_band(axes, stored.x(f"{name}_norms"), stored[f"{name}_norms"], label=label, colour=colour)
    axes.set(xlabel="steps from the loss", ylabel="log10 of the gradient's norm")
    axes.legend(loc="lower left")
    return fig


@paper.figure(
    recall,
    title="Recall of the first symbol against the gap",
    caption="Share of test sequences whose first symbol is named rightly, every seed, mean and 95 % band. The dashed "
    "line is guessing.",
)
def recall_by_gap(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, MUTED, figure, mean_band

    stored = results[recall]
    fig, axes = figure(4.4, 3.0)
    for name, label, colour in (("lstm", "LSTM", COLOURS.blue), ("plain", "plain network", COLOURS.orange)):
        curve = f"{name}_accuracy"
        mean_band(axes, stored.x(curve), stored[curve], label=label, colour=colour, marker="o")
        axes.set_xticks(stored.x(curve))
    axes.axhline(1 / int(stored.setup["symbols"]), color=MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel="gap (steps)", ylabel="accuracy", ylim=(0, 1.05))
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


SERIES: dict[Architecture, str] = {
    "single": "one layer",
    "stacked": "stack",
    "gf": "gated feedback",
    "ungated": "feedback, gates at 1",
}


@paper.figure(
    characters,
    title="Bits a character by unit and architecture",
    caption="Test text; every seed (dots) and mean (bar), at equal parameters within 1 %.",
)
def bits_by_architecture(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure

    stored = results[characters]
    cells = [str(cell) for cell in stored.setup["cells"]]
    fig, axes = figure(4.8, 3.1)
    for place, (architecture, label) in enumerate(SERIES.items()):
        colour = (COLOURS.grey, COLOURS.orange, COLOURS.blue, COLOURS.amber)[place]
        for column, cell in enumerate(cells):
            if (name := f"{architecture}_{cell}_bits") in stored:
                x, y = column + 0.2 * (place - 1.5), np.asarray(stored[name])
                shown = label if cell == cells[-1] else None
                axes.plot([x - 0.07, x + 0.07], [y.mean()] * 2, color=colour, linewidth=2.4, label=shown)
                axes.plot(np.full(len(y), x), y, "o", color=colour, markersize=3, alpha=0.6)
    axes.set_xticks(range(len(cells)), [cell if cell == "tanh" else cell.upper() for cell in cells])
    axes.set(ylabel="bits a character", xlim=(-0.5, len(cells) - 0.5))
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    return fig


@paper.figure(
    characters,
    title="Convergence with and without feedback",
    caption="Bits a character in training, mean over each pass; every seed, mean and 95 % band.",
)
def convergence(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[characters]
    cells = [str(cell) for cell in stored.setup["cells"]]
    fig, panels = figure(6.6, 2.9, columns=len(cells), sharey=True, squeeze=False)
    for axes, cell in zip(panels[0], cells, strict=True):
        for (architecture, label), colour in zip(
            SERIES.items(), (COLOURS.grey, COLOURS.orange, COLOURS.blue, COLOURS.amber), strict=True
        ):
            if (name := f"{architecture}_{cell}_curve") in stored:
                mean_band(axes, stored.x(name), stored[name], label=label, colour=colour, marker="o")
        axes.set(title=cell if cell == "tanh" else cell.upper(), xlabel="pass")
        axes.set_xticks(stored.x(f"gf_{cell}_curve"))
    panels[0, 0].set(ylabel="bits a character")
    fig.legend(*panels[0, -1].get_legend_handles_labels(), ncols=4, loc="outside lower center")
    return fig


@paper.figure(
    arithmetic,
    title="Arithmetic by difficulty",
    caption="Characters of results that are right, by digits of the numbers, for one to three nested operations; every "
    "seed, mean and 95 % band.",
)
def accuracy_by_difficulty(results: Results) -> Any:
    from claimwise.lab.figures import COLOURS, figure, mean_band

    stored = results[arithmetic]
    nesting = [int(row) for row in stored.rows("gf_accuracy")]
    fig, panels = figure(6.6, 2.8, columns=len(nesting), sharey=True, squeeze=False)
    for row, (axes, operations) in enumerate(zip(panels[0], nesting, strict=True)):
        for name, label, colour in (("stacked", "stack", COLOURS.orange), ("gf", "gated feedback", COLOURS.blue)):
            digits = [int(column) for column in stored.columns(f"{name}_accuracy")]
            mean_band(axes, digits, stored[f"{name}_accuracy"][:, row], label=label, colour=colour, marker="o")
        axes.set(
            title=f"{operations} operation{'s' if operations > 1 else ''}",
            xlabel="digits",
            xticks=digits,
            ylim=(0, 1.05),
        )
    panels[0, 0].set(ylabel="accuracy")
    fig.legend(*panels[0, 0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return fig
