"""The mediation formula from cell means: discrete treatment, mediators and covariates.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, theorem 2 and corollary 2.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.causal.bootstrap import PlugIn
from claimwise.causal.identification import natural_effects
from claimwise.causal.table import numeric

REFERENCE, NEW, OTHER = 0, 1, 2
"""Arms: rows at the reference, at x, and at any other treatment (these count for P(w) only)."""


class DiscretePlugIn(PlugIn):
    """Counts and outcome sums per cell (arm, covariate state w, mediator state z)."""

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        treatment: str,
        outcome: str,
        mediators: Sequence[str],
        covariates: Sequence[str],
        x: float | str,
        reference: float | str,
        held: Sequence[tuple[float | str, ...]],
        where: str,
    ) -> None:
        self.where = where
        self.names = (treatment, tuple(mediators), tuple(covariates))
        self.settings = (reference, x)
        arm = np.full(len(columns[treatment]), OTHER)
        for code, value in ((REFERENCE, reference), (NEW, x)):
            at = columns[treatment] == value
            if not at.any():
                raise ValueError(
                    f"{where}: the treatment {treatment!r} must take the values compared, got {value!r}, never "
                    f"observed; observed are {_listed(np.unique(columns[treatment]))}"
                )
            arm[at] = code
        self.w_states, w = _states([columns[name] for name in covariates], len(arm))
        self.z_states, z = _states([columns[name] for name in mediators], len(arm))
        self.cells = (3, len(self.w_states), len(self.z_states))
        self.rows = len(arm)
        self.cell = torch.from_numpy(np.ravel_multi_index((arm, w, z), self.cells))  # (rows,)
        self.y = torch.from_numpy(numeric(columns[outcome], outcome, "outcome", where))
        self.y = self.y - self.y.mean()  # effects are contrasts; centring keeps the sums small
        self.held = [self._held_state(setting) for setting in held]
        self._check_cells()

    def table_statistics(self) -> Float[Tensor, "1 statistics"]:
        return self.resampled_statistics(torch.arange(self.rows)[None])

    def resampled_statistics(self, index: Int[Tensor, "resamples rows"]) -> Float[Tensor, "resamples statistics"]:
        """Counts of every cell, then sums of the outcome in every cell."""
        tables, width = len(index), int(np.prod(self.cells))
        cell = (self.cell[index] + width * torch.arange(tables)[:, None]).flatten()
        count = torch.bincount(cell, minlength=tables * width).double()
        total = torch.bincount(cell, weights=self.y[index].flatten(), minlength=tables * width)
        return torch.cat([count.view(tables, width), total.view(tables, width)], 1)

    def left_out_statistics(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows statistics"]:
        return self.table_statistics() - self.resampled_statistics(rows[:, None])

    def estimates(self, statistics: Float[Tensor, "tables statistics"]) -> Float[Tensor, "tables effects"]:
        """Total, natural direct, natural indirect, both of the reverse transition, controlled direct at each value."""
        count, total = statistics.view(-1, 2, *self.cells).unbind(1)  # each (tables, 3, w, z)
        covariates = count.sum((1, 3)) / count.sum((1, 2, 3))[:, None]  # P(w), (tables, w)
        count, total = count[:, :OTHER], total[:, :OTHER]
        outcome = total / count  # E(Y | x, z, w), NaN in empty cells
        mediator = count / count.sum(-1, keepdim=True)  # P(z | x, w), NaN where an arm has no row at w
        mediator = mediator.where(covariates[:, None, :, None] > 0, mediator.new_zeros(()))  # w absent altogether
        natural = natural_effects(outcome, mediator, covariates)
        difference = outcome[:, NEW] - outcome[:, REFERENCE]  # CDE_z given w, (tables, w, z)
        weight = covariates[:, :, None]
        controlled = (difference * weight).where(weight > 0, difference.new_zeros(())).sum(1)  # (tables, z)
        return torch.stack(
            [
                natural.total,
                natural.natural_direct,
                natural.natural_indirect,
                natural.reverse_natural_direct,
                natural.reverse_natural_indirect,
                *(controlled[:, state] for state in self.held),
            ],
            1,
        )

    def _held_state(self, setting: tuple[float | str, ...]) -> int:
        for state, values in enumerate(self.z_states):
            if all(a == b for a, b in zip(values, setting, strict=True)):
                return state
        raise ValueError(
            f"{self.where}: controlled_at must be a value that {' and '.join(map(repr, self.names[1]))} take, got "
            f"{_listed(setting)}, never observed"
        )

    def _check_cells(self) -> None:
        """Refuse tables where an effect would need the mean outcome of an empty cell."""
        width = int(np.prod(self.cells))
        count = self.table_statistics()[0, :width].view(self.cells)[:OTHER]  # (2, w, z)
        reached = (count > 0).any(0)  # in either arm
        reached[:, self.held] = True
        empty = ((count == 0) & reached).nonzero()
        if len(empty):
            arm, w, z = empty[0].tolist()
            treatment, mediators, covariates = self.names
            conditions = [(treatment, self.settings[arm])]
            conditions += [
                *zip(covariates, self.w_states[w], strict=True),
                *zip(mediators, self.z_states[z], strict=True),
            ]
            cell = ", ".join(f"{name} = {value}" for name, value in conditions)
            raise ValueError(
                f"{self.where}: every cell that the effects need must hold a row (positivity), got {len(empty)} empty, "
                f"the first at {cell}; merge levels, drop covariates or use model='linear'"
            )


def _states(columns: list[np.ndarray], rows: int) -> tuple[list[tuple], np.ndarray]:
    """The joint values that occur, and each row's index into them."""
    if not columns:
        return [()], np.zeros(rows, dtype=np.int64)
    levels, codes = zip(*(np.unique(column, return_inverse=True) for column in columns), strict=True)
    joint, inverse = np.unique(np.stack(codes, 1), axis=0, return_inverse=True)
    states = [tuple(level[code] for level, code in zip(levels, row, strict=True)) for row in joint]
    return states, inverse.reshape(-1)


def _listed(values: Sequence | np.ndarray) -> str:
    shown = ", ".join(str(value) for value in list(values)[:8])
    return shown + (", ..." if len(values) > 8 else "")
