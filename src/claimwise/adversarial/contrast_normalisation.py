"""Contrast normalisation, the layer whose Lipschitz constant the paper works out.

C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
networks*, ICLR 2014, section 4.3, https://arxiv.org/abs/1312.6199
"""

import math

from jaxtyping import Float
from torch import Tensor, nn


class ContrastNormalisation(nn.Module):
    r"""Divides an example by a power of its energy.

    .. math:: \phi(x) = \frac{x}{(\epsilon + \lVert x \rVert^2)^\gamma}

    with :math:`\gamma \in [0.5, 1]` in the paper. Its Lipschitz constant is :math:`\epsilon^{-\gamma}`, the slope at
    0, where it is steepest; it is below 1 only for :math:`\epsilon > 1`.

    Args:
        epsilon: Energy that counts as none, > 0.
        gamma: Power, >= 0.

    Shape:
        Input and output (batch, \*); the energy is summed over everything but the batch.

    Raises:
        ValueError: ``epsilon`` not positive, ``gamma`` negative, or either not finite.

    Differences from the paper:
        The paper does not say over which units the energy is summed; here over a whole example.

    Example:
        >>> import torch
        >>> ContrastNormalisation(1.0, 0.5)(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))
        tensor([[0.0000, 0.0000],
                [0.6667, 0.6667]])
    """

    def __init__(self, epsilon: float, gamma: float) -> None:
        super().__init__()
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"ContrastNormalisation: epsilon must be > 0, got {epsilon}")
        if not (math.isfinite(gamma) and gamma >= 0):
            raise ValueError(f"ContrastNormalisation: gamma must be >= 0, got {gamma}")
        self.epsilon, self.gamma = epsilon, gamma

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        energy = x.square().flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))
        return x * (self.epsilon + energy).pow(-self.gamma)

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon}, gamma={self.gamma}"
