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
from claimwise.recurrent.recurrence import Lengths, Recurrence


class GRU(Recurrence):
    r"""Layers of gated recurrent units.

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
