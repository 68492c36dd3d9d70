"""A paper at a scale: which runs, at which look, and what is said when less or more than planned is there."""

import json
from dataclasses import dataclass, replace

import pytest

from claimwise.lab import EXACT, PAPER, STAND_IN, Exact, NotTested, Paper, Plan, Reported, equal
from claimwise.lab import run as runs_module
from claimwise.lab.reference import Reference, keep_reference
from claimwise.lab.run import FinishedRun, Hardware, Workspace, execute
from claimwise.lab.study import (
    UNFIT,
    Seeds,
    broken_of,
    draw_figures,
    jobs_again,
    jobs_of,
    keep_verdicts,
    measurements_of,
    outcomes,
    plan_rows,
    record_of,
    runs_at_hand,
    runs_of,
    stamp,
)
from claimwise.lab.suite import Ended, Job
from claimwise.papers import load


@dataclass(frozen=True)
class Setup:
    """Settings of a test."""

    size: float = 1.0


paper = Paper("trial")


@paper.experiment(quick=Plan(Setup(), seeds=4), small=Plan(Setup(2.0), seeds=3, cost="an hour"))
def net(run, setup):
    """Draw a number."""
    return {"x": setup.size + 0.01 * float(run.rng("x").normal()), "four": Exact(4)}


@paper.experiment(quick=Plan(Setup(), seeds=6))
def other(run, setup):
    return {"y": 0.01 * float(run.rng("y").normal())}


def open_data(run, setup):
    return {"x": 1.0}


def secret_data(run, setup):
    return {"x": 1.0}


TEXTS = {"sheet": "1", "says": "So.", "where": "1", "because": "so"}
paper.claim(
    "big",
    **TEXTS,
    reported={net["x"]: Reported(1.0, "seen")},
    holds=net["x"] > 0.5,
    fidelity={"quick": STAND_IN, "small": PAPER},
)
paper.claim("bigger", **TEXTS, holds=net["x"] > other["y"], fidelity={"quick": STAND_IN})
paper.claim("four", **TEXTS, holds=equal(net["four"], 4), fidelity={"quick": EXACT})
paper.claim("lost", sheet="2", says="s", where="w", not_tested=NotTested("data", "gone"))


def finished(experiment, scale, seeds, space):
    return [execute(experiment, experiment.plans[scale].setup, seed, space) for seed in seeds]


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "runs")


def by_claim(found):
    return {outcome.claim: outcome for outcome in found}


# seeds and jobs ------------------------------------------------------------------------------------------------------


def test_seeds_are_the_plan_or_another_number_of_them():
    assert list(Seeds().of(4)) == [0, 1, 2, 3]
    assert list(Seeds(2).of(4)) == [0, 1]
    assert list(Seeds(6).of(4)) == [0, 1, 2, 3, 4, 5]
    assert list(Seeds(fresh=True).of(3, 10)) == [10, 11, 12]


@pytest.mark.parametrize(
    ("arguments", "said"), [((0,), "got 0"), ((-3,), "got -3"), ((5, True), "either --seeds or --fresh")]
)
def test_seeds_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Seeds(*arguments)


def told(jobs):
    return [(job.experiment, job.seed) for job in jobs]


def test_jobs_are_every_run_of_the_scale():
    assert told(jobs_of(paper, "quick", Seeds())) == [("net", i) for i in range(4)] + [("other", i) for i in range(6)]
    assert [job.setup for job in jobs_of(paper, "small", Seeds(1))] == [Setup(2.0)]


def test_fresh_seeds_start_at_one_seed_for_all_experiments():
    """Claims pair them: 4 to 7 of one and 6 to 11 of another would have but two seeds in common."""
    fresh = told(jobs_of(paper, "quick", Seeds(fresh=True)))
    assert fresh == [("net", i) for i in range(6, 10)] + [("other", i) for i in range(6, 12)]


# what the runs say ---------------------------------------------------------------------------------------------------


def test_the_planned_runs_give_every_claim_its_verdict(space):
    runs = {net: finished(net, "quick", range(4), space), other: finished(other, "quick", range(6), space)}
    found = by_claim(outcomes(paper, "quick", runs, space))
    assert {name: outcome.verdict for name, outcome in found.items()} == {
        "big": "confirmed",
        "bigger": "confirmed",
        "four": "confirmed",
        "lost": "not tested",
    }
    assert found["big"].seeds == (0, 1, 2, 3)
    assert found["big"].look == 0
    assert found["bigger"].parts[0].method == "t over 4 seeds"
    assert not (space.runs / "trial" / "looks.json").exists()


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((3, 6), "net: 3 of the planned 4 seeds ran; the verdict is given at the plan"),
        ((4, 5), "other: 5 of the planned 6 seeds ran"),
        ((0, 6), "net: 0 of the planned 4 seeds ran"),
    ],
)
def test_fewer_seeds_than_planned_of_any_experiment_give_no_verdict(space, seeds, said):
    runs = {
        net: finished(net, "quick", range(seeds[0]), space),
        other: finished(other, "quick", range(seeds[1]), space),
    }
    outcome = by_claim(outcomes(paper, "quick", runs, space))["bigger"]
    assert outcome.verdict == "undecided"
    assert said in outcome.reason


def test_every_further_number_of_seeds_is_a_look_and_is_remembered(space):
    def look(n):
        runs = {net: finished(net, "quick", range(n), space), other: finished(other, "quick", range(6), space)}
        found = by_claim(outcomes(paper, "quick", runs, space))
        assert found["bigger"].look == found["big"].look
        return found["big"].look, found["big"].parts[0].level

    assert [look(n) for n in (4, 7, 5, 7, 4, 9)] == [
        (0, 0.95),
        (1, 0.975),
        (2, 0.9875),
        (1, 0.975),
        (0, 0.95),
        (3, 0.99375),
    ]
    assert look(5) == (2, 0.9875), "also in another session"
    kept = json.loads((space.runs / "trial" / "looks.json").read_text())
    assert list(kept.values()) == [[7, 5, 9]]


def test_a_look_at_one_experiment_is_a_look_at_every_claim_that_reads_it(space):
    runs = {net: finished(net, "quick", range(4), space), other: finished(other, "quick", range(8), space)}
    found = by_claim(outcomes(paper, "quick", runs, space))
    assert {name: outcome.look for name, outcome in found.items() if name != "lost"} == {
        "big": 0,
        "bigger": 1,
        "four": 0,
    }


def test_what_broke_blocks_its_claims_and_no_others(space):
    runs = {net: finished(net, "quick", range(4), space), other: finished(other, "quick", range(5), space)}
    found = by_claim(outcomes(paper, "quick", runs, space, broken={"other": "ValueError: no"}))
    assert found["bigger"].verdict == "undecided"
    assert "experiment other broke: ValueError: no" in found["bigger"].reason
    assert found["big"].verdict == "confirmed"


def test_the_first_line_of_an_error_stands_for_it():
    jobs = [Job(paper.module, "", name, Setup(), seed) for name, seed in (("net", 0), ("net", 1), ("other", 0))]
    ended = [Ended(jobs[0], None, "one: bad\nmore"), Ended(jobs[1], None, "two"), Ended(jobs[2], None, "")]
    assert broken_of(paper, ended) == {"net": "one: bad", "other": "no message"}
    elsewhere = replace(jobs[0], module="another.paper")
    assert broken_of(paper, [Ended(elsewhere, None, "x")]) == {}


UNFITTING = """
    @paper.experiment(quick=Plan(Setup(), seeds=2))
    def net(run, setup):
        return {"x": 1.0 + run.seed, "curve": Curve([0, 1], [0.0, 1.0 + run.seed])}

    said = dict(sheet="1", says="s", where="w", because="b", fidelity={"quick": STAND_IN})
    paper.claim("missing", holds=net["y"] > 0, **said)
    paper.claim("whole_curve", holds=net["curve"] > 0, **said)
    paper.claim("off_the_curve", holds=net["curve"].at(0.5) > 0, **said)
    paper.claim("measured_equality", holds=equal(net["x"], 1), **said)
    paper.claim("well", holds=net["x"] > -50, **said)

    @paper.figure(net)
    def breaks(results):
        raise ValueError("no figure")

    @paper.figure(net, title="Fine", caption="A caption.")
    def fine(results):
        from claimwise.lab.figures import figure
        drawing, axes = figure()
        axes.plot(results[net].x("curve"), results[net]["curve"].mean(0))
        return drawing
"""


def test_a_claim_or_figure_that_breaks_is_said_and_hides_no_other(written_paper, space):
    unfitting = load(str(written_paper(UNFITTING)))
    experiment = unfitting.experiments["net"]
    runs = {experiment: [execute(experiment, experiment.plans["quick"].setup, seed, space) for seed in range(2)]}
    record = record_of(unfitting, "quick", runs, space, Hardware())
    verdicts = {claim.claim: claim.verdict for claim in record.claims}
    assert verdicts.pop("well") == "confirmed"
    assert set(verdicts.values()) == {"undecided"}
    assert all(record.broken[f"claim {name}"].startswith(UNFIT) for name in verdicts)
    assert "returned no measurement 'y'; it returned x, curve" in record.broken["claim missing"]
    assert "coordinates are 0, 1" in record.broken["claim off_the_curve"]
    assert record.broken["figure breaks"] == "ValueError: no figure"
    assert [(figure.title, figure.caption) for figure in record.figures] == [("Fine", "A caption.")]
    assert "<svg" in record.figures[0].svg
    assert [drawn.name for drawn in draw_figures(unfitting, {})] == []
    json.dumps([claim.to_json() for claim in record.claims], allow_nan=False)


def test_a_figure_may_be_published_if_its_own_data_may(space):
    shown = Paper("shown")
    one, two = (shown.experiment(quick=Plan(Setup(), seeds=1))(f) for f in (open_data, secret_data))
    for experiment in ((one,), (two,), (one, two)):
        shown.figure(*experiment)(lambda results: None)
    runs = {experiment: [execute(experiment, Setup(), 0, space)] for experiment in (one, two)}
    hidden = {"secret": {"content_hash": "h", "variant": "original", "publish": False}}
    runs[two] = [replace(run, inputs={"data": hidden, "runs": {}}) for run in runs[two]]
    assert [drawn.publish for drawn in draw_figures(shown, runs)] == [True, False, False]


# the record ----------------------------------------------------------------------------------------------------------


def test_plan_rows_tell_what_the_plan_detects():
    rows = plan_rows(paper, ["quick", "small"])
    assert [(row.scale, row.experiment, row.seeds, row.cost) for row in rows] == [
        ("quick", "net", 4, ""),
        ("quick", "other", 6, ""),
        ("small", "net", 3, "an hour"),
    ]
    assert rows[0].about == "Draw a number."
    assert rows[1].about == "Settings of a test."
    assert rows[2].setup == {"size": 2.0}
    assert rows[0].smallest_effect > rows[1].smallest_effect > 0


def test_runs_at_hand_are_those_that_are_current(space, monkeypatch):
    finished(net, "quick", (0, 2), space)
    execute(net, Setup(9.0), 1, space)  # exploratory
    found = runs_at_hand(paper, "quick", Seeds(), space, Hardware())
    assert {e.name: [run.seed for run in runs] for e, runs in found.items()} == {"net": [0, 2]}
    monkeypatch.setattr(runs_module.torch, "__version__", "9.9")
    assert runs_at_hand(paper, "quick", Seeds(), space, Hardware()) == {}


def test_runs_of_a_suite_are_found_by_experiment(space):
    (run,) = finished(net, "quick", [0], space)
    job = Job(paper.module, "", "net", Setup(), 0)
    assert runs_of(paper, [Ended(job, run), Ended(replace(job, seed=1), None, "x")]) == {net: [run]}
    assert runs_of(paper, [Ended(replace(job, module="another"), run)]) == {}


def test_the_stamp_names_data_that_shared_runs_of_shared_runs_read(space):
    """Or their pictures would be published where the data may not be."""

    def folder(name, data, needs):
        path = space.runs / "trial" / name / "seed0-x"
        path.mkdir(parents=True)
        runs = {n: {"module": "m", "experiment": n, "folder": "seed0-x", "identity": "i"} for n in needs}
        inputs = {
            "data": {d: {"content_hash": "h", "variant": "original", "publish": False} for d in data},
            "runs": runs,
        }
        (path / "inputs.json").write_text(json.dumps(inputs))
        (path / "environment.json").write_text('{"commit": ""}')
        return FinishedRun(path, "identity", 0, {}, {}, inputs, 1.0, 1.0)

    folder("deepest", ["secret"], [])
    folder("deep", [], ["deepest"])
    top = folder("top", ["open"], ["deep"])
    assert set(stamp({net: [top]}, Hardware())["data"]) == {"open", "secret"}


def test_exploratory_measurements_are_plain_json(space, written_paper):
    strange = load(
        str(
            written_paper("""
    @paper.experiment(quick=Plan(Setup(), seeds=1))
    def net(run, setup):
        return {"x": float("nan"), "p": Proportion(1, 2), "curve": Curve([0, 1], [float("inf"), 1.0]), "n": Exact(3)}
    """)
        )
    )
    experiment = strange.experiments["net"]
    runs = {experiment: [execute(experiment, experiment.plans["quick"].setup, 0, space)]}
    plain = measurements_of(runs)
    assert json.loads(json.dumps(plain, allow_nan=False))["net"]["0"] == {
        "x": {"kind": "value", "value": None, "unit": ""},
        "p": {"kind": "proportion", "successes": 1, "total": 2, "unit": "fraction"},
        "curve": {"kind": "curve", "unit": "", "x": [0.0, 1.0], "y": [None, 1.0]},
        "n": {"kind": "exact", "value": 3.0, "unit": ""},
    }


def test_verdicts_are_kept_where_the_list_finds_them(space, written_paper):
    listed = load(str(written_paper(UNFITTING)))
    experiment = listed.experiments["net"]
    runs = {experiment: [execute(experiment, experiment.plans["quick"].setup, seed, space) for seed in range(2)]}
    record = record_of(listed, "quick", runs, space, Hardware(), figures=False)
    path = keep_verdicts(record, space)
    kept = json.loads(path.read_text())
    assert path == space.runs / listed.key / "quick.verdicts.json"
    assert (kept["paper"], kept["scale"]) == (listed.key, "quick")
    assert {"claim": "well", "verdict": "confirmed", "fidelity": "stand-in"} in kept["claims"]


# again ---------------------------------------------------------------------------------------------------------------


def test_a_repetition_takes_the_references_seeds_and_look(space, tmp_path, written_paper):
    two = load(str(written_paper(UNFITTING)))
    experiment = two.experiments["net"]

    def runs(seeds, where):
        return {experiment: [execute(experiment, experiment.plans["quick"].setup, seed, where) for seed in seeds]}

    record_of(two, "quick", runs(range(3), space), space, Hardware(), figures=False)  # a first look at 3
    record = record_of(two, "quick", runs(range(5), space), space, Hardware(), figures=False)
    keep_reference(record, tmp_path, None, [])
    reference = Reference.read(tmp_path, two.key, "quick")
    assert reference is not None
    assert reference.seeds_of("net") == [0, 1, 2, 3, 4]
    assert reference.claims["well"].look == 2
    assert told(jobs_again(two, "quick", reference)) == [("net", seed) for seed in range(5)]
    elsewhere = Workspace(tmp_path / "elsewhere")  # a fresh checkout, where nobody has looked yet
    again = record_of(
        two, "quick", runs(range(5), elsewhere), elsewhere, Hardware(), figures=False, reference=reference, again=True
    )
    assert by_claim(again.claims)["well"].look == 2
    assert not (elsewhere.runs / two.key / "looks.json").exists()
