"""The skeleton of one's own paper."""

import pytest

from claimwise.lab.bibliography import read_bibliography
from claimwise.lab.run import Hardware, Workspace
from claimwise.lab.scaffold import write_skeleton
from claimwise.lab.study import Seeds, jobs_of, record_of, runs_of
from claimwise.lab.suite import run_suite
from claimwise.papers import load


@pytest.fixture
def own(written_paper, tmp_path):
    """A folder whose modules are forgotten after the test."""
    return tmp_path


def test_the_skeleton_is_a_whole_paper_and_is_judged_as_it_is(own):
    path = write_skeleton("scaffolded", own / "papers")
    assert path == own / "papers" / "scaffolded.py"
    paper = load(str(path))
    # what tests/papers/test_contract.py asks of every paper
    assert paper.entry.title
    assert paper.entry.authors
    assert paper.entry.year > 1900
    assert paper.entry.url.startswith("http")
    for heading in ("What", "How", "Why", "mislead"):
        assert heading in paper.note
    for claim in paper.claims.values():
        assert claim.sheet
        assert claim.because
        assert claim.differences["quick"]
    space = Workspace(own / "runs")
    ended = run_suite(jobs_of(paper, "quick", Seeds()), space, Hardware())
    record = record_of(paper, "quick", runs_of(paper, ended), space, Hardware())
    assert record.broken == {}
    assert [claim.verdict for claim in record.claims] == ["confirmed"]
    assert len(record.figures) == 1
    assert sum(end.run.cpu_seconds for end in ended) / 2 < 12


def test_a_second_skeleton_joins_the_bibliography(own):
    write_skeleton("first_one", own)
    with (own / "reading_list.bib").open("a") as bibliography:
        bibliography.write("% a remark of mine\n")
    write_skeleton("second_one", own)
    assert list(read_bibliography(own / "reading_list.bib")) == ["first_one", "second_one"]
    assert "% a remark of mine" in (own / "reading_list.bib").read_text()
    written = (own / "reading_list.bib").read_text()
    (own / "second_one.py").unlink()
    write_skeleton("second_one", own)
    assert (own / "reading_list.bib").read_text() == written, "an entry that is there stays as it is"


def test_a_bibliography_of_remarks_only_is_kept(own):
    (own / "reading_list.bib").write_text("% mine\n")
    write_skeleton("first_one", own)
    assert (own / "reading_list.bib").read_text().startswith("% mine\n")


@pytest.mark.parametrize("key", ["My", "my-paper", "1st", "", "a b", "../up", "class", "ümlaut", "_x"])
def test_a_key_is_a_lower_case_identifier(own, key):
    with pytest.raises(ValueError, match="a paper's key is lower-case letters, digits and underscores"):
        write_skeleton(key, own / "new")
    assert list(own.iterdir()) == []


@pytest.mark.parametrize("key", ["random", "torch", "numpy", "claimwise"])
def test_a_key_that_would_hide_a_module_is_refused(own, key):
    with pytest.raises(ValueError, match=f"the name '{key}' is taken by the module"):
        write_skeleton(key, own / "new")
    assert list(own.iterdir()) == []


def test_nothing_is_overwritten(own):
    path = own / "mine_own.py"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"mine_own\.py is there already; choose another key or folder"):
        write_skeleton("mine_own", own)
    assert path.read_text() == "precious"
    assert list(own.iterdir()) == [path]


def test_a_broken_bibliography_is_told_before_anything_is_written(own):
    (own / "reading_list.bib").write_text("@misc{x, title = {open")
    with pytest.raises(ValueError, match="unbalanced"):
        write_skeleton("first_one", own)
    assert [path.name for path in own.iterdir()] == ["reading_list.bib"]
