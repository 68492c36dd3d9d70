"""Bootstrap intervals of plug-in estimators, all resamples at once.

Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 7, 1979,
https://doi.org/10.1214/aos/1176344552 (percentile interval); Efron, *Better bootstrap confidence intervals*, JASA 82,
1987, https://doi.org/10.1080/01621459.1987.10478410, equations 6.6 (BCa interval) and 6.13 (acceleration).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 2**22
"""Entries of the largest intermediate matrix: 32 MB of float64."""


class PlugIn(ABC):
    """An estimator that sees its rows through sums over them only.

    Such an estimator is resampled without touching the rows again: a resample is a vector of counts, its statistics
    a product of counts and row statistics.
    """

    rows: int

    @abstractmethod
    def table_statistics(self) -> Float[Tensor, "1 statistics"]:
        """Statistics of the table."""

    @abstractmethod
    def resampled_statistics(self, index: Int[Tensor, "resamples rows"]) -> Float[Tensor, "resamples statistics"]:
        """Statistics of the tables that consist of the rows ``index``."""

    @abstractmethod
    def left_out_statistics(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows statistics"]:
        """Statistics of the table without each one of ``rows``."""

    @abstractmethod
    def estimates(self, statistics: Float[Tensor, "tables statistics"]) -> Float[Tensor, "tables effects"]:
        """The estimates; NaN where a table does not determine them."""


@dataclass(frozen=True)
class Estimate:
    """An estimate with its bootstrap interval."""

    value: float
    """The plug-in estimate from the table itself."""
    standard_error: float | None
    """Standard deviation of the resampled estimates; None without resamples."""
    low: float | None
    high: float | None
    draws: np.ndarray = field(repr=False)
    """The resampled estimates. Estimates of one call are paired by position: they come from the same resamples."""


def bootstrap(
    plug_in: PlugIn,
    *,
    draws: int,
    generator: torch.Generator | None,
    interval: str = "percentile",
    level: float = 0.95,
    where: str = "bootstrap",
) -> tuple[list[Estimate], int]:
    r"""Estimates with intervals, and the number of resamples that did not determine them.

    .. math:: [\hat\theta^*_{(\alpha)},\ \hat\theta^*_{(1-\alpha)}] \quad\text{(percentile)}, \qquad
        \alpha' = \Phi\!\Big(z_0 + \frac{z_0 + z_\alpha}{1 - a (z_0 + z_\alpha)}\Big) \quad\text{(BCa)}

    :math:`\hat\theta^*_{(\alpha)}` is the :math:`\alpha` quantile of the resampled estimates,
    :math:`\alpha = (1 - \text{level}) / 2`; :math:`z_0` is the normal quantile of the share of resampled estimates
    below the estimate, :math:`a` the acceleration, from the jackknife, and :math:`z_\alpha = \Phi^{-1}(\alpha)`.

    Args:
        plug_in: The estimator with its table.
        draws: Number of resamples; 0 for the estimates alone.
        generator: Source of the resamples; required when ``draws`` > 0.
        interval: ``"percentile"``, or ``"bca"`` (bias-corrected and accelerated; costs a jackknife).
        level: Coverage aimed at, in (0, 1).
        where: Prefix of error messages.

    Shape:
        one :class:`Estimate` per effect, each with ``draws`` ``(defined resamples,)``.

    Raises:
        ValueError: Negative ``draws`` or 1, no generator, an unknown interval, a level outside (0, 1), or more than
            5 % of the resamples undefined.

    Differences from the paper:
        Resamples that leave the estimate undefined (an empty cell, collinear columns) are dropped and counted.
    """
    if draws < 0 or draws == 1:
        raise ValueError(f"{where}: draws must be 0 or at least 2, got {draws}")
    if draws and generator is None:
        raise ValueError(f"{where}: a bootstrap needs generator=torch.Generator().manual_seed(...), got None")
    if interval not in ("percentile", "bca"):
        raise ValueError(f"{where}: interval must be 'percentile' or 'bca', got {interval!r}")
    if not 0 < level < 1:
        raise ValueError(f"{where}: level must lie in (0, 1), got {level}")
    values = plug_in.estimates(plug_in.table_statistics())[0]  # (effects,)
    if draws == 0 or generator is None:
        return [Estimate(float(value), None, None, None, np.empty(0)) for value in values], 0

    at_once = max(1, CHUNK // plug_in.rows)
    parts = []
    for start in range(0, draws, at_once):
        shape = (min(at_once, draws - start), plug_in.rows)
        index = torch.randint(  # 32 bits: drawn and counted in half the time
            plug_in.rows, shape, generator=generator, device=generator.device, dtype=torch.int32
        ).cpu()
        parts.append(plug_in.estimates(plug_in.resampled_statistics(index)))
    resampled = torch.cat(parts)  # (draws, effects)
    defined = torch.isfinite(resampled).all(1)
    undefined = draws - int(defined.sum())
    if undefined > 0.05 * draws:
        raise ValueError(
            f"{where}: at most 5 % of the resamples may leave an effect undefined, got {undefined} of {draws}: some "
            "cells or levels hold too few rows; merge levels, drop covariates or use model='linear'"
        )
    resampled = resampled[defined]
    low, high = _bounds(plug_in, values, resampled, interval, level)
    spread = resampled.std(0)
    return [
        Estimate(float(values[i]), float(spread[i]), float(low[i]), float(high[i]), resampled[:, i].numpy().copy())
        for i in range(len(values))
    ], undefined


def _bounds(plug_in: PlugIn, values: Tensor, resampled: Tensor, interval: str, level: float) -> tuple[Tensor, Tensor]:
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    if interval == "percentile":
        low, high = torch.quantile(resampled, tails, dim=0)
        return low, high
    below = ((resampled < values).double() + 0.5 * (resampled == values).double()).mean(0)
    edge = 0.5 / len(resampled)  # an estimate outside all resamples would give an infinite quantile
    bias = torch.special.ndtri(below.clamp(edge, 1 - edge))  # z_0, (effects,)
    acceleration = _acceleration(plug_in)
    shifted = bias + torch.special.ndtri(tails)[:, None]  # (2, effects)
    adjusted = torch.special.ndtr(bias + shifted / (1 - acceleration * shifted))
    bounds = [torch.quantile(resampled[:, i], adjusted[:, i]) for i in range(len(values))]
    low, high = torch.stack(bounds, 1)
    return low, high


def _acceleration(plug_in: PlugIn) -> Float[Tensor, "effects"]:
    """Sum of the cubed jackknife deviations over 6 times the 3/2 power of the sum of their squares."""
    width = plug_in.table_statistics().shape[1]
    rows = torch.split(torch.arange(plug_in.rows), max(1, CHUNK // width))
    left_out = torch.cat([plug_in.estimates(plug_in.left_out_statistics(part)) for part in rows])  # (rows, effects)
    left_out = left_out[torch.isfinite(left_out).all(1)]
    deviation = left_out.mean(0) - left_out
    squares = (deviation**2).sum(0)
    return (deviation**3).sum(0) / (6 * squares.clamp_min(1e-300) ** 1.5)
