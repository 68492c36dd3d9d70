"""Receptive fields: which pixels a unit of a network can see.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 2.3 (two stacked 3x3 convolutions see 5x5, three see 7x7).

The field is *computed* from the module, in one of two ways that agree where both apply: by composing the layers of a
plain stack, or by probing any module with gradients.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from claimwise.vision.local_response_normalisation import LocalResponseNormalisation
from claimwise.vision.shape_copy import shape_copy, shape_images

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_MEAN_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_POOLS = (
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_POINTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softplus, nn.Softsign),
    *(nn.Threshold, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LocalResponseNorm, nn.Softmax2d, LocalResponseNormalisation),
)
# tried in turn when the caller does not say how large an image is; multiples of 32 suit most networks
_SIDES = (32, 28, 64, 96, 128, 160, 192, 224, 227, 256, 299, 320, 384, 448, 512)


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of a layer's units; one entry per spatial dimension (height, width)."""

    size: tuple[int, ...]
    """Pixels from the first to the last one that a unit sees."""
    stride: tuple[float, ...]
    """Pixels between the fields of neighbouring units; 0 for a layer of one unit, or where clipping hides it."""
    centre: tuple[float, ...]
    """Centre of unit 0's field in pixels, the middle of the first pixel being 0; negative when padding moves it out."""
    clipped: tuple[bool, ...]
    """Whether the field met the border of the probed image, so that ``size`` is only what fits in there. Always so
    for a layer that sees everything, whatever the image."""

    def span(self, *unit: int) -> tuple[tuple[float, float], ...]:
        """First and last pixel that a unit sees in each dimension; they may lie in the padding.

        Example:
            >>> from torch import nn
            >>> from claimwise.vision import receptive_field
            >>> receptive_field(nn.Conv2d(1, 1, 3, padding=1)).span(0, 5)
            ((-1.0, 1.0), (4.0, 6.0))
        """
        if len(unit) != len(self.size):
            raise ValueError(f"ReceptiveField.span: give {len(self.size)} indices, got {unit}")
        middles = [centre + stride * i for centre, stride, i in zip(self.centre, self.stride, unit, strict=True)]
        return tuple((m - (size - 1) / 2, m + (size - 1) / 2) for m, size in zip(middles, self.size, strict=True))


def receptive_field(
    model: nn.Module,
    input_size: tuple[int, ...] | None = None,
    *,
    layer: str | None = None,
    method: str = "auto",
) -> ReceptiveField:
    r"""Computes the receptive field of a module's output, or of one layer in it.

    A unit's field is the smallest box of pixels outside of which nothing changes the unit. For a plain stack it is
    composed layer by layer, per dimension:

    .. math::
        r_l = r_{l-1} + d_l (k_l - 1)\, j_{l-1}, \quad j_l = s_l\, j_{l-1}, \quad
        a_l = a_{l-1} - p_l\, j_{l-1}

    with :math:`r` the size, :math:`j` the stride, :math:`a` the first pixel of unit 0, from :math:`r_0 = j_0 = 1` and
    :math:`a_0 = 0`, and :math:`k, s, p, d` kernel, stride, padding and dilation of a layer; the centre is
    :math:`a + (r - 1) / 2`. A linear layer after flattening is the convolution over its whole map.

    Any other module is probed: the field is the support of :math:`\partial u / \partial x` for a unit :math:`u` in the
    middle, and a second unit gives the stride. So that nothing hides a dependence, this is done on a copy in float64
    whose weights are positive and whose rectifiers and max poolings are linear (identity and mean); then every pixel
    outside of the support is set to NaN, and where the unit of the unmodified functions turns NaN the field is
    widened until it does not.

    Args:
        model: Any module; never run or changed itself.
        input_size: Shape of one input without the batch, for instance ``(3, 224, 224)``. By default the channels of
            the first convolution, and the first side out of some usual ones that the model takes; when probing finds
            the field clipped, it is doubled, up to 512, for as long as the model takes it.
        layer: Name of a layer as in ``named_modules``; the module's output by default. A layer that is used several
            times is taken at its last use.
        method: ``"composed"``, ``"probed"``, or ``"auto"``: composed where the module is a plain stack.

    Raises:
        ValueError: Unknown method or layer; ``"composed"`` for a module that is not a plain stack; no input size that
            the model takes; an output that is not a tensor or depends on no pixel.

    Differences from the paper:
        The paper states the sizes for stacks of 3x3; this computes them. With dilation the box has holes: the size is
        that of the box. Composition counts padding into the field, probing sees the image only, and is clipped there.

    Example:
        >>> from torch import nn
        >>> from claimwise.vision import VGG, receptive_field
        >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)))
        ReceptiveField(size=(5, 5), stride=(1.0, 1.0), centre=(2.0, 2.0), clipped=(False, False))
        >>> receptive_field(VGG("D", device="meta").features).size
        (212, 212)
    """
    if layer is not None and layer not in dict(model.named_modules()):
        raise ValueError(f"receptive_field: no layer {layer!r}; layers are named as in model.named_modules()")
    return _fields(model, input_size, "" if layer is None else layer, method)["" if layer is None else layer]


def receptive_fields(
    model: nn.Module, input_size: tuple[int, ...] | None = None, *, method: str = "auto"
) -> dict[str, ReceptiveField]:
    """The receptive field of every layer without layers inside, by name, in the order of their last use.

    As :func:`receptive_field`; probing costs two to eight backward passes for every layer.

    Args:
        model: Any module; never run or changed itself.
        input_size: Shape of one input without the batch.
        method: ``"composed"``, ``"probed"`` or ``"auto"``.

    Raises:
        ValueError: As :func:`receptive_field`. Layers whose output is not a tensor, or depends on no pixel, are left
            out instead.

    Differences from the paper:
        As :func:`receptive_field`.

    Example:
        >>> from torch import nn
        >>> from claimwise.vision import receptive_fields
        >>> stack = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
        >>> {name: field.size[0] for name, field in receptive_fields(stack).items()}
        {'0': 3, '1': 4, '2': 8}
    """
    fields = _fields(model, input_size, None, method)
    return {name: field for name, field in fields.items() if name or len(fields) == 1}


def _fields(
    model: nn.Module, input_size: tuple[int, ...] | None, wanted: str | None, method: str
) -> dict[str, ReceptiveField]:
    """Fields by layer name ("" is the module's output): of the ``wanted`` layer, or of every leaf for None."""
    if method not in ("auto", "composed", "probed"):
        raise ValueError(f"receptive_field: method must be auto, composed or probed, got {method!r}")
    if input_size is not None and (len(input_size) < 2 or any(side < 1 for side in input_size)):
        raise ValueError(
            f"receptive_field: input_size must be (channels, height, width) of at least 1 each, got {input_size}"
        )
    size = _input_size(model) if input_size is None else tuple(input_size)
    if method != "probed":
        composed = _composed(model, size)
        if composed is not None and (wanted is None or wanted in composed):
            return composed
        if method == "composed":
            raise ValueError(
                "receptive_field: not a plain stack of convolutions, poolings and pointwise layers, so its field "
                "cannot be composed; use method='probed'"
            )
    fields, units = _probed(model, size, wanted)
    while input_size is None and units:
        before, size = units, (size[0], *(2 * side for side in size[1:]))
        if size[1] > 512 or not _takes(model, size):
            break
        fields, units = _probed(model, size, wanted)
        if before == units == 1:
            break  # it sees everything, however large the image
    return fields


def _input_size(model: nn.Module) -> tuple[int, ...]:
    """Channels of the first convolution and a side that the model takes."""
    first: Any = next((layer for layer in model.modules() if isinstance(layer, _CONVOLUTIONS)), None)
    if first is not None:
        own = getattr(model, "image_size", None)  # networks that know their size
        for side in (own, *_SIDES) if isinstance(own, int) else _SIDES:
            size = (first.in_channels, *(side,) * len(first.kernel_size))
            if _takes(model, size):
                return size
    raise ValueError(
        "receptive_field: found no input size that the model takes; pass input_size=(channels, height, width)"
    )


def _takes(model: nn.Module, size: tuple[int, ...]) -> bool:
    """Whether the model runs on an input of this size."""
    shapes = shape_copy(model)
    try:
        with torch.no_grad():
            shapes(shape_images(shapes, size))
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return False  # the question is whether it runs; _input_size says so when nothing does
    return True


# --- composition ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """One dimension of a stack so far: size, stride and first pixel of unit 0."""

    size: int = 1
    stride: float = 1.0
    start: float = 0.0

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> "_Axis":
        return _Axis(
            round(self.size + dilation * (kernel - 1) * self.stride),
            stride * self.stride,
            self.start - padding * self.stride,
        )

    def whole(self, units: int) -> "_Axis":
        return _Axis(round(self.size + (units - 1) * self.stride), 0.0, self.start)


def _composed(model: nn.Module, size: tuple[int, ...]) -> dict[str, ReceptiveField] | None:
    """Fields of a plain stack by composition; None when the module is not one, as far as can be told."""
    calls = _plain_stack(model, size)
    if calls is None:
        return None
    axes: list[_Axis] = [_Axis() for _ in size[1:]]
    fields = {}
    for name, layer, shape in calls:
        following = _compose(layer, axes, shape)
        if following is None:
            return None
        axes = following
        fields[name] = ReceptiveField(
            tuple(axis.size for axis in axes),
            tuple(axis.stride for axis in axes),
            tuple(axis.start + (axis.size - 1) / 2 for axis in axes),
            (False,) * len(axes),
        )
    if fields:
        fields[""] = fields[name]
    return fields or None


def _plain_stack(model: nn.Module, size: tuple[int, ...]) -> list[tuple[str, nn.Module, tuple[int, ...]]] | None:
    """(name, layer, shape it is given) of each leaf in order of use, if each takes just what the one before gave."""
    shapes = shape_copy(model)
    names = {layer: name for name, layer in shapes.named_modules()}
    images = shape_images(shapes, size)
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    # a tensor that a function rewrote in place is the same object in another version
    last: list[tuple[Any, int]] = [(images, images._version)]
    plain = True

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal plain
        plain &= len(inputs) == 1 and inputs[0] is last[-1][0] and inputs[0]._version == last[-1][1]
        if plain:
            calls.append((names[layer], layer, tuple(inputs[0].shape)))

    def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal plain
        plain &= isinstance(output, Tensor)
        if plain:
            last.append((output, output._version))  # kept alive, so that identities stay unique

    for layer in shapes.modules():
        if not any(True for _ in layer.children()):
            layer.register_forward_pre_hook(before)
            layer.register_forward_hook(after)
    try:
        with torch.no_grad():
            output = shapes(images)
    except (RuntimeError, NotImplementedError):
        return None  # does not run without numbers, so nothing can be told about it; probing will say what is wrong
    plain &= output is last[-1][0] and isinstance(output, Tensor) and output._version == last[-1][1]
    return calls if plain else None


def _compose(layer: Any, axes: list[_Axis], shape: tuple[int, ...]) -> list[_Axis] | None:
    """What a layer does to each dimension; None for a layer that is not known here. Subclasses may do anything."""
    kind, units = type(layer), shape[2:]
    count = len(axes)
    flat = not units
    if kind in _POINTWISE:
        return axes
    if kind is nn.Linear and flat:
        return axes
    if kind is nn.Flatten and layer.start_dim == 1 and layer.end_dim in (-1, len(shape) - 1):
        return axes if flat else [axis.whole(n) for axis, n in zip(axes, units, strict=True)]
    if flat or len(units) != count:
        return None
    if kind in _ADAPTIVE_POOLS:
        target = _per_axis(layer.output_size, count)
        if all(n in (goal, 1) for n, goal in zip(units, target, strict=True)):
            return axes
        if all(goal == 1 for goal in target):
            return [axis.whole(n) for axis, n in zip(axes, units, strict=True)]
        return None
    if kind in _CONVOLUTIONS:
        dilation = layer.dilation
        reach = [d * (k - 1) for d, k in zip(dilation, layer.kernel_size, strict=True)]
        named = {"same": [total // 2 for total in reach], "valid": [0] * count}
        padding = named[layer.padding] if isinstance(layer.padding, str) else layer.padding
    elif kind in _MAX_POOLS and not layer.return_indices:
        dilation, padding = _per_axis(layer.dilation, count), _per_axis(layer.padding, count)
    elif kind in _MEAN_POOLS:
        dilation, padding = (1,) * count, _per_axis(layer.padding, count)
    else:
        return None
    kernel, stride = _per_axis(layer.kernel_size, count), _per_axis(layer.stride, count)
    return [axis.window(*window) for axis, *window in zip(axes, kernel, stride, padding, dilation, strict=True)]


def _per_axis(value: Any, count: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


# --- probing ----------------------------------------------------------------------------------------------------------


class _Linearised(TorchFunctionMode):
    """Makes rectifiers the identity and max pooling the mean of its window, however the module calls them."""

    RECTIFIERS = frozenset({"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "threshold", "threshold_"})
    POOLS = frozenset(f"{name}{n}d" for name in ("max_pool", "_max_pool") for n in (1, 2, 3))

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in self.RECTIFIERS:
            return args[0] if args else (kwargs or {})["input"]
        if name in self.POOLS:
            return _mean_of_windows(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _mean_of_windows(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """The mean over the windows of a max pooling (its argument names): the same dependence, without a winner."""
    count = input.dim() - 2
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[count - 1]
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    stride = stride if stride is not None and stride != [] and stride != () else kernel_size
    sides = pool(input, kernel_size, stride, padding, dilation, ceil_mode).shape[2:]
    kernel, steps, margin, holes = (_per_axis(v, count) for v in (kernel_size, stride, padding, dilation))
    # F.pad counts from the last dimension; at the far end room for a last window that only ceil_mode allows
    pads = [
        side
        for k, s, p, d in reversed([*zip(kernel, steps, margin, holes, strict=True)])
        for side in (p, p + d * k + s)
    ]
    weight = input.new_full((input.shape[1], 1, *kernel), 1 / torch.Size(kernel).numel())
    output = convolve(F.pad(input, pads), weight, stride=steps, dilation=holes, groups=input.shape[1])
    return output[(..., *(slice(side) for side in sides))]


def _probed(model: nn.Module, size: tuple[int, ...], wanted: str | None) -> tuple[dict[str, ReceptiveField], int]:
    """Fields by gradients; of the ``wanted`` layer, or of every leaf layer and the output for None.

    Also, the units along a side of the largest map with a clipped field, of which a larger image may show more.
    """
    probe = _Probe(model, size, wanted)
    fields = {}
    for name in probe.linear:
        field = probe.field(name)
        if field is not None:
            fields[name] = field
        elif wanted is not None:
            raise ValueError(
                f"receptive_field: {name or 'the output'} is not a tensor that depends on the pixels, got "
                f"{type(probe.linear[name]).__name__}; name another layer"
            )
    clipped = [name for name, field in fields.items() if any(field.clipped)]
    maps = [name for name in clipped if probe.linear[name].dim() == probe.images.dim()]
    return fields, max((max(probe.counts(name)) for name in maps), default=0)


class _Probe:
    """A positive copy of a module, the outputs of its layers for one image, and what their units depend on."""

    def __init__(self, model: nn.Module, size: tuple[int, ...], wanted: str | None) -> None:
        self.model = _positive_copy(model)
        self.outputs: dict[str, Any] = {}
        for name, layer in self.model.named_modules():
            leaf = not any(True for _ in layer.children())
            if name == "" or (leaf if wanted is None else name == wanted):
                layer.register_forward_hook(self._keep(name))
        draw = torch.Generator().manual_seed(0)
        self.images = torch.rand(1, *size, dtype=torch.float64, generator=draw) + 0.5
        self.images.requires_grad_()
        with _Linearised(), torch.enable_grad():
            self.model(self.images * 1)  # not the leaf itself: the model may work in place
        self.linear: dict[str, Any] = dict(self.outputs) if wanted is None else {wanted: self.outputs.get(wanted)}

    def _keep(self, name: str) -> Callable:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            self.outputs.pop(name, None)  # so that the order is that of the last use
            # times one: the next layer may overwrite what this one gave
            self.outputs[name] = output * 1 if isinstance(output, Tensor) else output

        return hook

    def field(self, name: str) -> ReceptiveField | None:
        """The field of a layer, from units near the middle of its map; None if it depends on no pixel."""
        units = self.linear[name]
        if not isinstance(units, Tensor) or not units.is_floating_point():
            return None
        sides, counts = self.images.shape[2:], self.counts(name)
        middle = tuple((count - 1) // 2 for count in counts)
        box = self._box(name, middle if units.dim() == self.images.dim() else ())
        if box is None:
            return None
        strides = []
        for axis, count in enumerate(counts):
            stride = 0.0
            # several units apart where they fit: the mean stride, for layers that enlarge their map
            for apart in (4, 2, 1):
                if middle[axis] + apart >= count:
                    continue
                other = self._box(name, tuple(m + apart * (d == axis) for d, m in enumerate(middle)))
                if other is None:
                    continue
                # by an edge of the field that lies inside of the image for both units
                if box[axis][0] > 0:
                    stride = (other[axis][0] - box[axis][0]) / apart
                    break
                if other[axis][1] < sides[axis] - 1:
                    stride = (other[axis][1] - box[axis][1]) / apart
                    break
            strides.append(stride)
        return ReceptiveField(
            tuple(high - low + 1 for low, high in box),
            tuple(strides),
            tuple((low + high) / 2 - m * stride for (low, high), m, stride in zip(box, middle, strides, strict=True)),
            tuple(low == 0 or high == side - 1 for (low, high), side in zip(box, sides, strict=True)),
        )

    def counts(self, name: str) -> tuple[int, ...]:
        """Units of a layer in each dimension of the image; 1 each for a layer without these dimensions."""
        units = self.linear[name]
        if units.dim() == self.images.dim():
            return tuple(units.shape[2:])
        return (1,) * (self.images.dim() - 2)

    def _box(self, name: str, unit: tuple[int, ...]) -> list[tuple[int, int]] | None:
        """First and last pixel, per dimension, that a unit (all its channels) depends on; None for no pixel."""
        output = self.linear[name][(0, slice(None), *unit)].sum()
        seen = torch.zeros(self.images.shape[2:], dtype=torch.bool)
        if output.requires_grad:
            (gradient,) = torch.autograd.grad(output, self.images, retain_graph=True, allow_unused=True)
            seen = seen if gradient is None else (gradient[0] != 0).any(0)  # (height, width)
        box: list[tuple[int, int]] = []
        for axis in range(seen.dim()):
            others = [d for d in range(seen.dim()) if d != axis]
            places = (seen.any(dim=others) if others else seen).nonzero()
            # where no gradient is, from the wrong ends, to be widened
            box.append((int(places[0]), int(places[-1])) if len(places) else (seen.shape[axis] - 1, 0))
        outside = torch.ones_like(seen)
        if seen.any():
            outside[tuple(slice(low, high + 1) for low, high in box)] = False
        if self._reaches(name, unit, outside):
            return self._widened(name, unit, box)
        return box if seen.any() else None

    def _reaches(self, name: str, unit: tuple[int, ...], pixels: Tensor) -> bool:
        """Whether NaN at these pixels (a mask) makes the unit NaN, with the functions as they are."""
        with torch.no_grad():
            self.model(self.images.masked_fill(pixels, float("nan")))
        return bool(self.outputs[name][(0, slice(None), *unit)].isnan().any())

    def _widened(self, name: str, unit: tuple[int, ...], box: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The box, grown by bisection to what NaN finds outside of it: a gradient may vanish where a value does not."""
        wide = []
        for axis, (low, high) in enumerate(box):
            side = self.images.shape[2 + axis]
            shape = [-1 if d == axis else 1 for d in range(len(box))]
            pixel = torch.arange(side).reshape(shape).expand(self.images.shape[2:])
            low = _first(low, lambda p, pixel=pixel: self._reaches(name, unit, pixel <= p))
            high = (
                side
                - 1
                - _first(
                    side - 1 - high, lambda p, pixel=pixel, side=side: self._reaches(name, unit, pixel >= side - 1 - p)
                )
            )
            wide.append((low, high))
        return wide


def _first(known: int, holds: Callable[[int], bool]) -> int:
    """The smallest number for which a monotone condition holds, given one for which it is known to."""
    low, high = 0, known
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _positive_copy(model: nn.Module) -> nn.Module:
    """A float64 copy in evaluation mode whose weights are positive and average their inputs, so that nothing cancels,
    vanishes, explodes or dies."""
    probe = copy.deepcopy(model).to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in probe.named_parameters():
        if parameter.dim() >= 2:
            fan_in = parameter[0].numel()
            parameter.copy_((torch.rand(parameter.shape, dtype=torch.float64, generator=draw) + 0.5) / fan_in)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for name, buffer in probe.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()
        elif name.endswith("running_var"):
            buffer.fill_(1.0)
    return probe
