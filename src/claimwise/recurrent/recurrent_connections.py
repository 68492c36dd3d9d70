r"""Which layers of a recurrent stack see which layers' last state, measured.

The statement is that of the notes on recurrent networks (plain stacks) and of J. Chung, C. Gulcehre, K. Cho, Y. Bengio,
*Gated Feedback Recurrent Neural Networks*, ICML 2015, section 3, figure 1, https://arxiv.org/abs/1502.02367.
"""

import copy
import re
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# What layer k > 0 takes from below at the same step: `weight_ih_l1`, `weight_gate_ih_l2`, ...
_FROM_BELOW = re.compile(r"(^|\.)weight_(gate_)?ih_l[1-9]\d*$")


def recurrent_connections(
    module: nn.Module, *, direct: bool = True, generator: torch.Generator | None = None
) -> Float[Tensor, "target source"]:
    r"""How strongly every layer's next state depends on every layer's last state; 0 exactly where it does not.

    .. math:: M_{ji} = \left\| \frac{\partial h_t^j}{\partial h_{t-1}^i} \right\|_F

    for layers i (source) and j (target), at one random state and input; of an LSTM, with h and c of a layer together.
    With ``direct``, what reaches a layer from the one below at the *same* step is cut off first (its weights are 0 in a
    copy of the module), so that only connections from the last step remain: diagonal for a plain stack, full for
    gated feedback. Without, a plain stack is lower triangular, since the last state of a lower layer reaches those
    above it through the layers between.

    Args:
        module: A recurrent stack (input, state) -> (output, state) in one direction with ``input_size``, whose weights
            are named as in ``torch.nn`` if ``direct``: all of this package and of ``torch.nn``.
        direct: Whether layers are cut from each other within the step.
        generator: Source of the state and input at which derivatives are taken; by default always the same.

    Shape:
        Module -> (layers, layers), target by source; ``> 0`` is the mask of connections.

    Raises:
        TypeError: the module has no ``input_size``.
        ValueError: a module that looks both ways; with ``direct``, one of several layers that has no weights by those
            names.

    Differences from the paper:
        The paper draws the connections; here they are measured.

    Example:
        >>> import torch
        >>> (recurrent_connections(torch.nn.GRU(2, 4, num_layers=3)) > 0).int()
        tensor([[1, 0, 0],
                [0, 1, 0],
                [0, 0, 1]], dtype=torch.int32)
        >>> from claimwise.recurrent import GatedFeedback
        >>> (recurrent_connections(GatedFeedback(2, 4, num_layers=3, cell="gru")) > 0).int()
        tensor([[1, 1, 1],
                [1, 1, 1],
                [1, 1, 1]], dtype=torch.int32)
    """
    size: Any = getattr(module, "input_size", None)
    if size is None:
        raise TypeError(
            f"recurrent_connections: module must be recurrent, with input_size, got {type(module).__name__}"
        )
    if getattr(module, "bidirectional", False):
        raise ValueError("recurrent_connections: the module must look forward only, got a bidirectional one")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    module = copy.deepcopy(module).requires_grad_(False).eval()
    weight = next(module.parameters())
    time_axis = int(bool(getattr(module, "batch_first", False)))

    def step(x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        """Each part of the next state, from x (batch, features)."""
        given: Any = state if state is None or len(state) > 1 else state[0]
        made = module(x.unsqueeze(time_axis), given)[1]
        return made if isinstance(made, tuple) else (made,)

    def drawn(*shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).to(weight)

    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        x = drawn(1, size)
        shapes = [part.shape for part in step(x, None)]  # (layers, 1, features) each
        layers = shapes[0][0]
        if direct and layers > 1:
            _cut_from_below(module, layers)
        units = layers * sum(shape[2] for shape in shapes)
        # One copy of the example for each unit of the next state, and its derivative from that copy: one way back.
        state = tuple(drawn(*shape).expand(-1, units, -1).clone().requires_grad_() for shape in shapes)
        after = torch.cat(step(x.expand(units, -1), state), 2)  # (layers, copies, features of all parts)
        diagonal = after.permute(1, 0, 2).reshape(units, units).diagonal()
        slopes = torch.cat(torch.autograd.grad(diagonal.sum(), state), 2)  # (source, copies, features)
    return slopes.square().sum(2).view(layers, layers, -1).sum(2).sqrt().t()


def _cut_from_below(module: nn.Module, layers: int) -> None:
    found = [parameter for name, parameter in module.named_parameters() if _FROM_BELOW.search(name)]
    if len(found) < layers - 1:
        raise ValueError(
            f"recurrent_connections: direct needs the weights by which {layers} layers take from below by the names "
            f"weight_ih_l1, ..., as in torch.nn, found {len(found)} in {type(module).__name__}; use direct=False"
        )
    with torch.no_grad():
        for parameter in found:
            parameter.zero_()
