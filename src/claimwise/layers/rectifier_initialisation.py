r"""Initial weights that keep the scale of signals: He's for rectifiers of any slope, beside Xavier's and Glorot's.

K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers*, ICCV 2015, section 2.2, equations 6 to 16,
https://arxiv.org/abs/1502.01852. X. Glorot and Y. Bengio, *Understanding the difficulty of training deep feedforward
neural networks*, AISTATS 2010, equations 10, 11 and 16.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import nn

Scheme = Literal["he", "xavier", "glorot", "constant"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
Mode = Literal["fan-in", "fan-out"]
MODES: tuple[Mode, ...] = get_args(Mode)
Distribution = Literal["normal", "uniform"]
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
"""Layers whose weights are drawn."""


class Fans(NamedTuple):
    """Connections of a unit: how many come in, and how many go out."""

    fan_in: float
    fan_out: float


def fans(layer: nn.Module) -> Fans:
    r"""Connections into a unit of a layer's output and out of a unit of its input, the mean over units.

    .. math::
        n = \frac{k^2 c}{g}, \quad \hat n = \frac{k^2 d}{g s^2} \quad \text{(convolution)}, \qquad
        n = \frac{k^2 c}{g s^2}, \quad \hat n = \frac{k^2 d}{g} \quad \text{(transposed convolution)}

    with c and d the channels of input and output, :math:`k^2` the entries of a kernel, g the groups and :math:`s^2` the
    product of the strides; c and d themselves for a linear layer.

    Args:
        layer: ``nn.Linear``, a convolution or a transposed convolution of 1 to 3 axes.

    Shape:
        Two numbers.

    Raises:
        TypeError: another kind of layer.

    Differences from the paper:
        The paper counts :math:`\hat n = k^2 d` and has no strides in its derivation. Where a kernel moves by s, only
        one in :math:`s^2` of its entries meets a given unit of the larger side; with stride 1 the counts are the
        paper's. Zeros around an image are not counted off.

    Example:
        >>> from torch import nn
        >>> fans(nn.Conv2d(64, 128, 3)), fans(nn.ConvTranspose2d(64, 32, 4, stride=2))
        (Fans(fan_in=576, fan_out=1152), Fans(fan_in=256, fan_out=512))
    """
    if isinstance(layer, nn.Linear):
        return Fans(layer.in_features, layer.out_features)
    if not isinstance(layer, _CONVOLUTIONS + _TRANSPOSED):
        raise TypeError(f"fans: layer must be nn.Linear or a convolution, got {type(layer).__name__}")
    area = math.prod(layer.kernel_size)
    skipped = math.prod(layer.stride)
    fan_in, fan_out = area * layer.in_channels // layer.groups, area * layer.out_channels // layer.groups
    if isinstance(layer, _TRANSPOSED):
        return Fans(_whole(fan_in / skipped), fan_out)
    return Fans(fan_in, _whole(fan_out / skipped))


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def rectifier_gain(slope: float = 0.0) -> float:
    r"""By how much weights must be larger because rectifiers halve a signal.

    .. math:: g = \sqrt{\frac{2}{1 + a^2}}

    with a the slope for negative inputs: 0 is ReLU, 1 is no rectifier.

    Args:
        slope: a.

    Shape:
        A number.

    Raises:
        ValueError: a slope that is not finite.

    Differences from the paper:
        none (equation 15).

    Example:
        >>> rectifier_gain() ** 2, rectifier_gain(1.0), round(rectifier_gain(0.25) ** 2, 4)
        (2.0000000000000004, 1.0, 1.8824)
    """
    if not math.isfinite(slope):
        raise ValueError(f"rectifier_gain: slope must be finite, got {slope}")
    return math.sqrt(2 / (1 + slope**2))


def initial_std(
    fan_in: float,
    fan_out: float,
    scheme: Scheme = "he",
    *,
    slope: float = 0.0,
    mode: Mode = "fan-in",
    std: float = 0.01,
) -> float:
    r"""Standard deviation that a scheme gives to a layer's weights.

    ==============  =====================================================================================
    ``"he"``        :math:`\sqrt{2 / ((1 + a^2)\, n)}`, n the fan-in, or the fan-out by ``mode``
    ``"xavier"``    :math:`\sqrt{1 / n}`: what He et al. and Caffe call Xavier's
    ``"glorot"``    :math:`\sqrt{2 / (n_{in} + n_{out})}`: Glorot and Bengio's normalised initialisation
    ``"constant"``  ``std``, whatever the layer
    ==============  =====================================================================================

    Args:
        fan_in: Connections into a unit of the output.
        fan_out: Connections out of a unit of the input.
        scheme: A name of :data:`SCHEMES`.
        slope: a, the rectifiers' slope for negative inputs, at the start; ``"he"`` only.
        mode: Which fan ``"he"`` and ``"xavier"`` take.
        std: Of ``"constant"``.

    Shape:
        A number.

    Raises:
        ValueError: an unknown scheme or mode; a fan below or equal to 0; ``slope`` not finite; ``std`` negative or not
            finite.

    Differences from the paper:
        none.

    Example:
        >>> [round(initial_std(9 * c, 9 * c), 3) for c in (64, 128, 256, 512)]
        [0.059, 0.042, 0.029, 0.021]
    """
    for what, value, known in (("scheme", scheme, SCHEMES), ("mode", mode, MODES)):
        if value not in known:
            raise ValueError(f"initial_std: {what} must be one of {', '.join(known)}, got {value!r}")
    if not (fan_in > 0 and fan_out > 0):
        raise ValueError(f"initial_std: fans must be > 0, got {fan_in} and {fan_out}")
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"initial_std: std must be >= 0 and finite, got {std}")
    gain = rectifier_gain(slope)
    fan = fan_in if mode == "fan-in" else fan_out
    return {
        "he": gain / math.sqrt(fan),
        "xavier": 1 / math.sqrt(fan),
        "glorot": math.sqrt(2 / (fan_in + fan_out)),
        "constant": std,
    }[scheme]


@torch.no_grad()
def initialise_weights(
    model: nn.Module,
    scheme: Scheme = "he",
    *,
    slope: float = 0.0,
    mode: Mode = "fan-in",
    std: float = 0.01,
    distribution: Distribution = "normal",
    generator: torch.Generator | None = None,
) -> None:
    r"""Draws every weight of linear layers and convolutions anew and sets their biases to 0.

    .. math::
        w \sim N(0, \sigma^2) \quad \text{or} \quad U(-\sqrt 3 \sigma, \sqrt 3 \sigma), \qquad
        \tfrac12 (1 + a^2)\, n \sigma^2 = 1 \ \text{for "he"}

    with :math:`\sigma` by :func:`initial_std` and the fans by :func:`fans`. The same draws as
    :func:`claimwise.vision.initialise` makes for ``"he"`` and, uniform, for ``"glorot"`` where strides are 1.

    Args:
        model: The network; changed in place. Other layers are left alone.
        scheme: ``"he"``, ``"xavier"`` (1 / fan-in), ``"glorot"`` (2 / (fan-in + fan-out)) or ``"constant"``.
        slope: a at the start: 0 for ReLU, .25 for PReLU as the paper starts it, 1 for a network without rectifiers.
        mode: ``"fan-in"`` keeps the signal's scale, ``"fan-out"`` the gradient's; either will do.
        std: Of ``"constant"``.
        distribution: ``"normal"`` or ``"uniform"``.
        generator: Source of the draws, on the model's device; torch's global one by default.

    Shape:
        None.

    Raises:
        ValueError: as :func:`initial_std`; an unknown distribution; a model without a layer to initialise.
        TypeError: a layer whose size is not known yet (a lazy one).

    Differences from the paper:
        The first layer has the factor 1/2 as all others; the paper says that n Var = 1 would be right there and that
        it does not matter. So has the last.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU())
        >>> initialise_weights(model, generator=torch.Generator().manual_seed(0))
        >>> round(model[0].weight.std().item(), 3)
        0.059
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(
            f"initialise_weights: distribution must be one of {', '.join(DISTRIBUTIONS)}, got {distribution!r}"
        )
    layers = [layer for layer in model.modules() if isinstance(layer, WEIGHTED)]
    if not layers:
        raise ValueError(f"initialise_weights: {type(model).__name__} has neither a linear layer nor a convolution")
    for layer in layers:
        if isinstance(layer.weight, nn.parameter.UninitializedParameter):
            raise TypeError(f"initialise_weights: {type(layer).__name__} has no size yet; run the model once before")
        deviation = initial_std(*fans(layer), scheme, slope=slope, mode=mode, std=std)
        if distribution == "normal":
            layer.weight.normal_(0.0, deviation, generator=generator)
        else:
            bound = math.sqrt(3) * deviation
            layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
