"""An experiment's measurements over its seeds, for criteria and figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from claimwise.lab.criteria import CriterionError, Replicates
from claimwise.lab.measurements import (
    Curve,
    Exact,
    Matrix,
    Measurement,
    PerDraw,
    PerExample,
    PerTrial,
    Proportion,
    Value,
)
from claimwise.lab.paper import Experiment
from claimwise.lab.run import FinishedRun


@dataclass(frozen=True)
class Stored:
    """One experiment's measurements, one mapping for each seed.

    ``stored["name"]`` stacks a measurement over seeds: (seeds,) for numbers, (seeds, points) for curves,
    (seeds, rows, columns) for matrices, (seeds, values) for values by example, trial or draw.
    """

    address: str
    seeds: tuple[int, ...]
    setup: Mapping[str, Any]
    measurements: Sequence[Mapping[str, Measurement]]

    @classmethod
    def of(cls, experiment: Experiment, runs: Sequence[FinishedRun]) -> "Stored":
        """The measurements of finished runs, in the order of their seeds."""
        ordered = sorted(runs, key=lambda run: run.seed)
        return cls(
            experiment.address,
            tuple(run.seed for run in ordered),
            ordered[0].setup if ordered else {},
            [run.measurements for run in ordered],
        )

    def of_seed(self, name: str) -> list[Measurement]:
        """A measurement as it was returned, for each seed.

        Raises:
            LookupError: naming the measurements that there are.
        """
        for measured in self.measurements:
            if name not in measured:
                raise LookupError(f"{self.address} returned no measurement {name!r}; it returned {', '.join(measured)}")
        found = [measured[name] for measured in self.measurements]
        if len({type(m) for m in found}) > 1:
            raise CriterionError(f"{self.address}: {name!r} is of another kind from seed to seed")
        return found

    def __getitem__(self, name: str) -> np.ndarray:
        return self.replicates(name).values

    def __iter__(self) -> Iterator[str]:
        return iter(self.measurements[0] if self.measurements else ())

    def x(self, name: str) -> np.ndarray:
        """The coordinates of a curve."""
        x = self.replicates(name).x
        if x is None:
            raise CriterionError(f"{self.address}: {name!r} is no curve")
        return x

    def rows(self, name: str) -> tuple[str, ...]:
        """The row names of a matrix."""
        return self.replicates(name).rows

    def columns(self, name: str) -> tuple[str, ...]:
        """The column names of a matrix."""
        return self.replicates(name).columns

    def replicates(self, name: str) -> Replicates:
        """A measurement stacked over seeds, with its coordinates."""
        found = self.of_seed(name)
        match found[0]:
            case Value() | Exact():
                return Replicates(np.array([m.value for m in found]))  # type: ignore[union-attr]
            case Proportion():
                return Replicates(np.array([m.successes / m.total for m in found]))  # type: ignore[union-attr]
            case Curve(x=x):
                if any(not np.array_equal(m.x, x) for m in found):  # type: ignore[union-attr]
                    raise CriterionError(f"{self.address}: {name!r} has other coordinates from seed to seed")
                return Replicates(np.stack([m.y for m in found]), x=x)  # type: ignore[union-attr]
            case Matrix(rows=rows, columns=columns):
                if any((m.rows, m.columns) != (rows, columns) for m in found):  # type: ignore[union-attr]
                    raise CriterionError(f"{self.address}: {name!r} has other rows or columns from seed to seed")
                values = np.stack([m.values for m in found])  # type: ignore[union-attr]
                return Replicates(values, rows=tuple(rows), columns=tuple(columns))
            case PerExample() | PerTrial() | PerDraw():
                lengths = {len(m.values) for m in found}  # type: ignore[union-attr]
                if len(lengths) > 1:
                    raise CriterionError(f"{self.address}: {name!r} has other lengths from seed to seed: {lengths}")
                return Replicates(np.stack([m.values for m in found]))  # type: ignore[union-attr]


Results = Mapping[Experiment, Stored]
"""What a figure is drawn from."""
