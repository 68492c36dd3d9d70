"""Sending something back through a network under another rule at its rectifiers: what three methods share.

- gradient: Simonyan, Vedaldi and Zisserman, 2013, https://arxiv.org/abs/1312.6034, section 3;
- deconvnet: Zeiler and Fergus, 2013, https://arxiv.org/abs/1311.2901, section 2.1;
- guided: Springenberg, Dosovitskiy, Brox and Riedmiller, 2014, https://arxiv.org/abs/1412.6806, section 3.4 and fig. 1.

The rule is put on the nodes of autograd's graph of this one forward pass, not on modules. So it does not matter whether
a rectifier is a module, a module used twice, ``F.relu``, ``x.relu_()`` or ``x.clamp(min=0)``, and the model itself
carries no hook at any time but the one that reads the layer.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from claimwise.doors import check_batch
from claimwise.explain.layers_by_name import Layer, record
from claimwise.undisturbed import Mode

RULES: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
    "gradient": None,
    "guided": lambda inner, outer: inner.relu(),
    "deconvnet": lambda inner, outer: outer.relu(),
}
"""What a rectifier sends back, from ``inner``, what backpropagation would send, and ``outer``, what came from above.

Backpropagation lets pass where the *input* was positive: inner = outer * [input > 0]. The deconvnet lets pass where the
*reconstruction* is positive, wherever the input was; guided backpropagation where both are.
"""

# The deconvnet is defined where going back is linear once the switches are known. Names are those of autograd's nodes.
_LINEAR = frozenset(
    (
        # filters and dense layers; that they are linear in one input is checked by _BILINEAR
        *("Convolution", "ConvolutionOverrideable", "MkldnnConvolution", "Addmm", "Addmv", "Addbmm", "Baddbmm"),
        *("Mm", "Mv", "Bmm", "Dot", "Mul", "Div"),
        # max pooling keeps its switches; mean pooling and enlarging are filters
        *("MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D", "Max", "Amax"),
        *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Mean", "Sum", "Add", "Sub", "Rsub"),
        *("Neg", "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", "UpsampleLinear1D"),
        *("UpsampleBilinear2D", "UpsampleBicubic2D", "UpsampleTrilinear3D", "PixelShuffle", "PixelUnshuffle"),
        # moving numbers about
        *("View", "ViewAs", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Expand", "Repeat", "Clone"),
        *("Alias", "ToCopy", "T", "Transpose", "Permute", "Cat", "Stack", "Split", "SplitWithSizes", "Unbind"),
        *("Select", "Slice", "Index", "IndexSelect", "Gather", "Flip", "Roll", "AsStrided", "Unfold"),
        *("ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D", "ReplicationPad1D"),
        *("ReplicationPad2D", "ReplicationPad3D", "NativeDropout"),
    )
)
_BILINEAR = frozenset(
    ("Convolution", "ConvolutionOverrideable", "Addmm", "Addmv", "Addbmm", "Baddbmm", "Mm", "Mv", "Bmm", "Dot", "Mul")
)
_FILTERS = frozenset(("Convolution", "ConvolutionOverrideable", "MkldnnConvolution"))
# through these a divisor is still a divisor
_DIVISOR_KEPT = frozenset(
    ("Sqrt", "Pow", "View", "UnsafeView", "ReshapeAlias", "Expand", "Unsqueeze", "Squeeze", "Clone", "Mul")
)


def send_back(
    name: str,
    rule: str,
    model: nn.Module,
    layer: Layer | int | Tensor,
    x: Tensor,
    *,
    unit: int | Tensor | None,
    position: str | tuple[int, ...] | Tensor,
    call: int | None,
    mode: Mode,
) -> Tensor:
    r"""Keeps one activation of a layer and sends it back to the pixels under one of :data:`RULES`.

    .. math:: R = B_1^\rho \cdots B_L^\rho \, s, \qquad s_p = a_p \text{ (deconvnet) or } 1 \text{ (gradients), else } 0

    with :math:`B_l^\rho` going back through operation :math:`l` under rule :math:`\rho`, and :math:`p` the unit kept.

    Args:
        name: Whom errors name.
        rule: A name of :data:`RULES`.
        model: As :func:`~claimwise.explain.deconvnet` takes them, as all that follow.
        layer: Layer or target.
        x: Images.
        unit: Unit or map.
        position: Where in the map.
        call: Which call of a layer that runs several times.
        mode: How the model runs.

    Shape:
        ``x`` (batch, ...) to the same, or (batch, k, ...) for ``unit`` of shape (batch, k).

    Raises:
        TypeError: As the methods say.
        ValueError: As the methods say.

    Differences from the paper:
        See the methods.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> found = send_back("me", "gradient", layer, 0, torch.ones(1, 2), unit=None, position="maximum", call=None,
        ...                   mode="eval")
        >>> torch.equal(found, layer.weight)
        True
    """
    check_batch(name, x, None)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name}: model must be an nn.Module, got {type(model).__name__}; wrap a function in one")
    target = isinstance(layer, int | Tensor)
    if target:
        if unit is not None:
            raise ValueError(
                f"{name}: give a target class, or a layer with unit=, not both; got {layer!r} and {unit!r}"
            )
        unit = layer  # type: ignore[assignment]
        layer = ""
    with torch.inference_mode(False), torch.enable_grad():
        pixels = x.detach().clone().requires_grad_()
        # a copy: a model may write on its input, and autograd lets nobody write on a leaf
        (kept,) = record(model, layer, pixels.clone(), call=call, mode=mode).values()  # type: ignore[arg-type]
        where = (
            "the model's output"
            if layer == ""
            else f"layer {layer if isinstance(layer, str) else type(layer).__name__!r}"
        )
        _check_activation(name, where, kept, len(x), target)
        change = RULES[rule]
        if len(x) and change is not None:
            _apply_rule(name, rule, change, where, kept, pixels)
        units = _units(name, where, unit, kept)  # (batch, k)
        seeds = _places(name, where, position, kept, units)
        results = []
        for column in range(units.shape[1]):
            seed = seeds(column)
            if rule == "deconvnet":
                seed = seed * kept.detach()
            more = column + 1 < units.shape[1]
            (back,) = torch.autograd.grad(kept, pixels, seed, retain_graph=more, allow_unused=True)
            if back is None:
                raise ValueError(_INDEPENDENT.format(name=name, where=where))
            results.append(back)
    found = torch.stack(results, 1) if results else x.new_zeros((len(x), 0, *x.shape[1:]))
    if bool(found.isnan().any()):
        raise ValueError(f"{name}: the result has NaN; does the model return finite activations at {where} for this x?")
    return found if isinstance(unit, Tensor) and unit.ndim == 2 else found.squeeze(1)


def _check_activation(name: str, where: str, kept: Tensor, batch: int, target: bool) -> None:
    if kept.layout != torch.strided or kept.is_complex() or not kept.is_floating_point():
        raise ValueError(
            f"{name}: {where} must put out real dense numbers, got {kept.dtype} with layout {kept.layout}; "
            "name a layer that does"
        )
    if kept.ndim < 2 or len(kept) != batch:
        raise ValueError(
            f"{name}: {where} must put out (batch, units, ...) with a batch of {batch}, got {tuple(kept.shape)}; "
            "name another layer"
        )
    if target and kept.ndim != 2:
        raise ValueError(
            f"{name}: a target class needs a model that returns (batch, classes), got {tuple(kept.shape)}; "
            "name a layer and a unit instead"
        )
    if not kept.requires_grad:
        raise ValueError(_INDEPENDENT.format(name=name, where=where))


def _units(name: str, where: str, unit: int | Tensor | None, kept: Tensor) -> Tensor:
    """Unit numbers, (batch, k)."""
    batch, count = kept.shape[:2]
    if unit is None:
        if count == 0:
            raise ValueError(f"{name}: {where} has no units")
        return (
            kept.detach().flatten(2).amax(2).argmax(1, keepdim=True) if kept.ndim > 2 else kept.detach().argmax(1, True)
        )
    if isinstance(unit, bool) or not isinstance(unit, int | Tensor):
        raise TypeError(f"{name}: unit must be a number or a tensor of numbers, got {type(unit).__name__}")
    if isinstance(unit, int):
        units = torch.full((batch, 1), unit, device=kept.device)
    else:
        if unit.is_floating_point() or unit.is_complex() or unit.dtype == torch.bool:
            raise TypeError(f"{name}: units must be integers, got {unit.dtype}; use unit.long()")
        if unit.ndim not in (1, 2) or len(unit) != batch:
            raise ValueError(
                f"{name}: units must be one number, (batch,) or (batch, k) with a batch of {batch}, got shape "
                f"{tuple(unit.shape)}"
            )
        units = (
            unit.long().to(kept.device).reshape(batch, -1)
            if unit.numel()
            else unit.long().reshape(batch, unit.shape[-1])
        )
    if units.numel() and not bool(((units >= 0) & (units < count)).all()):
        raise ValueError(f"{name}: {where} has units 0..{count - 1}, got {int(units.min())} to {int(units.max())}")
    return units


def _places(
    name: str, where: str, position: str | tuple[int, ...] | Tensor, kept: Tensor, units: Tensor
) -> Callable[[int], Tensor]:
    """A function from a column of ``units`` to a mask of what is kept, shaped as ``kept``."""
    batch, _, *sides = kept.shape
    values = kept.detach()
    rows = torch.arange(batch, device=kept.device)
    if isinstance(position, str):
        if position not in ("maximum", "all"):
            raise ValueError(f"{name}: position must be 'maximum', 'all' or a place in the map, got {position!r}")
        given = None
    else:
        given = torch.as_tensor(position, device=kept.device)
        if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
            raise TypeError(f"{name}: a position must be integers, got {given.dtype}")
        shapes = [(len(sides),), (batch, len(sides)), (*units.shape, len(sides))]
        if tuple(given.shape) not in shapes:
            raise ValueError(
                f"{name}: maps of {where} have {len(sides)} dimensions, {tuple(sides)}; position must have shape "
                f"{' or '.join(map(str, shapes))}, got {tuple(given.shape)}"
            )
        sizes = torch.tensor(sides, device=kept.device, dtype=torch.long)
        if given.numel() and not bool(((given >= 0) & (given < sizes)).all()):
            raise ValueError(
                f"{name}: a position must lie within the maps of {where}, {tuple(sides)}, got "
                f"{given.reshape(-1, len(sides)).amax(0).tolist()} at most and "
                f"{given.reshape(-1, len(sides)).amin(0).tolist()} at least"
            )
        if given.ndim < 3:
            given = given.expand(batch, len(sides))[:, None].expand(*units.shape, len(sides))

    def mask(column: int) -> Tensor:
        unit = units[:, column]
        seed = torch.zeros_like(values)
        if position == "all" or not sides:
            seed[rows, unit] = 1
        elif given is None:
            place = values[rows, unit].flatten(1).argmax(1)  # (batch,)
            seed.flatten(2)[rows, unit, place] = 1
        else:
            seed[(rows, unit, *given[:, column].unbind(1))] = 1
        return seed

    return mask


# --- the graph --------------------------------------------------------------------------------------------------------


def _kind(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", node.name().split("::")[-1])


def _inputs(node: Any) -> list[Any]:
    return [parent for parent, _ in node.next_functions]


def _apply_rule(
    name: str, rule: str, change: Callable[[Tensor, Tensor], Tensor], where: str, kept: Tensor, pixels: Tensor
) -> None:
    """Put the rule on every rectifier between the pixels and what is kept; refuse what the rule has no answer to."""
    root: Any = kept.grad_fn
    depends = _dependent(root, pixels)
    if not depends[root]:
        raise ValueError(_INDEPENDENT.format(name=name, where=where))
    filters = 0
    waiting, seen = [root], {root}
    while waiting:
        node = waiting.pop()
        kind = _kind(node)
        parents = _inputs(node)
        followed = [i for i, parent in enumerate(parents) if parent is not None and depends[parent]]
        if isinstance(node, torch.autograd.function.BackwardCFunction) or kind == "CopySlices":
            raise ValueError(
                f"{name}: cannot see the rectifiers within {node.name()} ({_OPAQUE}); run the model without it"
            )
        filters += kind in _FILTERS
        if _rectifies(node, kind):
            node.register_hook(
                lambda inner, outer: (change(inner[0], outer[0]), *inner[1:])  # type: ignore[misc]
            )
        elif rule == "deconvnet" and kind != "AccumulateGrad":
            signal = _signal(node, kind, followed, depends)
            if signal is None:
                raise ValueError(f"{name}: {_refusal(node, kind)}; name a layer in front of it, or change the model")
            if signal != followed:  # a division by a measure of the image's own contrast
                node.register_hook(_past_the_division(signal[0]))
                followed = signal
        for i in followed:
            if parents[i] not in seen:
                seen.add(parents[i])
                waiting.append(parents[i])
    if rule == "deconvnet" and filters == 0:
        raise ValueError(f"{name}: there is no convolution in front of {where}; a deconvnet needs one")


_INDEPENDENT = (
    "{name}: {where} does not depend on x; does the model detach or copy its input, or run under torch.no_grad()?"
)
_OPAQUE = "an autograd.Function, a compiled or checkpointed part, or writing in place on part of a tensor"


def _dependent(root: Any, pixels: Tensor) -> dict[Any, bool]:
    """Every node from ``root`` down, and whether the pixels reach it."""
    order: list[Any] = []
    entered: set[Any] = set()
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        if done:
            order.append(node)
            continue
        if node in entered:
            continue
        entered.add(node)
        waiting.append((node, True))
        waiting += [(parent, False) for parent in _inputs(node) if parent is not None and parent not in entered]
    depends: dict[Any, bool] = {}
    for node in order:
        variable = getattr(node, "variable", None)
        depends[node] = variable is pixels or any(depends[p] for p in _inputs(node) if p is not None)
    return depends


def _rectifies(node: Any, kind: str) -> bool:
    """Whether a node is max(0, x), or that with a ceiling."""
    if kind == "Relu":
        return True
    if kind == "Threshold":
        return bool(node._saved_threshold == 0)
    if kind == "Hardtanh":
        return bool(node._saved_min_val == 0)
    if kind == "ClampMin" or kind == "Clamp":
        return bool(not isinstance(node._saved_min, Tensor) and node._saved_min == 0)
    return False


def _signal(node: Any, kind: str, followed: list[int], depends: dict[Any, bool]) -> list[int] | None:
    """The inputs that the reconstruction goes back to; None if the deconvnet has no way back."""
    if kind == "NativeBatchNorm" or kind == "CudnnBatchNorm":
        return None if node._saved_training else followed
    if kind not in _LINEAR:
        return None
    if kind == "Mul" and _masks(node):
        return None
    if len(followed) < 2 or (kind not in _BILINEAR and kind != "Div"):
        return followed
    if kind == "Div":
        return [0]
    if kind == "Mul":
        parents = _inputs(node)
        rest = [i for i in followed if not _normalises(parents[i], depends)]
        return rest if len(rest) == 1 else None
    return None


def _masks(node: Any) -> bool:
    """Whether one factor is a mask of truth values: x * (x > 0) is a rectifier that looks like a product."""
    factors = [getattr(node, side, None) for side in ("_saved_self", "_saved_other")]
    return any(isinstance(factor, Tensor) and factor.dtype == torch.bool for factor in factors)


def _normalises(node: Any, depends: dict[Any, bool]) -> bool:
    """Whether a factor is a negative power of something: then the product is a divisive normalisation."""
    kind = _kind(node)
    if kind in ("Rsqrt", "Reciprocal"):
        return True
    if kind == "Pow" and isinstance(node._saved_exponent, int | float) and node._saved_exponent < 0:
        return True
    factors = [parent for parent in _inputs(node) if parent is not None and depends[parent]]
    return kind in _DIVISOR_KEPT and bool(factors) and all(_normalises(factor, depends) for factor in factors)


def _past_the_division(signal: int) -> Callable[[Any, Any], Any]:
    """A hook that sends what comes from above to one input, unchanged, and nothing to the divisor."""

    def hook(inner: tuple[Any, ...], outer: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(outer[0] if i == signal else None for i in range(len(inner)))

    return hook


def _refusal(node: Any, kind: str) -> str:
    if "BatchNorm" in kind:
        return "batch or instance normalisation by the batch's own statistics is not linear; use mode='eval'"
    if kind == "Mul" and _masks(node):
        return "a product with a mask of truth values may be a rectifier in disguise; use torch.relu"
    if kind in _BILINEAR:
        return f"{node.name()} multiplies two things that both depend on x, and the deconvnet goes back to one"
    return f"the deconvnet has no rule for {node.name()}: it knows filters, max(0, x), max and mean pooling"
