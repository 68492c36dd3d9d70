"""The one loop: what it computes, and that it continues where its journal says."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from claimwise.lab import loop as loops
from claimwise.lab.loop import fit, loop, random_states, seed_everything, set_random_states, stream
from claimwise.lab.state import load_state, save_state


class Memory:
    """A journal that keeps every checkpoint in files of a folder, and may stop the loop at a step."""

    def __init__(self, folder, stop_at=None, every=1):
        self.folder, self.stop_at, self.every = folder, stop_at, every
        self.due = 0.0
        self.logged, self.ticks, self.ended = [], [], []

    def load(self, name):
        path = self.folder / f"{name}.safetensors"
        return load_state(path) if path.exists() else None

    def save(self, name, step, state, rng):
        save_state(self.folder / f"{name}.safetensors", {"step": step, "state": state, "rng": rng})
        if step == self.stop_at:
            raise KeyboardInterrupt

    def tick(self, name, step, total):
        self.ticks.append((name, step, total))
        return step % self.every == 0

    def finished(self, name, step):
        self.ended.append((name, step))
        return True

    def log(self, name, step, scalars):
        self.logged.append((name, step, dict(scalars)))


class Nothing(Memory):
    """A journal that keeps nothing."""

    def __init__(self):
        super().__init__(None)
        self.due = float("inf")

    def load(self, name):
        return None

    def finished(self, name, step):
        return False


# loop ----------------------------------------------------------------------------------------------------------------


def test_a_loop_counts_or_asks():
    seen = []

    def step(state, i):
        seen.append(i)
        state["n"] = i + 1

    state = {"n": 0}
    assert loop(state, step, until=3, journal=Nothing()) is state
    assert state == {"n": 3}
    assert seen == [0, 1, 2]
    loop({"n": 0}, step, until=0, journal=Nothing())
    assert len(seen) == 3
    loop(state, step, until=lambda state: state["n"] >= 2, journal=Nothing())
    assert len(seen) == 3, "the condition is asked before the first step"


@pytest.mark.parametrize("until", [2.5, "3", None, True, np.float64(3)])
def test_until_is_a_count_or_a_condition(until):
    with pytest.raises(TypeError, match="until must be a number of steps or a function of the state, got"):
        loop({}, lambda state, i: None, until=until, journal=Nothing())


@pytest.mark.parametrize("state", [None, [1], torch.ones(2), nn.Linear(1, 1)])
def test_the_state_is_a_dictionary(state):
    """Anything else would only fail when it is resumed."""
    with pytest.raises(TypeError, match="state must be a dictionary of all that the next step depends on"):
        loop(state, lambda state, i: None, until=1, journal=Nothing())


def test_what_a_step_returns_is_logged_under_its_number(tmp_path):
    journal = Memory(tmp_path)
    loop({}, lambda state, i: {"loss": i / 2} if i % 2 else None, until=4, journal=journal, name="em")
    assert journal.logged == [("em", 2, {"loss": 0.5}), ("em", 4, {"loss": 1.5})]
    assert journal.ticks == [("em", i, 4) for i in (1, 2, 3, 4)]
    assert journal.ended == [("em", 4)]
    loop({"n": 3}, lambda state, i: state.update(n=0), until=lambda s: not s["n"], journal=journal, name="other")
    assert journal.ticks[-1] == ("other", 1, None)


def everything_random(state, i):
    state["drawn"].append(
        torch.rand(()).item()
        + np.random.rand()
        + random.random()
        + random.gauss(0, 1)
        + np.random.randn()
        + state["generator"].normal()
        + torch.rand((), generator=state["torch"]).item()
    )
    state["weights"].add_(torch.randn(3))
    state["optimizer"].zero_grad()
    state["model"](state["weights"]).square().backward()
    state["optimizer"].step()
    state["tree"]["text"] += "x"
    state["tree"]["array"] *= 1.1
    state["tree"]["pair"] = (i, state["tree"]["pair"])


def a_state():
    seed_everything(5)
    model = nn.Linear(3, 1)
    return {
        "drawn": [],
        "generator": np.random.default_rng(1),
        "torch": torch.Generator().manual_seed(2),
        "weights": torch.zeros(3),
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "tree": {"text": "", "array": np.ones(2), "pair": None},
    }


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_loop_continues_where_its_checkpoint_stands(tmp_path, stop):
    whole = loop(a_state(), everything_random, until=7, journal=Nothing())
    with pytest.raises(KeyboardInterrupt):
        loop(a_state(), everything_random, until=7, journal=Memory(tmp_path, stop_at=stop, every=stop))
    state = a_state()
    inside = {"model": state["model"], "weights": state["weights"], "array": state["tree"]["array"]}
    torch.rand(100), np.random.rand(3), random.random()  # what a new process drew meanwhile
    seen = []

    def counted(state, i):
        seen.append(i)
        everything_random(state, i)

    resumed = loop(state, counted, until=7, journal=Memory(tmp_path))
    assert seen == list(range(stop, 7))
    assert resumed is state
    assert resumed["drawn"] == whole["drawn"]
    assert torch.equal(resumed["weights"], whole["weights"])
    for name, value in whole["model"].state_dict().items():
        assert torch.equal(resumed["model"].state_dict()[name], value)
    assert resumed["tree"]["text"] == "x" * 7
    assert resumed["tree"]["pair"] == whole["tree"]["pair"]
    assert resumed["tree"]["array"].tobytes() == whole["tree"]["array"].tobytes()
    assert resumed["model"] is inside["model"], "what the experiment holds must be what is resumed"
    assert resumed["weights"] is inside["weights"]
    assert resumed["tree"]["array"] is inside["array"]


def test_after_a_finished_loop_draws_go_on_as_after_its_last_step(tmp_path):
    loop(a_state(), everything_random, until=3, journal=Memory(tmp_path))
    after = torch.rand(()).item(), np.random.rand(), random.random()
    state = a_state()
    loop(state, everything_random, until=3, journal=Memory(tmp_path))
    assert (torch.rand(()).item(), np.random.rand(), random.random()) == after


def test_random_states_come_back():
    seed_everything(3)
    random.gauss(0, 1), np.random.randn()  # both keep a second number for the next call
    states = random_states()
    draws = [random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist(), random.random()]
    seed_everything(4)
    set_random_states(states)
    assert [random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist(), random.random()] == draws


def test_streams_have_their_seed_from_both_seed_and_name():
    streams = {stream(seed, name) for seed in range(20) for name in ("a", "b", "1:a", "")}
    assert len(streams) == 80
    assert all(0 <= s < 2**63 for s in streams)
    assert stream(0, "a") == stream(0, "a")


# fit -----------------------------------------------------------------------------------------------------------------


def bare(model, x, y, epochs, batch_size, generator, lr=0.1):
    """The slow twin: a plain loop over shuffled batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    history = []
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        total = 0.0
        for start in range(0, len(x), batch_size):
            index = order[start : start + batch_size]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[index]), y[index])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index) / len(x)
        history.append(total)
    return history


def problem():
    torch.manual_seed(0)
    x = torch.randn(23, 4)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), x, torch.randint(3, (23,))


def entropy(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_fit_is_the_bare_loop(batch_size):
    model, x, y = problem()
    twin = copy.deepcopy(model)
    history = fit(
        model,
        entropy,
        (x, y),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        epochs=3,
        batch_size=batch_size,
        generator=torch.Generator().manual_seed(1),
        journal=Nothing(),
    )
    wanted = bare(twin, x, y, 3, batch_size, torch.Generator().manual_seed(1))
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    assert history["loss"] == pytest.approx(wanted, rel=1e-5)


def test_every_epoch_sees_every_example_once_in_another_order():
    seen = []

    def objective(model, x):
        assert model.training
        seen.append(x.flatten().tolist())
        return model(x).mean()

    model = nn.Linear(1, 1)
    model.eval()
    fit(
        model,
        objective,
        (torch.arange(10.0)[:, None],),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        epochs=2,
        batch_size=4,
        generator=torch.Generator().manual_seed(0),
        journal=Nothing(),
    )
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    first, second = ([x for batch in batches for x in batch] for batches in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert not model.training


def test_hooks_are_called_with_the_step(tmp_path):
    model, x, y = problem()
    calls = []
    journal = Memory(tmp_path)

    def schedule(optimizer, step):
        calls.append(("before", step, optimizer.param_groups[0]["lr"]))
        optimizer.param_groups[0]["lr"] = 0.5**step

    def transform(batch, generator):
        x, y = batch
        return x + torch.rand((), generator=generator), y

    fit(
        model,
        entropy,
        (x, y),
        optimizer=torch.optim.SGD(model.parameters(), lr=9.0),
        epochs=2,
        batch_size=12,
        generator=torch.Generator().manual_seed(0),
        journal=journal,
        schedule=schedule,
        after_step=lambda step: calls.append(("after", step)),
        transform=transform,
    )
    assert [call[:2] for call in calls] == [(when, step) for step in range(4) for when in ("before", "after")]
    assert [call[2] for call in calls[::2]] == [9.0, 1.0, 0.5, 0.25]
    assert [(name, step, sorted(values)) for name, step, values in journal.logged] == [
        ("fit", 2, ["epoch", "loss"]),
        ("fit", 4, ["epoch", "loss"]),
    ]


@pytest.mark.parametrize("stop", range(1, 9))
def test_fit_resumes_at_any_step(tmp_path, stop):
    """In the middle of an epoch, too: order, momentum, dropout, batch statistics, the sum of losses, further state."""

    def run(journal):
        seed_everything(0)
        x, y = torch.randn(23, 4), torch.randint(3, (23,))
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))
        average = [parameter.detach().clone() for parameter in model.parameters()]

        def follow(step):
            for mean, parameter in zip(average, model.parameters(), strict=True):
                mean.lerp_(parameter.detach(), 0.1)

        history = fit(
            model,
            entropy,
            (x, y),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            epochs=2,
            batch_size=6,
            generator=torch.Generator().manual_seed(1),
            journal=journal,
            transform=lambda batch, generator: (batch[0] + torch.rand((), generator=generator), batch[1]),
            after_step=follow,
            also={"average": average},
        )
        return history, [p.tolist() for p in model.state_dict().values()], [a.tolist() for a in average]

    whole = run(Nothing())
    with pytest.raises(KeyboardInterrupt):
        run(Memory(tmp_path, stop_at=stop))
    assert run(Memory(tmp_path)) == whole


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": ()}, r"non-empty tensors of one length, got lengths \[\]"),
        ({"data": (torch.ones(3, 1), torch.ones(4))}, r"got lengths \[3, 4\]"),
        ({"data": (torch.ones(0, 1),)}, r"got lengths \[0\]"),
        ({"epochs": 0}, "must be >= 1, got 0 and 2"),
        ({"batch_size": 0}, "must be >= 1, got 1 and 0"),
    ],
)
def test_fit_refuses_what_makes_no_sense(changed, said):
    model = nn.Linear(1, 1)
    arguments = {
        "data": (torch.ones(3, 1),),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "epochs": 1,
        "batch_size": 2,
        "generator": torch.Generator(),
        "journal": Nothing(),
    }
    with pytest.raises(ValueError, match=said):
        fit(model, lambda m, x: m(x).mean(), **{**arguments, **changed})


def test_a_journal_is_asked_for_time_only_when_it_is_due(monkeypatch):
    """A tick costs more than a small step."""
    clock = [0.0]

    def now():
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr(loops.time, "perf_counter", now)

    class Seldom(Nothing):
        due = 0.0

        def tick(self, name, step, total):
            self.due = clock[0] + 10
            return super().tick(name, step, total) and False

    journal = Seldom()
    journal.due = 0.0
    loop({}, lambda state, i: None, until=100, journal=journal)
    assert len(journal.ticks) == pytest.approx(10, abs=1)
