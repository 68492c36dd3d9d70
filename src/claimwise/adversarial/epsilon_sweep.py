"""A model's logits along a direction: what the paper's figure 4 draws, and every error-against-epsilon curve.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, section 8, figure 4,
https://arxiv.org/abs/1412.6572
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.doors import Bounds, check_batch, check_logits
from claimwise.undisturbed import Mode, undisturbed


def logits_along(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    direction: Float[Tensor, "batch *shape"],
    epsilons: Sequence[float] | Tensor,
    *,
    bounds: Bounds = (0.0, 1.0),
    mode: Mode = "eval",
) -> Float[Tensor, "epsilons batch classes"]:
    r"""Logits at :math:`x + \epsilon \eta` for every epsilon.

    .. math:: z(\epsilon) = f(\operatorname{clip}(x + \epsilon \eta))

    with :math:`f` the model and :math:`\eta` the direction, for instance that of
    :func:`~claimwise.adversarial.fgsm_direction`. A curve over K radii costs one gradient and K forward passes, where
    K calls of an attack cost K gradients.

    Args:
        model: Any module or callable that returns logits; left as it was.
        x: Inputs.
        direction: A perturbation of radius 1 for each.
        epsilons: Radii in the units of ``x``; negative ones go the other way.
        bounds: Range to clip to; None for no clipping.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` and ``direction`` (batch, \*), ``epsilons`` (epsilons,), result (epsilons, batch, classes), no gradient.

    Raises:
        TypeError: ``x`` not floating point.
        ValueError: ``x`` not finite or outside ``bounds``, ``direction`` of another shape, no or non-finite epsilons.

    Differences from the paper:
        The paper does not clip: ``bounds=None``.

    Example:
        >>> import torch
        >>> x, direction = torch.full((1, 2), 0.5), torch.tensor([[1.0, -1.0]])
        >>> logits_along(lambda x: x, x, direction, [0.0, 0.25])[:, 0].tolist()
        [[0.5, 0.5], [0.75, 0.25]]
    """
    check_batch("logits_along", x, bounds)
    if direction.shape != x.shape:
        raise ValueError(
            f"logits_along: direction must have the shape of x, {tuple(x.shape)}, got {tuple(direction.shape)}"
        )
    radii = [float(epsilon) for epsilon in epsilons]
    if not radii or not all(-float("inf") < radius < float("inf") for radius in radii):
        raise ValueError(f"logits_along: epsilons must be one or more finite numbers, got {radii}")
    logits = []
    with undisturbed(model, mode), torch.no_grad():
        for radius in radii:
            moved = torch.add(x, direction, alpha=radius)
            logits.append(model(moved if bounds is None else moved.clamp_(*bounds)))
            check_logits("logits_along", logits[-1], len(x))
    return torch.stack(logits)
