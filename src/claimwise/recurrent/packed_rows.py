"""Sequences of unequal length as rows of all steps one after another, longest sequence first, without padding.

The layout is that of :class:`torch.nn.utils.rnn.PackedSequence`: step t has ``sizes[t]`` rows, sizes never grow.
Sequences of one length are the case of equal sizes. Masking is exact since there is nothing to mask.
"""

import functools
import itertools
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
        self.offsets = [end - size for end, size in zip(itertools.accumulate(self.sizes), self.sizes, strict=True)]

    @functools.cached_property
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
        offsets, steps, sequences, lengths = self._places
        return rows.index_select(0, offsets[lengths[sequences] - 1 - steps] + sequences)

    def last(self, rows: Tensor) -> Tensor:
        """Each sequence's last row, (batch, ...)."""
        if self.equal:
            return rows[self.total - self.batch :].clone()
        offsets, _, _, lengths = self._places
        return rows.index_select(0, offsets[lengths - 1] + torch.arange(self.batch, device=self.device))

    def pieces(self, rows: int) -> list[tuple[int, int, int, int]]:
        """Steps in pieces of about so many rows: first step, end, first row, end."""
        found, first = [], 0
        for t, size in enumerate(self.sizes):
            end = self.offsets[t] + size
            if end - self.offsets[first] >= rows or t + 1 == len(self.sizes):
                found.append((first, t + 1, self.offsets[first], end))
                first = t + 1
        return found

    def earlier(self, rows: Tensor, first: int, last: int, start: Tensor) -> Tensor:
        """For each row of the steps from ``first`` up to ``last``, that of the step before; of step 0 ``start``."""
        if self.equal and first > 0:
            return rows[self.offsets[first - 1] : self.offsets[last - 1]]
        parts = [
            start if t == 0 else rows[self.offsets[t - 1] : self.offsets[t - 1] + self.sizes[t]]
            for t in range(first, last)
        ]
        return torch.cat(parts)

    def pad(self, rows: Tensor, order: Tensor | None, steps: int) -> Tensor:
        """Rows as (steps, batch, ...), 0 after a sequence's end; ``order[k]``: which sequence is the k-th longest."""
        if self.equal and steps == len(self.sizes) and order is None:
            return rows.reshape(steps, self.batch, *rows.shape[1:])
        padded = rows.new_zeros(steps * self.batch, *rows.shape[1:])
        return padded.index_copy(0, self.padded_places(order), rows).reshape(steps, self.batch, *rows.shape[1:])

    def padded_places(self, order: Tensor | None) -> Tensor:
        """Where each row stands in the padded (steps, batch) tensor, flattened."""
        _, steps, sequences, _ = self._places
        return steps * self.batch + (sequences if order is None else order[sequences])
