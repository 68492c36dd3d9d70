"""The reading list: what is listed without importing it, papers in files, papers of other packages."""

import importlib
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from claimwise.papers import BrokenPaper, UnknownPaper, catalogue, load


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a package with an entry point of the group on the path, as an installer would."""

    def install(point: str, files: dict[str, str], name: str = "outside_dist") -> Path:
        site = tmp_path / "site"
        for path, text in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(textwrap.dedent(text), "utf-8")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[claimwise.papers]\n{point}\n")
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        return site

    before = set(sys.modules)
    yield install
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


PAPER = '''
    """A paper from outside."""
    from dataclasses import dataclass
    from claimwise.lab import *

    paper = Paper("{key}")

    @dataclass(frozen=True)
    class Setup:
        """Settings."""

        size: float = 1.0

    @paper.experiment(quick=Plan(Setup(), seeds=3))
    def net(run, setup):
        return {{"x": Exact(setup.size)}}

    paper.claim("one", sheet="1", says="It is one.", where="1", holds=equal(net["x"], 1), because="so",
                fidelity={{"quick": EXACT}})
'''
ENTRY = "@misc{{{key}, title = {{From outside}}, author = {{Author, Ann}}, year = {{2020}}, topic = {{elsewhere}}}}\n"


def package(key: str) -> dict[str, str]:
    return {
        "outside_package/__init__.py": "raise RuntimeError('listing must not import')",
        "outside_package/papers/__init__.py": "",
        f"outside_package/papers/{key}.py": PAPER.format(key=key),
        "outside_package/papers/reading_list.bib": ENTRY.format(key=key),
    }


# the list ------------------------------------------------------------------------------------------------------------


def test_the_list_holds_entries_that_have_a_module():
    known = catalogue()
    assert {"fgsm", "vgg", "mediation"} <= set(known)
    for key in ("fgsm", "vgg", "mediation"):
        assert known[key].module == f"claimwise.papers.{key}"
        assert (Path(__file__).parents[2] / "src/claimwise/papers" / f"{key}.py").is_file()


def test_a_paper_is_loaded_by_its_key():
    assert load("fgsm").key == "fgsm"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("fgsn", r"unknown paper 'fgsn'; did you mean 'fgsm'\?"),
        ("VGG", r"unknown paper 'VGG'; did you mean 'vgg'\?"),
        ("zzzzz", r"unknown paper 'zzzzz'; the papers are .*fgsm"),
        ("", r"unknown paper ''; the papers are"),
        ("fgsm; rm", r"unknown paper"),
        ("../fgsm", r"unknown paper"),
    ],
)
def test_an_unknown_paper_names_the_nearest(key, said):
    with pytest.raises(UnknownPaper, match=said):
        load(key)


# files ---------------------------------------------------------------------------------------------------------------


def test_a_paper_in_a_file(written_paper):
    path = written_paper("")
    paper = load(str(path))
    assert paper.key == path.stem
    assert paper.file == path
    assert load(str(path)) is paper


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UnknownPaper, match=r"no file .*nothing\.py; name a paper of the list, or a file made by"):
        load(str(tmp_path / "nothing.py"))


@pytest.mark.parametrize("name", ["random", "torch", "json", "claimwise"])
def test_a_file_that_takes_another_modules_name_is_refused(written_paper, name):
    """Imported by that name it would be the other module, or hide it from everything else."""
    with pytest.raises(UnknownPaper, match=f"the module name '{name}' is taken by .*; rename the file and its key"):
        load(str(written_paper("", name)))


def test_two_files_of_one_name_are_not_taken_for_each_other(tmp_path, write_paper, written_paper):
    first = written_paper("", "namesake")
    second = write_paper(tmp_path / "elsewhere", "", "namesake")
    assert load(str(first)).file == first
    with pytest.raises(UnknownPaper, match=r"'namesake' is taken by .*namesake\.py"):
        load(str(second))


def test_a_file_is_named_by_a_key(tmp_path):
    for name in ("my-paper.py", "my.paper.py", "1st.py"):
        (tmp_path / name).write_text("")
        with pytest.raises(UnknownPaper, match="a paper's file is named by its key"):
            load(str(tmp_path / name))


def test_a_file_without_its_paper_says_what_it_defines(tmp_path, written_paper):
    path = written_paper("")
    path.write_text(path.read_text().replace(f'Paper("{path.stem}")', 'Paper("other")'))
    with pytest.raises(LookupError, match=rf"{path.stem}: defines no Paper\('{path.stem}'\); it defines other"):
        load(str(path))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("this is no Python", r"SyntaxError: .*line \d+"),
        ("import not_there", r"ModuleNotFoundError: No module named 'not_there' \(.*\.py, line \d+\)"),
        ("1 / 0", r"ZeroDivisionError: division by zero \(.*\.py, line \d+\)"),
        (
            "paper.claim('c', sheet='1', says='s', where='w')",
            r"ValueError: .*claim 'c': needs `holds`, .*paper_\w+\.py, line \d+\)",
        ),
    ],
)
def test_a_module_that_does_not_import_says_where(written_paper, body, said):
    path = written_paper(body)
    with pytest.raises(BrokenPaper, match=rf"^{path.stem}: cannot import {path.stem}: {said}"):
        load(str(path))


# other packages ------------------------------------------------------------------------------------------------------


def test_a_paper_of_another_package_is_listed_without_importing_it(installed):
    installed("from_outside = outside_package.papers.from_outside", package("from_outside"))
    listing = catalogue()["from_outside"]
    assert listing.entry.title == "From outside"
    assert (listing.entry.year, listing.entry.topic) == (2020, "elsewhere")
    assert listing.module == "outside_package.papers.from_outside"
    assert "outside_package" not in sys.modules


def test_a_paper_of_another_package_is_loaded(installed):
    files = package("from_outside") | {"outside_package/__init__.py": ""}
    installed("from_outside = outside_package.papers.from_outside", files)
    paper = load("from_outside")
    assert paper.key == "from_outside"
    assert paper.entry.title == "From outside"


def test_a_single_module_will_do(installed):
    installed(
        "lone = lone_module", {"lone_module.py": PAPER.format(key="lone"), "reading_list.bib": ENTRY.format(key="lone")}
    )
    assert catalogue()["lone"].entry.title == "From outside"
    assert load("lone").entry.year == 2020


def test_ours_come_first(installed):
    installed("fgsm = outside_package.papers.fgsm", package("fgsm"))
    assert catalogue()["fgsm"].module == "claimwise.papers.fgsm"


@pytest.mark.parametrize(
    ("point", "files", "said"),
    [
        ("gone = not_a_package_at_all.papers", {}, "which is not there"),
        (
            "broken_bib = outside_package.papers.broken_bib",
            package("broken_bib") | {"outside_package/papers/reading_list.bib": "@misc{broken_bib, title = {open"},
            "unbalanced braces",
        ),
    ],
)
def test_a_package_at_fault_does_not_hide_the_others(installed, point, files, said):
    installed(point, files)
    with pytest.warns(UserWarning, match=said):
        known = catalogue()
    assert "fgsm" in known


def test_a_paper_without_an_entry_is_listed_by_its_key(installed):
    files = package("bare") | {"outside_package/papers/reading_list.bib": ""}
    installed("bare = outside_package.papers.bare", files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert catalogue()["bare"].entry.title == "bare"


def test_the_command_lists_shows_and_runs_a_paper_of_another_package(installed, tmp_path):
    """As installed: its folder on PYTHONPATH of new processes, workers among them."""
    files = package("from_outside") | {"outside_package/__init__.py": ""}
    site = installed("from_outside = outside_package.papers.from_outside", files)
    import os

    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    program = (
        "import sys; from claimwise.cli import main\n"
        "print('--'); main(['list']); print('--'); main(['show', 'from_outside', '--json']); print('--')\n"
        "sys.exit(main(['run', 'from_outside', '--json', '--jobs', '1']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    _, listed, shown, ran = done.stdout.split("--\n")
    assert "elsewhere\n  from_outside       From outside (2020)" in listed
    assert '"title": "From outside"' in shown
    assert '"verdict": "confirmed"' in ran
