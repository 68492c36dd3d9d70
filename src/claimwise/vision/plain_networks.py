"""The plain networks of 14, 19, 22 and 30 layers on which PReLU and He's initialisation were tried.

K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers*, ICCV 2015, tables 1 and 3 and section 2.2,
https://arxiv.org/abs/1502.01852. K. He and J. Sun, *Convolutional Neural Networks at Constrained Time Cost*, CVPR 2015,
table 1 (model E), https://arxiv.org/abs/1412.1710. K. He, X. Zhang, S. Ren, J. Sun, *Spatial Pyramid Pooling in Deep
Convolutional Networks for Visual Recognition*, ECCV 2014, https://arxiv.org/abs/1406.4729.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from claimwise.layers.prelu import PReLU
from claimwise.layers.rectifier_initialisation import Mode, Scheme, initialise_weights

Rectifier = Literal["relu", "leaky", "prelu", "prelu-shared"]
RECTIFIERS: tuple[Rectifier, ...] = get_args(Rectifier)


@dataclass(frozen=True)
class PlainConfiguration:
    """What a plain network is made of: a first convolution, stages with poolings between, fully connected layers."""

    first: tuple[int, int, int]
    """Kernel, channels and stride of the first convolution."""
    first_pool: int
    """Side and stride of the max pooling behind it; 1 for none."""
    stages: tuple[tuple[int, int], ...]
    """Channels and convolutions of each stage."""
    kernel: int
    """Side of the stages' kernels."""
    pool: int = 2
    """Side and stride of the max pooling between stages; 1 for none."""
    bins: tuple[int, ...] = (6, 3, 2, 1)
    """Bins by side of the spatial pyramid behind the last stage; none for the flattened map."""
    hidden: tuple[int, ...] = (4096, 4096)
    """Units of the fully connected layers but the last."""

    @property
    def layers(self) -> int:
        """Layers with weights, the classifier's last one included."""
        return 1 + sum(count for _, count in self.stages) + len(self.hidden) + 1


PLAIN_CONFIGURATIONS: dict[str, PlainConfiguration] = {
    "E": PlainConfiguration((7, 64, 2), 3, ((128, 4), (256, 6)), 2),
    "E-30": PlainConfiguration((7, 64, 2), 3, ((128, 4), (256, 22)), 2),  # 16 more convolutions
    "A": PlainConfiguration((7, 96, 2), 2, ((256, 5), (512, 5), (512, 5)), 3, bins=(7, 3, 2, 1)),
    "B": PlainConfiguration((7, 96, 2), 2, ((256, 6), (512, 6), (512, 6)), 3, bins=(7, 3, 2, 1)),
    "C": PlainConfiguration((7, 96, 2), 2, ((384, 6), (768, 6), (896, 6)), 3, bins=(7, 3, 2, 1)),
}
"""The paper's networks by name: small E (14 layers) and its 30-layer form, large A (19), B and C (22)."""


class SpatialPyramidPooling(nn.Module):
    r"""Max pooling over grids of several sizes, so that any image gives features of one length.

    .. math:: z = \big(\max_{p \in B^{(b)}_{ij}} x_c(p)\big)_{b, c, i, j}, \qquad
        B^{(b)}_{ij} = [\lfloor \tfrac{iH}{b} \rfloor, \lceil \tfrac{(i+1)H}{b} \rceil) \times
        [\lfloor \tfrac{jW}{b} \rfloor, \lceil \tfrac{(j+1)W}{b} \rceil)

    Args:
        bins: b of each level: the grid has b by b cells.

    Shape:
        (batch, channels, height, width) -> (batch, channels * sum of b^2), level by level.

    Raises:
        ValueError: no level, or one below 1.

    Differences from the paper:
        none. A map smaller than a grid has cells that share entries.

    Example:
        >>> import torch
        >>> SpatialPyramidPooling((2, 1))(torch.arange(9.0).view(1, 1, 3, 3)).tolist()
        [[4.0, 5.0, 7.0, 8.0, 8.0]]
    """

    def __init__(self, bins: Sequence[int] = (6, 3, 2, 1)) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise ValueError(f"SpatialPyramidPooling: bins must be one or more sizes of at least 1, got {tuple(bins)}")
        self.bins = tuple(bins)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        return torch.cat([F.adaptive_max_pool2d(x, b).flatten(1) for b in self.bins], 1)

    def extra_repr(self) -> str:
        return str(self.bins)


def _rectifier(name: Rectifier, channels: int, slope: float) -> nn.Module:
    if name == "relu":
        return nn.ReLU()
    if name == "leaky":
        return nn.LeakyReLU(slope)
    return PReLU(channels if name == "prelu" else None, slope)


def plain_rectifier_network(
    configuration: str | PlainConfiguration = "E",
    *,
    width: float = 1.0,
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1000,
    rectifier: Rectifier = "relu",
    slope: float = 0.25,
    dropout: float = 0.5,
    initialisation: Scheme = "he",
    mode: Mode = "fan-in",
    std: float = 0.01,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> nn.Sequential:
    r"""A plain network of the paper, or one's own of that kind, at any width and image size.

    .. math:: x_{l+1} = f(W_l * x_l + b_l), \quad l = 1 \ldots L - 1, \qquad z = W_L x_L + b_L

    with f a rectifier (ReLU, leaky or PReLU) behind each layer but the last, max poolings between the stages, a spatial
    pyramid behind the last convolution, and no normalisation anywhere.

    Args:
        configuration: A name of :data:`PLAIN_CONFIGURATIONS` or a :class:`PlainConfiguration`.
        width: Multiplies the channels and the hidden units; results are rounded, and at least 1.
        image_size: Side of the training images; the fully connected layers depend on it where there is no pyramid.
        channels: Of the image.
        classes: Logits.
        rectifier: ``"relu"``, ``"leaky"``, ``"prelu"`` (a slope a channel) or ``"prelu-shared"`` (one a layer).
        slope: a of ``"leaky"``, and of PReLU at the start; also He's a.
        dropout: Share of units dropped behind each hidden fully connected layer while training.
        initialisation: ``"he"``, ``"xavier"``, ``"glorot"`` or ``"constant"``; biases start at 0.
        mode: Which fan ``"he"`` and ``"xavier"`` take.
        std: Of ``"constant"``.
        generator: Source of the initial weights; torch's global one by default.
        device: Where the parameters live; on ``"meta"`` nothing is drawn.

    Shape:
        (batch, channels, image_size, image_size) -> (batch, classes); with a pyramid, images of any size.

    Raises:
        ValueError: an unknown word, a size below 1, a share outside [0, 1), an image too small for the poolings.

    Differences from the paper:
        The paper does not say which side of an even kernel is padded. Here the convolutions of a stage pad by 1 and by
        0 in turn, which moves the maps to neither side; after an odd number they are larger by 1.

    Example:
        >>> import torch
        >>> model = plain_rectifier_network("E", width=1 / 16, image_size=48, classes=10, rectifier="prelu")
        >>> model(torch.zeros(2, 3, 48, 48)).shape
        torch.Size([2, 10])
        >>> {name: configuration.layers for name, configuration in PLAIN_CONFIGURATIONS.items()}
        {'E': 14, 'E-30': 30, 'A': 19, 'B': 22, 'C': 22}
    """
    name = "plain_rectifier_network"
    if isinstance(configuration, str):
        if configuration not in PLAIN_CONFIGURATIONS:
            raise ValueError(
                f"{name}: configuration must be one of {', '.join(PLAIN_CONFIGURATIONS)} or a PlainConfiguration, got "
                f"{configuration!r}"
            )
        configuration = PLAIN_CONFIGURATIONS[configuration]
    if rectifier not in RECTIFIERS:
        raise ValueError(f"{name}: rectifier must be one of {', '.join(RECTIFIERS)}, got {rectifier!r}")
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"{name}: width must be > 0 and finite, got {width}")
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout must be in [0, 1), got {dropout}")
    sizes = {
        "image_size": image_size,
        "channels": channels,
        "classes": classes,
        "kernel": min(configuration.kernel, *configuration.first),
        "pool": min(configuration.pool, configuration.first_pool),
        "stages": min((min(stage) for stage in configuration.stages), default=1),
        "hidden": min(configuration.hidden, default=1),
    }
    for what, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {what} must be at least 1, got {size}")

    def scaled(number: int) -> int:
        return max(1, round(width * number))

    layers: list[nn.Module] = []
    side, before = image_size, channels

    def convolve(kernel: int, after: int, stride: int, padding: int) -> None:
        nonlocal side, before
        side = (side + 2 * padding - kernel) // stride + 1
        layers.append(nn.Conv2d(before, after, kernel, stride, padding, device=device))
        layers.append(_rectifier(rectifier, after, slope).to(device))
        before = after

    def pool(size: int) -> None:
        nonlocal side
        if size > 1:
            side //= size
            layers.append(nn.MaxPool2d(size))

    kernel, first_channels, stride = configuration.first
    convolve(kernel, scaled(first_channels), stride, kernel // 2)
    pool(configuration.first_pool)
    for stage, (stage_channels, count) in enumerate(configuration.stages):
        if stage:
            pool(configuration.pool)
        for k in range(count):
            even = configuration.kernel % 2 == 0
            full = configuration.kernel // 2
            convolve(configuration.kernel, scaled(stage_channels), 1, full - 1 if even and k % 2 else full)
    if side < 1:
        raise ValueError(f"{name}: an image of {image_size} pixels is too small for the strides and poolings")
    if configuration.bins:
        layers.append(SpatialPyramidPooling(configuration.bins))
        features = before * sum(b**2 for b in configuration.bins)
    else:
        layers.append(nn.Flatten())
        features = before * side**2
    for units in configuration.hidden:
        layers += [
            nn.Linear(features, scaled(units), device=device),
            _rectifier(rectifier, scaled(units), slope).to(device),
        ]
        if dropout:
            layers.append(nn.Dropout(dropout))
        features = scaled(units)
    layers.append(nn.Linear(features, classes, device=device))
    model = nn.Sequential(*layers)
    a = 0.0 if rectifier == "relu" else slope
    initialise_weights(model, initialisation, slope=a, mode=mode, std=std, generator=generator)
    return model
