"""From measurements to verdicts.

A criterion's part asks whether a quantity lies in a region. The quantity's interval answers: wholly inside, the part is
confirmed; wholly outside, refuted; else undecided. Which interval depends on what varies between replicates, which each
measurement declares (:mod:`claimwise.lab.measurements`). The verdict is about the statement; the figure mark, beside
it, is about the number that the paper prints.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from claimwise.lab import statistics
from claimwise.lab.criteria import Comparison, CriterionError, Expression, Leaf, Replicates, Superiority
from claimwise.lab.measurements import (
    Curve,
    Exact,
    Matrix,
    Measurement,
    PerDraw,
    PerExample,
    PerTrial,
    Proportion,
)
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
Samples = dict[tuple[str, str], list[Measurement]]
"""What each measurement of an expression is at the seeds that all have, in the order of the seeds."""


class Undecidable(Exception):
    """There is no interval, with the reason."""


def _paired(leaves: Sequence[Leaf], results: ByName) -> tuple[dict[str, list[int]], list[int]]:
    """The seeds that all experiments of an expression have, and for each experiment their positions."""
    names = {leaf.experiment.name for leaf in leaves}
    common = sorted(set.intersection(*(set(results[name].seeds) for name in names)))
    if not common:
        raise Undecidable("the experiments have no seed in common")
    return {name: [results[name].seeds.index(seed) for seed in common] for name in names}, common


def interval_of(expression: Expression, results: ByName, level: float) -> Interval:
    """The interval of a quantity at a level, by what its measurements declare to vary.

    Raises:
        Undecidable: where nothing tells how far the quantity varies.
        CriterionError: where the expression does not fit the measurements.
    """
    leaves = list({leaf.key: leaf for leaf in expression.leaves()}.values())
    if missing := [leaf.experiment.name for leaf in leaves if leaf.experiment.name not in results]:
        raise Undecidable(f"{', '.join(sorted(set(missing)))} has no finished run")
    positions, seeds = _paired(leaves, results)
    samples: Samples = {}
    for leaf in leaves:
        found = results[leaf.experiment.name].of_seed(leaf.measurement)
        samples[leaf.key] = [found[i] for i in positions[leaf.experiment.name]]
    kinds = {type(sample[0]) for sample in samples.values()} - {Exact}
    if isinstance(expression, Superiority):
        _require_finite(samples, seeds)
        return _superiority(expression, samples, level)
    if kinds == {PerTrial}:
        _require_finite(samples, seeds)
        return _over_trials(expression, samples, level)
    if kinds in ({PerExample}, {PerDraw}):
        _require_finite(samples, seeds)
        return _over_positions(expression, samples, level, "examples" if kinds == {PerExample} else "draws")
    read = _reader(results, positions)
    values = np.broadcast_to(_scalar(expression, expression.evaluate(read)), (len(seeds),)).astype(float)
    if not np.isfinite(values).all():
        raise Undecidable(f"the measured value is not finite at {_seeds(seeds, ~np.isfinite(values))}")
    if not kinds:
        if not (values == values[0]).all():
            raise Undecidable("declared exact, but differs from seed to seed: it is a measured quantity")
        return Interval(float(values[0]), float(values[0]), float(values[0]), 1, "exact")
    if len(seeds) == 1:
        raise Undecidable("one seed tells nothing about how far the quantity varies")
    linear = _linear(expression, samples)
    if linear is not None and all(isinstance(samples[key][0], Proportion) for key in linear[0]):
        return _over_proportions(*linear, samples, values, level)
    size = float(np.abs(values).max())
    if linear is not None:  # a small difference of large numbers rounds as they do
        size = abs(linear[1]) + sum(
            abs(linear[0].get(leaf.key, 0.0)) * float(np.abs(read(leaf).values).max()) for leaf in leaves
        )
    if _is_still(values, size):
        raise Undecidable(
            f"{len(seeds)} seeds show no spread, and the quantity is no proportion with an interval of its own"
        )
    return statistics.t_interval(values, level)


def _is_still(values: np.ndarray, size: float) -> bool:
    """Whether values of sums of that size differ by no more than rounding, which is no spread."""
    return bool(np.ptp(values) <= 1e-12 * size)


def _seeds(seeds: Sequence[int], chosen: np.ndarray) -> str:
    return "seed " + ", ".join(str(seed) for seed, bad in zip(seeds, chosen, strict=True) if bad)


def _require_finite(samples: Samples, seeds: Sequence[int]) -> None:
    for (experiment, measurement), sample in samples.items():
        vectors = [m.values for m in sample if isinstance(m, PerExample | PerTrial | PerDraw)]
        bad = np.array([not np.isfinite(vector).all() for vector in vectors])
        if bad.any():
            raise Undecidable(f"{experiment}.{measurement} holds values that are not finite at {_seeds(seeds, bad)}")


def _linear(expression: Expression, samples: Samples) -> tuple[dict[tuple[str, str], float], float] | None:
    """The coefficients of what varies, and a constant that holds the exact measurements; None if it is not linear."""
    linear = expression.linear()
    if linear is None:
        return None
    coefficients, constant = linear
    varying: dict[tuple[str, str], float] = {}
    for key, coefficient in coefficients.items():
        first = samples[key][0]
        if not isinstance(first, Exact):
            if coefficient != 0:
                varying[key] = coefficient
        elif not math.isfinite(first.value) or any(m != first for m in samples[key]):
            raise Undecidable(f"{'.'.join(key)} is declared exact, but is not finite or differs from seed to seed")
        else:
            constant += coefficient * first.value
    return (varying, constant) if varying else None


def _reader(results: ByName, positions: Mapping[str, list[int]]) -> Callable[[Leaf], Replicates]:
    """Reads one value for each seed; values by example, trial or draw count as their mean."""

    def read(leaf: Leaf) -> Replicates:
        stored = results[leaf.experiment.name]
        at = positions[leaf.experiment.name]
        found = stored.of_seed(leaf.measurement)
        if isinstance(found[0], PerExample | PerTrial | PerDraw):
            return Replicates(np.array([found[i].values.mean() for i in at]))  # type: ignore[union-attr]
        replicates = stored.replicates(leaf.measurement)
        return Replicates(replicates.values[at], replicates.x, replicates.rows, replicates.columns)

    return read


def _scalar(expression: Expression, values: Replicates) -> np.ndarray:
    if not values.scalar:
        raise CriterionError(f"{expression} is a curve or matrix; reduce it with .at(), .slope(), .mean() ...")
    return values.values


def _scaled(interval: Interval, coefficient: float, constant: float) -> Interval:
    ends = sorted((coefficient * interval.low + constant, coefficient * interval.high + constant))
    return Interval(coefficient * interval.estimate + constant, ends[0], ends[1], interval.n, interval.method)


def _over_proportions(
    coefficients: Mapping[tuple[str, str], float],
    constant: float,
    samples: Samples,
    values: np.ndarray,
    level: float,
) -> Interval:
    """A sum of proportions over several seeds: t over the seeds, but never narrower than counting allows.

    One proportion is for :func:`statistics.proportion_interval`. Of several, without spread between seeds, each gets
    the binomial interval of one run; with spread, but few errors or few successes in one of them, the interval is no
    narrower than their pooled binomial intervals together (MOVER).
    """
    counts = {key: [m for m in samples[key] if isinstance(m, Proportion)] for key in coefficients}
    if len(coefficients) == 1:
        ((key, coefficient),) = coefficients.items()
        interval = statistics.proportion_interval(
            [m.successes for m in counts[key]], [m.total for m in counts[key]], level
        )
        return _scaled(interval, coefficient, constant)
    n = len(values)
    still = _is_still(values, sum(map(abs, coefficients.values())))  # other counts differ by 1e-10 in sets below 10^5
    smallest = min(range(n), key=lambda i: min(sample[i].total for sample in counts.values()))
    pooled = [
        statistics.wilson_interval(sample[smallest].successes, sample[smallest].total, level)
        if still
        else statistics.wilson_interval(sum(m.successes for m in sample), sum(m.total for m in sample), level)
        for sample in counts.values()
    ]
    binomial = statistics.mover_interval(
        [p.estimate for p in pooled],
        [p.low for p in pooled],
        [p.high for p in pooled],
        list(coefficients.values()),
        n,
    )
    binomial = _scaled(binomial, 1.0, constant)
    if still:
        return binomial
    over_seeds = statistics.t_interval(values, level)
    if all(min(p.estimate, 1 - p.estimate) * p.n / n >= statistics.FEW_COUNTS for p in pooled):
        return over_seeds
    low, high = min(over_seeds.low, binomial.low), max(over_seeds.high, binomial.high)
    return Interval(over_seeds.estimate, low, high, n, "t over seeds, at least binomial")


def _concatenated(sample: Sequence[Measurement]) -> np.ndarray:
    return np.concatenate([m.values for m in sample if isinstance(m, PerTrial | PerDraw)])


def _over_trials(expression: Expression, samples: Samples, level: float) -> Interval:
    linear = _linear(expression, samples)
    if linear is None:
        raise CriterionError(f"{expression}: over trials, sums and differences have an interval (Welch); ratios do not")
    coefficients, constant = linear
    groups = [_concatenated(samples[key]) for key in coefficients]
    interval = statistics.weighted_welch(groups, list(coefficients.values()), level)
    if interval.method == "no spread":
        raise Undecidable("the trials show no spread")
    return _scaled(interval, 1.0, constant)


def _superiority(expression: Superiority, samples: Samples, level: float) -> Interval:
    for leaf in (expression.a, expression.b):
        if not isinstance(samples[leaf.key][0], PerTrial):
            raise CriterionError(f"{expression}: {leaf} does not vary by trial; return PerTrial(values)")
    a, b = (_concatenated(samples[leaf.key]) for leaf in (expression.a, expression.b))
    return statistics.brunner_munzel_interval(a, b, level)


def _over_positions(expression: Expression, samples: Samples, level: float, what: str) -> Interval:
    """Over examples of fixed models (their mean over seeds, if several), or over draws."""
    columns: dict[tuple[str, str], np.ndarray] = {}
    for key, sample in samples.items():
        vectors = [m.values for m in sample if isinstance(m, PerExample | PerDraw)]
        if what == "examples" and len({len(vector) for vector in vectors}) > 1:
            raise CriterionError(f"{'.'.join(key)}: other test examples from seed to seed; measure on one test set")
        if vectors:
            columns[key] = np.mean(vectors, axis=0) if what == "examples" else np.concatenate(vectors)
    if len({len(column) for column in columns.values()}) > 1:
        raise CriterionError(f"{expression}: its measurements have different numbers of {what}, so they do not pair")
    n = len(next(iter(columns.values())))
    linear = _linear(expression, samples)
    if linear is not None and len(linear[0]) == 1:
        ((key, coefficient),) = linear[0].items()
        if np.isin(columns[key], (0.0, 1.0)).all():
            wilson = statistics.wilson_interval(int(columns[key].sum()), n, level)
            return _scaled(wilson, coefficient, linear[1])._replace(method=f"Wilson over {n} {what}")
    if what == "draws" and linear is not None:
        combined = np.full(n, linear[1])
        for key, coefficient in linear[0].items():
            combined += coefficient * columns[key]
        size = abs(linear[1]) + sum(abs(c) * float(np.abs(columns[key]).max()) for key, c in linear[0].items())
        if _is_still(combined, size):
            raise Undecidable("the draws show no spread")
        interval, method = statistics.t_interval(combined, level), f"t over {n} draws"
    else:
        order = list(columns)

        def function(means: list[np.ndarray]) -> np.ndarray:
            def read(leaf: Leaf) -> Replicates:
                first = samples[leaf.key][0]
                if isinstance(first, Exact):
                    return Replicates(np.full(1, first.value))
                return Replicates(np.atleast_1d(means[order.index(leaf.key)]))

            return _scalar(expression, expression.evaluate(read))

        if not np.isfinite(function([np.mean(columns[key]) for key in order])).all():
            raise Undecidable("the quantity is not finite at the observed means; is a denominator 0?")
        interval = statistics.paired_bootstrap_interval(function, [columns[key] for key in order], level)
        method = f"bootstrap over {n} {what}"
    if interval.method == "no spread":
        raise Undecidable(f"the {what} show no spread")
    return interval._replace(method=method)


def _described(interval: Interval) -> str:
    return interval.method.replace("over seeds", f"over {interval.n} seeds")


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


def _part_reason(part: Comparison, interval: Interval, verdict: str, level: float, next_level: float) -> str:
    if interval.method == "exact":
        return f"{part.text}: exactly {_number(interval.estimate)}"
    span = f"[{_number(interval.low)}, {_number(interval.high)}]"
    relation = {CONFIRMED: "satisfies", REFUTED: "contradicts", UNDECIDED: "straddles"}[verdict]
    text = f"{part.text}: {_number(interval.estimate)}, {level:.4g} interval {span} {relation} it"
    if verdict == UNDECIDED and interval.method.startswith("t over seeds"):
        would = "confirm" if part.low < interval.estimate < part.high else "refute"
        ends = [end for end in (part.low, part.high) if math.isfinite(end)]
        distance = min(abs(interval.estimate - end) for end in ends)
        half = (interval.high - interval.low) / 2
        quantile = statistics.t_interval(np.arange(interval.n, dtype=float), level)
        unit = (quantile.high - quantile.low) / 2 / float(np.std(np.arange(interval.n), ddof=1))  # t / sqrt(n)
        needed = statistics.seeds_to_decide(interval.estimate, half / unit, distance, next_level)
        seeds = f"about {max(needed, interval.n + 1)} seeds" if needed else "no number of seeds that one could run"
        text += f"; {seeds} would {would} it"
    return text


def mark(reported: Reported, estimate: Estimate | None, fidelity: str) -> str:
    """The figure mark: about the paper's number, not about the statement."""
    if estimate is None or fidelity not in (PAPER, EXACT) or reported.sure == "low":
        return NOT_COMPARABLE
    tolerance = reported.tolerance
    if tolerance is None:
        last_digit = Decimal(repr(reported.value)).as_tuple().exponent  # -3 for 0.894, -5 for 1e-05, 0 for 16
        tolerance = max(0.1 * abs(reported.value), 10.0 ** int(last_digit))
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
    unit = _unit(expression, results)
    return Estimate(interval.estimate, interval.low, interval.high, interval.n, unit, _described(interval))


def _unit(expression: Expression, results: ByName) -> str:
    if not isinstance(expression, Leaf):
        return ""
    return results[expression.experiment.name].of_seed(expression.measurement)[0].unit


def _without_interval(expression: Expression, results: ByName) -> Estimate | None:
    """The measured mean, where nothing tells how far it varies."""
    leaves = list(expression.leaves())
    if any(leaf.experiment.name not in results for leaf in leaves) or isinstance(expression, Superiority):
        return None
    try:
        values = _scalar(expression, expression.evaluate(_reader(results, _paired(leaves, results)[0])))
    except Undecidable:
        return None
    return Estimate(float(np.mean(values)), -math.inf, math.inf, len(values), _unit(expression, results), "no interval")


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
        short: Why no verdict can be given although there are measurements (e.g. fewer seeds than planned); an exact
            claim needs but one run.
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
            next_level = statistics.part_level(statistics.level_of_look(look + 1), len(criterion.parts()))
            for part in criterion.parts():
                outcome, part_reason = _judge_part(part, results, part_level, next_level)
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
        if parts and all(part.method == "exact" for part in parts):
            short = ""  # one run is enough
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
        measurement = results[quantity.experiment.name].of_seed(quantity.measurement)[0]
        if isinstance(measurement, Curve | Matrix):
            return None
    return _estimate(quantity, results, level)


def _judge_part(part: Comparison, results: ByName, level: float, next_level: float) -> tuple[PartOutcome, str]:
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
    return outcome, _part_reason(part, interval, verdict, level, next_level)


def _why_not_tested(claim: Claim, scale: str) -> str:
    if claim.not_tested is not None:
        return f"not tested: {claim.not_tested.reason}: {claim.not_tested.detail}"
    others = []
    for other in claim.fidelity:
        costs = {e.plans[other].cost for e in claim.experiments(other).values() if e.plans[other].cost}
        cost = f" ({'; '.join(sorted(costs))})" if costs else ""
        others.append(f"{other}{cost}")
    return f"not tested at scale {scale}; it is at {', '.join(others)}"
