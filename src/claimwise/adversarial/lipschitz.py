"""Upper bounds on how unstable a network can be, layer by layer, and measurements of how unstable it is.

C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
networks*, ICLR 2014, section 4.3 and table 5, https://arxiv.org/abs/1312.6199
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx, nn

from claimwise.adversarial.contrast_normalisation import ContrastNormalisation
from claimwise.adversarial.maxout import Maxout, MaxoutConv2d
from claimwise.adversarial.operator_norms import (
    AdaptiveAveragePooling,
    AveragePooling,
    BatchNorm,
    Convolution,
    TransposedConvolution,
    operator_norm,
)
from claimwise.doors import check_batch
from claimwise.undisturbed import Mode, undisturbed

FEW_OUTPUTS = 32
"""Up to so many outputs, the whole Jacobian costs less than the products of a power iteration."""

Constant = float | Callable[[nn.Module, tuple[int, ...]], float]
"""A Lipschitz constant, or what computes it from the layer and its input's shape (with the batch)."""


@dataclass(frozen=True)
class LayerBound:
    """One step of a network."""

    name: str
    """The layer's name, or the function's node in the traced graph."""
    kind: str
    bound: float
    """Upper bound on this step's Lipschitz constant."""
    method: str
    """Where the bound comes from."""
    so_far: float
    """Upper bound on the Lipschitz constant from the network's input to here."""


@dataclass(frozen=True)
class LipschitzBound:
    """What :func:`lipschitz_bound` returns; ``str()`` of it is a table."""

    layers: tuple[LayerBound, ...]
    """In the order in which they run."""
    bound: float
    """Upper bound on the network's Lipschitz constant: the product of the layers' for a sequential network."""

    @property
    def product(self) -> float:
        """The layers' bounds multiplied: the paper's bound, which equals ``bound`` where layers follow each other."""
        return math.prod(layer.bound for layer in self.layers)

    def __getitem__(self, name: str) -> LayerBound:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no layer {name!r}; there are {', '.join(layer.name for layer in self.layers)}")

    def __str__(self) -> str:
        rows = [("layer", "kind", "bound", "so far", "method")]
        rows += [(row.name, row.kind, f"{row.bound:.4g}", f"{row.so_far:.4g}", row.method) for row in self.layers]
        wide = [max(len(row[column]) for row in rows) for column in range(5)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows)


def lipschitz_bound(
    model: nn.Module,
    x_example: Float[Tensor, "batch *shape"],
    *,
    constants: Mapping[str | type[nn.Module], Constant] | None = None,
) -> LipschitzBound:
    r"""Upper bound on a network's Lipschitz constant in the 2-norm, from one of each layer.

    .. math:: \lVert \phi(x) - \phi(x + r) \rVert \le L \lVert r \rVert, \qquad L = \prod_k L_k

    with :math:`\phi = \phi_K \circ \dots \circ \phi_1` the network and :math:`L_k` a constant of layer :math:`k`.
    Where a network branches, :math:`L` is followed along the graph: branches that are added, add up; branches that
    are stacked or concatenated give :math:`\sqrt{\sum L_i^2}`. The bound is a proof, never below the true constant.

    ====================================  ==========================================================================
    step                                  constant
    ====================================  ==========================================================================
    linear, convolutions, average         operator norm (``operator_norm(method="bound")``); maxout the norm of all
    pooling, batch norm (eval)            its pieces together
    max pooling                           1 if no input is in two windows, else the root of how many windows it is in
    ReLU, leaky ReLU, tanh, softplus, ..  largest slope: 1 for these, 1/4 for the sigmoid, 1/2 for the softmax,
                                          1.129 for GELU, 1.0999 for SiLU, sqrt(classes) for the log-softmax
    contrast normalisation                :math:`\epsilon^{-\gamma}`
    layer, group, instance, RMS norm      :math:`\max|w| / \sqrt\epsilon`, met at a constant input
    local response norm                   :math:`k^{-\beta}(1 + \sqrt n \cdot 2 (\beta / (1 + \beta))^{1 + \beta})`,
                                          n the channels in a window; stated as a bound, not tight
    flatten, dropout (eval), reshaping    1
    ====================================  ==========================================================================

    Args:
        model: Any module that ``torch.fx`` can trace; a traced ``GraphModule`` too. Taken in eval mode, left as it was.
        x_example: An input, which gives the layers' input sizes; its values do not matter, one example is enough.
        constants: For layers not in the table, or in place of it: from a layer's name or its type to a number, or to a
            function of the layer and its input's shape. Such a layer is not looked into.

    Shape:
        ``x_example`` (batch, \*).

    Raises:
        TypeError: ``model`` no module; ``x_example`` not floating point.
        ValueError: A layer or function without a known constant, control flow that cannot be traced or a trace that
            computes something else, a constant that is negative or not finite, a name in ``constants`` that is no
            layer.

    Differences from the paper:
        The paper's table 5 treats zero padding as circular and counts biases nowhere; both as here. It writes that
        max pooling is contractive, which holds only for windows that do not overlap. Its "maximum element" of a fully
        connected layer is in some notes: it is the largest singular value.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sigmoid())
        >>> _ = nn.init.eye_(model[0].weight)
        >>> print(lipschitz_bound(model, torch.zeros(1, 2)))
        layer  kind     bound  so far  method
        0      Linear   1      1       operator norm
        1      Sigmoid  0.25   0.25    largest slope
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"lipschitz_bound: model must be an nn.Module to have layers, got {type(model).__name__}")
    check_batch("lipschitz_bound", x_example, None)
    known = dict(constants or {})
    names = dict(model.named_modules())
    for key in known:
        if isinstance(key, str) and key not in names:
            raise ValueError(f"lipschitz_bound: constants names {key!r}, which is no layer; layers: {', '.join(names)}")
    with undisturbed(model), torch.no_grad():
        root = model if isinstance(model, fx.GraphModule) or not _is_step("", model, known) else nn.Sequential(model)
        if root is not model:
            known = {f"0{key}" if key == "" else key: constant for key, constant in known.items()}
        try:
            traced = root if isinstance(root, fx.GraphModule) else fx.GraphModule(root, _Tracer(known).trace(root))
        except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"lipschitz_bound: {type(model).__name__} cannot be traced ({error}); give the layer that branches on "
                "values a constant of its own, constants={'its name': ...}"
            ) from error
        follower = _Follower(traced, known)
        traced_output = follower.run(x_example.detach().clone())
        if not _agree(traced_output, model(x_example.detach().clone())):
            raise ValueError(
                f"lipschitz_bound: {type(model).__name__} as traced computes something else than the model (a tensor "
                "changed in place under another name, or arithmetic on shapes?); write that step out of place"
            )
    return LipschitzBound(tuple(follower.rows), follower.bound)


@dataclass(frozen=True, eq=False)
class LocalLipschitz:
    """What :func:`local_lipschitz` returns: measured, so never above the true local constant."""

    jacobian: Float[Tensor, " batch"]
    """Spectral norm of the Jacobian at each example, by power iteration."""
    direction: Float[Tensor, "batch *shape"]
    """The input direction of norm 1 that is stretched so."""
    finite: Float[Tensor, " batch"] | None
    """Largest stretching of a perturbation of norm ``radius`` among those tried; None without a radius."""


def local_lipschitz(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    *,
    radius: float | None = None,
    directions: int = 8,
    generator: torch.Generator | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
    mode: Mode = "eval",
) -> LocalLipschitz:
    r"""How much a network stretches small differences at each example, measured.

    .. math:: \lVert J(x) \rVert = \max_{\lVert v \rVert = 1} \lVert J(x) v \rVert, \qquad
              \max_{v \in V} \frac{\lVert f(x + \rho v) - f(x) \rVert}{\rho}

    with :math:`J` the Jacobian of the network :math:`f`, :math:`\rho` the radius and :math:`V` random directions and
    both signs of the Jacobian's strongest one. With up to :data:`FEW_OUTPUTS` outputs the first comes from the whole
    Jacobian, row by row; with more by power iteration, :math:`v \leftarrow J^\top J v` normalised. Both take all
    examples at once, after one forward pass.

    Args:
        model: Any module or callable; examples must not influence each other. Run in eval mode, left as it was.
        x: Where to measure.
        radius: 2-norm of the finite perturbations, in units of ``x``; None for none.
        directions: Random directions an example for them, besides the two of the Jacobian.
        generator: Draws the starts and the directions; by default a fixed draw.
        iterations: Most steps of the power iteration, which approaches the norm from below.
        tolerance: Relative growth in a step below which it stops, for all examples.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.

    Shape:
        ``x`` (batch, \*); see :class:`LocalLipschitz`.

    Raises:
        TypeError: ``x`` not floating point.
        ValueError: ``radius`` not positive, ``directions`` negative, ``iterations`` below 1, an output that does not
            depend on ``x`` or is not finite.

    Differences from the paper:
        The paper measures no local constants; they stand beside its bound to show how loose it is.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> _ = layer.load_state_dict({"weight": torch.tensor([[3.0, 0.0], [0.0, 0.5]])})
        >>> local_lipschitz(layer, torch.zeros(1, 2)).jacobian
        tensor([3.])
    """
    check_batch("local_lipschitz", x, None)
    if radius is not None and not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"local_lipschitz: radius must be > 0, got {radius}")
    if directions < 0:
        raise ValueError(f"local_lipschitz: directions must be >= 0, got {directions}")
    if iterations < 1:
        raise ValueError(f"local_lipschitz: iterations must be >= 1, got {iterations}")
    if generator is None:
        generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device)
        return _unit(noise.to(x.device))

    if x.numel() == 0:
        nothing = x.new_zeros(len(x))
        return LocalLipschitz(nothing, torch.zeros_like(x), None if radius is None else nothing.clone())
    with undisturbed(model, mode), torch.inference_mode(False):
        with torch.enable_grad():
            inputs = x.detach().clone().requires_grad_()
            outputs = model(inputs)
            if not (outputs.requires_grad and bool(outputs.isfinite().all())):
                raise ValueError(
                    "local_lipschitz: the output must depend on x and be finite; does the model detach its input?"
                )
            if outputs.flatten(1).shape[1] <= FEW_OUTPUTS:
                best, norm = _strongest_by_rows(outputs, inputs)
            else:
                best, norm = _strongest_by_power(outputs, inputs, draw(), iterations, tolerance)
        if radius is None:
            return LocalLipschitz(norm, best, None)
        finite = x.new_zeros(len(x))
        with torch.no_grad():
            here = outputs.detach()
            for k in range(directions + 2):
                v = best if k == 0 else -best if k == 1 else draw()
                moved = x.detach() + radius * v
                step = (moved - x.detach()).flatten(1).norm(dim=1)  # as rounding left it
                finite = torch.maximum(finite, (model(moved) - here).flatten(1).norm(dim=1) / step)
    return LocalLipschitz(norm, best, finite)


def _strongest_by_rows(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The direction that each example's output answers to most, and the Jacobian's norm: from the whole Jacobian."""
    rows = []
    for output in outputs.flatten(1).sum(0):
        (row,) = torch.autograd.grad(output, inputs, retain_graph=True, allow_unused=True)
        if row is None:
            raise ValueError(_INDEPENDENT)
        rows.append(row.flatten(1))
    jacobian = torch.stack(rows, 1)  # (batch, outputs, pixels)
    # The Gram matrix is small; its rounding is no matter in double precision.
    wide = jacobian.double()
    values, vectors = torch.linalg.eigh(wide @ wide.mT)
    norm = values[:, -1].clamp(min=0).sqrt().to(inputs)
    direction = (vectors[:, None, :, -1] @ wide).squeeze(1).to(inputs)
    return _unit(direction.reshape(inputs.shape)), norm


def _strongest_by_power(
    outputs: Tensor, inputs: Tensor, start: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The same by power iteration, which needs two products a step however many outputs there are."""
    # J'u is linear in u, so that its derivative along v is Jv: no second forward pass.
    cotangent = torch.zeros_like(outputs).requires_grad_()
    (pulled,) = torch.autograd.grad(outputs, inputs, cotangent, create_graph=True, allow_unused=True)
    if pulled is None:
        raise ValueError(_INDEPENDENT)
    best, norm = start, inputs.new_zeros(len(inputs))
    v = start
    for _ in range(iterations):
        (image,) = torch.autograd.grad(pulled, cotangent, v, retain_graph=True)  # (batch, *outputs): J v
        now = image.flatten(1).norm(dim=1)
        growing = bool((now > norm * (1 + tolerance)).any())
        best = torch.where(_beside(now > norm, inputs), v, best)
        norm = torch.maximum(norm, now)
        if not growing:
            break
        (back,) = torch.autograd.grad(outputs, inputs, image, retain_graph=True)  # J' J v
        v = _unit(back)
    return best.detach(), norm.detach()


_INDEPENDENT = "local_lipschitz: the output does not depend on x; does the model detach its input?"


def _unit(v: Tensor) -> Tensor:
    """Each example with norm 1; one of zeros (a flat spot) stays."""
    length = v.flatten(1).norm(dim=1)
    return v / _beside(torch.where(length > 0, length, 1.0), v)


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """One value an example, to be broadcast over ``x``."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


# Largest slopes. Those with decimals are rounded up in the last digit (the test searches them).
_SLOPES: dict[type[nn.Module], float] = {
    **dict.fromkeys(
        (
            nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid,
            nn.Tanhshrink, nn.Softshrink, nn.CELU,
        ),
        1.0,
    ),
    nn.Sigmoid: 0.25,
    nn.Hardsigmoid: 0.16666668,  # torch's sixth is a float32
    nn.SiLU: 1.09984,
    nn.Mish: 1.08850,
    nn.Hardswish: 1.5,
}  # fmt: skip
_REARRANGING = (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
_DROPPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_MAX_POOLING = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d


def _layer_bound(module: nn.Module, shape: tuple[int, ...]) -> tuple[float, str] | None:
    """Bound of a layer and where it comes from; None if there is none for its type."""
    kind = type(module)
    if kind in _SLOPES:
        return _SLOPES[kind], "largest slope"
    match module:
        case _ if isinstance(module, nn.Linear | BatchNorm):
            return operator_norm(module), "operator norm"
        case _ if isinstance(module, Convolution | TransposedConvolution | AveragePooling | AdaptiveAveragePooling):
            return operator_norm(module, shape[1:], method="bound"), "operator norm"
        case Maxout():
            return operator_norm(_linear(module.weight)), "operator norm of all pieces"
        case MaxoutConv2d():
            pieces = _convolution(module.weight, stride=module.stride, padding=module.padding)
            return operator_norm(pieces, shape[1:], method="bound"), "operator norm of all pieces"
        case nn.MaxPool1d() | nn.MaxPool2d() | nn.MaxPool3d():
            return _max_pooling(module, shape), "windows over one input"
        case ContrastNormalisation():
            return module.epsilon**-module.gamma, "slope at 0"
        case (
            nn.LayerNorm()
            | nn.GroupNorm()
            | nn.InstanceNorm1d()
            | nn.InstanceNorm2d()
            | nn.InstanceNorm3d()
            | nn.RMSNorm()
        ):
            if getattr(module, "track_running_stats", False):
                return None
            epsilon = torch.finfo(torch.float32).eps if module.eps is None else module.eps
            weight = 1.0 if module.weight is None else float(module.weight.detach().double().abs().max())
            return weight / math.sqrt(epsilon), "slope at a constant input"
        case nn.LocalResponseNorm():
            beta, window = module.beta, min(module.size, shape[1])
            if module.k <= 0 or module.alpha < 0 or beta < 0:
                return None
            ratio = (beta / (1 + beta)) ** (1 + beta)
            return module.k**-beta * (1 + 2 * math.sqrt(window) * ratio), "diagonal plus band"
        case nn.GELU():
            return (1.12905 if module.approximate == "tanh" else 1.12891), "largest slope"
        case nn.LeakyReLU() | nn.RReLU():
            slope = module.negative_slope if isinstance(module, nn.LeakyReLU) else (module.lower + module.upper) / 2
            return max(1.0, abs(slope)), "largest slope"
        case nn.PReLU():
            return max(1.0, float(module.weight.detach().abs().max())), "largest slope"
        case nn.ELU():
            return max(1.0, abs(module.alpha)), "largest slope"
        case nn.SELU():
            return 1.0507009873554805 * 1.6732632423543772, "largest slope"
        case nn.Softmax() | nn.Softmin() | nn.Softmax2d():
            return 0.5, "largest slope"
        case nn.LogSoftmax():
            return math.sqrt(shape[1 if module.dim is None else module.dim]), "largest slope"
        case _ if isinstance(module, _DROPPING):
            return None if module.training else (1.0, "identity in eval mode")
        case _ if isinstance(module, _REARRANGING):
            return 1.0, "rearranges"
    return None


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False, device="meta")  # no draws
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def _convolution(weight: Tensor, groups: int = 1, **how: Any) -> Convolution:
    kind: Any = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[weight.ndim]
    sizes = weight.shape[1] * groups, len(weight), tuple(weight.shape[2:])
    layer: Convolution = kind(*sizes, groups=groups, bias=False, device="meta", **how)
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def _max_pooling(module: _MAX_POOLING, shape: tuple[int, ...]) -> float:
    """An input that is the largest of several windows moves them all: root of the most windows over one input."""
    dims = int(type(module).__name__[-2])
    most = 1
    for axis, size in enumerate(shape[-dims:]):
        kernel, stride, padding, dilation = (
            v[axis] if isinstance(v, tuple) else v
            for v in (module.kernel_size, module.stride, module.padding, module.dilation)
        )
        windows = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, dilation, module.ceil_mode).shape[2]
        covered = torch.zeros(size, dtype=torch.long)
        for window in range(windows):
            seen = range(window * stride - padding, size, dilation)[:kernel]
            covered[[i for i in seen if i >= 0]] += 1
        most *= int(covered.max())
    return math.sqrt(most)


def _given(name: str, module: nn.Module, known: Mapping[Any, Constant]) -> Constant | None:
    return known[name] if name in known else known.get(type(module))


def _is_step(name: str, module: nn.Module, known: Mapping[Any, Constant]) -> bool:
    """Whether a module is taken as a whole: it has a constant, or torch made it and it holds no other layers."""
    own = isinstance(module, Maxout | MaxoutConv2d | ContrastNormalisation)
    torchs = type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)
    return own or torchs or _given(name, module, known) is not None


class _Tracer(fx.Tracer):
    def __init__(self, known: Mapping[Any, Constant]) -> None:
        super().__init__()
        self.known = known

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_step(module_qualified_name, m, self.known)


Bounds = Any
"""Per value: a number; a tuple of them for a tuple; None where the value is no tensor."""
_ADDING = (operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub, "add", "add_", "sub", "sub_")
_MULTIPLYING = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_DIVIDING = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
_CONCATENATING = (torch.cat, torch.concat, torch.stack, torch.hstack, torch.vstack)
_LARGER = (torch.maximum, torch.minimum)
_ONE = (
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.transpose, torch.permute, torch.relu, F.relu,
    F.relu_, F.relu6, torch.tanh, F.tanh, torch.abs, torch.clamp, torch.clip, torch.neg, operator.neg, F.softplus,
    F.hardtanh, torch.clone, torch.movedim, torch.sin, torch.cos, torch.chunk, torch.split, torch.unbind, torch.flip,
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "transpose", "permute", "relu", "relu_", "tanh", "abs",
    "clamp", "clip", "neg", "contiguous", "clone", "detach", "movedim", "chunk", "split", "unbind", "float", "double",
    "unflatten", "t", "flip",
)  # fmt: skip
_SLOPE_OF: dict[Any, nn.Module] = {
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), nn.Sigmoid()),
    F.silu: nn.SiLU(),
    F.mish: nn.Mish(),
    F.hardswish: nn.Hardswish(),
    F.hardsigmoid: nn.Hardsigmoid(),
    F.selu: nn.SELU(),
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), nn.Softmax(-1)),
    F.logsigmoid: nn.LogSigmoid(),
    F.softsign: nn.Softsign(),
}


class _Follower(fx.Interpreter):
    """Runs a graph on values and carries, beside each, a bound on its Lipschitz constant in the network's input."""

    def __init__(self, traced: fx.GraphModule, known: Mapping[Any, Constant]) -> None:
        super().__init__(traced)
        self.known = known
        self.bounds: dict[fx.Node, Bounds] = {}
        self.rows: list[LayerBound] = []
        self.bound = math.nan

    def run_node(self, n: fx.Node) -> Any:
        shapes = {arg: tuple(self.env[arg].shape) for arg in n.all_input_nodes if isinstance(self.env[arg], Tensor)}
        args = {arg: self.env[arg] for arg in n.all_input_nodes}
        value = super().run_node(n)
        self.bounds[n] = self._follow(n, value, shapes, args)
        if isinstance(value, Tensor) and self._in_place(n):
            # whoever holds that memory under another name now holds the new value, or part of it
            for other, held in self.env.items():
                if isinstance(held, Tensor) and held.untyped_storage().data_ptr() == value.untyped_storage().data_ptr():
                    self.bounds[other] = _together([self.bounds[other], self.bounds[n]])
        return value

    def _in_place(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return bool(getattr(self.module.get_submodule(str(n.target)), "inplace", False))
        if n.op not in ("call_function", "call_method"):
            return False
        name = n.target if isinstance(n.target, str) else n.target.__name__
        in_place = n.target in (operator.iadd, operator.isub, operator.imul, operator.itruediv)
        return in_place or name.endswith("_") or bool(n.kwargs.get("inplace", False))

    def _follow(
        self, n: fx.Node, value: Any, shapes: dict[fx.Node, tuple[int, ...]], args: dict[fx.Node, Any]
    ) -> Bounds:
        if n.op == "placeholder":
            return 1.0
        if n.op == "get_attr":
            return 0.0
        if n.op == "output":
            self.bound = _together(fx.node.map_arg(n.args[0], self.bounds.__getitem__))
            return self.bound
        if not _holds_tensor(value):
            return None
        before = [self.bounds[arg] for arg in n.all_input_nodes]
        if not any(_together(b) for b in before if b is not None):
            return 0.0  # does not depend on the input
        if n.op == "call_module":
            return self._module(n, shapes)
        return self._function(n, value, shapes, args)

    def _module(self, n: fx.Node, shapes: dict[fx.Node, tuple[int, ...]]) -> float:
        name, module = str(n.target), self.module.get_submodule(str(n.target))
        source = n.args[0] if n.args else None
        if not (isinstance(source, fx.Node) and source in shapes and len(n.all_input_nodes) == 1):
            raise ValueError(
                f"lipschitz_bound: layer {name!r} ({type(module).__name__}) must take one tensor; "
                "write the step that joins several as a sum or concatenation"
            )
        given = _given(name, module, self.known)
        if given is not None:
            constant = float(given(module, shapes[source]) if callable(given) else given)
            if not (math.isfinite(constant) and constant >= 0):
                raise ValueError(f"lipschitz_bound: the constant of {name!r} must be >= 0 and finite, got {constant}")
            found: tuple[float, str] | None = (constant, "given")
        else:
            found = _layer_bound(module, shapes[source])
        if found is None:
            raise ValueError(
                f"lipschitz_bound: no constant known for layer {name!r} ({type(module).__name__}); "
                f"give one, constants={{{name!r}: ...}} or constants={{{type(module).__name__}: ...}}"
            )
        return self._row(name, type(module).__name__, found, self.bounds[source])

    def _row(self, name: str, kind: str, found: tuple[float, str], before: Bounds) -> float:
        so_far = found[0] * _together(before)
        self.rows.append(LayerBound(name, kind, found[0], found[1], so_far))
        return so_far

    def _function(
        self, n: fx.Node, value: Any, shapes: dict[fx.Node, tuple[int, ...]], args: dict[fx.Node, Any]
    ) -> Bounds:
        target: Any = n.target
        kind = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        moving = [arg for arg in n.all_input_nodes if self.bounds[arg] is not None and _together(self.bounds[arg])]
        source = moving[0]
        before = self.bounds[source]
        if target in _ADDING:
            # each branch, widened to the result's shape: an entry that is repeated counts so often
            scale = abs(float(n.kwargs.get("alpha", 1.0)))  # type: ignore[arg-type]
            terms = [arg for arg in n.args if isinstance(arg, fx.Node) and arg in shapes]
            so_far = sum(self.bounds[t] * _widening(shapes[t], value.shape) * max(scale, 1.0) for t in terms)
            self.rows.append(LayerBound(n.name, kind, so_far / max(self.bounds[t] for t in terms), "sum", so_far))
            return so_far
        if target in _CONCATENATING:
            so_far = _together([self.bounds[a] for a in _listed(n.args[0] if n.args else n.kwargs["tensors"])])
            largest = max(_together(self.bounds[arg]) for arg in moving)
            self.rows.append(LayerBound(n.name, kind, so_far / largest, "root of squares", so_far))
            return so_far
        if target in _LARGER:
            wide = [self.bounds[arg] * _widening(shapes[arg], value.shape) for arg in moving]
            so_far = _together(wide)
            self.rows.append(
                LayerBound(
                    n.name, kind, so_far / max(_together(self.bounds[a]) for a in moving), "root of squares", so_far
                )
            )
            return so_far
        once = len(moving) == 1 and sum(arg is source for arg in n.args) == 1  # x * x is not linear in x
        if once:
            if target in _MULTIPLYING or (target in _DIVIDING and n.args[0] is source):
                other = n.args[1] if n.args[0] is source else n.args[0]
                size = _largest(args[other] if isinstance(other, fx.Node) else other, inverse=target in _DIVIDING)
                return self._row(n.name, kind, (size * _widening(shapes[source], value.shape), "factor"), before)
            if n.args and n.args[0] is source:
                if target is operator.getitem:
                    return self._item(n, before)
                if target in _ONE:
                    return before
                if target in (F.dropout, torch.dropout, "dropout"):
                    if n.kwargs.get("training", n.args[2] if len(n.args) > 2 else True):
                        raise ValueError(f"lipschitz_bound: {n.name} drops units always; pass training=self.training")
                    return before
                layer = _SLOPE_OF.get(target) or _as_layer(n, args)
                if layer is not None:
                    found = _layer_bound(layer, shapes[source])
                    if found is not None:
                        return self._row(n.name, kind, found, before)
                if target in (torch.mean, torch.sum, "mean", "sum"):
                    many = math.prod(shapes[source]) / max(value.numel(), 1)
                    factor = many**-0.5 if target in (torch.mean, "mean") else many**0.5
                    return self._row(n.name, kind, (factor, "operator norm"), before)
                if target in ("expand", "expand_as"):
                    return self._row(n.name, kind, (_widening(shapes[source], value.shape), "copies"), before)
        raise ValueError(
            f"lipschitz_bound: no bound known for the function {kind!r} (node {n.name!r} of the traced graph); "
            "write it as a layer, or give the layer that calls it a constant, constants={'its name': ...}"
        )

    def _item(self, n: fx.Node, before: Bounds) -> Bounds:
        index = n.args[1]
        if isinstance(before, tuple) and isinstance(index, int):
            return before[index]
        for part in index if isinstance(index, tuple) else (index,):
            if not isinstance(part, int | slice | type(None) | type(...)):
                raise ValueError(f"lipschitz_bound: {n.name} indexes by a list or tensor, which may repeat entries")
        return before


def _as_layer(n: fx.Node, args: dict[fx.Node, Any]) -> nn.Module | None:
    """The layer that does what a call of ``torch.nn.functional`` does; None if there is none here."""
    target: Any = n.target

    def real(value: Any) -> Any:
        return fx.node.map_arg(value, lambda arg: args[arg])

    rest, named = [real(arg) for arg in n.args[1:]], {name: real(value) for name, value in n.kwargs.items()}
    if target in (F.linear,):
        return _linear(rest[0] if rest else named["weight"])
    if target in (F.conv1d, F.conv2d, F.conv3d):
        order = ("weight", "bias", "stride", "padding", "dilation", "groups")
        given = {**dict(zip(order, rest, strict=False)), **named}
        given.pop("bias", None)
        return _convolution(**given)
    if target in (torch.log_softmax, F.log_softmax, "log_softmax"):
        return nn.LogSoftmax(named.get("dim", rest[0] if rest else None))
    made: dict[Any, type[nn.Module]] = {
        F.max_pool1d: nn.MaxPool1d, F.max_pool2d: nn.MaxPool2d, F.max_pool3d: nn.MaxPool3d,
        F.avg_pool1d: nn.AvgPool1d, F.avg_pool2d: nn.AvgPool2d, F.avg_pool3d: nn.AvgPool3d,
        torch.max_pool1d: nn.MaxPool1d, torch.max_pool2d: nn.MaxPool2d, torch.max_pool3d: nn.MaxPool3d,
        F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d, F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
        F.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d, F.gelu: nn.GELU, F.leaky_relu: nn.LeakyReLU, F.elu: nn.ELU,
    }  # fmt: skip
    if target not in made:
        return None
    if target in (F.max_pool1d, F.max_pool2d, F.max_pool3d) and len(rest) > 4:
        rest = [*rest[:4], False, rest[4]]  # the layer has return_indices before ceil_mode
    named.pop("inplace", None)
    named.pop("return_indices", None)
    return made[target](*rest, **named)


def _together(bounds: Any) -> float:
    """Bound of several values taken as one vector."""
    if isinstance(bounds, Mapping):
        bounds = list(bounds.values())
    if isinstance(bounds, tuple | list):
        return math.hypot(*(_together(bound) for bound in bounds))
    return 0.0 if bounds is None else float(bounds)


def _agree(traced: Any, model: Any) -> bool:
    if isinstance(model, Tensor):
        close = isinstance(traced, Tensor) and traced.shape == model.shape
        return close and torch.allclose(traced, model, rtol=1e-3, atol=1e-5, equal_nan=True)
    if isinstance(model, tuple | list) and isinstance(traced, tuple | list) and len(traced) == len(model):
        return all(map(_agree, traced, model))
    return not isinstance(model, tuple | list)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensor, value)))


def _widening(shape: tuple[int, ...], result: tuple[int, ...]) -> float:
    """Norm of broadcasting one shape to another."""
    return math.sqrt(math.prod(result) / max(math.prod(shape), 1))


def _largest(value: Any, *, inverse: bool) -> float:
    size = torch.as_tensor(value).detach().double().abs()
    return float((1 / size if inverse else size).max())
