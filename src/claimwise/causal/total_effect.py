"""Total effect of a treatment.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, section 2.
"""

from claimwise.causal.effect import Effect, check_question, contrast
from claimwise.causal.structural_model import SCM, Setting, Units


def total_effect(model: SCM, treatment: str, outcome: str, *, x: Setting, reference: Setting, units: Units) -> Effect:
    r"""Change of the outcome when the treatment is set to x instead of x*.

    .. math:: TE(x, x^*; Y) = E[Y_x] - E[Y_{x^*}]

    :math:`Y_x(u)` is the outcome of unit :math:`u` in the submodel with :math:`X = x`; :math:`x^*` is ``reference``.

    Args:
        model: The structural causal model.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`.
        units: Background states, from ``model.enumerate()`` (exact) or ``model.sample(draws, generator=...)``.

    Shape:
        ``per_unit`` ``(units, *outcome)``, ``mean`` ``(*outcome,)``.

    Raises:
        ValueError: An unknown variable, or treatment and outcome the same.

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import SCM, Variable, total_effect
        >>> model = SCM({"X": Variable(lambda: 0), "Y": Variable(lambda x: 3 * x, parents=("X",))})
        >>> float(total_effect(model, "X", "Y", x=1, reference=0, units=model.enumerate()))
        3.0
    """
    check_question(model, treatment, outcome, None, "total_effect")
    new, old = (model.solve(units, {treatment: value})[outcome] for value in (x, reference))
    return contrast(new, old, units)
