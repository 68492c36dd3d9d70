"""The total effect taken apart: theorem 3.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, theorem 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from claimwise.causal.effect import Effect, check_question, contrast
from claimwise.causal.structural_model import SCM, Setting, Units


@dataclass(frozen=True)
class Decomposition:
    """Total, natural direct and natural indirect effects of one transition and of its reverse, paired by unit."""

    total: Effect
    natural_direct: Effect
    natural_indirect: Effect
    reverse_natural_direct: Effect
    """NDE(x*, x): of the transition from x back to the reference."""
    reverse_natural_indirect: Effect
    """NIE(x*, x): of the transition from x back to the reference."""

    @property
    def residual(self) -> Float[Tensor, "*outcome"]:
        r"""Largest violation over units of theorem 3, 0 up to rounding:
        :math:`\max_u |TE - NDE + NIE^{rev}|` and :math:`\max_u |TE - NIE + NDE^{rev}|`."""
        total = self.total.per_unit
        one = total - self.natural_direct.per_unit + self.reverse_natural_indirect.per_unit
        other = total - self.natural_indirect.per_unit + self.reverse_natural_direct.per_unit
        return one.abs().maximum(other.abs()).amax(0)

    @property
    def gap(self) -> Float[Tensor, "*outcome"]:
        """TE - (NDE + NIE): 0 in linear models, not in general."""
        return self.total.mean - self.natural_direct.mean - self.natural_indirect.mean


def decompose(
    model: SCM,
    treatment: str,
    outcome: str,
    *,
    x: Setting,
    reference: Setting,
    units: Units,
    mediators: str | Sequence[str] | None = None,
) -> Decomposition:
    r"""Every natural effect of a transition and of its reverse, from four worlds on the same units.

    .. math:: TE(x, x^*; Y) = NDE(x, x^*; Y) - NIE(x^*, x; Y) = NIE(x, x^*; Y) - NDE(x^*, x; Y)

    The symbols are those of :func:`natural_direct_effect` and :func:`natural_indirect_effect`; the identity holds for
    every unit, so also for draws.

    Args:
        model: The structural causal model.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`.
        units: Background states, from ``model.enumerate()`` (exact) or ``model.sample(draws, generator=...)``.
        mediators: Names of :math:`Z`; by default every variable on a directed path from treatment to outcome.

    Shape:
        each ``per_unit`` ``(units, *outcome)``, each ``mean`` ``(*outcome,)``.

    Raises:
        ValueError: An unknown variable, treatment and outcome the same, or a mediator that is one of them.

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import SCM, Variable, decompose
        >>> both = {"X": Variable(lambda: 0), "Z": Variable(lambda x: x, parents=("X",))}
        >>> model = SCM({**both, "Y": Variable(lambda x, z: x & z, parents=("X", "Z"))})
        >>> gate = decompose(model, "X", "Y", x=1, reference=0, units=model.enumerate())
        >>> float(gate.total), float(gate.natural_direct), float(gate.reverse_natural_indirect)
        (1.0, 0.0, -1.0)
    """
    names = check_question(model, treatment, outcome, mediators, "decompose")
    old, new = (model.solve(units, {treatment: value}) for value in (reference, x))  # Y_{x*}, Y_x
    direct = model.solve(units, {treatment: x, **{name: old[name] for name in names}})[outcome]  # Y_{x, Z_{x*}}
    indirect = model.solve(units, {treatment: reference, **{name: new[name] for name in names}})[outcome]  # Y_{x*, Z_x}
    return Decomposition(
        total=contrast(new[outcome], old[outcome], units),
        natural_direct=contrast(direct, old[outcome], units),
        natural_indirect=contrast(indirect, old[outcome], units),
        reverse_natural_direct=contrast(indirect, new[outcome], units),
        reverse_natural_indirect=contrast(direct, new[outcome], units),
    )
