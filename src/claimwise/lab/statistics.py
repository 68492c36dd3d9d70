"""Intervals, looks and power: the numerics under a verdict.

Everything here is a pure function of numbers. A verdict compares a two-sided interval with a threshold, so the rate of
false verdicts is the rate at which the *nearer* limit passes the truth: 2.5 % for a 95 % interval with equal tails. The
rates of every rule here are simulated in ``tests/lab/test_statistics.py`` and printed in ``docs/statistics.md``.

The underscored functions work on stacks of studies (last axis: replicates) and are what the simulations run; the public
ones check their input and return one :class:`Interval`. scipy is imported inside functions: importing the lab must not
pay for it.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MOST_SEEDS = 10_000
"""`seeds_to_decide` gives up beyond this many."""

FEW_COUNTS = 5
"""Below this many errors (or successes) a seed, `proportion_interval` takes the pooled binomial interval as floor."""

FEW_TRIALS = 5
"""Below this many trials' worth of wins or losses `brunner_munzel_interval` falls back on a binomial floor."""

FEW_EXAMPLES = 10
"""Below this many examples that differ from the rest, resampling them alone shows too little."""


class Interval(NamedTuple):
    """An estimate with its two-sided interval, the number of replicates behind it, and how it was made."""

    estimate: float
    low: float
    high: float
    n: int
    method: str


# ---------------------------------------------------------------------------------------------- checks


def _checked_level(name: str, level: float) -> float:
    if not 0.0 < level < 1.0:  # also refuses NaN
        raise ValueError(f"{name}: level must lie strictly between 0 and 1 (0.95 for 95 %), got {level!r}")
    return float(level)


def _checked_sample(name: str, what: str, values: ArrayLike) -> Array:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"{name}: {what} must be one-dimensional, got shape {sample.shape}")
    if sample.size == 0:
        raise ValueError(f"{name}: {what} is empty; at least one value is needed")
    if not np.isfinite(sample).all():
        bad = int((~np.isfinite(sample)).sum())
        raise ValueError(f"{name}: {what} must be finite, got {bad} NaN or infinite among {sample.size} values")
    return sample


def _checked_counts(name: str, successes: ArrayLike, totals: ArrayLike) -> tuple[Array, Array]:
    k = _checked_sample(name, "successes", successes)
    n = _checked_sample(name, "totals", totals)
    if k.shape != n.shape:
        raise ValueError(f"{name}: successes and totals must have the same length, got {k.size} and {n.size}")
    if (n < 1).any():
        raise ValueError(f"{name}: every total must be at least 1, got {n.min():g}")
    if (k < 0).any() or (k > n).any():
        wrong = int(np.argmax((k < 0) | (k > n)))
        raise ValueError(f"{name}: successes must lie between 0 and the total, got {k[wrong]:g} of {n[wrong]:g}")
    if (k != np.round(k)).any() or (n != np.round(n)).any():
        raise ValueError(f"{name}: successes and totals are counts, got fractions; pass how many of how many")
    return k, n


def _checked_size(name: str, n: int, least: int = 1) -> int:
    if isinstance(n, bool) or n != int(n) or n < least:
        raise ValueError(f"{name}: n must be a whole number of at least {least}, got {n!r}")
    return int(n)


# ---------------------------------------------------------------------------------------------- means over seeds


def _spread(values: Array) -> Array:
    """Standard deviation over the last axis, exactly 0 for equal values (their mean may round)."""
    deviation = values.std(axis=-1, ddof=1)
    return np.where((values == values[..., :1]).all(axis=-1), 0.0, deviation)


def _t_limits(values: Array, level: float) -> tuple[Array, Array, Array]:
    from scipy.special import stdtrit

    n = values.shape[-1]
    mean = values.mean(axis=-1)
    half = stdtrit(n - 1, 0.5 + level / 2) * _spread(values) / math.sqrt(n)
    return mean, mean - half, mean + half


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds with Student's interval.

    mean ± t s / √n, where n is the number of values, s their standard deviation (divisor n - 1) and t the
    (1 + level) / 2 quantile of Student's distribution with n - 1 degrees of freedom.

    Args:
        values: one number per seed, shape ``(n,)``; for a comparison the paired differences.
        level: two-sided level, 0.95 for 95 %.

    One value says nothing about spread: the interval is then (-inf, inf). Two or more equal values give the degenerate
    interval with method ``"no spread"``: it is not evidence that the truth is there, the caller must treat it.

    Raises:
        ValueError: no value, a NaN or infinity, or a level outside (0, 1).

    Example:
        >>> t_interval([1.0, 2.0, 3.0])
        Interval(estimate=2.0, low=-0.484..., high=4.484..., n=3, method='t over seeds')
    """
    level = _checked_level("t_interval", level)
    sample = _checked_sample("t_interval", "values", values)
    n = sample.size
    if n == 1:
        return Interval(float(sample[0]), -math.inf, math.inf, 1, "t over seeds")
    if (sample == sample[0]).all():
        value = float(sample[0])
        return Interval(value, value, value, n, "no spread")
    mean, low, high = _t_limits(sample, level)
    return Interval(float(mean), float(low), float(high), n, "t over seeds")


# ---------------------------------------------------------------------------------------------- proportions


def _wilson_limits(successes: ArrayLike, totals: ArrayLike, level: float) -> tuple[Array, Array, Array]:
    from scipy.special import ndtri

    k, n = np.asarray(successes, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    z = float(ndtri(0.5 + level / 2))
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At k = 0 and k = n the limits are 0 and 1 exactly; rounding must not put them outside.
    low = np.where(k == 0, 0.0, np.clip(centre - half, 0.0, 1.0))
    high = np.where(k == n, 1.0, np.clip(centre + half, 0.0, 1.0))
    return p, low, high


def _binomial_limits(successes: ArrayLike, totals: ArrayLike, level: float) -> tuple[Array, Array, Array]:
    """Wilson's limits widened to the exact ones (Clopper and Pearson), at counts that need not be whole."""
    from scipy.special import betaincinv

    n = np.asarray(totals, dtype=np.float64)
    k = np.asarray(successes, dtype=np.float64)
    k = np.where(np.abs(k - np.round(k)) < 1e-9 * n, np.round(k), k)  # a share times a total may round
    p, low, high = _wilson_limits(k, n, level)
    tail = (1 - level) / 2
    exact_low = np.where(k > 0, betaincinv(np.where(k > 0, k, 1.0), n - k + 1, tail), 0.0)
    exact_high = np.where(k < n, betaincinv(k + 1, np.where(k < n, n - k, 1.0), 1 - tail), 1.0)
    return p, np.minimum(low, exact_low), np.maximum(high, exact_high)


def wilson_interval(successes: int, total: int, level: float = 0.95) -> Interval:
    """Interval for the proportion behind `successes` of `total` independent examples: Wilson's, made safe for verdicts.

    Wilson's score interval is the set of p with |p̂ - p| <= z √(p (1 - p) / n), where p̂ = k / n, k the successes, n the
    total, z the normal (1 + level) / 2 quantile. Its 95 % hold on average over p and both sides; a verdict leans on one
    limit, and beside small counts that limit is wrong up to 17 % of the time (one error seen where 0.18 were
    expected). Each limit is therefore widened to Clopper and Pearson's exact one where that lies further out: then it
    is wrong in at most (1 - level) / 2 of all studies whatever p. From some 20 of either kind on the two are close.

    Raises:
        ValueError: counts that are negative, fractional or inconsistent, or a level outside (0, 1).

    Differences from the textbook: the widening. At 0 successes and at none missing Wilson's own limit is the wider.

    Example:
        >>> wilson_interval(10, 10)
        Interval(estimate=1.0, low=0.691..., high=1.0, n=10, method='Wilson over examples')
    """
    level = _checked_level("wilson_interval", level)
    k, n = _checked_counts("wilson_interval", [successes], [total])
    p, low, high = _binomial_limits(k[0], n[0], level)
    return Interval(float(p), float(low), float(high), int(n[0]), "Wilson over examples")


def _proportion_limits(successes: Array, totals: Array, level: float) -> tuple[Array, Array, Array]:
    shares = successes / totals
    mean, low, high = _t_limits(shares, level)
    together = totals.sum(axis=-1)
    _, pooled_low, pooled_high = _binomial_limits(mean * together, together, level)
    # Seeds that agree to the last example are no independent evidence: one run's worth, on the smallest test set.
    smallest = totals.min(axis=-1)
    _, single_low, single_high = _binomial_limits(mean * smallest, smallest, level)
    still = (shares == shares[..., :1]).all(axis=-1)
    low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
    few = smallest * np.minimum(mean, 1 - mean) < FEW_COUNTS
    low, high = np.where(few, np.minimum(low, pooled_low), low), np.where(few, np.maximum(high, pooled_high), high)
    return mean, np.where(still, single_low, low), np.where(still, single_high, high)


def proportion_interval(successes: ArrayLike, totals: ArrayLike, level: float = 0.95) -> Interval:
    """A proportion measured once per seed, `successes` of `totals`.

    - Seeds that differ: Student's interval over the seeds' shares (:func:`t_interval`).
    - Seeds that differ with fewer than 5 successes, or 5 failures, a seed: the same, but no narrower than the binomial
      interval (:func:`wilson_interval`) of all counts together.
    - Seeds without spread: the binomial interval of one run.
    - One seed: [0, 1], since nothing shows how far training again would move it.

    t with Wilson only where there is no spread gives false verdicts in about 6 % of studies at about one expected error
    a seed (seeds that happen nearly to agree on too good a value); with the pooled counts as floor they stay below 5 %
    wherever the spread between seeds is at most a quarter of the distance of the proportion from its nearer end, 1 - p
    for an accuracy p. A larger spread means a skewed one, as when a seed fails now and then, and there no rule on 3 to
    10 seeds holds: most studies never see the failure. ``docs/statistics.md`` has the rates.

    Args:
        successes: whole numbers, one per seed, shape ``(n,)``.
        totals: sizes of the test sets, shape ``(n,)``.
        level: two-sided level.

    Raises:
        ValueError: no counts, counts that are negative, fractional or inconsistent, or a level outside (0, 1).

    Example:
        >>> proportion_interval([97, 95, 96], [100, 100, 100])
        Interval(estimate=0.96, low=0.931..., high=0.984..., n=3, method='t over seeds, at least binomial')
        >>> proportion_interval([100, 100, 100], [100, 100, 100]).method
        'Wilson, seeds without spread'
    """
    level = _checked_level("proportion_interval", level)
    k, n = _checked_counts("proportion_interval", successes, totals)
    if k.size == 1:
        return Interval(float(k[0] / n[0]), 0.0, 1.0, 1, "t over seeds")
    over_seeds = t_interval(k / n, level)
    mean, low, high = _proportion_limits(k, n, level)
    if over_seeds.method == "no spread":
        method = "Wilson, seeds without spread"
    elif low < max(over_seeds.low, 0.0) or high > min(over_seeds.high, 1.0):
        method = "t over seeds, at least binomial"
    else:
        method = over_seeds.method
    return Interval(float(mean), float(low), float(high), k.size, method)


def mover_interval(
    estimates: ArrayLike, lows: ArrayLike, highs: ArrayLike, coefficients: ArrayLike, n: int = 1
) -> Interval:
    """Interval for Σ c_i p_i from the intervals of independent p_i (MOVER; Newcombe's hybrid for a difference).

    low = Σ c_i p_i - √Σ (c_i p_i - min(c_i l_i, c_i u_i))², high with max, where (l_i, u_i) is the interval of p_i.
    Zou and Donner, Construction of confidence limits about effect measures, Statistics in Medicine 27 (2008).

    Args:
        estimates, lows, highs: the p_i with their limits, all of one level, shape ``(m,)``.
        coefficients: the c_i, shape ``(m,)``.
        n: replicates to state in the result.

    Raises:
        ValueError: lengths that differ, values that are not finite, or an estimate outside its limits.

    Example:
        >>> mover_interval([0.9, 0.5], [0.8, 0.4], [0.95, 0.6], [1.0, -1.0])
        Interval(estimate=0.4, low=0.258..., high=0.511..., n=1, method='MOVER')
    """
    columns = [
        _checked_sample("mover_interval", name, value)
        for name, value in (
            ("estimates", estimates),
            ("lows", lows),
            ("highs", highs),
            ("coefficients", coefficients),
        )
    ]
    if len({column.size for column in columns}) > 1:
        raise ValueError(f"mover_interval: all four must have one length, got {[column.size for column in columns]}")
    p, low, high, c = columns
    if ((low > p) | (p > high)).any():
        wrong = int(np.argmax((low > p) | (p > high)))
        raise ValueError(
            "mover_interval: an estimate must lie within its limits, "
            f"got {p[wrong]:g} in [{low[wrong]:g}, {high[wrong]:g}]"
        )
    total = float(c @ p)
    below = c * p - np.minimum(c * low, c * high)
    above = np.maximum(c * low, c * high) - c * p
    return Interval(
        total,
        total - math.sqrt(float(below @ below)),
        total + math.sqrt(float(above @ above)),
        _checked_size("mover_interval", n),
        "MOVER",
    )


# ---------------------------------------------------------------------------------------------- independent trials


def _weighted_welch_limits(
    samples: Sequence[Array], weights: Sequence[float], level: float
) -> tuple[Array, Array, Array]:
    from scipy.special import stdtrit

    estimate = sum(w * sample.mean(axis=-1) for sample, w in zip(samples, weights, strict=True))
    # Each sample's share of the variance of the estimate, and Welch and Satterthwaite's degrees of freedom.
    shares = [(w * _spread(sample)) ** 2 / sample.shape[-1] for sample, w in zip(samples, weights, strict=True)]
    variance = np.asarray(sum(shares), dtype=np.float64)
    # Shares of the whole rather than raw squares: tiny variances must not underflow.
    whole = np.where(variance > 0, variance, 1.0)
    curvature = np.asarray(
        sum((share / whole) ** 2 / (sample.shape[-1] - 1) for share, sample in zip(shares, samples, strict=True))
    )
    freedom = 1 / np.where(curvature > 0, curvature, 1.0)
    half = stdtrit(freedom, 0.5 + level / 2) * np.sqrt(variance)
    return np.asarray(estimate), estimate - half, estimate + half


def weighted_welch(samples: Sequence[ArrayLike], weights: Sequence[float], level: float = 0.95) -> Interval:
    """Interval for Σ w_i mean_i over independent samples of trials with their own variances.

    Σ w_i m_i ± t √V with V = Σ v_i, v_i = w_i² s_i² / n_i, and t of V² / Σ (v_i² / (n_i - 1)) degrees of freedom (Welch
    and Satterthwaite); m_i, s_i, n_i are mean, standard deviation and size of sample i.

    A sample of one trial has no spread to see: (-inf, inf), unless its weight is 0. No spread in any sample gives the
    degenerate interval with method ``"no spread"``. n is the size of the smallest sample.

    Raises:
        ValueError: no samples, another number of weights, an empty sample, NaN or infinity, level outside (0, 1).

    Example:
        >>> weighted_welch([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]], [1.0, -1.0])
        Interval(estimate=0.5, low=-1.731..., high=2.731..., n=3, method='Welch over trials')
    """
    level = _checked_level("weighted_welch", level)
    if not len(samples):
        raise ValueError("weighted_welch: no samples; at least one is needed")
    weight = _checked_sample("weighted_welch", "weights", weights)
    if weight.size != len(samples):
        raise ValueError(f"weighted_welch: one weight per sample, got {weight.size} weights for {len(samples)} samples")
    trials = [_checked_sample("weighted_welch", f"sample {i}", sample) for i, sample in enumerate(samples)]
    n = min(sample.size for sample in trials)
    used = [(sample, float(w)) for sample, w in zip(trials, weight, strict=True) if w != 0]
    estimate = float(sum(w * sample.mean() for sample, w in used))
    if any(sample.size == 1 for sample, _ in used):
        return Interval(estimate, -math.inf, math.inf, n, "Welch over trials")
    if all((sample == sample[0]).all() for sample, _ in used):
        return Interval(estimate, estimate, estimate, n, "no spread")
    _, low, high = _weighted_welch_limits([sample for sample, _ in used], [w for _, w in used], level)
    return Interval(estimate, float(low), float(high), n, "Welch over trials")


def welch_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Difference of the means of independent trials, mean(a) - mean(b), without assuming equal variances.

    :func:`weighted_welch` with weights 1 and -1.

    Raises:
        ValueError: an empty sample, NaN or infinity, or a level outside (0, 1).

    Example:
        >>> welch_interval([1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0])
        Interval(estimate=0.5, low=-1.731..., high=2.731..., n=3, method='Welch over trials')
    """
    level = _checked_level("welch_interval", level)
    return weighted_welch(
        [_checked_sample("welch_interval", "a", a), _checked_sample("welch_interval", "b", b)], [1.0, -1.0], level
    )


def _brunner_munzel_limits(a: Array, b: Array, level: float) -> tuple[Array, Array, Array]:
    from scipy.special import expit, logit, stdtrit
    from scipy.stats import rankdata

    n_a, n_b = a.shape[-1], b.shape[-1]
    joint = rankdata(np.concatenate([a, b], axis=-1), axis=-1)
    # Placement of each value: the share of the other sample below it, ties counted half.
    placed_a = (joint[..., :n_a] - rankdata(a, axis=-1)) / n_b
    placed_b = (joint[..., n_a:] - rankdata(b, axis=-1)) / n_a
    p = placed_a.mean(axis=-1)
    share_a, share_b = _spread(placed_a) ** 2 / n_a, _spread(placed_b) ** 2 / n_b
    variance = share_a + share_b
    whole = np.where(variance > 0, variance, 1.0)
    curvature = (share_a / whole) ** 2 / (n_a - 1) + (share_b / whole) ** 2 / (n_b - 1)
    freedom = 1 / np.where(curvature > 0, curvature, 1.0)
    smaller = min(n_a, n_b)
    _, binomial_low, binomial_high = _binomial_limits(p * smaller, np.full_like(p, smaller), level)
    # At complete separation only one limit can be wrong: it gets the whole of 1 - level.
    alone = (1 - level) ** (1 / smaller)
    binomial_low = np.where(p >= 1, alone, binomial_low)
    binomial_high = np.where(p <= 0, 1 - alone, binomial_high)
    inner = (variance > 0) & (p > 0) & (p < 1)
    safe = np.where(inner, p, 0.5)
    half = stdtrit(freedom, 0.5 + level / 2) * np.sqrt(variance) / (safe * (1 - safe))
    low, high = expit(logit(safe) - half), expit(logit(safe) + half)
    # P(A > B) and 1 - P(B > A) may differ by rounding; the limits must not.
    few = (smaller * np.minimum(p, 1 - p) < FEW_TRIALS - 1e-9) | (share_a == 0) | (share_b == 0)
    low = np.where(few, np.minimum(low, binomial_low), low)
    high = np.where(few, np.maximum(high, binomial_high), high)
    return p, np.where(inner, low, binomial_low), np.where(inner, high, binomial_high)


def brunner_munzel_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """P(A > B) + P(A = B) / 2 for independent trials, with Brunner and Munzel's variance on the logit scale.

    With p̂ the share of pairs (a_i, b_j) that A wins, ties counted half, and the placement of a trial the share of the
    other sample below it, V = s_A² / n_A + s_B² / n_B from the variances s² of the placements, and t has
    Satterthwaite's degrees of freedom; the limits are expit(logit p̂ ± t √V / (p̂ (1 - p̂))). Brunner and Munzel, The
    nonparametric Behrens-Fisher problem, Biometrical Journal 42 (2000).

    The logit scale keeps the limits inside (0, 1). On the plain scale, p̂ ± t √V, the rank test's own, false verdicts
    pass 10 % once the truth is .8 or more. Where m = min(n_A, n_B) is small or p̂ extreme (m p̂ or m (1 - p̂)
    below 5), or where all trials of one sample have the same placement, V itself is not to be trusted: the interval is
    then no narrower than the binomial one of m trials (p̂ varies at most like a proportion of m trials: van Dantzig's
    bound p (1 - p) / m). Complete separation gives [(1 - level)^(1/m), 1]: five against five trials decide that A tends
    to be larger, four against four do not.

    Args:
        a, b: one value per trial, shapes ``(n_a,)`` and ``(n_b,)``.
        level: two-sided level.

    One trial in either sample gives [0, 1]. n is the size of the smaller sample.

    Raises:
        ValueError: an empty sample, NaN or infinity, or a level outside (0, 1).

    Differences from the paper: the logit scale and the binomial floor.

    Example:
        >>> brunner_munzel_interval([3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 2.0, 2.5, 0.5, 1.5])
        Interval(estimate=1.0, low=0.549..., high=1.0, n=5, method='Brunner-Munzel over trials')
    """
    level = _checked_level("brunner_munzel_interval", level)
    one = _checked_sample("brunner_munzel_interval", "a", a)
    other = _checked_sample("brunner_munzel_interval", "b", b)
    n = min(one.size, other.size)
    if n == 1:
        p = float(((one[:, None] > other) + 0.5 * (one[:, None] == other)).mean())
        return Interval(p, 0.0, 1.0, n, "Brunner-Munzel over trials")
    estimate, low, high = _brunner_munzel_limits(one, other, level)
    return Interval(float(estimate), float(low), float(high), n, "Brunner-Munzel over trials")


# ---------------------------------------------------------------------------------------------- examples


def _resampled_means(table: Array, counts: NDArray[np.int64], draws: int, generator: np.random.Generator) -> Array:
    """Means over Σ counts rows drawn with probability proportional to `counts`: (draws, columns)."""
    rows, examples = len(table), int(counts.sum())
    chunk = max(1, 2_000_000 // rows)  # 16 MB of weights at a time
    means = []
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        if rows == examples:  # all rows distinct: counting drawn indices is three times faster than multinomial
            drawn = generator.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        else:
            weights = generator.multinomial(examples, counts / examples, size=size)
        means.append(weights @ table / examples)
    return np.concatenate(means)


def _commonest(values: Array, counts: NDArray[np.int64], tolerance: float) -> int:
    """How often the commonest of `values` occurs, up to rounding."""
    order = np.argsort(values)  # NaN comes last, each a value of its own
    apart = ~(np.diff(values[order]) <= tolerance)
    return int(np.bincount(np.concatenate([[0], np.cumsum(apart)]), weights=counts[order]).max())


def paired_bootstrap_interval(
    function: Callable[[list[Array]], ArrayLike],
    columns: Sequence[ArrayLike],
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """`function` of the means of per-example columns, with a BCa bootstrap interval over the examples.

    Examples (whole rows) are drawn with replacement `draws` times; the limits are the quantiles of the resampled
    values, moved for bias and skewness (bias-corrected and accelerated; Efron, Better bootstrap confidence intervals,
    JASA 82 (1987), with the acceleration from leaving out one example at a time). It speaks of other examples for
    *this* model, never of training again.

    Resampling cannot show what the sample happens to lack. Where fewer than 10 examples carry the spread, all others
    moving `function` equally when left out (for a difference of two errors: where the models differ on fewer than 10):

    - columns of 0 and 1 (errors): the interval is widened to the quantiles of a bootstrap with one more example of each
      kind, the most common row with one column flipped. So models that agree on all examples get an interval, too.
    - other columns: (-inf, inf).

    Args:
        function: takes a list with one array of means per column, all of one shape, and returns an array of that shape.
        columns: one value per example and column, each of shape ``(N,)``; row i of every column is the same example.
        level: two-sided level.
        draws: bootstrap resamples.
        seed: of the resampling: the same numbers in any order give the same interval.

    Resamples where the function is not a number (0 / 0) count as beyond either limit. Constant columns other than
    0 and 1, or a function that ignores them, give the degenerate interval with method ``"no spread"``.

    Raises:
        ValueError: no columns, columns of several lengths, empty or NaN, a function not finite at the observed means or
            of the wrong shape, a level outside (0, 1), fewer than 100 draws.

    Differences from the paper: the widening for few differing examples.

    Example:
        >>> wrong_a, wrong_b = np.repeat([1.0, 0.0], [30, 170]), np.repeat([1.0, 0.0], [10, 190])
        >>> interval = paired_bootstrap_interval(lambda means: means[0] - means[1], [wrong_a, wrong_b])
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.065, 0.15)
    """
    from scipy.special import ndtr, ndtri

    name, method = "paired_bootstrap_interval", "paired bootstrap over examples"
    level = _checked_level(name, level)
    if not len(columns):
        raise ValueError(f"{name}: no columns; at least one is needed")
    checked = [_checked_sample(name, f"column {i}", column) for i, column in enumerate(columns)]
    if len({column.size for column in checked}) > 1:
        raise ValueError(f"{name}: all columns must have one length, got {[column.size for column in checked]}")
    if draws < 100:
        raise ValueError(f"{name}: draws must be at least 100, got {draws!r}")

    def evaluate(means: Array) -> Array:  # (several, columns) -> (several,)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(function(list(means.T)), dtype=np.float64)
        if values.shape not in ((), (1,), means.shape[:1]):
            raise ValueError(
                f"{name}: the function must return one value per entry of the means, shape {means.shape[:1]}, "
                f"got shape {values.shape}"
            )
        return np.broadcast_to(values, means.shape[:1])

    table = np.stack(checked, axis=1)  # (examples, columns)
    examples = len(table)
    estimate = float(evaluate(table.mean(axis=0, keepdims=True))[0])
    if not math.isfinite(estimate):
        raise ValueError(f"{name}: the function of the observed means is {estimate}; is a denominator 0?")
    # Equal rows are drawn together: 0/1 columns cost as little as they have distinct rows.
    rows, counts = np.unique(table, axis=0, return_counts=True)
    left_out = evaluate((table.sum(axis=0) - rows) / (examples - 1)) if examples > 1 else np.full(1, estimate)
    rounding = 1e-12 * max(1.0, float(np.abs(rows).max()), abs(estimate))
    apart = examples - _commonest(left_out * examples, counts, rounding * 1000)
    few = apart < FEW_EXAMPLES
    outcomes = bool(np.isin(rows, (0.0, 1.0)).all())
    if 0 < apart < FEW_EXAMPLES and not outcomes:
        return Interval(estimate, -math.inf, math.inf, examples, method)

    generator = np.random.default_rng(seed)
    tails = np.array([0.5 - level / 2, 0.5 + level / 2])

    def limits(replicates: Array, at: Array) -> tuple[float, float]:
        defined = np.sort(replicates[~np.isnan(replicates)])
        missing = np.full(draws - defined.size, np.inf)
        ranks = np.clip(np.ceil(at * draws).astype(int) - 1, 0, draws - 1)
        return float(np.concatenate([-missing, defined])[ranks[0]]), float(np.concatenate([defined, missing])[ranks[1]])

    replicates = evaluate(_resampled_means(rows, counts, draws, generator))
    low, high = estimate, estimate
    still = bool((np.abs(replicates - replicates[0]) <= rounding).all())
    if not still:
        defined = replicates[~np.isnan(replicates)]
        tied = np.abs(defined - estimate) <= rounding
        below = ((defined < estimate) & ~tied).mean() + 0.5 * tied.mean()
        bias = float(ndtri(np.clip(below, 0.5 / draws, 1 - 0.5 / draws)))
        pull = np.average(left_out, weights=counts) - left_out
        cubed, squared = float(counts @ pull**3), float(counts @ pull**2)
        skewness = cubed / (6 * squared**1.5) if math.isfinite(cubed) and squared > 0 else 0.0
        shift = bias + ndtri(tails)
        low, high = limits(replicates, ndtr(bias + shift / np.maximum(1 - skewness * shift, 1e-6)))
    if few and outcomes:
        usual = rows[counts.argmax()]
        flipped = np.abs(usual - np.eye(len(usual)))  # one row per column, that column flipped
        more, more_counts = np.concatenate([rows, flipped]), np.concatenate([counts, np.ones(len(usual), dtype=int)])
        widened = evaluate(_resampled_means(more, more_counts, draws, generator))
        if still and (np.abs(widened - widened[0]) <= rounding).all():
            return Interval(estimate, estimate, estimate, examples, "no spread")
        wide_low, wide_high = limits(widened, tails)
        low, high, still = min(low, wide_low), max(high, wide_high), False
    if still:
        return Interval(estimate, estimate, estimate, examples, "no spread")
    return Interval(estimate, low, high, examples, method)


# ---------------------------------------------------------------------------------------------- levels


def level_of_look(k: int) -> float:
    """Level of look k: 0 at the planned number of seeds, k at the k-th recorded extension after it.

    1 - 0.05 / 2^k. Where one end of the interval can be falsely passed, as for `>`, `<`, and `between` with ends more
    than some standard errors apart, the looks' errors add up to 0.025 (1 + 1/2 + 1/4 + ...) <= 5 % however often one
    looks. Where both ends can (a `between` much narrower than the interval, falsely refuted to either side) the sum is
    bounded by 10 % only.

    Raises:
        ValueError: k negative or not whole.

    Example:
        >>> [level_of_look(k) for k in range(3)]
        [0.95, 0.975, 0.9875]
    """
    if isinstance(k, bool) or k != int(k) or k < 0:
        raise ValueError(f"level_of_look: k must be a whole number of at least 0 (the planned look), got {k!r}")
    return 1 - 0.05 / 2 ** int(k)


def part_level(level: float, m: int) -> float:
    """Level at which one of `m` parts refutes the whole: 1 - (1 - level) / m (Bonferroni).

    A whole that holds is falsely refuted when any part is: m chances, so each takes 1/m of the error. Confirming needs
    no correction: a whole that fails has a failing part, and that one must be falsely confirmed for the whole to be.

    Raises:
        ValueError: m below 1 or not whole, or a level outside (0, 1).

    Example:
        >>> part_level(0.95, 2)
        0.975
    """
    level = _checked_level("part_level", level)
    if isinstance(m, bool) or m != int(m) or m < 1:
        raise ValueError(f"part_level: m must be a whole number of at least 1, got {m!r}")
    return 1 - (1 - level) / int(m)


# ---------------------------------------------------------------------------------------------- planning


def power_of(effect: float, n: int, level: float = 0.95) -> float:
    """Probability that `n` seeds confirm an effect.

    P(T > t) with T noncentral t of n - 1 degrees of freedom and noncentrality δ √n, δ the true distance from the
    threshold in standard deviations between seeds (`effect`), t the (1 + level) / 2 quantile of Student's distribution:
    the whole interval then lies on the right side.

    Raises:
        ValueError: an effect that is not finite, n below 1, or a level outside (0, 1).

    Example:
        >>> round(power_of(1.0, 10), 3)
        0.803
    """
    from scipy.special import chdtr, nctdtr, stdtrit

    level = _checked_level("power_of", level)
    n = _checked_size("power_of", n)
    if not math.isfinite(effect):
        raise ValueError(f"power_of: effect must be finite, got {effect!r}")
    if n == 1:
        return 0.0
    away, quantile = effect * math.sqrt(n), float(stdtrit(n - 1, 0.5 + level / 2))
    power = 1 - float(nctdtr(n - 1, away, quantile))
    if math.isnan(power):  # the series fails beyond 10^5, where the error of the mean is nothing to that of s
        power = float(chdtr(n - 1, (n - 1) * max(away / quantile, 0.0) ** 2))
    return power


def smallest_effect(n: int, power: float = 0.8, level: float = 0.95) -> float:
    """Smallest true distance from the threshold, in seed standard deviations, that `n` seeds confirm with `power`.

    The effect at which :func:`power_of` reaches `power`; infinite for one seed.

    Raises:
        ValueError: n below 1, or a power or level outside (0, 1).

    Example:
        >>> [round(smallest_effect(n), 2) for n in (3, 5, 10)]
        [3.26, 1.68, 1.0]
    """
    from scipy.optimize import brentq

    level = _checked_level("smallest_effect", level)
    n = _checked_size("smallest_effect", n)
    if not 0.0 < power < 1.0:
        raise ValueError(f"smallest_effect: power must lie strictly between 0 and 1, got {power!r}")
    if n == 1:
        return math.inf
    upper = 1.0
    while power_of(upper, n, level) < power:
        upper *= 2
    lower = -1.0
    while power_of(lower, n, level) > power:
        lower *= 2
    return cast(float, brentq(lambda effect: power_of(effect, n, level) - power, lower, upper, xtol=1e-10))


def seeds_to_decide(mean: float, sd: float, threshold_distance: float, level: float = 0.95) -> int | None:
    """About how many seeds would decide, if estimate and spread are the truth.

    The smallest n whose half width t s / √n is below the distance to the threshold: with that many seeds about every
    second study decides. None where the estimate lies on the threshold or more than 10,000 seeds would be needed.

    Args:
        mean: the estimate, checked only; the distance says where it stands.
        sd: standard deviation between seeds.
        threshold_distance: from the estimate to the nearest threshold, either sign.
        level: of the look that would decide, see :func:`level_of_look`.

    Raises:
        ValueError: a value that is not finite, a negative sd, or a level outside (0, 1).

    Example:
        >>> seeds_to_decide(0.92, 0.03, 0.02)
        12
    """
    from scipy.special import stdtrit

    name = "seeds_to_decide"
    level = _checked_level(name, level)
    for what, value in (("mean", mean), ("sd", sd), ("threshold_distance", threshold_distance)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: {what} must be finite, got {value!r}")
    if sd < 0:
        raise ValueError(f"{name}: sd must be >= 0, got {sd!r}")
    distance = abs(threshold_distance)
    if distance == 0:
        return None
    n = np.arange(2, MOST_SEEDS + 1)
    enough = stdtrit(n - 1, 0.5 + level / 2) * sd / np.sqrt(n) < distance
    return int(n[np.argmax(enough)]) if enough.any() else None
