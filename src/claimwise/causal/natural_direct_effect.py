"""Natural direct effect: the descriptive one, mediators keep each unit's own reference value.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, definitions 3 to 5.
"""

from collections.abc import Sequence

from claimwise.causal.effect import Effect, check_question, contrast
from claimwise.causal.structural_model import SCM, Setting, Units


def natural_direct_effect(
    model: SCM,
    treatment: str,
    outcome: str,
    *,
    x: Setting,
    reference: Setting,
    units: Units,
    mediators: str | Sequence[str] | None = None,
) -> Effect:
    r"""Change of the outcome when the treatment changes and each unit's mediators stay what they were.

    .. math:: NDE(x, x^*; Y) = E[Y_{x, Z_{x^*}}] - E[Y_{x^*}]

    :math:`Z_{x^*}(u)` is the mediator of unit :math:`u` under the reference; the same :math:`u` then gives
    :math:`Y_{x, Z_{x^*}}(u)`. A direct effect *exists* at the units whose ``per_unit`` value is not 0 (definition 3).

    Args:
        model: The structural causal model.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`.
        units: Background states, from ``model.enumerate()`` (exact) or ``model.sample(draws, generator=...)``.
        mediators: Names of :math:`Z`; by default every variable on a directed path from treatment to outcome.

    Shape:
        ``per_unit`` ``(units, *outcome)``, ``mean`` ``(*outcome,)``.

    Raises:
        ValueError: An unknown variable, treatment and outcome the same, or a mediator that is one of them.

    Differences from the paper:
        none.

    Example:
        An AND gate whose mediator copies the treatment: alone, the direct path changes nothing.

        >>> from claimwise.causal import SCM, Variable, natural_direct_effect
        >>> both = {"X": Variable(lambda: 0), "Z": Variable(lambda x: x, parents=("X",))}
        >>> model = SCM({**both, "Y": Variable(lambda x, z: x & z, parents=("X", "Z"))})
        >>> float(natural_direct_effect(model, "X", "Y", x=1, reference=0, units=model.enumerate()))
        0.0
    """
    names = check_question(model, treatment, outcome, mediators, "natural_direct_effect")
    before = model.solve(units, {treatment: reference})
    after = model.solve(units, {treatment: x, **{name: before[name] for name in names}})
    return contrast(after[outcome], before[outcome], units)
