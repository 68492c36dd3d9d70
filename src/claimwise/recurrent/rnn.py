"""The plain recurrent network.

J. L. Elman, *Finding Structure in Time*, Cognitive Science 14 (1990).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from claimwise.recurrent.recurrence import Recurrence
from claimwise.recurrent.rnn_cell import Nonlinearity, RNNCell
from claimwise.recurrent.sequence_lengths import Lengths


class RNN(Recurrence):
    r"""Layers of a plain recurrent network.

    .. math:: h_t = f(W x_t + b + U h_{t-1} + d)

    with :math:`x_t` the input of step t, :math:`h_t` the state and output, W and U input and recurrent weights, b and d
    biases. With ``"linear"`` the gradient over time is exactly a power of U, which theory speaks about.

    Args:
        input_size: Features of a step.
        hidden_size: Units.
        num_layers: Layers, each on the outputs of the one below.
        nonlinearity: f, ``"tanh"``, ``"relu"`` or ``"linear"`` (f(x) = x).
        bias: Whether there are biases.
        batch_first: Whether inputs and outputs are (batch, time, features), not (time, batch, features).
        dropout: Probability with which each output of a layer but the last is dropped in training.
        bidirectional: Whether each layer has a second direction, from the end of each sequence to its start.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        Input (time, batch, input_size), with ``batch_first`` (batch, time, input_size), unbatched (time, input_size),
        or a PackedSequence, and h_0 of (num_layers * directions, batch, hidden_size), unbatched without batch; 0 by
        default. Output (time, batch, directions * hidden_size) laid out as the input, and the last state in the shape
        of h_0. ``lengths``, one number of steps a sequence, in any order: steps past a length are not computed,
        whatever stands there (NaN too) changes nothing, outputs there are 0, the last state is the state at the length,
        and the reverse direction starts there. Parameters as torch's: N M + N² + 2 N for N units on M inputs.

    Raises:
        TypeError: input, state or lengths of another type.
        ValueError: a size below 1, dropout outside [0, 1], an unknown nonlinearity; input of other features or shape,
            without a step, NaN or infinite; a state of another shape or not finite; lengths of another number, below 1
            or beyond the input.

    Differences from the paper:
        Elman's network copies the state into context units without learning through them; here gradients go through
        all steps.

    Example:
        >>> import torch
        >>> output, h_n = RNN(3, 5)(torch.zeros(7, 2, 3))  # 7 steps, 2 sequences
        >>> output.shape, h_n.shape
        (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in (known := ("tanh", "relu", "linear")):
            raise ValueError(f"RNN: nonlinearity must be one of {', '.join(known)}, got {nonlinearity!r}")
        cell = RNNCell(nonlinearity)
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )
        self.nonlinearity = nonlinearity

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None, *, lengths: Lengths | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        output, (h_n,) = self._recur(input, None if hx is None else (hx,), lengths)
        return output, h_n

    def _platform_kernel(self) -> Callable[..., Any] | None:
        return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}.get(self.nonlinearity)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"
