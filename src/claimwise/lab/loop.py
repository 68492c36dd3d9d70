"""The one loop: progress, log, checkpoint and resume for any iteration, and its gradient version.

:func:`loop` runs ``step(state, i)`` until a count or a condition. All that the next step depends on stands in `state`,
a tree of tensors, arrays, numbers, strings and objects with ``state_dict`` (modules, optimisers, generators): an
interrupted loop continues from its last checkpoint to the bit-identical result. :func:`fit` gives it a gradient step.

What stands here determines numbers: its code is part of every run's identity.
"""

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from claimwise.lab.state import restore

Step = Callable[[dict[str, Any], int], Mapping[str, float] | None]


class Journal(Protocol):
    """Where a loop keeps its checkpoints, log and progress."""

    due: float
    """The time (time.perf_counter) at which the loop should call :meth:`tick`."""

    def load(self, name: str) -> dict[str, Any] | None:
        """The last checkpoint of a loop."""

    def save(self, name: str, step: int, state: dict[str, Any], rng: dict[str, Any]) -> None:
        """Keep a checkpoint."""

    def tick(self, name: str, step: int, total: int | None) -> bool:
        """Show progress and set `due` anew; True when a checkpoint should be kept now."""

    def finished(self, name: str, step: int) -> bool:
        """Show that a loop ended; True when its end is worth a checkpoint."""

    def log(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        """Append to the log."""


def random_states() -> dict[str, Any]:
    """The global random states that a step may draw from (dropout; third-party code)."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(kind), np.asarray(keys), int(position), int(has_gauss), float(cached)],
        "python": _listed(random.getstate()),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (on every device), NumPy and Python."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def stream(seed: int, name: str) -> int:
    """The seed of a generator of its own, from the run's seed and a name."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7], "little")


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, tuple | list) else value


def set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys, position, has_gauss, cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def loop(
    state: dict[str, Any],
    step: Step,
    *,
    until: int | Callable[[dict[str, Any]], bool],
    journal: Journal,
    name: str = "loop",
) -> dict[str, Any]:
    """Run `step(state, i)` for i = 0, 1, ... `until` a count of steps, or until `until(state)` is true.

    Args:
        state: A dictionary holding everything that the next step depends on; updated in place.
        step: Changes `state`; returns scalars to log, or None.
        until: The number of steps, or a condition asked before every step.
        journal: Where checkpoints, log and progress go.
        name: The loop's name within its run.

    Returns:
        `state`, as the last step left it.

    Raises:
        TypeError: if `state` is no dictionary, or `until` neither a whole number nor a function.
    """
    if not isinstance(state, dict):
        raise TypeError(f"loop: state must be a dictionary of all that the next step depends on, got {state!r}")
    if isinstance(until, bool) or not (isinstance(until, int) or callable(until)):
        raise TypeError(f"loop: until must be a number of steps or a function of the state, got {until!r}")
    i = 0
    saved = journal.load(name)
    if saved is not None:
        state.update(restore(state, saved["state"]))
        set_random_states(saved["rng"])
        i = int(saved["step"])
    total = until if isinstance(until, int) else None
    while (i < until) if isinstance(until, int) else not until(state):
        scalars = step(state, i)
        i += 1
        if scalars:
            journal.log(name, i, scalars)
        if time.perf_counter() >= journal.due and journal.tick(name, i, total):
            journal.save(name, i, state, random_states())
    if journal.finished(name, i):
        journal.save(name, i, state, random_states())
    return state


class _Losses:
    """The losses of an epoch's steps so far, on their device until the epoch ends."""

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def append(self, loss: Tensor) -> None:
        self._steps.append(loss)

    def mean(self, shares: Sequence[float]) -> float:
        """The mean over the epoch's examples, by each step's share of them; forgets the steps."""
        steps = torch.stack(self._steps).to("cpu", torch.float64)
        self._steps.clear()
        return float(steps @ torch.tensor(shares, dtype=torch.float64))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": torch.stack(self._steps) if self._steps else torch.empty(0)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._steps[:] = saved["steps"].unbind()


def fit(
    model: nn.Module,
    objective: Callable[..., Tensor],
    data: Sequence[Tensor],
    *,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    journal: Journal,
    schedule: Callable[[torch.optim.Optimizer, int], None] | None = None,
    after_step: Callable[[int], None] | None = None,
    transform: Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]] | None = None,
    also: Mapping[str, Any] | None = None,
    backward: Callable[[Tensor], Any] = torch.Tensor.backward,
    run_model: Callable[..., Any] | None = None,
    share: tuple[int, int] = (0, 1),
    name: str = "fit",
) -> dict[str, list[float]]:
    """Minimise `objective(model, *batch)` over shuffled batches of `data`: gradient descent on :func:`loop`.

    Every epoch visits every example once, in an order drawn from `generator`; the last batch may be smaller.

    Args:
        model: Set to training mode on entry and to evaluation mode on return.
        objective: `objective(model, *batch)` gives a scalar, the mean over the batch.
        data: Tensors of one length, e.g. ``(x, y)``, on the model's device.
        optimizer: Over the model's parameters.
        epochs: Passes over the data.
        batch_size: Examples a step.
        generator: Draws the order of the examples and what `transform` needs.
        journal: Where checkpoints, log and progress go.
        schedule: `schedule(optimizer, step)` before each step, a function of the step alone.
        after_step: `after_step(step)` after each step, e.g. a constraint on the weights.
        transform: `transform(batch, generator)` changes a batch, e.g. random crops.
        also: Further state that `after_step` keeps, e.g. an average of the weights.
        backward: How the loss is differentiated.
        run_model: What is passed to `objective` where it is not `model` itself (a wrapped model).
        share: (rank, ranks): every batch is divided among that many processes whose gradients are averaged. A share's
            loss is weighted by its size, so that the average is the whole batch's gradient.
        name: The loop's name within its run.

    Returns:
        ``{"loss": [mean over each epoch]}``.

    Raises:
        ValueError: on empty data, tensors of different lengths, or epochs or batch_size below 1.
    """
    if not data or len({len(t) for t in data}) != 1 or len(data[0]) == 0:
        raise ValueError(f"fit: data must be non-empty tensors of one length, got lengths {[len(t) for t in data]}")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"fit: epochs and batch_size must be >= 1, got {epochs} and {batch_size}")
    n = len(data[0])
    rank, ranks = share
    device = data[0].device
    per_epoch = -(-n // batch_size)
    called = model if run_model is None else run_model
    losses = _Losses()
    state: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "generator": generator,
        "order": torch.empty(n, dtype=torch.long),
        "losses": losses,
        "history": [],
        "also": dict(also or {}),
    }
    parts: list[Tensor] = []  # this process's share of every batch of the epoch
    sizes: list[int] = []  # of the whole batches

    def step(state: dict[str, Any], i: int) -> Mapping[str, float] | None:
        # Below a millisecond a step every tensor operation counts: the order is divided once an epoch, losses are only
        # kept, and no name here holds the batch, so that its memory is free before the gradients are made.
        batch_index = i % per_epoch
        if batch_index == 0:
            state["order"] = torch.randperm(n, generator=generator)
        if batch_index == 0 or not parts:  # resumed within an epoch
            wholes = state["order"].to(device).split(batch_size)
            sizes[:] = [len(whole) for whole in wholes]
            parts[:] = wholes if ranks == 1 else [whole[rank::ranks] for whole in wholes]
        index = parts[batch_index]
        weight = 1.0
        if ranks > 1:
            weight = len(index) * ranks / sizes[batch_index]
            if weight == 0:  # fewer examples than processes: every process takes part, this one without effect
                index = state["order"][:1].to(device)
        if schedule is not None:
            schedule(optimizer, i)
        optimizer.zero_grad(set_to_none=True)
        if transform is None:
            loss = objective(called, *[t.index_select(0, index) for t in data])
        else:
            loss = objective(called, *transform(tuple(t.index_select(0, index) for t in data), generator))
        backward(loss if weight == 1 else loss * weight)
        losses.append(loss.detach())
        del loss
        optimizer.step()
        if after_step is not None:
            after_step(i)
        if batch_index + 1 < per_epoch:
            return None
        mean = losses.mean([len(part) * ranks / n for part in parts])
        state["history"].append(mean)
        return {"epoch": (i + 1) // per_epoch, "loss": mean}

    model.train()
    loop(state, step, until=epochs * per_epoch, journal=journal, name=name)
    model.eval()
    return {"loss": list(state["history"])}
