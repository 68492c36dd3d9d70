r"""Sobel's edge operator.

I. Sobel and G. Feldman, *A 3x3 isotropic gradient operator for image processing*, Stanford Artificial Intelligence
Project, 1968; as printed in R. Duda and P. Hart, *Pattern Classification and Scene Analysis*, 1973, p. 271.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.layers.separable_convolution import Boundary, separable_convolution


def sobel_kernels(
    *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Float[Tensor, "2 3 3"]:
    r"""The two masks, for cross-correlation as torch's convolutions do it.

    .. math:: G_x = \begin{pmatrix} -1 & 0 & 1 \\ -2 & 0 & 2 \\ -1 & 0 & 1 \end{pmatrix}, \qquad G_y = G_x^\top

    :math:`G_x = (1, 2, 1)^\top (-1, 0, 1)`: smoothing one way, a difference the other.

    Args:
        dtype: Of the masks; by default torch's default.
        device: Of the masks.

    Shape:
        Output (2, 3, 3): x (along the width, positive where it grows brighter to the right), then y (downwards).

    Raises:
        Nothing.

    Differences from the paper:
        none; a true convolution would flip the sign of both.

    Example:
        >>> sobel_kernels()[0]
        tensor([[-1.,  0.,  1.],
                [-2.,  0.,  2.],
                [-1.,  0.,  1.]])
    """
    smooth = torch.tensor([1.0, 2.0, 1.0], dtype=dtype, device=device)
    difference = torch.tensor([-1.0, 0.0, 1.0], dtype=dtype, device=device)
    across = torch.outer(smooth, difference)
    return torch.stack([across, across.T])


@dataclass(frozen=True, eq=False)
class Edges:
    """What :func:`sobel` returns, each of the image's shape."""

    x: Tensor
    """Difference along the width."""
    y: Tensor
    """Difference along the height."""

    @property
    def magnitude(self) -> Tensor:
        r""":math:`\sqrt{G_x^2 + G_y^2}`; its gradient where both vanish is 0."""
        square = self.x.square() + self.y.square()
        flat = square == 0
        return torch.where(flat, 0.0, torch.where(flat, 1.0, square).sqrt())


def sobel(x: Float[Tensor, "*batch height width"], *, boundary: Boundary = "replicate") -> Edges:
    r"""Edges of an image: its two Sobel differences and their magnitude.

    .. math:: |\nabla| = \sqrt{(G_x \star x)^2 + (G_y \star x)^2}

    with :math:`\star` cross-correlation. For a step of height h along a straight line the magnitude is 4h on both
    sides of an upright or level one.

    Args:
        x: Images.
        boundary: What lies beyond the border; a constant image must have no edges, so not ``"zero"`` by default.

    Shape:
        ``x`` (..., height, width) -> three of the same shape.

    Raises:
        As :func:`separable_convolution`.

    Differences from the paper:
        none; the paper leaves the border open.

    Example:
        >>> import torch
        >>> sobel(torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 3)).magnitude[1]
        tensor([0., 4., 4., 0.])
    """
    smooth = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device)
    difference = torch.tensor([1.0, 0.0, -1.0], dtype=x.dtype, device=x.device)  # flipped: this is a convolution
    return Edges(
        x=separable_convolution(x, [smooth, difference], boundary=boundary, method="matrix"),
        y=separable_convolution(x, [difference, smooth], boundary=boundary, method="matrix"),
    )
