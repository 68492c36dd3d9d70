"""From measurements to verdicts.

A criterion's part asks whether a quantity lies in a region. The quantity's interval answers: wholly inside, the part is
confirmed; wholly outside, refuted; else undecided. Which interval depends on what varies between replicates, which each
measurement declares (:mod:`claimwise.lab.measurements`). The verdict is about the statement; the figure mark, beside
it, is about the number that the paper prints.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from claimwise.lab import statistics
from claimwise.lab.criteria import Comparison, CriterionError, Expression, Leaf, Replicates, Superiority
from claimwise.lab.measurements import Exact, Measurement, PerDraw, PerExample, PerTrial, Proportion
from claimwise.lab.paper import Claim, Reported
from claimwise.lab.records import (
    AGREES,
    CONFIRMED,
    DIFFERS,
    EXACT,
    NOT_COMPARABLE,
    NOT_TESTED,
    PAPER,
    REFUTED,
    UNCLEAR,
    UNDECIDED,
    ClaimOutcome,
    Estimate,
    PartOutcome,
)
from claimwise.lab.statistics import Interval
from claimwise.lab.stored import Stored

ByName = Mapping[str, Stored]
"""Stored measurements by the experiment's name."""


class Undecidable(Exception):
    """There is no interval, with the reason."""


def _paired(leaves: Sequence[Leaf], results: ByName) -> dict[str, list[int]]:
    """For each experiment, the positions of the seeds that all experiments of an expression have."""
    names = {leaf.experiment.name for leaf in leaves}
    common = set.intersection(*(set(results[name].seeds) for name in names))
    if not common:
        raise Undecidable("the experiments have no seed in common")
    return {name: [i for i, seed in enumerate(results[name].seeds) if seed in common] for name in names}


def interval_of(expression: Expression, results: ByName, level: float) -> Interval:
    """The interval of a quantity at a level, by what its measurements declare to vary.

    Raises:
        Undecidable: where nothing tells how far the quantity varies.
        CriterionError: where the expression does not fit the measurements.
    """
    leaves = list({leaf.key: leaf for leaf in expression.leaves()}.values())
    if missing := [leaf.experiment.name for leaf in leaves if leaf.experiment.name not in results]:
        raise Undecidable(f"{', '.join(sorted(set(missing)))} has no finished run")
    positions = _paired(leaves, results)
    samples: dict[tuple[str, str], list[Measurement]] = {}
    for leaf in leaves:
        stored = results[leaf.experiment.name]
        found = stored.of_seed(leaf.measurement)
        samples[leaf.key] = [found[i] for i in positions[leaf.experiment.name]]

    kinds = {type(sample[0]) for sample in samples.values()} - {Exact}
    if isinstance(expression, Superiority):
        return _superiority(expression, samples, level)
    if not kinds:
        return _exact(expression, results, positions)
    if kinds == {PerTrial}:
        return _over_trials(expression, samples, level)
    if kinds <= {PerExample, PerDraw} and len(kinds) == 1:
        return _over_positions(expression, samples, level, "examples" if kinds == {PerExample} else "draws")
    return _over_seeds(expression, samples, results, positions, level, kinds == {Proportion})


def _reader(results: ByName, positions: Mapping[str, list[int]]) -> Callable[[Leaf], Replicates]:
    """Reads one value for each seed; values by example, trial or draw count as their mean."""

    def read(leaf: Leaf) -> Replicates:
        stored = results[leaf.experiment.name]
        replicates = stored.replicates(leaf.measurement)
        values = replicates.values[positions[leaf.experiment.name]]
        if isinstance(stored.of_seed(leaf.measurement)[0], PerExample | PerTrial | PerDraw):
            values = values.mean(axis=1)
        return Replicates(values, replicates.x, replicates.rows, replicates.columns)

    return read


def _scalar(expression: Expression, values: Replicates) -> np.ndarray:
    if not values.scalar:
        raise CriterionError(f"{expression} is a curve or matrix; reduce it with .at(), .slope(), .mean() ...")
    return values.values


def _exact(expression: Expression, results: ByName, positions: Mapping[str, list[int]]) -> Interval:
    values = _scalar(expression, expression.evaluate(_reader(results, positions)))
    if not (values == values[0]).all():
        raise Undecidable("declared exact, but differs from seed to seed: it is a measured quantity")
    if math.isnan(values[0]):
        raise Undecidable("the measured value is nan")
    return Interval(float(values[0]), float(values[0]), float(values[0]), 1, "exact")


def _over_seeds(
    expression: Expression,
    samples: Mapping[tuple[str, str], list[Measurement]],
    results: ByName,
    positions: Mapping[str, list[int]],
    level: float,
    proportions: bool,
) -> Interval:
    values = _scalar(expression, expression.evaluate(_reader(results, positions)))
    n = max(len(p) for p in positions.values())
    values = np.broadcast_to(values, (n,)).astype(float)
    if not np.isfinite(values).all():
        seeds = next(iter(results.values())).seeds
        bad = [str(seeds[i]) if i < len(seeds) else str(i) for i in np.flatnonzero(~np.isfinite(values))]
        raise Undecidable(f"the measured value is not finite at seed {', '.join(bad)}")
    linear = expression.linear()
    if proportions and linear is not None:
        measured = {key: c for key, c in linear[0].items() if c != 0 and isinstance(samples[key][0], Proportion)}
        if len(measured) == 1 and len(linear[0]) == 1:
            ((key, coefficient),) = measured.items()
            counts = [m for m in samples[key] if isinstance(m, Proportion)]
            interval = statistics.proportion_interval([m.successes for m in counts], [m.total for m in counts], level)
            return _scaled(interval, coefficient, linear[1])
        if n > 1 and np.ptp(values) == 0:
            return _mover(measured, linear[1], samples, level, n)
    if n == 1:
        raise Undecidable("one seed tells nothing about how far the quantity varies")
    interval = statistics.t_interval(values, level)
    if interval.method == "no spread":
        raise Undecidable(f"{n} seeds show no spread, and the quantity is no proportion with an interval of its own")
    return interval


def _scaled(interval: Interval, coefficient: float, constant: float) -> Interval:
    ends = sorted((coefficient * interval.low + constant, coefficient * interval.high + constant))
    return Interval(coefficient * interval.estimate + constant, ends[0], ends[1], interval.n, interval.method)


def _mover(
    coefficients: Mapping[tuple[str, str], float],
    constant: float,
    samples: Mapping[tuple[str, str], list[Measurement]],
    level: float,
    n: int,
) -> Interval:
    """A sum of proportions without spread between seeds, from the Wilson intervals of each on its smallest test set."""
    estimates, lows, highs = [], [], []
    for key in coefficients:
        counts = [m for m in samples[key] if isinstance(m, Proportion)]
        smallest = min(counts, key=lambda m: m.total)
        wilson = statistics.wilson_interval(smallest.successes, smallest.total, level)
        estimates.append(wilson.estimate)
        lows.append(wilson.low)
        highs.append(wilson.high)
    interval = statistics.mover_interval(estimates, lows, highs, list(coefficients.values()), n)
    return _scaled(interval, 1.0, constant)


def _concatenated(sample: Sequence[Measurement]) -> np.ndarray:
    return np.concatenate([m.values for m in sample if isinstance(m, PerTrial | PerDraw)])


def _over_trials(
    expression: Expression, samples: Mapping[tuple[str, str], list[Measurement]], level: float
) -> Interval:
    linear = expression.linear()
    if linear is None:
        raise CriterionError(f"{expression}: over trials, sums and differences have an interval (Welch); ratios do not")
    constant = linear[1] + sum(
        c * m.value for key, c in linear[0].items() for m in samples[key][:1] if isinstance(m, Exact)
    )
    trials = {key: c for key, c in linear[0].items() if isinstance(samples[key][0], PerTrial)}
    groups = [_concatenated(samples[key]) for key in trials]
    interval = statistics.weighted_welch(groups, list(trials.values()), level)
    if interval.method == "no spread":
        raise Undecidable("the trials show no spread")
    return _scaled(interval, 1.0, constant)


def _superiority(
    expression: Superiority, samples: Mapping[tuple[str, str], list[Measurement]], level: float
) -> Interval:
    groups = []
    for leaf in (expression.a, expression.b):
        sample = samples[leaf.key]
        if not isinstance(sample[0], PerTrial):
            raise CriterionError(f"{expression}: {leaf} does not vary by trial; return PerTrial(values)")
        groups.append(_concatenated(sample))
    return statistics.brunner_munzel_interval(groups[0], groups[1], level)


def _over_positions(
    expression: Expression, samples: Mapping[tuple[str, str], list[Measurement]], level: float, what: str
) -> Interval:
    """Over examples of fixed models (their mean over seeds, if several), or over draws."""
    columns: dict[tuple[str, str], np.ndarray] = {}
    for key, sample in samples.items():
        if isinstance(sample[0], Exact):
            continue
        stacked = [m.values for m in sample if isinstance(m, PerExample | PerDraw)]
        columns[key] = np.mean(stacked, axis=0) if what == "examples" else np.concatenate(stacked)
    if len({len(column) for column in columns.values()}) > 1:
        raise CriterionError(f"{expression}: its measurements have different numbers of {what}, so they do not pair")
    if bad := [f"{e}.{m}" for (e, m), column in columns.items() if not np.isfinite(column).all()]:
        raise Undecidable(f"{', '.join(bad)} holds values that are not finite")
    order = list(columns)
    linear = expression.linear()
    if linear is not None and len(columns) == 1 and len(linear[0]) == 1:
        column = columns[order[0]]
        if np.isin(column, (0.0, 1.0)).all():
            wilson = statistics.wilson_interval(int(column.sum()), len(column), level)
            return _scaled(wilson, linear[0][order[0]], linear[1])._replace(method=f"Wilson over {len(column)} {what}")

    def function(means: list[np.ndarray]) -> np.ndarray:
        def read(leaf: Leaf) -> Replicates:
            sample = samples[leaf.key][0]
            if isinstance(sample, Exact):
                return Replicates(np.full(1, sample.value))
            return Replicates(np.atleast_1d(means[order.index(leaf.key)]))

        return _scalar(expression, expression.evaluate(read))

    if what == "draws" and linear is not None:
        combined = np.zeros(len(columns[order[0]])) + linear[1]
        for key, c in linear[0].items():
            fixed = samples[key][0]
            combined = combined + c * (fixed.value if isinstance(fixed, Exact) else columns[key])
        interval = statistics.t_interval(combined, level)
        if interval.method == "no spread":
            raise Undecidable("the draws show no spread")
        return interval._replace(method=f"t over {len(combined)} draws")
    interval = statistics.paired_bootstrap_interval(function, [columns[key] for key in order], level)
    if interval.method == "no spread":
        raise Undecidable(f"the {what} show no spread")
    return interval._replace(method=f"bootstrap over {len(columns[order[0]])} {what}")


def _described(interval: Interval) -> str:
    if interval.method == "t over seeds":
        return f"t over {interval.n} seeds"
    return interval.method


def judge(part: Comparison, interval: Interval) -> str:
    """Confirmed when the whole interval lies in the part's region, refuted when none of it does, else undecided."""
    low, high = interval.low, interval.high
    point = low == high
    if part.closed:
        inside = part.low <= low and high <= part.high
        outside = high < part.low or low > part.high
    else:
        inside = part.low < low and high < part.high
        # At a point exactly on an open end nothing satisfies the part; an interval that only touches it is outside too.
        outside = high <= part.low or low >= part.high
    if point and not inside:
        outside = True
    return CONFIRMED if inside else REFUTED if outside else UNDECIDED


def _number(value: float) -> str:
    return f"{value:.4g}"


def _part_reason(part: Comparison, interval: Interval, verdict: str, level: float) -> str:
    if interval.method == "exact":
        return f"{part.text}: exactly {_number(interval.estimate)}"
    span = f"[{_number(interval.low)}, {_number(interval.high)}]"
    relation = {CONFIRMED: "satisfies", REFUTED: "contradicts", UNDECIDED: "straddles"}[verdict]
    text = f"{part.text}: {_number(interval.estimate)}, {level:.4g} interval {span} {relation} it"
    if verdict == UNDECIDED and "seeds" in interval.method and interval.n > 1:
        would = "confirm" if part.low < interval.estimate < part.high else "refute"
        ends = [end for end in (part.low, part.high) if math.isfinite(end)]
        distance = min(abs(interval.estimate - end) for end in ends)
        half = (interval.high - interval.low) / 2
        quantile = statistics.t_interval(np.arange(interval.n, dtype=float), level)
        unit = (quantile.high - quantile.low) / 2 / float(np.std(np.arange(interval.n), ddof=1))  # t / sqrt(n)
        needed = statistics.seeds_to_decide(interval.estimate, half / unit, distance, level)
        text += f"; about {needed} seeds would {would} it" if needed else "; no number of seeds is near deciding it"
    return text


def mark(reported: Reported, estimate: Estimate | None, fidelity: str) -> str:
    """The figure mark: about the paper's number, not about the statement."""
    if estimate is None or fidelity not in (PAPER, EXACT) or reported.sure == "low":
        return NOT_COMPARABLE
    tolerance = reported.tolerance
    if tolerance is None:
        decimals = len(f"{reported.value!r}".partition(".")[2]) if isinstance(reported.value, float) else 0
        tolerance = max(0.1 * abs(reported.value), 10.0**-decimals)
    slack = 1e-12 * max(1.0, abs(reported.value))
    low, high = reported.value - tolerance - slack, reported.value + tolerance + slack
    if low <= estimate.low and estimate.high <= high:
        return AGREES
    return DIFFERS if estimate.high < low or estimate.low > high else UNCLEAR


def _estimate(expression: Expression, results: ByName, level: float) -> Estimate | None:
    try:
        interval = interval_of(expression, results, level)
    except Undecidable:
        return _without_interval(expression, results)
    unit = ""
    if isinstance(expression, Leaf):
        unit = getattr(results[expression.experiment.name].of_seed(expression.measurement)[0], "unit", "")
    return Estimate(interval.estimate, interval.low, interval.high, interval.n, unit, _described(interval))


def _without_interval(expression: Expression, results: ByName) -> Estimate | None:
    """The measured mean, where nothing tells how far it varies."""
    leaves = list(expression.leaves())
    if any(leaf.experiment.name not in results for leaf in leaves) or isinstance(expression, Superiority):
        return None
    try:
        values = _scalar(expression, expression.evaluate(_reader(results, _paired(leaves, results))))
    except Undecidable:
        return None
    return Estimate(float(np.mean(values)), -math.inf, math.inf, len(values), "", "no interval")


def evaluate(
    claim: Claim,
    scale: str,
    results: ByName,
    *,
    look: int = 0,
    short: str = "",
    broken: Mapping[str, str] | None = None,
    warning: str = "",
) -> ClaimOutcome:
    """The outcome of a claim at a scale.

    Args:
        claim: The claim.
        scale: The scale of the runs.
        results: Stored measurements by the experiment's name.
        look: 0 at the planned number of seeds, k at the k-th recorded extension: the level is 1 - 0.05 / 2^k.
        short: Why no verdict can be given although there are measurements (e.g. fewer seeds than planned).
        broken: Experiments that broke, with their error.
        warning: Shown beside the verdict.
    """
    reported: dict[str, dict[str, float | str]] = {}
    for quantity, figure in claim.reported:
        reported[str(quantity)] = {"value": figure.value, "sure": figure.sure}
    criterion = claim.criteria.get(scale)
    fidelity = claim.fidelity.get(scale, "")
    level = statistics.level_of_look(look)
    parts: list[PartOutcome] = []
    measured: dict[str, Estimate] = {}
    figures: dict[str, str] = {}
    seeds: tuple[int, ...] = ()
    if criterion is None:
        verdict, reason = NOT_TESTED, _why_not_tested(claim, scale)
        figures = {str(quantity): NOT_COMPARABLE for quantity, _ in claim.reported}
    else:
        broke = {name: (broken or {})[name] for name in claim.experiments(scale) if name in (broken or {})}
        have = [results[name].seeds for name in claim.experiments(scale) if name in results]
        seeds = tuple(sorted(set().union(*have))) if have else ()
        reasons: list[str] = []
        if broke:
            reasons = [f"experiment {name} broke: {error}" for name, error in broke.items()]
        else:
            part_level = statistics.part_level(level, len(criterion.parts()))
            for part in criterion.parts():
                outcome, part_reason = _judge_part(part, results, part_level)
                parts.append(outcome)
                reasons.append(part_reason)
            for leaf in criterion.leaves().values():
                if (estimate := _leaf_estimate(leaf, results, level)) is not None:
                    measured[str(leaf)] = estimate
        for quantity, figure in claim.reported:
            estimate = None
            if isinstance(quantity, Expression) and not broke:
                estimate = measured.get(str(quantity)) or _leaf_estimate(quantity, results, level)
                if estimate is not None:
                    measured[str(quantity)] = estimate
            figures[str(quantity)] = mark(figure, estimate, fidelity)
        verdicts = {part.verdict for part in parts}
        if short or broke or not parts:
            verdict = UNDECIDED
        elif REFUTED in verdicts:
            verdict = REFUTED
        else:
            verdict = CONFIRMED if verdicts == {CONFIRMED} else UNDECIDED
        reason = "; ".join([short, *reasons] if short else reasons)
    return ClaimOutcome(
        paper=claim.paper.key,
        claim=claim.id,
        sheet=claim.sheet,
        statement=claim.says,
        where=claim.where,
        reported=reported,
        measured=measured,
        figures=figures,
        parts=tuple(parts),
        verdict=verdict,
        reason=reason,
        fidelity=fidelity,
        differences=claim.differences.get(scale, ""),
        criterion="" if criterion is None else str(criterion),
        because=claim.because,
        criterion_digest="" if criterion is None else criterion.digest,
        seeds=seeds,
        look=look,
        warning=warning,
    )


def _leaf_estimate(quantity: Expression, results: ByName, level: float) -> Estimate | None:
    """The estimate of a reported or compared measurement; None for a whole curve or matrix, which is no number."""
    names = {leaf.experiment.name for leaf in quantity.leaves()}
    if not names <= set(results):
        return None
    if isinstance(quantity, Leaf):
        stored = results[quantity.experiment.name].replicates(quantity.measurement)
        measurement = results[quantity.experiment.name].of_seed(quantity.measurement)[0]
        if not stored.scalar and not isinstance(measurement, PerExample | PerTrial | PerDraw):
            return None
    return _estimate(quantity, results, level)


def _judge_part(part: Comparison, results: ByName, level: float) -> tuple[PartOutcome, str]:
    try:
        interval = interval_of(part.expression, results, level)
    except Undecidable as reason:
        estimate = _without_interval(part.expression, results)
        value = math.nan if estimate is None else estimate.value
        return (
            PartOutcome(part.text, value, -math.inf, math.inf, UNDECIDED, "no interval", level),
            f"{part.text}: {reason}",
        )
    if part.exact_only and interval.method != "exact":
        raise CriterionError(f"{part.text}: equality is for exact measurements; use equivalent(a, b, margin=...)")
    verdict = judge(part, interval)
    outcome = PartOutcome(
        part.text, interval.estimate, interval.low, interval.high, verdict, _described(interval), level
    )
    return outcome, _part_reason(part, interval, verdict, level)


def _why_not_tested(claim: Claim, scale: str) -> str:
    if claim.not_tested is not None:
        return f"not tested: {claim.not_tested.reason}: {claim.not_tested.detail}"
    others = []
    for other in claim.fidelity:
        costs = {e.plans[other].cost for e in claim.experiments(other).values() if e.plans[other].cost}
        cost = f" ({'; '.join(sorted(costs))})" if costs else ""
        others.append(f"{other}{cost}")
    return f"not tested at scale {scale}; it is at {', '.join(others)}"
