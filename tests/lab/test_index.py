"""The index says what the folders say, whatever happens to it."""

import json
import os
from pathlib import Path

import pytest

from claimwise.lab.index import Index
from claimwise.lab.storage import write_json


def verdicts(runs: Path, paper: str, **claims: str) -> None:
    (runs / paper).mkdir(parents=True, exist_ok=True)
    said = [{"claim": claim, "verdict": verdict, "fidelity": "exact"} for claim, verdict in claims.items()]
    write_json(
        runs / paper / "quick.verdicts.json", {"paper": paper, "scale": "quick", "date": "2026-01-01", "claims": said}
    )


def run_folder(runs: Path, name: str, *, finished: bool) -> None:
    folder = runs / "mine" / "net" / name
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"identity": {"experiment": "mine.net", "seed": 3}, "module": "mine"})
    if finished:
        write_json(folder / "measurements.json", {"identity": "abc", "measurements": {}, "seconds": 1.5})


@pytest.fixture
def index(tmp_path: Path) -> Index:
    verdicts(tmp_path, "mine", first="confirmed", second="refuted")
    run_folder(tmp_path, "seed3-a", finished=True)
    run_folder(tmp_path, "seed3-b", finished=False)
    return Index(tmp_path)


def said(index: Index) -> dict[str, str]:
    return {verdict.claim: verdict.verdict for verdict in index.verdicts()}


BOTH = {"first": "confirmed", "second": "refuted"}


def test_reads_verdicts_and_runs(index: Index) -> None:
    assert said(index) == BOTH
    assert index.verdicts("other") == []
    done, open_ = index.all_runs()
    assert (done.folder, done.paper, done.experiment, done.seed) == ("mine/net/seed3-a", "mine", "net", 3)
    assert (done.finished, done.identity, done.seconds) == (True, "abc", 1.5)
    assert (open_.finished, open_.identity) == (False, "")


def test_no_runs_at_all(tmp_path: Path) -> None:
    assert Index(tmp_path / "nowhere").verdicts() == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("damage", ["delete", "garbage", "truncate", "empty"])
def test_rebuilt_when_lost_or_damaged(index: Index, damage: str) -> None:
    index.verdicts()
    whole = index.path.read_bytes()
    if damage == "delete":
        index.path.unlink()
    else:
        index.path.write_bytes(
            {"garbage": b"no database" * 500, "truncate": whole[: len(whole) // 2], "empty": b""}[damage]
        )
    assert said(index) == BOTH
    assert index.path.stat().st_size > 0


def test_rebuilt_when_stale(index: Index, tmp_path: Path) -> None:
    assert said(index) == BOTH
    verdicts(tmp_path, "mine", first="undecided")
    assert said(index) == {"first": "undecided"}
    (tmp_path / "mine" / "quick.verdicts.json").unlink()
    assert said(index) == {}


def test_is_not_rebuilt_while_current(index: Index) -> None:
    index.verdicts()
    before = index.path.stat().st_mtime_ns
    index.verdicts()
    assert index.path.stat().st_mtime_ns == before


def test_a_folder_that_is_not_whole_does_not_hide_the_others(index: Index, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "quick.verdicts.json").write_text('{"paper": "broken"')
    (tmp_path / "mine" / "net" / "seed3-a" / "config.json").write_text(json.dumps({"identity": {}}))
    assert said(index) == BOTH


def test_a_folder_that_takes_no_file_is_read_all_the_same(index: Index) -> None:
    index.path.mkdir()  # root may write anywhere, but no file takes a folder's place
    assert said(index) == BOTH
    assert not [name for name in os.listdir(index.runs) if name.startswith(".index-")]
