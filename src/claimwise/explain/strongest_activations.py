"""The strongest activations of every feature map over a data set: where they are, their patches, what excites them.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013 (ECCV 2014),
https://arxiv.org/abs/1311.2901, section 4 and figure 2.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from claimwise.doors import check_batch
from claimwise.explain.deconvnet import deconvnet
from claimwise.explain.layers_by_name import Layer, find_layer, record
from claimwise.undisturbed import Mode
from claimwise.vision.receptive_field import ReceptiveField, receptive_field


@dataclass(frozen=True, eq=False)
class StrongestActivations:
    """What :func:`strongest_activations` returns; row ``m`` of everything belongs to map ``units[m]``."""

    units: Int[Tensor, " maps"]
    """Which maps (or dense units) of the layer were looked at."""
    values: Float[Tensor, "maps k"]
    """The activations, from the strongest down."""
    images: Int[Tensor, "maps k"]
    """The image each is in, counted over all batches; no image stands twice in a row."""
    positions: Int[Tensor, "maps k place"]
    """Where in the map; no columns for a dense layer."""
    corners: Int[Tensor, "maps k axis"]
    """First pixel (row, column) of each patch; negative where the receptive field begins in the padding."""
    patches: Float[Tensor, "maps k *patch"]
    """What each unit sees of its image: its receptive field, zero where that lies outside of the image."""
    reconstructions: Float[Tensor, "maps k *patch"] | None
    """The deconvnet's projection of each activation, cut to the same pixels; None if not asked for."""


@torch.no_grad()
def strongest_activations(
    model: nn.Module,
    layer: Layer,
    x: Tensor | Iterable,
    *,
    k: int = 9,
    units: Sequence[int] | None = None,
    reconstruct: bool = True,
    batch_size: int = 100,
    field: ReceptiveField | None = None,
    call: int | None = None,
    mode: Mode = "eval",
) -> StrongestActivations:
    r"""Finds the k images that excite each feature map most, in one pass over the data for all maps.

    .. math:: (i, p)_{m,1}, \dots, (i, p)_{m,k} = \text{the } k \text{ largest of } \max_p a_m(x_i)_p \text{ over } i

    with :math:`a_m(x_i)_p` the activation of map :math:`m` at place :math:`p` for image :math:`i`; of equal ones the
    earlier image and the first place. Each comes with the patch that the unit sees and, by
    :func:`~claimwise.explain.deconvnet`, with the pattern in it that caused the activation.

    Args:
        model: Any module. It runs in eval mode and is left as it was.
        layer: Name of a layer or the layer itself.
        x: All images in one tensor, or batches of them (of pairs, as a ``DataLoader`` gives them, the first). Batches
            are read once; of their images only those are kept that lead at the time.
        k: Activations a map.
        units: Maps to look at; all by default. Patches of all maps of a wide layer that sees the whole image take
            maps * k images of memory.
        reconstruct: Whether to run the deconvnet.
        batch_size: Images a pass, for a tensor ``x`` and for the deconvnet.
        field: The layer's receptive field; by default computed by :func:`~claimwise.vision.receptive_field`. Where
            that is clipped by the image, the patch is the whole side.
        call: Which call of a layer that runs several times; ``field`` is then yours to give.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` (images, channels, height, width), or without a height or with a depth; ``patches`` (maps, k, channels,
        rows, columns) with the sides of the receptive field.

    Raises:
        TypeError: Images not floating point; a layer that is neither name nor module.
        ValueError: No layer of that name; ``k`` or ``batch_size`` below 1; fewer than k images; a unit out of range;
            activations that are not finite; what :func:`~claimwise.explain.deconvnet` refuses.

    Differences from the paper:
        One activation an image at most, so that nine patches show nine images; the paper does not say.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 2, bias=False), torch.nn.ReLU())
        >>> _ = torch.nn.init.ones_(model[0].weight)
        >>> x = torch.zeros(3, 1, 4, 4)
        >>> x[0, 0, 1, 1], x[2, 0, 3, 3] = 1.0, 2.0
        >>> found = strongest_activations(model, "1", x, k=2)
        >>> found.values.tolist(), found.images.tolist(), found.positions.tolist()
        ([[2.0, 1.0]], [[2, 0]], [[[2, 2], [0, 0]]])
        >>> found.patches[0, 0, 0]
        tensor([[0., 0.],
                [0., 2.]])
    """
    name = "strongest_activations"
    module = find_layer(model, layer)
    for argument, value in (("k", k), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}: {argument} must be >= 1, got {value}")
    if call is not None and field is None:
        raise ValueError(f"{name}: for one of several calls of a layer give its receptive field with field=")
    leaders: _Leaders | None = None
    for batch in _batches(name, x, batch_size):
        check_batch(name, batch, None)
        if len(batch) == 0:
            continue
        (activation,) = record(model, layer, batch, call=call, mode=mode).values()
        if leaders is None:
            leaders = _Leaders(k, _chosen(name, units, activation))
        leaders.add(name, activation, batch, own=not isinstance(x, Tensor))
    if leaders is None or leaders.seen < k:
        raise ValueError(f"{name}: k={k} activations a map need as many images, got {leaders.seen if leaders else 0}")
    values, images, places = leaders.values.T, leaders.images.T, leaders.places.T  # (maps, k)
    maps = leaders.units[:, None].expand(len(values), k)
    positions = (
        torch.stack(torch.unravel_index(places, leaders.sides), -1) if leaders.sides else places[..., None][..., :0]
    )

    kept = sorted(leaders.kept)
    pixels = torch.stack([leaders.kept[image] for image in kept])  # (kept, channels, height, width)
    row = torch.searchsorted(torch.tensor(kept, device=images.device), images.contiguous())  # of an image in pixels
    sides = tuple(pixels.shape[2:])
    if leaders.sides:
        if field is None:
            known = next(known for known, part in model.named_modules() if part is module)
            field = receptive_field(model, tuple(pixels.shape[1:]), layer=known)
        size, corners = _boxes(name, field, positions, sides)
    else:  # a dense layer sees everything
        size, corners = sides, positions.new_zeros((*positions.shape[:2], len(sides)))

    patches = _cut(pixels, row.flatten(), corners.flatten(0, 1), size)
    reconstructions = None
    if reconstruct:
        reconstructions = torch.cat(
            [
                _cut(
                    deconvnet(model, layer, pixels[rows], unit=unit, position=position, call=call, mode=mode),
                    torch.arange(len(rows), device=rows.device),
                    corner,
                    size,
                )
                for rows, unit, position, corner in zip(
                    torch.split(row.flatten(), batch_size),
                    torch.split(maps.flatten(), batch_size),
                    torch.split(positions.flatten(0, 1), batch_size),
                    torch.split(corners.flatten(0, 1), batch_size),
                    strict=True,
                )
            ]
        ).reshape(*maps.shape, pixels.shape[1], *size)
    return StrongestActivations(
        leaders.units,
        values,
        images,
        positions,
        corners,
        patches.reshape(*maps.shape, *patches.shape[1:]),
        reconstructions,
    )


class _Leaders:
    """The k strongest so far, of each map: a column a map."""

    def __init__(self, k: int, units: Tensor) -> None:
        self.k, self.units, self.seen = k, units, 0
        self.sides: tuple[int, ...] = ()
        self.values = torch.empty(0, len(units), device=units.device)
        self.images = self.places = torch.empty(0, len(units), dtype=torch.long, device=units.device)
        self.kept: dict[int, Tensor] = {}
        """Images that lead in some map, by number."""

    def add(self, name: str, activation: Tensor, batch: Tensor, *, own: bool) -> None:
        """Let a batch compete. ``own``: its images are copied, so that the batch itself can be forgotten."""
        self.sides = tuple(activation.shape[2:])
        best, place = (
            activation[:, self.units].flatten(2).max(2)
            if self.sides
            else (
                activation[:, self.units],
                torch.zeros_like(activation[:, self.units], dtype=torch.long),
            )
        )  # (batch, maps)
        if not bool(best.isfinite().all()):
            raise ValueError(f"{name}: activations must be finite, got NaN or infinity; clean the model or the images")
        number = torch.arange(self.seen, self.seen + len(batch), device=best.device)[:, None].expand_as(best)
        self.seen += len(batch)
        # earlier images first, and a stable sort: of equal ones the earlier leads
        values, images, places = (
            torch.cat([before.to(new.dtype), new])
            for before, new in ((self.values, best), (self.images, number), (self.places, place))
        )
        values, order = values.sort(dim=0, descending=True, stable=True)
        first = order[: self.k]
        self.values, self.images, self.places = values[: self.k], images.gather(0, first), places.gather(0, first)
        start = self.seen - len(batch)
        leading = torch.unique(self.images).tolist()  # type: ignore[no-untyped-call]
        self.kept = {
            i: self.kept[i] if i < start else (batch[i - start].clone() if own else batch[i - start]) for i in leading
        }


def _batches(name: str, x: Tensor | Iterable, batch_size: int) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        check_batch(name, x, None)
        yield from torch.split(x.detach(), batch_size)  # type: ignore[no-untyped-call]
        return
    for batch in x:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def _chosen(name: str, units: Sequence[int] | None, activation: Tensor) -> Tensor:
    """Numbers of the maps to look at; refuses a layer without maps."""
    if activation.ndim < 2 or not activation.is_floating_point() or activation.layout != torch.strided:
        raise ValueError(
            f"{name}: the layer must put out real dense numbers (batch, maps, ...), got {activation.dtype} of shape "
            f"{tuple(activation.shape)}; name another layer"
        )
    count = activation.shape[1]
    chosen = list(range(count)) if units is None else list(units)
    wrong = [unit for unit in chosen if not 0 <= unit < count]
    if wrong or not chosen:
        raise ValueError(f"{name}: units must be some of 0..{count - 1}, got {wrong if chosen else 'none'}")
    return torch.tensor(chosen, device=activation.device)


def _boxes(
    name: str, field: ReceptiveField, positions: Tensor, sides: tuple[int, ...]
) -> tuple[tuple[int, ...], Tensor]:
    """Size of the patches, and the first pixel of each, (maps, k, axes)."""
    if len(field.size) != len(sides) or positions.shape[2] != len(sides):
        raise ValueError(
            f"{name}: images and maps must have the dimensions of the receptive field, {len(field.size)}, got "
            f"{len(sides)} and {positions.shape[2]}"
        )
    size = []
    corners = torch.empty_like(positions)
    for axis, side in enumerate(sides):
        if field.clipped[axis]:
            size.append(side)
            corners[..., axis] = 0
            continue
        size.append(field.size[axis])
        first = field.centre[axis] - (field.size[axis] - 1) / 2
        corners[..., axis] = (first + field.stride[axis] * positions[..., axis].double()).floor().long()
    return tuple(size), corners


def _cut(images: Tensor, rows: Tensor, corners: Tensor, size: tuple[int, ...]) -> Tensor:
    """A box of each image ``rows`` names, from its corner on; zero outside of the image. (rows, channels, *size)."""
    axes = len(size)
    index: list[Tensor] = [rows.reshape(-1, *[1] * (axes + 1)), torch.arange(images.shape[1], device=rows.device)]
    index[1] = index[1].reshape(-1, *[1] * axes)
    inside = torch.ones((), dtype=torch.bool, device=rows.device)
    for axis, extent in enumerate(size):
        pixel = corners[:, axis, None] + torch.arange(extent, device=rows.device)  # (rows, extent)
        pixel = pixel.reshape(-1, 1, *[extent if d == axis else 1 for d in range(axes)])
        inside = inside & (pixel >= 0) & (pixel < images.shape[2 + axis])
        index.append(pixel.clamp(0, images.shape[2 + axis] - 1))
    return images[tuple(index)].masked_fill(~inside, 0)
