"""An SQLite index over the run folders, rebuilt from them when lost, damaged or stale: the folders are the truth."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE verdicts (
    paper TEXT, scale TEXT, claim TEXT, verdict TEXT, fidelity TEXT, date TEXT, PRIMARY KEY (paper, scale, claim)
);
CREATE TABLE runs (
    folder TEXT PRIMARY KEY, paper TEXT, experiment TEXT, seed INTEGER, identity TEXT, seconds REAL, finished INTEGER
);
CREATE TABLE sources (path TEXT PRIMARY KEY, mtime INTEGER, size INTEGER);
"""
_VERSION = 1


@dataclass(frozen=True)
class LastVerdict:
    """A claim's verdict when its paper was last run at a scale."""

    paper: str
    scale: str
    claim: str
    verdict: str
    fidelity: str
    date: str


@dataclass(frozen=True)
class IndexedRun:
    """A run folder."""

    folder: str
    paper: str
    experiment: str
    seed: int
    identity: str
    seconds: float
    finished: bool


def _sources(runs: Path) -> dict[str, tuple[int, int]]:
    """The files that the index is made from, with what tells that they changed."""
    found = {}
    for pattern in ("*/*.verdicts.json", "*/*/*/config.json", "*/*/*/measurements.json"):
        for path in runs.glob(pattern):
            try:
                stat = path.stat()
            except OSError:  # another process took it away meanwhile
                continue
            found[str(path.relative_to(runs))] = (stat.st_mtime_ns, stat.st_size)
    return found


class Index:
    """Questions about the runs of a folder, without reading every one of them."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.path = runs / "index.sqlite"

    @contextlib.contextmanager
    def _current(self) -> Iterator[sqlite3.Connection | None]:
        """The index, rebuilt first if it is not what the folders say; None where there is no run folder."""
        if not self.runs.is_dir():
            yield None
            return
        sources = _sources(self.runs)
        connection = self._open_if_current(sources)
        if connection is None:
            connection = self._rebuilt(sources)
        try:
            yield connection
        finally:
            connection.close()

    def _open_if_current(self, sources: dict[str, tuple[int, int]]) -> sqlite3.Connection | None:
        if not self.path.is_file():
            return None
        try:
            connection = sqlite3.connect(self.path, timeout=10)
        except sqlite3.OperationalError:  # somebody else's, and not to be read
            return None
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            known = {path: (mtime, size) for path, mtime, size in connection.execute("SELECT * FROM sources")}
            (whole,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if version == _VERSION and known == sources and whole == "ok":
                return connection
        except sqlite3.DatabaseError:
            pass  # damaged: the folders tell
        connection.close()
        return None

    def _rebuilt(self, sources: dict[str, tuple[int, int]]) -> sqlite3.Connection:
        """A new index, built beside the old one and put in its place; in memory where the folder takes no file."""
        beside = self.path.with_name(f".index-{os.getpid()}.sqlite")
        try:
            beside.unlink(missing_ok=True)
            connection = sqlite3.connect(beside)
            self._fill(connection, sources)
            connection.close()
            os.replace(beside, self.path)
            return sqlite3.connect(self.path, timeout=10)
        except (OSError, sqlite3.OperationalError):
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            connection = sqlite3.connect(":memory:")
            self._fill(connection, sources)
            return connection

    def _fill(self, connection: sqlite3.Connection, sources: dict[str, tuple[int, int]]) -> None:
        connection.executescript(_SCHEMA)
        for name in sources:
            try:
                content = json.loads((self.runs / name).read_text("utf-8"))
                if name.endswith(".verdicts.json"):
                    rows = [
                        (content["paper"], content["scale"], c["claim"], c["verdict"], c["fidelity"], content["date"])
                        for c in content["claims"]
                    ]
                    connection.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", rows)
                elif name.endswith("config.json"):
                    folder = str(Path(name).parent)
                    paper, _, experiment = content["identity"]["experiment"].partition(".")
                    seed = content["identity"]["seed"]
                    result = f"{folder}/measurements.json"
                    ended = json.loads((self.runs / result).read_text("utf-8")) if result in sources else {}
                    connection.execute(
                        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            folder,
                            paper,
                            experiment,
                            seed,
                            ended.get("identity", ""),
                            ended.get("seconds", 0.0),
                            bool(ended),
                        ),
                    )
            except (ValueError, KeyError, TypeError, AttributeError, OSError):
                continue  # a folder that is not whole is not indexed; running it again mends it
        connection.executemany("INSERT INTO sources VALUES (?, ?, ?)", [(p, m, s) for p, (m, s) in sources.items()])
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.commit()

    def verdicts(self, paper: str | None = None) -> list[LastVerdict]:
        """The last verdicts, of one paper or of all."""
        with self._current() as connection:
            if connection is None:
                return []
            where, values = ("WHERE paper = ?", (paper,)) if paper else ("", ())
            return [LastVerdict(*row) for row in connection.execute(f"SELECT * FROM verdicts {where}", values)]

    def all_runs(self) -> list[IndexedRun]:
        """Every run folder, finished or not."""
        with self._current() as connection:
            if connection is None:
                return []
            rows = connection.execute("SELECT * FROM runs ORDER BY folder")
            return [IndexedRun(*row[:-1], finished=bool(row[-1])) for row in rows]
