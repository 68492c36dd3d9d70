"""The mediation formula from two linear regressions, with treatment-mediator interaction.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, theorem 2; closed form as in
VanderWeele and Vansteelandt, *Conceptual issues concerning mediation, interventions and composition*, Statistics and
Its Interface 2, 2009, https://doi.org/10.4310/SII.2009.v2.n4.a7.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.causal.bootstrap import PlugIn
from claimwise.causal.table import numeric

COLLINEAR = 1e-10
"""Share of a column's variation that earlier columns must leave unexplained; rounding alone leaves about 1e-15."""


class LinearPlugIn(PlugIn):
    """Sums of products of columns, which give both regressions' normal equations.

    A row is d = (1, t, m_1..m_k, t m_1..t m_k, w_1..w_l, y) with t = (X - x*) / (x - x*), so that t is 0 at the
    reference and 1 at x; mediators, covariates and outcome are centred, mediators and covariates scaled, which changes
    no effect and keeps the equations well-conditioned.
    """

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
        interaction: bool,
        where: str,
    ) -> None:
        self.where = where
        given = numeric(columns[treatment], treatment, "treatment", where)
        lowest, highest = float(given.min()), float(given.max())
        for value in (x, reference):
            if isinstance(value, str):
                raise ValueError(f"{where}: x and reference must be numbers with model='linear', got {value!r}")
            if not lowest <= value <= highest:
                raise ValueError(
                    f"{where}: the values compared must lie within the observed range of {treatment!r}, "
                    f"[{lowest:g}, {highest:g}], got {value:g}, never observed"
                )
        t = (given - float(reference)) / (float(x) - float(reference))
        m, centre, scale = [], [], []
        for name in mediators:
            column = numeric(columns[name], name, "mediator", where)
            m.append(_standardised(column, name, where))
            centre.append(column.mean())
            scale.append(column.std())
        w = [piece for name in covariates for piece in _covariate(columns[name], name, where)]
        y = numeric(columns[outcome], outcome, "outcome", where)
        products = [t * column for column in m] if interaction else []
        labels = [f"interaction of {treatment!r} and {name!r}" for name in mediators] if interaction else []
        self.labels = ["the intercept", repr(treatment), *map(repr, mediators), *labels, *(label for label, _ in w)]
        d = np.stack([np.ones_like(t), t, *m, *products, *(column for _, column in w), y - y.mean()], 1)

        k, size = len(mediators), d.shape[1] - 1
        self.rows = len(d)
        self.m = list(range(2, 2 + k))
        self.tm = list(range(2 + k, 2 + k + len(products)))
        self.w = list(range(2 + k + len(products), size))
        self.y = size
        self.held = torch.tensor(
            [[(float(v) - c) / s for v, c, s in zip(values, centre, scale, strict=True)] for values in held],
            dtype=torch.float64,
        ).view(len(held), k)  # (held, k), in standard units
        rows = torch.from_numpy(d)
        self.upper = torch.triu_indices(size + 1, size + 1)
        self.products = rows[:, self.upper[0]] * rows[:, self.upper[1]]  # (rows, statistics)
        self._check_rank()

    def table_statistics(self) -> Float[Tensor, "1 statistics"]:
        return self.products.sum(0, keepdim=True)

    def resampled_statistics(self, index: Int[Tensor, "resamples rows"]) -> Float[Tensor, "resamples statistics"]:
        flat = (index + self.rows * torch.arange(len(index), dtype=index.dtype)[:, None]).flatten()
        count = torch.bincount(flat, minlength=len(index) * self.rows).view(len(index), self.rows)
        return count.double() @ self.products

    def left_out_statistics(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows statistics"]:
        return self.table_statistics() - self.products[rows]

    def estimates(self, statistics: Float[Tensor, "tables statistics"]) -> Float[Tensor, "tables effects"]:
        """Total, natural direct, natural indirect, both of the reverse transition, controlled direct at each value."""
        gram = self._gram(statistics)
        k = len(self.m)
        beta = self._regress(gram, [0, 1, *self.w], self.m)  # (tables, 2 + l, k)
        theta = self._regress(gram, [0, 1, *self.m, *self.tm, *self.w], [self.y])[..., 0]  # (tables, 2 + k + ..)
        w_mean = gram[:, 0, self.w] / gram[:, 0, :1]  # E[W], (tables, l)
        m_reference = beta[:, 0] + torch.einsum("tl,tlk->tk", w_mean, beta[:, 2:])  # E[M_{x*}], (tables, k)
        m_change = beta[:, 1]  # E[M_x] - E[M_{x*}]
        slope = theta[:, 2 : 2 + k]  # of the mediators at the reference
        extra = theta[:, 2 + k : 2 + k + len(self.tm)] if self.tm else torch.zeros_like(slope)  # change of slope at x
        direct = theta[:, 1] + (extra * m_reference).sum(1)
        indirect = (slope * m_change).sum(1)
        reverse_indirect = -((slope + extra) * m_change).sum(1)
        total = direct - reverse_indirect
        controlled = theta[:, 1:2] + extra @ self.held.T  # (tables, held)
        effects = torch.stack([total, direct, indirect, indirect - total, reverse_indirect], 1)
        return torch.cat([effects, controlled], 1)

    def _gram(self, statistics: Tensor) -> Float[Tensor, "tables columns columns"]:
        gram = statistics.new_empty(len(statistics), self.y + 1, self.y + 1)
        gram[:, self.upper[0], self.upper[1]] = statistics
        gram[:, self.upper[1], self.upper[0]] = statistics
        return gram

    def _regress(self, gram: Tensor, on: list[int], of: list[int]) -> Float[Tensor, "tables on of"]:
        """Least-squares coefficients of the columns ``of`` on the columns ``on``; NaN where those are collinear."""
        square = gram[:, on][:, :, on]
        factor, failed = torch.linalg.cholesky_ex(square)
        left = factor.diagonal(dim1=1, dim2=2) ** 2 / square.diagonal(dim1=1, dim2=2)  # unexplained share
        bad = (failed > 0) | ~(left > COLLINEAR).all(1)
        factor = factor.where(~bad[:, None, None], torch.eye(len(on), dtype=factor.dtype))
        solved = torch.cholesky_solve(gram[:, on][:, :, of], factor)
        return solved.where(~bad[:, None, None], solved.new_tensor(float("nan")))

    def _check_rank(self) -> None:
        on = [0, 1, *self.m, *self.tm, *self.w]
        square = self._gram(self.table_statistics())[0][on][:, on]
        if self.rows <= len(on):
            raise ValueError(
                f"{self.where}: the regression of the outcome needs more rows than columns ({len(on)}), got {self.rows}"
            )
        for j in range(1, len(on)):
            solved = torch.linalg.solve(square[:j, :j], square[:j, j])
            if not float(square[j, j] - square[j, :j] @ solved) > COLLINEAR * float(square[j, j]):
                raise ValueError(
                    f"{self.where}: the columns of the regression must not be collinear, got {self.labels[on[j]]}, "
                    "which the columns before it determine (intercept, treatment, mediators, covariates in the order "
                    "given); drop it"
                )


def _standardised(column: np.ndarray, name: str, where: str) -> np.ndarray:
    if column.min() == column.max():
        raise ValueError(f"{where}: column {name!r} must vary, got {column[0]:g} in every row; drop it")
    return (column - column.mean()) / column.std()


def _covariate(column: np.ndarray, name: str, where: str) -> list[tuple[str, np.ndarray]]:
    """A numeric covariate as it is; any other as indicators of its levels but the first."""
    if column.dtype.kind in "biuf":
        return [(repr(name), _standardised(column.astype(np.float64), name, where))]
    levels = np.unique(column)
    if len(levels) < 2:
        raise ValueError(f"{where}: column {name!r} must vary, got {column[0].item()!r} in every row; drop it")
    return [
        (f"{name!r} = {level.item()!r}", _standardised((column == level).astype(np.float64), name, where))
        for level in levels[1:]
    ]
