"""Initial weights of VGG networks.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 3.1. Glorot and Bengio, "Understanding the difficulty of training deep
feedforward neural networks", AISTATS 2010, equation 16. He et al., "Delving Deep into Rectifiers", ICCV 2015,
https://arxiv.org/abs/1502.01852, equation 10.
"""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn

Fill = Callable[[Tensor, int, int, torch.Generator | None], object]


def _normal(std: float) -> Fill:
    return lambda weight, fan_in, fan_out, generator: weight.normal_(0.0, std, generator=generator)


def _glorot(weight: Tensor, fan_in: int, fan_out: int, generator: torch.Generator | None) -> object:
    bound = sqrt(6 / (fan_in + fan_out))
    return weight.uniform_(-bound, bound, generator=generator)


def _he(weight: Tensor, fan_in: int, fan_out: int, generator: torch.Generator | None) -> object:
    return weight.normal_(0.0, sqrt(2 / fan_in), generator=generator)


INITIALISATIONS: dict[str, Fill] = {
    "variance 0.01": _normal(0.1),  # what section 3.1 says
    "std 0.01": _normal(0.01),  # what many read there
    "glorot": _glorot,
    "he": _he,
}
"""Rules for initial weights by name."""


@torch.no_grad()
def initialise(model: nn.Module, initialisation: str, *, generator: torch.Generator | None = None) -> None:
    r"""Draws every weight of the convolutions and linear layers anew and sets their biases to 0.

    ============================  =================================================================
    ``"variance 0.01"``           :math:`w \sim N(0, \sigma^2 = 10^{-2})`, so :math:`\sigma = 0.1`
    ``"std 0.01"``                :math:`w \sim N(0, \sigma = 0.01)`
    ``"glorot"``                  :math:`w \sim U(\pm \sqrt{6 / (n_{in} + n_{out})})`
    ``"he"``                      :math:`w \sim N(0, \sigma^2 = 2 / n_{in})`
    ============================  =================================================================

    with :math:`n_{in}`, :math:`n_{out}` the connections into a unit and out of one (channels times kernel area).
    "A zero mean and 10^-2 variance" is the paper's rule for network A; ``"std 0.01"`` is how many misread it.

    Args:
        model: The network; changed in place. Layers other than convolutions and linear layers are left alone.
        initialisation: A name of :data:`INITIALISATIONS`.
        generator: Source of the draws, on the model's device; torch's global one by default.

    Raises:
        ValueError: Unknown name.

    Differences from the paper:
        None for ``"variance 0.01"``; Glorot's rule is applied to a convolution with the kernel area in both counts.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from claimwise.vision import initialise
        >>> layer = nn.Linear(100, 100)
        >>> initialise(layer, "variance 0.01", generator=torch.Generator().manual_seed(0))
        >>> round(layer.weight.std().item(), 2)
        0.1
    """
    if initialisation not in INITIALISATIONS:
        raise ValueError(
            f"initialise: initialisation must be one of {', '.join(INITIALISATIONS)}, got {initialisation!r}"
        )
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            area = layer.weight[0, 0].numel()  # 1 for a linear layer
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            fan_in, fan_out = layer.weight.shape[1] * area, layer.weight.shape[0] * area // groups
            INITIALISATIONS[initialisation](layer.weight, fan_in, fan_out, generator)
            if layer.bias is not None:
                layer.bias.zero_()
