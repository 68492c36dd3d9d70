"""Adversarial training as an objective.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, section 6,
https://arxiv.org/abs/1412.6572
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from claimwise.adversarial.fast_gradient_sign import Loss, fgsm
from claimwise.doors import Bounds
from claimwise.undisturbed import Mode


class AdversarialObjective:
    r"""The loss on clean examples mixed with the loss on examples that the model of this very step is attacked with.

    .. math:: \tilde J(\theta, x, y) = \alpha J(\theta, x, y) +
              (1 - \alpha) J(\theta, x + \epsilon \operatorname{sign}(\nabla_x J(\theta, x, y)), y)

    with :math:`J` the loss, :math:`\alpha` the share of the clean part and :math:`\epsilon` the radius. Every call
    makes the examples anew. The sign is a constant to the optimiser: nothing is back-propagated through it (its
    derivative is zero wherever it exists).

    An instance is a plain callable, ``objective(model, x, y) -> loss``, for any training loop.

    Args:
        epsilon: Max-norm radius in the units of the inputs.
        alpha: Share of the clean loss, in [0, 1].
        bounds: Range to clip the adversarial examples to; None for no clipping.
        loss: ``loss(model(x), y)``, a scalar mean over the batch; by default cross-entropy. The attack climbs it too.
        mode: Mode of the model while the examples are *made*: ``"eval"`` attacks the network that will be used (no
            dropout, running batch-norm statistics), ``"as-is"`` the network in its training mode. Both *losses* are
            always taken in the mode the model is in, and a batch norm in training mode sees two batches a step.

    Shape:
        As :func:`~claimwise.adversarial.fgsm`; the result is a scalar.

    Raises:
        ValueError: alpha outside [0, 1], negative epsilon; on calling, as :func:`~claimwise.adversarial.fgsm`.

    Differences from the paper:
        The paper does not say in which mode the examples are made; ``"eval"`` by default. It does not clip:
        ``bounds=None``.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model, x, y = torch.nn.Linear(3, 2), torch.rand(8, 3), torch.randint(2, (8,))
        >>> objective = AdversarialObjective(epsilon=0.1)
        >>> objective(model, x, y).backward()
        >>> bool(objective(model, x, y) > torch.nn.functional.cross_entropy(model(x), y))
        True
    """

    def __init__(
        self,
        *,
        epsilon: float,
        alpha: float = 0.5,
        bounds: Bounds = (0.0, 1.0),
        loss: Loss | None = None,
        mode: Mode = "eval",
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"AdversarialObjective: alpha must be in [0, 1], got {alpha}")
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise ValueError(f"AdversarialObjective: epsilon must be >= 0, got {epsilon}")
        self.epsilon, self.alpha, self.bounds, self.loss, self.mode = epsilon, alpha, bounds, loss, mode

    def __call__(
        self, model: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"], y: Tensor
    ) -> Float[Tensor, ""]:
        loss = F.cross_entropy if self.loss is None else self.loss
        x_adv = fgsm(model, x, y, epsilon=self.epsilon, bounds=self.bounds, loss=self.loss, mode=self.mode)
        adversarial = loss(model(x_adv), y)
        if self.alpha == 0:
            return adversarial
        return torch.lerp(adversarial, loss(model(x), y), self.alpha)

    def __repr__(self) -> str:
        return (
            f"AdversarialObjective(epsilon={self.epsilon}, alpha={self.alpha}, bounds={self.bounds}, "
            f"loss={self.loss}, mode={self.mode!r})"
        )
