"""Runs: what they are called, that they resume to the same bits after any kill, and that nothing stale is reused."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
import torch
from torch import nn

from claimwise.data import Dataset, MissingDataError
from claimwise.lab import Exact, Paper, Plan
from claimwise.lab import run as runs
from claimwise.lab.run import ExperimentBroke, FinishedRun, Hardware, Workspace, base_identity, execute, find
from claimwise.lab.storage import read_lines
from claimwise.papers import load

STEPS = '''
import random

from torch import nn

shared = Collection("{shared}")


def tick():
    """A step: the tests count them, and kill at one of them."""


@shared.experiment(quick=Plan(Setup(), seeds=2))
def base(run, setup):
    torch.rand(5), np.random.rand(5), random.random()  # draws from the generators that its caller uses, too
    weights = torch.randn(4, generator=run.generator("weights"))

    def step(state, i):
        tick()
        state["w"] += torch.rand(4)
        return {{"sum": float(state["w"].sum())}}

    run.loop({{"w": weights}}, step, until=4)
    run.save("weights", weights)
    return {{"norm": float(weights.norm())}}


@paper.experiment(quick=Plan(Setup(), seeds=2))
def everything(run, setup):
    """Dropout, momentum, augmentation, running averages, a loop with a fit inside, a shared run."""
    w = run.needs(base, Setup()).load("weights")
    x = torch.randn(30, 4)
    y = (x @ w > 0).long()
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
    noise, numbers = run.generator("noise"), run.rng("numbers")
    average = {{name: value.detach().clone() for name, value in model.named_parameters()}}

    def objective(model, x, y):
        tick()
        return nn.functional.cross_entropy(model(x + 0.1 * torch.randn(x.shape, generator=noise)), y)

    def augment(batch, generator):
        x, y = batch
        return x + 0.1 * torch.randn(x.shape, generator=generator), y

    def follow(step):
        for name, value in model.named_parameters():
            average[name].lerp_(value.detach(), 0.2)

    def slower(optimizer, step):
        optimizer.param_groups[0]["lr"] = 0.2 / (1 + step)

    first = run.fit(
        model, objective, (x, y), optimizer=torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9), epochs=3,
        batch_size=7, schedule=slower, after_step=follow, transform=augment, also={{"average": average}},
    )
    between = torch.rand(()).item() + random.random() + np.random.rand()

    def step(state, i):
        tick()
        state["mean"] += numbers.normal(size=3) * random.random()
        inner = nn.Linear(4, 1)
        fitted = run.fit(
            inner, lambda m, x: (m(x) - x.sum(1, keepdim=True)).square().mean(), (x[:8],),
            optimizer=torch.optim.SGD(inner.parameters(), lr=0.01), epochs=2, batch_size=4,
        )
        state["losses"].append(fitted["loss"][-1])
        return {{"mean": float(state["mean"].sum()), "nothing": float("nan")}} if i % 2 else None

    em = {{"mean": np.zeros(3), "losses": []}}
    state = run.loop(em, step, until=lambda state: len(state["losses"]) == 5, name="em")
    second = run.fit(
        model, objective, (x, y), optimizer=torch.optim.Adam(model.parameters()), epochs=2, batch_size=10, name="fine",
    )
    run.save("model", model)
    return {{
        "first": Curve([0, 1, 2], first["loss"]),
        "second": Curve([0, 1], second["loss"]),
        "em": PerDraw(state["losses"]),
        "mean": float(state["mean"].sum()),
        "between": between,
        "average": float(sum(value.sum() for value in average.values())),
        "weights": Matrix(model[0].weight.detach(), list("abcdef"), list("wxyz")),
        "after": torch.rand(()).item() + numbers.normal() + torch.rand((), generator=noise).item(),
    }}
'''

DRIVER = """
import importlib, json, os, resource, signal, sys, time
from pathlib import Path
import torch._dynamo  # which torch's optimisers import, in every child otherwise
from claimwise.lab.run import Hardware, Workspace, execute, environment

environment(Hardware())
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])


def events(die_at):
    '''Counts steps and writes; kills the process at one of them.'''
    seen = 0

    def count():
        nonlocal seen
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    for name in ("write", "replace", "fsync"):
        def counting(*arguments, real=getattr(os, name)):
            count()
            if real is write and die_at == seen + 1:  # half of it, then the end
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                count()
            return real(*arguments)
        setattr(os, name, counting)
    module.tick = count
    return lambda: seen


write = os.write
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        seen = events(job.get("die_at", 0))
        if "limit" in job:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
        status, said = 0, ""
        try:
            workspace = Workspace(Path(job["runs"]), checkpoint_seconds=job.get("every", 0.0))
            execute(getattr(module, job["experiment"]), module.Setup(), job.get("seed", 0), workspace, Hardware())
        except Exception as error:
            status, said = 1, f"{type(error).__name__}: {error}"
        write(1, json.dumps({"events": seen(), "said": said}).encode() + b"\\n")
        os._exit(status)
    write(1, json.dumps({"child": child}).encode() + b"\\n")
    if not job.get("beside"):
        write(1, json.dumps({"status": os.waitpid(child, 0)[1]}).encode() + b"\\n")
"""


class Zygote:
    """A process that has imported torch, and forks a child for each run: kills cost no second import."""

    def __init__(self, folder: Path, module: str) -> None:
        program = [sys.executable, "-c", DRIVER, str(folder), module]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.answers: list[dict[str, Any]] = []

    def start(self, runs: Path, **job: Any) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"runs": str(runs), "experiment": "everything", **job}) + "\n")
        self.process.stdin.flush()
        return self._read("child")

    def _read(self, key: str) -> Any:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            answer = json.loads(line)
            if "events" in answer:
                self.answers.append(answer)
            if key in answer:
                return answer[key]
        raise AssertionError("the driver died")

    def run(self, runs: Path, **job: Any) -> int:
        """Wait status: 0 finished, 256 an error, 9 killed."""
        self.answers.clear()
        self.start(runs, **job)
        return self._read("status")


def content(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on interruptions."""
    result = json.loads((folder / "measurements.json").read_text())
    kept = {"identity": result["identity"], "measurements": result["measurements"]}
    for path in [folder / "arrays.npz", folder / "log.jsonl", *sorted((folder / "artefacts").glob("*"))]:
        kept[path.name] = path.read_bytes() if path.exists() else b""
    return kept


def everything(root: Path) -> dict[str, Any]:
    found = {}
    for folder in sorted(root.glob("*/*/seed*")):
        found[f"{folder.parent.name}/{folder.name}"] = content(folder)
        assert not list(folder.rglob(".writing-*"))
    assert len(found) == 2
    return found


@pytest.fixture(scope="module")
def killable(
    tmp_path_factory: pytest.TempPathFactory, write_paper: Callable[..., Path]
) -> Iterator[tuple[Zygote, dict[str, Any], int]]:
    """A driver, the uninterrupted result (in a single checkpoint-free session), and how many events a whole run has."""
    folder = tmp_path_factory.mktemp("killable")
    module = write_paper(folder, STEPS.format(shared="shared_of_killable"), "killable")
    zygote = Zygote(folder, module.stem)
    assert zygote.run(folder / "whole", every=1e9) == 0
    assert zygote.run(folder / "counted") == 0
    count = zygote.answers[-1]["events"]
    whole = everything(folder / "whole")
    assert everything(folder / "counted") == whole, "checkpoints must not change a number"
    yield zygote, whole, count
    assert zygote.process.stdin is not None
    zygote.process.stdin.close()
    zygote.process.wait(timeout=20)


# kills ---------------------------------------------------------------------------------------------------------------


def kill_and_resume(zygote: Zygote, root: Path, deaths: list[int]) -> None:
    for die_at in deaths:
        status = zygote.run(root, die_at=die_at)
        assert status in (0, signal.SIGKILL)
        if status == 0:
            return
    assert zygote.run(root) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_any_event_resumes_to_the_same_bits(killable, tmp_path, seed):
    """Steps of training and halves of writes alike; several deaths before the end."""
    zygote, whole, count = killable
    deaths = random.Random(seed).choices(range(1, count), k=4)
    kill_and_resume(zygote, tmp_path, deaths)
    assert everything(tmp_path) == whole


@pytest.mark.long
def test_a_run_killed_at_every_fifth_of_its_events_resumes_to_the_same_bits(killable, tmp_path):
    zygote, whole, count = killable
    for die_at in range(1, count + 1, 5):
        root = tmp_path / str(die_at)
        kill_and_resume(zygote, root, [die_at])
        assert everything(root) == whole, die_at
        shutil.rmtree(root)


@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_at_any_time_resumes_to_the_same_bits(killable, tmp_path, seed):
    zygote, whole, _ = killable
    chance = random.Random(seed)
    started = time.perf_counter()
    assert zygote.run(tmp_path / "timing", every=0.01) == 0
    usual = time.perf_counter() - started
    root, killed = tmp_path / "killed", 0
    for _ in range(3):
        child = zygote.start(root, every=0.01)
        time.sleep(chance.uniform(0, 0.7) * usual)
        with contextlib.suppress(ProcessLookupError):  # it was faster than usual
            os.kill(child, signal.SIGKILL)
            killed += 1
        zygote._read("status")
    assert killed
    assert zygote.run(root, every=0.01) == 0
    assert everything(root) == whole


def test_a_resumed_run_does_not_start_anew(killable, tmp_path):
    zygote, _, count = killable
    assert zygote.run(tmp_path, die_at=count - 20) == signal.SIGKILL
    assert zygote.run(tmp_path) == 0
    assert zygote.answers[-1]["events"] < count / 2


def test_a_run_tells_the_time_of_all_its_sessions_and_leaves_no_checkpoints(tmp_path):
    tired = Paper("tired")
    deaths = [3]

    @tired.experiment(quick=Plan(Setup()))
    def net(run, setup):
        def step(state, i):
            if i in deaths:
                deaths.clear()
                raise KeyboardInterrupt
            time.sleep(0.2)

        run.loop({"x": torch.zeros(1)}, step, until=5)
        return {"x": 1.0}

    space = Workspace(tmp_path, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        execute(net, Setup(), 0, space)
    (kept,) = tmp_path.rglob("checkpoints/*")
    started = time.perf_counter()
    finished = execute(net, Setup(), 0, space)
    assert time.perf_counter() - started >= 0.4
    assert 1.0 <= finished.seconds < 1.0 + time.perf_counter() - started
    assert not kept.exists()


# several processes ---------------------------------------------------------------------------------------------------


def test_two_processes_on_one_run_compute_it_once(killable, tmp_path):
    zygote, whole, count = killable
    zygote.answers.clear()
    for _ in range(2):
        zygote.start(tmp_path, beside=True)
    while len(zygote.answers) < 2:
        zygote._read("events")
    assert everything(tmp_path) == whole
    # Looking for the lock and reading the result are events too, and more of them the longer it waits.
    assert sum(answer["events"] for answer in zygote.answers) < 1.6 * count, "the second must take the first's result"


def test_who_waits_for_a_killed_process_takes_over(killable, tmp_path):
    zygote, whole, count = killable
    first = zygote.start(tmp_path, beside=True, die_at=count // 2)
    assert first > 0
    assert zygote.run(tmp_path) == 0
    assert everything(tmp_path) == whole


# a full disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_clear_error_and_leaves_the_earlier_state_whole(killable, tmp_path):
    zygote, whole, count = killable
    assert zygote.run(tmp_path, die_at=count // 2) == signal.SIGKILL
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert before
    assert zygote.run(tmp_path, limit=3000) == 256
    said = zygote.answers[-1]["said"]
    assert said.startswith("ExperimentBroke: killable.")
    assert re.search(
        r"DiskFull: .*needs .*free on this disk; the earlier state is kept\. Make room and start again", said
    )
    assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in tmp_path.rglob("measurements.json") if path.parent.parent.name == "everything"]
    assert zygote.run(tmp_path) == 0
    assert everything(tmp_path) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_really_full(killable, small_disk):
    zygote, whole, _ = killable
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    assert zygote.run(small_disk) == 256
    assert "DiskFull" in zygote.answers[-1]["said"]
    ballast.unlink()
    assert zygote.run(small_disk) == 0
    assert everything(small_disk) == whole


# what a run is called ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """Settings."""

    size: float = 1.0
    layers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Other(Setup):
    """The same fields under another name."""


paper = Paper("trial")


@paper.experiment(quick=Plan(Setup(), seeds=2))
def net(run, setup):
    return {"draw": torch.rand(()).item(), "size": setup.size}


@paper.experiment(quick=Plan(Setup(), seeds=2))
def twin(run, setup):
    return {"draw": torch.rand(()).item(), "size": setup.size}


def called(experiment=net, setup=None, seed=0, hardware=None):
    return base_identity(experiment, setup or Setup(), seed, hardware or Hardware())


def test_everything_that_determines_numbers_is_in_the_identity(monkeypatch):
    plain = called()
    others = [
        called(twin),
        called(setup=Setup(2.0)),
        called(setup=Setup(layers=(1, 3))),
        called(setup=Other()),
        called(seed=1),
        called(hardware=Hardware(threads=2)),
        called(hardware=Hardware(precision="bf16-mixed")),
    ]
    monkeypatch.setattr(torch, "__version__", "9.9")
    others.append(called())
    monkeypatch.undo()
    monkeypatch.setattr(np, "__version__", "9.9")
    others.append(called())
    monkeypatch.undo()
    monkeypatch.setattr(runs, "code_digest", lambda function, roots: "edited")
    others.append(called())
    monkeypatch.undo()
    torch.set_default_dtype(torch.float64)
    others.append(called())
    torch.set_default_dtype(torch.float32)
    texts = [json.dumps(identity, sort_keys=True) for identity in (plain, *others)]
    assert len(set(texts)) == len(texts)
    assert called() == plain


def test_a_setup_says_its_threads(tmp_path):
    wide = Paper("wide")

    @dataclass(frozen=True)
    class Wide:
        threads: int = 2

    @wide.experiment(quick=Plan(Wide()))
    def net(run, setup):
        return {"threads": Exact(torch.get_num_threads())}

    finished = execute(net, Wide(), 0, Workspace(tmp_path))
    assert finished.measurements["threads"].value == 2
    assert json.loads((finished.folder / "config.json").read_text())["identity"]["threads"] == 2
    assert find(net, Wide(), 0, Workspace(tmp_path), Hardware()) is not None
    with pytest.raises(ValueError, match=r"Wide\.threads must be a whole number >= 1, got 0"):
        Plan(Wide(threads=0))


def test_a_shared_run_has_the_threads_of_its_own_setup(tmp_path):
    """Whoever asks for it, it is one run."""
    wide = Paper("wide")

    @dataclass(frozen=True)
    class Plain:
        size: int = 1

    @dataclass(frozen=True)
    class Wide:
        threads: int = 2

    @wide.experiment(quick=Plan(Plain()))
    def source(run, setup):
        return {"threads": Exact(torch.get_num_threads())}

    @wide.experiment(quick=Plan(Wide()))
    def net(run, setup):
        return {"shared": run.needs(source, Plain()).measurements["threads"], "own": Exact(torch.get_num_threads())}

    workspace = Workspace(tmp_path)
    measured = execute(net, Wide(), 0, workspace).measurements
    assert (measured["shared"].value, measured["own"].value) == (1, 2)
    assert find(source, Plain(), 0, workspace, Hardware()) is not None


def test_nothing_else_is_in_the_identity():
    assert set(called()) == {
        "experiment",
        "setup",
        "seed",
        "device",
        "precision",
        "dtype",
        "threads",
        "torch",
        "numpy",
        "code",
    }
    assert called(hardware=Hardware("cpu:0")) == called(hardware=Hardware("cpu"))


EDITS = """
    def helper():
        return {number}

    @paper.experiment(quick=Plan(Setup(), seeds={seeds}))
    def net(run, setup):
        {comment}
        with open(r"{computed}", "a") as file:
            file.write("x")
        return {{"value": float(helper())}}

    paper.claim("c", sheet="1", says="{says}", where="x", holds=net["value"] > {threshold}, because="y",
                fidelity={{"quick": STAND_IN}})
"""


def test_edits_of_claims_and_comments_train_nothing_again_and_edits_of_code_do(tmp_path, write_paper):
    computed, space = tmp_path / "computed", Workspace(tmp_path / "runs")
    plain = {"number": 1, "seeds": 2, "comment": "# a", "computed": computed, "says": "s", "threshold": 0}

    def value(**edits):
        sys.modules.pop("edited", None)
        path = write_paper(tmp_path, EDITS.format(**{**plain, **edits}), "edited")
        found = load(str(path)).experiments["net"]
        return execute(found, found.plans["quick"].setup, 0, space).measurements["value"].value

    assert value() == 1
    for edits in ({"seeds": 7}, {"comment": '"""Now documented."""  # b'}, {"says": "more"}, {"threshold": 5}):
        assert value(**edits) == 1
    assert computed.read_text() == "x"
    assert value(number=2) == 2
    assert computed.read_text() == "xx"
    assert value() == 1
    assert computed.read_text() == "xx", "the run of the earlier code is kept"


# reuse ---------------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_reused(tmp_path):
    space = Workspace(tmp_path)
    assert find(net, Setup(), 0, space, Hardware()) is None
    first = execute(net, Setup(), 0, space)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = execute(net, Setup(), 0, space)
    assert again == first
    assert find(net, Setup(), 0, space, Hardware()) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == stamps
    assert execute(net, Setup(), 1, space).folder != first.folder
    assert {path.name for path in first.folder.iterdir()} == {
        "config.json",
        "environment.json",
        "inputs.json",
        "measurements.json",
    }
    config = json.loads((first.folder / "config.json").read_text())
    assert config["identity"] == called()
    assert first.setup == {"class": "Setup", "size": 1.0, "layers": [1, 2]}


def numbers(content):
    def give(name, **how):
        return Dataset(name, {"train": {"x": np.array(content, dtype=np.float32)}})

    return give


@paper.experiment(quick=Plan(Setup()))
def reader(run, setup):
    return {"sum": float(run.data("numbers")["train"]["x"].sum())}


def test_other_data_is_another_run_and_the_old_one_is_kept(tmp_path, monkeypatch):
    space = Workspace(tmp_path)
    folders = []
    for content, wanted in [([1, 2], 3), ([1, 3], 4), ([5], 5), ([1, 2], 3), ([1, 3], 4)]:
        monkeypatch.setattr(runs, "load_data", numbers(content))
        assert find(reader, Setup(), 0, space, Hardware()) is None or wanted in (3, 4)
        run = execute(reader, Setup(), 0, space)
        assert run.measurements["sum"].value == wanted
        assert run.inputs["data"]["numbers"]["content_hash"] == numbers(content)("numbers").content_hash
        folders.append(run.folder)
    assert len({*folders[:3]}) == 3
    assert folders[3:] == folders[:2]
    assert len({json.loads((f / "measurements.json").read_text())["identity"] for f in folders}) == 3


def test_a_folder_that_was_deleted_among_several_is_not_taken_for_another(tmp_path, monkeypatch):
    space = Workspace(tmp_path)
    folders = []
    for content in ([1], [2], [3]):
        monkeypatch.setattr(runs, "load_data", numbers(content))
        folders.append(execute(reader, Setup(), 0, space).folder)
    shutil.rmtree(folders[1])
    kept = (folders[2] / "measurements.json").read_bytes(), (folders[2] / "inputs.json").read_bytes()
    monkeypatch.setattr(runs, "load_data", numbers([4]))
    assert execute(reader, Setup(), 0, space).measurements["sum"].value == 4
    assert ((folders[2] / "measurements.json").read_bytes(), (folders[2] / "inputs.json").read_bytes()) == kept
    monkeypatch.setattr(runs, "load_data", numbers([3]))
    assert execute(reader, Setup(), 0, space).folder == folders[2]


def test_data_that_is_gone_makes_no_run_current(tmp_path, monkeypatch):
    space = Workspace(tmp_path)
    monkeypatch.setattr(runs, "load_data", numbers([1]))
    kept = execute(reader, Setup(), 0, space)

    def gone(name, **how):
        raise MissingDataError("numbers: put numbers.npz there")

    monkeypatch.setattr(runs, "load_data", gone)
    assert find(reader, Setup(), 0, space, Hardware()) is None
    for _ in range(2):
        with pytest.raises(ExperimentBroke, match=r"trial\.reader, seed 0: .*put numbers\.npz there"):
            execute(reader, Setup(), 0, space)
    monkeypatch.setattr(runs, "load_data", numbers([1]))
    assert execute(reader, Setup(), 0, space).folder == kept.folder


@paper.experiment(quick=Plan(Setup()))
def interrupted(run, setup):
    total = float(run.data("numbers")["train"]["x"].sum())

    def step(state, i):
        if i == 3 and STOP:
            raise KeyboardInterrupt
        state["sum"] += total
        return

    return {"sum": run.loop({"sum": 0.0}, step, until=5)["sum"]}


STOP: list[int] = []


def test_an_interrupted_run_is_not_resumed_on_other_data(tmp_path, monkeypatch):
    space = Workspace(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.setattr(runs, "load_data", numbers([1]))
    STOP.append(1)
    with pytest.raises(KeyboardInterrupt):
        execute(interrupted, Setup(), 0, space)
    STOP.clear()
    monkeypatch.setattr(runs, "load_data", numbers([10]))
    assert execute(interrupted, Setup(), 0, space).measurements["sum"].value == 50
    monkeypatch.setattr(runs, "load_data", numbers([1]))
    assert execute(interrupted, Setup(), 0, space).measurements["sum"].value == 5
    assert len(list((tmp_path / "trial" / "interrupted").glob("seed*"))) == 2


@paper.experiment(quick=Plan(Setup()))
def reads_twice(run, setup):
    first = float(run.data("numbers")["train"]["x"].sum())
    if STOP and STOP[0] == 1:
        raise KeyboardInterrupt
    second = float(run.data("others")["train"]["x"].sum())

    def step(state, i):
        if STOP:
            raise KeyboardInterrupt
        state["sum"] += first + second

    run.loop({"sum": 0.0}, lambda state, i: state.update(sum=second), until=1, name="kept")
    return {"sum": run.loop({"sum": 0.0}, step, until=1)["sum"]}


def test_a_resumed_run_remembers_all_that_its_checkpoints_stand_on(tmp_path, monkeypatch):
    """Killed again before it reads the second data set anew, it must still know that it had read it."""
    space = Workspace(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.setattr(runs, "load_data", numbers([1]))
    for stop in (2, 1):
        STOP[:] = [stop]
        with pytest.raises(KeyboardInterrupt):
            execute(reads_twice, Setup(), 0, space)
    STOP.clear()
    (folder,) = (tmp_path / "trial" / "reads_twice").glob("seed*")
    assert set(json.loads((folder / "inputs.json").read_text())["data"]) == {"numbers", "others"}


# shared runs ---------------------------------------------------------------------------------------------------------

SHARED = """
    base_collection = Collection("{key}_shared")

    def scale():
        return {scale}

    @base_collection.experiment(quick=Plan(Setup()))
    def base(run, setup):
        torch.rand(100), np.random.rand(100)
        run.save("weights", torch.full((2,), float(run.seed)))
        return {{"value": scale() * setup.size}}

    @paper.experiment(quick=Plan(Setup()))
    def net(run, setup):
        before = torch.rand(()).item()
        shared = run.needs(base_collection.experiments["ba" + "se"], Setup(3.0))  # not to be followed by name
        return {{"value": shared.measurements["value"].value, "weights": float(shared.load("weights").sum()),
                "draws": before + torch.rand(()).item() + np.random.rand()}}

    @paper.experiment(quick=Plan(Setup()))
    def alone(run, setup):
        return {{"draws": torch.rand(()).item() + torch.rand(()).item() + np.random.rand()}}

    @paper.experiment(quick=Plan(Setup()))
    def circle(run, setup):
        return {{"value": run.needs(circle, setup).measurements["value"].value}}

    @paper.experiment(quick=Plan(Setup()))
    def careless(run, setup):
        return {{"value": run.needs(*{arguments}).measurements["value"].value}}
"""


@pytest.fixture
def shared(tmp_path, written_paper):
    def write(scale=1, arguments="(3, setup)"):
        sys.modules.pop("with_shared", None)
        path = written_paper(SHARED.format(key="with_shared", scale=scale, arguments=arguments), "with_shared")
        return load(str(path)), sys.modules["with_shared"]

    return write


def test_a_shared_run_is_that_of_the_same_seed_and_disturbs_no_draw(tmp_path, shared):
    paper, module = shared()
    own, setup = paper.experiments, module.Setup()
    fresh = execute(own["net"], setup, 2, Workspace(tmp_path / "fresh"))
    there = Workspace(tmp_path / "there")
    execute(module.base, module.Setup(3.0), 2, there)
    cached = execute(own["net"], setup, 2, there)
    alone = execute(own["alone"], setup, 2, there)
    assert fresh.measurements == cached.measurements
    assert fresh.identity == cached.identity
    assert fresh.measurements["draws"] == alone.measurements["draws"]
    assert fresh.measurements["value"].value == 3
    assert fresh.measurements["weights"].value == 4
    (record,) = fresh.inputs["runs"].values()
    assert record["identity"] == execute(module.base, module.Setup(3.0), 2, there).identity


def test_edited_code_of_a_shared_run_runs_its_caller_again(tmp_path, shared):
    space = Workspace(tmp_path / "runs")
    paper, module = shared(scale=1)
    first = execute(paper.experiments["net"], module.Setup(), 0, space)
    paper, module = shared(scale=2)
    assert find(paper.experiments["net"], module.Setup(), 0, space, Hardware()) is None
    second = execute(paper.experiments["net"], module.Setup(), 0, space)
    assert (first.measurements["value"].value, second.measurements["value"].value) == (3, 6)
    assert first.identity != second.identity
    assert first.folder.exists()
    paper, module = shared(scale=1)
    assert execute(paper.experiments["net"], module.Setup(), 0, space).folder == first.folder


def test_a_caller_whose_shared_run_was_deleted_makes_it_again(tmp_path, shared):
    space = Workspace(tmp_path / "runs")
    paper, module = shared()
    first = execute(paper.experiments["net"], module.Setup(), 0, space)
    shutil.rmtree(tmp_path / "runs" / "with_shared_shared")
    assert find(paper.experiments["net"], module.Setup(), 0, space, Hardware()) is None
    again = execute(paper.experiments["net"], module.Setup(), 0, space)
    assert again.measurements == first.measurements


def test_a_run_that_needs_itself_is_an_error_and_no_hang(tmp_path, shared):
    paper, module = shared()
    with pytest.raises(ExperimentBroke, match=r"with_shared\.circle, seed 0: RecursionError: .*needs itself"):
        execute(paper.experiments["circle"], module.Setup(), 0, Workspace(tmp_path / "runs"))


@pytest.mark.parametrize("arguments", ["(3, setup)", "(base, 3)", "(base, base)"])
def test_needs_takes_an_experiment_and_its_setup(tmp_path, shared, arguments):
    paper, module = shared(arguments=arguments)
    with pytest.raises(ExperimentBroke, match=r"TypeError: with_shared\.careless: needs"):
        execute(paper.experiments["careless"], module.Setup(), 0, Workspace(tmp_path / "runs"))


def test_the_time_of_a_shared_run_is_counted_once(tmp_path):
    slept = Paper("slept")

    @slept.experiment(quick=Plan(Setup()))
    def base(run, setup):
        time.sleep(0.3)
        return {"x": 1.0}

    @slept.experiment(quick=Plan(Setup()))
    def caller(run, setup):
        run.needs(base, Setup())
        return {"x": 1.0}

    space = Workspace(tmp_path)
    assert execute(caller, Setup(), 0, space).seconds < 0.25
    assert execute(base, Setup(), 0, space).seconds >= 0.3


# conditions ----------------------------------------------------------------------------------------------------------


def test_what_a_run_changes_is_put_back(tmp_path):
    careless = Paper("careless")

    @careless.experiment(quick=Plan(Setup()))
    def net(run, setup):
        assert torch.get_num_threads() == 1
        assert torch.is_grad_enabled()
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        torch.set_grad_enabled(False)
        if setup.size == 2:
            raise ValueError("no")
        return {"x": 1.0}

    threads, environment = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            execute(net, Setup(), 0, Workspace(tmp_path))
            assert not torch.is_grad_enabled()
        with pytest.raises(ExperimentBroke):
            execute(net, Setup(2.0), 0, Workspace(tmp_path))
        assert torch.get_num_threads() == 2
        assert torch.get_default_dtype() == torch.float32
        assert torch.is_grad_enabled()
        assert dict(os.environ) == environment
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)


def test_generators_are_seeded_by_seed_and_name(tmp_path):
    drawing = Paper("drawing")

    @drawing.experiment(quick=Plan(Setup()))
    def net(run, setup):
        one, two, again = run.generator("one"), run.generator("two"), run.generator("one")
        values = [torch.rand((), generator=g).item() for g in (one, two, again)]
        values += [run.rng("one").random(), torch.rand(()).item(), np.random.rand(), random.random()]
        return dict(zip("abcdefg", values, strict=True))

    space = Workspace(tmp_path)
    torch.manual_seed(123)
    zero = execute(net, Setup(), 0, space).measurements
    shutil.rmtree(tmp_path)
    torch.manual_seed(456), np.random.seed(7), random.seed(8)
    assert execute(net, Setup(), 0, space).measurements == zero
    one = execute(net, Setup(), 1, space).measurements
    assert zero["a"] == zero["c"]
    assert zero["a"] != zero["b"]
    assert all(zero[name] != one[name] for name in zero)


def test_threads_of_one_process_do_not_share_generators(tmp_path):
    """Dask workers run tasks in threads; the generators are the process's."""
    slow = Paper("slow")

    @slow.experiment(quick=Plan(Setup()))
    def net(run, setup):
        values = []
        for _ in range(20):
            values.append(torch.rand(()).item())
            time.sleep(0.0005)
        return {"sum": sum(values)}

    serial = [execute(net, Setup(), seed, Workspace(tmp_path / "serial")).measurements for seed in range(3)]
    found: dict[int, FinishedRun] = {}
    threads = [
        threading.Thread(
            target=lambda seed=seed: found.update({seed: execute(net, Setup(), seed, Workspace(tmp_path / "threads"))})
        )
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed].measurements for seed in range(3)] == serial


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"threads": 0}, "threads must be >= 1, got 0"),
        ({"device": "gpu"}, "unknown device 'gpu'; use cpu, cuda"),
        ({"precision": "float16"}, "unknown precision 'float16'; use .*bf16-mixed"),
        *([] if torch.cuda.is_available() else [({"device": "cuda"}, "no CUDA device is available here; use cpu")]),
        *([] if torch.backends.mps.is_available() else [({"device": "mps"}, "no MPS device")]),
    ],
)
def test_hardware_that_is_not_there_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Hardware(**arguments)


# what breaks ---------------------------------------------------------------------------------------------------------


@paper.experiment(quick=Plan(Setup()))
def breaks(run, setup):
    if BROKEN:
        raise BROKEN[0]
    return {"x": 1.0}


BROKEN: list[Exception] = []


@pytest.mark.parametrize(
    "error", [ValueError("bad\nvalue"), FileNotFoundError("no file"), KeyError("x"), AssertionError()]
)
def test_an_experiment_that_raises_keeps_its_traceback_beside_its_run(tmp_path, error):
    space = Workspace(tmp_path)
    BROKEN[:] = [error]
    with pytest.raises(ExperimentBroke) as raised:
        execute(breaks, Setup(), 3, space)
    (folder,) = (tmp_path / "trial" / "breaks").glob("seed3-*")
    said = str(raised.value)
    assert said.startswith(f"trial.breaks, seed 3: {type(error).__name__}")
    assert said.endswith(f"traceback in {folder / 'error.txt'}")
    assert "Traceback" not in said
    kept = (folder / "error.txt").read_text()
    assert kept.startswith("Traceback")
    assert "raise BROKEN[0]" in kept
    assert not (folder / "measurements.json").exists()
    BROKEN.clear()
    assert execute(breaks, Setup(), 3, space).measurements["x"].value == 1
    assert not (folder / "error.txt").exists()


def test_a_shared_run_that_breaks_is_named(tmp_path):
    calling = Paper("calling")

    @calling.experiment(quick=Plan(Setup()))
    def caller(run, setup):
        return {"x": run.needs(breaks, Setup()).measurements["x"].value}

    BROKEN[:] = [ValueError("deep")]
    with pytest.raises(ExperimentBroke, match=r"^trial\.breaks, seed 0: ValueError: deep"):
        execute(caller, Setup(), 0, Workspace(tmp_path))
    BROKEN.clear()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returns a non-empty mapping of named measurements, got None"),
        ({"two words": 1.0}, "must be an identifier, got 'two words'"),
        ({"x": "high"}, "x: expected a number, got 'high'"),
        ({"x": torch.ones(3)}, "use Curve, Matrix or PerExample"),
    ],
)
def test_what_is_no_measurement_breaks_the_experiment(tmp_path, returned, said):
    wrong = Paper("wrong")

    @wrong.experiment(quick=Plan(Setup()))
    def net(run, setup):
        return returned

    with pytest.raises(ExperimentBroke, match=re.escape(said)):
        execute(net, Setup(), 0, Workspace(tmp_path))
    with pytest.raises(ExperimentBroke):  # and it is not taken for finished
        execute(net, Setup(), 0, Workspace(tmp_path))


def test_not_a_number_comes_back_as_such(tmp_path):
    strange = Paper("strange")

    @strange.experiment(quick=Plan(Setup()))
    def net(run, setup):
        return {"x": float("nan"), "y": float("inf"), "z": torch.tensor(2)}

    found = execute(net, Setup(), 0, Workspace(tmp_path))
    assert [float(m.value) for m in found.measurements.values()] == pytest.approx([np.nan, np.inf, 2], nan_ok=True)


def test_artefacts_come_back_by_name(tmp_path):
    saving = Paper("saving")

    @saving.experiment(quick=Plan(Setup()))
    def net(run, setup):
        model = nn.Linear(2, 1)
        run.save("model", model)
        run.save("tree", {"a": [np.arange(3), "text", 4.5]})
        return {"weight": model.weight.sum().item()}

    found = execute(net, Setup(), 0, Workspace(tmp_path))
    back = nn.Linear(2, 1)
    back.load_state_dict(found.load("model"))
    assert back.weight.sum().item() == found.measurements["weight"].value
    assert found.load("tree")["a"][1:] == ["text", 4.5]
    with pytest.raises(FileNotFoundError, match="no artefact 'modle'; it saved model, tree"):
        found.load("modle")


def test_a_run_keeps_its_pictures(tmp_path):
    drawing = Paper("pictures")

    @drawing.experiment(quick=Plan(Setup()))
    def net(run, setup):
        from claimwise.lab.figures import figure

        run.figure("line", figure()[0])
        return {"x": 1.0}

    folder = execute(net, Setup(), 0, Workspace(tmp_path)).folder
    assert {path.name for path in (folder / "figures").iterdir()} == {"line.svg", "line.png"}


# loops of a run ------------------------------------------------------------------------------------------------------


def looping(body: Callable[[Any], Any], tmp_path: Path, **space: Any) -> FinishedRun:
    loops = Paper("looping")

    @loops.experiment(quick=Plan(Setup()))
    def net(run, setup):
        return body(run) or {"x": 1.0}

    return execute(net, Setup(), 0, Workspace(tmp_path, **space))


def counting(state, i):
    state["n"] += 1
    return {"n": state["n"]}


def test_two_loops_of_one_name_are_refused(tmp_path):
    """They would share a checkpoint: resumed, the second would take itself for done."""

    def twice(run):
        run.loop({"n": 0}, counting, until=2, name="em")
        run.loop({"n": 0}, counting, until=2, name="em")

    with pytest.raises(ExperimentBroke, match="two loops are called 'em'; give each a name of its own"):
        looping(twice, tmp_path)


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "x.y"])
def test_a_loop_is_named_by_a_word(tmp_path, name):
    with pytest.raises(ExperimentBroke, match="a loop is named by letters"):
        looping(lambda run: run.loop({"n": 0}, counting, until=2, name=name), tmp_path)


def test_a_loop_within_fit_is_refused(tmp_path):
    def nested(run):
        model = nn.Linear(1, 1)

        def objective(model, x):
            run.loop({"n": 0}, counting, until=1)
            return model(x).mean()

        run.fit(
            model, objective, (torch.ones(2, 1),), optimizer=torch.optim.SGD(model.parameters()), epochs=1, batch_size=1
        )

    with pytest.raises(ExperimentBroke, match="a loop within a step of fit; give"):
        looping(nested, tmp_path)


def test_the_log_takes_no_name_that_it_has_itself(tmp_path):
    with pytest.raises(ExperimentBroke, match="logs step, which the log has itself"):
        looping(lambda run: run.loop({"n": 0}, lambda state, i: {"step": 1.0}, until=1), tmp_path)


def test_the_log_holds_what_steps_return(tmp_path):
    def body(run):
        run.loop({"n": 0}, counting, until=2)
        run.loop({"n": 5}, lambda state, i: {"loss": torch.tensor(0.5)} if i else None, until=2, name="em")

    folder = looping(body, tmp_path).folder
    assert read_lines(folder / "log.jsonl") == [
        {"loop": "loop1", "step": 1, "n": 1.0},
        {"loop": "loop1", "step": 2, "n": 2.0},
        {"loop": "em", "step": 2, "loss": 0.5},
    ]


def test_progress_is_told_by_experiment_seed_loop_and_step(tmp_path):
    heard = []
    looping(
        lambda run: run.loop({"n": 0}, counting, until=3),
        tmp_path,
        checkpoint_seconds=0.0,
        progress=lambda *said: heard.append(said),
    )
    assert heard == [*(("looping.net", 0, "loop1", i, 3) for i in (1, 2, 3)), ("looping.net", 0, "loop1", 3, 3)]


def test_precision_is_fabrics_and_resumes(tmp_path):
    """bf16 on the CPU; what Fabric's precision keeps is part of the checkpoint."""
    half = Paper("half")
    stop = [True]

    @half.experiment(quick=Plan(Setup()))
    def net(run, setup):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        steps = []

        def objective(model, x):
            steps.append(1)
            if stop and len(steps) == 5 and setup.size == 1:
                raise KeyboardInterrupt
            return model(x).square().mean()

        fitted = run.fit(
            model,
            objective,
            (torch.randn(8, 3),),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            epochs=4,
            batch_size=4,
        )
        return {"loss": fitted["loss"][-1]}

    hardware = Hardware(precision="bf16-mixed")
    whole = execute(net, Setup(2.0), 0, Workspace(tmp_path), hardware)
    with pytest.raises(KeyboardInterrupt):
        execute(net, Setup(1.0), 0, Workspace(tmp_path, checkpoint_seconds=0.0), hardware)
    stop.clear()
    resumed = execute(net, Setup(1.0), 0, Workspace(tmp_path), hardware)
    assert resumed.measurements == whole.measurements
    assert whole.measurements != execute(net, Setup(2.0), 0, Workspace(tmp_path)).measurements


def test_mixed_precision_computes_in_half_and_keeps_whole_weights(tmp_path):
    mixed = Paper("mixed")
    seen = set()

    @mixed.experiment(quick=Plan(Setup()))
    def net(run, setup):
        model = nn.Linear(3, 1)
        model.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        x = torch.randn(32, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        fitted = run.fit(
            model,
            lambda model, x, y: (model(x) - y).square().mean(),
            (x, x.sum(1, keepdim=True)),
            optimizer=optimizer,
            epochs=20,
            batch_size=8,
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert {s["momentum_buffer"].dtype for s in optimizer.state.values()} == {torch.float32}
        return {"first": fitted["loss"][0], "last": fitted["loss"][-1]}

    found = execute(net, Setup(), 0, Workspace(tmp_path), Hardware(precision="bf16-mixed")).measurements
    assert seen == {torch.bfloat16}
    assert found["last"].value < 0.2 * found["first"].value
