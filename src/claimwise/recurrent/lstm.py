"""Long short-term memory: vanilla, and its eight variants in the search space odyssey.

K. Greff, R. K. Srivastava, J. Koutník, B. R. Steunebrink, J. Schmidhuber, *LSTM: A Search Space Odyssey*, IEEE
Transactions on Neural Networks and Learning Systems 28 (2017), sections II and III, https://arxiv.org/abs/1503.04069.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from claimwise.recurrent.lstm_cell import LSTMCell
from claimwise.recurrent.recurrence import Lengths, Recurrence
from claimwise.recurrent.variants import LSTMVariant, find_variant


class LSTM(Recurrence):
    r"""Layers of long short-term memory, in any variant; :class:`torch.nn.LSTM` is ``variant="NP"``.

    .. math::
        z_t &= g(W_z x_t + R_z y_{t-1} + b_z) \\
        i_t &= \sigma(W_i x_t + R_i y_{t-1} + p_i \odot c_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f y_{t-1} + p_f \odot c_{t-1} + b_f) \\
        c_t &= i_t \odot z_t + f_t \odot c_{t-1} \\
        o_t &= \sigma(W_o x_t + R_o y_{t-1} + p_o \odot c_t + b_o) \\
        y_t &= o_t \odot h(c_t)

    with :math:`x_t` the input of step t, :math:`y_t` the output (torch's h), :math:`c_t` the cells, :math:`z_t` the
    candidate, :math:`i, f, o` the input, forget and output gates, W, R, p and b input, recurrent, peephole weights and
    biases, g = h = tanh, :math:`\odot` the product element by element.

    Example:
        >>> import torch
        >>> lstm = LSTM(3, 5, variant="CIFG")
        >>> output, (h_n, c_n) = lstm(torch.zeros(7, 2, 3))  # 7 steps, 2 sequences
        >>> output.shape, c_n.shape
        (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        variant: str | LSTMVariant = "vanilla",
        cells_per_block: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self_variant = find_variant(variant)
        if isinstance(cells_per_block, bool) or not isinstance(cells_per_block, int):
            raise TypeError(f"LSTM: cells_per_block must be an integer, got {cells_per_block!r}")
        if cells_per_block < 1 or hidden_size % cells_per_block:
            raise ValueError(
                f"LSTM: cells_per_block must divide hidden_size ({hidden_size}) into whole blocks, got "
                f"{cells_per_block}"
            )
        cell = LSTMCell(self_variant, hidden_size, cells_per_block)
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )
        self.variant, self.cells_per_block = self_variant, cells_per_block

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Lengths | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        output, (h_n, c_n) = self._recur(input, hx, lengths)
        return output, (h_n, c_n)

    def _platform_kernel(self) -> Callable[..., Any] | None:
        fused = self.variant.own_gates == ("input", "forget", "output") and not (
            self.variant.peepholes or self.variant.gate_recurrence or self.cells_per_block > 1
        )
        activations = self.variant.input_activation and self.variant.output_activation
        return torch.lstm if fused and activations else None

    def extra_repr(self) -> str:
        said = super().extra_repr() + f", variant={self.variant.name!r}"
        return said + (f", cells_per_block={self.cells_per_block}" if self.cells_per_block > 1 else "")
