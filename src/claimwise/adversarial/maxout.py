"""Maxout layers, the column-norm constraint they are trained with, and the network the paper attacks.

I. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio, *Maxout Networks*, ICML 2013, section 3,
https://arxiv.org/abs/1302.4389; the settings are those of the authors' pylearn2 recipe for MNIST, which
*Explaining and Harnessing Adversarial Examples* (https://arxiv.org/abs/1412.6572) builds on.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Maxout(nn.Module):
    r"""A fully connected layer whose units take the largest of several linear functions.

    .. math:: h_i(x) = \max_{j = 1..k} \left( x^\top W_{\cdot i j} + b_{ij} \right)

    with :math:`k` the pieces of a unit.

    Args:
        in_features: Size of the input.
        units: Maxout units, the size of the output.
        pieces: Linear functions a unit, k.
        bias: Whether there is b.
        init_range: Draw weights from U(-init_range, init_range) and start b at 0, as pylearn2 does (0.005 for MNIST).
            By default both as in ``nn.Linear``.

    Shape:
        Input (\*, in_features), output (\*, units); ``weight`` (pieces * units, in_features), piece-major.

    Raises:
        ValueError: A size that is not positive; on calling, an input of another size.

    Differences from the paper:
        none; the default initialisation is torch's.

    Example:
        >>> import torch
        >>> layer = Maxout(1, 1, 2)
        >>> _ = layer.load_state_dict({"weight": torch.tensor([[1.0], [-1.0]]), "bias": torch.zeros(2)})
        >>> layer(torch.tensor([[-3.0], [2.0]])).tolist()  # two pieces make an absolute value
        [[3.0], [2.0]]
    """

    def __init__(
        self, in_features: int, units: int, pieces: int, *, bias: bool = True, init_range: float | None = None
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("units", units), ("pieces", pieces)):
            if size < 1:
                raise ValueError(f"Maxout: {name} must be at least 1, got {size}")
        self.in_features, self.units, self.pieces, self.init_range = in_features, units, pieces, init_range
        self.weight = nn.Parameter(torch.empty(pieces * units, in_features))
        self.bias = nn.Parameter(torch.empty(pieces * units)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset("Maxout", self.weight, self.bias, self.init_range)

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch units"]:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"Maxout: input must end in {self.in_features} features, got shape {tuple(x.shape)}")
        # Piece-major, so that the maximum runs over vectors of units.
        outputs = F.linear(x, self.weight, self.bias)  # (..., pieces * units)
        return outputs.reshape(*x.shape[:-1], self.pieces, self.units).amax(-2)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.units}, pieces={self.pieces}, bias={self.bias is not None}"


class MaxoutConv2d(nn.Module):
    r"""A convolution whose channels take the largest of several feature maps, position by position.

    .. math:: h_i = \max_{j = 1..k} \left( W_{ij} * x + b_{ij} \right)

    with :math:`*` cross-correlation over the image and :math:`k` the pieces of a channel.

    Args:
        in_channels: Channels of the input.
        channels: Maxout channels, those of the output.
        pieces: Feature maps a channel, k.
        kernel_size: Side of the square kernel.
        stride: Step between positions.
        padding: Zeros added on every side.
        bias: Whether there is b, one a feature map.
        init_range: As in :class:`Maxout`.

    Shape:
        Input (batch, in_channels, height, width), output (batch, channels, height', width') as for ``nn.Conv2d``;
        ``weight`` (pieces * channels, in_channels, kernel_size, kernel_size), piece-major.

    Raises:
        ValueError: A size that is not positive.

    Differences from the paper:
        The paper takes the spatial maximum in the same step; put ``nn.MaxPool2d`` behind this layer, which is the same
        (maxima commute).

    Example:
        >>> import torch
        >>> MaxoutConv2d(3, 8, 2, 5, padding=2)(torch.zeros(1, 3, 16, 16)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        pieces: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        init_range: float | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "channels": channels, "pieces": pieces, "kernel_size": kernel_size}
        for name, size in {**sizes, "stride": stride}.items():
            if size < 1:
                raise ValueError(f"MaxoutConv2d: {name} must be at least 1, got {size}")
        if padding < 0:
            raise ValueError(f"MaxoutConv2d: padding must be at least 0, got {padding}")
        self.channels, self.pieces, self.stride, self.padding = channels, pieces, stride, padding
        self.init_range = init_range
        self.weight = nn.Parameter(torch.empty(pieces * channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(pieces * channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset("MaxoutConv2d", self.weight, self.bias, self.init_range)

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels new_height new_width"]:
        maps = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return maps.reshape(len(x), self.pieces, self.channels, *maps.shape[2:]).amax(1)

    def extra_repr(self) -> str:
        kernel = self.weight.shape[-1]
        return (
            f"{self.weight.shape[1]}, {self.channels}, pieces={self.pieces}, kernel_size={kernel}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )


def max_col_norm_(module: nn.Module, max_norm: float) -> None:
    r"""Shrink, in place, the incoming weights of every linear piece whose norm exceeds a limit; for after each step.

    .. math:: W_{\cdot i} \leftarrow W_{\cdot i} \min\!\left(1, \frac{c}{\lVert W_{\cdot i} \rVert_2}\right)

    with :math:`W_{\cdot i}` all weights into one output of a layer (a column in the paper's layout, a row of
    ``weight`` in torch's; for a convolution a whole kernel) and :math:`c` the limit. Biases are free.

    Args:
        module: Its parameters named ``weight`` with two or more dimensions are constrained, those of submodules too.
        max_norm: c; 1.9365 in the recipe for MNIST.

    Shape:
        None.

    Raises:
        ValueError: ``max_norm`` not positive, or nothing to constrain.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> _ = layer.load_state_dict({"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.zeros(1)})
        >>> max_col_norm_(layer, 1.0)
        >>> layer.weight.data
        tensor([[0.6000, 0.8000]])
    """
    if not max_norm > 0:
        raise ValueError(f"max_col_norm_: max_norm must be > 0, got {max_norm}")
    weights = [
        parameter
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2] == "weight" and parameter.ndim >= 2
    ]
    if not weights:
        raise ValueError(f"max_col_norm_: {type(module).__name__} has no parameter named weight with two dimensions")
    with torch.no_grad():
        for weight in weights:
            norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            if bool((norms > max_norm).any()):
                scale = (max_norm / norms).clamp_(max=1).reshape(-1, *[1] * (weight.ndim - 1))
                weight.mul_(scale)


def maxout_network(
    in_features: int,
    classes: int,
    *,
    hidden: Sequence[int] = (240, 240),
    pieces: int = 5,
    input_dropout: float = 0.2,
    hidden_dropout: float = 0.5,
    init_range: float | None = 0.005,
) -> nn.Sequential:
    r"""The permutation-invariant maxout network with dropout: the one the paper attacks and trains adversarially.

    .. math:: z = V\, h_L(\ldots h_1(x)), \qquad h_l \text{ a maxout layer, dropout before each and before } V

    Args:
        in_features: Size of a flattened example.
        classes: Logits.
        hidden: Units of each hidden layer; (240, 240) for MNIST, (1600, 1600) for the larger network of section 6.
        pieces: Linear functions a unit.
        input_dropout: Share of inputs dropped while training.
        hidden_dropout: Share of units dropped while training.
        init_range: All weights from U(-init_range, init_range), biases 0; None for torch's initialisation, which is
            what few epochs want.

    Shape:
        Input (batch, \*), flattened to (batch, in_features); output (batch, classes).

    Raises:
        ValueError: A size that is not positive.

    Differences from the paper:
        none; train it with :func:`max_col_norm_` after each step (1.9365) as the recipe does.

    Example:
        >>> import torch
        >>> maxout_network(64, 10, hidden=(16,), pieces=2)(torch.zeros(3, 8, 8)).shape
        torch.Size([3, 10])
    """
    if classes < 1:
        raise ValueError(f"maxout_network: classes must be at least 1, got {classes}")
    layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(input_dropout)]
    size = in_features
    for units in hidden:
        layers += [Maxout(size, units, pieces, init_range=init_range), nn.Dropout(hidden_dropout)]
        size = units
    top = nn.Linear(size, classes)
    if init_range is not None:
        _reset("maxout_network", top.weight, top.bias, init_range)
    return nn.Sequential(*layers, top)


def _reset(name: str, weight: Tensor, bias: Tensor | None, init_range: float | None) -> None:
    if init_range is not None and not init_range > 0:
        raise ValueError(f"{name}: init_range must be > 0, got {init_range}")
    default = 1 / math.sqrt(weight[0].numel())  # as nn.Linear and nn.Conv2d
    nn.init.uniform_(weight, -(init_range or default), init_range or default)
    if bias is not None:
        if init_range is None:
            nn.init.uniform_(bias, -default, default)
        else:
            nn.init.zeros_(bias)
