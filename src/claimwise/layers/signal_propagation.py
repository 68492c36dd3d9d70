r"""Will this net train? The scale of signals and gradients, layer by layer, before the first step.

K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers*, ICCV 2015, section 2.2, equations 6 to 16,
https://arxiv.org/abs/1502.01852; for activations that are no rectifiers the same recursion with Gaussian averages: B.
Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli, *Exponential expressivity in deep neural networks through
transient chaos*, NIPS 2016, equation 3, https://arxiv.org/abs/1606.05340.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from claimwise.layers.prelu import PReLU
from claimwise.layers.rectifier_initialisation import WEIGHTED, Scheme, initial_std
from claimwise.layers.rectifier_initialisation import Mode as Fan
from claimwise.undisturbed import Mode, undisturbed

Activation = Literal["relu", "leaky", "prelu", "linear", "tanh", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Verdict = Literal["trains", "vanishes", "explodes"]

TOLERANCE = 4096.0
"""Change of scale from end to end beyond which a net is said not to train.

It lies between the paper's cases: Xavier's 22 layers, which change the scale by 1,400, converge; its 30 (23,000) do
not, and 17,000 is the figure that the paper gives for what vanishes."""


@dataclass(frozen=True)
class SignalScales:
    """Scales of the outputs of weight layers (before their activation), and of the gradients there."""

    names: tuple[str, ...]
    """Layers in the order in which they run."""
    activation_std: tuple[float, ...]
    """Root mean square over examples, units and positions: the deviation from 0, which is the mean over weights."""
    gradient_std: tuple[float, ...]
    """The same of the gradient with respect to these outputs. NaN, here as above, where it is not known."""
    tolerance: float = TOLERANCE
    """Change of scale from end to end up to which the verdict is ``"trains"``."""

    @property
    def activation_slope(self) -> float:
        """log2 of the variance, per layer: 0 where the scale is kept, -1 where each layer halves the variance."""
        return _slope(self.activation_std)

    @property
    def gradient_slope(self) -> float:
        """log2 of the gradient's variance, per layer *backwards*: -1 where each layer on the way back halves it."""
        return _slope(self.gradient_std[::-1])

    @property
    def verdict(self) -> Verdict:
        """Whether both scales stay within ``tolerance`` from end to end, else which way the first one leaves it."""
        for scales in (self.activation_std, self.gradient_std[::-1]):
            known = [s for s in scales if not math.isnan(s)]
            if not known:
                continue
            if math.isinf(max(known)) or (known[0] > 0 and known[-1] > self.tolerance * known[0]):
                return "explodes"
            if known[-1] * self.tolerance < known[0] or known[0] == 0:
                return "vanishes"
        return "trains"


def _slope(stds: Sequence[float]) -> float:
    """Least-squares slope of log2 of the variance; NaN from fewer than two layers, minus infinity from a dead one."""
    values = np.array(stds, dtype=np.float64)
    at = np.flatnonzero(~np.isnan(values))
    if len(at) < 2:
        return math.nan
    values = values[at]
    if (values == 0).any():
        return -math.inf
    if np.isinf(values).any():
        return math.inf
    return float(np.polyfit(at, 2 * np.log2(values), 1)[0])


@dataclass(frozen=True)
class SignalPropagation:
    """What theory predicts of a model's scales and what was measured."""

    measured: SignalScales
    predicted: SignalScales
    """In expectation over weights with the mean squares that the model has; NaN where no theory reaches."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.measured.names

    @property
    def verdict(self) -> Verdict:
        return self.measured.verdict


# Averages over a normal variable -------------------------------------------------------------------------------------

_Z = torch.linspace(-9, 9, 361, dtype=torch.float64)
_WEIGHT = torch.exp(-_Z.square() / 2) / torch.exp(-_Z.square() / 2).sum()

SMOOTH = (
    nn.Tanh,
    nn.Sigmoid,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.LogSigmoid,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
)
"""Activations whose averages are taken numerically, on 361 points of the normal density."""


def _averages(activation: Callable[[Tensor], Tensor], q: Tensor) -> tuple[Tensor, Tensor]:
    r"""E[f(\sqrt q z)^2] and E[f'(\sqrt q z)^2] over a standard normal z, for every entry of q."""
    q = q.contiguous()
    values, slopes = torch.empty_like(q), torch.empty_like(q)
    chunks = [torch.split(t.view(-1), 4096) for t in (q, values, slopes)]
    for part, of_values, of_slopes in zip(*chunks, strict=True):
        with torch.enable_grad():
            y = (part.sqrt()[:, None] * _Z).requires_grad_()
            f = activation(y)
            (derivative,) = torch.autograd.grad(f.sum(), y)
        of_values.copy_(f.detach().square() @ _WEIGHT)
        of_slopes.copy_(derivative.square() @ _WEIGHT)
    return values, slopes


def _slope_square(module: nn.Module) -> float | None:
    """Mean square of a rectifier's slopes for negative inputs; None for what is none."""
    if isinstance(module, nn.ReLU):
        return 0.0
    if isinstance(module, nn.LeakyReLU):
        return float(module.negative_slope) ** 2
    if isinstance(module, PReLU | nn.PReLU):
        return float(module.weight.detach().double().square().mean())
    return None


# Prediction along a chain --------------------------------------------------------------------------------------------
#
# Mean squares are kept as a map over positions, so that zeros around an image are accounted for: a convolution of
# independent weights makes of the mean squares m the mean squares (c / g) E[w^2] (box * m), with box a kernel of ones,
# and going back the transposed box does the same to the gradient's.


_Moments = tuple[Tensor, bool]
"""Mean squares by position, the mean over examples and channels, and whether the variable is normal."""


def _moments(x: Tensor) -> _Moments | None:
    """Measured; None for what is no batch of real channels."""
    if not x.is_floating_point() or x.ndim < 2 or x.numel() == 0:
        return None
    return x.detach().double().square().mean((0, 1)).cpu(), False


def _mean_square(layer: nn.Module, name: str) -> float:
    parameter = getattr(layer, name)
    return 0.0 if parameter is None else float(parameter.detach().double().square().mean())


def _box(layer: Any, by_position: Tensor) -> Tensor:
    """The layer's kernel, with ones in the place of weights, over a map of positions."""
    axes = len(layer.kernel_size)
    padding: Any = layer.padding
    x = by_position[None, None]
    ones = torch.ones(1, 1, *layer.kernel_size, dtype=x.dtype, device=x.device)
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        # arguments: stride, padding, output_padding, groups, dilation
        return transposed(x, ones, None, layer.stride, padding, layer.output_padding, 1, layer.dilation)[0, 0]
    convolution = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    if layer.padding_mode == "zeros":
        return convolution(x, ones, None, layer.stride, padding, layer.dilation)[0, 0]
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    return convolution(padded, ones, None, layer.stride, 0, layer.dilation)[0, 0]


@dataclass
class _Call:
    """One call of a module without children."""

    name: str
    module: nn.Module
    before: _Moments | None
    """Mean squares of its input, predicted where a chain leads here, else measured."""
    linked: bool
    """Whether the input is what the call before put out."""
    node: Any = None
    """What computes its output, in the graph that the gradient runs back through."""
    after: _Moments | None = None
    std: float = math.nan
    gradient: Tensor | None = None
    """Measured mean squares of the gradient with respect to its output, by position."""
    shape: torch.Size = field(default_factory=torch.Size)

    def forward(self) -> _Moments | None:
        """Mean squares of the output from those of the input; None where no theory is known."""
        if self.before is None or len(self.shape) < 2:
            return None
        m, normal = self.before
        if isinstance(self.module, nn.Linear):
            q = self.module.in_features * _mean_square(self.module, "weight") * m.mean()
            return (q + _mean_square(self.module, "bias")).expand(self.shape[2:]), True
        if isinstance(self.module, WEIGHTED):
            layer: Any = self.module
            if m.ndim != len(layer.kernel_size):
                return None
            share = layer.in_channels // layer.groups * _mean_square(layer, "weight")
            return share * _box(layer, m) + _mean_square(layer, "bias"), True
        if (square := _slope_square(self.module)) is not None:
            return ((1 + square) / 2 * m, False) if normal else None
        if isinstance(self.module, SMOOTH):
            return (_averages(self._activation, m)[0], False) if normal else None
        if self._passes:
            return self.before
        if isinstance(self.module, nn.Flatten):
            return (m.mean(), normal) if len(self.shape) == 2 else None
        return None

    def backward(self, g: Tensor) -> Tensor | None:
        """Mean squares of the gradient of the input from those of the output's; None where no theory is known."""
        if self.before is None or self.after is None:
            return None
        m, normal = self.before
        if isinstance(self.module, nn.Linear):
            return (self.module.out_features * _mean_square(self.module, "weight") * g.mean()).expand(m.shape)
        if isinstance(self.module, WEIGHTED):
            layer: Any = self.module
            with torch.enable_grad():
                start = torch.zeros_like(m).requires_grad_()
                (back,) = torch.autograd.grad(_box(layer, start), start, g.expand(self.after[0].shape))
            return layer.out_channels // layer.groups * _mean_square(layer, "weight") * back
        if (square := _slope_square(self.module)) is not None:
            return (1 + square) / 2 * g if normal else None
        if isinstance(self.module, SMOOTH):
            return _averages(self._activation, m)[1] * g if normal else None
        if self._passes:
            return g
        return g.mean().expand(m.shape) if isinstance(self.module, nn.Flatten) else None

    def _activation(self, y: Tensor) -> Tensor:
        fresh = y.clone()  # the module may work in place
        return self.module.forward(fresh)

    @property
    def _passes(self) -> bool:
        dropout = isinstance(self.module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d)
        return isinstance(self.module, nn.Identity) or (dropout and not self.module.training)


def _has_weights(module: nn.Module) -> bool:
    return any(p.ndim >= 2 for p in module.parameters(recurse=False))


# The two questions ---------------------------------------------------------------------------------------------------


def signal_propagation(
    model: nn.Module,
    x: Tensor,
    *,
    objective: Callable[[Any], Tensor] | None = None,
    generator: torch.Generator | None = None,
    mode: Mode = "eval",
    tolerance: float = TOLERANCE,
) -> SignalPropagation:
    r"""Measure the scale of signals and gradients at every weight layer of a model, and predict it where theory can.

    .. math::
        E[y_l^2] = n_l E[w_l^2] E[x_l^2] + E[b_l^2], \qquad E[x_{l+1}^2] = E[f(y_l)^2] = \tfrac12 (1 + a^2) E[y_l^2]
        \\
        E[\Delta y_l^2] = E[f'(y_l)^2]\, \hat n_{l+1} E[w_{l+1}^2]\, E[\Delta y_{l+1}^2], \qquad
        E[f'^2] = \tfrac12 (1 + a^2)

    with :math:`x_l, y_l` the input and output of weight layer l, :math:`\Delta` gradients, n and :math:`\hat n` the
    fans in and out, counted position by position so that padding is accounted for, and a the slope of a rectifier
    (0, a leaky one's, PReLU's); for tanh, sigmoid and other smooth f the averages are taken over a normal y_l.

    The prediction runs along chains: modules each of which takes what the one before put out. Where the chain breaks
    (pooling, normalisation, a sum of branches, a function between modules) it goes on from what is measured there;
    where the gradient arrives from more than one place, its scale at a layer just before is not predicted (NaN).

    Args:
        model: Any module of one input; run once forwards and once backwards, left as it was.
        x: A batch, best from the data as they will be trained on.
        objective: Scalar from the model's output. By default its product with standard normal numbers, so that the
            gradient starts with scale 1.
        generator: Source of these numbers, on the CPU; torch's global one by default.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.
        tolerance: For the verdict.

    Shape:
        x: what the model takes. Result: one entry a call of a module with weights (a parameter of at least two axes)
        and without children; a call after the first has ``" (2)"`` behind its name.

    Raises:
        TypeError: ``model`` no module, ``x`` no tensor, an output of several tensors without ``objective``.
        ValueError: ``x`` empty or not finite; no layer with weights ran; an objective that is not a scalar with a
            gradient; a tolerance that is not above 1.

    Differences from the paper:
        The paper predicts variances of the initialisation; this predicts from the weights at hand, which may have been
        trained (then they are no longer independent, and measured and predicted part).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> layers = [layer for _ in range(20) for layer in (nn.Linear(100, 100), nn.ReLU())]
        >>> model = nn.Sequential(*layers)  # torch's default weights have a variance of 1 / (3 n)
        >>> found = signal_propagation(model, torch.randn(64, 100, generator=torch.Generator().manual_seed(0)))
        >>> round(found.measured.gradient_slope), found.verdict
        (-3, 'vanishes')
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"signal_propagation: model must be an nn.Module, got {type(model).__name__}")
    if not isinstance(x, Tensor):
        raise TypeError(f"signal_propagation: x must be a tensor, got {type(x).__name__}")
    if x.numel() == 0 or not bool(torch.isfinite(x).all()):
        raise ValueError(f"signal_propagation: x must be finite and not empty, got shape {tuple(x.shape)}")
    _check_tolerance("signal_propagation", tolerance)

    calls: list[_Call] = []
    current: list[Tensor | None] = [None]
    times: dict[str, int] = {}

    def before(name: str, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        given = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        linked = given is not None and given is current[0]
        if linked:
            moments = calls[-1].after
        else:
            moments = None if given is None else _moments(given)
        times[name] = times.get(name, 0) + 1
        shown = name or type(module).__name__
        calls.append(_Call(shown if times[name] == 1 else f"{shown} ({times[name]})", module, moments, linked))

    def after(module: nn.Module, output: Any) -> None:
        call = calls[-1]
        if isinstance(output, tuple) and output:
            output = output[0]  # a recurrent layer's sequence
        current[0] = output if isinstance(output, Tensor) else None
        if current[0] is None or not output.is_floating_point():
            return
        call.shape = output.shape
        call.std = float(output.detach().double().square().mean().sqrt())
        call.after = call.forward()
        if call.after is None:
            call.after = _moments(output)
        if not output.requires_grad:
            return
        call.node = output.grad_fn

        def keep(gradient: Tensor) -> None:
            call.gradient = gradient.detach().double().square().mean((0, 1) if gradient.ndim > 1 else None).cpu()

        handles.append(output.register_hook(keep))  # kept, it would keep its node alive, which keeps it

    leaves = {name: module for name, module in model.named_modules() if not any(module.children())}
    handles: list[RemovableHandle] = []
    try:
        for name, module in leaves.items():
            handles.append(module.register_forward_pre_hook(lambda m, a, name=name: before(name, m, a)))
            handles.append(module.register_forward_hook(lambda m, a, output: after(m, output)))
        with undisturbed(model, mode), torch.enable_grad():
            start = x.detach()
            if x.is_floating_point():
                start.requires_grad_()
            output = model(start.clone())  # a copy: the first layer may work in place
            if objective is not None:
                loss = objective(output)
            elif isinstance(output, Tensor):
                draws = torch.randn(output.shape, generator=generator, dtype=torch.float64)
                loss = (output * draws.to(output)).sum()
            else:
                raise TypeError(
                    f"signal_propagation: the model put out {type(output).__name__}; give objective=, a scalar of it"
                )
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise ValueError("signal_propagation: objective must give a scalar tensor with a gradient")
            wanted = [start] if start.requires_grad else [p for p in model.parameters() if p.requires_grad]
            if not any(_has_weights(call.module) for call in calls):
                raise ValueError(f"signal_propagation: no layer with weights ran in {type(model).__name__}")
            branches = _references(loss.grad_fn)
            torch.autograd.grad(loss.sum(), wanted, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()

    gradients = _predicted_gradients(calls, branches)
    shown = [k for k, call in enumerate(calls) if _has_weights(call.module) and len(call.shape)]
    names = tuple(calls[k].name for k in shown)
    measured = SignalScales(
        names, tuple(calls[k].std for k in shown), tuple(_root(calls[k].gradient) for k in shown), tolerance
    )
    predicted = SignalScales(
        names,
        tuple(_root(known[0]) if (known := calls[k].forward()) is not None else math.nan for k in shown),
        tuple(_root(gradients[k]) for k in shown),
        tolerance,
    )
    return SignalPropagation(measured, predicted)


def _root(by_position: Tensor | None) -> float:
    return math.nan if by_position is None else math.sqrt(float(by_position.mean()))


def _references(node: Any) -> dict[Any, int]:
    """How often each node of a graph is asked for, from the loss down."""
    counts, waiting, seen = {node: 1}, [node], {node}
    while waiting:
        for following, _ in waiting.pop().next_functions:
            if following is None:
                continue
            counts[following] = counts.get(following, 0) + 1
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return counts


def _predicted_gradients(calls: list[Any], branches: dict[Any, int]) -> list[Tensor | None]:
    """Mean squares of gradients at each call's output, carried back along the chain from where it ends."""
    predicted: list[Tensor | None] = [None] * len(calls)
    carried: Tensor | None = None
    last = max((k for k, call in enumerate(calls) if call.gradient is not None), default=-1)
    for k in range(len(calls) - 1, -1, -1):
        call = calls[k]
        alone = branches.get(call.node) == 1
        if k < len(calls) - 1 and calls[k + 1].linked and alone and carried is not None:
            predicted[k] = carried
        elif k == last:
            predicted[k] = call.gradient  # where it starts
        known = predicted[k] if predicted[k] is not None else call.gradient
        carried = None if known is None else call.backward(known)
    return predicted


def _check_tolerance(name: str, tolerance: float) -> None:
    if not (math.isfinite(tolerance) and tolerance > 1):
        raise ValueError(f"{name}: tolerance must be a finite factor above 1, got {tolerance}")


def will_it_train(
    depth: int | None = None,
    *,
    initialisation: Scheme = "he",
    activation: Activation = "relu",
    width: int | Sequence[int] = 64,
    kernel: int = 1,
    slope: float = 0.25,
    mode: Fan = "fan-in",
    std: float = 0.01,
    input_std: float = 1.0,
    tolerance: float = TOLERANCE,
) -> SignalScales:
    r"""Will a plain net of this depth, initialisation and activation train? Its scales by theory, without a net.

    .. math::
        E[y_l^2] = n_l \sigma_l^2\, E[f(y_{l-1})^2], \quad n_l = k^2 c_l, \qquad
        E[\Delta y_l^2] = E[f'(y_l)^2]\, \hat n_{l+1} \sigma_{l+1}^2\, E[\Delta y_{l+1}^2], \quad \hat n_l = k^2 d_l

    with c and d the channels into and out of a layer, and :math:`\sigma` its weights' deviation. For rectifiers both
    averages are (1 + a^2) / 2 of what comes in.

    Args:
        depth: Weight layers; may be left out where ``width`` lists them.
        initialisation: ``"he"``, ``"xavier"`` (1 / fan-in), ``"glorot"`` or ``"constant"``.
        activation: ``"relu"``, ``"leaky"`` and ``"prelu"`` (both with ``slope``, which is then also He's a),
            ``"linear"``, ``"tanh"`` or ``"sigmoid"``.
        width: Units or channels of every layer; or a sequence: of the input, then of each layer.
        kernel: Side of square kernels; 1 for fully connected layers.
        slope: a of ``"leaky"`` and ``"prelu"``.
        mode: Which fan ``"he"`` and ``"xavier"`` take.
        std: Of ``"constant"``.
        input_std: Root mean square of the input.
        tolerance: For the verdict.

    Shape:
        A result of ``depth`` layers, named ``"1"``, ``"2"``, ...; the gradient has scale 1 at the last one.

    Raises:
        ValueError: an unknown word, a size below 1, a sequence of another length than depth + 1, numbers that are not
            finite or not positive.

    Differences from the paper:
        none for rectifiers. Zeros around an image are not counted off: :func:`signal_propagation` does that.

    Example:
        >>> he, xavier = (will_it_train(30, initialisation=scheme) for scheme in ("he", "xavier"))
        >>> he.verdict, xavier.verdict, f"{xavier.gradient_std[0]:.1e}"
        ('trains', 'vanishes', '4.3e-05')
        >>> channels = (3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512)  # VGG-B's ten convolutions
        >>> round(1 / will_it_train(width=channels, kernel=3, initialisation="constant").gradient_std[0], -3)
        17000.0
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"will_it_train: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    _check_tolerance("will_it_train", tolerance)
    if isinstance(width, int):
        if depth is None:
            raise ValueError("will_it_train: give depth, or width as a sequence of sizes")
        if depth < 1:
            raise ValueError(f"will_it_train: depth must be at least 1, got {depth}")
        widths = [width] * (depth + 1)
    else:
        widths = list(width)
        if len(widths) < 2 or depth not in (None, len(widths) - 1):
            raise ValueError(
                f"will_it_train: width must list the input and each layer, depth + 1 sizes, got {len(widths)} for "
                f"depth {depth}"
            )
    if min(widths) < 1 or kernel < 1:
        raise ValueError(f"will_it_train: width and kernel must be at least 1, got {width} and {kernel}")
    if not (math.isfinite(input_std) and input_std > 0):
        raise ValueError(f"will_it_train: input_std must be > 0 and finite, got {input_std}")
    if not math.isfinite(slope):
        raise ValueError(f"will_it_train: slope must be finite, got {slope}")
    a = {"relu": 0.0, "linear": 1.0}.get(activation, slope)
    smooth = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}.get(activation)
    area = kernel**2
    squares = [
        initial_std(area * c, area * d, initialisation, slope=a if smooth is None else 0.0, mode=mode, std=std) ** 2
        for c, d in pairwise(widths)
    ]
    x = input_std**2
    signals, slopes = [], []
    for c, square in zip(widths, squares, strict=False):
        q = area * c * square * x
        signals.append(math.sqrt(q))
        if smooth is None:
            x, of_slope = (1 + a**2) / 2 * q, (1 + a**2) / 2
        else:
            x, of_slope = (float(v) for v in _averages(smooth, torch.tensor([q], dtype=torch.float64)))
        slopes.append(of_slope)
    gradients = [1.0]
    for k in range(len(squares) - 2, -1, -1):
        gradients.append(gradients[-1] * math.sqrt(slopes[k] * area * widths[k + 2] * squares[k + 1]))
    names = tuple(str(k + 1) for k in range(len(squares)))
    return SignalScales(names, tuple(signals), tuple(reversed(gradients)), tolerance)
