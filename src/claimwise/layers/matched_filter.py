r"""Matched filter: where in an image a template is, by normalised inner products.

J. P. Lewis, *Fast normalized cross-correlation*, Vision Interface 1995; that correlating with the signal itself is the
best linear detector in white noise is D. North, 1943.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def matched_filter(
    x: Float[Tensor, "batch channels *shape"],
    template: Float[Tensor, "channels *window"],
    *,
    centred: bool = False,
) -> Float[Tensor, "batch *places"]:
    r"""The cosine between a template and each window of a signal or image.

    .. math:: \rho(n) = \frac{\langle w, x_n \rangle}{\lVert w \rVert\, \lVert x_n \rVert} \in [-1, 1]

    with :math:`x_n` the window of x at n and w the template. By Cauchy and Schwarz it is 1 exactly where the window is
    a positive multiple of the template. A plain convolution leaves out :math:`\lVert x_n \rVert` and may answer more
    to a brighter window that is less alike.

    Args:
        x: Signals or images.
        template: What is sought, with the channels of x.
        centred: Subtract each window's and the template's mean first (Lewis's coefficient): blind to brightness too.

    Shape:
        ``x`` (batch, channels, \*sides), ``template`` (channels, \*window) -> (batch, \*(sides - window + 1)), with one
        or two sides. A window without energy (all zero; centred: constant) gives 0.

    Raises:
        ValueError: Another number of axes, other channels, a template larger than the image, or one without energy.

    Differences from the paper:
        none; windows are summed by convolution, not from running sums, which lose digits.

    Example:
        >>> import torch
        >>> signal = torch.tensor([[[0.0, 1.0, 2.0, 8.0, 9.0]]])
        >>> [round(r, 2) for r in matched_filter(signal, torch.tensor([[1.0, 2.0]]))[0].tolist()]
        [0.89, 1.0, 0.98, 0.97]
    """
    dims = x.ndim - 2
    if dims not in (1, 2) or template.ndim != dims + 1:
        raise ValueError(
            "matched_filter: wants x (batch, channels, length) with a template (channels, length), or both with height "
            f"and width, got {tuple(x.shape)} and {tuple(template.shape)}"
        )
    if template.shape[0] != x.shape[1]:
        raise ValueError(f"matched_filter: x has {x.shape[1]} channels, the template {template.shape[0]}")
    if any(t > n or t < 1 for t, n in zip(template.shape[1:], x.shape[2:], strict=True)):
        raise ValueError(
            "matched_filter: the template must not be empty nor larger than the image, got "
            f"{tuple(template.shape[1:])} for {tuple(x.shape[2:])}"
        )
    template = template.to(device=x.device, dtype=x.dtype)
    convolve = F.conv1d if dims == 1 else F.conv2d
    if centred:
        template = template - template.mean()
        # any constant may be taken off; this one leaves small numbers to square
        x = x - x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
    norm = template.square().sum().sqrt()
    size = template.numel()
    smallest = torch.finfo(x.dtype).eps
    if not float(norm.detach()) > 0:
        raise ValueError("matched_filter: the template has no energy, so nothing resembles it; give another")
    product = convolve(x, template[None])[:, 0]  # (batch, *places)
    ones = template.new_ones(1, 1, *template.shape[1:])
    energy = convolve(x.square().sum(1, keepdim=True), ones)[:, 0]
    total = energy
    if centred:
        energy = energy - convolve(x.sum(1, keepdim=True), ones)[:, 0].square() / size
    # below this a window's energy is rounding of the sums it is a difference of
    empty = energy <= 4 * size * smallest * (total if centred else 0 * total)
    cosine = product / (norm * torch.where(empty, 1.0, energy).sqrt())
    return torch.where(empty, 0.0, cosine).clamp(-1, 1)
