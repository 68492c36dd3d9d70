"""Highway layers: gates that decide, unit by unit and example by example, how much to transform and how much to carry.

R. K. Srivastava, K. Greff, J. Schmidhuber, *Training Very Deep Networks*, NIPS 2015, equations 1 to 6,
https://arxiv.org/abs/1507.06228; first as *Highway Networks*, https://arxiv.org/abs/1505.00387.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from claimwise.undisturbed import undisturbed

Activation = Literal["relu", "tanh"]
Carry = Literal["coupled", "free"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


class HighwayModule(nn.Module):
    """What holds one or more highway layers: they can be read and lesioned. The classes below are it; subclass for own.

    A subclass sets ``depth`` (its layers), heeds ``lesions`` in ``forward``, and tells in ``trace`` what its layers do.
    """

    depth: int = 1
    lesions: tuple[int, ...] = ()
    """Layers of this module, from 0, whose transform gate is held shut; set by :func:`lesioned`, not in state dicts."""

    def trace(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gates and outputs of every layer for the module's input."""
        raise NotImplementedError


def check_gate_bias(name: str, gate_bias: float) -> None:
    if not math.isfinite(gate_bias):
        raise ValueError(f"{name}: gate_bias must be finite, got {gate_bias}; the paper starts between -1 and -10")


def check_choice(name: str, what: str, value: str, known: Iterable[str]) -> None:
    if value not in (names := tuple(known)):
        raise ValueError(f"{name}: {what} must be one of {', '.join(names)}, got {value!r}")


def carried(name: str, what: str, size: int, shape: tuple[int, ...]) -> ValueError:
    """The error for an input that a highway layer cannot carry."""
    plain = "nn.Conv2d" if what == "channels" else "nn.Linear"
    return ValueError(
        f"{name}: input must have {size} {what}, got shape {shape}; a highway layer carries its input through, so "
        f"input and output have one size. Change the size before it with a plain layer ({plain}), zero-padding (F.pad) "
        "or sub-sampling"
    )


def transport(x: Tensor, h: Tensor, t: Tensor) -> Tensor:
    """x + T (H - x), in one pass with a backward of its own; carried at x's precision, also under autocast."""
    return torch.lerp(x, h.to(x.dtype), t.to(x.dtype))


@torch.no_grad()
def initialise(
    weight: Tensor, bias: Tensor, activation: str, gate_biases: tuple[float, ...], generator: torch.Generator | None
) -> None:
    """Fill one layer's fused parameters: transform first (He for rectifiers, Glorot for tanh), then the gates."""
    size = len(weight) // (1 + len(gate_biases))
    for part in range(1 + len(gate_biases)):
        rows, offsets = (tensor[part * size : (part + 1) * size] for tensor in (weight, bias))
        if part == 0 and activation == "relu":
            nn.init.kaiming_normal_(rows, nonlinearity="relu", generator=generator)
        else:
            nn.init.xavier_normal_(rows, generator=generator)
        offsets.fill_(0.0 if part == 0 else gate_biases[part - 1])


class _Fused(HighwayModule):
    """A highway layer whose transform and gates are one affine map: one product instead of two or three."""

    activation: str
    carry: str

    def _affine(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    _parts: int
    """Dimension over which the affine map's output falls into transform, transform gate and carry gate."""

    def _start(self, gate_bias: float, activation: str, carry: str, carry_bias: float | None) -> tuple[float, ...]:
        name = type(self).__name__
        check_gate_bias(name, gate_bias)
        check_choice(name, "activation", activation, ACTIVATIONS)
        check_choice(name, "carry", carry, ("coupled", "free"))
        if carry == "coupled" and carry_bias is not None:
            raise ValueError(f"{name}: a coupled carry gate has no bias, got {carry_bias}; use carry='free'")
        self.activation, self.carry = activation, carry
        if carry == "coupled":
            return (gate_bias,)
        carry_bias = -gate_bias if carry_bias is None else carry_bias  # starts as 1 - T
        check_gate_bias(name, carry_bias)
        return gate_bias, carry_bias

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return self._affine(x).chunk(2 if self.carry == "coupled" else 3, self._parts)

    def forward(self, x: Tensor) -> Tensor:
        if self.lesions and self.carry == "coupled":
            return x
        h, t, *c = self._split(x)
        if self.lesions:
            return x * c[0].sigmoid()
        h, t = ACTIVATIONS[self.activation](h), t.sigmoid()
        return h * t + x * c[0].sigmoid() if c else transport(x, h, t)

    def trace(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        t = self._split(x)[1].sigmoid()
        return [torch.zeros_like(t) if self.lesions else t], [self.forward(x)]


class HighwayLinear(_Fused):
    r"""A fully connected highway layer.

    .. math::
        y = H(x) \odot T(x) + x \odot C(x), \quad H = f(W_H x + b_H), \quad T = \sigma(W_T x + b_T), \quad
        C = 1 - T \ \text{or}\ \sigma(W_C x + b_C)

    with :math:`f` the activation, :math:`T` the transform gate and :math:`C` the carry gate. Where T = 0 the layer is
    the identity and its Jacobian I; where T = 1 it is the plain layer H. H, T and C come from one matrix product.

    Args:
        features: Size of input and output.
        activation: f, ``"relu"`` or ``"tanh"``.
        gate_bias: Initial value of b_T; negative, so that the layer starts by carrying.
        carry: ``"coupled"``, C = 1 - T (all experiments of the paper), or ``"free"``, a gate of its own.
        carry_bias: Initial value of b_C of a free gate; by default ``-gate_bias``, which makes C = 1 - T for W = 0.
        generator: Source of the initial weights; torch's global one by default.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        (\*, features) -> (\*, features); ``weight`` (2 features, features) and ``bias`` (2 features): H, then T (then
        C: 3 features).

    Raises:
        ValueError: a size below 1, a bias that is not finite, an unknown word; on calling, an input of another size,
            which no highway layer can carry: change it by a plain layer, zero-padding or sub-sampling.

    Differences from the paper:
        Weights of H start by He's normal scheme for rectifiers and by Glorot's for tanh, those of gates by Glorot's;
        the paper names both schemes without saying which serves the gates.

    Example:
        >>> import torch
        >>> layer = HighwayLinear(3, gate_bias=-30.0)  # shut: the input is carried through
        >>> layer(torch.tensor([1.0, -2.0, 3.0])).tolist()
        [1.0, -2.0, 3.0]
    """

    _parts = -1

    def __init__(
        self,
        features: int,
        *,
        activation: Activation = "relu",
        gate_bias: float = -2.0,
        carry: Carry = "coupled",
        carry_bias: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"HighwayLinear: features must be at least 1, got {features}")
        biases = self._start(gate_bias, activation, carry, carry_bias)
        self.features = features
        rows = (1 + len(biases)) * features
        self.weight = nn.Parameter(torch.empty(rows, features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype))
        initialise(self.weight, self.bias, activation, biases, generator)

    def _affine(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.features,):
            raise carried("HighwayLinear", "features", self.features, tuple(x.shape))
        return F.linear(x, self.weight, self.bias)

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        return super().forward(x)

    def extra_repr(self) -> str:
        return f"{self.features}, activation={self.activation!r}, carry={self.carry!r}"


class HighwayConv2d(_Fused):
    r"""A convolutional highway layer: transform and gates are convolutions of one kernel size.

    .. math::
        y = H(x) \odot T(x) + x \odot C(x), \quad H = f(W_H * x + b_H), \quad T = \sigma(W_T * x + b_T)

    with :math:`*` cross-correlation, zero-padded so that maps keep their size, and the rest as in
    :class:`HighwayLinear`. H, T and a free C are one convolution.

    Args:
        channels: Channels of input and output.
        kernel_size: Odd side of the square kernels, the receptive field of transform and gate alike.
        activation: f, ``"relu"`` or ``"tanh"``.
        gate_bias: Initial value of b_T.
        carry: ``"coupled"`` or ``"free"``.
        carry_bias: Initial value of b_C of a free gate; by default ``-gate_bias``.
        generator: Source of the initial weights; torch's global one by default.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        (batch, channels, height, width) -> the same; ``weight`` (2 channels, channels, kernel_size, kernel_size): H,
        then T (then C: 3 channels).

    Raises:
        ValueError: a size below 1, an even kernel, a bias that is not finite, an unknown word; on calling, an input of
            other channels.

    Differences from the paper:
        as :class:`HighwayLinear`.

    Example:
        >>> import torch
        >>> HighwayConv2d(16)(torch.zeros(1, 16, 28, 28)).shape
        torch.Size([1, 16, 28, 28])
    """

    _parts = -3

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        activation: Activation = "relu",
        gate_bias: float = -2.0,
        carry: Carry = "coupled",
        carry_bias: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"HighwayConv2d: channels must be at least 1, got {channels}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"HighwayConv2d: kernel_size must be odd, so that padding keeps the maps' size, got {kernel_size}"
            )
        biases = self._start(gate_bias, activation, carry, carry_bias)
        self.channels, self.kernel_size = channels, kernel_size
        rows = (1 + len(biases)) * channels
        self.weight = nn.Parameter(torch.empty(rows, channels, kernel_size, kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype))
        initialise(self.weight, self.bias, activation, biases, generator)

    def _affine(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise carried("HighwayConv2d", "channels", self.channels, tuple(x.shape))
        return F.conv2d(x, self.weight, self.bias, padding=self.kernel_size // 2)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return super().forward(x)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, activation={self.activation!r}, carry={self.carry!r}"


class Highway(HighwayModule):
    r"""A highway layer around any transform: a block of convolutions, attention, a recurrent step.

    .. math:: y = H(x) \odot \sigma(G_T(x)) + x \odot C(x), \qquad C = 1 - T \ \text{or}\ \sigma(G_C(x))

    with :math:`H` the transform and :math:`G_T, G_C` affine maps to the gates. For H an affine map with an activation
    :class:`HighwayLinear` and :class:`HighwayConv2d` compute the same with one product instead of two.

    Args:
        transform: H, a module that keeps its input's shape, or a function without arguments that makes one.
        gate: G_T, likewise, without the sigmoid; its output has x's shape or broadcasts to it (one gate a channel).
        carry_gate: G_C of a free carry gate, likewise; none for the coupled C = 1 - T.
        gate_bias: Every entry of ``gate.bias`` starts here, and of ``carry_gate.bias`` at its negative; None leaves
            both as they are, which is for gates without such an attribute or already trained.

    Shape:
        (\*) -> (\*), what the transform takes and gives.

    Raises:
        TypeError: ``transform`` or a gate neither a module nor a function that makes one.
        ValueError: a bias that is not finite, a gate without bias to set; on calling, a transform that changes the
            shape or a gate that does not broadcast to it.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from torch import nn
        >>> transform = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> Highway(transform, partial(nn.Linear, 4, 4))(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        transform: nn.Module | Callable[[], nn.Module],
        gate: nn.Module | Callable[[], nn.Module],
        *,
        carry_gate: nn.Module | Callable[[], nn.Module] | None = None,
        gate_bias: float | None = -2.0,
    ) -> None:
        super().__init__()
        self.transform = _made("transform", transform)
        self.gate = _made("gate", gate)
        self.carry_gate = None if carry_gate is None else _made("carry_gate", carry_gate)
        if gate_bias is None:
            return
        check_gate_bias("Highway", gate_bias)
        for name, module, start in (("gate", self.gate, gate_bias), ("carry_gate", self.carry_gate, -gate_bias)):
            if module is None:
                continue
            bias = getattr(module, "bias", None)
            if not isinstance(bias, Tensor):
                raise ValueError(
                    f"Highway: {name} {type(module).__name__} has no bias to start at {start}; give it one, or "
                    "gate_bias=None to leave it as it is"
                )
            nn.init.constant_(bias, start)

    def _gate(self, module: nn.Module, x: Tensor) -> Tensor:
        gate = torch.sigmoid(module(x))
        # What broadcasts to x's shape: no more dimensions, each equal or 1, from the last.
        ends = zip(reversed(gate.shape), reversed(x.shape), strict=False)
        if gate.ndim > x.ndim or any(size not in (1, wanted) for size, wanted in ends):
            raise ValueError(
                f"Highway: a gate of shape {tuple(gate.shape)} does not broadcast to the input's {tuple(x.shape)}"
            )
        return gate

    def forward(self, x: Tensor) -> Tensor:
        if self.lesions:
            return x if self.carry_gate is None else x * self._gate(self.carry_gate, x)
        h = self.transform(x)
        if h.shape != x.shape:
            raise ValueError(
                f"Highway: the transform made {tuple(h.shape)} of {tuple(x.shape)}; a highway layer carries its input "
                "through, so input and output have one shape. Change it before the layer with a plain layer, "
                "zero-padding (F.pad) or sub-sampling"
            )
        t = self._gate(self.gate, x)
        return transport(x, h, t) if self.carry_gate is None else h * t + x * self._gate(self.carry_gate, x)

    def trace(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        t = self._gate(self.gate, x).expand_as(x)
        return [torch.zeros_like(t) if self.lesions else t], [self.forward(x)]


def _made(name: str, given: Any) -> nn.Module:
    if not isinstance(given, nn.Module) and callable(given):
        given = given()
    if not isinstance(given, nn.Module):
        raise TypeError(f"Highway: {name} must be a module or a function that makes one, got {given!r}")
    return given


# Reading and lesioning -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Routing:
    """What :func:`routing` returns: one entry a highway layer, in the order of the model's modules."""

    gates: tuple[Tensor, ...]
    """Transform gates T, (batch, units...)."""
    inputs: tuple[Tensor, ...]
    """What each layer was given."""
    outputs: tuple[Tensor, ...]
    """What it made of it."""


def _layers(name: str, model: nn.Module) -> list[HighwayModule]:
    found = [module for module in model.modules() if isinstance(module, HighwayModule)]
    if not found:
        raise ValueError(f"{name}: {type(model).__name__} has no highway layers; build it of claimwise.layers' ones")
    return found


@torch.no_grad()
def routing(model: nn.Module, x: Float[Tensor, "batch *shape"]) -> Routing:
    r"""What every highway layer of a model does with a batch: gates, inputs and outputs. The model stays as it was.

    .. math:: T_l(x_l), \quad x_l, \quad y_l = x_{l+1} \qquad l = 1 \ldots L

    Args:
        model: Any module with highway layers, each called once in a forward pass; run in eval mode, without gradients.
        x: The model's input.

    Shape:
        x (batch, \*) -> lists of L tensors (batch, \*units of the layer).

    Raises:
        ValueError: no highway layers, or one that was not called exactly once.

    Differences from the paper:
        none. A lesioned layer's gates are 0.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from claimwise.layers import HighwayLinear, routing
        >>> found = routing(nn.Sequential(HighwayLinear(4), HighwayLinear(4)), torch.ones(2, 4))
        >>> len(found.gates), found.outputs[0].equal(found.inputs[1])
        (2, True)
    """
    modules = _layers("routing", model)
    given: dict[HighwayModule, list[Tensor]] = {module: [] for module in modules}

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(module, HighwayModule)
        given[module].append(args[0].detach())

    hooks = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        with undisturbed(model):
            model(x)
            for hook in hooks:
                hook.remove()
            gates: list[Tensor] = []
            inputs: list[Tensor] = []
            outputs: list[Tensor] = []
            for module in modules:
                if len(given[module]) != 1:
                    raise ValueError(
                        f"routing: each highway layer must be called once in a forward pass, got "
                        f"{len(given[module])} calls of {type(module).__name__}; read such layers with their trace()"
                    )
                (start,) = given[module]
                traced, made = module.trace(start)
                gates += traced
                inputs += [start, *made[:-1]]
                outputs += made
    finally:
        for hook in hooks:
            hook.remove()
    return Routing(tuple(gates), tuple(inputs), tuple(outputs))


def gates(model: nn.Module, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "layers batch *units"]:
    r"""The transform gates of all highway layers as one tensor. The model stays as it was.

    .. math:: T_l(x_l) \in (0, 1), \qquad l = 1 \ldots L

    Args:
        model: Any module with highway layers of one width.
        x: The model's input.

    Shape:
        x (batch, \*) -> (layers, batch, \*units).

    Raises:
        ValueError: as :func:`routing`, or layers of different shapes (whose gates :func:`routing` gives one by one).

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from claimwise.layers import HighwayLinear, gates
        >>> model = nn.Sequential(nn.Linear(8, 4), HighwayLinear(4), HighwayLinear(4), nn.Linear(4, 2))
        >>> gates(model, torch.zeros(5, 8)).shape
        torch.Size([2, 5, 4])
    """
    found = routing(model, x).gates
    if len({gate.shape for gate in found}) > 1:
        raise ValueError(
            f"gates: layers have different shapes {sorted({tuple(gate.shape[1:]) for gate in found})}; "
            "use routing(model, x).gates, one tensor a layer"
        )
    return torch.stack(found)


def count_highway_layers(model: nn.Module) -> int:
    r"""How many highway layers a model has: those that :func:`gates` reads and :func:`lesioned` numbers.

    In formulas: L.

    Args:
        model: Any module.

    Shape:
        None.

    Raises:
        Nothing: a model without highway layers has 0.

    Differences from the paper:
        none.

    Example:
        >>> from torch import nn
        >>> from claimwise.layers import HighwayLinear, count_highway_layers
        >>> count_highway_layers(nn.Sequential(nn.Linear(8, 4), HighwayLinear(4), HighwayLinear(4)))
        2
    """
    return sum(module.depth for module in model.modules() if isinstance(module, HighwayModule))


@contextmanager
def lesioned(model: nn.Module, layer: int | Iterable[int]) -> Iterator[None]:
    r"""Hold the transform gate of one or more layers shut for a block of code: T = 0, then as before.

    .. math:: y_l = x_l \odot C_l, \qquad \text{which is } x_l \text{ for coupled gates}

    Args:
        model: Any module with highway layers.
        layer: Which, from 0, in the order of the model's modules; several at once where it is iterable.

    Shape:
        None.

    Raises:
        ValueError: no highway layers, or no layer of that number.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> from claimwise.layers import HighwayLinear, lesioned
        >>> layer, x = HighwayLinear(3), torch.ones(1, 3)
        >>> with lesioned(layer, 0):
        ...     layer(x).equal(x)
        True
        >>> layer(x).equal(x)
        False
    """
    places = [(module, inner) for module in _layers("lesioned", model) for inner in range(module.depth)]
    chosen = [layer] if isinstance(layer, int) else list(layer)
    for number in chosen:
        if not 0 <= number < len(places):
            raise ValueError(
                f"lesioned: layer must be from 0 to {len(places) - 1}, the model's highway layers, got {number}"
            )
    before = {module: module.lesions for module, _ in places}
    try:
        for number in chosen:
            module, inner = places[number]
            module.lesions = tuple(sorted({*module.lesions, inner}))
        yield
    finally:
        for module, lesions in before.items():
            module.lesions = lesions
