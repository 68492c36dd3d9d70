"""An effect over units: what the estimators of this package return.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300: unit effects (definitions 1 and 3)
and their averages (definitions 2, 4, 5 and 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from claimwise.causal.causal_graph import check_known
from claimwise.causal.structural_model import SCM, Units


@dataclass(frozen=True)
class Effect:
    r"""Unit-level effects and their average.

    .. math:: \text{mean} = \sum_u P(u)\, e(u) \quad\text{(enumeration)}, \qquad
        \text{mean} = \frac1n \sum_{i=1}^n e(u_i), \quad \text{standard error} = \frac{s}{\sqrt n} \quad\text{(draws)}

    :math:`e(u)` is the effect at unit :math:`u`, :math:`s` the standard deviation of the :math:`e(u_i)`.
    """

    per_unit: Shaped[Tensor, "units *value"]
    """e(u). Effects computed on the same :class:`Units` are paired by row."""
    units: Units
    """The units it was computed on."""

    @property
    def mean(self) -> Float[Tensor, "*value"]:
        """The average effect."""
        return self.units.mean(self.per_unit)

    @property
    def standard_error(self) -> Float[Tensor, "*value"]:
        """Of the mean: 0 when the units are all states, NaN for one draw."""
        if self.units.exact:
            return torch.zeros_like(self.mean)
        return self.per_unit.to(self.mean.dtype).std(0) / self.units.count**0.5

    def __float__(self) -> float:
        return float(self.mean)


def contrast(a: Tensor, b: Tensor, units: Units) -> Effect:
    """The effect ``a`` - ``b``; integers and truth values are counted in float64."""
    if not a.is_floating_point() or not b.is_floating_point():
        a, b = a.to(torch.float64), b.to(torch.float64)
    return Effect(a - b, units)


def check_question(
    model: SCM, treatment: str, outcome: str, mediators: str | Sequence[str] | None, where: str
) -> list[str]:
    """The mediators asked for (every variable between treatment and outcome by default).

    Raises:
        ValueError: An unknown variable, treatment and outcome the same, or a mediator that is one of them.
    """
    mediators = [mediators] if isinstance(mediators, str) else mediators
    check_known([treatment, outcome, *(mediators or ())], model.order, where)
    if treatment == outcome:
        raise ValueError(f"{where}: treatment and outcome must differ, got {treatment!r} for both")
    if mediators is None:
        return list(model.graph.between(treatment, outcome))
    for name in mediators:
        if name in (treatment, outcome):
            raise ValueError(f"{where}: a mediator must be neither treatment nor outcome, got {name!r}")
    return list(mediators)
