"""The plain recurrent network.

J. L. Elman, *Finding Structure in Time*, Cognitive Science 14 (1990).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from claimwise.recurrent.recurrence import Lengths, Recurrence
from claimwise.recurrent.rnn_cell import Nonlinearity, RNNCell


class RNN(Recurrence):
    r"""Layers of a plain recurrent network.

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
