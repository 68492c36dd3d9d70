"""The gated recurrent unit in both published forms.

K. Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation*, EMNLP
2014, equations 5 to 8, https://arxiv.org/abs/1406.1078 (reset before the product); the first version of the same paper
and cuDNN apply the reset after it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from claimwise.recurrent.gru_cell import Form, GRUCell
from claimwise.recurrent.recurrence import Recurrence
from claimwise.recurrent.sequence_lengths import Lengths


class GRU(Recurrence):
    r"""Layers of gated recurrent units, with the reset gate after or before the product.

    .. math::
        r_t &= \sigma(W_r x_t + b_r + U_r h_{t-1} + d_r) \\
        z_t &= \sigma(W_z x_t + b_z + U_z h_{t-1} + d_z) \\
        n_t &= \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + d_n)) \quad \text{reset-after} \\
        n_t &= \tanh(W_n x_t + b_n + U_n (r_t \odot h_{t-1}) + d_n) \quad \text{reset-before} \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t

    with :math:`x_t` the input of step t, :math:`h_t` the state and output, r the reset gate, z the update gate (the
    share of the old state that stays), n the candidate, W and U input and recurrent weights, b and d biases.
    ``"reset-after"`` is torch's and cuDNN's, and takes their state dicts; ``"reset-before"`` is Cho et al.'s. They are
    not the same function, and weights trained for one do not serve the other.

    Args:
        input_size: Features of a step.
        hidden_size: Units.
        num_layers: Layers, each on the outputs of the one below.
        bias: Whether there are biases.
        batch_first: Whether inputs and outputs are (batch, time, features), not (time, batch, features).
        dropout: Probability with which each output of a layer but the last is dropped in training.
        bidirectional: Whether each layer has a second direction, from the end of each sequence to its start.
        form: ``"reset-after"`` or ``"reset-before"``.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        Input (time, batch, input_size), with ``batch_first`` (batch, time, input_size), unbatched (time, input_size),
        or a PackedSequence, and h_0 of (num_layers * directions, batch, hidden_size), unbatched without batch; 0 by
        default. Output (time, batch, directions * hidden_size) laid out as the input, and the last state in the shape
        of h_0. ``lengths``, one number of steps a sequence, in any order: steps past a length are not computed,
        whatever stands there (NaN too) changes nothing, outputs there are 0, the last state is the state at the length,
        and the reverse direction starts there. Parameters as torch's, rows in the order r, z, n: 3 (N M + N² + 2 N) for
        N units on M inputs.

    Raises:
        TypeError: input, state or lengths of another type.
        ValueError: a size below 1, dropout outside [0, 1], an unknown form; input of other features or shape, without a
            step, NaN or infinite; a state of another shape or not finite; lengths of another number, below 1 or beyond
            the input.

    Differences from the paper:
        Biases, which the paper leaves out. Published texts disagree on which of z and 1 - z keeps the old state; here
        z does, as in Cho et al.'s equation 7 and in torch.

    Example:
        >>> import torch
        >>> output, h_n = GRU(3, 5, form="reset-before")(torch.zeros(7, 2, 3))  # 7 steps, 2 sequences
        >>> output.shape, h_n.shape
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
        form: Form = "reset-after",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if form not in (forms := ("reset-after", "reset-before")):
            raise ValueError(f"GRU: form must be one of {', '.join(forms)}, got {form!r}")
        super().__init__(
            GRUCell(form), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )
        self.form = form

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None, *, lengths: Lengths | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        output, (h_n,) = self._recur(input, None if hx is None else (hx,), lengths)
        return output, h_n

    def _platform_kernel(self) -> Callable[..., Any] | None:
        return torch.gru if self.form == "reset-after" else None

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, form={self.form!r}"
