"""One's own table of observations: a mapping from column names to columns, checked."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from claimwise.causal.causal_graph import check_known


def read_columns(table: Any, names: Iterable[str], where: str) -> dict[str, np.ndarray]:
    """Columns of a table as arrays of equal length, without missing or infinite values.

    Args:
        table: Anything with ``table[name]`` and ``keys()`` or ``columns``: a dict of arrays, tensors or lists, a
            DataFrame; or a structured NumPy array.
        names: The columns to read.
        where: Prefix of error messages.

    Shape:
        each column ``(rows,)``; numbers and truth values as they are, all else as strings.

    Raises:
        ValueError: No such column, a column that is not one-dimensional, unequal lengths, no rows, missing or
            non-finite values. Every message names the column.

    Example:
        >>> from claimwise.causal.table import read_columns
        >>> read_columns({"a": [1.0, float("nan")]}, ["a"], "table")
        Traceback (most recent call last):
            ...
        ValueError: table: column 'a' must have no missing values, got 1 in 2 rows; drop or impute those rows
    """
    structured = isinstance(table, np.ndarray)
    if structured and not table.dtype.names:
        raise ValueError(
            f"{where}: table must have named columns, got an array of shape {table.shape}; "
            "give a dict such as {'x': array[:, 0]}"
        )
    named = hasattr(table, "keys") or hasattr(table, "columns")
    if not structured and not (named and hasattr(table, "__getitem__")):
        raise ValueError(f"{where}: table must map column names to columns, got {type(table).__name__}")
    if structured:
        known = list(table.dtype.names)
    else:
        known = list(table.keys() if hasattr(table, "keys") else table.columns)
    columns: dict[str, np.ndarray] = {}
    for name in names:
        check_known([name], known, where)
        column = table[name]
        if isinstance(column, Tensor):
            column = column.detach().cpu()
        columns[name] = _clean(np.asarray(column), name, where)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{where}: columns must have equal lengths, got {lengths}")
    if 0 in lengths.values():
        raise ValueError(f"{where}: the table must have rows, got 0")
    return columns


def _clean(column: np.ndarray, name: str, where: str) -> np.ndarray:
    if column.ndim != 1:
        raise ValueError(f"{where}: column {name!r} must be one-dimensional, got shape {column.shape}")
    if column.dtype == object:
        missing = np.array([value is None or not _equals_itself(value) for value in column], dtype=bool)
    else:
        missing = column != column  # NaN and NaT
    if missing.any():
        raise ValueError(
            f"{where}: column {name!r} must have no missing values, got {int(missing.sum())} in {len(column)} rows; "
            "drop or impute those rows"
        )
    if column.dtype == object:
        numbers = all(isinstance(value, int | float | np.number | np.bool_) for value in column)
        column = column.astype(np.float64) if numbers else column.astype(str)
    if column.dtype.kind in "biu":
        return column
    if column.dtype.kind == "f":
        if not np.isfinite(column).all():
            raise ValueError(
                f"{where}: column {name!r} must be finite, got {column[~np.isfinite(column)][0]}; drop those rows"
            )
        return column
    return column.astype(str)


def _equals_itself(value: Any) -> bool:
    """False for NaN, and for pandas' NA, whose comparison is neither true nor false."""
    equal = value == value
    return isinstance(equal, bool | np.bool_) and bool(equal)


def numeric(column: np.ndarray, name: str, role: str, where: str) -> np.ndarray:
    """The column in float64.

    Raises:
        ValueError: A column of strings.
    """
    if column.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: the {role} {name!r} must be numeric, got {column[0].item()!r}; code it as numbers, for "
            "instance as an indicator (column == level)"
        )
    return column.astype(np.float64)
