"""A copy of a module that has shapes but no numbers: what a network does to shapes, at no cost in memory or time."""

import copy

import torch
from torch import Tensor, nn


def shape_copy(model: nn.Module) -> nn.Module:
    """Copies a module onto the meta device, in evaluation mode, without copying its parameters' memory first.

    Args:
        model: Any module that ``copy.deepcopy`` takes; it is only read.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> shape_copy(nn.Linear(3, 5))(torch.empty(7, 3, device="meta")).shape
        torch.Size([7, 5])
    """
    # what the memo lists, deepcopy takes instead of copying
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(model, memo).eval()


def shape_images(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """An empty batch of one image on the meta device, in the type of the model's parameters."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return torch.empty(1, *shape, device="meta", dtype=dtype)
