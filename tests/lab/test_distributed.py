"""One run in several processes: the same weights as in one, resumed to the same bits, and nothing left hanging."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from claimwise.lab.run import ExperimentBroke, Hardware, Workspace, base_identity, environment, execute, find
from claimwise.lab.storage import read_lines
from claimwise.papers import load

# Each start of a process costs seconds, so one run holds all that several processes could get wrong in training.
BODY = '''
import os
import signal
import time
from pathlib import Path

from torch import nn

shared = Collection("{shared}")
here = Path(__file__).parent


@shared.experiment(quick=Plan(Setup(), seeds=1))
def base(run, setup):
    weights = torch.randn(6, generator=run.generator("weights"))
    run.save("weights", weights)
    with (here / "base.txt").open("a") as file:
        file.write("made\\n")
    return {{"norm": float(weights.norm())}}


def without_chance(run, w):
    """The weights are those that one process finds."""
    x = torch.randn(27, 6, generator=run.generator("x"))
    y = x @ w
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    unused = nn.Linear(2, 2)  # no loss reaches it, so weight decay must not either
    scale = nn.Parameter(torch.ones(()))  # trained, but not the model's
    parameters = [*model.parameters(), *unused.parameters(), scale]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.01)

    def objective(model, x, y):  # adversarial training: two passes through the model, one differentiated on the way
        x = x.clone().requires_grad_()
        loss = (scale * model(x)[:, 0] - y).square().mean()
        (slope,) = torch.autograd.grad(loss, x, retain_graph=True)
        return loss + (scale * model(x + 0.01 * slope.sign())[:, 0] - y).square().mean()

    # 27 = 3 * 8 + 3: an uneven last batch.
    losses = run.fit(model, objective, (x, y), optimizer=optimizer, epochs=3, batch_size=8)["loss"]
    # 9 = 2 * 4 + 1: the last batch is smaller than the number of processes.
    losses += run.fit(model, objective, (x[:9], y[:9]), optimizer=optimizer, epochs=2, batch_size=4)["loss"]
    run.save("same", {{"model": model.state_dict(), "unused": unused.state_dict(), "scale": scale.detach()}})
    return np.array(losses)


def with_chance(run):
    """Every kind of chance in training; held up at its step 9 if a file says so."""
    x = torch.randn(25, 4, generator=run.generator("x of the second"))
    y = x.sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))
    noise, numbers = run.generator("noise"), run.rng("numbers")

    def objective(model, x, y):
        return (model(x + 0.1 * torch.randn(x.shape, generator=noise) + 0.1 * numbers.normal()) - y).square().mean()

    def transform(batch, generator):
        return batch[0] + 0.1 * torch.randn(batch[0].shape, generator=generator), batch[1]

    def after_step(step):
        if step == 9 and (here / "hang").exists():
            (here / f"pid{{run.ranks.rank}}").write_text(str(os.getpid()))
            time.sleep(100)

    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    options = {{"transform": transform, "after_step": after_step}}
    run.fit(model, objective, (x, y), optimizer=optimizer, epochs=4, batch_size=7, **options)

    def step(state, i):
        state["total"] += torch.rand(()) + numbers.normal()
        return {{"total": float(state["total"])}}

    run.loop({{"total": torch.zeros(())}}, step, until=6)
    run.save("by chance", model)
    return torch.cat([torch.rand(2, generator=noise), torch.rand(2)]).numpy()


@paper.experiment(quick=Plan(Setup(), seeds=1))
def trained(run, setup):
    losses = without_chance(run, run.needs(base, Setup()).load("weights"))
    return {{"losses": Curve(np.arange(5.0), losses), "after": Curve(np.arange(4.0), with_chance(run))}}


@paper.experiment(quick=Plan(Setup(), seeds=1))
def failing(run, setup):
    """Process 1 raises (size 1) or is killed (size 2) while process 0 waits for it."""

    def step(state, i):
        if i == 2 and run.ranks.rank == 1:
            if setup.size == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("as it was asked to")
        return {{"i": i}}

    run.loop({{}}, step, until=5)
    return {{}}
'''

TWO = Hardware(devices=2)


@pytest.fixture(scope="module")
def made(write_paper: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The same run by one process and by two."""
    folder = tmp_path_factory.mktemp("distributed")
    paper = load(str(write_paper(folder, BODY.format(shared=f"shared_{os.getpid()}"))))
    trained = paper.experiments["trained"]
    setup = trained.plans["quick"].setup
    heard: list[tuple] = []
    runs = Workspace(folder / "runs", progress=lambda *said: heard.append(said))
    one = execute(trained, setup, 0, runs)
    heard.clear()
    two = execute(trained, setup, 0, runs, TWO)
    return SimpleNamespace(
        folder=folder, paper=paper, trained=trained, setup=setup, runs=runs, one=one, two=two, heard=heard
    )


def files(folder: Path) -> set[str]:
    """All but checkpoints, which a clock asks for."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] != "checkpoints"}


def test_two_processes_find_the_weights_that_one_finds(made: SimpleNamespace) -> None:
    one, two = made.one.load("same"), made.two.load("same")
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=0, atol=1e-6)
    torch.testing.assert_close(two["scale"], one["scale"], rtol=0, atol=1e-6)
    assert torch.equal(two["unused"]["weight"], one["unused"]["weight"])
    losses = made.one.measurements["losses"].y
    assert losses[2] < 0.8 * losses[0]
    np.testing.assert_allclose(made.two.measurements["losses"].y, losses, rtol=1e-5)
    logged = [[line for line in read_lines(run.folder / "log.jsonl") if "loss" in line] for run in (made.one, made.two)]
    assert [line["step"] for line in logged[0]] == [line["step"] for line in logged[1]]
    assert [line["loss"] for line in logged[1][:5]] == pytest.approx(list(losses), rel=1e-5)


def test_one_process_writes_one_folder_of_another_identity(made: SimpleNamespace) -> None:
    assert made.two.identity != made.one.identity
    assert find(made.trained, made.setup, 0, made.runs, TWO).folder == made.two.folder
    assert find(made.trained, made.setup, 0, made.runs, Hardware()).folder == made.one.folder
    assert files(made.two.folder) == files(made.one.folder)
    assert json.loads((made.two.folder / "environment.json").read_text())["devices"] == 2
    # The run that it needs is another one too: made by two processes that do not wait for each other's locks, once.
    shared = (made.folder / "runs").glob("shared_*/base/*/config.json")
    assert sorted(json.loads(path.read_text())["identity"].get("devices", 1) for path in shared) == [1, 2]
    assert (made.folder / "base.txt").read_text().split() == ["made"] * 3  # by the one, and by each of the two
    assert {said[0] for said in made.heard} >= {made.trained.address}  # progress comes from process 0
    assert not list(made.runs.runs.rglob("*.processes"))
    assert not multiprocessing.active_children()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "zombie" in status.read_text())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_run_leaves_no_process_and_resumes_to_the_same_bits(made: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "runs", tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / made.paper.key)
    (made.folder / "hang").touch()
    (tmp_path / "ask.py").write_text(
        "from pathlib import Path\n"
        "from claimwise.lab.run import Hardware, Workspace, execute\n"
        "from claimwise.papers import load\n"
        "if __name__ == '__main__':\n"
        f"    trained = load({str(made.trained.collection.file)!r}).experiments['trained']\n"
        f"    runs = Workspace(Path({str(tmp_path)!r}), checkpoint_seconds=0.0)\n"
        "    execute(trained, trained.plans['quick'].setup, 0, runs, Hardware(devices=2))\n"
    )
    asking = subprocess.Popen([sys.executable, str(tmp_path / "ask.py")])
    pids = [made.folder / "pid0", made.folder / "pid1"]
    try:
        deadline = time.monotonic() + 300
        while not all(pid.exists() and pid.read_text() for pid in pids):
            assert asking.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        asking.kill()
        asking.wait()
    (made.folder / "hang").unlink()
    deadline = time.monotonic() + 20
    while any(alive(int(pid.read_text())) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert len(list(tmp_path.rglob("checkpoints/*"))) == 3
    resumed = execute(made.trained, made.setup, 0, Workspace(tmp_path, checkpoint_seconds=0.0), TWO)
    for name, value in made.two.load("by chance").items():
        assert torch.equal(resumed.load("by chance")[name], value), name
    for name in ("losses", "after"):
        np.testing.assert_array_equal(resumed.measurements[name].y, made.two.measurements[name].y)
    assert read_lines(resumed.folder / "log.jsonl") == read_lines(made.two.folder / "log.jsonl")
    assert not list(tmp_path.rglob("*.processes"))


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (1.0, "process 1 of 2: ValueError: as it was asked to"),
        (2.0, "process 1 of 2 was killed by signal 9"),
    ],
)
def test_a_process_that_fails_ends_the_run(made: SimpleNamespace, tmp_path: Path, size: float, told: str) -> None:
    failing = made.paper.experiments["failing"]
    with pytest.raises(ExperimentBroke, match=told):
        execute(failing, type(made.setup)(size), 0, Workspace(tmp_path, checkpoint_seconds=0.0), TWO)
    (error,) = tmp_path.rglob("error.txt")
    assert size == 2.0 or "in step\n" in error.read_text()
    assert not multiprocessing.active_children()


def test_only_several_devices_are_part_of_an_identity(made: SimpleNamespace) -> None:
    one = base_identity(made.trained, made.setup, 0, Hardware())
    two = base_identity(made.trained, made.setup, 0, TWO)
    assert "devices" not in one
    assert list(two.keys() - one.keys()) == ["devices"]
    assert {name for name in one if one[name] != two[name]} == {"code"}  # averaging is code, too
    assert "devices" not in environment(Hardware())


@pytest.mark.parametrize(
    ("device", "devices", "message"),
    [("cpu", 0, "devices must be >= 1, got 0"), ("cuda:1", 2, "CUDA|of cpu or cuda"), ("cuda", 1000, "CUDA")],
)
def test_devices_that_are_not_there_are_refused(device: str, devices: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hardware(device, devices=devices)
