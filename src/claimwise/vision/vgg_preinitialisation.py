"""A deep VGG network starts from a shallow one that has been trained.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 3.1.
"""

from typing import Any

import torch
from torch import nn

from claimwise.vision.vgg import CONFIGURATIONS, VGG


@torch.no_grad()
def preinitialise(model: VGG, shallow: VGG) -> None:
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


def convolutions_by_place(model: VGG) -> dict[tuple[int, int], nn.Conv2d]:
    """The convolutions of a VGG network by block and place in the block, both counted from 1, in order."""
    kernels = CONFIGURATIONS[model.configuration].kernels
    places = [(block + 1, place + 1) for block in range(len(kernels)) for place in range(len(kernels[block]))]
    return dict(zip(places, (layer for layer in model.features if isinstance(layer, nn.Conv2d)), strict=True))
