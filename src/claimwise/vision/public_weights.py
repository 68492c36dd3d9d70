"""Loading public VGG weights that the user has: PyTorch's and Caffe's, under whatever names.

Simonyan and Zisserman published networks D and E (``VGG_ILSVRC_16_layers``, ``VGG_ILSVRC_19_layers``) as Caffe models
at https://www.robots.ox.ac.uk/~vgg/research/very_deep/; most other files were converted from these or trained anew.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from claimwise.vision.vgg import VGG


@dataclass(frozen=True)
class Preprocessing:
    """How images were prepared for the training of public weights. Calling it prepares images."""

    order: str
    """Order of the channels the first convolution expects, ``"RGB"`` or ``"BGR"``."""
    scale: float
    """What white is, before the mean is subtracted: 255 or 1."""
    mean: tuple[float, float, float]
    """Mean pixel that is subtracted, in ``order`` and on ``scale``."""
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What each channel is divided by after that."""

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], *, flipped_weights: bool = False
    ) -> Float[Tensor, "batch 3 height width"]:
        """Prepares RGB images in [0, 1].

        Args:
            images: RGB images in [0, 1].
            flipped_weights: The weights were loaded with ``flip_channels=True``: keep the order RGB.
        """
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise ValueError(
                f"Preprocessing: images must lie in [0, 1], got {float(images.min()):.4g} to {float(images.max()):.4g}"
            )
        mean, deviation = images.new_tensor(self.mean), images.new_tensor(self.deviation)
        if self.order == "BGR":
            if flipped_weights:
                mean, deviation = mean.flip(0), deviation.flip(0)
            else:
                images = images.flip(1)
        return (images * self.scale - mean[:, None, None]) / deviation[:, None, None]


PREPROCESSING = {
    "caffe": Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68)),
    "torchvision": Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""What the two families of public weights expect: the authors' own (``caffe``), and those trained in PyTorch."""


@torch.no_grad()
def load_public_weights(
    model: VGG, state: Mapping[str, Tensor], *, head: bool = True, flip_channels: bool = False
) -> None:
    """Loads a public VGG state dict by order and shape, whatever its names.

    Known to be met by: PyTorch's (``features.0.weight``, ``classifier.0.weight``), Caffe's (``conv1_1.weight``,
    ``fc6.weight``; also ``conv1_1_w``) and those of fully convolutional versions (``fc6`` of shape 4096x512x7x7).
    Tensors are paired by their name without its ending (weight or bias); convolutions come first, then FC layers
    (two-dimensional weights, or names with ``fc`` or ``classifier``), each in natural order of their names
    (``features.2`` before ``features.10``).

    What the weights expect as input is not in the file: see :data:`PREPROCESSING`. The authors' own want **BGR**
    images on 0..255 minus the mean *pixel* (not the mean image); those trained in PyTorch RGB on 0..1, normalised.

    Args:
        model: The network; changed in place, and not at all when anything does not fit.
        state: Names to tensors, as ``torch.load(..., weights_only=True)`` or safetensors give them.
        head: Whether to load the last FC layer too; False keeps the model's own, for another number of classes.
        flip_channels: Reverse the channels of the first convolution, so that BGR weights take RGB images.

    Raises:
        ValueError: Naming the first layer that does not fit, a tensor that is neither weight nor bias, a layer with
            but one of the two, batch normalisation (which no VGG of the paper has), or a number that is not finite.

    Differences from the paper:
        None.

    Example:
        >>> from claimwise.vision import VGG, load_public_weights
        >>> ours, other = (VGG("D", width=1 / 32, image_size=32, classes=10) for _ in range(2))
        >>> load_public_weights(ours, {"net." + name: value for name, value in other.state_dict().items()})
        >>> bool((ours.features[0].weight == other.features[0].weight).all())
        True
    """
    found = _layers_in_order(state)
    own: list[tuple[str, Any]] = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    planned = []
    for index, (name, layer) in enumerate(own):
        if index >= len(found):
            raise ValueError(
                f"load_public_weights: the state has {len(found)} layers, network {model.configuration} has "
                f"{len(own)}; nothing is left for {name}"
            )
        if layer is own[-1][1] and not head:
            continue
        theirs, weight, bias = found[index]
        dense = isinstance(layer, nn.Linear) and weight.dim() == 4
        fits = weight.flatten(1).shape == layer.weight.shape if dense else weight.shape == layer.weight.shape
        if not fits or bias.shape != layer.bias.shape:
            raise ValueError(
                f"load_public_weights: layer {index + 1} of {len(own)}, {theirs!r}, has weight {tuple(weight.shape)} "
                f"and bias {tuple(bias.shape)}; {name} of network {model.configuration} needs "
                f"{tuple(layer.weight.shape)} and {tuple(layer.bias.shape)}"
                + ("; head=False keeps the model's own last layer" if layer is own[-1][1] else "")
            )
        planned.append((layer, weight.flatten(1) if dense else weight, bias))
    if len(found) > len(own):
        raise ValueError(
            f"load_public_weights: the state has {len(found)} layers, network {model.configuration} has {len(own)}; "
            f"nothing takes {found[len(own)][0]!r}"
        )
    if flip_channels:
        layer, weight, bias = planned[0]
        planned[0] = (layer, weight.flip(1), bias)
    for layer, weight, bias in planned:
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


_ENDING = re.compile(r"^(?P<layer>.+?)[._/](?P<kind>weights?|bias(?:es)?|[wWbB])(?::0)?$")


def _layers_in_order(state: Mapping[str, Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    """(name, weight, bias) of each layer in a state dict, convolutions first, in natural order."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        match = _ENDING.match(name)
        if "running_" in name or "num_batches" in name or (match and match["kind"][0] in "wW" and value.dim() == 1):
            raise ValueError(
                f"load_public_weights: {name!r} belongs to batch normalisation, which no VGG of the paper has; "
                "fold it into the convolutions first"
            )
        if match is None:
            raise ValueError(
                f"load_public_weights: {name!r} is neither a weight nor a bias; pass only the network's parameters"
            )
        if not bool(value.isfinite().all()):
            raise ValueError(f"load_public_weights: {name!r} holds numbers that are not finite")
        layers.setdefault(match["layer"], {})["weight" if match["kind"][0] in "wW" else "bias"] = value
    for name, pair in layers.items():
        if len(pair) < 2:
            missing = "bias" if "weight" in pair else "weight"
            raise ValueError(f"load_public_weights: {name!r} has no {missing}")

    def order(name: str) -> tuple:
        fully_connected = layers[name]["weight"].dim() == 2 or re.search(r"fc|classifier", name) is not None
        return fully_connected, [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]

    return [(name, layers[name]["weight"], layers[name]["bias"]) for name in sorted(layers, key=order)]
