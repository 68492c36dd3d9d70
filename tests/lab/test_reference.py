"""Reference results: kept whole, read back, and compared."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from claimwise.lab import STAND_IN, Paper, Plan, Stored, Value
from claimwise.lab.records import ClaimOutcome, Estimate, PaperRecord, PartOutcome
from claimwise.lab.reference import CHANGED, Reference, drift, find_results, keep_reference
from claimwise.lab.storage import CorruptFile


@dataclass(frozen=True)
class Setup:
    """Settings."""


def a_paper(threshold=0.5):
    paper = Paper("trial")

    @paper.experiment(quick=Plan(Setup()), small=Plan(Setup()))
    def net(run, setup):
        pass

    for id in ("one", "two"):
        paper.claim(
            id,
            sheet="1",
            says="s",
            where="w",
            because="b",
            holds=net["x"] > (threshold if id == "one" else 0.1),
            fidelity={"quick": STAND_IN},
        )
    return paper


def an_outcome(paper, id="one", **changed):
    criterion = paper.claims[id].criteria["quick"]
    values = {
        "paper": "trial",
        "claim": id,
        "sheet": ("1",),
        "statement": "s",
        "where": "w",
        "reported": {},
        "measured": {"net.x": Estimate(0.7, 0.6, 0.8, 5, "", "t over 5 seeds")},
        "figures": {},
        "parts": (PartOutcome(str(criterion), 0.7, 0.6, 0.8, "confirmed"),),
        "verdict": "confirmed",
        "reason": "r",
        "fidelity": STAND_IN,
        "differences": "",
        "criterion": str(criterion),
        "criterion_digest": criterion.digest,
        "seeds": (0, 1, 2, 3, 4),
    }
    return ClaimOutcome(**{**values, **changed})


def a_record(*claims, data=None, seeds=range(5)):
    stamp = {"date": "2026-01-01", "data": data or {}, "runs": {f"net-seed{seed}": "abc" for seed in seeds}}
    texts = {"title": "T", "authors": "A", "venue": "V", "url": "u", "topic": "t", "note": "n"}
    return PaperRecord(key="trial", year=2020, scale="quick", seconds=1.5, claims=claims, stamp=stamp, **texts)


def kept(folder, record, before=None, figures=()):
    keep_reference(record, folder, before, list(figures))
    found = Reference.read(folder, "trial", "quick")
    assert found is not None
    return found


# kept and read -------------------------------------------------------------------------------------------------------


def test_reference_results_come_back(tmp_path):
    paper = a_paper()
    outcome = an_outcome(paper, measured={"net.x": Estimate(math.nan, -math.inf, math.inf, 1)})
    found = kept(tmp_path / "results", a_record(outcome, an_outcome(paper, "two")))
    assert found.path == tmp_path / "results" / "trial.quick.json"
    assert repr(found.claims["one"]) == repr(outcome)
    assert found.seconds == 1.5
    assert found.seeds_of("net") == [0, 1, 2, 3, 4]
    assert found.seeds_of("ne") == found.seeds_of("net.*") == []
    assert Reference.read(tmp_path / "results", "trial", "small") is None
    assert Reference.read(tmp_path / "none", "trial", "quick") is None


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"claims": [{}]}', '{"claims": [{"claim": "x", "more": 1}], "stamp": {}}']
)
def test_what_is_no_reference_is_said(tmp_path, text):
    (tmp_path / "trial.quick.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"trial\.quick\.json"):
        Reference.read(tmp_path, "trial", "quick")


def test_pictures_that_are_gone_are_taken_away(tmp_path):
    paper = a_paper()
    kept(tmp_path, a_record(an_outcome(paper)), figures=[("curve", "<svg/>"), ("old", "<svg/>")])
    assert sorted(p.name for p in (tmp_path / "trial.quick").iterdir()) == ["curve.svg", "old.svg"]
    kept(tmp_path, a_record(an_outcome(paper)), figures=[("curve", "<svg>2</svg>")])
    assert [p.read_text() for p in (tmp_path / "trial.quick").iterdir()] == ["<svg>2</svg>"]
    kept(tmp_path, a_record(an_outcome(paper)), figures=[])
    assert not list(tmp_path.rglob("*.svg")), "what was shown before and may no longer be is taken away, too"


# a criterion that was edited -----------------------------------------------------------------------------------------


def measured(paper, seeds):
    return {"net": Stored("trial.net", tuple(seeds), {}, [{"x": Value(1.0)} for _ in seeds])}


def test_an_edited_criterion_is_said_until_fresh_seeds_answer(tmp_path):
    before, after = a_paper(0.5), a_paper(0.6)
    reference = kept(tmp_path, a_record(an_outcome(before), an_outcome(before, "two")))
    one, two = after.claims["one"], after.claims["two"]
    assert reference.warning(two, "quick", measured(after, range(5))) == ""
    assert reference.warning(before.claims["one"], "quick", measured(before, range(5))) == ""
    for seeds in (range(5), range(10), range(4, 9)):
        assert reference.warning(one, "quick", measured(after, seeds)).startswith(CHANGED), seeds
    assert reference.warning(one, "quick", {}).startswith(CHANGED)
    assert reference.warning(one, "quick", measured(after, range(5, 10))) == ""
    assert reference.warning(one, "small", measured(after, range(5))) == ""
    assert reference.used(before, "quick") == 0
    assert reference.used(after, "quick") == 5


def test_recording_the_same_seeds_does_not_clear_the_edit(tmp_path):
    before, after = a_paper(0.5), a_paper(0.6)
    reference = kept(tmp_path, a_record(an_outcome(before)))
    warned = an_outcome(after, warning=f"{CHANGED}: run it on fresh seeds (--fresh)")
    reference = kept(tmp_path, a_record(warned), reference)
    assert reference.claims["one"].criterion_digest == before.claims["one"].criteria["quick"].digest
    assert reference.warning(after.claims["one"], "quick", measured(after, range(5))).startswith(CHANGED)
    fresh = an_outcome(after, seeds=(5, 6, 7, 8, 9))
    reference = kept(tmp_path, a_record(fresh, seeds=range(5, 10)), reference)
    assert reference.warning(after.claims["one"], "quick", measured(after, range(5, 10))) == ""
    # a second edit needs seeds beyond those, too
    again = a_paper(0.65)
    assert reference.warning(again.claims["one"], "quick", measured(again, range(5, 10))).startswith(CHANGED)
    assert reference.used(again, "quick") == 10
    assert reference.warning(again.claims["one"], "quick", measured(again, range(10, 15))) == ""


def test_a_warning_about_another_references_claim_is_no_crash(tmp_path):
    paper = a_paper()
    first = kept(tmp_path / "a", a_record(an_outcome(paper, "two")))
    found = kept(tmp_path / "b", a_record(an_outcome(paper, warning=CHANGED)), first)
    assert set(found.claims) == {"one"}


# drift ---------------------------------------------------------------------------------------------------------------


def now(value=0.7, **changed):
    estimate = Estimate(value, value - 0.01, value + 0.01, 5)
    return an_outcome(a_paper(), **{"measured": {"net.x": estimate}, **changed})


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (now(), []),
        (now(0.6), []),
        (now(0.8), []),
        (now(0.8000000001), []),
        (now(0.59), ["one: net.x is 0.59, outside the reference interval [0.6, 0.8]"]),
        (now(0.81), ["one: net.x is 0.81, outside the reference interval [0.6, 0.8]"]),
        (now(float("nan")), ["one: net.x is nan, outside the reference interval [0.6, 0.8]"]),
        (now(verdict="undecided", reason="why"), ["one: was confirmed, is undecided (why)"]),
        (
            now(verdict="not tested", reason="why", measured={}),
            ["one: was confirmed, is not tested", "no longer measured"],
        ),
        (now(measured={}), ["one: net.x is no longer measured"]),
    ],
)
def test_drift_is_a_verdict_or_a_figure_that_left_its_interval(tmp_path, outcome, said):
    reference = kept(tmp_path, a_record(an_outcome(a_paper())))
    changes = drift(a_record(outcome), reference)
    assert len(changes) == len(said)
    for change, words in zip(changes, said, strict=True):
        assert words in change


def test_a_claim_that_is_gone_is_drift_and_a_new_one_is_not(tmp_path):
    paper = a_paper()
    reference = kept(tmp_path, a_record(an_outcome(paper), an_outcome(paper, "two", verdict="not tested", measured={})))
    assert drift(a_record(), reference) == ["one: the claim is gone; it was confirmed"]
    assert drift(a_record(an_outcome(paper), replace(an_outcome(paper), claim="new")), reference) == []


def test_an_exact_figure_must_stay_what_it_was(tmp_path):
    def counted(value):
        return an_outcome(a_paper(), measured={"net.layers": Estimate(value, value, value, 1, "", "exact")})

    reference = kept(tmp_path, a_record(counted(16.0)))
    assert drift(a_record(counted(16.0)), reference) == []
    assert len(drift(a_record(counted(17.0)), reference)) == 1


def test_a_figure_without_an_interval_never_drifts(tmp_path):
    endless = an_outcome(a_paper(), measured={"net.x": Estimate(0.7, -math.inf, math.inf, 5)})
    assert drift(a_record(now(123.0)), kept(tmp_path, a_record(endless))) == []


# where they are ------------------------------------------------------------------------------------------------------


def test_results_are_found_here_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_results(Path("elsewhere")) == Path("elsewhere")
    found = find_results()
    assert found is None or found.resolve() != tmp_path / "results"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "trial.quick.json").write_text(json.dumps({}))
    assert find_results() == Path("results")
