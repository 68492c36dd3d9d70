"""A note of its own.

A paper takes it from the docstring of the module that makes it.
"""

from dataclasses import dataclass, field, replace

import pytest

from claimwise.lab import (
    EXACT,
    PAPER,
    REDUCED,
    STAND_IN,
    Collection,
    NotTested,
    Paper,
    Plan,
    Reported,
    all_of,
    trend,
)
from claimwise.papers import load


@dataclass(frozen=True)
class Setup:
    """Settings."""

    size: int = 1
    layers: tuple[int, ...] = (1, 2)


def a_paper():
    paper = Paper("trial")

    @paper.experiment(quick=Plan(Setup()), small=Plan(Setup(2), seeds=3, cost="an hour"))
    def net(run, setup):
        """Train.

        And more.
        """
        return {"error": setup.size}

    @paper.experiment(quick=Plan(Setup()))
    def other(run, setup):
        return {"error": 0.0}

    return paper, net, other


PAPER_, NET, OTHER = a_paper()
WHOLE = {
    "sheet": "F2",
    "says": "It errs.",
    "where": "section 4",
    "holds": NET["error"] > 0.5,
    "because": "half",
    "fidelity": {"quick": STAND_IN},
}


# what is declared ----------------------------------------------------------------------------------------------------


def test_a_paper_knows_its_module_note_and_experiments():
    paper, net, other = a_paper()
    assert paper.note == "A note of its own.\n\nA paper takes it from the docstring of the module that makes it."
    assert paper.module == __name__
    assert paper.file.name == "test_paper.py"
    assert paper.experiments == {"net": net, "other": other}
    assert (net.name, net.address, net.about) == ("net", "trial.net", "Train.")
    assert other.about == ""
    assert paper.scales() == ("quick", "small")
    assert list(paper.experiments_at("small")) == ["net"]
    assert net(None, Setup(7)) == {"error": 7}
    assert str(net["error"]) == "net.error"


def test_a_claim_at_several_scales():
    paper, net, other = a_paper()
    claim = paper.claim(
        "errs",
        sheet="F2 F9",
        says="It errs.",
        where="section 4",
        reported={net["error"]: Reported(0.894, "seen"), "gibbon confidence": Reported(0.993, "high")},
        holds={"quick": all_of(net["error"] > 0.5, other["error"] < 1), "small": net["error"] > 0.7},
        because="half",
        fidelity={"quick": STAND_IN, "small": REDUCED},
        differences={"quick": "digits"},
    )
    assert paper.claims == {"errs": claim}
    assert claim.sheet == ("F2", "F9")
    assert list(claim.experiments("quick")) == ["net", "other"]
    assert list(claim.experiments("small")) == ["net"]
    assert claim.experiments("paper") == {}
    assert [(str(quantity), figure.value) for quantity, figure in claim.reported] == [
        ("net.error", 0.894),
        ("gibbon confidence", 0.993),
    ]
    assert claim.differences == {"quick": "digits"}


def test_one_criterion_and_one_difference_serve_every_scale():
    paper, net, _ = a_paper()
    criterion = net["error"] > 0.5
    claim = paper.claim(
        "errs",
        **{**WHOLE, "holds": criterion, "fidelity": {"quick": STAND_IN, "small": PAPER}},
        differences="fewer epochs",
    )
    assert claim.criteria["quick"] is criterion
    assert claim.criteria["small"] is criterion
    assert claim.differences == {"quick": "fewer epochs", "small": "fewer epochs"}


def test_a_claim_that_nothing_tests():
    paper, _, _ = a_paper()
    claim = paper.claim(
        "panda",
        sheet=["F4"],
        says="GoogLeNet calls it a gibbon.",
        where="figure 1",
        reported={"gibbon confidence": Reported(0.993, "high")},
        not_tested=NotTested("data", "needs GoogLeNet's weights"),
    )
    assert claim.criteria == {}
    assert claim.sheet == ("F4",)


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"sheet": ""}, ValueError, "`sheet` is missing"),
        ({"sheet": "  "}, ValueError, "`sheet` is missing"),
        ({"says": ""}, ValueError, "`says` is missing"),
        ({"where": ""}, ValueError, "`where` is missing"),
        ({"because": ""}, ValueError, "needs `holds`, `because` and `fidelity`, or `not_tested`"),
        ({"holds": None}, ValueError, "needs `holds`"),
        ({"fidelity": None}, ValueError, "needs `holds`"),
        ({"fidelity": {}}, ValueError, "needs `holds`"),
        ({"fidelity": STAND_IN}, TypeError, "fidelity is given by scale.*got 'stand-in'"),
        ({"fidelity": {"tiny": STAND_IN}}, ValueError, "got 'tiny': 'stand-in'"),
        ({"fidelity": {"quick": "fair"}}, ValueError, "got 'quick': 'fair'"),
        ({"holds": 0.5}, TypeError, "must be a criterion such as a > 0.5, got 0.5"),
        ({"holds": NET["error"]}, TypeError, "must be a criterion"),
        ({"holds": {"small": NET["error"] > 1}}, ValueError, "a criterion at scale 'small' needs its fidelity"),
        (
            {"fidelity": {"quick": STAND_IN, "small": PAPER}, "holds": {"quick": NET["error"] > 1}},
            ValueError,
            "at small, but",
        ),
        ({"not_tested": NotTested("data", "none")}, ValueError, "neither `holds` nor `fidelity`"),
        (
            {"fidelity": {"small": REDUCED}, "holds": all_of(NET["error"] > 0, OTHER["error"] > 0)},
            ValueError,
            "tested at 'small', but trial.other has no plan there",
        ),
        ({"fidelity": {"paper": PAPER}}, ValueError, "tested at 'paper', but trial.net has no plan there"),
        ({"differences": {"small": "data"}}, ValueError, "`differences` speaks of small"),
        ({"reported": {NET["error"]: 0.894}}, TypeError, r"Reported\(value, sure\), got net.error: 0.894"),
        ({"reported": {0.894: Reported(1, "seen")}}, TypeError, "maps a measurement"),
        (
            {"reported": {NET["error"]: Reported(1, "seen"), PAPER_.experiments["net"]["error"]: Reported(2, "seen")}},
            ValueError,
            "names a quantity twice",
        ),
    ],
)
def test_a_claim_that_is_not_whole_is_refused_with_the_way_out(changed, error, said):
    PAPER_.claims.clear()
    with pytest.raises(error, match=said) as raised:
        PAPER_.claim("errs", **{**WHOLE, **changed})
    assert str(raised.value).startswith("trial: claim 'errs'")
    assert PAPER_.claims == {}


def test_a_claim_is_declared_once():
    PAPER_.claims.clear()
    PAPER_.claim("errs", **WHOLE)
    with pytest.raises(ValueError, match="trial: claim 'errs' is declared twice"):
        PAPER_.claim("errs", **WHOLE)


def test_a_claim_reads_its_own_paper_only():
    """A criterion over another collection's experiment would never find a run."""
    paper, _, _ = a_paper()
    shared = Collection("shared")
    lenet = shared.experiment(quick=Plan(Setup()))(lambda run, setup: {"error": 1.0})
    stranger = a_paper()[1]  # of the same name, but of another paper
    for leaf in (lenet["error"], stranger["error"]):
        with pytest.raises(ValueError, match=r"reads .*no experiment of this paper.*run\.needs"):
            paper.claim("errs", **{**WHOLE, "holds": leaf > 0.5})
        with pytest.raises(ValueError, match=r"no experiment of this paper"):
            paper.claim(
                "errs", **WHOLE | {"holds": paper.experiments["net"]["error"] > 0}, reported={leaf: Reported(1, "high")}
            )
    assert paper.claims == {}


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Plan(Setup), TypeError, "instance of a frozen dataclass"),
        (lambda: Plan({"size": 1}), TypeError, "instance of a frozen dataclass, got {'size': 1}"),
        (lambda: Plan(Thawed()), TypeError, "Thawed must be frozen"),
        (lambda: Plan(Setup(), seeds=0), ValueError, "seeds must be a whole number >= 1, got 0"),
        (lambda: Plan(Setup(), seeds=2.5), ValueError, "got 2.5"),
        (lambda: Plan(replace(Setup(), size=object())), TypeError, r"Setup\.size must be numbers, strings"),
        (lambda: Plan(Setup(layers=(Setup,))), TypeError, r"Setup\.layers must be"),
        (lambda: Reported("0.1", "seen"), TypeError, "must be a number, got '0.1'"),
        (lambda: Reported(True, "seen"), TypeError, "must be a number, got True"),
        (lambda: Reported(float("nan"), "seen"), ValueError, "finite, got nan"),
        (lambda: Reported(0.1, "certain"), ValueError, "sure must be one of paper, seen.*got 'certain'"),
        (lambda: Reported(0.1, "seen", tolerance=0.1), ValueError, "needs its reason"),
        (lambda: Reported(0.1, "seen", tolerance=-1, because="x"), ValueError, "tolerance must be >= 0"),
        (lambda: NotTested("time", "slow"), ValueError, "time is not one: give the claim a `paper` scale"),
        (
            lambda: NotTested("boredom", "dull"),
            ValueError,
            "reason must be one of data, hardware, people",
        ),
        (lambda: NotTested("data", ""), ValueError, "say in `detail`"),
        (lambda: Paper("not a key"), ValueError, "Paper: the key must be an identifier, got 'not a key'"),
        (
            lambda: Paper("p").experiment(tiny=Plan(Setup())),
            ValueError,
            "unknown scale .tiny.; the scales are quick",
        ),
        (lambda: Paper("p").experiment(quick=Setup()), TypeError, r"quick needs a Plan\(setup, seeds=...\)"),
        (lambda: Paper("p").experiment(quick=Plan(Setup()), small=Plan(Nested())), ValueError, "share one setup class"),
        (lambda: NET["error > 0.5"], TypeError, "named by an identifier, got 'error > 0.5'"),
        (lambda: NET[0], TypeError, "trial.net: a measurement is named"),
        (lambda: list(NET), TypeError, "a measurement is named"),
        (lambda: PAPER_.figure(), TypeError, "takes the experiments it reads"),
        (lambda: PAPER_.figure(NET["error"]), TypeError, "takes the experiments it reads"),
        (lambda: PAPER_.figure(a_paper()[1]), ValueError, "not of this paper"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(make, error, said):
    with pytest.raises(error, match=said):
        make()


@dataclass
class Thawed:
    size: int = 1


@dataclass(frozen=True)
class Nested:
    inner: Setup = field(default_factory=Setup)


def test_an_experiment_is_declared_once():
    paper, net, _ = a_paper()
    with pytest.raises(ValueError, match="trial: the experiment 'net' is declared twice"):
        paper.experiment(quick=Plan(Setup()))(net.function)


def test_a_setup_may_nest():
    assert Plan(Nested()).setup.inner == Setup()


def test_a_figure_needs_a_scale_that_all_its_experiments_have():
    paper, net, _ = a_paper()
    large = paper.experiment(paper=Plan(Setup()))(named("large"))
    with pytest.raises(ValueError, match="no scale that all of them have"):
        paper.figure(net, large)

    @paper.figure(net)
    def error_curve(results):
        return None

    assert paper.figures == [error_curve]
    assert error_curve.title == "Error curve"


def named(name):
    def function(run, setup):
        return {"error": 0.0}

    function.__name__ = name
    return function


# the bibliography beside the module ----------------------------------------------------------------------------------


def test_the_entry_stands_beside_the_module(written_paper, tmp_path):
    path = written_paper("")
    paper = load(str(path))
    assert paper.entry.title == f"Paper {paper.key}"
    assert paper.entry.authors == "Ann Author"
    assert paper.file == path


def test_a_missing_entry_says_where_it_belongs(written_paper, tmp_path):
    path = written_paper("")
    (tmp_path / "reading_list.bib").unlink()
    with pytest.raises(LookupError, match=r"no entry @misc\{.*reading_list\.bib; add one with title"):
        _ = load(str(path)).entry


def test_exact_fidelity_and_trend_are_written_alike():
    paper, net, _ = a_paper()
    claim = paper.claim("counts", **{**WHOLE, "holds": trend(net["curve"], "up"), "fidelity": {"quick": EXACT}})
    assert claim.fidelity == {"quick": EXACT}
