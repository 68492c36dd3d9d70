"""Many runs over an executor: one process, a pool of spawned ones, Dask or SLURM.

How runs are spread never changes a number: each run computes with the threads of its identity, in any process.
"""

import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claimwise.lab.paper import Experiment, find_experiment
from claimwise.lab.run import ExperimentBroke, FinishedRun, Hardware, Progress, Workspace, execute, find
from claimwise.lab.storage import CorruptFile

EXECUTORS = ("processes", "dask", "slurm")


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
        return find_experiment(self.module, self.experiment)


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
    queue.cancel_join_thread()  # progress is no reason to wait at the end


def _report_progress(address: str, seed: int, loop: str, step: int, total: int | None) -> None:
    if _progress_queue is not None:
        _progress_queue.put((address, seed, loop, step, total))


def perform(job: Job, workspace: Workspace, hardware: Hardware) -> Ended:
    """Make one run; whatever goes wrong is an outcome, not an exception, so that the other runs go on.

    What an experiment prints goes to stderr: stdout is for results.
    """
    try:
        with redirect_stdout(sys.stderr):
            return Ended(job, execute(job.find(), job.setup, job.seed, workspace, hardware))
    except (ExperimentBroke, OSError, CorruptFile) as error:
        return Ended(job, None, str(error))
    except Exception as error:
        return Ended(job, None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def _perform_elsewhere(search: str, pickled: bytes, workspace: Workspace, hardware: Hardware) -> Ended:
    """:func:`perform` in another process, which must know where to import from before it can read the job."""
    if search and search not in sys.path:
        sys.path.insert(0, search)
    if _progress_queue is not None:
        workspace = replace(workspace, progress=_report_progress)
    return perform(pickle.loads(pickled), workspace, hardware)


def _perform_apart(*call: Any) -> bytes:
    """:func:`_perform_elsewhere` in a process of its own, for workers whose threads draw from the process's generators.

    Dask's do. The answer stays pickled: a worker need not be able to import the experiment's module.
    """
    program = [sys.executable, "-c", "from claimwise.lab.suite import _answer; _answer()"]
    done = subprocess.run(program, input=pickle.dumps(call), stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise RuntimeError(f"its process died with status {done.returncode}: killed, or out of memory?")
    return done.stdout


def _answer() -> None:
    """The other side of :func:`_perform_apart`; what anything else prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answers:
        pickle.dump(_perform_elsewhere(*pickle.load(sys.stdin.buffer)), answers)


class _Processes(Executor):
    """Spawned processes of one run at a time each, so that one that dies takes no other run with it."""

    def __init__(self, workers: int, listen: Progress) -> None:
        import multiprocessing

        self._context = multiprocessing.get_context("spawn")
        self._progress = self._context.Queue()
        self._listen = listen
        self._ended = threading.Event()
        self._left: queue.SimpleQueue[tuple[Future, Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        self._relay = threading.Thread(target=self._hear, daemon=True)
        for thread in (*self._threads, self._relay):
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        self._left.put((future, fn, args))
        return future

    def _serve(self) -> None:
        pool: ProcessPoolExecutor | None = None
        while (task := self._left.get()) is not None:
            future, fn, args = task
            if not future.set_running_or_notify_cancel():
                continue
            pool = pool or ProcessPoolExecutor(
                1, mp_context=self._context, initializer=_start_worker, initargs=(self._progress,)
            )
            try:
                future.set_result(pool.submit(fn, *args).result())
            except BaseException as error:
                future.set_exception(error)
                if isinstance(error, BrokenProcessPool):
                    pool.shutdown()
                    pool = None
        if pool is not None:
            pool.shutdown()

    def _hear(self) -> None:
        while not self._ended.is_set():
            try:
                message = self._progress.get(timeout=0.1)
            except queue.Empty:
                continue
            self._listen(*message)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while cancel_futures:
            try:
                task = self._left.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task[0].cancel()
        for _ in self._threads:
            self._left.put(None)
        if wait:
            for thread in self._threads:
                thread.join()
            self._ended.set()
            self._relay.join(timeout=1)  # a worker that died may have left half a message


class _SubmititExecutor(Executor):
    """SLURM (or submitit's local executor) behind the interface of concurrent.futures."""

    def __init__(self, folder: Path, partition: str, processors: int) -> None:
        import submitit

        local = partition == "local"
        self._executor = submitit.AutoExecutor(folder=folder, cluster="local" if local else "slurm")
        self._executor.update_parameters(timeout_min=24 * 60, cpus_per_task=processors)
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
def _executor(spec: str, workers: int, processors: int, listen: Progress, workspace: Workspace) -> Iterator[Executor]:
    """A pool of that many workers; `processors` is what one run takes, for a scheduler that wants to be told."""
    kind, _, argument = spec.partition(":")
    if kind == "processes":
        pool = _Processes(workers, listen)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
    elif kind == "dask":
        try:
            from distributed import Client
        except ImportError:
            raise ValueError('executor dask needs the extra: pip install "claimwise[cluster]"') from None
        here = {} if argument else {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        with Client(argument or None, **here) as client:  # type: ignore[no-untyped-call]
            yield client.get_executor()
    elif kind == "slurm":
        try:
            yield _SubmititExecutor(workspace.runs / ".submitit", argument, processors)
        except ImportError:
            raise ValueError('executor slurm needs the extra: pip install "claimwise[cluster]"') from None


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
    if executor.partition(":")[0] not in EXECUTORS:
        raise ValueError(f"unknown executor {executor!r}; use processes, dask[:ADDRESS] or slurm[:PARTITION]")
    ended: dict[int, Ended] = {}
    for position, job in enumerate(jobs):  # what is there already needs no worker
        try:
            there = find(job.find(), job.setup, job.seed, workspace, hardware)
        except (OSError, CorruptFile) as error:
            ended[position] = Ended(job, None, str(error))
            on_end(ended[position])
            continue
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
    processors = hardware.devices * max(hardware.of(jobs[position].setup).threads for position in left)
    with _executor(executor, min(workers, len(left)), processors, workspace.progress, workspace) as pool:
        run = _perform_apart if executor.startswith("dask") else _perform_elsewhere
        futures: dict[Future, int] = {}
        for position in left:
            job = jobs[position]
            futures[pool.submit(run, job.search, pickle.dumps(job), plain, hardware)] = position
        for future in as_completed(futures):
            position = futures[future]
            try:
                answer = future.result()
                ended[position] = pickle.loads(answer) if isinstance(answer, bytes) else answer
            except (BrokenProcessPool, CancelledError) as error:
                lost = f"its process died ({type(error).__name__}): killed, or out of memory? Run again to resume"
                ended[position] = Ended(jobs[position], None, lost)
            except Exception as error:
                ended[position] = Ended(jobs[position], None, f"{type(error).__name__}: {error}")
            on_end(ended[position])
    return [ended[position] for position in range(len(jobs))]
