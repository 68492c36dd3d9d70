"""Local response normalisation across channels.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012,
section 3.3; the one thing by which network A-LRN of Simonyan and Zisserman (https://arxiv.org/abs/1409.1556,
section 4.1) differs from A.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LocalResponseNormalisation(nn.Module):
    r"""Divides each unit by a power of the squares of its neighbours in other channels, at the same place.

    .. math::
        b_c = a_c \Big/ \Big(k + \alpha \sum_{j = \max(0,\, c - n/2)}^{\min(C - 1,\, c + n/2)} a_j^2 \Big)^{\beta}

    with :math:`a_c` the activity of channel :math:`c` of :math:`C`, and :math:`n / 2` rounded down.

    Args:
        size: Channels in the sum (n), odd.
        alpha: Weight of the sum.
        beta: Power.
        k: What is there without neighbours.

    Shape:
        ``(batch, channels, ...)`` -> the same.

    Raises:
        ValueError: ``size`` not odd and positive; ``k`` not positive, or ``alpha`` negative.

    Differences from the paper:
        None; the defaults are AlexNet's. torch's own layer, like Caffe's, divides ``alpha`` by ``size``: with
        ``alpha=5e-4`` that one computes the same, more slowly.

    Example:
        >>> import torch
        >>> from claimwise.vision import LocalResponseNormalisation
        >>> LocalResponseNormalisation(3, alpha=1.0, beta=1.0, k=1.0)(torch.tensor([[1.0, 2.0, 0.0]]))
        tensor([[0.1667, 0.3333, 0.0000]])
    """

    def __init__(self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"LocalResponseNormalisation: size must be odd and positive, got {size}")
        if not k > 0:
            raise ValueError(f"LocalResponseNormalisation: k must be positive, got {k}")
        if not alpha >= 0:
            raise ValueError(f"LocalResponseNormalisation: alpha must be >= 0, got {alpha}")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, maps: Float[Tensor, "batch channels *place"]) -> Float[Tensor, "batch channels *place"]:
        channel = torch.arange(maps.shape[1], device=maps.device)
        near = (channel[:, None] - channel).abs() <= self.size // 2
        weight = (self.alpha * near.to(maps.dtype))[:, :, None, None]  # (channels, channels, 1, 1), a band
        # the sum over neighbours is a 1x1 convolution: one fused pass instead of a pass for every neighbour
        squares = maps.square()
        if maps.dim() != 4:
            squares = squares.reshape(*maps.shape[:2], -1, 1)
        base = F.conv2d(squares, weight, maps.new_full((len(channel),), self.k)).reshape_as(maps)
        if self.beta == 0.75:  # AlexNet's: two roots take a fraction of the time of a power
            root = base.rsqrt()
            return maps * (root * root.sqrt())
        return maps * base.pow(-self.beta)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
