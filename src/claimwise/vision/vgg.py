"""VGG: very deep convolutional networks of small filters.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556: the architecture is section 2.1 and table 1, the test of 5x5 against pairs of 3x3 is
in section 4.1.

A block of ``k`` convolutions of size 3, stride 1 and padding 1 keeps the size of the map; each block ends in a max
pooling of 2x2, stride 2. The five blocks have 64, 128, 256, 512 and 512 channels, and three fully connected (FC)
layers follow. All that differs between the networks is the row of :data:`CONFIGURATIONS`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from claimwise.vision.local_response_normalisation import LocalResponseNormalisation
from claimwise.vision.vgg_initialisation import initialise

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of the five blocks at width 1 (table 1)."""

FC_WIDTH = 4096
"""Units of the two hidden FC layers at width 1 (table 1)."""


@dataclass(frozen=True)
class Configuration:
    """One column of table 1."""

    kernels: tuple[tuple[int, ...], ...]
    """Kernel size of each convolution, block by block. Padding keeps the size of the map."""
    response_normalisation: bool = False
    """Whether AlexNet's local response normalisation follows the first convolution."""

    @property
    def weight_layers(self) -> int:
        """Layers with weights, the three FC layers among them: the paper's measure of depth."""
        return sum(len(block) for block in self.kernels) + 3


CONFIGURATIONS = {
    "A": Configuration(((3,), (3,), (3, 3), (3, 3), (3, 3))),
    "A-LRN": Configuration(((3,), (3,), (3, 3), (3, 3), (3, 3)), response_normalisation=True),
    "B": Configuration(((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))),
    "B-5x5": Configuration(((5,), (5,), (5,), (5,), (5,))),  # section 4.1: one 5x5 for each pair of 3x3 of B
    "C": Configuration(((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))),
    "D": Configuration(((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))),
    "E": Configuration(((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))),
}
"""The networks of table 1 by name (D is known as VGG-16, E as VGG-19), and the 5x5 network of section 4.1."""


class VGG(nn.Module):
    r"""A VGG network: blocks of small convolutions with max pooling, then three fully connected layers.

    .. math::
        h_0 = x, \quad h_{l} = \max(0, W_l * h_{l-1} + b_l), \quad
        z = W_{8} \, r(W_{7} \, r(W_{6} \, \mathrm{vec}(h_L) + b_6) + b_7) + b_8

    with :math:`*` the convolution of table 1 (a 2x2 max pooling of stride 2 after the last one of each block),
    :math:`r` a rectifier followed, while training, by dropout, and :math:`z` the class scores before the softmax.

    The layers lie as in the public PyTorch models (``features`` and ``classifier``), so that a state dict of the
    network with the same configuration loads with ``load_state_dict``; for others see :func:`load_public_weights`.

    Args:
        configuration: A name of :data:`CONFIGURATIONS`.
        width: Multiplies the channels of every block, and the FC width where ``fc_width`` is not given.
        image_size: Side of the square training image, in pixels. :func:`dense` takes any larger image.
        channels: Channels of the image.
        classes: Number of classes.
        pools: How many of the five blocks end in a pooling, counted from the first: 3 suit images of 32 pixels.
            On a map of fewer pixels than a kernel most weights only ever see padding, and the signal weakens.
        fc_width: Units of the two hidden FC layers.
        dropout: Probability that a unit of a hidden FC layer is dropped while training. The convolutions have none.
        initialisation: See :func:`initialise`.
        generator: Source of the initial weights; torch's global one by default, as for torch's own layers.
        device: Where the parameters live; ``"meta"`` builds the network without memory, for counting.
        dtype: Type of the parameters.

    Shape:
        images ``(batch, channels, image_size, image_size)`` -> scores ``(batch, classes)``.

    Raises:
        ValueError: An unknown configuration or initialisation, a width, size or number that is not positive, ``pools``
            outside 0..5, more pools than the image can be halved, dropout outside [0, 1).

    Differences from the paper:
        Initialises by Glorot's rule, which section 3.1 found to make the pre-initialisation from network A needless;
        the paper's own way is ``initialisation="variance 0.01"`` with :func:`preinitialise`.

    Example:
        >>> import torch
        >>> from claimwise.vision import VGG
        >>> model = VGG("D", width=1 / 16, image_size=32, classes=10, pools=3)
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in VGG("D", device="meta").parameters())
        138357544
    """

    def __init__(
        self,
        configuration: str = "D",
        *,
        width: float = 1.0,
        image_size: int = 224,
        channels: int = 3,
        classes: int = 1000,
        pools: int = 5,
        fc_width: int | None = None,
        dropout: float = 0.5,
        initialisation: str = "glorot",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if configuration not in CONFIGURATIONS:
            raise ValueError(f"VGG: configuration must be one of {', '.join(CONFIGURATIONS)}, got {configuration!r}")
        if not 0 < width < float("inf"):
            raise ValueError(f"VGG: width must be positive, got {width}")
        for name, value in {"image_size": image_size, "channels": channels, "classes": classes}.items():
            if value < 1:
                raise ValueError(f"VGG: {name} must be at least 1, got {value}")
        if fc_width is not None and fc_width < 1:
            raise ValueError(f"VGG: fc_width must be at least 1, got {fc_width}")
        if not 0 <= pools <= len(CHANNELS):
            raise ValueError(f"VGG: pools must lie in 0..{len(CHANNELS)}, got {pools}")
        if image_size < 2**pools:
            raise ValueError(
                f"VGG: {pools} poolings need an image of at least {2**pools} pixels, got image_size={image_size}; "
                f"give pools={image_size.bit_length() - 1} or fewer"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"VGG: dropout must lie in [0, 1), got {dropout}")
        self.configuration = configuration
        self.image_size = image_size
        self.map_size = image_size // 2**pools
        """Side of the map that the first FC layer sees: 7 for 224 pixels and five poolings."""

        made: dict[str, Any] = {"device": device if device is not None else "cpu"}
        if dtype is not None:
            made["dtype"] = dtype
        layers: list[nn.Module] = []
        inputs = channels
        for block, kernels in enumerate(CONFIGURATIONS[configuration].kernels):
            outputs = scaled(CHANNELS[block], width)
            for kernel in kernels:
                layers.append(_blank(nn.Conv2d, inputs, outputs, kernel, padding=kernel // 2, **made))
                layers.append(nn.ReLU(inplace=True))
                if CONFIGURATIONS[configuration].response_normalisation and len(layers) == 2:
                    layers.append(LocalResponseNormalisation())
                inputs = outputs
            if block < pools:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        hidden = fc_width if fc_width is not None else scaled(FC_WIDTH, width)
        self.classifier = nn.Sequential(
            _blank(nn.Linear, inputs * self.map_size**2, hidden, **made),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            _blank(nn.Linear, hidden, hidden, **made),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            _blank(nn.Linear, hidden, classes, **made),
        )
        self._largest_kernel = max(layer.weight.numel() for layer in layers if isinstance(layer, nn.Conv2d))
        initialise(self, initialisation, generator=generator)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"VGG: the image must be {self.image_size}x{self.image_size}, as the network was built, got "
                f"{images.shape[-2]}x{images.shape[-1]}; dense(model) takes any larger image"
            )
        return self.classifier(self.flatten(self.features(self.arrange(images))))

    def arrange(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The same images in the memory layout in which this network runs fastest.

        On the CPU, channels-last maps save the convolutions a reordering of every map, but cost one of every kernel,
        and more on the way back. It pays when maps outweigh kernels: measured, from parity without gradients, and
        from a factor of about 8 with them.
        """
        if images.device.type != "cpu" or images.dtype != torch.float32:
            return images
        first: Any = self.features[0]
        maps = images.shape[0] * images.shape[2] * images.shape[3] * first.out_channels
        if maps < self._largest_kernel * (8 if torch.is_grad_enabled() else 1):
            return images
        return images.contiguous(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        return f"configuration={self.configuration!r}, image_size={self.image_size}"


def scaled(channels: int, width: float) -> int:
    """Channels at a width multiplier: rounded, at least 1.

    Example:
        >>> from claimwise.vision.vgg import scaled
        >>> scaled(64, 1 / 8)
        8
    """
    return max(1, round(channels * width))


def _blank(kind: type[nn.Module], *args: Any, device: torch.device | str, **kwargs: Any) -> nn.Module:
    """A layer whose parameters have memory but no values: torch would draw its own only to see them overwritten."""
    return kind(*args, device="meta", **kwargs).to_empty(device=device)
