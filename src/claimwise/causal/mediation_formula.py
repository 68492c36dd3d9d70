"""Natural effects from observational data: the mediation formula.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, theorem 2 and corollary 2; named in
Pearl, *The causal mediation formula*, Prevention Science 13, 2012, https://doi.org/10.1007/s11121-011-0270-1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from claimwise.causal.bootstrap import Estimate, PlugIn, bootstrap
from claimwise.causal.discrete_plug_in import DiscretePlugIn
from claimwise.causal.linear_plug_in import LinearPlugIn
from claimwise.causal.table import read_columns

Level = float | str
"""A value of a column."""


@dataclass(frozen=True)
class MediationEstimates:
    """What :func:`mediation_formula` returns; all effects come from the same resamples."""

    total: Estimate
    natural_direct: Estimate
    natural_indirect: Estimate
    reverse_natural_direct: Estimate
    """NDE(x*, x): of the transition from x back to the reference."""
    reverse_natural_indirect: Estimate
    """NIE(x*, x): of the transition from x back to the reference."""
    controlled_direct: dict[Level | tuple[Level, ...], Estimate]
    """CDE_z by z, for each z of ``controlled_at``."""
    rows: int
    undefined_draws: int
    """Resamples dropped because an effect was undefined in them (an empty cell, collinear columns)."""


def mediation_formula(
    table: Any,
    treatment: str,
    outcome: str,
    *,
    mediators: str | Sequence[str],
    covariates: str | Sequence[str] = (),
    x: Level,
    reference: Level,
    model: str,
    interaction: bool = True,
    controlled_at: Sequence[Level | tuple[Level, ...]] = (),
    draws: int = 1000,
    interval: str = "percentile",
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> MediationEstimates:
    r"""Total, controlled direct, natural direct and natural indirect effects from a table of observations.

    .. math:: NDE = \sum_{w,z} \big[E(Y \mid x, z, w) - E(Y \mid x^*, z, w)\big]\, P(z \mid x^*, w)\, P(w)

    .. math:: NIE = \sum_{w,z} E(Y \mid x^*, z, w)\, \big[P(z \mid x, w) - P(z \mid x^*, w)\big]\, P(w)

    :math:`Y` is the outcome, :math:`x` and :math:`x^*` (``reference``) the values of the treatment that are compared,
    :math:`z` the mediators' values, :math:`w` the covariates'. :math:`P(w)` is the table's. The total effect is the
    same sum with both from :math:`x` minus both from :math:`x^*`, so that TE = NDE - NIE(reverse) holds to rounding.

    ``model="discrete"`` takes cell means and frequencies for the conditional expectations and probabilities.
    ``model="linear"`` fits

    .. math:: E(M \mid X, W) = \beta_0 + \beta_1 X + \beta_w' W, \qquad
        E(Y \mid X, M, W) = \theta_0 + \theta_1 X + \theta_2' M + X\, \theta_3' M + \theta_w' W

    by least squares, which the formula turns into
    :math:`NDE = (\theta_1 + \theta_3' E[M_{x^*}])(x - x^*)` and
    :math:`NIE = (\theta_2 + \theta_3 x^*)' \beta_1 (x - x^*)`, with
    :math:`E[M_{x^*}] = \beta_0 + \beta_1 x^* + \beta_w' E[W]`.

    The result has a causal reading only when, given :math:`W`, the treatment is unconfounded with mediators and outcome
    and the mediators with the outcome, by nothing that the treatment causes: see :func:`identifiable`.

    Args:
        table: Columns by name: a dict of arrays, tensors or lists, a DataFrame, or a structured NumPy array.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`; numeric (code a yes/no outcome as 0 and 1 to get risk differences).
        mediators: Name or names of :math:`Z`, taken jointly; numeric for ``"linear"``.
        covariates: Names of :math:`W`, causes of several of the others that the treatment does not change. With
            ``"linear"``, columns of strings become indicators of their levels but the first.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`.
        model: How conditional means are estimated: ``"discrete"`` or ``"linear"``.
        interaction: With ``"linear"``, whether the outcome's regression has the products of treatment and mediators.
            Without them NDE = CDE at every z by construction.
        controlled_at: Mediator values z at which to estimate the controlled direct effect; tuples where there are
            several mediators.
        draws: Bootstrap resamples of rows; 0 for the estimates alone.
        interval: ``"percentile"`` or ``"bca"``.
        level: Coverage aimed at, in (0, 1).
        generator: Source of the resamples.

    Shape:
        columns ``(rows,)``; each estimate's ``draws`` ``(draws - undefined_draws,)``.

    Raises:
        ValueError: A column that is missing, of another length, empty, with missing or non-finite values; a variable in
            two roles; a treatment that is constant or never takes a value compared; an empty cell that an effect needs
            (``"discrete"``, named); collinear columns (``"linear"``, named); and as :func:`bootstrap`.

    Differences from the paper:
        The paper gives the formula for discrete variables and leaves estimation open. The linear version replaces its
        conditional means by regressions; with several mediators, they enter linearly.

    Example:
        >>> import torch
        >>> from claimwise.causal import mediation_formula
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.arange(1000) % 2
        >>> z = 2.0 * x + torch.randn(1000, generator=generator)
        >>> y = 1.0 * x + 0.5 * z + 0.1 * torch.randn(1000, generator=generator)
        >>> effects = mediation_formula(
        ...     {"x": x, "z": z, "y": y},
        ...     "x", "y", mediators="z", x=1, reference=0, model="linear", generator=generator,
        ... )
        >>> round(effects.natural_direct.value, 1), round(effects.natural_indirect.value, 1)
        (1.0, 1.0)
    """
    where = "mediation_formula"
    if model not in ("discrete", "linear"):
        raise ValueError(f"{where}: model must be 'discrete' or 'linear', got {model!r}")
    between = [mediators] if isinstance(mediators, str) else list(mediators)
    observed = [covariates] if isinstance(covariates, str) else list(covariates)
    if not between:
        raise ValueError(f"{where}: mediators must name at least one column, got none")
    roles = [treatment, outcome, *between, *observed]
    for name in roles:
        if roles.count(name) > 1:
            raise ValueError(f"{where}: each column must have one role, got {name!r} in two")
    held = [value if isinstance(value, tuple) else (value,) for value in controlled_at]
    for setting in held:
        if len(setting) != len(between):
            raise ValueError(f"{where}: controlled_at must give one value per mediator ({len(between)}), got {setting}")
    columns = read_columns(table, roles, where)
    if len(np.unique(columns[treatment])) == 1:
        raise ValueError(
            f"{where}: the treatment {treatment!r} must vary, got {columns[treatment][0]} in every row; without a "
            "contrast in the table no effect can be estimated"
        )
    if x == reference:
        raise ValueError(f"{where}: x and reference must differ, got {x!r} for both")
    question = (columns, treatment, outcome, between, observed, x, reference, held)
    plug_in: PlugIn
    if model == "discrete":
        plug_in = DiscretePlugIn(*question, where)
    else:
        plug_in = LinearPlugIn(*question, interaction, where)
    estimates, undefined = bootstrap(
        plug_in, draws=draws, generator=generator, interval=interval, level=level, where=where
    )
    controlled = dict(zip(controlled_at, estimates[5:], strict=True))
    total, direct, indirect, reverse_direct, reverse_indirect = estimates[:5]
    return MediationEstimates(
        total, direct, indirect, reverse_direct, reverse_indirect, controlled, plug_in.rows, undefined
    )
