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
from claimwise.recurrent.recurrence import Recurrence
from claimwise.recurrent.sequence_lengths import Lengths
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
    biases, g = h = tanh, :math:`\odot` the product element by element. The output gate's peephole sees the new cell,
    the others the last one. The variants: NIG i = 1; NFG f = 1; NOG o = 1; NIAF g(x) = x; NOAF h(x) = x; NP p = 0; CIFG
    f = 1 - i; FGR each gate's argument has, for every gate a, a further term :math:`R_{a} a_{t-1}` (nine matrices).

    With ``cells_per_block`` K > 1 the K cells of a memory block share its gates: gates have hidden_size / K rows, and
    each sees all cells of its block through peepholes.

    A layer of N cells on M inputs has 4 (N M + N² + N) parameters and 3 N peepholes, of torch's second bias 4 N more; a
    missing or coupled gate saves a quarter of the former and N peepholes; FGR adds 9 N².

    The forget gate starts as any other, as in the paper. To start it open: ``lstm.bias_ih_l0.data[N:2 * N] += 1``
    (N: rows of a gate; gates are in the order of ``lstm.variant.blocks``).

    Args:
        input_size: Features of a step.
        hidden_size: Cells, N.
        num_layers: Layers, each on the outputs of the one below.
        bias: Whether there are biases.
        batch_first: Whether inputs and outputs are (batch, time, features), not (time, batch, features).
        dropout: Probability with which each output of a layer but the last is dropped in training.
        bidirectional: Whether each layer has a second direction, from the end of each sequence to its start.
        variant: A key of :data:`LSTM_VARIANTS` or an :class:`LSTMVariant` of one's own.
        cells_per_block: K, cells that share gates.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        Input (time, batch, input_size), with ``batch_first`` (batch, time, input_size), unbatched (time, input_size),
        or a PackedSequence, and h_0 and c_0 of (num_layers * directions, batch, hidden_size), unbatched without batch;
        0 by default. Output (time, batch, directions * hidden_size) laid out as the input, and the last outputs and
        cells in the shape of h_0 and c_0. ``lengths``, one number of steps a sequence, in any order: steps past a
        length are not computed, whatever stands there (NaN too) changes nothing, outputs there are 0, the last state is
        the state at the length, and the reverse direction starts there. Parameters ``weight_ih_l{k}{_reverse}``,
        ``weight_hh_...``, ``bias_ih_...``, ``bias_hh_...`` as torch's, rows in the order i, f, g (the candidate), o
        without those that the variant lacks; ``weight_ph_...`` (gates, hidden_size); ``weight_gh_...`` (gates * rows,
        gates * rows), FGR's.

    Raises:
        TypeError: input, state or lengths of another type.
        ValueError: a size below 1, dropout outside [0, 1], an unknown variant, cells_per_block that does not divide
            hidden_size; input of other features or shape, without a step, NaN or infinite; a state of another shape or
            not finite; lengths of another number, below 1 or beyond the input.

    Differences from the paper:
        Two biases and all initial weights uniform within 1 / sqrt(hidden_size), as torch; the paper draws from a normal
        distribution of standard deviation 0.1. FGR's gates before the first step are 0; they are not part of the state
        that is returned, so that FGR alone, continued from it, differs from one pass over the whole sequence.

    Computation:
        Where there is a C compiler (:func:`recurrent_step`), machine code does all steps on the CPU, forward and
        backward, products too, but for memory blocks and for calls of so few steps of a wide layer (one step from some
        300 inputs and cells on) that packing its weights would not pay. Of the threads that torch would use it takes as
        many as there is work for; they share the sequences (two each at least) or, where recurrent weights are many or
        sequences few, the units. In machine code a sequence's outputs are the same to the bit in any batch and with any
        number of threads; gradients of weights depend on both to rounding. Elsewhere input products are one product, a
        step is one product and torch's point-wise operations, and the way back is written by hand too.
        Between forward and backward a layer keeps 6 hidden_size numbers a row (four activations, cell, output; fewer
        where gates are missing) and its input. While it computes it holds a packed copy of its weights and, on the way
        back, 4 hidden_size numbers for 256 rows (or for the rows of a step, if they are more), for each thread 256
        times the larger of input_size and hidden_size, and, where threads share sequences, for each but the first those
        4 hidden_size numbers again and a copy of the weights' gradients.
        On CUDA, variant NP is cuDNN's kernel, which has no second derivatives. Elsewhere second derivatives, and all
        under ``torch.compile``, autocast and ``torch.func``, go step by step by ordinary operations: the same results,
        slower. Under autocast only products are in the lower precision.
        As with torch's own operations, a process that has used several threads must not fork and go on with several in
        the child; and where other programs keep the processors busy, threads that wait for each other at every step are
        slower than one: ``torch.set_num_threads(1)``.

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
