"""A run: one experiment with one setup and one seed, in a folder of its own.

The folder's name holds a digest of everything that determines the numbers and nothing else: experiment, setup, seed,
device, dtype, threads, versions of torch and numpy, and the code reached from the experiment function. What the run
reads while it runs (data sets by content hash, shared runs by identity) is written to ``inputs.json`` and compared
before the folder is used again, so that nobody has to declare it and nobody can forget it. A finished run is reused;
an interrupted one resumes.

===================  =================================================================
``config.json``      what was asked: experiment, setup, seed, hardware, code digest
``inputs.json``      what was read: data sets and shared runs
``environment.json`` versions, commit, machine
``log.jsonl``        what loops logged
``checkpoints/``     where loops stood, until the run ends
``artefacts/``       what the experiment saved by name
``figures/``         its pictures, SVG and PNG
``measurements.json``, ``arrays.npz``   the result; written last
===================  =================================================================
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

import claimwise
from claimwise.data import DataError, Dataset
from claimwise.data import load as load_data
from claimwise.lab import loop as loops
from claimwise.lab.code_digest import code_digest
from claimwise.lab.measurements import Measurement, as_measurements, from_stored, to_stored
from claimwise.lab.paper import Experiment, find_experiment
from claimwise.lab.state import load_arrays, load_state, restore, save_arrays, save_state
from claimwise.lab.storage import (
    append_line,
    locked,
    read_json,
    read_lines,
    remove_leftovers,
    write_atomic,
    write_json,
    write_lines,
)

if TYPE_CHECKING:
    from claimwise.lab.distributed import Ranks

_CODE_ROOTS = tuple(("claimwise.lab.loop", name) for name in ("loop", "fit", "seed_everything", "stream"))
"""Reached by every experiment through its Run, so part of every identity. Loading data is not: its hash covers it."""
_RANKS_ROOTS = tuple(("claimwise.lab.distributed", name) for name in ("Ranks", "_stepped"))
"""Further reached by a run on several devices."""

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")


@dataclass(frozen=True)
class Hardware:
    """What a run computes on; part of its identity."""

    device: str = "cpu"
    """"cpu", "cuda", "cuda:1", "mps"."""
    precision: str = "32-true"
    """Lightning Fabric's name for the precision of training, e.g. "bf16-mixed"."""
    threads: int = 1
    """Of a run whose setup has no field `threads`, which goes before."""
    devices: int = 1
    """How many processes divide every batch of training among them, each on a device of its own (CUDA) or the CPU."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"Hardware: threads must be >= 1, got {self.threads}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"Hardware: unknown precision {self.precision!r}; use {', '.join(PRECISIONS)}")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"Hardware: unknown device {self.device!r}; use cpu, cuda, cuda:N or mps") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"Hardware: device {self.device!r}: no CUDA device is available here; use cpu")
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise ValueError(f"Hardware: device {self.device!r}: no MPS device is available here; use cpu")
        if self.devices < 1:
            raise ValueError(f"Hardware: devices must be >= 1, got {self.devices}")
        if self.devices > 1 and (device.type not in ("cpu", "cuda") or device.index is not None):
            raise ValueError(f"Hardware: {self.devices} devices are those of cpu or cuda, got device {self.device!r}")
        if self.devices > 1 and device.type == "cuda" and self.devices > (there := torch.cuda.device_count()):
            raise ValueError(f"Hardware: {self.devices} devices asked for, but only {there} CUDA device(s) are here")

    def of(self, setup: Any) -> "Hardware":
        """What a run with this setup computes on: with the setup's own threads, where it has a field of that name."""
        return dataclasses.replace(self, threads=getattr(setup, "threads", self.threads))


class Progress(Protocol):
    """Hears how far a run is."""

    def __call__(self, address: str, seed: int, loop: str, step: int, total: int | None) -> None: ...


def _silent(address: str, seed: int, loop: str, step: int, total: int | None) -> None:
    pass


@dataclass(frozen=True)
class Workspace:
    """Where runs live and how often they are checkpointed; outside every identity."""

    runs: Path
    data_dir: Path | None = None
    checkpoint_seconds: float = 30.0
    progress: Progress = _silent


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended, as its folder tells."""

    folder: Path
    identity: str
    seed: int
    setup: Mapping[str, Any]
    measurements: Mapping[str, Measurement]
    inputs: Mapping[str, Any]
    seconds: float
    """Of wall time over all sessions, shared runs excluded."""
    cpu_seconds: float
    """Of processor time over all sessions, shared runs excluded."""

    def load(self, name: str) -> Any:
        """A named artefact, as plain tensors and values (e.g. a module's state dict).

        Raises:
            FileNotFoundError: naming the artefacts that there are.
        """
        path = self.folder / "artefacts" / f"{name}.safetensors"
        if not path.exists():
            there = sorted(p.stem for p in path.parent.glob("*.safetensors"))
            raise FileNotFoundError(f"{self.folder.name}: no artefact {name!r}; it saved {', '.join(there) or 'none'}")
        return load_state(path)["artefact"]


class ExperimentBroke(RuntimeError):
    """An experiment raised; its folder keeps the traceback in ``error.txt``."""


def setup_fields(setup: Any) -> dict[str, Any]:
    """A setup's fields as JSON values."""
    fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(setup)))
    return fields


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def base_identity(experiment: Experiment, setup: Any, seed: int, hardware: Hardware) -> dict[str, Any]:
    """Everything that determines a run's numbers and is known before it starts."""
    hardware = hardware.of(setup)
    several = {"devices": hardware.devices} if hardware.devices > 1 else {}
    return {
        "experiment": experiment.address,
        "setup": {"class": type(setup).__qualname__, **setup_fields(setup)},
        "seed": seed,
        "device": torch.device(hardware.device).type,
        "precision": hardware.precision,
        "dtype": str(torch.get_default_dtype()),
        "threads": hardware.threads,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "code": _code(experiment, hardware.devices),
        **several,
    }


def _code(experiment: Experiment, devices: int) -> str:
    return code_digest(experiment.function, _CODE_ROOTS if devices == 1 else _CODE_ROOTS + _RANKS_ROOTS)


@lru_cache(maxsize=1)
def _commit() -> str:
    """The commit of the checkout that claimwise runs from, "+" if it differs from it; "" outside a checkout."""
    source = Path(claimwise.__file__).parent
    try:
        git = ["git", "-C", str(source)]
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=5)
        if tracked.returncode != 0:
            return ""
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, timeout=5)
        return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return ""


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def environment(hardware: Hardware) -> dict[str, Any]:
    """What produced a number: versions, commit, machine."""
    versions = {}
    for package in ("claimwise", "torch", "numpy", "scipy", "scikit-learn", "lightning-fabric"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    device = hardware.device
    if torch.device(device).type == "cuda":
        device = f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return {
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": device,
        "precision": hardware.precision,
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "threads": hardware.threads,
        **({"devices": hardware.devices} if hardware.devices > 1 else {}),
    }


class _Stopwatch:
    """Wall and processor time of a run over all its sessions, without runs of other experiments."""

    def __init__(self) -> None:
        self.set((0.0, 0.0))

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    def set(self, reading: Sequence[float]) -> None:
        self._wall, self._cpu = time.perf_counter() - reading[0], time.process_time() - reading[1]


class _Journal:
    """Checkpoints, log and progress of one run, for its loops."""

    def __init__(self, folder: Path, address: str, seed: int, workspace: Workspace) -> None:
        self.folder = folder
        self.address = address
        self.seed = seed
        self.workspace = workspace
        self.streams: list[tuple[str, torch.Generator | np.random.Generator]] = []
        """Generators that the experiment holds, by name: a step may draw from them."""
        self.stopwatch = _Stopwatch()
        self.last_saved = time.perf_counter()
        self.due = 0.0
        self._seen: list[str] = []

    def _path(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def load(self, name: str) -> dict[str, Any] | None:
        path = self._path(name)
        saved = load_state(path) if path.exists() else None
        step = 0
        if saved is not None:
            step = int(saved["step"])
            self.stopwatch.set(saved["spent"])
            for (known, live), (stored, at) in zip(self.streams, saved["streams"], strict=False):
                if known == stored:
                    restore(live, at)
        self._rewind_log(name, step)
        self.due = 0.0
        return saved

    def _rewind_log(self, name: str, step: int) -> None:
        """Lines logged after the checkpoint are logged again; the order is that of a run without interruption."""
        path = self.folder / "log.jsonl"
        self._seen.append(name)
        if not path.exists():
            return
        lines = read_lines(path)
        earlier = [line for line in lines if line["loop"] in self._seen[:-1]]
        own = [line for line in lines if line["loop"] == name and line["step"] <= step]
        later = [line for line in lines if line["loop"] not in self._seen]  # of a loop that has its own checkpoint
        if earlier + own + later != lines or len(self._seen) == 1:  # a killed process may have left half a line
            write_lines(path, earlier + own + later)

    def save(self, name: str, step: int, state: dict[str, Any], rng: dict[str, Any]) -> None:
        kept = {"step": step, "state": state, "rng": rng, "streams": self.streams, "spent": self.stopwatch.read()}
        save_state(self._path(name), kept)
        self.last_saved = time.perf_counter()

    def tick(self, name: str, step: int, total: int | None) -> bool:
        now = time.perf_counter()
        self.workspace.progress(self.address, self.seed, name, step, total)
        self.due = now + min(0.25, self.workspace.checkpoint_seconds)
        return now - self.last_saved >= self.workspace.checkpoint_seconds

    def finished(self, name: str, step: int) -> bool:
        self.workspace.progress(self.address, self.seed, name, step, step)
        return time.perf_counter() - self.last_saved >= min(2.0, self.workspace.checkpoint_seconds)

    def log(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        if taken := {"loop", "step"} & scalars.keys():
            raise ValueError(f"{self.address}: {name} logs {', '.join(taken)}, which the log has itself; rename it")
        values = {key: float(value) for key, value in scalars.items()}
        append_line(self.folder / "log.jsonl", {"loop": name, "step": step, **values})


class _ReadingJournal(_Journal):
    """The journal in a process that computes along: it reads what another one writes."""

    def _rewind_log(self, name: str, step: int) -> None:
        pass

    def save(self, name: str, step: int, state: dict[str, Any], rng: dict[str, Any]) -> None:
        pass

    def log(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        pass


class _WithinAStep:
    """The journal of a loop within a step of another: it is part of that step, so only progress is told."""

    def __init__(self, outer: _Journal) -> None:
        self.outer = outer
        self.due = 0.0

    def load(self, name: str) -> None:
        return None

    def save(self, name: str, step: int, state: dict[str, Any], rng: dict[str, Any]) -> None:
        raise AssertionError("never asked to")

    def tick(self, name: str, step: int, total: int | None) -> bool:
        self.outer.workspace.progress(self.outer.address, self.outer.seed, name, step, total)
        self.due = time.perf_counter() + 0.25
        return False

    def finished(self, name: str, step: int) -> bool:
        return False

    def log(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        pass


class Run:
    """What an experiment is given: its seed, device, data, randomness, loops and folder."""

    def __init__(
        self,
        experiment: Experiment,
        setup: Any,
        seed: int,
        hardware: Hardware,
        workspace: Workspace,
        folder: Path,
        ranks: "Ranks | None" = None,
    ) -> None:
        self.experiment = experiment
        self.setup = setup
        self.seed = seed
        self.asked = hardware
        """What was asked for; shared runs are made on it, each with its own setup's threads."""
        self.hardware = hardware.of(setup)
        self.workspace = workspace
        self.ranks = ranks
        """This process among those that compute the run, where there are several."""
        follows = ranks is not None and ranks.rank > 0
        self.folder = ranks.scratch / f"process{ranks.rank}" if ranks is not None and follows else folder
        self.inputs: dict[str, Any] = {"data": {}, "runs": {}}
        journal = _ReadingJournal if follows else _Journal
        self._journal = journal(folder, experiment.address, seed, workspace)
        self._loops: set[str] = set()
        self._place = ""
        """The step of a loop that is under way, e.g. "loop1[3]"."""
        self._fitting = False

    @property
    def device(self) -> torch.device:
        """The device to put models and data on."""
        device = torch.device(self.hardware.device)
        return device if self.ranks is None or device.type == "cpu" else torch.device(device.type, self.ranks.rank)

    def _first(self, call: Callable[[], Any]) -> Any:
        """`call()`; where several processes compute, in process 0 before the others."""
        return call() if self.ranks is None else self.ranks.first(call)

    # what it reads ------------------------------------------------------------------------------------------------
    def data(self, name: str) -> Dataset:
        """A data set; its content hash joins the run's identity."""

        def downloading(file: str, done: int, total: int | None) -> None:
            self.workspace.progress(self.experiment.address, self.seed, f"downloading {file}", done, total)

        dataset = self._first(lambda: load_data(name, data_dir=self.workspace.data_dir, progress=downloading))
        self.inputs["data"][name] = {
            "content_hash": dataset.content_hash,
            "variant": dataset.variant,
            "publish": dataset.publish,
        }
        self._keep_inputs()
        return dataset

    def needs(self, experiment: Experiment, setup: Any) -> FinishedRun:
        """The same seed's run of another experiment, made if it is not there; its identity joins this run's."""
        if not isinstance(experiment, Experiment):
            raise TypeError(
                f"{self.experiment.address}: needs(experiment, setup) takes an experiment, got {experiment!r}"
            )
        if not any(isinstance(setup, type(plan.setup)) for plan in experiment.plans.values()):
            raise TypeError(f"{self.experiment.address}: needs({experiment.address}, ...) got the setup {setup!r}")
        states = loops.random_states()  # the other run draws from the same global generators
        spent = self._journal.stopwatch.read()
        try:
            finished = self._first(lambda: execute(experiment, setup, self.seed, self.workspace, self.asked))
        finally:
            loops.set_random_states(states)
        self._journal.stopwatch.set(spent)
        self.inputs["runs"][f"{experiment.address}-{_digest(setup_fields(setup))[:8]}"] = {
            "module": experiment.collection.module,
            "experiment": experiment.name,
            "folder": finished.folder.name,
            "identity": finished.identity,
        }
        self._keep_inputs()
        return finished

    def _keep_inputs(self) -> None:
        write_json(self.folder / "inputs.json", self.inputs)

    # randomness ---------------------------------------------------------------------------------------------------
    def generator(self, name: str, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator seeded from the run's seed and a name of its own; loops keep its state in checkpoints."""
        generator = torch.Generator(device).manual_seed(loops.stream(self.seed, name))
        if not self._place:  # one made within a step is that step's
            self._journal.streams.append((name, generator))
        return generator

    def rng(self, name: str) -> np.random.Generator:
        """A NumPy generator seeded from the run's seed and a name of its own; loops keep its state in checkpoints."""
        generator = np.random.default_rng(loops.stream(self.seed, name))
        if not self._place:
            self._journal.streams.append((name, generator))
        return generator

    # iteration ----------------------------------------------------------------------------------------------------
    def _enter(self, name: str | None, *, apart: bool = False) -> tuple[str, loops.Journal]:
        """The name and the journal of a loop that is about to start.

        `apart`: processes, where there are several, compute on shares of their own.
        """
        owner = self.experiment.address
        if self._fitting:
            raise RuntimeError(f"{owner}: a loop within a step of fit; give run.loop a step of your own")
        name = name or f"loop{len(self._loops) + 1}"
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{owner}: a loop is named by letters, digits, '_' and '-', got {name!r}")
        if name in self._loops:  # they would share a checkpoint: the second would take itself for done
            raise ValueError(f"{owner}: two loops are called {name!r}; give each a name of its own")
        self._loops.add(name)
        if self._place:
            return f"{self._place}.{name}", _WithinAStep(self._journal)
        return name, self._journal if self.ranks is None else self.ranks.journal(self._journal, apart=apart)

    def loop(
        self,
        state: dict[str, Any],
        step: loops.Step,
        *,
        until: int | Callable[[dict[str, Any]], bool],
        name: str | None = None,
    ) -> dict[str, Any]:
        """Any iteration, with progress, log, checkpoint and resume: see :func:`claimwise.lab.loop.loop`.

        A loop (or fit) within a step is part of that step: it is not checkpointed or logged by itself.
        """
        name, journal = self._enter(name)
        outer, others = self._place, self._loops

        def placed(state: dict[str, Any], i: int) -> Mapping[str, float] | None:
            self._place, self._loops = f"{name}[{i}]", set()
            return step(state, i)

        try:
            return loops.loop(state, placed, until=until, journal=journal, name=name)
        finally:
            self._place, self._loops = outer, others

    def fit(
        self,
        model: nn.Module,
        objective: Callable[..., Tensor],
        data: Sequence[Tensor],
        *,
        optimizer: torch.optim.Optimizer,
        epochs: int,
        batch_size: int,
        schedule: Callable[[torch.optim.Optimizer, int], None] | None = None,
        after_step: Callable[[int], None] | None = None,
        transform: Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]] | None = None,
        also: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> dict[str, list[float]]:
        """Gradient descent on shuffled batches: see :func:`claimwise.lab.loop.fit`.

        At full precision model and optimiser are stepped as they are; at any other, Lightning Fabric wraps them.
        Where several processes compute, each takes a share of every batch and gradients are averaged.
        """
        name, journal = self._enter(name, apart=True)
        generator = torch.Generator().manual_seed(loops.stream(self.seed, f"fit:{name}"))
        on_device = tuple(t.to(self.device) for t in data)
        run_model: Callable[..., Any] | None = None
        backward: Callable[[Tensor], Any] = Tensor.backward
        stepped = optimizer
        if self.hardware.precision != "32-true":
            from lightning_fabric import Fabric

            index = self.device.index or 0
            fabric = Fabric(
                accelerator=self.device.type,
                devices=[index] if self.device.type == "cuda" else 1,
                precision=self.hardware.precision,  # type: ignore[arg-type]
            )
            run_model, stepped = fabric.setup(model, optimizer)
            backward = fabric.backward
            also = {"precision": fabric.strategy.precision, "of the experiment": dict(also or {})}  # a loss scale
        share: tuple[int, int] = (0, 1)
        chances: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if (ranks := self.ranks) is not None:
            share = (ranks.rank, ranks.count)
            chances = ranks.on_its_own(self.seed, f"fit:{name}", self._journal.streams)
            ranks.as_process_0(model, optimizer)
            backward = ranks.averaging(backward, model, optimizer)
            if transform is not None:
                transform, own = ranks.transforming(transform, self.seed, f"fit:{name}")
                also = {"transform": own, "of the experiment": dict(also or {})}
        self._fitting = True
        try:
            with chances:
                history = loops.fit(
                    model,
                    objective,
                    on_device,
                    optimizer=stepped,
                    epochs=epochs,
                    batch_size=batch_size,
                    generator=generator,
                    journal=journal,
                    schedule=schedule,
                    after_step=after_step,
                    transform=transform,
                    also=also,
                    backward=backward,
                    run_model=run_model,
                    share=share,
                    name=name,
                )
        finally:
            self._fitting = False
        return history if ranks is None else {key: ranks.mean(values) for key, values in history.items()}

    # what it keeps ------------------------------------------------------------------------------------------------
    def save(self, name: str, artefact: Any) -> None:
        """Keep a module's state dict, or any tree of tensors, arrays, numbers and strings, under a name."""
        if isinstance(artefact, nn.Module):
            artefact = artefact.state_dict()
        path = self.folder / "artefacts" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_state(path, {"artefact": artefact})

    def figure(self, name: str, figure: Any) -> None:
        """Keep a matplotlib figure as SVG and PNG."""
        from claimwise.lab.figures import save

        save(figure, self.folder / "figures", name)


def _inputs_current(inputs: Mapping[str, Any], workspace: Workspace) -> bool:
    """Whether what a run read is what it would read now."""
    for name, record in inputs["data"].items():
        try:
            if load_data(name, data_dir=workspace.data_dir).content_hash != record["content_hash"]:
                return False
        except DataError:  # running it again will say so
            return False
    for record in inputs["runs"].values():
        try:
            experiment = find_experiment(record["module"], record["experiment"])
        except (ImportError, LookupError):
            return False
        folder = workspace.runs / experiment.collection.key / experiment.name / record["folder"]
        found = _finished(folder)
        if found is None or found.identity != record["identity"]:
            return False
        # The shared run's own code may have been edited, or what it read may have changed.
        identity = read_json(folder / "config.json")["identity"]
        if identity["code"] != _code(experiment, identity.get("devices", 1)):
            return False
        if not _inputs_current(found.inputs, workspace):
            return False
    return True


def _finished(folder: Path) -> FinishedRun | None:
    """The run of a folder if it ended there."""
    if not (folder / "measurements.json").exists():
        return None
    result = read_json(folder / "measurements.json")
    config = read_json(folder / "config.json")
    arrays = load_arrays(folder / "arrays.npz") if (folder / "arrays.npz").exists() else {}
    return FinishedRun(
        folder=folder,
        identity=result["identity"],
        seed=config["identity"]["seed"],
        setup=config["identity"]["setup"],
        measurements=from_stored(result["measurements"], arrays),
        inputs=read_json(folder / "inputs.json"),
        seconds=result["seconds"],
        cpu_seconds=result["cpu_seconds"],
    )


def _slots(parent: Path, stem: str) -> list[Path]:
    """The folders of one base identity: the first, and one more for every other set of inputs."""
    others = [p for p in parent.glob(f"{stem}.*") if p.suffix[1:].isdecimal()]
    return [parent / stem, *sorted(others, key=lambda p: int(p.suffix[1:]))]


def _usable(folder: Path, workspace: Workspace) -> bool:
    """Whether a run's folder was begun with the inputs of now."""
    inputs = folder / "inputs.json"
    return (folder / "config.json").exists() and _inputs_current(read_json(inputs), workspace)


def find(experiment: Experiment, setup: Any, seed: int, workspace: Workspace, hardware: Hardware) -> FinishedRun | None:
    """The finished run of this identity with the inputs of now, if there is one."""
    identity = base_identity(experiment, setup, seed, hardware)
    parent = workspace.runs / experiment.collection.key / experiment.name
    for folder in _slots(parent, f"seed{seed}-{_digest(identity)[:16]}"):
        finished = _finished(folder)
        if finished is not None and _inputs_current(finished.inputs, workspace):
            return finished
    return None


_one_at_a_time = threading.RLock()
"""Runs share the process's random generators and threads, so those of one process never overlap."""
_under_way: list[str] = []
"""Runs of this process, each needed by the one before."""


def execute(
    experiment: Experiment, setup: Any, seed: int, workspace: Workspace, hardware: Hardware | None = None
) -> FinishedRun:
    """Run an experiment for one seed: reuse a finished run, resume an interrupted one, else start.

    A second process that wants the same run waits for the first and reuses its result.

    Raises:
        ExperimentBroke: if the experiment raises; everything that it had kept stays in its folder.
    """
    hardware = hardware or Hardware()
    identity = base_identity(experiment, setup, seed, hardware)
    parent = workspace.runs / experiment.collection.key / experiment.name
    stem = f"seed{seed}-{_digest(identity)[:16]}"
    parent.mkdir(parents=True, exist_ok=True)

    def waiting() -> None:
        workspace.progress(experiment.address, seed, "waiting for another process", 0, None)

    with _one_at_a_time:
        if (lock := str(parent / f".{stem}.lock")) in _under_way:
            raise RecursionError(f"{experiment.address}, seed {seed}: needs itself")
        with locked(lock, waiting=waiting):
            slots = _slots(parent, stem)
            usable = [folder for folder in slots if _usable(folder, workspace)]
            for folder in usable:
                if (finished := _finished(folder)) is not None:
                    return finished
            if usable:
                (folder, *_) = usable
            elif not (slots[0] / "config.json").exists():
                folder = slots[0]
            else:  # other data or another shared run: what there is is kept, not used
                folder = parent / f"{stem}.{max([1, *(int(slot.suffix[1:]) for slot in slots[1:])]) + 1}"
            _under_way.append(lock)
            try:
                return _execute_in(folder, experiment, setup, seed, identity, workspace, hardware)
            finally:
                _under_way.remove(lock)


@contextlib.contextmanager
def _conditions(hardware: Hardware) -> Iterator[None]:
    """What every run computes under, whatever the process did before; what a run changes is put back after it."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # for libraries imported during the run
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(hardware.threads)))
    try:
        with threadpool_limits(hardware.threads), torch.inference_mode(False), torch.enable_grad():
            torch.set_num_threads(hardware.threads)
            if torch.device(hardware.device).type == "cuda":
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.backends.cudnn.benchmark = False
                torch.use_deterministic_algorithms(True, warn_only=True)
                torch.cuda.init()  # type: ignore[no-untyped-call]  # else its generators could be seeded by a shared run instead of by this one
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _execute_in(
    folder: Path,
    experiment: Experiment,
    setup: Any,
    seed: int,
    identity: Mapping[str, Any],
    workspace: Workspace,
    hardware: Hardware,
) -> FinishedRun:
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    run = Run(experiment, setup, seed, hardware, workspace, folder)
    if (folder / "config.json").exists():  # resumed: its checkpoints stand on what it had read
        run.inputs = read_json(folder / "inputs.json")
    write_json(folder / "environment.json", environment(run.hardware))
    run._keep_inputs()
    write_json(folder / "config.json", {"identity": identity, "module": experiment.collection.module})
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        if run.hardware.devices == 1:
            measurements, seconds, cpu_seconds = _compute(run)
        else:
            measurements, seconds, cpu_seconds = _compute_together(run)
            run.inputs = read_json(folder / "inputs.json")
    except ExperimentBroke:
        raise
    except Exception as error:
        said = "".join(traceback.format_exception_only(error)).strip()
        try:
            write_atomic(folder / "error.txt", traceback.format_exc())
            where = f"traceback in {folder / 'error.txt'}"
        except OSError:  # a full disk
            where = traceback.format_exc()
        raise ExperimentBroke(f"{experiment.address}, seed {seed}: {said}\n{where}") from error
    plain, arrays = to_stored(measurements)
    if arrays:
        save_arrays(folder / "arrays.npz", arrays)
    final = _digest({"base": identity, "inputs": _identities(run.inputs)})
    result = {
        "identity": final,
        "measurements": plain,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
    }
    write_json(folder / "measurements.json", result)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # nothing resumes a run that ended
    finished = _finished(folder)
    assert finished is not None
    return finished


def _compute(run: Run) -> tuple[dict[str, Measurement], float, float]:
    """What a run measures, and the wall and processor time that it took."""
    run._journal.stopwatch.set((0.0, 0.0))
    with _conditions(run.hardware):
        loops.seed_everything(run.seed)
        measurements = as_measurements(run.experiment.address, run.experiment(run, run.setup))
    return measurements, *run._journal.stopwatch.read()


def _compute_together(run: Run) -> tuple[dict[str, Measurement], float, float]:
    """The same by several processes."""
    from claimwise.lab.distributed import together

    experiment = run.experiment
    return together(
        _compute_as_rank,
        (
            (experiment.collection.module, experiment.name),
            run.setup,
            run.seed,
            run.asked,
            replace(run.workspace, progress=_silent),  # progress may hold what no other process can have
            run.folder,
            torch.get_default_dtype(),
            tuple(_under_way),
        ),
        count=run.hardware.devices,
        cuda=torch.device(run.hardware.device).type == "cuda",
        scratch=run.folder.with_name(f".{run.folder.name}.processes"),
        progress=run.workspace.progress,
    )


def _compute_as_rank(
    ranks: "Ranks",
    experiment: tuple[str, str],
    setup: Any,
    seed: int,
    hardware: Hardware,
    workspace: Workspace,
    folder: Path,
    dtype: torch.dtype,
    under_way: Sequence[str],
) -> tuple[dict[str, Measurement], float, float]:
    """What each of several processes does."""
    torch.set_default_dtype(dtype)
    _under_way.extend(under_way)
    workspace = replace(workspace, progress=ranks.progress)
    run = Run(find_experiment(*experiment), setup, seed, hardware, workspace, folder, ranks)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.inputs = read_json(folder / "inputs.json")
    measurements, seconds, cpu_seconds = _compute(run)
    (mean,) = ranks.mean([cpu_seconds])
    return measurements, seconds, mean * ranks.count


def _identities(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of what was read that determine numbers."""
    return {
        "data": {name: record["content_hash"] for name, record in inputs["data"].items()},
        "runs": {name: record["identity"] for name, record in inputs["runs"].items()},
    }
