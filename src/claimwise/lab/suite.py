"""Many runs over an executor: one process, a pool of spawned ones, Dask or SLURM.

How runs are spread never changes a number: each run computes with the threads of its identity, in any process.
"""

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claimwise.lab.paper import Experiment
from claimwise.lab.run import ExperimentBroke, FinishedRun, Hardware, Progress, Workspace, execute, find


@dataclass(frozen=True)
class Job:
    """One run to make: an experiment by name, so that any process can find it."""

    module: str
    search: str
    """Folder to import the module from, "" where it is installed."""
    experiment: str
    setup: Any
    seed: int

    @classmethod
    def of(cls, experiment: Experiment, setup: Any, seed: int) -> "Job":
        """The job of an experiment."""
        collection = experiment.collection
        installed = "." in collection.module
        return cls(collection.module, "" if installed else str(collection.file.parent), experiment.name, setup, seed)

    def find(self) -> Experiment:
        """The experiment, imported."""
        if self.search and self.search not in sys.path:
            sys.path.insert(0, self.search)
        found = getattr(importlib.import_module(self.module), self.experiment)
        if not isinstance(found, Experiment):
            raise LookupError(f"{self.module}.{self.experiment} is no experiment")
        return found


@dataclass(frozen=True)
class Ended:
    """How a job ended: a finished run, or an error."""

    job: Job
    run: FinishedRun | None
    error: str = ""


_progress_queue: Any = None


def _start_worker(queue: Any) -> None:
    global _progress_queue
    _progress_queue = queue


def _report_progress(address: str, seed: int, loop: str, step: int, total: int | None) -> None:
    if _progress_queue is not None:
        _progress_queue.put((address, seed, loop, step, total))


def perform(job: Job, workspace: Workspace, hardware: Hardware) -> Ended:
    """Make one run; an experiment that breaks is an outcome, not an exception."""
    if _progress_queue is not None:
        workspace = replace(workspace, progress=_report_progress)
    try:
        return Ended(job, execute(job.find(), job.setup, job.seed, workspace, hardware))
    except (ExperimentBroke, OSError) as error:
        return Ended(job, None, str(error))


class _SubmititExecutor(Executor):
    """SLURM (or submitit's local executor) behind the interface of concurrent.futures."""

    def __init__(self, folder: Path, partition: str) -> None:
        import submitit

        local = partition == "local"
        self._executor = submitit.AutoExecutor(folder=folder, cluster="local" if local else "slurm")
        self._executor.update_parameters(timeout_min=24 * 60, cpus_per_task=1)
        if partition and not local:
            self._executor.update_parameters(slurm_partition=partition)
        self._threads: list[threading.Thread] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        job = self._executor.submit(fn, *args, **kwargs)
        future: Future = Future()

        def wait() -> None:
            try:
                future.set_result(job.result())
            except Exception as error:
                future.set_exception(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        self._threads.append(thread)
        return future


@contextmanager
def _executor(spec: str, jobs: int, listen: Progress, workspace: Workspace) -> Iterator[Executor]:
    kind, _, argument = spec.partition(":")
    if kind == "processes":
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        queue = context.Queue()

        def relay() -> None:
            while (message := queue.get()) is not None:
                listen(*message)

        thread = threading.Thread(target=relay, daemon=True)
        thread.start()
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(queue,))
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            queue.put(None)
            thread.join(timeout=5)
    elif kind == "dask":
        try:
            from distributed import Client
        except ImportError:
            raise ValueError('executor dask needs the extra: pip install "claimwise[cluster]"') from None
        with Client(argument or None) as client:
            yield client.get_executor()
    elif kind == "slurm":
        try:
            yield _SubmititExecutor(workspace.runs / ".submitit", argument)
        except ImportError:
            raise ValueError('executor slurm needs the extra: pip install "claimwise[cluster]"') from None
    else:
        raise ValueError(f"unknown executor {spec!r}; use processes, dask[:ADDRESS] or slurm[:PARTITION]")


def run_suite(
    jobs: Sequence[Job],
    workspace: Workspace,
    hardware: Hardware,
    *,
    workers: int = 1,
    executor: str = "processes",
    on_end: Callable[[Ended], None] = lambda ended: None,
) -> list[Ended]:
    """Make every run, side by side where there are several workers, and tell how each ended.

    Args:
        jobs: What to run; experiments that others need come first.
        workspace: Where runs live; its `progress` hears of loops as they go.
        hardware: What each run computes on.
        workers: How many runs at a time.
        executor: "processes", "dask[:ADDRESS]" or "slurm[:PARTITION]".
        on_end: Called as each run ends.

    Returns:
        One :class:`Ended` for each job, in the order of `jobs`.
    """
    if workers < 1:
        raise ValueError(f"run_suite: workers must be >= 1, got {workers}")
    ended: dict[int, Ended] = {}
    for position, job in enumerate(jobs):  # what is there already needs no worker
        there = find(job.find(), job.setup, job.seed, workspace, hardware)
        if there is not None:
            ended[position] = Ended(job, there)
            on_end(ended[position])
    left = [position for position in range(len(jobs)) if position not in ended]
    if not left or (executor == "processes" and (workers == 1 or len(left) == 1)):
        for position in left:
            ended[position] = perform(jobs[position], workspace, hardware)
            on_end(ended[position])
        return [ended[position] for position in range(len(jobs))]
    plain = replace(workspace, progress=Workspace.progress)
    with _executor(executor, min(workers, len(left)), workspace.progress, workspace) as pool:
        futures = {pool.submit(perform, jobs[position], plain, hardware): position for position in left}
        for future in as_completed(futures):
            position = futures[future]
            try:
                ended[position] = future.result()
            except (BrokenProcessPool, CancelledError) as error:
                lost = f"its process died ({type(error).__name__}): killed, or out of memory? Run again to resume"
                ended[position] = Ended(jobs[position], None, lost)
            except Exception as error:
                ended[position] = Ended(jobs[position], None, f"{type(error).__name__}: {error}")
            on_end(ended[position])
    return [ended[position] for position in range(len(jobs))]

