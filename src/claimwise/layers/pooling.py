r"""Pooling: what a window of a feature map is summed up as.

K. Fukushima, *Neocognitron*, Biological Cybernetics 36, 1980, https://doi.org/10.1007/BF00344251 (C-cells); D. Scherer,
A. Müller and S. Behnke, *Evaluation of pooling operations in convolutional architectures*, ICANN 2010; M. Lin, Q. Chen
and S. Yan, *Network in network*, ICLR 2014, https://arxiv.org/abs/1312.4400 (global average pooling).
"""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Pooling = Literal["max", "average", "stride", "global-max", "global-average"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class Pool(nn.Module):
    r"""One interface for the usual poolings of signals and images.

    .. math:: y_n = \operatorname{op}_{v \in [0, k)^d}\, x_{sn + v}

    with op the maximum, the mean, or, for ``"stride"``, the first sample (no pooling, only fewer samples); k the size,
    s the stride. The global ones take the whole map.

    Args:
        kind: ``"max"``, ``"average"``, ``"stride"``, ``"global-max"`` or ``"global-average"``.
        size: Side of the window; the global ones take none.
        stride: Step from window to window; by default the size.

    Shape:
        ``(batch, channels, *sides)``, one or two sides -> ``(batch, channels, *((sides - size) // stride + 1))``, of
        the global ones ``(batch, channels, 1...)``. ``"stride"`` has the shape of the others.

    Raises:
        ValueError: An unknown kind, a size or stride below 1, a size for a global pooling; on calling, another number
            of axes or a map smaller than the window.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 5.0, 2.0, 3.0]]])
        >>> {kind: Pool(kind, 2)(x).flatten().tolist() for kind in ("max", "average", "stride")}
        {'max': [5.0, 3.0], 'average': [3.0, 2.5], 'stride': [1.0, 2.0]}
        >>> Pool("global-average")(x).flatten().tolist()
        [2.75]
    """

    def __init__(self, kind: Pooling, size: int | None = None, stride: int | None = None) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise ValueError(f"Pool: kind must be one of {', '.join(POOLINGS)}, got {kind!r}")
        whole = kind.startswith("global")
        if whole and (size is not None or stride is not None):
            raise ValueError(f"Pool: {kind} takes the whole map, so no size or stride, got {size} and {stride}")
        if not whole and (size is None or size < 1 or (stride is not None and stride < 1)):
            raise ValueError(f"Pool: {kind} wants a size, and a stride or none, of at least 1, got {size} and {stride}")
        self.kind, self.size, self.stride = kind, size, stride if stride is not None else size

    def forward(self, x: Float[Tensor, "batch channels *sides"]) -> Float[Tensor, "batch channels *pooled"]:
        dims = x.ndim - 2
        if dims not in (1, 2):
            raise ValueError(f"Pool: wants (batch, channels, length) or (..., height, width), got {tuple(x.shape)}")
        if self.kind == "global-max":
            return x.amax(tuple(range(2, x.ndim)), keepdim=True)
        if self.kind == "global-average":
            return x.mean(tuple(range(2, x.ndim)), keepdim=True)
        assert self.size is not None
        assert self.stride is not None
        if min(x.shape[2:]) < self.size:
            raise ValueError(f"Pool: a window of {self.size} is larger than the map {tuple(x.shape[2:])}")
        if self.kind == "stride":
            for axis in range(2, x.ndim):
                x = x.narrow(axis, 0, x.shape[axis] - self.size + 1)
            return x[..., :: self.stride] if dims == 1 else x[..., :: self.stride, :: self.stride]
        if self.kind == "max":
            return (F.max_pool1d if dims == 1 else F.max_pool2d)(x, self.size, self.stride)
        return (F.avg_pool1d if dims == 1 else F.avg_pool2d)(x, self.size, self.stride)

    def extra_repr(self) -> str:
        return self.kind if self.size is None else f"{self.kind}, size={self.size}, stride={self.stride}"
