"""Units against random directions: is it the axis or the space of activations that carries meaning?

C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
networks*, ICLR 2014, section 3 and figures 1 to 4, https://arxiv.org/abs/1312.6199
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from claimwise.doors import Bounds, check_batch
from claimwise.explain.layers_by_name import Layer, find_layer, record
from claimwise.undisturbed import Mode, undisturbed


@dataclass(frozen=True, eq=False)
class StrongestImages:
    """What :func:`strongest_images` returns; row ``d`` belongs to direction ``d``."""

    values: Float[Tensor, "directions k"]
    """Inner products, from the largest down."""
    images: Int[Tensor, "directions k"]
    """The image each belongs to, counted over all batches."""


def random_directions(
    n: int, d: int, *, generator: torch.Generator, dtype: torch.dtype | None = None
) -> Float[Tensor, "n d"]:
    r"""Directions drawn evenly from the unit sphere.

    .. math:: v = g / \lVert g \rVert, \qquad g \sim N(0, I_d)

    Args:
        n: Directions.
        d: Dimensions: units of the layer.
        generator: Draws them, on its device.
        dtype: Of the result; torch's default otherwise.

    Shape:
        (n, d), every row of norm 1.

    Raises:
        ValueError: ``n`` or ``d`` below 1.

    Differences from the paper:
        The paper says random and no more; a normalised direction changes no arg max.

    Example:
        >>> random_directions(2, 5, generator=torch.Generator().manual_seed(0)).norm(dim=1)
        tensor([1., 1.])
    """
    for name, value in (("n", n), ("d", d)):
        if value < 1:
            raise ValueError(f"random_directions: {name} must be >= 1, got {value}")
    drawn = torch.randn(n, d, generator=generator, device=generator.device, dtype=dtype)
    return drawn / drawn.norm(dim=1, keepdim=True)


@torch.no_grad()
def strongest_images(
    model: nn.Module,
    layer: Layer,
    x: Tensor | Iterable,
    *,
    directions: Float[Tensor, "directions units"] | None = None,
    k: int = 8,
    batch_size: int = 500,
    call: int | None = None,
    mode: Mode = "eval",
) -> StrongestImages:
    r"""The images of a data set that lie farthest along directions of a layer, for many directions in one pass.

    .. math:: x'_v = \arg\max_{x \in I} \langle \phi(x), v \rangle

    with :math:`I` the images, :math:`\phi` the layer's activations, flattened, and :math:`v` a direction; a unit
    vector :math:`e_i` asks for unit :math:`i`. The paper takes images that the network was not trained on. Of equal
    ones the earlier image comes first.

    Args:
        model: Any module. It runs in eval mode and is left as it was.
        layer: Name of a layer or the layer itself; ``""`` for the model's own output.
        x: All images in one tensor, or batches of them (of pairs, as a ``DataLoader`` gives them, the first).
        directions: One a row; by default every unit of the layer.
        k: Images a direction.
        batch_size: Images a pass, for a tensor ``x``.
        call: Which call of a layer that runs several times.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` (images, \*), ``directions`` (directions, units) with all numbers of the layer for one image as units.

    Raises:
        TypeError: Images not floating point; what :func:`~claimwise.explain.record` refuses.
        ValueError: ``k`` or ``batch_size`` below 1; fewer than k images; directions of another size than the layer,
            or not finite; activations that are not finite; no layer of that name.

    Differences from the paper:
        The paper takes :math:`\arg\max`; here the k largest, as its figures show.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> x = torch.tensor([[0.0, 1.0], [3.0, 0.0], [2.0, 2.0]])
        >>> strongest_images(model, "0", x, k=2).images.tolist()
        [[1, 2], [2, 0]]
        >>> strongest_images(model, "0", x, directions=torch.tensor([[-1.0, 0.5]]), k=1).images.tolist()
        [[0]]
    """
    name = "strongest_images"
    find_layer(model, layer)
    for argument, value in (("k", k), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}: {argument} must be >= 1, got {value}")
    if directions is not None and not bool(directions.isfinite().all()):
        raise ValueError(f"{name}: directions must be finite, got NaN or infinite entries")
    values = images = None
    seen = 0
    for batch in torch.split(x, batch_size) if isinstance(x, Tensor) else _first_of(x):
        check_batch(name, batch, None)
        if len(batch) == 0:
            continue
        (activation,) = record(model, layer, batch, call=call, mode=mode).values()
        along = _along(name, activation, directions, len(batch)).T  # (directions, batch)
        if not bool(along.isfinite().all()):
            raise ValueError(f"{name}: activations of layer {layer!r} must be finite, got NaN or infinity")
        numbers = torch.arange(seen, seen + len(batch), device=along.device).expand(len(along), -1)
        seen += len(batch)
        if values is not None and images is not None:  # leaders so far come first, and so win ties
            along, numbers = torch.cat([values, along], 1), torch.cat([images, numbers], 1)
        order = along.argsort(dim=1, descending=True, stable=True)[:, :k]
        values, images = along.gather(1, order), numbers.gather(1, order)
    if values is None or images is None or seen < k:
        raise ValueError(f"{name}: k={k} images a direction need as many images, got {seen}")
    return StrongestImages(values, images)


def maximise(
    model: nn.Module,
    layer: Layer,
    x: Float[Tensor, "starts *shape"],
    *,
    directions: Float[Tensor, "directions units"],
    steps: int = 100,
    step_size: float = 0.1,
    decay: float = 0.0,
    bounds: Bounds = (0.0, 1.0),
    call: int | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "starts *shape"]:
    r"""Inputs that go as far along directions of a layer as gradient ascent takes them, all directions at once.

    .. math:: x \leftarrow \Pi\left[ (1 - \lambda \eta) x + \eta \frac{g}{\lVert g \rVert} \right], \qquad
              g = \nabla_x \langle \phi(x), v \rangle

    with :math:`\phi` the layer's activations, :math:`v` the direction, :math:`\eta` the step size, :math:`\lambda` the
    decay (the gradient of :math:`\tfrac\lambda2 \lVert x \rVert^2`) and :math:`\Pi` the clipping to ``bounds``. The
    furthest point on the way is what comes back.

    Args:
        model: Any module. It runs in eval mode and is left as it was.
        layer: Name of a layer or the layer itself; ``""`` for the model's own output.
        x: Where each direction's ascent starts, for instance noise or the mean image repeated.
        directions: One a row.
        steps: Gradient steps.
        step_size: Length of each, in units of ``x`` (2-norm of the whole input).
        decay: Weight decay on the input.
        bounds: Range of the inputs, which ``x`` must lie in; None for no box.
        call: Which call of a layer that runs several times.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` and the result (directions, \*), ``directions`` (directions, units).

    Raises:
        TypeError: ``x`` not floating point; what :func:`~claimwise.explain.record` refuses.
        ValueError: ``steps`` below 1, ``step_size`` not positive, ``decay`` negative, as many starts as directions not
            given, directions of another size than the layer, a layer that does not depend on ``x``, a gradient that is
            not finite, ``x`` outside ``bounds``.

    Differences from the paper:
        The paper searches a data set only; ascent on the input is the usual companion.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> maximise(model, "0", torch.full((1, 2), 0.5), directions=torch.tensor([[1.0, 0.0]])).tolist()
        [[1.0, 0.5]]
    """
    name = "maximise"
    check_batch(name, x, bounds)
    find_layer(model, layer)
    if steps < 1:
        raise ValueError(f"{name}: steps must be >= 1, got {steps}")
    if not (math.isfinite(step_size) and step_size > 0):
        raise ValueError(f"{name}: step_size must be > 0, got {step_size}")
    if not (math.isfinite(decay) and decay >= 0):
        raise ValueError(f"{name}: decay must be >= 0, got {decay}")
    if len(directions) != len(x):
        raise ValueError(
            f"{name}: x must hold one start a direction, got {len(x)} for {len(directions)} directions; "
            "repeat one with x.expand(len(directions), ...)"
        )
    now, furthest, best = x.detach().clone(), x.detach().clone(), None
    with undisturbed(model, mode), torch.inference_mode(False), torch.enable_grad():
        directions = directions.detach().clone()
        for step in range(steps + 1):
            inputs = now.clone().requires_grad_()
            (activation,) = record(model, layer, inputs, call=call, mode="as-is").values()
            if not activation.requires_grad:
                raise ValueError(f"{name}: layer {layer!r} does not depend on x; does the model detach its input?")
            along = (_flat(name, activation, directions, len(x)) * directions.to(activation.dtype)).sum(1)
            value = along.detach() - decay / 2 * now.square().flatten(1).sum(1)
            better = value > best if best is not None else torch.ones_like(value, dtype=torch.bool)
            furthest = torch.where(_beside(better, x), now, furthest)
            best = value if best is None else torch.maximum(best, value)
            if step == steps:
                return furthest
            (gradient,) = torch.autograd.grad(along.sum(), inputs)
            if not bool(gradient.isfinite().all()):
                raise ValueError(f"{name}: the gradient must be finite, got NaN or infinity in step {step}")
            length = gradient.flatten(1).norm(dim=1)
            unit = gradient / _beside(torch.where(length > 0, length, 1.0), x)
            now = (1 - decay * step_size) * now + step_size * unit
            if bounds is not None:
                now = now.clamp(*bounds)
    raise AssertionError("unreachable: the last step returns")


@dataclass(frozen=True, eq=False)
class Purity:
    """What :func:`purity` returns, one number a direction."""

    purity: Float[Tensor, " directions"]
    """Share of the most frequent class among the k images: 1 where all are of one class."""
    classes: Int[Tensor, " directions"]
    """That class; of equally frequent ones the smallest number."""
    entropy: Float[Tensor, " directions"]
    """Entropy of the classes among the k images, in nats: 0 where all are of one class."""


def purity(labels: Int[Tensor, "directions k"]) -> Purity:
    r"""How much of one class the images of each direction are.

    .. math:: \text{purity} = \max_c p_c, \qquad \text{entropy} = -\sum_c p_c \log p_c

    with :math:`p_c` the share of class :math:`c` among a direction's k images.

    Args:
        labels: Classes of the images, for instance ``y[found.images]`` with what :func:`strongest_images` found.

    Shape:
        (directions, k).

    Raises:
        ValueError: No images, negative class numbers.

    Differences from the paper:
        The paper looks at pictures; this puts a number on what it calls semantically coherent.

    Example:
        >>> purity(torch.tensor([[3, 3, 3, 1], [0, 1, 2, 3]])).purity
        tensor([0.7500, 0.2500])
    """
    if labels.shape[1] == 0 or len(labels) == 0:
        raise ValueError(f"purity: at least one image a direction is needed, got shape {tuple(labels.shape)}")
    if int(labels.min()) < 0:
        raise ValueError(f"purity: class numbers must be >= 0, got {int(labels.min())}")
    counts = labels.new_zeros(len(labels), int(labels.max()) + 1, dtype=torch.long)
    counts.scatter_add_(1, labels.long(), torch.ones_like(labels, dtype=torch.long))
    share = counts / labels.shape[1]  # (directions, classes)
    largest, which = share.max(1)
    return Purity(largest, which, -torch.xlogy(share, share).sum(1))


def mean_similarity(x: Float[Tensor, "directions k *shape"]) -> Float[Tensor, " directions"]:
    r"""How alike the images of each direction are: mean cosine between the pairs, each image less its own mean.

    .. math:: \frac{2}{k (k - 1)} \sum_{i < j} \frac{\langle \tilde x_i, \tilde x_j \rangle}
              {\lVert \tilde x_i \rVert \lVert \tilde x_j \rVert}, \qquad \tilde x = x - \operatorname{mean}(x)

    with :math:`x_1 .. x_k` a direction's images; it is the mean correlation of their pixels.

    Args:
        x: The images, for instance ``images[found.images]``.

    Shape:
        (directions, k, \*).

    Raises:
        ValueError: Fewer than two images a direction, values that are not finite, an image of one colour.

    Differences from the paper:
        The paper looks at pictures.

    Example:
        >>> mean_similarity(torch.tensor([[[0.0, 1.0], [0.0, 5.0]], [[0.0, 1.0], [1.0, 0.0]]])).round()
        tensor([ 1., -1.])
    """
    many = x.shape[1]
    if many < 2:
        raise ValueError(f"mean_similarity: at least 2 images a direction are needed, got {many}")
    if not bool(x.isfinite().all()):
        raise ValueError("mean_similarity: images must be finite, got NaN or infinite values")
    flat = x.flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    length = flat.norm(dim=2, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError("mean_similarity: an image of one value everywhere has no direction; leave it out")
    # the squared length of the sum holds every pair twice, and every image with itself
    total = (flat / length).sum(1).square().sum(1)
    return (total - many) / (many * (many - 1))


def _first_of(batches: Iterable) -> Iterator[Tensor]:
    for batch in batches:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def _flat(name: str, activation: Tensor, directions: Tensor | None, batch: int) -> Tensor:
    """(batch, units)"""
    if len(activation) != batch:
        raise ValueError(
            f"{name}: the layer must put out one activation an image, got shape {tuple(activation.shape)} for {batch}"
        )
    flat = activation.reshape(batch, -1)
    if directions is not None and directions.shape[1] != flat.shape[1]:
        raise ValueError(
            f"{name}: directions must have one entry a unit of the layer, {flat.shape[1]}, "
            f"got {directions.shape[1]}; its activations are of shape {tuple(activation.shape[1:])}"
        )
    return flat


def _along(name: str, activation: Tensor, directions: Tensor | None, batch: int) -> Tensor:
    """Inner products, (batch, directions)."""
    flat = _flat(name, activation, directions, batch)
    return flat if directions is None else flat @ directions.to(flat).T


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """One value an example, to be broadcast over ``x``."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
