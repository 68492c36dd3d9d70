"""Sequences of unequal length as rows of all steps one after another, longest sequence first, without padding.

The layout is that of :class:`torch.nn.utils.rnn.PackedSequence`: step t has ``sizes[t]`` rows, and the sizes never grow.
Sequences of one length are the case of equal sizes. Masking is exact since there is nothing to mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class PackedRows:
    """Which row is which step of which sequence.

    Args:
        sizes: Rows of each step, never growing: the sequences that reach this step.
        device: Where index tensors live.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes = list(sizes)
        self.device = device
        self.batch = self.sizes[0]
        self.equal = self.sizes[-1] == self.batch
        self.total = sum(self.sizes)

    def _places(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Offset of each step, step and sequence of each row, length of each sequence."""
        sizes = torch.tensor(self.sizes, device=self.device)
        offsets = sizes.cumsum(0) - sizes
        steps = torch.repeat_interleave(torch.arange(len(sizes), device=self.device), sizes)
        sequences = torch.arange(self.total, device=self.device) - offsets[steps]
        lengths = (sizes.unsqueeze(1) > torch.arange(self.batch, device=self.device)).sum(0)
        return offsets, steps, sequences, lengths

    def reverse(self, rows: Tensor) -> Tensor:
        """Each sequence from its own end to its start; its own inverse."""
        if self.equal:
            return rows.reshape(len(self.sizes), self.batch, -1).flip(0).reshape(rows.shape)
        offsets, steps, sequences, lengths = self._places()
        return rows.index_select(0, offsets[lengths[sequences] - 1 - steps] + sequences)

    def last(self, rows: Tensor) -> Tensor:
        """Each sequence's last row, (batch, ...)."""
        if self.equal:
            return rows[self.total - self.batch :].clone()
        offsets, _, _, lengths = self._places()
        return rows.index_select(0, offsets[lengths - 1] + torch.arange(self.batch, device=self.device))

    def before(self, rows: Tensor, first: Tensor | None = None) -> Tensor:
        """The rows of the step before, for all steps; for the first one ``first``, or where it is None left out."""
        if self.equal:
            earlier = rows[: self.total - self.batch]
        else:
            _, steps, _, _ = self._places()
            sizes = torch.tensor(self.sizes, device=self.device)
            here = torch.arange(self.batch, self.total, device=self.device)
            earlier = rows.index_select(0, here - sizes[steps[self.batch :] - 1])
        return earlier if first is None else torch.cat([first, earlier])

    def pad(self, rows: Tensor, order: Tensor | None, steps: int) -> Tensor:
        """Rows as (steps, batch, ...), 0 after each sequence's end; ``order[k]``: which sequence is the k-th longest."""
        if self.equal and steps == len(self.sizes) and order is None:
            return rows.reshape(steps, self.batch, *rows.shape[1:])
        padded = rows.new_zeros(steps * self.batch, *rows.shape[1:])
        return padded.index_copy(0, self.padded_places(order), rows).reshape(steps, self.batch, *rows.shape[1:])

    def padded_places(self, order: Tensor | None) -> Tensor:
        """Where each row stands in the padded (steps, batch) tensor, flattened."""
        _, steps, sequences, _ = self._places()
        return steps * self.batch + (sequences if order is None else order[sequences])
