"""SqueezeNet 1.1: an ImageNet network of 1.2 million weights.

Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", 2016, https://arxiv.org/abs/1602.07360: the fire module is section 3.2. Version 1.1 is the authors'
later one (https://github.com/forresti/SqueezeNet): 3x3 instead of 7x7 in the first convolution, and earlier pooling.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from claimwise.vision.public_weights import Preprocessing

SQUEEZENET_PREPROCESSING = Preprocessing("BGR", 255.0, (104.0, 117.0, 123.0))
"""What the authors' weights expect: BGR on 0..255 minus the mean pixel; images of 227 pixels."""

_SQUEEZED = (16, 16, 32, 32, 48, 48, 64, 64)
_EXPANDED = (64, 64, 128, 128, 192, 192, 256, 256)


class Fire(nn.Module):
    r"""The fire module: a 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side.

    .. math::
        s = r(W_s * x + b_s), \qquad \mathrm{fire}(x) = \big[\, r(W_1 * s + b_1),\; r(W_3 * s + b_3) \,\big]

    with :math:`W_s` and :math:`W_1` of size 1x1, :math:`W_3` of 3x3 and padding 1, :math:`r` the rectifier, and the
    brackets joining channels.

    Args:
        channels: Channels of the input.
        squeezed: Channels of :math:`s`.
        expanded: Channels of each of the two joined maps.

    Shape:
        (batch, channels, height, width) to (batch, 2 * expanded, height, width).

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> from claimwise.vision import Fire
        >>> Fire(64, 16, 64)(torch.zeros(1, 64, 5, 5)).shape
        torch.Size([1, 128, 5, 5])
    """

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.squeeze_relu = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_relu = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch joined height width"]:
        s = self.squeeze_relu(self.squeeze1x1(x))
        return torch.cat([self.expand1x1_relu(self.expand1x1(s)), self.expand3x3_relu(self.expand3x3(s))], 1)


class SqueezeNet(nn.Module):
    r"""SqueezeNet 1.1: one convolution, eight fire modules, and a convolution to the classes, averaged over the map.

    .. math::
        z_c = \frac{1}{|P|} \sum_{p \in P} r(W_{10} * f + b_{10})_{c, p}

    with :math:`f` the map of the last fire module, :math:`W_{10}` of size 1x1, :math:`r` the rectifier and :math:`P`
    the places of the map. Overlapping max pooling (3x3, stride 2) follows the first convolution and the fire modules
    3 and 5. There is no fully connected layer: any image of 35 pixels or more is taken.

    Args:
        classes: Number of classes.
        channels: Channels of the image.
        final_padding: Padding of the last convolution. The authors' weights were trained with 1, which puts a frame of
            places around the map that see only the bias.

    Shape:
        (batch, channels, height, width) to class scores (batch, classes).

    Differences from the paper:
        Version 1.1 of the authors' repository, not the network of the paper's table 1. While training, dropout of
        one half precedes the last convolution, as in the paper.

    Example:
        >>> import torch
        >>> from claimwise.vision import SqueezeNet
        >>> SqueezeNet(classes=10)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 10])
        >>> sum(parameter.numel() for parameter in SqueezeNet().parameters())
        1235496
    """

    def __init__(self, classes: int = 1000, *, channels: int = 3, final_padding: int = 1) -> None:
        super().__init__()
        if classes < 1 or channels < 1 or final_padding < 0:
            raise ValueError(
                "SqueezeNet: classes and channels must be >= 1 and final_padding >= 0, got "
                f"classes={classes}, channels={channels}, final_padding={final_padding}"
            )
        self.conv1 = nn.Conv2d(channels, 64, 3, stride=2)
        self.conv1_relu = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        width = 64
        for number, (squeezed, expanded) in enumerate(zip(_SQUEEZED, _EXPANDED, strict=True), start=2):
            self.add_module(f"fire{number}", Fire(width, squeezed, expanded))
            if number in (3, 5):
                self.add_module(f"pool{number}", nn.MaxPool2d(3, 2, ceil_mode=True))
            width = 2 * expanded
        self.dropout = nn.Dropout(0.5)
        self.conv10 = nn.Conv2d(width, classes, 1, padding=final_padding)
        self.conv10_relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        # the modules lie in the order of their use
        for layer in self.children():
            x = layer(x)
        return x.mean((2, 3))

    @torch.no_grad()
    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> "SqueezeNet":
        """Loads arrays by name (``conv1.weight``, ``fire2.squeeze1x1.bias``, ...), of any float type; returns itself.

        Args:
            arrays: What the data set ``imagenet_squeezenet1_1`` holds, a state dict in NumPy.

        Raises:
            ValueError: Names or shapes that are not this network's; nothing is then changed.
        """
        own = self.state_dict()
        if set(arrays) != set(own):
            raise ValueError(
                f"SqueezeNet.load_arrays: missing {sorted(set(own) - set(arrays))}, "
                f"unknown {sorted(set(arrays) - set(own))}"
            )
        for name, value in own.items():
            if arrays[name].shape != tuple(value.shape):
                raise ValueError(
                    f"SqueezeNet.load_arrays: {name} must have shape {tuple(value.shape)}, got {arrays[name].shape}"
                )
        for name, value in own.items():
            value.copy_(torch.tensor(arrays[name]))
        return self
