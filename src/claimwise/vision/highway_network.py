"""Plain and highway networks of any depth and width, fully connected and convolutional.

R. K. Srivastava, K. Greff, J. Schmidhuber, *Training Very Deep Networks*, NIPS 2015, sections 3.1 to 3.3, tables 1 and
2, https://arxiv.org/abs/1507.06228.
"""

from collections.abc import Sequence

import torch
from torch import nn

from claimwise.layers.highway import ACTIVATIONS, Activation, HighwayConv2d, check_choice
from claimwise.layers.highway_stack import HighwayStack

_MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def _filled(layer: nn.Linear | nn.Conv2d, activation: str, generator: torch.Generator | None) -> nn.Module:
    """Weights by He's scheme for rectifiers, else by Glorot's; biases 0."""
    if activation == "relu":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    else:
        nn.init.xavier_normal_(layer.weight, generator=generator)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _checked(name: str, activation: str, **sizes: int) -> None:
    for what, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {what} must be at least 1, got {size}")
    check_choice(name, "activation", activation, ACTIVATIONS)


def plain_network(
    in_features: int,
    classes: int,
    depth: int,
    *,
    width: int = 71,
    activation: Activation = "relu",
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    r"""The plain network that highway networks are held against: equal layers, the best known initial weights.

    .. math:: x_{l+1} = f(W_l x_l + b_l), \quad l = 1 \ldots D, \qquad z = V x_{D+1} + c

    with :math:`f` the activation and :math:`D` the depth. Weights start by He's normal scheme for rectifiers and by
    Glorot's for tanh, biases at 0.

    Args:
        in_features: Size of a flattened example.
        classes: Logits.
        depth: D, layers before the softmax's.
        width: Units of each; 71 have about as many parameters as a highway layer of 50.
        activation: f, ``"relu"`` or ``"tanh"``.
        generator: Source of the initial weights; torch's global one by default.

    Shape:
        (batch, \*), flattened to (batch, in_features) -> (batch, classes).

    Raises:
        ValueError: a size below 1, an unknown activation.

    Differences from the paper:
        none known; it names both schemes and normal and uniform draws have the same variance.

    Example:
        >>> import torch
        >>> model = plain_network(784, 10, 10)
        >>> model(torch.zeros(2, 28, 28)).shape, sum(p.numel() for p in model[3].parameters())
        (torch.Size([2, 10]), 5112)
    """
    _checked("plain_network", activation, in_features=in_features, classes=classes, depth=depth, width=width)
    layers: list[nn.Module] = [nn.Flatten()]
    size = in_features
    for _ in range(depth):
        layers += [_filled(nn.Linear(size, width), activation, generator), _MODULES[activation]()]
        size = width
    return nn.Sequential(*layers, _filled(nn.Linear(size, classes), "tanh", generator))


def highway_network(
    in_features: int,
    classes: int,
    depth: int,
    *,
    width: int = 50,
    activation: Activation = "relu",
    gate_bias: float = -2.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    r"""A plain layer that changes the width, then highway layers, then softmax: section 3.1's network.

    .. math::
        x_2 = f(W_1 x_1 + b_1), \quad x_{l+1} = x_l + T_l(x_l) \odot (H_l(x_l) - x_l), \quad l = 2 \ldots D, \qquad
        z = V x_{D+1} + c

    Args:
        in_features: Size of a flattened example.
        classes: Logits.
        depth: D, layers before the softmax's: one plain and D - 1 highway layers.
        width: Units of each.
        activation: f, ``"relu"`` or ``"tanh"``.
        gate_bias: Initial bias of all transform gates.
        generator: Source of the initial weights; torch's global one by default.

    Shape:
        (batch, \*), flattened to (batch, in_features) -> (batch, classes).

    Raises:
        ValueError: a size below 1 (depth below 2), an unknown activation, a bias that is not finite.

    Differences from the paper:
        as :class:`~claimwise.layers.HighwayLinear`.

    Example:
        >>> import torch
        >>> model = highway_network(784, 10, 50)
        >>> model(torch.zeros(2, 28, 28)).shape, sum(p.numel() for p in model[3].parameters()) // 49
        (torch.Size([2, 10]), 5100)
    """
    _checked("highway_network", activation, in_features=in_features, classes=classes, depth=depth, width=width)
    if depth < 2:
        raise ValueError(f"highway_network: depth must be at least 2, one plain and one highway layer, got {depth}")
    return nn.Sequential(
        nn.Flatten(),
        _filled(nn.Linear(in_features, width), activation, generator),
        _MODULES[activation](),
        HighwayStack(width, depth - 1, activation=activation, gate_bias=gate_bias, generator=generator),
        _filled(nn.Linear(width, classes), "tanh", generator),
    )


def convolutional_plain_network(
    blocks: Sequence[tuple[int, int]],
    classes: int = 10,
    *,
    in_channels: int = 1,
    image_size: int = 28,
    dropout: float = 0.0,
    activation: Activation = "relu",
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    r"""The convolutional network without gates that :func:`convolutional_highway_network` is held against.

    .. math:: x_{l+1} = f(W_l * x_l + b_l), \qquad \text{max-pooling behind each block}

    Args:
        blocks: (channels, layers) of each block of 3 x 3 convolutions.
        classes: Logits.
        in_channels: Channels of the image.
        image_size: Side of the square image.
        dropout: Share of maps' values dropped behind each pooling while training.
        activation: f, ``"relu"`` or ``"tanh"``.
        generator: Source of the initial weights; torch's global one by default.

    Shape:
        (batch, in_channels, image_size, image_size) -> (batch, classes).

    Raises:
        ValueError: as :func:`convolutional_highway_network`.

    Differences from the paper:
        The paper trains no such network; FitNets' (with hints) are its thin baselines.

    Example:
        >>> import torch
        >>> convolutional_plain_network([(8, 2), (8, 2)])(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return _convolutional(
        "convolutional_plain_network", blocks, classes, in_channels, image_size, dropout, activation, None, generator
    )


def convolutional_highway_network(
    blocks: Sequence[tuple[int, int]],
    classes: int = 10,
    *,
    in_channels: int = 1,
    image_size: int = 28,
    dropout: float = 0.0,
    activation: Activation = "relu",
    gate_bias: float = -2.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    r"""Blocks of 3 x 3 convolutional highway layers with max-pooling between, then softmax: tables 1 and 2.

    .. math:: x_{l+1} = x_l + T_l(x_l) \odot (H_l(x_l) - x_l)

    A block begins with a plain convolution where the number of channels changes; each ends with max-pooling of 2 x 2.

    Args:
        blocks: (channels, layers) of each block, its plain convolution counted. ``[(16, 3)] * 3`` is the network of 10
            layers and 39 K parameters of table 1, ``[(32, 3)] * 3`` the one of 151 K.
        classes: Logits.
        in_channels: Channels of the image.
        image_size: Side of the square image.
        dropout: Share of maps' values dropped behind each pooling while training.
        activation: f, ``"relu"`` or ``"tanh"``.
        gate_bias: Initial bias of all transform gates.
        generator: Source of the initial weights; torch's global one by default.

    Shape:
        (batch, in_channels, image_size, image_size) -> (batch, classes).

    Raises:
        ValueError: no blocks, a size below 1, an image too small to be pooled so often, a share outside [0, 1), an
            unknown activation, a bias that is not finite.

    Differences from the paper:
        Where the pooling is and what feeds the softmax is not written there. Pooling behind every third layer, and a
        softmax on the last 3 x 3 maps, give both parameter counts of table 1.

    Example:
        >>> import torch
        >>> model = convolutional_highway_network([(16, 3)] * 3)
        >>> model(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in model.parameters())
        (torch.Size([2, 10]), 38730)
    """
    return _convolutional(
        "convolutional_highway_network",
        blocks,
        classes,
        in_channels,
        image_size,
        dropout,
        activation,
        gate_bias,
        generator,
    )


def _convolutional(
    name: str,
    blocks: Sequence[tuple[int, int]],
    classes: int,
    in_channels: int,
    image_size: int,
    dropout: float,
    activation: Activation,
    gate_bias: float | None,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """The network with highway layers, or, where there is no bias for gates, with plain ones in their place."""
    _checked(name, activation, classes=classes, in_channels=in_channels, image_size=image_size)
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout must be in [0, 1), got {dropout}")
    if not blocks:
        raise ValueError(f"{name}: blocks must name at least one block, (channels, layers), got {blocks!r}")
    layers: list[nn.Module] = []
    channels, side = in_channels, image_size
    for width, count in blocks:
        _checked(name, activation, channels=width, layers=count)
        for _ in range(count):
            if gate_bias is not None and width == channels:
                layers.append(HighwayConv2d(width, activation=activation, gate_bias=gate_bias, generator=generator))
            else:
                convolution = nn.Conv2d(channels, width, 3, padding=1)
                layers += [_filled(convolution, activation, generator), _MODULES[activation]()]
            channels = width
        layers.append(nn.MaxPool2d(2))
        if dropout:
            layers.append(nn.Dropout(dropout))
        side //= 2
    if side < 1:
        raise ValueError(f"{name}: an image of {image_size} pixels cannot be halved {len(blocks)} times")
    head = _filled(nn.Linear(channels * side * side, classes), "tanh", generator)
    return nn.Sequential(*layers, nn.Flatten(), head)
