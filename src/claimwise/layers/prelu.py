"""PReLU: rectifiers that learn their slope for negative inputs, one a channel or one for all channels.

K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
Classification*, ICCV 2015, section 2.1, equations 1 to 5, https://arxiv.org/abs/1502.01852.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALL = 1 << 16
"""Entries below which Python's part of our backward costs more than it saves."""


class _Rectify(torch.autograd.Function):
    """PReLU with a backward of vectorised passes.

    PyTorch's own kernel for the gradient takes one entry at a time on the CPU: as long as twenty passes over the data.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slopes: Tensor) -> Tensor:
        return torch.prelu(x, slopes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, slopes = ctx.saved_tensors
        positive = torch.ops.aten.threshold_backward(gradient, x, 0)  # where y > 0, else 0
        negative = gradient - positive  # where y <= 0, else 0; exact, since one of the two is 0
        along, over = slopes, None
        if len(slopes) > 1:
            along = slopes.view(-1, *[1] * (x.ndim - 2))
            over = [d for d in range(x.ndim) if d != 1]
        for_x = torch.addcmul(positive, negative, along) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return for_x, None
        product = negative * x
        return for_x, product.sum().view(1) if over is None else product.sum(over)


class PReLU(nn.Module):
    r"""The parametric rectifier.

    .. math::
        f(y_i) = \max(0, y_i) + a_i \min(0, y_i), \qquad
        \frac{\partial E}{\partial a_i} = \sum_{y_i} \frac{\partial E}{\partial f(y_i)} \min(0, y_i)

    with :math:`y_i` the input on channel :math:`i` and :math:`a_i` its slope; the sum runs over the examples and all
    positions of the channel, and, for one slope shared by all channels, over the channels too (sums, not means). a = 0
    is the rectifier, a small fixed a the leaky one. a may take any sign.

    The paper's update is momentum without weight decay, :math:`\Delta a := \mu \Delta a + \epsilon\, \partial E /
    \partial a`: ``torch.optim.SGD(parameter_groups(model, weight_decay), lr, momentum)``.

    Args:
        channels: Channels of the input, a slope each; None for one slope that all channels share.
        init: Every slope at the start.
        device: Where the slopes live.
        dtype: Type of the slopes.

    Shape:
        (batch, channels, \*) -> the same; with shared slope any shape. ``weight`` (channels) or (1), as torch's.

    Raises:
        ValueError: ``channels`` below 1, ``init`` not finite; on calling, another number of channels.
        TypeError: on calling, an input of whole numbers.

    Differences from the paper:
        none. From ``nn.PReLU``: the gradient's kernel (several times faster on the CPU), inputs of another type than
        the slopes' are taken (autocast), and other channels are an error also with one slope per channel on 1 axis.

    Example:
        >>> import torch
        >>> layer = PReLU(2)
        >>> layer(torch.tensor([[-4.0, 3.0], [2.0, -8.0]])).tolist()
        [[-1.0, 3.0], [2.0, -2.0]]
    """

    def __init__(
        self,
        channels: int | None = None,
        init: float = 0.25,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels is not None and channels < 1:
            raise ValueError(f"PReLU: channels must be at least 1, or None for a shared slope, got {channels}")
        if not math.isfinite(init):
            raise ValueError(f"PReLU: init must be finite, got {init}; the paper starts at 0.25")
        self.channels, self.init = channels, init
        self.weight = nn.Parameter(torch.full((channels or 1,), float(init), device=device, dtype=dtype))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if self.channels is not None and (x.ndim < 2 or x.shape[1] != self.channels):
            raise ValueError(
                f"PReLU: input must be (batch, {self.channels}, ...), got shape {tuple(x.shape)}; PReLU() shares one "
                "slope among any channels"
            )
        weight: Tensor = self.weight
        if x.dtype != weight.dtype:
            if not x.is_floating_point():
                raise TypeError(f"PReLU: input must be of a floating type, got {x.dtype}; use x.float()")
            weight = weight.to(x.dtype)
        if x.numel() < SMALL or x.device.type != "cpu" or torch.compiler.is_compiling():
            return torch.prelu(x, weight)  # compilers and GPUs fuse the gradient themselves
        rectified: Tensor = _Rectify.apply(x, weight)  # type: ignore[no-untyped-call]
        return rectified

    def extra_repr(self) -> str:
        return f"{'shared' if self.channels is None else self.channels}, init={self.init}"


def slopes(model: nn.Module) -> dict[str, Tensor]:
    r"""The slopes of every PReLU of a model, in the order of its modules.

    In formulas: :math:`a^{(l)}_i` for every layer l, with i over channels.

    Args:
        model: Any module; PReLU of this package and ``nn.PReLU`` are found.

    Shape:
        (channels) or (1) each; copies, without graph.

    Raises:
        TypeError: ``model`` is no module.

    Differences from the paper:
        none; its table 1 lists their means.

    Example:
        >>> from torch import nn
        >>> {name: a.tolist() for name, a in slopes(nn.Sequential(nn.Linear(2, 2), PReLU(2))).items()}
        {'1': [0.25, 0.25]}
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"slopes: model must be an nn.Module, got {type(model).__name__}")
    return {
        name: module.weight.detach().clone()
        for name, module in model.named_modules()
        if isinstance(module, PReLU | nn.PReLU)
    }


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    r"""A model's parameters for an optimiser, with weight decay on all but the slopes of rectifiers.

    In formulas: the penalty :math:`\tfrac{\lambda}{2} \lVert w \rVert^2` is over all parameters but the :math:`a_i`:
    decay would pull them towards 0, and PReLU towards ReLU.

    Args:
        model: Any module.
        weight_decay: :math:`\lambda` for everything else.

    Shape:
        A list of one group, or of two where the model has PReLUs; each parameter once, in the model's order.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``weight_decay`` negative or not finite; a model without parameters.

    Differences from the paper:
        none. Biases decay with the weights, as in Caffe's default.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 2), PReLU(2), nn.Linear(2, 1))
        >>> optimizer = torch.optim.SGD(parameter_groups(model, 5e-4), lr=0.01, momentum=0.9)
        >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
        [(4, 0.0005), (1, 0.0)]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"parameter_groups: model must be an nn.Module, got {type(model).__name__}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"parameter_groups: weight_decay must be >= 0 and finite, got {weight_decay}")
    free = {id(module.weight) for module in model.modules() if isinstance(module, PReLU | nn.PReLU)}
    everything = list(model.parameters())
    if not everything:
        raise ValueError(f"parameter_groups: {type(model).__name__} has no parameters to train")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in everything if id(p) not in free], "weight_decay": weight_decay},
        {"params": [p for p in everything if id(p) in free], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
