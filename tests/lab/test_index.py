"""The index is only a memory of the folders: lost, damaged or stale, it is made again from them."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

from claimwise.lab.index import Index, IndexedRun, LastVerdict


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, one of them finished, and the verdicts of a paper."""
    folder = tmp_path / "runs"
    for seed, finished in ((0, True), (1, False)):
        run = folder / "fgsm" / "maxout" / f"seed{seed}-abc"
        run.mkdir(parents=True)
        identity = {"experiment": "fgsm.maxout", "seed": seed}
        (run / "config.json").write_text(json.dumps({"identity": identity}))
        if finished:
            (run / "measurements.json").write_text(json.dumps({"identity": "id0", "seconds": 2.5, "measurements": {}}))
    verdicts(folder, "refuted")
    return folder


def verdicts(runs: Path, verdict: str, paper: str = "fgsm") -> None:
    (runs / paper).mkdir(parents=True, exist_ok=True)
    claims = [{"claim": "one", "verdict": verdict, "fidelity": "stand-in"}]
    content = {"paper": paper, "scale": "quick", "date": "2026-01-01", "claims": claims}
    (runs / paper / "quick.verdicts.json").write_text(json.dumps(content))


RUNS = [
    IndexedRun("fgsm/maxout/seed0-abc", "fgsm", "maxout", 0, "id0", 2.5, True),
    IndexedRun("fgsm/maxout/seed1-abc", "fgsm", "maxout", 1, "", 0.0, False),
]


def said(verdict: str) -> list[LastVerdict]:
    return [LastVerdict("fgsm", "quick", "one", verdict, "stand-in", "2026-01-01")]


def test_the_index_says_what_the_folders_hold(runs):
    index = Index(runs)
    assert index.verdicts() == said("refuted")
    assert index.verdicts("fgsm") == said("refuted")
    assert index.verdicts("vgg") == []
    assert index.all_runs() == RUNS
    assert index.path.is_file()


def test_no_folder_is_no_runs(tmp_path):
    index = Index(tmp_path / "none")
    assert index.verdicts() == []
    assert index.all_runs() == []
    assert not (tmp_path / "none").exists()


def test_a_current_index_is_read_and_not_made_again(runs, monkeypatch):
    Index(runs).verdicts()

    def never(self, sources):
        raise AssertionError("made again")

    monkeypatch.setattr(Index, "_rebuilt", never)
    assert Index(runs).verdicts() == said("refuted")


def rewrite(path: Path) -> None:
    path.write_text("not a database")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def overwrite_the_verdicts(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'verdicts'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("DELETE FROM verdicts")


def without_a_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE sources")


@pytest.mark.parametrize(
    "damage", [Path.unlink, rewrite, truncate, overwrite_the_verdicts, empty, of_another_version, without_a_table]
)
def test_a_lost_or_damaged_index_is_made_again(runs, damage):
    Index(runs).verdicts()
    damage(runs / "index.sqlite")
    assert Index(runs).verdicts() == said("refuted")
    assert Index(runs).all_runs() == RUNS
    with sqlite3.connect(runs / "index.sqlite") as connection:
        assert connection.execute("SELECT verdict FROM verdicts").fetchall() == [("refuted",)]


def test_a_stale_index_is_made_again(runs):
    index = Index(runs)
    assert index.verdicts() == said("refuted")
    verdicts(runs, "confirmed")
    assert index.verdicts() == said("confirmed")
    verdicts(runs, "undecided", "vgg")
    assert {v.paper for v in index.verdicts()} == {"fgsm", "vgg"}
    (runs / "vgg" / "quick.verdicts.json").unlink()
    assert index.verdicts() == said("confirmed")
    (runs / "fgsm" / "maxout" / "seed1-abc" / "measurements.json").write_text('{"identity": "id1", "seconds": 1.0}')
    assert [run.finished for run in index.all_runs()] == [True, True]


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(runs):
    index = Index(runs)
    index.verdicts()
    verdicts(runs, "REFUTED")
    assert index.verdicts() == said("REFUTED")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"identity": 3}', '{"identity": {"experiment": 1}}', "\x00"])
def test_a_folder_that_is_not_whole_hides_no_other(runs, content):
    for file in (runs / "fgsm/maxout/seed1-abc/config.json", runs / "vgg" / "quick.verdicts.json"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    index = Index(runs)
    assert index.verdicts() == said("refuted")
    assert index.all_runs()[0] == RUNS[0]


def as_nobody(work) -> None:
    """In a child process without root's power to write anywhere."""
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("known", [False, True])
def test_a_folder_that_takes_no_file_is_indexed_in_memory(runs, known, monkeypatch):
    if known:  # a stale index that cannot be replaced
        Index(runs).verdicts()
        verdicts(runs, "confirmed")
    for path in (runs, *runs.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.chdir(runs)  # the folders above belong to the test's user alone

    def work() -> None:
        index = Index(Path("."))
        assert index.verdicts() == said("confirmed" if known else "refuted")
        assert len(index.all_runs()) == 2
        assert not list(Path(".").glob(".index*"))

    try:
        as_nobody(work)
    finally:
        for path in (runs, *runs.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert (runs / "index.sqlite").exists() == known


def test_a_full_disk_is_no_reason_to_answer_nothing(runs):
    import resource
    import signal

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        assert Index(runs).verdicts() == said("refuted")
        assert not list(runs.glob(".index*"))

    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert Index(runs).verdicts() == said("refuted")


def test_several_processes_make_it_at_once(runs):
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if Index(runs).verdicts() == said("refuted") else 1)
            except BaseException:
                os._exit(2)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert sorted(path.name for path in runs.iterdir()) == ["fgsm", "index.sqlite"]
