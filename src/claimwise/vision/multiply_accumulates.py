"""Multiply-accumulate operations of a network, counted layer by layer.

The measure of cost that papers on convolutional networks give beside parameters ("FLOPs" in many of them, which here
would be twice as many): one multiplication and one addition each.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from claimwise.vision.shape_copy import shape_copy, shape_images

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class LayerOperations:
    """The multiply-accumulates of one layer for one image."""

    name: str
    """Where the layer is in the network, as in ``named_modules``."""
    kind: str
    """Class of the layer."""
    output: tuple[int, ...]
    """Shape of its output without the batch, at its last use."""
    operations: int
    """Over all its uses in one forward pass."""


@dataclass(frozen=True)
class MultiplyAccumulates:
    """What :func:`multiply_accumulates` returns. Prints as a table."""

    layers: tuple[LayerOperations, ...]
    """Convolutions and linear layers, in the order of their first use."""

    @property
    def total(self) -> int:
        return sum(layer.operations for layer in self.layers)

    def __str__(self) -> str:
        rows = [(layer.name, layer.kind, "x".join(map(str, layer.output)), layer.operations) for layer in self.layers]
        rows.append(("total", "", "", self.total))
        name, kind, output = (max(len(str(row[column])) for row in rows) for column in (0, 1, 2))
        return "\n".join(f"{r[0]:<{name}}  {r[1]:<{kind}}  {r[2]:>{output}}  {r[3]:>15,}" for r in rows)


def multiply_accumulates(model: nn.Module, input_size: tuple[int, ...]) -> MultiplyAccumulates:
    r"""Counts the multiply-accumulates of one forward pass for one image, by layer.

    .. math:: \mathrm{MAC}_l = (\text{outputs of } l) \cdot \frac{c_l}{g_l} \prod_d k_{l,d}

    with :math:`c_l` input channels, :math:`g_l` groups and :math:`k_l` the kernel (1 for a linear layer); a transposed
    convolution does the same work for each of its *inputs*. Padding counts like image. Counted by hooks on a copy
    without memory: the model itself is neither run nor changed, and the size of the image costs nothing.

    Args:
        model: Any module that runs on the meta device. Only convolutions and linear *layers* are seen: what a forward
            method does by functions (attention products, ``F.conv2d``) is not.
        input_size: Shape of one input without the batch, for instance ``(3, 224, 224)``.

    Raises:
        ValueError: A size that is not positive.
        RuntimeError: The model does not take this input (torch's own message).

    Differences from the paper:
        The paper gives no operation counts.

    Example:
        >>> from claimwise.vision import VGG, multiply_accumulates
        >>> round(multiply_accumulates(VGG("D", device="meta"), (3, 224, 224)).total / 1e9, 2)
        15.47
    """
    if any(side < 1 for side in input_size):
        raise ValueError(f"multiply_accumulates: sizes must be at least 1, got input_size={input_size}")
    model = shape_copy(model)
    names = {layer: name for name, layer in model.named_modules()}
    counts: dict[nn.Module, LayerOperations] = {}

    def count(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        units = inputs[0].numel() if isinstance(layer, _TRANSPOSED) else output.numel()
        # layer.weight[0] is what one output (or, transposed, one input) is connected to
        operations = units * layer.weight[0].numel()
        before = counts[layer].operations if layer in counts else 0
        counts[layer] = LayerOperations(
            names[layer], type(layer).__name__, tuple(output.shape[1:]), before + operations
        )

    for layer in model.modules():
        if isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(shape_images(model, tuple(input_size)))
    return MultiplyAccumulates(tuple(counts.values()))
