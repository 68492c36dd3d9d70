"""Suites: however runs are spread, the numbers are the same, and one that dies is said and takes no other with it."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from claimwise.lab import suite
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.suite import Ended, Job, perform, run_suite
from claimwise.papers import load

BODY = """
    import os, random, time

    @paper.experiment(quick=Plan(Setup(), seeds=4))
    def net(run, setup):
        print("what an experiment prints")
        x, w = torch.randn(20, 3), torch.zeros(3, requires_grad=True)
        def step(state, i):
            loss = (x @ w - torch.randn(20)).square().mean()
            (g,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w.sub_(0.1 * g)
            return {"loss": float(loss.detach())}
        run.loop({"w": w}, step, until=5)
        draw = np.random.rand() + random.random()
        return {"w": float(w.detach().sum()) * setup.size, "draw": draw, "pid": os.getpid()}

    @paper.experiment(quick=Plan(Setup(), seeds=3))
    def dies(run, setup):
        if run.seed == 1:
            os._exit(7)
        time.sleep(0.3)
        return {"x": float(torch.rand(()))}

    @paper.experiment(quick=Plan(Setup()))
    def raises(run, setup):
        raise ValueError(f"seed {run.seed} is bad")
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, write_paper):
    paper = load(str(write_paper(tmp_path_factory.mktemp("suite"), BODY)))

    def make(name: str, seeds=range(4)) -> list[Job]:
        experiment = paper.experiments[name]
        return [Job.of(experiment, experiment.plans["quick"].setup, seed) for seed in seeds]

    return make


def numbers(ended: list[Ended]) -> list[dict]:
    assert all(end.run is not None for end in ended), [end.error for end in ended]
    return [{k: m.value for k, m in end.run.measurements.items() if k != "pid"} for end in ended]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def serial(jobs, tmp_path_factory) -> list[dict]:
    space = Workspace(tmp_path_factory.mktemp("serial"))
    return numbers(run_suite(jobs("net"), space, Hardware()))


def test_one_process_and_several_give_the_same_numbers_and_one_death_takes_no_other_run(jobs, serial, tmp_path, capfd):
    """In one test, since every worker takes seconds to start."""
    heard, ends = [], []
    space = Workspace(tmp_path, checkpoint_seconds=0.0, progress=lambda *said: heard.append(said))
    wanted = [*jobs("dies", range(3)), *jobs("net"), *jobs("raises", [5])]
    started = time.perf_counter()
    ended = run_suite(wanted, space, Hardware(), workers=2, on_end=ends.append)
    assert time.perf_counter() - started < 120
    assert [end.job for end in ended] == wanted
    assert len(ends) == len(wanted)
    died, well, raised = ended[1], [ended[0], ended[2], *ended[3:7]], ended[7]
    assert numbers(ended[3:7]) == serial
    assert all(end.run is not None for end in well)
    assert died.run is None
    assert "its process died (BrokenProcessPool): killed, or out of memory? Run again to resume" in died.error
    assert raised.run is None
    assert "seed 5: ValueError: seed 5 is bad" in raised.error
    pids = {end.run.measurements["pid"].value for end in ended[3:7]}
    assert os.getpid() not in pids
    assert any(loop == "loop1" and total == 5 for _, _, loop, _, total in heard)
    assert "what an experiment prints" not in capfd.readouterr().out
    # what is there needs no worker
    again = run_suite(wanted[3:7], space, Hardware(), workers=2)
    assert [end.run for end in again] == [end.run for end in ended[3:7]]


def test_one_process_goes_on_after_what_breaks(jobs, serial, tmp_path, capsys):
    ended = run_suite([*jobs("raises", [0]), *jobs("net")], Workspace(tmp_path), Hardware())
    assert ended[0].error.startswith(f"{ended[0].job.module}.raises, seed 0: ValueError: seed 0 is bad")
    assert numbers(ended[1:]) == serial
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("what an experiment prints") == 4


def test_what_is_no_fault_of_the_experiment_is_an_outcome_too(jobs, tmp_path):
    (job,) = jobs("net", [0])
    (tmp_path / "file").write_text("")
    ended = perform(job, Workspace(tmp_path / "file"), Hardware())
    assert ended.run is None
    assert "file" in ended.error
    ended = perform(replace(job, experiment="none"), Workspace(tmp_path), Hardware())
    assert ended.error.startswith("LookupError: ")
    assert "declares no experiment 'none'" in ended.error
    assert "Traceback" in ended.error


def test_a_damaged_run_is_said_and_the_others_go_on(jobs, serial, tmp_path):
    space = Workspace(tmp_path)
    ended = run_suite(jobs("net"), space, Hardware())
    (ended[2].run.folder / "measurements.json").write_text("{")
    again = run_suite(jobs("net"), space, Hardware())
    assert [end.run is None for end in again] == [False, False, True, False]
    assert "measurements.json: not JSON" in again[2].error


def test_only_what_is_missing_is_made(jobs, tmp_path, monkeypatch):
    space = Workspace(tmp_path)
    run_suite(jobs("net", [0, 2]), space, Hardware())
    made = []
    monkeypatch.setattr(
        suite, "execute", lambda e, setup, seed, *rest: made.append(seed) or execute(e, setup, seed, *rest)
    )
    ended = run_suite(jobs("net"), space, Hardware())
    assert made == [1, 3]
    assert [end.job.seed for end in ended] == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_make_no_run(jobs, tmp_path, workers):
    with pytest.raises(ValueError, match=f"workers must be >= 1, got {workers}"):
        run_suite(jobs("net"), Workspace(tmp_path), Hardware(), workers=workers)


def test_an_unknown_executor_is_refused_before_anything_runs(jobs, tmp_path):
    with pytest.raises(ValueError, match=r"unknown executor 'cloud'; use processes, dask\[:ADDRESS\] or slurm"):
        run_suite(jobs("net"), Workspace(tmp_path), Hardware(), executor="cloud")
    assert list(tmp_path.iterdir()) == []
    assert run_suite([], Workspace(tmp_path), Hardware(), workers=2) == []


def test_a_job_is_told_apart_from_the_installed(jobs):
    (job,) = jobs("net", [0])
    assert Path(job.search).is_dir()
    assert job.find().name == "net"
    from claimwise.papers import fgsm

    experiment = next(iter(fgsm.paper.experiments.values()))
    installed = Job.of(experiment, None, 0)
    assert installed.search == ""
    assert installed.find() is experiment


@pytest.mark.long
def test_dask_gives_the_same_numbers(jobs, serial, tmp_path):
    pytest.importorskip("distributed")
    wanted = [*jobs("net"), *jobs("raises", [0]), *jobs("dies", [1])]
    ended = run_suite(wanted, Workspace(tmp_path), Hardware(), workers=2, executor="dask")
    assert numbers(ended[:4]) == serial
    assert "seed 0 is bad" in ended[4].error
    assert "its process died with status 7" in ended[5].error


@pytest.mark.long
def test_threads_of_a_dask_worker_do_not_disturb_each_other(jobs, serial, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
    ) as cluster:
        ended = run_suite(
            jobs("net", range(2)),
            Workspace(tmp_path),
            Hardware(),
            workers=2,
            executor=f"dask:{cluster.scheduler_address}",
        )
    assert numbers(ended) == serial[:2]


@pytest.mark.long
def test_submitit_gives_the_same_numbers_and_says_what_died(jobs, serial, tmp_path):
    pytest.importorskip("submitit")
    ended = run_suite(
        [*jobs("net", range(2)), *jobs("dies", [1]), *jobs("raises", [0])],
        Workspace(tmp_path),
        Hardware(),
        workers=2,
        executor="slurm:local",
    )
    assert numbers(ended[:2]) == serial[:2]
    assert ended[2].run is None
    assert ended[2].error
    assert "seed 0 is bad" in ended[3].error


def test_a_scheduler_is_asked_for_the_processors_of_the_widest_run(jobs, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    asked = []

    class Asked(suite._SubmititExecutor):
        def __init__(self, folder, partition, processors):
            asked.append(processors)
            super().__init__(folder, partition, processors)
            assert self._executor._executor.parameters["cpus_per_task"] == processors
            raise KeyboardInterrupt

    monkeypatch.setattr(suite, "_SubmititExecutor", Asked)
    with pytest.raises(KeyboardInterrupt):
        run_suite(jobs("net", range(2)), Workspace(tmp_path), Hardware(threads=3, devices=2), executor="slurm:local")
    assert asked == [6]


def test_what_waits_is_cancelled_when_the_suite_is_stopped(monkeypatch):
    """An interrupt must not wait for runs that have not begun. (Threads here: a process takes seconds to start.)"""
    monkeypatch.setattr(suite, "ProcessPoolExecutor", lambda workers, **how: ThreadPoolExecutor(workers))
    pool = suite._Processes(1, lambda *said: None)
    running = threading.Event()
    first = pool.submit(time.sleep, 0.3)
    rest = [pool.submit(time.sleep, 60) for _ in range(3)]
    while not first.running():
        running.wait(0.01)
    pool.shutdown(cancel_futures=True)
    assert first.result() is None
    assert all(future.cancelled() for future in rest)
