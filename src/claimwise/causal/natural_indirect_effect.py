"""Natural indirect effect: only the mediators change, to what each unit's would have become.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, definition 6.
"""

from collections.abc import Sequence

from claimwise.causal.effect import Effect, check_question, contrast
from claimwise.causal.structural_model import SCM, Setting, Units


def natural_indirect_effect(
    model: SCM,
    treatment: str,
    outcome: str,
    *,
    x: Setting,
    reference: Setting,
    units: Units,
    mediators: str | Sequence[str] | None = None,
) -> Effect:
    r"""Change of the outcome when the treatment stays and the mediators take the values they would have under x.

    .. math:: NIE(x, x^*; Y) = E[Y_{x^*, Z_x}] - E[Y_{x^*}]

    :math:`Z_x(u)` is the mediator of unit :math:`u` under :math:`X = x`. The effect of the *reverse* transition, which
    theorem 3 subtracts, is this function with ``x`` and ``reference`` exchanged. Not to be confused with the "total
    indirect effect" TE - NDE of some later papers, which is minus the reverse effect.

    Args:
        model: The structural causal model.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`, at which the direct path stays.
        units: Background states, from ``model.enumerate()`` (exact) or ``model.sample(draws, generator=...)``.
        mediators: Names of :math:`Z`; by default every variable on a directed path from treatment to outcome.

    Shape:
        ``per_unit`` ``(units, *outcome)``, ``mean`` ``(*outcome,)``.

    Raises:
        ValueError: An unknown variable, treatment and outcome the same, or a mediator that is one of them.

    Differences from the paper:
        none.

    Example:
        An AND gate: no indirect effect from 0 to 1, but one back from 1 to 0.

        >>> from claimwise.causal import SCM, Variable, natural_indirect_effect
        >>> both = {"X": Variable(lambda: 0), "Z": Variable(lambda x: x, parents=("X",))}
        >>> model = SCM({**both, "Y": Variable(lambda x, z: x & z, parents=("X", "Z"))})
        >>> float(natural_indirect_effect(model, "X", "Y", x=1, reference=0, units=model.enumerate()))
        0.0
        >>> float(natural_indirect_effect(model, "X", "Y", x=0, reference=1, units=model.enumerate()))
        -1.0
    """
    names = check_question(model, treatment, outcome, mediators, "natural_indirect_effect")
    before = model.solve(units, {treatment: reference})
    elsewhere = model.solve(units, {treatment: x})
    after = model.solve(units, {treatment: reference, **{name: elsewhere[name] for name in names}})
    return contrast(after[outcome], before[outcome], units)
