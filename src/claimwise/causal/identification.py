"""When natural effects follow from experiments, and how: theorem 1.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, theorem 1, its graphical form and
corollary 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from claimwise.causal.causal_graph import CausalGraph, check_known


def identifiable(
    graph: CausalGraph,
    treatment: str,
    outcome: str,
    *,
    mediators: str | Iterable[str],
    given: str | Iterable[str] = (),
) -> bool:
    r"""Whether ``given`` makes the natural effects identifiable from experiments, by the graphical condition.

    .. math:: W \cap \mathrm{De}(X \cup Z) = \emptyset \quad\text{and}\quad
        (Y \perp\!\!\!\perp Z \mid W)_{G_{\underline{XZ}}}

    :math:`G_{\underline{XZ}}` is the graph without the arrows that leave :math:`X` and :math:`Z`,
    :math:`\mathrm{De}` are descendants. The condition implies :math:`Y_{xz} \perp\!\!\!\perp Z_{x^*} \mid W`.

    Args:
        graph: The causal graph; shared noise appears as two-headed arrows (``model.graph``).
        treatment: Name of :math:`X`.
        outcome: Name of :math:`Y`.
        mediators: Name or names of :math:`Z`.
        given: Name or names of :math:`W`.

    Raises:
        ValueError: An unknown variable, no mediator, or one variable in two roles.

    Differences from the paper:
        The condition is sufficient, as in the paper: False means "not by this theorem and this ``given``".

    Example:
        >>> from claimwise.causal import CausalGraph, identifiable
        >>> graph = CausalGraph([("X", "Z"), ("Z", "Y"), ("X", "Y"), ("W", "Z"), ("W", "Y")])
        >>> identifiable(graph, "X", "Y", mediators="Z"), identifiable(graph, "X", "Y", mediators="Z", given="W")
        (False, True)
    """
    between = [mediators] if isinstance(mediators, str) else list(mediators)
    observed = [given] if isinstance(given, str) else list(given)
    roles = [treatment, outcome, *between, *observed]
    check_known(roles, graph.variables, "identifiable")
    if not between:
        raise ValueError("identifiable: mediators must name at least one variable, got none")
    for name in roles:
        if roles.count(name) > 1:
            raise ValueError(f"identifiable: each variable must have one role, got {name!r} in two")
    if not graph.descendants(treatment, *between).isdisjoint(observed):
        return False
    return graph.without_arrows_from(treatment, *between).d_separated(outcome, between, observed)


@dataclass(frozen=True)
class NaturalEffects:
    """Total, natural direct and natural indirect effects of a transition and of its reverse."""

    total: Float[Tensor, "*batch"]
    natural_direct: Float[Tensor, "*batch"]
    natural_indirect: Float[Tensor, "*batch"]
    reverse_natural_direct: Float[Tensor, "*batch"]
    reverse_natural_indirect: Float[Tensor, "*batch"]


def experimental_formula(
    outcome: Float[Tensor, "*batch 2 w z"],
    mediator: Float[Tensor, "*batch 2 w z"],
    covariates: Float[Tensor, "*batch w"],
) -> NaturalEffects:
    r"""Natural effects from what experiments measure: the mean outcome under do(x, z) and the law of Z under do(x).

    .. math:: NDE(x, x^*; Y) = \sum_{w, z} \big[E(Y_{xz} \mid w) - E(Y_{x^*z} \mid w)\big]\,
        P(Z_{x^*} = z \mid w)\, P(w)

    .. math:: NIE(x, x^*; Y) = \sum_{w, z} E(Y_{x^*z} \mid w)\,
        \big[P(Z_x = z \mid w) - P(Z_{x^*} = z \mid w)\big]\, P(w)

    :math:`w` runs over states of the covariates, :math:`z` over the mediator's. With
    :math:`E(Y_{xz} \mid w) = E(Y \mid x, z, w)` and :math:`P(Z_x = z \mid w) = P(z \mid x, w)`, as in Markovian models,
    this is the mediation formula. Cells that no unit reaches (probability 0) may hold NaN outcomes.

    Args:
        outcome: :math:`E(Y_{x^*z} \mid w)` at index 0, :math:`E(Y_{xz} \mid w)` at index 1.
        mediator: :math:`P(Z_{x^*} = z \mid w)` at index 0, :math:`P(Z_x = z \mid w)` at index 1.
        covariates: :math:`P(w)`; ``[1.0]`` without covariates.

    Shape:
        outcome and mediator ``(*batch, 2, w, z)``, covariates ``(*batch, w)``, results ``(*batch,)``.

    Raises:
        ValueError: Probabilities that are negative or do not sum to 1 within 1e-6 (NaN passes through to the result).

    Differences from the paper:
        The paper prints the formula of the direct effect; the indirect one follows from the same assumption. The
        formula holds only where :math:`Y_{xz} \perp\!\!\!\perp Z_{x^*} \mid W` for all z, which no data can show: see
        :func:`identifiable`.

    Example:
        >>> import torch
        >>> from claimwise.causal import experimental_formula
        >>> outcome = torch.tensor([[[0.0, 0.0]], [[0.0, 1.0]]])  # an AND gate: E(Y_xz) = x z
        >>> mediator = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # Z = X
        >>> effects = experimental_formula(outcome, mediator, torch.tensor([1.0]))
        >>> float(effects.total), float(effects.natural_direct), float(effects.natural_indirect)
        (1.0, 0.0, 0.0)
    """
    for name, probabilities in (("mediator", mediator), ("covariates", covariates)):
        off = (probabilities.sum(-1) - 1).abs().max()
        if bool((probabilities < 0).any()) or bool(off > 1e-6):
            raise ValueError(
                f"experimental_formula: {name} must be probabilities that sum to 1 along the last dimension, got "
                f"a sum off by {float(off):.3g} or a negative entry (least {float(probabilities.min()):.3g})"
            )
    return natural_effects(outcome, mediator, covariates)


def natural_effects(
    outcome: Float[Tensor, "*batch 2 w z"],
    mediator: Float[Tensor, "*batch 2 w z"],
    covariates: Float[Tensor, "*batch w"],
) -> NaturalEffects:
    """:func:`experimental_formula` without its checks."""
    weight = mediator * covariates[..., None, :, None]  # (*batch, 2, w, z), joint P(Z_x = z, w)
    reached = (weight > 0) | weight.isnan()

    def world(x: int, z_from: int) -> Tensor:  # E[Y_{x, Z_{z_from}}], (*batch,)
        terms = outcome[..., x, :, :] * weight[..., z_from, :, :]
        return terms.where(reached[..., z_from, :, :], terms.new_zeros(())).sum((-2, -1))

    old, new, direct, indirect = world(0, 0), world(1, 1), world(1, 0), world(0, 1)
    return NaturalEffects(new - old, direct - old, indirect - old, indirect - new, direct - new)
