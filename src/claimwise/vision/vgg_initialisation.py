"""Initial weights of VGG networks.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 3.1. Glorot and Bengio, "Understanding the difficulty of training deep
feedforward neural networks", AISTATS 2010, equation 16. He et al., "Delving Deep into Rectifiers", ICCV 2015,
https://arxiv.org/abs/1502.01852, equation 10.
"""

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from claimwise.vision.vgg import VGG

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


@torch.no_grad()
def preinitialise(model: "VGG", shallow: "VGG") -> None:
    """Takes the first four convolutions and the three FC layers from a trained shallow network.

    This is how the paper starts its deeper networks from network A (section 3.1): the layers in between keep their
    random weights, and the learning rate of the copied ones is not lowered. A convolution is matched by its block and
    its place in the block: conv1-1, conv2-1, conv3-1 and conv3-2 of A.

    Args:
        model: The deeper network; changed in place. Only the copied layers change.
        shallow: The trained one, network A in the paper.

    Raises:
        ValueError: A layer to be copied is missing in the deeper network, or has another shape there (nothing has
            been copied then).

    Differences from the paper:
        The paper does not say how it matches the layers; by block and place is the one way in which shapes agree.

    Example:
        >>> from claimwise.vision import VGG, preinitialise
        >>> shallow, deep = (VGG(name, width=1 / 32, image_size=32, classes=10) for name in "AE")
        >>> preinitialise(deep, shallow)
        >>> bool((deep.classifier[0].weight == shallow.classifier[0].weight).all())
        True
    """
    source, target = convolutions_by_place(shallow), convolutions_by_place(model)
    pairs: list[tuple[str, Any, Any]] = [
        (f"conv{block}-{place}", target.get((block, place)), layer) for (block, place), layer in source.items()
    ][:4]
    pairs += [
        (f"FC layer {number}", model.classifier[index], shallow.classifier[index])
        for number, index in ((1, 0), (2, 3), (3, 6))
    ]
    for name, new, old in pairs:
        found = "nothing" if new is None else tuple(new.weight.shape)
        if found != tuple(old.weight.shape):
            raise ValueError(
                f"preinitialise: {name} has shape {tuple(old.weight.shape)} in the shallow network and {found} in the "
                "deeper one; build both with the same width, image size, pools and classes"
            )
    for _, new, old in pairs:
        new.weight.copy_(old.weight)
        new.bias.copy_(old.bias)


def convolutions_by_place(model: "VGG") -> dict[tuple[int, int], nn.Conv2d]:
    """The convolutions of a VGG network by block and place in the block, both counted from 1, in order."""
    from claimwise.vision.vgg import CONFIGURATIONS

    kernels = CONFIGURATIONS[model.configuration].kernels
    places = [(block + 1, place + 1) for block in range(len(kernels)) for place in range(len(kernels[block]))]
    return dict(zip(places, (layer for layer in model.features if isinstance(layer, nn.Conv2d)), strict=True))
