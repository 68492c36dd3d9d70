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
``checkpoints/``     where loops stood
``artefacts/``       what the experiment saved by name
``figures/``         its pictures, SVG and PNG
``measurements.json``, ``arrays.npz``   the result; written last
===================  =================================================================
"""

import dataclasses
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

import claimwise
from claimwise.data import Dataset
from claimwise.data import load as load_data
from claimwise.lab import loop as loops
from claimwise.lab.code_digest import code_digest
from claimwise.lab.measurements import Measurement, as_measurements, from_stored, to_stored
from claimwise.lab.paper import Experiment
from claimwise.lab.state import load_arrays, load_state, save_arrays, save_state
from claimwise.lab.storage import append_line, locked, read_json, read_lines, write_atomic, write_json, write_lines

_CODE_ROOTS = (
    ("claimwise.lab.loop", "loop"),
    ("claimwise.lab.loop", "fit"),
)
"""Reached by every experiment through its Run, so part of every identity. Loading data is not: its hash covers it."""


@dataclass(frozen=True)
class Hardware:
    """What a run computes on; part of its identity."""

    device: str = "cpu"
    """"cpu", "cuda", "cuda:1", "mps"."""
    precision: str = "32-true"
    """Lightning Fabric's name for the precision of training, e.g. "bf16-mixed"."""
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"Hardware: threads must be >= 1, got {self.threads}")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"Hardware: unknown device {self.device!r}; use cpu, cuda, cuda:N or mps") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"Hardware: device {self.device!r}: no CUDA device is available here; use cpu")
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise ValueError(f"Hardware: device {self.device!r}: no MPS device is available here; use cpu")


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
    """Of wall time, shared runs excluded."""
    cpu_seconds: float
    """Of processor time, shared runs excluded."""

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
        "code": code_digest(experiment.function, _CODE_ROOTS),
    }


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
    }


class _Journal:
    """Checkpoints, log and progress of one run, for its loops."""

    def __init__(self, folder: Path, address: str, seed: int, workspace: Workspace) -> None:
        self.folder = folder
        self.address = address
        self.seed = seed
        self.workspace = workspace
        self.last_saved = time.perf_counter()
        self.due = 0.0

    def _path(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def load(self, name: str) -> dict[str, Any] | None:
        path = self._path(name)
        saved = load_state(path) if path.exists() else None
        step = 0 if saved is None else int(saved["step"])
        self._forget_log_after(name, step)
        self.due = 0.0
        return saved

    def _forget_log_after(self, name: str, step: int) -> None:
        """Lines logged after the checkpoint are logged again."""
        path = self.folder / "log.jsonl"
        if not path.exists():
            return
        lines = list(read_lines(path))
        kept = [line for line in lines if line.get("loop") != name or line.get("step", 0) <= step]
        if len(kept) != len(lines):
            write_lines(path, kept)

    def save(self, name: str, step: int, state: dict[str, Any], rng: dict[str, Any]) -> None:
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        save_state(path, {"step": step, "state": state, "rng": rng})
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
        values = {key: float(value) for key, value in scalars.items()}
        append_line(self.folder / "log.jsonl", {"loop": name, "step": step, **values})


class Run:
    """What an experiment is given: its seed, device, data, randomness, loops and folder."""

    def __init__(
        self, experiment: Experiment, setup: Any, seed: int, hardware: Hardware, workspace: Workspace, folder: Path
    ) -> None:
        self.experiment = experiment
        self.setup = setup
        self.seed = seed
        self.hardware = hardware
        self.workspace = workspace
        self.folder = folder
        self.inputs: dict[str, Any] = {"data": {}, "runs": {}}
        self.shared_seconds = [0.0, 0.0]
        """Wall and processor time that went into runs of other experiments."""
        self._journal = _Journal(folder, experiment.address, seed, workspace)
        self._loops = 0

    @property
    def device(self) -> torch.device:
        """The device to put models and data on."""
        return torch.device(self.hardware.device)

    # what it reads ------------------------------------------------------------------------------------------------
    def data(self, name: str) -> Dataset:
        """A data set; its content hash joins the run's identity."""

        def downloading(file: str, done: int, total: int | None) -> None:
            self.workspace.progress(self.experiment.address, self.seed, f"downloading {file}", done, total)

        dataset = load_data(name, data_dir=self.workspace.data_dir, progress=downloading)
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
        states = loops.random_states()  # the other run draws from the same global generators
        wall, cpu = time.perf_counter(), time.process_time()
        finished = execute(experiment, setup, self.seed, self.workspace, self.hardware)
        self.shared_seconds[0] += time.perf_counter() - wall
        self.shared_seconds[1] += time.process_time() - cpu
        loops.set_random_states(states)
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
    def _stream(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}:{name}".encode()).digest()[:7], "little")

    def generator(self, name: str, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator seeded from the run's seed and a name of its own."""
        return torch.Generator(device).manual_seed(self._stream(name))

    def rng(self, name: str) -> np.random.Generator:
        """A NumPy generator seeded from the run's seed and a name of its own."""
        return np.random.default_rng(self._stream(name))

    # iteration ----------------------------------------------------------------------------------------------------
    def _loop_name(self, name: str | None) -> str:
        self._loops += 1
        return name or f"loop{self._loops}"

    def loop(
        self,
        state: dict[str, Any],
        step: loops.Step,
        *,
        until: int | Callable[[dict[str, Any]], bool],
        name: str | None = None,
    ) -> dict[str, Any]:
        """Any iteration, with progress, log, checkpoint and resume: see :func:`claimwise.lab.loop.loop`."""
        return loops.loop(state, step, until=until, journal=self._journal, name=self._loop_name(name))

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
        """
        name = self._loop_name(name)
        generator = self.generator(f"fit:{name}")
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
        return loops.fit(
            model,
            objective,
            on_device,
            optimizer=stepped,
            epochs=epochs,
            batch_size=batch_size,
            generator=generator,
            journal=self._journal,
            schedule=schedule,
            after_step=after_step,
            transform=transform,
            also=also,
            backward=backward,
            run_model=run_model,
            name=name,
        )

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

    def log(self, **scalars: float) -> None:
        """Append scalars to the run's log, outside any loop."""
        self._journal.log("run", 0, scalars)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _inputs_current(inputs: Mapping[str, Any], workspace: Workspace) -> bool:
    """Whether what a run read is what it would read now."""
    for name, record in inputs["data"].items():
        try:
            if load_data(name, data_dir=workspace.data_dir).content_hash != record["content_hash"]:
                return False
        except (OSError, LookupError):
            return False
    for record in inputs["runs"].values():
        found = _finished(workspace.runs / _address_folder(record) / record["folder"])
        if found is None or found.identity != record["identity"] or not _still_current(found, record, workspace):
            return False
    return True


def _address_folder(record: Mapping[str, Any]) -> Path:
    collection = sys.modules[record["module"]] if record["module"] in sys.modules else _import(record["module"])
    experiment = _experiment_of(collection, record["experiment"])
    return Path(experiment.collection.key) / experiment.name


def _import(module: str) -> Any:
    import importlib

    return importlib.import_module(module)


def _experiment_of(module: Any, name: str) -> Experiment:
    found = getattr(module, name, None)
    if not isinstance(found, Experiment):
        raise LookupError(f"{module.__name__}: no experiment {name!r}")
    return found


def _still_current(found: FinishedRun, record: Mapping[str, Any], workspace: Workspace) -> bool:
    """Whether a shared run's own identity is what it would be now: its code may have been edited."""
    experiment = _experiment_of(_import(record["module"]), record["experiment"])
    config = read_json(found.folder / "config.json")
    code = code_digest(experiment.function, _CODE_ROOTS)
    return bool(config["identity"]["code"] == code) and _inputs_current(found.inputs, workspace)


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
    return [parent / stem, *sorted(parent.glob(f"{stem}.*[0-9]"), key=lambda p: int(p.suffix[1:]))]


def find(experiment: Experiment, setup: Any, seed: int, workspace: Workspace, hardware: Hardware) -> FinishedRun | None:
    """The finished run of this identity with the inputs of now, if there is one."""
    identity = base_identity(experiment, setup, seed, hardware)
    parent = workspace.runs / experiment.collection.key / experiment.name
    for folder in _slots(parent, f"seed{seed}-{_digest(identity)[:16]}"):
        finished = _finished(folder)
        if finished is not None and _inputs_current(finished.inputs, workspace):
            return finished
    return None


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

    with locked(parent / f".{stem}.lock", waiting=waiting):
        slots = _slots(parent, stem)
        for folder in slots:
            if not (folder / "config.json").exists():
                break  # the first slot is free
            inputs = read_json(folder / "inputs.json") if (folder / "inputs.json").exists() else None
            if inputs is not None and not _inputs_current(inputs, workspace):
                continue  # other data or another shared run: kept, not used
            finished = _finished(folder)
            if finished is not None:
                return finished
            break
        else:
            folder = parent / f"{stem}.{len(slots) + 1}"
        return _execute_in(folder, experiment, setup, seed, identity, workspace, hardware)


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
    run = Run(experiment, setup, seed, hardware, workspace, folder)
    write_json(folder / "environment.json", environment(hardware))
    if not (folder / "inputs.json").exists():
        run._keep_inputs()
    write_json(folder / "config.json", {"identity": identity, "module": experiment.collection.module})
    (folder / "error.txt").unlink(missing_ok=True)
    threads = torch.get_num_threads()
    started, cpu = time.perf_counter(), time.process_time()
    try:
        torch.set_num_threads(hardware.threads)
        if torch.device(hardware.device).type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(True, warn_only=True)
        _seed_everything(seed)
        measurements = as_measurements(experiment.address, experiment(run, setup))
    except ExperimentBroke:
        raise
    except Exception as error:
        if not isinstance(error, OSError):  # a full disk cannot take another file
            write_atomic(folder / "error.txt", traceback.format_exc())
        summary = "".join(traceback.format_exception_only(error)).strip()
        raise ExperimentBroke(f"{experiment.address}, seed {seed}: {summary}\n{traceback.format_exc()}") from error
    finally:
        torch.set_num_threads(threads)
    plain, arrays = to_stored(measurements)
    if arrays:
        save_arrays(folder / "arrays.npz", arrays)
    final = _digest({"base": identity, "inputs": _identities(run.inputs)})
    result = {
        "identity": final,
        "measurements": plain,
        "seconds": round(time.perf_counter() - started - run.shared_seconds[0], 3),
        "cpu_seconds": round(time.process_time() - cpu - run.shared_seconds[1], 3),
    }
    write_json(folder / "measurements.json", result)
    finished = _finished(folder)
    assert finished is not None
    return finished


def _identities(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of what was read that determine numbers."""
    return {
        "data": {name: record["content_hash"] for name, record in inputs["data"].items()},
        "runs": {name: record["identity"] for name, record in inputs["runs"].items()},
    }
