"""The reading list, and papers of installed packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from claimwise.papers import UnknownPaper, catalogue, load

MODULE = '''"""A paper of another package.

## What
It counts to four.
"""

from dataclasses import dataclass

from claimwise.lab import EXACT, Exact, Paper, Plan, equal

paper = Paper("outsider")


@dataclass(frozen=True)
class Nothing:
    """No settings."""


@paper.experiment(quick=Plan(Nothing(), seeds=1))
def count(run, setup):
    return {"four": Exact(4)}


paper.claim("four", sheet="1", says="It is four.", where="everywhere", holds=equal(count["four"], 4),
    because="a count", fidelity={"quick": EXACT})
'''

BIBLIOGRAPHY = """@misc{outsider,
  title = {A Paper From Outside},
  author = {Other, Olga},
  year = {2020},
  url = {https://example.org},
  topic = {outside},
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small package, installed by hand: a folder with the package and its dist-info."""
    site = tmp_path_factory.mktemp("site")
    package = site / "their_papers"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('listing papers must not import them')\n")
    (package / "reading_list.bib").write_text(BIBLIOGRAPHY)
    (package / "outsider.py").write_text(MODULE)
    info = site / "their_papers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-papers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[claimwise.papers]\noutsider = their_papers.outsider\n")
    return site


def claimwise(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", "claimwise.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=180)


def test_reading_list() -> None:
    listed = catalogue()
    assert list(listed)[:3] == ["fgsm", "vgg", "mediation"]
    assert listed["fgsm"].entry.year == 2015
    assert listed["fgsm"].entry.authors.startswith("Ian J. Goodfellow")
    assert load("mediation").key == "mediation"


def test_unknown_papers() -> None:
    with pytest.raises(UnknownPaper, match="did you mean 'mediation'"):
        load("meditation")
    with pytest.raises(UnknownPaper, match="the papers are fgsm"):
        load("zzzzzz")
    with pytest.raises(UnknownPaper, match=r"no file nothing\.py"):
        load("nothing.py")


def test_an_outside_paper_is_listed_without_importing_it(site: Path, tmp_path: Path) -> None:
    done = claimwise(site, tmp_path, "list", "--json")
    assert done.returncode == 0, done.stderr
    entry = next(entry for entry in json.loads(done.stdout) if entry["key"] == "outsider")
    assert (entry["title"], entry["year"], entry["topic"]) == ("A Paper From Outside", 2020, "outside")
    assert "A Paper From Outside" in claimwise(site, tmp_path, "cite", "outsider").stdout


def test_an_outside_paper_is_shown_and_run(site: Path, tmp_path: Path) -> None:
    (site / "their_papers" / "__init__.py").write_text("")
    done = claimwise(site, tmp_path, "show", "outsider", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["claims"][0]["claim"] == "four"
    done = claimwise(site, tmp_path, "run", "outsider", "--json")
    assert done.returncode == 0, done.stderr
    (claim,) = json.loads(done.stdout)["claims"]
    assert (claim["verdict"], claim["fidelity"]) == ("confirmed", "exact")
