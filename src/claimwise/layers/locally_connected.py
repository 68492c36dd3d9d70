r"""A layer with local receptive fields and no weight sharing: a convolution whose kernel differs from place to place.

Y. LeCun, *Generalization and network design strategies*, 1989 (Net-3: local connections without shared weights against
Net-4 with them); K. Gregor and Y. LeCun, *Emergence of complex-like cells in a temporal product network with local
receptive fields*, https://arxiv.org/abs/1006.0448.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LocallyConnected2d(nn.Module):
    r"""A convolution without weight sharing.

    .. math:: y_{o,i,j} = b_{o,i,j} + \sum_c \sum_{u,v} W_{i,j,o,c,u,v}\; x_{c,\, is + u,\, js + v}

    It has :math:`H' W' O (C k^2 + 1)` parameters where the convolution has :math:`O (C k^2 + 1)`.

    Args:
        in_channels: C.
        out_channels: O.
        image_size: (H, W) of the input, which a layer without sharing must know.
        kernel_size: k.
        stride: s.
        padding: Zeros on each side.
        bias: Whether there is b, one for each place and channel.

    Shape:
        ``(batch, C, H, W)`` -> ``(batch, O, H', W')`` with H' = (H + 2 padding - k) // s + 1; ``weight`` (H' W', O,
        C k k), ``bias`` (O, H', W').

    Raises:
        ValueError: A size out of range, a kernel larger than the padded image; on calling, another shape.

    Differences from the paper:
        none; initialised as torch's convolutions are.

    Example:
        >>> import torch
        >>> layer = LocallyConnected2d(1, 4, (28, 28), 5)
        >>> sum(p.numel() for p in layer.parameters()), layer(torch.zeros(2, 1, 28, 28)).shape
        (59904, torch.Size([2, 4, 24, 24]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: tuple[int, int],
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"LocallyConnected2d: {name} must be at least 1, got {size}")
        if padding < 0:
            raise ValueError(f"LocallyConnected2d: padding must be >= 0, got {padding}")
        if len(image_size) != 2 or min(image_size) + 2 * padding < kernel_size:
            raise ValueError(
                f"LocallyConnected2d: image_size must be (height, width), padded no smaller than the kernel of "
                f"{kernel_size}, got {image_size} with padding {padding}"
            )
        self.in_channels, self.out_channels, self.image_size = in_channels, out_channels, image_size
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        height, width = ((side + 2 * padding - kernel_size) // stride + 1 for side in image_size)
        self.output_size = (height, width)
        self.weight = nn.Parameter(torch.empty(height * width, out_channels, in_channels * kernel_size**2))
        self.bias = nn.Parameter(torch.empty(out_channels, height, width)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out down across"]:
        if tuple(x.shape[1:]) != (self.in_channels, *self.image_size):
            raise ValueError(
                f"LocallyConnected2d: input must be (batch, {self.in_channels}, {self.image_size[0]}, "
                f"{self.image_size[1]}), got {tuple(x.shape)}"
            )
        patches = F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride)  # (batch, C k k, places)
        # one product of (batch, C k k) and (C k k, O) for each place
        y = torch.bmm(patches.permute(2, 0, 1), self.weight.transpose(1, 2))  # (places, batch, O)
        y = y.permute(1, 2, 0).reshape(len(x), -1, *self.output_size)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, image_size={self.image_size}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )
