"""Correspondence: does hiding the same part change the features of different images alike?

M. Zeiler, R. Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV 2014, section 4.3 and table 1,
https://arxiv.org/abs/1311.2901
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from claimwise.doors import check_batch
from claimwise.explain.layers_by_name import Layer, record
from claimwise.explain.occlusion import check_fill
from claimwise.undisturbed import Mode


@dataclass(frozen=True, eq=False)
class Correspondence:
    """What :func:`correspondence` returns; the smaller a distance, the more the change has in common."""

    layers: tuple[str, ...]
    mean: Float[Tensor, "layers parts"]
    """Mean Hamming distance over the pairs of images: the paper's figure."""
    spread: Float[Tensor, "layers parts"]
    """Standard deviation over the pairs; NaN for a single pair."""
    distances: Float[Tensor, "layers parts pairs"]
    """Of images i < j, in the order (0, 1), (0, 2), ..., (1, 2), ..."""


def correspondence(
    model: nn.Module,
    layers: Layer | Sequence[Layer],
    x: Float[Tensor, "batch channels height width"],
    parts: Int[Tensor, "parts batch 4"],
    *,
    fill: float | Tensor = 0.0,
    call: int | None = None,
    mode: Mode = "eval",
) -> Correspondence:
    r"""Hides a part of each image and compares, between images, which features rise and which fall.

    .. math::
        \epsilon_i^l = x_i^l - \tilde x_i^l, \qquad
        \Delta_l = \frac{1}{n (n - 1)} \sum_{i \ne j} H(\operatorname{sign} \epsilon_i^l,
        \operatorname{sign} \epsilon_j^l), \qquad H(a, b) = \frac1{d_l} \sum_k [a_k \ne b_k]

    with :math:`x_i^l` the features of image :math:`i` at layer :math:`l`, :math:`\tilde x_i^l` those of the image with
    the part hidden, :math:`d_l` their number and :math:`n` the number of images. A sign is -1, 0 or 1: a feature that
    the change does not reach agrees with another such feature.

    Args:
        model: Any module; it runs in eval mode, without gradients, and is left as it was.
        layers: One layer or several, names or modules.
        x: At least two images.
        parts: The rectangle to hide: top, left, height and width in pixels, for every part (left eye, nose, ...) and
            every image.
        fill: What is shown instead: a number, one a channel, or a picture, as for
            :func:`~claimwise.explain.occlusion`.
        call: Which call of a layer that runs several times in a pass, from 0; by default a layer must run once.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.

    Shape:
        ``x`` (batch, channels, height, width), ``parts`` (parts, batch, 4); the result (layers, parts).

    Raises:
        TypeError: ``x`` not floating point; ``parts`` not integer.
        ValueError: Fewer than two images; a part that is empty or reaches beyond its image; NaN; no such layer.

    Differences from the paper:
        The paper writes a sum over pairs, with no normalisation; its figures (.07, with a spread) can only be means of
        a Hamming distance per feature, which is what this computes.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[1.0, 2.0]]], [[[3.0, -4.0]]]])
        >>> parts = torch.tensor([[[0, 0, 1, 1]] * 2, [[0, 1, 1, 1]] * 2])  # the left pixel, the right pixel
        >>> correspondence(torch.nn.Identity(), "", x, parts).mean
        tensor([[0.0000, 0.5000]], dtype=torch.float64)
    """
    check_batch("correspondence", x, None)
    if x.ndim != 4 or len(x) < 2:
        raise ValueError(
            f"correspondence: x must be at least two images, (batch, channels, height, width), got {tuple(x.shape)}"
        )
    if not isinstance(parts, Tensor) or parts.is_floating_point() or parts.dtype == torch.bool:
        raise TypeError("correspondence: parts must be a tensor of integers: top, left, height, width")
    if parts.ndim != 3 or parts.shape[1:] != (len(x), 4):
        raise ValueError(
            f"correspondence: parts must be (parts, batch, 4), one rectangle an image ({len(x)}), "
            f"got {tuple(parts.shape)}"
        )
    picture = check_fill("correspondence", fill, x)
    hidden = x.detach().repeat(len(parts), 1, 1, 1)  # (parts * batch, channels, height, width)
    for n, (top, left, height, width) in enumerate(parts.flatten(0, 1).tolist()):
        if not (0 <= top < top + height <= x.shape[2] and 0 <= left < left + width <= x.shape[3]):
            raise ValueError(
                f"correspondence: a part must lie in the image of {x.shape[2]} x {x.shape[3]} pixels, got top {top}, "
                f"left {left}, height {height}, width {width}"
            )
        place = (slice(None), slice(top, top + height), slice(left, left + width))
        hidden[n][place] = picture[n % len(x)][place]
    with torch.no_grad():
        before = record(model, layers, x.detach(), call=call, mode=mode)
        after = record(model, layers, hidden, call=call, mode=mode)
    one, other = torch.triu_indices(len(x), len(x), 1, device=x.device)  # pairs i < j
    distances = []
    for name, features in before.items():
        change = features.flatten(1) - after[name].reshape(len(parts), len(x), -1)
        signs = change.sign()  # (parts, batch, features)
        distances.append((signs[:, one] != signs[:, other]).to(torch.float64).mean(2))
    stacked = torch.stack(distances)
    spread = stacked.std(2) if stacked.shape[2] > 1 else torch.full_like(stacked[..., 0], torch.nan)
    return Correspondence(tuple(before), stacked.mean(2), spread, stacked)
