"""Verdicts: every kind of replicate, and every way in which a verdict could be wrongly confirmed."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.lab import (
    EXACT,
    PAPER,
    REDUCED,
    STAND_IN,
    Curve,
    Exact,
    Matrix,
    NotTested,
    Paper,
    PerDraw,
    PerExample,
    PerTrial,
    Plan,
    Proportion,
    Reported,
    Stored,
    Value,
    all_of,
    between,
    equal,
    equivalent,
    ordered,
    superiority,
    trend,
)
from claimwise.lab import statistics as stats
from claimwise.lab.criteria import Comparison, CriterionError
from claimwise.lab.records import ClaimOutcome
from claimwise.lab.statistics import Interval
from claimwise.lab.verdicts import Undecidable, evaluate, interval_of, judge, mark


@dataclass(frozen=True)
class Setup:
    """Settings."""


PLANS = {"quick": Plan(Setup()), "small": Plan(Setup()), "paper": Plan(Setup(), cost="6 h on one GPU")}
paper = Paper("trial")


@paper.experiment(**PLANS)
def net(run, setup):
    pass


@paper.experiment(**PLANS)
def other(run, setup):
    pass


def stored(experiment, seeds=None, **measurements):
    """`name=[measurement for each seed]`; plain numbers are values."""
    (n,) = {len(values) for values in measurements.values()}
    rows = [
        {name: Value(v[i]) if isinstance(v[i], int | float) else v[i] for name, v in measurements.items()}
        for i in range(n)
    ]
    return Stored(experiment.address, tuple(seeds or range(n)), {}, rows)


def a_claim(holds, fidelity=PAPER, **more):
    paper.claims.clear()
    texts = {"sheet": "F1", "says": "So it is.", "where": "section 1", "because": "it is so"}
    return paper.claim("claim", **texts, holds=holds, fidelity={"small": fidelity}, **more)


def outcome(holds, results, fidelity=PAPER, reported=None, **how):
    return evaluate(a_claim(holds, fidelity, reported=reported), "small", results, **how)


def over(quantity, level=0.95, **experiments):
    return interval_of(quantity, experiments, level)


A, B = [0.52, 0.61, 0.58, 0.55, 0.6], [0.31, 0.42, 0.37, 0.36, 0.4]


# seeds ---------------------------------------------------------------------------------------------------------------


def test_values_have_the_t_interval_over_seeds():
    assert over(net["a"], net=stored(net, a=A)) == stats.t_interval(A)
    assert over(2 * net["a"] - 1, 0.9, net=stored(net, a=A)).low == pytest.approx(
        stats.t_interval([2 * a - 1 for a in A], 0.9).low
    )


@given(st.permutations(range(5)), st.permutations(range(7)))
@settings(max_examples=25, deadline=None)
def test_experiments_pair_by_seed_and_not_by_position(order, wider):
    b = [*B, 9.0, -9.0]  # seeds 5 and 6 have no partner
    left = stored(net, seeds=order, a=[A[i] for i in order])
    right = stored(other, seeds=wider, b=[b[i] for i in wider])
    wanted = stats.t_interval([x - y for x, y in zip(A, B, strict=True)])
    got = over(net["a"] - other["b"], net=left, other=right)
    assert got == pytest.approx((*wanted[:4], got.method))
    assert got.n == 5


def test_experiments_without_a_common_seed_decide_nothing():
    result = outcome(net["a"] > other["b"], {"net": stored(net, a=A), "other": stored(other, seeds=range(5, 10), b=B)})
    assert result.verdict == "undecided"
    assert "no seed in common" in result.reason


def test_a_ratio_is_taken_seed_by_seed():
    both = stored(net, a=A, b=B)
    assert over(net["a"] / net["b"], net=both) == stats.t_interval([x / y for x, y in zip(A, B, strict=True)])


@pytest.mark.parametrize("quantity", [net["a"], net["p"], net["p"] - net["q"], net["a"] - net["p"]])
def test_one_seed_decides_nothing(quantity):
    one = stored(net, a=[0.9], p=[Proportion(90, 100)], q=[Proportion(1, 100)])
    with pytest.raises(Undecidable, match="one seed tells nothing"):
        over(quantity, net=one)
    result = outcome(quantity > -5, {"net": one})
    assert result.verdict == "undecided"
    assert result.parts[0].estimate == pytest.approx(0.9, abs=0.9)
    assert (result.parts[0].low, result.parts[0].high) == (-math.inf, math.inf)


def test_values_without_spread_decide_nothing():
    result = outcome(net["a"] > 0.1, {"net": stored(net, a=[0.5] * 5)})
    assert result.verdict == "undecided"
    assert "no spread" in result.reason
    assert result.parts[0].estimate == 0.5
    assert result.measured["net.a"].method == "no interval"


# proportions ---------------------------------------------------------------------------------------------------------


def proportions(counts, total=100):
    return [Proportion(k, total) for k in counts]


def test_one_proportion_has_its_own_interval():
    counts = [40, 45, 41, 50, 44]
    got = over(1 - net["p"], net=stored(net, p=proportions(counts)))
    wanted = stats.proportion_interval([100 - k for k in counts], [100] * 5)
    assert got == pytest.approx((*wanted[:4], got.method))
    # few errors: never narrower than counting allows
    few = over(net["p"], net=stored(net, p=proportions([0, 1, 0, 0, 0])))
    assert few == stats.proportion_interval([0, 1, 0, 0, 0], [100] * 5)
    assert few.high > stats.t_interval([0, 0.01, 0, 0, 0]).high


def test_proportions_without_spread_get_the_interval_of_one_run():
    got = over(net["p"], net=stored(net, p=proportions([97] * 5)))
    assert got[1:3] == pytest.approx(stats.wilson_interval(97, 100)[1:3])
    two = stored(net, p=proportions([97] * 5), q=proportions([50] * 5))
    difference = over(net["p"] - net["q"], net=two)
    p, q = stats.wilson_interval(97, 100), stats.wilson_interval(50, 100)
    wanted = stats.mover_interval([p[0], q[0]], [p[1], q[1]], [p[2], q[2]], [1, -1])
    assert difference[:3] == pytest.approx(wanted[:3])
    assert difference.n == 5


def test_an_exact_number_beside_proportions_counts():
    """The chance level of 10 classes is an exact measurement; without spread it was once forgotten."""
    still = stored(net, p=proportions([55] * 5), chance=[Exact(0.5)] * 5)
    got = over(net["p"] - net["chance"], net=still)
    wilson = stats.wilson_interval(55, 100)
    assert got[:3] == pytest.approx([0.05, wilson.low - 0.5, wilson.high - 0.5])
    assert outcome(net["p"] > net["chance"], {"net": still}).verdict == "undecided"
    moving = stored(net, p=proportions([0, 1, 0, 0, 0]), chance=[Exact(0.5)] * 5)
    got = over(net["p"] - net["chance"], net=moving)
    wanted = stats.proportion_interval([0, 1, 0, 0, 0], [100] * 5)
    assert got[1:3] == pytest.approx([wanted.low - 0.5, wanted.high - 0.5])
    two = stored(net, p=proportions([55] * 5), q=proportions([5] * 5), chance=[Exact(0.25)] * 5)
    assert over(net["p"] - net["q"] - 2 * net["chance"], net=two).estimate == pytest.approx(0)


def test_rounding_is_no_spread():
    """0.3 - 0.1 and 0.4 - 0.2 differ in the last bit: a t interval over that would confirm anything."""
    two = stored(net, p=proportions([3, 4, 3, 4, 3], 10), q=proportions([1, 2, 1, 2, 1], 10))
    assert np.ptp([m["p"].successes / 10 - m["q"].successes / 10 for m in two.measurements]) > 0
    got = over(net["p"] - net["q"], net=two)
    assert got.low < 0 < got.high


def test_differences_of_few_errors_are_no_narrower_than_counting_allows():
    two = stored(net, p=proportions([0, 0, 0, 0, 1], 360), q=proportions([0] * 5, 360))
    got = over(net["p"] - net["q"], net=two)
    assert got.high > stats.t_interval([0, 0, 0, 0, 1 / 360]).high
    assert got.high >= stats.wilson_interval(1, 1800).high
    assert got.method == "t over seeds, at least binomial"
    many = stored(net, p=proportions([40, 45, 41, 50, 44]), q=proportions([20, 24, 22, 27, 25]))
    assert over(net["p"] - net["q"], net=many).method == "t over seeds"


# what does not depend on seeds ---------------------------------------------------------------------------------------


def test_one_exact_run_is_enough():
    one = stored(net, seeds=[0], layers=[Exact(16)], weights=[Exact(138)], half=[Exact(0.5)])
    for holds, verdict in [
        (equal(net["layers"], 16), "confirmed"),
        (equal(net["layers"], 17), "refuted"),
        (equal(net["weights"] / net["layers"], 8.625), "confirmed"),
        (net["weights"] > 100, "confirmed"),
        (net["weights"] > 138, "refuted"),
        (net["weights"] >= 138, "confirmed"),
        (net["weights"] < 138, "refuted"),
        (between(net["half"], 0.5, 1), "confirmed"),
    ]:
        result = outcome(holds, {"net": one}, EXACT)
        assert result.verdict == verdict, holds
        assert result.parts[0].method == "exact"


def test_what_differs_from_seed_to_seed_is_not_exact():
    result = outcome(equal(net["n"], 3), {"net": stored(net, n=[Exact(3), Exact(3), Exact(4)])})
    assert result.verdict == "undecided"
    assert "declared exact, but differs from seed to seed" in result.reason
    beside = stored(net, p=proportions([50] * 3), n=[Exact(3), Exact(3), Exact(4)])
    with pytest.raises(Undecidable, match="declared exact, but is not finite or differs"):
        over(net["p"] * 2 - net["n"], net=beside)


@pytest.mark.parametrize(
    "sample",
    [
        A,
        proportions([1, 2, 3, 4, 5]),
        [PerTrial([1.0, 2.0])] * 5,
        [PerExample([0.0, 1.0])] * 5,
        [PerDraw([1.0, 2.0])] * 5,
    ],
)
def test_equality_is_for_exact_measurements_only(sample):
    with pytest.raises(CriterionError, match=r"equality is for exact measurements; use equivalent"):
        outcome(equal(net["a"], 0.5), {"net": stored(net, a=sample)})


def test_examples_of_a_fixed_model():
    right, wrong = np.repeat([1.0, 0.0], [70, 30]), np.repeat([1.0, 0.0], [40, 60])
    one = stored(net, a=[PerExample(right)], b=[PerExample(wrong)], c=[PerExample(np.linspace(0, 1, 100))])
    got = over(net["a"], net=one)
    assert got[:4] == stats.wilson_interval(70, 100)[:4]
    assert got.method == "Wilson over 100 examples"
    got = over(net["a"] - net["b"], net=one)
    wanted = stats.paired_bootstrap_interval(lambda m: m[0] - m[1], [right, wrong])
    assert got[:4] == wanted[:4]
    assert got.method == "bootstrap over 100 examples"
    ratio = over(net["c"] / net["a"], net=one)
    wanted = stats.paired_bootstrap_interval(lambda m: m[0] / m[1], [np.linspace(0, 1, 100), right])
    assert ratio[:3] == pytest.approx(wanted[:3])
    assert outcome(net["a"] > 0.5, {"net": one}).verdict == "confirmed"


def test_examples_pair_by_position():
    hard = np.repeat([0.0, 1.0], 50)
    together = stored(net, a=[PerExample(hard)], b=[PerExample(np.roll(hard, 1))])
    apart = stored(net, a=[PerExample(hard)], b=[PerExample(np.random.default_rng(0).permutation(hard))])
    width = [np.ptp(over(net["a"] - net["b"], net=s)[1:3]) for s in (together, apart)]
    assert width[0] < width[1] / 2
    with pytest.raises(CriterionError, match="different numbers of examples"):
        over(net["a"] - net["b"], net=stored(net, a=[PerExample(hard)], b=[PerExample(hard[1:])]))


def test_examples_over_several_seeds_are_averaged_on_one_test_set():
    a = [PerExample(np.repeat([1.0, 0.0], [50 + i, 50 - i])) for i in range(3)]
    got = over(net["a"], net=stored(net, a=a))
    wanted = stats.paired_bootstrap_interval(lambda m: m[0], [np.mean([x.values for x in a], axis=0)])
    assert got[:4] == wanted[:4]
    with pytest.raises(CriterionError, match=r"net\.a: other test examples from seed to seed"):
        over(net["a"], net=stored(net, a=[PerExample([0.0, 1.0]), PerExample([0.0])]))


@pytest.mark.parametrize(("kind", "what"), [(PerExample, "examples"), (PerDraw, "draws"), (PerTrial, "trials")])
def test_replicates_without_spread_decide_nothing(kind, what):
    still = stored(net, a=[kind([0.25] * 30)], b=[kind([0.75] * 30)])
    for quantity in (net["a"], net["a"] - net["b"]) + (() if kind is PerTrial else (net["a"] / net["b"],)):
        with pytest.raises(Undecidable, match=f"the {what} show no spread"):
            over(quantity, net=still)
        assert outcome(quantity < 0.9, {"net": still}).verdict == "undecided"


def test_draws_pair_by_index():
    draws, noise = np.linspace(0, 5, 50), np.tile([0.1, -0.1], 25)
    one = stored(net, a=[PerDraw(draws + noise)], b=[PerDraw(draws)], c=[Exact(0.1)])
    got = over(net["a"] - net["b"] + 2 * net["c"] + 1, net=one)
    assert got[:4] == pytest.approx(stats.t_interval(noise + 1.2)[:4])
    assert got.method == "t over 50 draws"
    two_seeds = stored(net, a=[PerDraw(draws), PerDraw(draws + 1)])
    assert over(net["a"], net=two_seeds)[:4] == pytest.approx(stats.t_interval(np.concatenate([draws, draws + 1]))[:4])
    hits = over(1 - net["a"], net=stored(net, a=[PerDraw([1.0] * 30 + [0.0] * 70)]))
    assert hits.estimate == pytest.approx(0.7)
    assert hits.method == "Wilson over 100 draws"


def test_trials_are_independent():
    one = stored(net, a=[PerTrial([1.0, 2.0, 3.0])], b=[PerTrial([0.0, 1.0, 2.0, 3.5])], c=[Exact(2)])
    assert over(net["a"] - net["b"], net=one) == stats.welch_interval([1, 2, 3], [0, 1, 2, 3.5])
    got = over(3 * net["a"] - net["b"] / 2 - net["c"], net=one)
    wanted = stats.weighted_welch([[1, 2, 3], [0, 1, 2, 3.5]], [3, -0.5])
    assert got[:3] == pytest.approx([wanted.estimate - 2, wanted.low - 2, wanted.high - 2])
    with pytest.raises(CriterionError, match="ratios do not"):
        over(net["a"] / net["b"], net=one)


def test_trials_of_several_seeds_are_put_together_whatever_their_number():
    two = stored(net, a=[PerTrial([1.0, 2.0]), PerTrial([3.0])])
    assert over(net["a"], net=two)[:4] == stats.weighted_welch([[1, 2, 3]], [1])[:4]
    result = outcome(net["a"] > 0.5, {"net": two})  # the measured figure, too
    assert result.measured["net.a"].value == 2


def test_a_difference_that_only_rounds_has_no_spread():
    left, right = [0.1 + 0.2] * 5, [0.3, 0.3, 0.1 + 0.2, 0.3, 0.3]
    assert len({x - y for x, y in zip(left, right, strict=True)}) == 2
    result = outcome(net["a"] - net["b"] < 0.1, {"net": stored(net, a=left, b=right)})
    assert result.verdict == "undecided"
    assert "no spread" in result.reason
    draws = stored(net, a=[PerDraw(left)], b=[PerDraw(right)])
    assert outcome(net["a"] - net["b"] < 0.1, {"net": draws}).verdict == "undecided"
    # Tiny values of their own have a spread: only sums of larger ones round.
    tiny = [1e-17, 3e-17, 2e-17, 5e-17, 2e-17]
    assert outcome(net["a"] < 1e-9, {"net": stored(net, a=tiny)}).verdict == "confirmed"


def test_one_trial_decides_nothing():
    assert outcome(net["a"] > 0, {"net": stored(net, a=[PerTrial([5.0])])}).verdict == "undecided"


def test_superiority_is_the_rank_test_of_trials():
    wins, losses = [3.0, 4, 5, 6, 7], [1.0, 2, 2.5, 0.5, 1.5]
    one = stored(net, a=[PerTrial(wins)], b=[PerTrial(losses)], c=[0.3])
    assert over(superiority(net["a"], net["b"]), net=one) == stats.brunner_munzel_interval(wins, losses)
    assert outcome(superiority(net["a"], net["b"]) > 0.5, {"net": one}).verdict == "confirmed"
    assert outcome(superiority(net["b"], net["a"]) > 0.5, {"net": one}).verdict == "refuted"
    with pytest.raises(CriterionError, match=r"net\.c does not vary by trial"):
        over(superiority(net["a"], net["c"]), net=one)


def test_kinds_that_do_not_share_replicates_meet_over_seeds():
    mixed = stored(net, a=A, e=[PerExample([b, b + 0.2]) for b in B], p=proportions([10, 12, 11, 13, 9]))
    assert over(net["a"] - net["e"], net=mixed).low == pytest.approx(
        stats.t_interval([x - (y + 0.1) for x, y in zip(A, B, strict=True)]).low
    )
    assert over(net["a"] - net["p"], net=mixed).method == "t over seeds"


# curves and matrices -------------------------------------------------------------------------------------------------


def test_curves_and_matrices_are_reduced_seed_by_seed():
    curves = [Curve([0, 1, 2], [i, i + 1.0, i + 3.1]) for i in range(5)]
    matrices = [Matrix([[i, 1.0], [2.0, i * i]], ["r", "s"], ["x", "y"]) for i in range(5)]
    both = stored(net, curve=curves, matrix=matrices)
    assert over(net["curve"].at(2), net=both) == stats.t_interval([i + 3.1 for i in range(5)])
    assert over(net["matrix"].at("s", "y"), net=both) == stats.t_interval([i * i for i in range(5)])
    with pytest.raises(CriterionError, match=r"net\.curve is a curve or matrix; reduce it"):
        outcome(net["curve"] > 0, {"net": both})
    result = outcome(trend(net["curve"], "up"), {"net": both})
    assert result.verdict == "undecided"  # the same slope at every seed: no spread
    assert result.measured == {}  # a whole curve is no number


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ([Curve([0, 1], [1, 2]), Curve([0, 2], [1, 2])], "other coordinates from seed to seed"),
        ([Matrix([[1.0]], ["a"], ["x"]), Matrix([[1.0]], ["b"], ["x"])], "other rows or columns from seed to seed"),
        ([0.1, Exact(1)], "of another kind from seed to seed"),
    ],
)
def test_measurements_of_one_name_are_alike_over_seeds(sample, said):
    with pytest.raises(CriterionError, match=said):
        outcome(net["a"].at(0, 0) > 0, {"net": stored(net, a=sample)})


def test_a_measurement_that_was_not_returned_names_those_that_were():
    with pytest.raises(LookupError, match=r"trial\.net returned no measurement 'b'; it returned a"):
        outcome(net["b"] > 0, {"net": stored(net, a=A)})


# what is not a number ------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("quantity", "sample"),
    [
        (net["a"], [0.5, 0.6, NAN, 0.4]),
        (net["a"], [0.5, 0.6, INF, 0.4]),
        (net["a"], [Exact(1), Exact(1), Exact(NAN), Exact(1)]),
        (net["a"], [Exact(1), Exact(1), Exact(INF), Exact(1)]),
        (net["a"], [PerTrial([1.0, 2]), PerTrial([1.0, 3]), PerTrial([1, NAN]), PerTrial([2.0, 3])]),
        (net["a"], [PerDraw([1.0, 2]), PerDraw([1.0, 3]), PerDraw([1, INF]), PerDraw([2.0, 3])]),
        (net["a"], [PerExample([1.0, 2]), PerExample([1.0, 3]), PerExample([1, NAN]), PerExample([2.0, 3])]),
        (
            superiority(net["a"], net["b"]),
            [PerTrial([1.0, 2]), PerTrial([1.0, 3]), PerTrial([1, NAN]), PerTrial([2.0, 3])],
        ),
        (net["a"].argmin(), [Curve([0, 1], [i, NAN if i == 2 else 5.0]) for i in range(4)]),
        (1 / net["a"], [1.0, 2.0, 0.0, 3.0]),
    ],
)
def test_what_is_not_finite_decides_nothing_and_its_seed_is_named(quantity, sample):
    trials = [PerTrial([0.0, 1.0])] * 4
    results = {"net": stored(net, seeds=[4, 7, 11, 12], a=sample, b=trials)}
    for holds in (quantity > -1e9, quantity < 1e9):
        result = outcome(holds, results)
        assert result.verdict == "undecided"
        assert "not finite at seed 11" in result.reason
        json.dumps(result.to_json(), allow_nan=False)


def test_the_seed_is_named_right_when_the_expression_spans_experiments():
    results = {
        "unrelated": stored(other, seeds=[90, 91, 92, 93, 94], z=[1.0] * 5),
        "net": stored(net, seeds=[1, 2, 3, 4], a=[1.0, 2.0, 3.0, 4.0]),
        "other": stored(other, seeds=[2, 3, 4, 9], b=[1.0, 2.0, NAN, NAN]),
    }
    result = outcome(net["a"] > other["b"], results)
    assert "not finite at seed 4" in result.reason
    assert "seed 4," not in result.reason


def test_a_denominator_of_zero_decides_nothing():
    zeros = stored(net, a=[PerExample([1.0, 0.0] * 20)], b=[PerExample([0.0, 0.0] * 20)])
    result = outcome(net["a"] / net["b"] > 1, {"net": zeros})
    assert result.verdict == "undecided"
    assert "is a denominator 0?" in result.reason


def test_an_experiment_that_has_no_run_decides_nothing():
    result = outcome(net["a"] > other["b"], {"net": stored(net, a=A)})
    assert result.verdict == "undecided"
    assert "other has no finished run" in result.reason
    assert outcome(net["a"] > 0, {}).seeds == ()


# regions -------------------------------------------------------------------------------------------------------------

a_, b_ = net["a"], net["b"]


@pytest.mark.parametrize(
    ("part", "low", "high", "verdict"),
    [
        (a_ > 0.5, 0.5001, 0.9, "confirmed"),
        (a_ > 0.5, 0.5, 0.9, "undecided"),  # the end itself is not above
        (a_ >= 0.5, 0.5, 0.9, "confirmed"),
        (a_ > 0.5, 0.4, 0.6, "undecided"),
        (a_ > 0.5, 0.1, 0.5, "refuted"),  # touches only what does not satisfy it
        (a_ >= 0.5, 0.1, 0.5, "undecided"),  # the end itself would satisfy it
        (a_ >= 0.5, 0.1, 0.4999, "refuted"),
        (a_ < 0.5, 0.1, 0.5, "undecided"),
        (a_ <= 0.5, 0.1, 0.5, "confirmed"),
        (a_ < 0.5, 0.5, 0.9, "refuted"),
        (a_ <= 0.5, 0.5, 0.9, "undecided"),
        (between(a_, 0, 1), 0, 1, "confirmed"),
        (between(a_, 0, 1), -0.1, 0.5, "undecided"),
        (between(a_, 0, 1), -0.1, 1.1, "undecided"),
        (between(a_, 0, 1), 1.0, 1.1, "undecided"),
        (between(a_, 0, 1), 1.01, 1.1, "refuted"),
        (between(a_, 0, 1), -1, -0.1, "refuted"),
        (equivalent(a_, b_, margin=1), -0.9, 0.9, "confirmed"),
        (equivalent(a_, b_, margin=1), -1, 0.9, "undecided"),
        (equivalent(a_, b_, margin=1), -0.9, 1.2, "undecided"),
        (equivalent(a_, b_, margin=1), 1, 3, "refuted"),
        (equivalent(a_, b_, margin=1), -3, -1.5, "refuted"),
        (equal(a_, 2), 2, 2, "confirmed"),
        (equal(a_, 2), 3, 3, "refuted"),
        (a_ > 0.5, -INF, INF, "undecided"),
        (a_ < 0.5, -INF, INF, "undecided"),
        (between(a_, 0, 1), -INF, INF, "undecided"),
        (a_ > 0.5, NAN, NAN, "undecided"),
        (a_ < 0.5, NAN, NAN, "undecided"),
    ],
)
def test_the_whole_interval_decides(part, low, high, verdict):
    assert judge(part, Interval((low + high) / 2, low, high, 5, "t over seeds")) == verdict


@given(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 3), st.booleans(), st.lists(st.floats(0, 1))
)
@settings(max_examples=200)
def test_a_verdict_is_what_every_point_of_the_interval_says(x, y, low, width, closed, shares):
    """The slow twin: ask points of the interval one by one."""
    part = Comparison(a_, low, low + width, closed, "")
    one, two = sorted((x, y))
    inside = (lambda v: low <= v <= low + width) if closed else (lambda v: low < v < low + width)
    verdict = judge(part, Interval((one + two) / 2, one, two, 5, ""))
    # The last point may round to beyond the interval's end.
    answers = {inside(min(one + share * (two - one), two)) for share in shares} | {inside(one), inside(two)}
    if verdict == "confirmed":
        assert answers == {True}
    elif verdict == "refuted":
        assert answers == {False}
    elif len(answers) == 1 and one < two:
        assert answers == {False}  # the region lies between the points that were asked
        assert one < low + width
        assert two > low


# all_of --------------------------------------------------------------------------------------------------------------


def test_every_part_of_all_of_is_judged_at_a_stricter_level():
    results = {"net": stored(net, a=A, b=B)}
    parts = outcome(all_of(net["a"] > 0.5, net["b"] < 0.5, net["a"] > net["b"]), results).parts
    for part, sample in zip(parts, (A, B, [x - y for x, y in zip(A, B, strict=True)]), strict=True):
        assert part.level == pytest.approx(1 - 0.05 / 3)
        assert (part.low, part.high) == pytest.approx(stats.t_interval(sample, 1 - 0.05 / 3)[1:3])
    alone = outcome(net["a"] > 0.5, results).parts[0]
    assert (alone.low, alone.high) == stats.t_interval(A)[1:3]
    assert parts[0].low < alone.low


@pytest.mark.parametrize(
    ("holds", "verdict"),
    [
        (all_of(net["a"] > 0.1, net["b"] < 0.9), "confirmed"),
        (all_of(net["a"] > 0.1, net["b"] > 0.9), "refuted"),
        (all_of(net["a"] > 0.57, net["b"] < 0.9), "undecided"),
        (all_of(net["a"] > 0.57, net["b"] > 0.9), "refuted"),
        (ordered(net["b"], net["a"], 1), "confirmed"),
        (ordered(net["a"], net["b"]), "refuted"),
    ],
)
def test_all_of_is_confirmed_by_all_and_refuted_by_one(holds, verdict):
    assert outcome(holds, {"net": stored(net, a=A, b=B)}).verdict == verdict


def test_measured_figures_are_shown_at_95_per_cent_whatever_the_parts():
    result = outcome(all_of(net["a"] > 0.1, net["b"] < 0.9), {"net": stored(net, a=A, b=B)})
    assert result.measured["net.a"].low == stats.t_interval(A).low
    assert result.measured["net.a"].method == "t over 5 seeds"
    assert result.measured["net.a"].n == 5


# looks, seeds short, what broke --------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [0, 1, 3])
def test_every_further_look_is_stricter(look):
    result = outcome(all_of(net["a"] > 0.1, net["b"] < 0.9), {"net": stored(net, a=A, b=B)}, look=look)
    assert result.look == look
    assert result.parts[0].level == pytest.approx(1 - 0.05 / 2**look / 2)
    assert result.parts[0].low == pytest.approx(stats.t_interval(A, 1 - 0.05 / 2**look / 2).low)


def test_a_later_look_can_undo_a_verdict():
    low = stats.t_interval(A, 0.95).low
    holds = net["a"] > low - 1e-6
    assert outcome(holds, {"net": stored(net, a=A)}).verdict == "confirmed"
    assert outcome(holds, {"net": stored(net, a=A)}, look=1).verdict == "undecided"


def test_fewer_seeds_than_planned_give_figures_and_no_verdict():
    for holds in (net["a"] > 0.1, net["a"] < 0.1):
        result = outcome(holds, {"net": stored(net, a=A)}, short="net: 5 of the planned 10 seeds ran")
        assert result.verdict == "undecided"
        assert result.reason.startswith("net: 5 of the planned 10 seeds ran; net.a")
        assert result.measured["net.a"].value == pytest.approx(np.mean(A))
        assert result.seeds == (0, 1, 2, 3, 4)


def test_an_exact_claim_needs_one_run_only():
    some = {"net": stored(net, n=[Exact(3)], a=[0.5])}
    short = {"short": "net: 1 of the planned 5 seeds ran"}
    assert outcome(equal(net["n"], 3), some, EXACT, **short).verdict == "confirmed"
    assert outcome(equal(net["n"], 4), some, EXACT, **short).verdict == "refuted"
    both = outcome(all_of(equal(net["n"], 3), net["a"] > 0.1), some, **short)
    assert both.verdict == "undecided"
    assert both.reason.startswith(short["short"])
    assert outcome(equal(net["n"], 3), some, EXACT, broken={"net": "seed 1: no"}, **short).verdict == "undecided"


def test_what_broke_decides_nothing():
    results = {"net": stored(net, a=A), "other": stored(other, b=B)}
    for holds in (net["a"] > 0.1, net["a"] > other["b"], net["a"] < 0.1):
        result = outcome(holds, results, broken={"net": "ValueError: no"}, reported={net["a"]: Reported(0.57, "seen")})
        assert result.verdict == "undecided"
        assert result.reason == "experiment net broke: ValueError: no"
        assert result.parts == ()
        assert result.figures == {"net.a": "not comparable"}
    assert outcome(other["b"] > 0.1, results, broken={"net": "ValueError: no"}).verdict == "confirmed"


def test_undecided_says_about_how_many_seeds_would_decide():
    close = float(np.mean(A)) - 0.02
    result = outcome(net["a"] > close, {"net": stored(net, a=A)})
    assert result.verdict == "undecided"
    needed = stats.seeds_to_decide(float(np.mean(A)), float(np.std(A, ddof=1)), 0.02, 0.975)
    assert needed > 5
    assert f"about {needed} seeds would confirm it" in result.reason
    result = outcome(net["a"] < close, {"net": stored(net, a=A)})
    assert f"about {needed} seeds would refute it" in result.reason
    hopeless = outcome(net["a"] > float(np.mean(A)) - 1e-6, {"net": stored(net, a=A)})
    assert "no number of seeds that one could run would confirm it" in hopeless.reason
    decided = outcome(net["a"] > 0.1, {"net": stored(net, a=A)})
    assert "would" not in decided.reason
    # without spread, or over examples, more seeds promise nothing
    for results in (
        {"net": stored(net, a=proportions([97] * 5))},
        {"net": stored(net, a=[PerExample([1.0] * 97 + [0.0] * 3)])},
    ):
        result = outcome(net["a"] > 0.95, results)
        assert result.verdict == "undecided"
        assert "would" not in result.reason


def test_the_promised_number_of_seeds_takes_the_stricter_next_look():
    holds = all_of(net["a"] > float(np.mean(A)) - 0.02, net["b"] < 0.9)
    result = outcome(holds, {"net": stored(net, a=A, b=B)}, look=2)
    needed = stats.seeds_to_decide(float(np.mean(A)), float(np.std(A, ddof=1)), 0.02, 1 - 0.05 / 2**3 / 2)
    assert f"about {needed} seeds" in result.reason


# marks ---------------------------------------------------------------------------------------------------------------


def interval(low, high):
    from claimwise.lab.records import Estimate

    return Estimate((low + high) / 2, low, high, 5)


@pytest.mark.parametrize(
    ("reported", "low", "high", "said"),
    [
        (Reported(0.894, "seen"), 0.81, 0.98, "agrees"),  # 10 % is 0.0894
        (Reported(0.894, "seen"), 0.80, 0.98, "unclear"),
        (Reported(0.894, "seen"), 0.5, 0.80, "differs"),
        (Reported(0.894, "seen"), 0.99, 0.995, "differs"),
        (Reported(-2.0, "seen"), -2.1, -1.9, "agrees"),
        (Reported(-2.0, "seen"), -2.3, -2.25, "differs"),
        (Reported(0.01, "seen"), 0.0, 0.02, "agrees"),  # its printed precision, 0.01, is larger
        (Reported(0.01, "seen"), 0.0, 0.021, "unclear"),
        (Reported(3, "paper"), 2, 4, "agrees"),
        (Reported(3, "paper"), 2, 4.1, "unclear"),
        (Reported(1e-05, "seen"), 0.5, 0.6, "differs"),  # printed with five decimals, not with none
        (Reported(1e-05, "seen"), 0.0, 2e-05, "agrees"),
        (Reported(2.5e-07, "seen"), 1e-06, 2e-06, "differs"),
        (Reported(0.5, "seen", tolerance=0.01, because="three runs"), 0.49, 0.51, "agrees"),
        (Reported(0.5, "seen", tolerance=0.01, because="three runs"), 0.48, 0.51, "unclear"),
        (Reported(0.5, "seen", tolerance=0, because="a count"), 0.5, 0.5, "agrees"),
        (Reported(0.5, "low"), 0.5, 0.5, "not comparable"),
        (Reported(0.5, "med"), 0.5, 0.5, "agrees"),
        (Reported(0.5, "seen"), -INF, INF, "unclear"),
    ],
)
def test_figure_marks(reported, low, high, said):
    assert mark(reported, interval(low, high), PAPER) == said
    assert mark(reported, interval(low, high), EXACT) == said
    assert mark(reported, interval(low, high), REDUCED) == "not comparable"
    assert mark(reported, interval(low, high), STAND_IN) == "not comparable"
    assert mark(reported, None, PAPER) == "not comparable"


def test_marks_and_verdicts_never_stand_for_each_other():
    reported = {
        net["a"]: Reported(0.57, "seen"),
        net["b"]: Reported(0.9, "seen"),
        net["a"] - other["b"]: Reported(0.2, "high"),
        "gibbon": Reported(0.99, "high"),
    }
    results = {"net": stored(net, a=A, b=B), "other": stored(other, b=B)}
    result = outcome(net["a"] < 0.1, results, reported=reported)
    assert result.verdict == "refuted"
    assert result.figures == {
        "net.a": "agrees",
        "net.b": "differs",
        "net.a - other.b": "agrees",
        "gibbon": "not comparable",
    }
    assert set(result.measured) == {"net.a", "net.b", "net.a - other.b"}
    assert result.reported["gibbon"] == {"value": 0.99, "sure": "high"}
    stand_in = outcome(net["a"] > 0.1, results, STAND_IN, reported=reported)
    assert stand_in.verdict == "confirmed"
    assert set(stand_in.figures.values()) == {"not comparable"}


def test_units_travel_with_the_figures():
    seconds = stored(net, a=[Value(v, "s") for v in A], b=[Value(0.5, "s")] * 5)
    result = outcome(all_of(net["a"] > 0.1, net["b"] > 0.1), {"net": seconds})
    assert result.measured["net.a"].unit == "s"
    assert result.measured["net.b"].unit == "s"  # without an interval, too


# not tested ----------------------------------------------------------------------------------------------------------


def test_a_claim_that_no_scale_tests_says_why():
    paper.claims.clear()
    claim = paper.claim(
        "panda",
        sheet="F4",
        says="A gibbon.",
        where="figure 1",
        reported={"gibbon confidence": Reported(0.993, "high")},
        not_tested=NotTested("data", "needs GoogLeNet's weights"),
    )
    result = evaluate(claim, "quick", {})
    assert result.verdict == "not tested"
    assert result.reason == "not tested: data: needs GoogLeNet's weights"
    assert result.figures == {"gibbon confidence": "not comparable"}
    assert result.parts == ()


def test_a_scale_that_is_left_out_names_the_others_and_their_cost():
    paper.claims.clear()
    claim = paper.claim(
        "late", sheet="F5", says="x", where="y", holds=net["a"] > 0, because="z", fidelity={"paper": PAPER}
    )
    result = evaluate(claim, "quick", {"net": stored(net, a=A)})
    assert result.verdict == "not tested"
    assert result.reason == "not tested at scale quick; it is at paper (6 h on one GPU)"
    assert result.fidelity == ""


# as JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "sample", "how"),
    [
        (net["a"] > 0.5, A, {"look": 2, "warning": "criterion changed after the run"}),
        (net["a"] > 0.5, [0.5], {"short": "net: 1 of 5"}),
        (net["a"] > 0.5, [NAN, 1.0], {}),
        (net["a"] > 0.5, A, {"broken": {"net": "died"}}),
        (all_of(net["a"] > 0.5, net["a"] < 0.9), A, {}),
    ],
)
def test_an_outcome_comes_back_from_json(holds, sample, how):
    result = outcome(holds, {"net": stored(net, a=sample)}, reported={net["a"]: Reported(0.5, "seen")}, **how)
    back = ClaimOutcome.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    assert repr(back) == repr(result)  # repr, since nan is not equal to itself


def test_the_json_of_a_claim_has_the_keys_that_machines_read():
    claim = outcome(net["a"] > 0.5, {"net": stored(net, a=A)}, reported={net["a"]: Reported(0.5, "seen")}).to_json()
    assert {
        "paper",
        "claim",
        "sheet",
        "statement",
        "where",
        "reported",
        "measured",
        "figures",
        "parts",
        "verdict",
        "reason",
        "fidelity",
        "differences",
    } <= set(claim)
    assert set(claim["measured"]["net.a"]) >= {"value", "low", "high", "n", "unit"}
    assert set(claim["parts"][0]) >= {"criterion", "estimate", "low", "high", "verdict"}
    assert claim["reported"]["net.a"] == {"value": 0.5, "sure": "seen"}
