"""The statistics of verdicts, proved by simulation under known truths, and against scipy.

``python tests/lab/test_statistics.py docs/statistics.md`` writes the table of that page.

Every simulation puts the truth on a threshold and counts how often an interval ends on its wrong side: that is a false
verdict about `>` or `<`, the worst a truth can bring about. A rate is held against 5 % plus three Monte-Carlo standard
errors; rates that ought to be 2.5 % must not be nearly 0 either.
"""

import functools
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from claimwise.lab import statistics as s
from claimwise.lab.statistics import Interval

STUDIES = 20_000
PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


# ---------------------------------------------------------------------------------------------- simulated rates


class Rate(NamedTuple):
    """How often something happened over simulated studies; 0 studies: summed exactly over all outcomes."""

    rule: str
    truth: str
    rate: float
    studies: int
    holds: bool = True
    """Whether the rule claims 5 % here; otherwise the row documents why the rule is not the plain one, or its limit."""

    @property
    def error(self) -> float:
        """Monte-Carlo standard error at the promised 5 %."""
        return math.sqrt(0.05 * 0.95 / self.studies) if self.studies else 0.0


class Wrong(NamedTuple):
    """Rates of intervals wholly above and wholly below the truth."""

    above: float
    below: float

    @property
    def worse(self) -> float:
        return max(self)


def wrong(low: np.ndarray, high: np.ndarray, truth: float) -> Wrong:
    return Wrong(float((low > truth).mean()), float((high < truth).mean()))


def worst(rule: str, cells: dict[str, Wrong], studies: int, holds: bool = True) -> Rate:
    """The cell with the highest rate of either side."""
    truth = max(cells, key=lambda cell: cells[cell].worse)
    return Rate(rule, f"{truth} (worst of {len(cells)})", cells[truth].worse, studies, holds)


@functools.cache
def t_boundary() -> dict[int, Wrong]:
    rng = np.random.default_rng(1)
    return {n: wrong(*s._t_limits(rng.normal(size=(STUDIES, n)), 0.95)[1:], 0.0) for n in (2, 3, 5, 10)}


def t_rates() -> Iterator[Rate]:
    for n, at in t_boundary().items():
        yield Rate("t over seeds: `>` or `<`", f"normal, {n} seeds", at.worse, STUDIES)
    rng = np.random.default_rng(2)
    limits = s._t_limits(rng.exponential(size=(STUDIES, 5)), 0.95)[1:]
    yield Rate("t over seeds: `>` or `<`", "exponential (skewed), 5 seeds", wrong(*limits, 1.0).worse, STUDIES, False)


def first_decision(values: np.ndarray, low_end: float, high_end: float) -> np.ndarray:
    """Verdict on low_end < mean < high_end when looking at 5, 8, 12 and 20 seeds until decided: 1, -1 or 0."""
    verdict = np.zeros(len(values), dtype=int)
    for look, n in enumerate((5, 8, 12, 20)):
        _, low, high = s._t_limits(values[:, :n], s.level_of_look(look))
        now = np.where((low > low_end) & (high < high_end), 1, np.where((high < low_end) | (low > high_end), -1, 0))
        verdict = np.where(verdict == 0, now, verdict)
    return verdict


def look_rates() -> Iterator[Rate]:
    values = np.random.default_rng(3).normal(size=(STUDIES, 20))
    verdict = first_decision(values, 0.0, math.inf)
    yield Rate("looks at 5, 8, 12, 20 seeds: `>`", "mean on the threshold", float((verdict == 1).mean()), STUDIES)
    verdict = first_decision(values, -math.inf, 0.0)
    yield Rate("looks at 5, 8, 12, 20 seeds: `<`", "mean on the threshold", float((verdict == 1).mean()), STUDIES)
    for width, holds in ((2.0, True), (0.5, True), (0.1, False), (0.0, False)):
        verdict = first_decision(values, 0.0, width)
        yield Rate(
            "looks at 5, 8, 12, 20 seeds: `between`",
            f"mean on one end, falsely refuted; ends {width:g} seed sd apart",
            float((verdict == -1).mean()),
            STUDIES,
            holds,
        )


@functools.cache
def all_of_rates() -> tuple[Rate, ...]:
    rng = np.random.default_rng(4)
    rates = []
    for m in (2, 4, 8):
        values = rng.normal(size=(STUDIES, m, 5))
        far = values + np.where(np.arange(m) == 0, 0.0, 50.0)[:, None]  # one part on its threshold, the others true
        _, low, _ = s._t_limits(far, 0.95)
        confirmed = float((low > 0).all(axis=1).mean())
        rates.append(Rate(f"all_of, {m} parts: confirmed", "one part on its threshold", confirmed, STUDIES))
        _, _, high = s._t_limits(values, s.part_level(0.95, m))
        refuted = float((high < 0).any(axis=1).mean())
        rates.append(Rate(f"all_of, {m} parts: refuted", "every part on its threshold", refuted, STUDIES))
    return tuple(rates)


@functools.cache
def equivalence_rates() -> tuple[Rate, ...]:
    rng = np.random.default_rng(6)
    rates = []
    for margin in (0.5, 2.0, 10.0):
        _, low, high = s._t_limits(margin + rng.normal(size=(STUDIES, 5)), 0.95)
        confirmed = float(((low > -margin) & (high < margin)).mean())
        refuted = float(((low > margin) | (high < -margin)).mean())
        at = f"difference on the margin of {margin:g} seed sd, 5 seeds"
        rates += [
            Rate("equivalent: confirmed", at, confirmed, STUDIES),
            Rate("equivalent: refuted", at, refuted, STUDIES),
        ]
    return tuple(rates)


def binomial_wrong(limits: Callable[..., tuple[np.ndarray, ...]], n: int) -> Wrong:
    """Worst rates over all p, exactly: the supremum lies where p crosses a limit."""
    k = np.arange(n + 1)
    _, low, high = limits(k, np.full(n + 1, n), 0.95)
    above = stats.binom.sf(k[1:] - 1, n, low[1:] * (1 - 1e-12))
    below = stats.binom.cdf(k[:-1], n, 1 - (1 - high[:-1]) * (1 - 1e-12))
    return Wrong(float(above.max()), float(below.max()))


def binomial_rates() -> Iterator[Rate]:
    sizes = (5, 10, 100, 1000, 10_000)
    ours = {f"{n} examples, any p": binomial_wrong(s._binomial_limits, n) for n in sizes}
    yield worst("Wilson with exact limits: a proportion over examples", ours, 0)
    textbook = {f"{n} examples, any p": binomial_wrong(s._wilson_limits, n) for n in sizes}
    yield worst("(not used) Wilson alone", textbook, 0, holds=False)


@functools.cache
def welch_cells() -> dict[str, Wrong]:
    rng = np.random.default_rng(7)
    cells = {}
    for sizes in ((3, 3), (5, 5), (5, 20), (10, 40)):
        for spread in (1 / 3, 1.0, 3.0):
            a, b = rng.normal(size=(STUDIES, sizes[0])), spread * rng.normal(size=(STUDIES, sizes[1]))
            limits = s._weighted_welch_limits([a, b], [1.0, -1.0], 0.95)[1:]
            cells[f"normal, {sizes[0]} and {sizes[1]} trials, sd 1 and {spread:.2g}"] = wrong(*limits, 0.0)
    trials = [rng.normal(i, 1.0 + i, size=(STUDIES, 5 + i)) for i in range(3)]
    limits = s._weighted_welch_limits(trials, [1.0, -2.0, 1.0], 0.95)[1:]
    cells["normal, 5, 6, 7 trials, sd 1, 2, 3, weights 1, -2, 1"] = wrong(*limits, 0.0)
    return cells


def superiority_trials(kind: str, truth: float, shape_a: tuple[int, int], shape_b: tuple[int, int], seed: int):
    """Trials of A and B with P(A > B) + P(A = B) / 2 = `truth`."""
    rng = np.random.default_rng(seed)
    if kind == "normal, sd 1 and 1/3":
        return rng.normal(stats.norm.ppf(truth) * math.sqrt(1 + 1 / 9), 1, shape_a), rng.normal(size=shape_b) / 3
    if kind == "normal":
        return rng.normal(stats.norm.ppf(truth) * math.sqrt(2), 1, shape_a), rng.normal(size=shape_b)
    if kind == "counts with ties":  # Poisson, B of mean 2
        x = np.arange(100)
        beaten = stats.poisson.cdf(x - 1, 2.0) + 0.5 * stats.poisson.pmf(x, 2.0)
        mean = brentq(lambda mean: float(stats.poisson.pmf(x, mean) @ beaten) - truth, 1.9, 40)
        return rng.poisson(mean, shape_a).astype(float), rng.poisson(2.0, shape_b).astype(float)
    if kind == "constant baseline":
        return (rng.random(shape_a) < truth).astype(float), np.full(shape_b, 0.5)
    if kind == "failures, rare for B":  # 0 or 1, B 1 in 5 %
        return (rng.random(shape_a) < 2 * truth - 0.95).astype(float), (rng.random(shape_b) < 0.05).astype(float)
    raise AssertionError(kind)


KINDS = ("normal", "normal, sd 1 and 1/3", "counts with ties", "constant baseline")
FEWER = 6_000


@functools.cache
def superiority_cells() -> tuple[dict[str, Wrong], dict[str, Wrong]]:
    ours, plain = {}, {}
    grid = [
        (n_a, n_b, truth, kind)
        for n_a, n_b in ((4, 4), (5, 5), (6, 20), (20, 20))
        for truth in (0.5, 0.6, 0.8, 0.95)
        for kind in KINDS
    ]
    # Where the variance of the placements misleads: extreme truths, and a small sample that shows one value only.
    grid += [(50, 50, 0.97, KINDS[1]), (5, 50, 0.9, "failures, rare for B"), (200, 20, 0.5, "failures, rare for B")]
    for i, (n_a, n_b, truth, kind) in enumerate(grid):
        a, b = superiority_trials(kind, truth, (FEWER, n_a), (FEWER, n_b), seed=80 + i)
        cell = f"{kind}, {n_a} and {n_b} trials, truth {truth:g}"
        ours[cell] = wrong(*s._brunner_munzel_limits(a, b, 0.95)[1:], truth)
        if (n_a, n_b) == (20, 20):
            plain[cell] = wrong(*plain_brunner_munzel(a, b), truth)
    return ours, plain


def plain_brunner_munzel(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate ± t √V, placements from all pairs; without spread the estimate alone."""
    n_a, n_b = a.shape[1], b.shape[1]
    wins = (a[:, :, None] > b[:, None, :]) + 0.5 * (a[:, :, None] == b[:, None, :])
    v_a, v_b = wins.mean(axis=2).var(axis=1, ddof=1) / n_a, wins.mean(axis=1).var(axis=1, ddof=1) / n_b
    with np.errstate(invalid="ignore"):
        freedom = (v_a + v_b) ** 2 / (v_a**2 / (n_a - 1) + v_b**2 / (n_b - 1))
    half = np.nan_to_num(stats.t.ppf(0.975, freedom) * np.sqrt(v_a + v_b))
    return wins.mean(axis=(1, 2)) - half, wins.mean(axis=(1, 2)) + half


@functools.cache
def bootstrap_rates() -> tuple[Rate, ...]:
    examples = 1000
    known: dict[tuple[int, int], Interval] = {}

    def interval(plus: int, minus: int) -> Interval:
        """Of error(a) - error(b) when `plus` examples are wrong for a only, `minus` for b only and 50 for both."""
        if (plus, minus) not in known:
            a, b = np.zeros(examples), np.zeros(examples)
            a[:plus] = b[plus : plus + minus] = a[-50:] = b[-50:] = 1.0
            known[plus, minus] = s.paired_bootstrap_interval(lambda m: m[0] - m[1], [a, b])
        return known[plus, minus]

    cells = {}
    for plus, minus in ((0.5, 0.2), (1, 0.5), (1, 1), (2, 1.5), (3, 0.02), (5, 0.05), (7, 7), (10, 1.5)):
        truth, slack = (plus - minus) / examples, 1e-12
        above = below = 0.0
        for i in range(int(plus + 5 * math.sqrt(plus) + 4)):
            for j in range(int(minus + 5 * math.sqrt(minus) + 4)):
                chance = stats.poisson.pmf(i, plus) * stats.poisson.pmf(j, minus)
                if chance > 1e-5:
                    at = interval(i, j)
                    above += chance * (at.low > truth + slack)
                    below += chance * (at.high < truth - slack)
        cells[f"{examples} examples, on average {plus:g} wrong for a only, {minus:g} for b only"] = Wrong(above, below)
    rates = [worst("paired bootstrap: difference of two errors", cells, 0)]

    rng = np.random.default_rng(9)
    above = below = 0
    studies = 1000
    for _ in range(studies):
        b = rng.gamma(2.0, size=150)
        a = b * rng.gamma(4.0, 0.25, size=150)  # of the same mean, paired
        at = s.paired_bootstrap_interval(lambda m: m[0] / m[1], [a, b], draws=400)
        above, below = above + (at.low > 1), below + (at.high < 1)
    rates.append(
        Rate(
            "paired bootstrap: ratio of two means",
            "150 examples, gamma losses",
            Wrong(above / studies, below / studies).worse,
            studies,
        )
    )
    return tuple(rates)


def seeds_of_accuracy(p: float, sd: float, examples: int, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Correct of `examples`, over seeds whose own accuracies are beta-distributed around `p` with `sd`."""
    rng = np.random.default_rng(seed)
    own = np.full(shape, p)
    if sd > 0:
        both = p * (1 - p) / sd**2 - 1
        own = rng.beta(p * both, (1 - p) * both, size=shape)
    return rng.binomial(examples, own).astype(float)


@functools.cache
def proportion_cells(share_of_end: float, studies: int) -> dict[str, Wrong]:
    """With `share_of_end` of 1 - p as sd between seeds, at most 0.05."""
    cells = {}
    for p in (0.5, 0.9, 0.99, 0.997, 0.999, 0.9999):
        sd = min(0.05, share_of_end * (1 - p))
        for examples in (100, 300, 1000, 10_000):
            for seeds in (3, 5, 10):
                k = seeds_of_accuracy(p, sd, examples, (studies, seeds), seed=10)
                limits = s._proportion_limits(k, np.full_like(k, examples), 0.95)[1:]
                cells[f"accuracy {p:g} ± {sd:.2g}, {examples} examples, {seeds} seeds"] = wrong(*limits, p)
    return cells


@functools.cache
def proportion_rates() -> tuple[Rate, ...]:
    name = "t over seeds with binomial floor: a proportion"
    rates = [
        worst(name, proportion_cells(0.0, 4_000), 4_000),
        worst(name, proportion_cells(0.25, 4_000), 4_000),
        worst(name, proportion_cells(0.5, 2_000), 2_000, holds=False),
        worst(name, proportion_cells(1.0, 2_000), 2_000, holds=False),
    ]
    k = seeds_of_accuracy(0.999, 0.03, 10_000, (STUDIES, 3), seed=11)
    lost = wrong(*s._proportion_limits(k, np.full_like(k, 10_000), 0.95)[1:], 0.999)
    rates.append(
        Rate(
            name,
            "accuracy 0.999 ± 0.03 (a rare seed fails wholly), 10000 examples, 3 seeds",
            lost.worse,
            STUDIES,
            False,
        )
    )
    k = seeds_of_accuracy(0.997, 0.001, 300, (STUDIES, 10), seed=12)
    n = np.full_like(k, 300)
    truth = "accuracy 0.997 ± 0.001, 300 examples, 10 seeds"
    rates.append(Rate(name, truth, wrong(*s._proportion_limits(k, n, 0.95)[1:], 0.997).worse, STUDIES))
    still = (k == k[:, :1]).all(axis=1)
    t_limits, single = s._t_limits(k / n, 0.95), s._wilson_limits(k[:, 0], n[:, 0], 0.95)
    plain = [np.where(still, single[i], t_limits[i]) for i in (1, 2)]
    rates.append(Rate("(not used) t, Wilson alone without spread", truth, wrong(*plain, 0.997).worse, STUDIES, False))
    return tuple(rates)


@functools.cache
def false_verdicts() -> tuple[Rate, ...]:
    ours, plain = superiority_cells()
    return (
        *t_rates(),
        *look_rates(),
        *all_of_rates(),
        *equivalence_rates(),
        *binomial_rates(),
        *proportion_rates(),
        worst("Welch: difference of means over trials", welch_cells(), STUDIES),
        worst("Brunner-Munzel, logit with binomial floor: superiority", ours, FEWER),
        worst("(not used) Brunner-Munzel, plain t", plain, FEWER, holds=False),
        *bootstrap_rates(),
    )


class Power(NamedTuple):
    seeds: int
    level: float
    effect: float
    printed: float
    simulated: float


@functools.cache
def powers() -> tuple[Power, ...]:
    rng = np.random.default_rng(12)
    rows = []
    for n, level, power in (
        (2, 0.95, 0.8),
        (3, 0.95, 0.8),
        (5, 0.95, 0.8),
        (5, 0.975, 0.8),
        (10, 0.95, 0.8),
        (10, 0.95, 0.5),
    ):
        effect = s.smallest_effect(n, power, level)
        _, low, _ = s._t_limits(rng.normal(effect, 1.0, size=(STUDIES, n)), level)
        rows.append(Power(n, level, effect, s.power_of(effect, n, level), float((low > 0).mean())))
    return tuple(rows)


@functools.cache
def decided() -> tuple[tuple[float, int, float], ...]:
    """(distance in seed sd, seeds it says, share of simulated studies of that size that decide)."""
    rng = np.random.default_rng(13)
    rows = []
    for distance in (2.0, 1.0, 0.5, 0.25):
        n = s.seeds_to_decide(distance, 1.0, distance)
        assert n is not None
        _, low, high = s._t_limits(rng.normal(distance, 1.0, size=(5_000, n)), 0.95)
        rows.append((distance, n, float(((low > 0) | (high < 0)).mean())))
    return tuple(rows)


def tables() -> str:
    def percent(value: float) -> str:
        return f"{100 * value:.1f} %"

    lines = ["| rule | truth | false verdicts | studies |", "|---|---|---|---|"]
    for row in false_verdicts():
        note = "" if row.holds else " *"
        count = f"{row.studies:,}" if row.studies else "exact"
        lines.append(f"| {row.rule} | {row.truth} | {percent(row.rate)}{note} | {count} |")
    lines += [
        "",
        "| seeds | level | smallest effect (seed sd) | power printed | power simulated |",
        "|---|---|---|---|---|",
    ]
    for p in powers():
        lines.append(f"| {p.seeds} | {p.level:g} | {p.effect:.2f} | {percent(p.printed)} | {percent(p.simulated)} |")
    lines += ["", "| distance (seed sd) | seeds that would decide | studies of that size that do |", "|---|---|---|"]
    lines += [f"| {distance:g} | {n} | {percent(share)} |" for distance, n, share in decided()]
    return "\n".join(lines)


MARKED = re.compile(r"(<!-- simulated -->\n).*?(\n<!-- end -->)", re.DOTALL)


# ---------------------------------------------------------------------------------------------- rates hold


def test_false_verdicts_stay_within_five_percent():
    beyond = [row for row in false_verdicts() if row.holds and row.rate > 0.05 + 3 * row.error]
    assert not beyond, beyond


def test_the_rules_not_used_would_break_five_percent():
    """Otherwise the widening they motivate has no reason."""
    unused = [row for row in false_verdicts() if row.rule.startswith("(not used)")]
    assert len(unused) == 3
    assert all(row.rate > 0.05 + row.error for row in unused), unused


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_t_spends_its_tails_evenly(n):
    error = math.sqrt(0.025 * 0.975 / STUDIES)
    assert t_boundary()[n] == pytest.approx((0.025, 0.025), abs=4 * error)


def test_looks_spend_more_than_one_look_and_less_than_five_percent():
    rates = [row.rate for row in look_rates() if "between" not in row.rule]
    assert all(0.03 < rate < 0.05 for rate in rates)


def test_all_of_is_not_trivially_silent():
    """One part on its threshold confirms in 2.5 % of studies; m parts at 1 - 0.05 / m refute in nearly 2.5 %."""
    assert all(0.02 < row.rate < 0.03 for row in all_of_rates()), all_of_rates()


def test_equivalence_is_not_trivially_silent():
    rates = [row.rate for row in equivalence_rates()]
    assert rates[-2:] == pytest.approx([0.025, 0.025], abs=0.005)  # a wide margin: one end matters
    assert rates[0] < 0.01  # a margin narrower than most intervals confirms hardly ever


def test_welch_is_about_two_and_a_half_percent():
    assert all(0.01 < rate < 0.04 for at in welch_cells().values() for rate in at)


def test_superiority_with_twenty_trials_is_near_two_and_a_half_percent():
    ours, _ = superiority_cells()
    assert 0.01 < ours["normal, 20 and 20 trials, truth 0.5"].worse < 0.03


def test_power_printed_is_power_simulated():
    for row in powers():
        error = math.sqrt(row.printed * (1 - row.printed) / STUDIES)
        assert row.simulated == pytest.approx(row.printed, abs=4 * error)


def test_the_seeds_that_would_decide_decide_about_half_the_time():
    for _, _, share in decided():
        assert 0.48 < share < 0.8


def test_the_page_shows_what_is_simulated():
    """Rates on the page within Monte-Carlo error of a new simulation, rows and everything else to the letter."""
    found = MARKED.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None, "docs/statistics.md has lost its markers"
    shown = found.group(0).split("\n")[1:-1]
    now = tables().split("\n")
    number = re.compile(r"(\d+\.\d+) %")
    same = [[number.sub("", line) for line in lines if "worst of" not in line] for lines in (shown, now)]
    assert same[0] == same[1]  # which cell is the worst may change with numpy's generators
    for old, new in zip(shown, now, strict=True):
        assert [float(x) for x in number.findall(old)] == pytest.approx(
            [float(x) for x in number.findall(new)], abs=1.0
        )


# ---------------------------------------------------------------------------------------------- against scipy


def test_t_interval_equals_scipy():
    values = np.array([0.91, 0.88, 0.95, 0.90])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    got = s.t_interval(values)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert (got.estimate, got.n, got.method) == (pytest.approx(values.mean()), 4, "t over seeds")


def test_t_interval_with_one_value_says_nothing():
    assert s.t_interval([0.3]) == Interval(0.3, -math.inf, math.inf, 1, "t over seeds")


def test_equal_values_are_flagged_even_when_their_mean_rounds():
    assert s.t_interval([0.1, 0.1, 0.1]) == Interval(0.1, 0.1, 0.1, 3, "no spread")
    assert s.weighted_welch([[0.1] * 3, [0.3] * 3], [1.0, -1.0]).method == "no spread"


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (7, 20), (20, 20), (950, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_and_exact_limits_equal_scipy(k, n, level):
    result = stats.binomtest(k, n)
    wilson, exact = result.proportion_ci(level, "wilson"), result.proportion_ci(level, "exact")
    assert s._wilson_limits(k, n, level)[1:] == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    got = s.wilson_interval(k, n, level)
    assert (got.low, got.high) == pytest.approx((min(wilson.low, exact.low), max(wilson.high, exact.high)), abs=1e-10)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_welch_equals_scipy(level):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=7), 3 * rng.normal(size=12)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(level)
    got = s.welch_interval(a, b, level)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), rel=1e-10)
    assert s.weighted_welch([a, b], [2.0, -2.0], level).low == pytest.approx(2 * got.low, rel=1e-12)
    assert s.weighted_welch([a, [5.0]], [1.0, 0.0], level)[:3] == pytest.approx(s.t_interval(a, level)[:3], rel=1e-12)


def test_welch_needs_two_trials_of_each_sample():
    assert s.welch_interval([1.0], [1.0, 2.0])[1:3] == (-math.inf, math.inf)


@pytest.mark.parametrize("kind", ["normal", "counts with ties"])
def test_brunner_munzel_agrees_with_scipys_test_of_one_half(kind):
    """scipy's p-value is the plain interval's; the logit scale moves it only a little near one half."""
    for seed in range(20):
        a, b = (x[0] for x in superiority_trials(kind, 0.6, (1, 30), (1, 25), seed))
        for level in (0.8, 0.95):
            p_value = stats.brunnermunzel(b, a).pvalue
            plain_low, plain_high = (float(limit[0]) for limit in plain_brunner_munzel(a[None], b[None]))
            got = s.brunner_munzel_interval(a, b, level)
            assert got.estimate == pytest.approx((plain_low + plain_high) / 2, abs=1e-12)
            excludes = got.low > 0.5 or got.high < 0.5
            if abs(p_value - (1 - level)) > 0.03:  # the two scales differ only near the border
                assert excludes == (p_value < 1 - level)


def test_brunner_munzel_by_hand():
    """All pairs counted, placements' variances, the limits on the logit scale."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.4, 1, 40).round(1), rng.normal(0, 2, 30).round(1)
    placed_a = [sum((x > y) + 0.5 * (x == y) for y in b) / 30 for x in a]
    placed_b = [sum((y > x) + 0.5 * (x == y) for x in a) / 40 for y in b]
    v_a, v_b = np.var(placed_a, ddof=1) / 40, np.var(placed_b, ddof=1) / 30
    p, freedom = np.mean(placed_a), (v_a + v_b) ** 2 / (v_a**2 / 39 + v_b**2 / 29)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(v_a + v_b) / (p * (1 - p))
    centre = math.log(p / (1 - p))
    expected = (p, 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre)))
    assert s.brunner_munzel_interval(a, b)[:3] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "decides"), [(3, False), (4, False), (5, True), (6, True)])
def test_complete_separation_decides_from_five_trials(n, decides):
    above = s.brunner_munzel_interval(np.arange(n) + 100.0, np.arange(n))
    assert (above.estimate, above.high) == (1.0, 1.0)
    assert above.low == pytest.approx(0.05 ** (1 / n))
    assert (above.low > 0.5) == decides
    below = s.brunner_munzel_interval(np.arange(n), np.arange(n) + 100.0)
    assert (below.low, below.high) == pytest.approx((0.0, 1 - above.low))


def test_brunner_munzel_of_equal_constants_is_a_half_and_undecided():
    got = s.brunner_munzel_interval([1.0] * 10, [1.0] * 10)
    assert got.estimate == 0.5
    assert got.low < 0.3
    assert got.high > 0.7


def test_brunner_munzel_with_one_trial_says_nothing():
    assert s.brunner_munzel_interval([2.0], [1.0, 2.0, 3.0])[:3] == (0.5, 0.0, 1.0)


def test_mover_is_newcombes_hybrid():
    """Newcombe, Interval estimation for the difference between proportions (1998), table II: 56/70 - 48/80."""
    limits = [s._wilson_limits(k, n, 0.95) for k, n in ((56, 70), (48, 80))]
    p, low, high = (np.array(column, dtype=float) for column in zip(*limits, strict=True))
    got = s.mover_interval(p, low, high, [1.0, -1.0], n=5)
    assert (round(got.low, 4), round(got.high, 4), got.n) == (0.0524, 0.3339, 5)


def test_proportion_over_seeds_is_t_where_errors_are_many():
    k = np.array([80.0, 85.0, 90.0])
    assert s.proportion_interval(k, [100] * 3) == s.t_interval(k / 100)


def test_proportion_over_seeds_is_no_narrower_than_the_counts_where_errors_are_few():
    got = s.proportion_interval([999, 999, 1000], [1000] * 3)
    pooled = s.wilson_interval(2998, 3000)
    over_seeds = s.t_interval([0.999, 0.999, 1.0])
    assert got.low == min(pooled.low, over_seeds.low)
    assert got.high == 1.0
    assert got.method == "t over seeds, at least binomial"


def test_proportion_without_spread_is_one_run_on_the_smallest_test_set():
    got = s.proportion_interval([100, 50], [100, 50])
    assert got[:3] == s.wilson_interval(50, 50)[:3]
    assert (got.n, got.method) == (2, "Wilson, seeds without spread")


def test_a_proportion_of_one_seed_says_nothing():
    assert s.proportion_interval([9], [10])[:3] == (0.9, 0.0, 1.0)


# ---------------------------------------------------------------------------------------------- bootstrap


def test_bootstrap_of_a_mean_is_near_the_t_interval():
    values = np.random.default_rng(0).normal(size=500)
    got, expected = s.paired_bootstrap_interval(lambda m: m[0], [values], draws=4000), s.t_interval(values)
    half = (expected.high - expected.low) / 2
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=0.1 * half)


def test_bootstrap_resamples_equal_rows_like_single_ones():
    """The multinomial of distinct rows against resampled indices, one by one."""
    rng = np.random.default_rng(1)
    a, b = (rng.random(300) < 0.3).astype(float), (rng.random(300) < 0.2).astype(float)
    got = s.paired_bootstrap_interval(lambda m: m[0] - m[1], [a, b], draws=4000)
    index = rng.integers(0, 300, size=(4000, 300))
    low, high = np.quantile((a - b)[index].mean(axis=1), [0.025, 0.975])
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.01)


def test_bootstrap_is_deterministic_and_blind_to_order():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=200), rng.normal(size=200)
    first = s.paired_bootstrap_interval(lambda m: m[0] / (3 + m[1]), [a, b])
    order = rng.permutation(200)
    shuffled = s.paired_bootstrap_interval(lambda m: m[0] / (3 + m[1]), [a[order], b[order]])
    assert shuffled[:3] == pytest.approx(first[:3], rel=1e-9)
    assert s.paired_bootstrap_interval(lambda m: m[0] / (3 + m[1]), [a, b]) == first
    assert s.paired_bootstrap_interval(lambda m: m[0] / (3 + m[1]), [a, b], seed=1) != first


@pytest.mark.parametrize("errors", [0, 50, 1000])
def test_bootstrap_of_models_that_agree_everywhere_still_has_width(errors):
    """What they share says nothing about how often they might differ."""
    column = (np.arange(1000) < errors).astype(float)
    got = s.paired_bootstrap_interval(lambda m: m[0] - m[1], [column, column])
    assert got.estimate == 0
    assert -0.01 < got.low <= -0.002
    assert 0.002 <= got.high < 0.01


def test_bootstrap_without_spread_is_flagged():
    assert s.paired_bootstrap_interval(lambda m: m[0], [[0.3] * 50]).method == "no spread"
    losses = np.random.default_rng(4).normal(size=50)
    assert s.paired_bootstrap_interval(lambda m: m[0] - m[1], [losses, losses]).method == "no spread"
    assert s.paired_bootstrap_interval(lambda m: 0 * m[0] + 2, [np.arange(50) % 2]).method == "no spread"


def test_bootstrap_in_chunks_has_the_spread_of_the_mean():
    """40,000 distinct rows: 400 draws take eight chunks."""
    values = np.random.default_rng(3).normal(size=40_000)
    means = s._resampled_means(values[:, None], np.ones(40_000, dtype=int), 400, np.random.default_rng(0))
    assert means.shape == (400, 1)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * 0.005 / math.sqrt(400))
    assert means.std() == pytest.approx(0.005, rel=0.15)


def test_bootstrap_of_a_few_unusual_values_says_nothing():
    got = s.paired_bootstrap_interval(lambda m: m[0], [[0.0] * 500 + [2.5] * 9])
    assert got[1:3] == (-math.inf, math.inf)


def test_bootstrap_counts_undefined_resamples_as_beyond_both_limits():
    column = np.array([1.0] * 10 + [0.0] * 2)
    got = s.paired_bootstrap_interval(lambda m: np.where(m[0] < 0.7, np.nan, m[0]), [column])
    assert got[1:3] == (-math.inf, math.inf)


# ---------------------------------------------------------------------------------------------- levels and planning


def test_levels():
    assert [s.level_of_look(k) for k in range(4)] == [0.95, 0.975, 0.9875, 0.99375]
    assert s.part_level(0.95, 1) == 0.95
    assert s.part_level(0.975, 5) == pytest.approx(0.995)


@pytest.mark.parametrize("n", [2, 5, 30])
@pytest.mark.parametrize("effect", [-0.5, 0.0, 0.4, 2.0])
def test_power_equals_the_mean_over_sample_deviations(n, effect):
    """P(mean - t s / √n > 0) = E over s of Φ(δ √n - t s / σ), integrated over s on its quantiles."""
    quantile = stats.t.ppf(0.975, n - 1)
    deviation = stats.chi.ppf((np.arange(20_000) + 0.5) / 20_000, n - 1) / math.sqrt(n - 1)
    expected = stats.norm.cdf(effect * math.sqrt(n) - quantile * deviation).mean()
    assert s.power_of(effect, n) == pytest.approx(expected, abs=2e-4)


def test_power_far_beyond_the_series():
    quantile = stats.t.ppf(0.999995, 1)
    assert s.power_of(3 * quantile / math.sqrt(2), 2, 0.99999) == pytest.approx(stats.chi.cdf(3, 1), abs=1e-4)
    assert s.power_of(-1e6, 2, 0.99999) == 0.0


def test_one_seed_detects_nothing():
    assert s.smallest_effect(1) == math.inf
    assert s.power_of(100.0, 1) == 0.0


def test_seeds_to_decide_is_the_smallest_that_does():
    n = s.seeds_to_decide(0.9, 0.1, 0.05)
    half = [stats.t.ppf(0.975, m - 1) * 0.1 / math.sqrt(m) for m in (n - 1, n)]
    assert half[0] >= 0.05 > half[1]
    assert s.seeds_to_decide(0.9, 0.1, -0.05) == n
    assert s.seeds_to_decide(0.9, 0.1, 0.0) is None
    assert s.seeds_to_decide(0.9, 0.1, 1e-4) is None
    assert s.seeds_to_decide(0.9, 0.0, 0.1) == 2


# ---------------------------------------------------------------------------------------------- properties

numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(numbers, st.floats(0.5, 0.99))
def test_t_interval_holds_its_mean_and_grows_with_the_level(values, level):
    one, wider = s.t_interval(values, level), s.t_interval(values, (1 + level) / 2)
    assert wider.low <= one.low <= one.estimate <= one.high <= wider.high


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_mirrors_successes_and_failures(counts, level):
    k, n = counts
    one, other = s.wilson_interval(k, n, level), s.wilson_interval(n - k, n, level)
    assert 0 <= one.low <= one.estimate <= one.high <= 1
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
@example(  # P = 1/2 but for rounding, 5 wins of 10: on the edge of the binomial floor
    [0.0, 0.0, 1.0, 1.0, 1.0, 3.0, 3.0, -1.0, -2.0, -2.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 1.0, -2.0, -2.0],
)
def test_superiority_mirrors_and_depends_on_ranks_only(a, b):
    one, other = s.brunner_munzel_interval(a, b), s.brunner_munzel_interval(b, a)
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-9)
    assert 0 <= one.low <= one.estimate <= one.high <= 1
    ranked = stats.rankdata(np.concatenate([a, b]))
    assert s.brunner_munzel_interval(ranked[: len(a)], ranked[len(a) :]) == one


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.floats(0.05, 0.99), st.floats(0.6, 0.999))
def test_smallest_effect_undoes_power(n, power, level):
    assert s.power_of(s.smallest_effect(n, power, level), n, level) == pytest.approx(power, abs=1e-6)


# ---------------------------------------------------------------------------------------------- refusals

NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: s.t_interval([]), "t_interval: values is empty"),
        (lambda: s.t_interval([1.0, NAN]), "t_interval: values must be finite, got 1 NaN or infinite among 2"),
        (lambda: s.t_interval([[1.0, 2.0]]), r"one-dimensional, got shape \(1, 2\)"),
        (lambda: s.t_interval([1.0, 2.0], 95), "t_interval: level must lie strictly between 0 and 1 .* got 95"),
        (lambda: s.t_interval([1.0, 2.0], NAN), "level must lie strictly between"),
        (lambda: s.wilson_interval(3, 2), "successes must lie between 0 and the total, got 3 of 2"),
        (lambda: s.wilson_interval(-1, 2), "got -1 of 2"),
        (lambda: s.wilson_interval(0, 0), "every total must be at least 1, got 0"),
        (lambda: s.wilson_interval(0.5, 2), "are counts"),
        (lambda: s.wilson_interval(1, 2, 1.0), "wilson_interval: level"),
        (lambda: s.proportion_interval([1, 2], [3]), "same length, got 2 and 1"),
        (lambda: s.proportion_interval([], []), "successes is empty"),
        (lambda: s.proportion_interval([NAN], [3]), "successes must be finite"),
        (lambda: s.proportion_interval([1], [3], 0.0), "proportion_interval: level"),
        (
            lambda: s.mover_interval([0.5], [0.6], [0.7], [1.0]),
            r"an estimate must lie within its limits, got 0.5 in \[0.6",
        ),
        (lambda: s.mover_interval([0.5], [0.4, 0.3], [0.7], [1.0]), "one length"),
        (lambda: s.mover_interval([0.5], [0.4], [NAN], [1.0]), "highs must be finite"),
        (lambda: s.mover_interval([0.5], [0.4], [0.6], [1.0], n=0), "n must be a whole number of at least 1, got 0"),
        (lambda: s.welch_interval([], [1.0]), "welch_interval: a is empty"),
        (lambda: s.welch_interval([1.0, 2.0], [NAN, 1.0]), "welch_interval: b must be finite"),
        (lambda: s.welch_interval([1.0, 2.0], [2.0, 1.0], -1), "welch_interval: level"),
        (lambda: s.weighted_welch([], []), "no samples"),
        (lambda: s.weighted_welch([[1.0, 2.0]], [1.0, 2.0]), "one weight per sample, got 2 weights for 1 samples"),
        (lambda: s.weighted_welch([[1.0, 2.0]], [NAN]), "weights must be finite"),
        (lambda: s.brunner_munzel_interval([1.0], []), "brunner_munzel_interval: b is empty"),
        (lambda: s.brunner_munzel_interval([NAN], [1.0]), "a must be finite"),
        (lambda: s.brunner_munzel_interval([1.0], [1.0], 2), "brunner_munzel_interval: level"),
        (lambda: s.paired_bootstrap_interval(lambda m: m[0], []), "no columns"),
        (lambda: s.paired_bootstrap_interval(lambda m: m[0], [[1.0], [1.0, 2.0]]), r"one length, got \[1, 2\]"),
        (lambda: s.paired_bootstrap_interval(lambda m: m[0], [[NAN, 1.0]]), "column 0 must be finite"),
        (lambda: s.paired_bootstrap_interval(lambda m: m[0], [[0.0, 1.0]], 1.5), "level"),
        (
            lambda: s.paired_bootstrap_interval(lambda m: m[0], [[0.0, 1.0]], draws=10),
            "draws must be at least 100, got 10",
        ),
        (lambda: s.paired_bootstrap_interval(lambda m: m[0] / 0, [[0.0, 1.0]]), "is a denominator 0"),
        (lambda: s.paired_bootstrap_interval(lambda m: np.ones(7), [[0.0, 1.0]]), r"got shape \(7,\)"),
        (lambda: s.level_of_look(-1), "level_of_look: k must be a whole number"),
        (lambda: s.level_of_look(0.5), "level_of_look: k"),
        (lambda: s.part_level(0.95, 0), "part_level: m must be a whole number of at least 1, got 0"),
        (lambda: s.part_level(1.0, 2), "part_level: level"),
        (lambda: s.power_of(NAN, 5), "effect must be finite"),
        (lambda: s.power_of(1.0, 0), "n must be a whole number of at least 1, got 0"),
        (lambda: s.power_of(1.0, 5, 1.0), "power_of: level"),
        (lambda: s.smallest_effect(5, 1.0), "power must lie strictly between 0 and 1, got 1.0"),
        (lambda: s.smallest_effect(0), "smallest_effect: n"),
        (lambda: s.smallest_effect(5, 0.8, 0.0), "smallest_effect: level"),
        (lambda: s.seeds_to_decide(1.0, -1.0, 0.1), "sd must be >= 0, got -1.0"),
        (lambda: s.seeds_to_decide(1.0, 1.0, NAN), "threshold_distance must be finite"),
        (lambda: s.seeds_to_decide(NAN, 1.0, 1.0), "mean must be finite"),
        (lambda: s.seeds_to_decide(1.0, 1.0, 1.0, 0), "seeds_to_decide: level"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        page.write_text(
            MARKED.sub(lambda m: m[1] + tables() + m[2], page.read_text(encoding="utf-8")), encoding="utf-8"
        )
    else:
        print(tables())
