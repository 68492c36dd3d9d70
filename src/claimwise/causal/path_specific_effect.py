"""Path-specific effects: the change transmitted along chosen arrows only.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, section 4.
"""

from collections.abc import Iterable
from itertools import pairwise

from claimwise.causal.causal_graph import check_known
from claimwise.causal.effect import Effect, check_question, contrast
from claimwise.causal.structural_model import SCM, Setting, Units


def path_specific_effect(
    model: SCM,
    treatment: str,
    outcome: str,
    *,
    x: Setting,
    reference: Setting,
    active: Iterable[tuple[str, str]],
    units: Units,
) -> Effect:
    r"""Change of the outcome when a change of treatment is felt along the active arrows only (g-specific effect).

    .. math:: f_i^*(pa_i, u; g) = f_i\big(pa_i(g),\, pa_i^*(\bar g),\, u\big), \qquad
        SE_g(x, x^*; Y) = TE(x, x^*; Y)_{M_g^*}

    :math:`g` are the active arrows, :math:`pa_i(g)` the parents of :math:`i` whose arrow into :math:`i` is active, and
    :math:`pa_i^*(\bar g)` the values that the other parents have in :math:`M_{x^*}`. All arrows active give the
    total effect, the arrow :math:`X \to Y` without :math:`X \to Z` the natural direct effect, all but
    :math:`X \to Y` the natural indirect effect.

    Args:
        model: The structural causal model.
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        x: New value of the treatment, in its own units.
        reference: Reference value :math:`x^*`.
        active: The arrows :math:`g`, as pairs (parent, child). See :func:`along` for the arrows of paths.
        units: Background states, from ``model.enumerate()`` (exact) or ``model.sample(draws, generator=...)``.

    Shape:
        ``per_unit`` ``(units, *outcome)``, ``mean`` ``(*outcome,)``.

    Raises:
        ValueError: An unknown variable, treatment and outcome the same, or an arrow that the model does not have.

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import SCM, Variable, along, path_specific_effect
        >>> model = SCM(
        ...     {
        ...         "X": Variable(lambda: 0),
        ...         "Z": Variable(lambda x: 2 * x, parents=("X",)),
        ...         "Y": Variable(lambda x, z: x + 5 * z, parents=("X", "Z")),
        ...     }
        ... )
        >>> mediated = along(("X", "Z", "Y"))
        >>> effect = path_specific_effect(
        ...     model, "X", "Y", x=1, reference=0, active=mediated, units=model.enumerate()
        ... )
        >>> float(effect)
        10.0
    """
    check_question(model, treatment, outcome, None, "path_specific_effect")
    arrows = {(parent, child) for parent, child in active}
    for parent, child in sorted(arrows):
        check_known([parent, child], model.order, "path_specific_effect")
        if parent not in model.variables[child].parents:
            raise ValueError(
                f"path_specific_effect: active must name arrows of the model, got {parent} -> {child}; "
                f"the parents of {child} are {', '.join(model.variables[child].parents) or 'none'}"
            )
    old = model.solve(units, {treatment: reference})  # M_{x*}
    new = {treatment: model.solve(units, {treatment: x})[treatment]}
    for name in model.order:
        if name != treatment:
            parents = model.variables[name].parents
            felt = [new[parent] if (parent, name) in arrows else old[parent] for parent in parents]
            new[name] = model.respond(name, felt, units)
    return contrast(new[outcome], old[outcome], units)


def along(*paths: Iterable[str]) -> frozenset[tuple[str, str]]:
    """The arrows of directed paths, each a sequence of variable names.

    Paths that share an arrow cannot always be told apart by arrows: the result also activates every other path that
    these arrows form.

    Raises:
        ValueError: A path of fewer than two variables.

    Example:
        >>> from claimwise.causal import along
        >>> sorted(along(("X", "Z", "Y"), ("X", "Y")))
        [('X', 'Y'), ('X', 'Z'), ('Z', 'Y')]
    """
    arrows: set[tuple[str, str]] = set()
    for path in map(tuple, paths):
        if len(path) < 2:
            raise ValueError(f"along: a path must name two variables or more, got {path}")
        arrows.update(pairwise(path))
    return frozenset(arrows)
