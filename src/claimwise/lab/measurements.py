"""What an experiment returns: named measurements that say what varies between their replicates.

=================  ==========================================  ==================================================
kind               what varies                                 interval
=================  ==========================================  ==================================================
float, ``Value``   the seed                                    t over seeds, paired across an expression
``Proportion``     the seed                                    t over seeds; Wilson where seeds show no spread
``Exact``          nothing: an identity, a count, a theorem    none: one run is enough
``PerExample``     the test example, for a fixed model         Wilson, or paired bootstrap over examples
``PerTrial``       the independent trial (a random search)     Welch
``PerDraw``        the Monte-Carlo draw                        t over draws, paired by index
``Curve``          the seed, at each coordinate                as the expression that reduces it
``Matrix``         the seed, in each cell                      as the expression that reduces it
=================  ==========================================  ==================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def _number(owner: str, value: Any) -> float:
    """A finite or non-finite real number as float; tensors and arrays of one element are taken."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool | int | float):
        number = float(value)
        if isinstance(value, int) and int(number) != value:
            raise ValueError(f"{owner}: {value} has more digits than a float holds; measure it in a larger unit")
        return number
    raise TypeError(f"{owner}: expected a number, got {value!r}; use Curve, Matrix or PerExample for arrays")


def _array(owner: str, values: Any, ndim: int) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{owner}: expected numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{owner}: expected a non-empty array of {ndim} dimension(s), got shape {array.shape}")
    return array


@dataclass(frozen=True)
class Value:
    """A number that varies with the seed."""

    value: float
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _number("Value", self.value))


@dataclass(frozen=True)
class Exact:
    """An identity, a count or a theorem's value: no replicate can change it."""

    value: float
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _number("Exact", self.value))


@dataclass(frozen=True)
class Proportion:
    """`successes` out of `total`, e.g. errors on a test set; varies with the seed."""

    successes: int
    total: int
    unit: str = "fraction"

    def __post_init__(self) -> None:
        successes, total = _number("Proportion", self.successes), _number("Proportion", self.total)
        if not (successes.is_integer() and total.is_integer() and 0 <= successes <= total and total > 0):
            raise ValueError(f"Proportion: needs whole 0 <= successes <= total, got {self.successes} of {self.total}")
        object.__setattr__(self, "successes", int(successes))
        object.__setattr__(self, "total", int(total))


@dataclass(frozen=True, eq=False)
class PerExample:
    """One value for each test example of a fixed model, paired by position with other measurements of the run."""

    values: Any
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _array(type(self).__name__, self.values, 1))


@dataclass(frozen=True, eq=False)
class PerTrial:
    """One value for each independent trial, e.g. of a random search."""

    values: Any
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _array(type(self).__name__, self.values, 1))


@dataclass(frozen=True, eq=False)
class PerDraw:
    """One value for each Monte-Carlo draw, paired by position with other measurements of the run."""

    values: Any
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _array(type(self).__name__, self.values, 1))


@dataclass(frozen=True, eq=False)
class Curve:
    """`y` at the increasing coordinates `x`."""

    x: Any
    y: Any
    unit: str = ""

    def __post_init__(self) -> None:
        x, y = _array("Curve.x", self.x, 1), _array("Curve.y", self.y, 1)
        if x.shape != y.shape:
            raise ValueError(f"Curve: x and y must have one length, got {len(x)} and {len(y)}")
        if not (np.diff(x) > 0).all():
            raise ValueError("Curve: x must increase strictly; sort the coordinates and drop duplicates")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)


@dataclass(frozen=True, eq=False)
class Matrix:
    """Values with a name for every row and column."""

    values: Any
    rows: Sequence[str]
    columns: Sequence[str]
    unit: str = ""

    def __post_init__(self) -> None:
        values = _array("Matrix", self.values, 2)
        rows, columns = tuple(map(str, self.rows)), tuple(map(str, self.columns))
        if values.shape != (len(rows), len(columns)):
            raise ValueError(
                f"Matrix: values of shape {values.shape} need that many row and column names, "
                f"got {len(rows)} and {len(columns)}"
            )
        for what, names in (("rows", rows), ("columns", columns)):
            if len(set(names)) != len(names):
                raise ValueError(f"Matrix: {what} must have different names, got {', '.join(names)}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "columns", columns)


Measurement = Value | Exact | Proportion | PerExample | PerTrial | PerDraw | Curve | Matrix
Measurements = Mapping[str, Measurement | float | int]
"""What an experiment returns."""

_VECTORS: dict[str, type[PerExample] | type[PerTrial] | type[PerDraw]] = {
    "per example": PerExample,
    "per trial": PerTrial,
    "per draw": PerDraw,
}


def as_measurements(owner: str, returned: Any) -> dict[str, Measurement]:
    """Check what an experiment returned; plain numbers become :class:`Value`.

    Raises:
        TypeError: if `returned` is no mapping of names to measurements.
    """
    if not isinstance(returned, Mapping) or not returned:
        raise TypeError(f"{owner}: an experiment returns a non-empty mapping of named measurements, got {returned!r}")
    checked: dict[str, Measurement] = {}
    for name, value in returned.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError(f"{owner}: a measurement's name must be an identifier, got {name!r}")
        checked[name] = value if isinstance(value, Measurement) else Value(_number(f"{owner}: {name}", value))
    return checked


def to_stored(measurements: Mapping[str, Measurement]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Split measurements into a JSON object and named arrays."""
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, m in measurements.items():
        match m:
            case Value() | Exact():
                kind = "exact" if isinstance(m, Exact) else "value"
                plain[name] = {"kind": kind, "value": m.value, "unit": m.unit}
            case Proportion():
                plain[name] = {"kind": "proportion", "successes": m.successes, "total": m.total, "unit": m.unit}
            case Curve():
                plain[name] = {"kind": "curve", "unit": m.unit}
                arrays[f"{name}.x"], arrays[f"{name}.y"] = m.x, m.y
            case Matrix():
                plain[name] = {"kind": "matrix", "rows": list(m.rows), "columns": list(m.columns), "unit": m.unit}
                arrays[f"{name}.values"] = m.values
            case _:
                kind = next(kind for kind, cls in _VECTORS.items() if isinstance(m, cls))
                plain[name] = {"kind": kind, "unit": m.unit}
                arrays[f"{name}.values"] = m.values
    return plain, arrays


def from_stored(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Measurement]:
    """The inverse of :func:`to_stored`."""
    measurements: dict[str, Measurement] = {}
    for name, entry in plain.items():
        kind, unit = entry["kind"], entry["unit"]
        if kind == "value":
            measurements[name] = Value(float(entry["value"]), unit)
        elif kind == "exact":
            measurements[name] = Exact(float(entry["value"]), unit)
        elif kind == "proportion":
            measurements[name] = Proportion(entry["successes"], entry["total"], unit)
        elif kind == "curve":
            measurements[name] = Curve(arrays[f"{name}.x"], arrays[f"{name}.y"], unit)
        elif kind == "matrix":
            measurements[name] = Matrix(arrays[f"{name}.values"], entry["rows"], entry["columns"], unit)
        else:
            measurements[name] = _VECTORS[kind](arrays[f"{name}.values"], unit)
    return measurements
