"""Occlusion sensitivity: what a network says while a patch that hides part of the image moves over it.

M. Zeiler, R. Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV 2014, section 4.2 and figure 7,
https://arxiv.org/abs/1311.2901
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from claimwise.doors import check_batch, check_labels, check_logits
from claimwise.explain.layers_by_name import Layer, find_layer
from claimwise.explain.windowed_recomputation import Tape, UntraceableError, record_tape, replay, whole_map
from claimwise.undisturbed import Mode, undisturbed

AT_ONCE = 2**23
"""Numbers in the largest map of all the occluded images that are computed at once (32 MiB of float32)."""


softmax = partial(torch.softmax, dim=-1)


@dataclass(frozen=True, eq=False)
class OcclusionMaps:
    """What :func:`occlusion` returns. A map has one entry a place of the patch, (batch, rows, columns).

    What was not asked for is None: the class's maps where only a layer was, and the layer's where none was.
    """

    top: Int[Tensor, " rows"]
    """First row that the patch hides."""
    left: Int[Tensor, " columns"]
    """First column that it hides."""
    patch: tuple[int, int]
    """Its height and width in pixels."""
    image: tuple[int, int]
    """Height and width of the image."""
    recomputed: str
    """``"windows"``, or ``"whole images"`` and why nothing less could be recomputed. The maps are the same."""
    probability: Float[Tensor, "batch rows columns"] | None = None
    """Of the target."""
    clean_probability: Float[Tensor, " batch"] | None = None
    """Of the target when nothing is hidden."""
    predicted: Int[Tensor, "batch rows columns"] | None = None
    """Most probable class."""
    clean_predicted: Int[Tensor, " batch"] | None = None
    activity: Float[Tensor, "batch rows columns"] | None = None
    """Sum over the feature map."""
    clean_activity: Float[Tensor, " batch"] | None = None
    feature_map: Int[Tensor, " batch"] | None = None
    """Which map of the layer."""

    def on_pixels(self, values: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch height width"]:
        """A map of places as a picture of the image's size: each pixel has the mean over the patches that hide it.

        NaN where no patch does.

        Example:
            >>> maps = occlusion(lambda x: x.flatten(1), 0, torch.eye(2)[None, None], patch=1)
            >>> maps.on_pixels(maps.probability).shape
            torch.Size([1, 2, 2])
        """
        if values.shape[1:] != (len(self.top), len(self.left)):
            raise ValueError(
                f"on_pixels: values must be a map of the places, (batch, {len(self.top)}, {len(self.left)}), "
                f"got {tuple(values.shape)}"
            )

        def hides(starts: Tensor, length: int, size: int) -> Tensor:  # (places, pixels)
            pixels = torch.arange(size, device=starts.device)
            return ((pixels >= starts[:, None]) & (pixels < starts[:, None] + length)).to(values.dtype)

        rows = hides(self.top, self.patch[0], self.image[0]).to(values.device)
        columns = hides(self.left, self.patch[1], self.image[1]).to(values.device)
        return torch.einsum("bij,ih,jw->bhw", values, rows, columns) / torch.outer(rows.sum(0), columns.sum(0))


def occlusion(
    model: Callable[[Tensor], Tensor],
    target: int | Tensor | Layer,
    x: Float[Tensor, "batch channels height width"],
    *,
    patch: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    fill: float | Tensor = 0.0,
    layer: Layer | None = None,
    feature_map: int | Tensor | Literal["strongest"] = "strongest",
    call: int = 0,
    probabilities: Callable[[Tensor], Tensor] = softmax,
    mode: Mode = "eval",
) -> OcclusionMaps:
    r"""Hides a patch of the image, at every place in turn, and reads the network each time.

    .. math::
        x^{(i, j)}_{c, h, w} = \begin{cases} f_{c, h, w} & t_i \le h < t_i + p_1 \text{ and }
        l_j \le w < l_j + p_2 \\ x_{c, h, w} & \text{otherwise} \end{cases}

    with :math:`p` the patch, :math:`f` the fill and :math:`t_i = \min(i s_1, H - p_1)`,
    :math:`l_j = \min(j s_2, W - p_2)` for strides :math:`s`: where the stride does not divide, the last patch is moved
    back to end with the image. Returned are :math:`P(\text{target} \mid x^{(i, j)})`, the most probable class, and
    :math:`\sum_{u, v} \phi_k(x^{(i, j)})_{u, v}`, the activity of map :math:`k` of a layer :math:`\phi`.

    Only what the patch reaches is computed again: windows of the convolutional part, which grow from layer to layer,
    cut out of the maps of the unchanged image; from where a window is most of its map, whole maps. This is exact (up
    to the rounding of sums in another order). A model that cannot be repeated from a recording (its operators mix the
    images of a batch, or read numbers out in Python) is run on whole occluded images, many in a batch; ``recomputed``
    says so. Every
    image's recording is tried at one place against the model itself before it is used.

    Args:
        model: Any module or callable that returns logits. It runs in eval mode, without gradients, and is left as it
            was.
        target: A class, or one an image; or a layer (a name or a module), if nothing but a feature map's activity is
            wanted: the model then need not be a classifier.
        x: Images.
        patch: Height and width of the patch in pixels; one number for a square.
        stride: Pixels from place to place, down and to the right; one number for both.
        fill: What the patch shows: a number, one a channel (channels,), or a picture (channels, height, width) or
            (batch, channels, height, width), of which the patch shows its part. In the units of ``x``; the paper's
            grey is 0 where the mean is subtracted.
        layer: The layer of the feature map whose activity is returned beside the class's probability.
        feature_map: Which map of the layer (its second dimension), one for all images or one each; by default the one
            that is strongest in the unchanged image, as in the paper.
        call: Which call of a layer that runs several times in a pass, from 0.
        probabilities: From logits to probabilities; by default softmax.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.

    Shape:
        ``x`` (batch, channels, height, width); the maps (batch, rows, columns) with
        rows :math:`= \lceil (H - p_1) / s_1 \rceil + 1`.

    Raises:
        TypeError: ``x`` not floating point; patch, stride or target of another type.
        ValueError: A patch that is empty or larger than the image; a stride below 1; NaN in ``x`` or ``fill``; a
            target, layer or feature map that does not exist; an output that is not (batch, classes).

    Differences from the paper:
        The paper says neither the size nor the stride of its grey square.

    Example:
        >>> import torch
        >>> model = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 1, 1]], 1)  # two pixels are the logits
        >>> maps = occlusion(model, 0, torch.ones(1, 1, 2, 2), patch=1)
        >>> maps.probability
        tensor([[[0.2689, 0.5000],
                 [0.5000, 0.7311]]])
    """
    check_batch("occlusion", x, None)
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(
            f"occlusion: x must be images, (batch, channels, height, width), none of them 0, got {tuple(x.shape)}"
        )
    x = x.detach()
    size = _sides("patch", patch)
    step = _sides("stride", stride)
    if size[0] > x.shape[2] or size[1] > x.shape[3]:
        raise ValueError(
            f"occlusion: the patch must fit into the image of {x.shape[2]} x {x.shape[3]} pixels, "
            f"got {size[0]} x {size[1]}"
        )
    picture = check_fill("occlusion", fill, x)
    only_layer = isinstance(target, str | nn.Module)
    if only_layer:
        if layer is not None:
            raise ValueError(f"occlusion: give a class as target beside layer={layer!r}, or one layer alone")
        layer = target  # type: ignore[assignment]
    elif isinstance(target, bool) or not isinstance(target, int | Tensor):
        raise TypeError(f"occlusion: target must be a class, one an image, or a layer, got {type(target).__name__}")
    module = None
    if layer is not None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"occlusion: a {type(model).__name__} has no layers; give an nn.Module, or no layer")
        module = find_layer(model, layer)
    classes = None
    if not only_layer:
        classes = target if isinstance(target, Tensor) and target.ndim else torch.full((len(x),), int(target))  # type: ignore[arg-type]
        check_labels("occlusion", classes, len(x))
        classes = classes.to(x.device).long()
    top = np.minimum(np.arange(math.ceil((x.shape[2] - size[0]) / step[0]) + 1) * step[0], x.shape[2] - size[0])
    left = np.minimum(np.arange(math.ceil((x.shape[3] - size[1]) / step[1]) + 1) * step[1], x.shape[3] - size[1])

    reading = _Reading(model, module, call, not only_layer)
    with undisturbed(model, mode), torch.inference_mode(False), torch.no_grad():
        if x.is_inference():
            x = x.clone()
        logits, activations = reading.run(x)
        channels = None
        if classes is not None:
            check_logits("occlusion", logits, len(x))
            check_labels("occlusion", classes, len(x), logits.shape[1])
        if module is not None:
            channels = _channels(feature_map, activations, len(x))
        outputs, activities, reasons = [], [], []
        for i in range(len(x)):
            channel = None if channels is None else int(channels[i])
            output, activity, reason = _places(reading, x[i : i + 1], picture[i], size, top, left, channel)
            outputs.append(output)
            activities.append(activity)
            reasons.append(reason)
        shape = (len(x), len(top), len(left))
        maps: dict[str, Tensor] = {}
        if classes is not None:
            stacked = torch.stack(outputs)  # (batch, places, classes)
            chosen = classes[:, None, None].expand(-1, stacked.shape[1], 1)
            maps["probability"] = probabilities(stacked.flatten(0, 1)).reshape(stacked.shape).gather(2, chosen)
            maps["probability"] = maps["probability"].reshape(shape)
            maps["predicted"] = stacked.argmax(2).reshape(shape)
            maps["clean_probability"] = probabilities(logits).gather(1, classes[:, None])[:, 0]
            maps["clean_predicted"] = logits.argmax(1)
        if channels is not None:
            maps["activity"] = torch.stack(activities).reshape(shape)
            maps["clean_activity"] = _activity(activations).gather(1, channels[:, None])[:, 0]
            maps["feature_map"] = channels
    why = next((reason for reason in reasons if reason is not None), None)
    return OcclusionMaps(
        top=torch.as_tensor(top),
        left=torch.as_tensor(left),
        patch=size,
        image=(x.shape[2], x.shape[3]),
        recomputed="windows" if why is None else f"whole images: {why}",
        **maps,
    )


@dataclass(frozen=True, eq=False)
class _Reading:
    """What is read of a model: its output, the output of a layer, or both."""

    model: Callable[[Tensor], Tensor]
    layer: nn.Module | None
    call: int
    output: bool

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Output and the layer's output for whole images; zeros for what is not read."""
        if self.layer is None:
            return self.model(images), images.new_zeros(len(images), 1)
        kept: list[Tensor] = []

        def keep(output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim < 2:
                raise TypeError(f"occlusion: the layer must put out one tensor of maps, got {type(output).__name__}")
            kept.append(output.clone())  # before a rectifier in place

        handle = self.layer.register_forward_hook(lambda _m, _i, output: keep(output))
        try:
            output = self.model(images)
        finally:
            handle.remove()
        if len(kept) <= self.call or self.call < 0:
            raise ValueError(
                f"occlusion: layer {type(self.layer).__name__} ran {len(kept)} times in one pass, "
                f"got call={self.call}; count from 0"
            )
        return output, kept[self.call]

    def tape(self, image: Tensor) -> Tape:
        return record_tape(self.model, image.clone(), self.layer, self.call)


def _places(
    reading: _Reading,
    image: Tensor,
    picture: Tensor,
    size: tuple[int, int],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    channel: int | None,
) -> tuple[Tensor, Tensor, str | None]:
    """Logits (places, classes) and activity (places,) for one image, and why not by windows."""
    trouble: str | None = None
    try:
        tape = reading.tape(image)
        middle = slice(len(top) // 2, len(top) // 2 + 1), slice(len(left) // 2, len(left) // 2 + 1)
        place = (top[middle[0]], left[middle[1]])
        trouble = _disagreement(
            _from_tape(tape, reading, picture, size, *place, channel),
            _from_images(reading, image, picture, size, *place, channel),
        )
    except UntraceableError as objection:
        trouble = str(objection)
    largest = image.numel() if trouble is not None else tape.widest()
    if trouble is not None:
        largest *= 64  # the maps of a model that was not recorded are of unknown size
    at_once = max(1, AT_ONCE // largest)
    rows = max(1, at_once // len(left))
    columns = len(left) if rows > 1 else min(len(left), at_once)
    outputs, activities = [], []
    for i in range(0, len(top), rows):
        parts = []
        for j in range(0, len(left), columns):
            place = (top[i : i + rows], left[j : j + columns])
            if trouble is None:
                part = _from_tape(tape, reading, picture, size, *place, channel)
            else:
                part = _from_images(reading, image, picture, size, *place, channel)
            parts.append([value.reshape(len(place[0]), len(place[1]), *value.shape[1:]) for value in part])
        output, activity = (torch.cat([part[k] for part in parts], 1).flatten(0, 1) for k in range(2))
        outputs.append(output)
        activities.append(activity)
    return torch.cat(outputs), torch.cat(activities), trouble


def _patches(picture: Tensor, size: tuple[int, int], top: NDArray[np.int64], left: NDArray[np.int64]) -> Tensor:
    """What the patch shows at every place, (places, channels, height, width)."""
    return torch.stack([picture[:, t : t + size[0], s : s + size[1]] for t in top.tolist() for s in left.tolist()])


def _from_tape(
    tape: Tape,
    reading: _Reading,
    picture: Tensor,
    size: tuple[int, int],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    channel: int | None,
) -> tuple[Tensor, Tensor]:
    wanted = ([tape.output] if reading.output else []) + ([] if channel is None else [tape.layer])
    states = replay(tape, _patches(picture, size, top, left), top, left, wanted)
    nothing = picture.new_zeros(len(top) * len(left), 1)
    return (
        whole_map(tape, tape.output, states[tape.output]) if reading.output else nothing,
        nothing[:, 0] if channel is None else _activity(whole_map(tape, tape.layer, states[tape.layer], channel))[:, 0],
    )


def _from_images(
    reading: _Reading,
    image: Tensor,
    picture: Tensor,
    size: tuple[int, int],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    channel: int | None,
) -> tuple[Tensor, Tensor]:
    images = image.repeat(len(top) * len(left), 1, 1, 1)
    places = [(t, s) for t in top.tolist() for s in left.tolist()]
    for occluded, (t, s) in zip(images, places, strict=True):
        occluded[:, t : t + size[0], s : s + size[1]] = picture[:, t : t + size[0], s : s + size[1]]
    output, activations = reading.run(images)
    activity = image.new_zeros(len(images)) if channel is None else _activity(activations)[:, channel]
    return output if reading.output else image.new_zeros(len(images), 1), activity


def _disagreement(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> str | None:
    """Why the recording must not be used: it gives other numbers than the model."""
    for ours, theirs in zip(found, expected, strict=True):
        # Sums in another order differ by some units of rounding; a wrong value by more than their root.
        tolerance = math.sqrt(torch.finfo(theirs.dtype).eps) * max(1.0, float(theirs.abs().max()))
        if ours.shape != theirs.shape or not bool(((ours - theirs).abs() <= tolerance).all()):
            return "the model's operators, repeated, do not give what the model gives"
    return None


def _activity(activations: Tensor) -> Tensor:
    """Sum over each feature map, (batch, maps)."""
    return activations.flatten(2).sum(2) if activations.ndim > 2 else activations


def _sides(what: str, given: int | tuple[int, int]) -> tuple[int, int]:
    sides = (given, given) if isinstance(given, int) else given
    if not (
        isinstance(sides, tuple | list)
        and len(sides) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    ):
        raise TypeError(f"occlusion: {what} must be a number of pixels or (height, width), got {given!r}")
    if min(sides) < 1:
        raise ValueError(f"occlusion: {what} must be at least 1 pixel, got {given}")
    return (sides[0], sides[1])


def check_fill(name: str, fill: float | Tensor, x: Tensor) -> Tensor:
    """What is shown in the place of what is hidden, as pictures of x's shape; ``name`` is whom an error names."""
    given = torch.as_tensor(fill, dtype=x.dtype, device=x.device).detach()
    if not bool(given.isfinite().all()):
        raise ValueError(f"{name}: fill must be finite; give the value of a grey pixel")
    if given.ndim == 1:
        if len(given) != x.shape[1]:
            raise ValueError(f"{name}: fill must hold one number a channel ({x.shape[1]}), got {len(given)}")
        given = given[:, None, None]
    elif given.ndim > 0 and given.shape not in (x.shape, x.shape[1:]):
        raise ValueError(
            f"{name}: fill must be a number, one a channel, or a picture of shape {tuple(x.shape[1:])} "
            f"or {tuple(x.shape)}, got {tuple(given.shape)}"
        )
    return given.expand(x.shape)


def _channels(feature_map: int | Tensor | str, activations: Tensor, batch: int) -> Tensor:
    maps = activations.shape[1]
    if isinstance(feature_map, str):
        if feature_map != "strongest":
            raise ValueError(f"occlusion: feature_map must be a number or 'strongest', got {feature_map!r}")
        return _activity(activations).argmax(1)
    chosen = torch.as_tensor(feature_map, device=activations.device)
    chosen = chosen.expand(batch) if chosen.ndim == 0 else chosen
    if chosen.shape != (batch,) or chosen.is_floating_point():
        raise ValueError(
            f"occlusion: feature_map must be one number, or one an image ({batch}), got {tuple(chosen.shape)}"
        )
    if int(chosen.min()) < 0 or int(chosen.max()) >= maps:
        raise ValueError(f"occlusion: feature_map must be in 0..{maps - 1}, got {chosen.tolist()}")
    return chosen.long()
