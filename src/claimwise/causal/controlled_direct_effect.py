"""Controlled direct effect: the prescriptive one, mediators held at a chosen value.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, definitions 1 and 2.
"""

from collections.abc import Mapping

from claimwise.causal.effect import Effect, check_question, contrast
from claimwise.causal.structural_model import SCM, Setting, Units


def controlled_direct_effect(
    model: SCM,
    treatment: str,
    outcome: str,
    *,
    x: Setting,
    reference: Setting,
    mediators: Mapping[str, Setting],
    units: Units,
) -> Effect:
    r"""Change of the outcome when the treatment changes and the mediators are held at given values.

    .. math:: CDE_z(x, x^*; Y, u) = Y_{xz}(u) - Y_{x^*z}(u), \qquad CDE_z(x, x^*; Y) = E[Y_{xz} - Y_{x^*z}]

    :math:`Y_{xz}(u)` is the outcome of unit :math:`u` with :math:`X = x` and :math:`Z = z`.

    Args:
        model: The structural causal model.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`.
        mediators: What each mediator is held at, :math:`z`, by name.
        units: Background states, from ``model.enumerate()`` (exact) or ``model.sample(draws, generator=...)``.

    Shape:
        ``per_unit`` ``(units, *outcome)``, ``mean`` ``(*outcome,)``.

    Raises:
        ValueError: An unknown variable, treatment and outcome the same, a mediator that is one of them, or none.

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import SCM, Variable, controlled_direct_effect
        >>> both = {"X": Variable(lambda: 0), "Z": Variable(lambda x: x, parents=("X",))}
        >>> model = SCM({**both, "Y": Variable(lambda x, z: x & z, parents=("X", "Z"))})
        >>> effects = [
        ...     controlled_direct_effect(
        ...         model, "X", "Y", x=1, reference=0, mediators={"Z": z}, units=model.enumerate()
        ...     )
        ...     for z in (0, 1)
        ... ]
        >>> [float(effect) for effect in effects]
        [0.0, 1.0]
    """
    if not mediators:
        raise ValueError("controlled_direct_effect: mediators must name what is held at which value, got {}")
    check_question(model, treatment, outcome, list(mediators), "controlled_direct_effect")
    new, old = (model.solve(units, {treatment: value, **mediators})[outcome] for value in (x, reference))
    return contrast(new, old, units)
