"""Criteria as inert expressions over measurements.

``maxout["fgsm_error"] - noise["fgsm_error"] > 0.5`` computes nothing when written: it is a tree that prints itself,
whose digest tells when it was edited, and that :mod:`claimwise.lab.verdicts` evaluates over replicates once the runs
are there. What would silently compute the wrong thing (``bool()``, ``and``, ``a < b < c``, ``==``) raises, with the way
out.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np


class _Named(Protocol):
    """An experiment, as far as a criterion needs it."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Replicates:
    """A measurement's values over replicates, the first axis, with the coordinates of the others."""

    values: np.ndarray
    x: np.ndarray | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def scalar(self) -> bool:
        """Whether there is one number for each replicate."""
        return self.values.ndim == 1


class CriterionError(TypeError):
    """A criterion that cannot be built or evaluated, with the reason and the way out."""


def _inert(what: str, instead: str) -> NoReturn:
    raise CriterionError(f"a criterion is an inert expression: {what} would evaluate it now. {instead}")


class Expression:
    """A quantity computed from measurements; arithmetic and comparisons build larger expressions and criteria."""

    precedence = 9
    __array_ufunc__ = None  # numpy's numbers leave arithmetic and comparisons to the methods below

    # arithmetic -------------------------------------------------------------------------------------------------
    def __add__(self, other: "Expression | float") -> "Expression":
        return BinaryOperation("+", self, _expression(other))

    def __radd__(self, other: float) -> "Expression":
        return BinaryOperation("+", _expression(other), self)

    def __sub__(self, other: "Expression | float") -> "Expression":
        return BinaryOperation("-", self, _expression(other))

    def __rsub__(self, other: float) -> "Expression":
        return BinaryOperation("-", _expression(other), self)

    def __mul__(self, other: "Expression | float") -> "Expression":
        return BinaryOperation("*", self, _expression(other))

    def __rmul__(self, other: float) -> "Expression":
        return BinaryOperation("*", _expression(other), self)

    def __truediv__(self, other: "Expression | float") -> "Expression":
        return BinaryOperation("/", self, _expression(other))

    def __rtruediv__(self, other: float) -> "Expression":
        return BinaryOperation("/", _expression(other), self)

    def __neg__(self) -> "Expression":
        return BinaryOperation("*", Constant(-1.0), self)

    def __abs__(self) -> "Expression":
        return Reduction("abs", self)

    # comparisons ------------------------------------------------------------------------------------------------
    def __gt__(self, other: "Expression | float") -> "Comparison":
        return _compare(self, ">", other)

    def __ge__(self, other: "Expression | float") -> "Comparison":
        return _compare(self, ">=", other)

    def __lt__(self, other: "Expression | float") -> "Comparison":
        return _compare(self, "<", other)

    def __le__(self, other: "Expression | float") -> "Comparison":
        return _compare(self, "<=", other)

    def __eq__(self, other: object) -> NoReturn:
        _inert("==", "Use equal(a, b) for exact measurements, equivalent(a, b, margin=...) for measured ones.")

    def __ne__(self, other: object) -> NoReturn:
        _inert("!=", "Say which side: a > b or a < b; or abs(a - b) > margin.")

    __hash__ = object.__hash__  # an expression is a key of `reported`, by identity

    def __bool__(self) -> NoReturn:
        _inert("bool(), `and`, `or`, `not`", "Use all_of(...) to join criteria.")

    # reductions of curves and matrices ----------------------------------------------------------------------------
    def at(self, *where: float | str) -> "Expression":
        """A curve at a coordinate that it holds, or a matrix in a cell (row, column)."""
        return Reduction("at", self, where)

    def slope(self) -> "Expression":
        """The least-squares slope of a curve over its coordinates."""
        return Reduction("slope", self)

    def argmin(self) -> "Expression":
        """The coordinate at which a curve is smallest."""
        return Reduction("argmin", self)

    def argmax(self) -> "Expression":
        """The coordinate at which a curve is largest."""
        return Reduction("argmax", self)

    def min(self) -> "Expression":
        """The smallest value of a curve or matrix."""
        return Reduction("min", self)

    def max(self) -> "Expression":
        """The largest value of a curve or matrix."""
        return Reduction("max", self)

    def mean(self) -> "Expression":
        """The mean value of a curve or matrix."""
        return Reduction("mean", self)

    def first(self) -> "Expression":
        """A curve at its first coordinate."""
        return Reduction("first", self)

    def last(self) -> "Expression":
        """A curve at its last coordinate."""
        return Reduction("last", self)

    def monotone(self, direction: str = "up") -> "Expression":
        """The smallest step of a curve in a direction: above 0 where every step goes that way."""
        if direction not in ("up", "down"):
            raise CriterionError(f"monotone: direction must be 'up' or 'down', got {direction!r}")
        return Reduction("monotone", self, (direction,))

    # reading ------------------------------------------------------------------------------------------------------
    def leaves(self) -> Iterator["Leaf"]:
        """The measurements read, in reading order, with repetitions."""
        raise NotImplementedError

    def canonical(self) -> str:
        """Tells expressions that compute different things apart; `str` rounds numbers for reading."""
        raise NotImplementedError

    def evaluate(self, read: Callable[["Leaf"], Replicates]) -> Replicates:
        """The expression over replicates, each measurement given by `read`."""
        raise NotImplementedError

    def linear(self) -> tuple[dict[tuple[str, str], float], float] | None:
        """Coefficients by measurement and a constant where the expression is linear in measurements, else None."""
        return None


def _expression(value: "Expression | float") -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise CriterionError(f"a criterion joins measurements and numbers, got {value!r}")
    if not math.isfinite(value):
        raise CriterionError(f"a criterion's numbers must be finite, got {value!r}")
    return Constant(float(value))


@dataclass(frozen=True, eq=False)
class Constant(Expression):
    """A number."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:.12g}"

    def leaves(self) -> Iterator["Leaf"]:
        return iter(())

    def canonical(self) -> str:
        return repr(self.value)

    def evaluate(self, read: Callable[["Leaf"], Replicates]) -> Replicates:
        return Replicates(np.full(1, self.value))

    def linear(self) -> tuple[dict[tuple[str, str], float], float] | None:
        return {}, self.value


@dataclass(frozen=True, eq=False)
class Leaf(Expression):
    """One named measurement of one experiment."""

    experiment: _Named
    measurement: str

    def __str__(self) -> str:
        return f"{self.experiment.name}.{self.measurement}"

    @property
    def key(self) -> tuple[str, str]:
        """What tells measurements apart."""
        return self.experiment.name, self.measurement

    def leaves(self) -> Iterator["Leaf"]:
        yield self

    def canonical(self) -> str:
        return str(self)

    def evaluate(self, read: Callable[["Leaf"], Replicates]) -> Replicates:
        return read(self)

    def linear(self) -> tuple[dict[tuple[str, str], float], float] | None:
        return {self.key: 1.0}, 0.0


_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_NUMPY = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


@dataclass(frozen=True, eq=False)
class BinaryOperation(Expression):
    """A sum, difference, product or ratio."""

    operator: str
    left: Expression
    right: Expression

    @property
    def precedence(self) -> int:  # type: ignore[override]
        return _PRECEDENCE[self.operator]

    def __str__(self) -> str:
        left = f"({self.left})" if self.left.precedence < self.precedence else str(self.left)
        right = f"({self.right})" if self.right.precedence <= self.precedence else str(self.right)
        return f"{left} {self.operator} {right}"

    def leaves(self) -> Iterator[Leaf]:
        yield from self.left.leaves()
        yield from self.right.leaves()

    def canonical(self) -> str:
        return f"({self.left.canonical()} {self.operator} {self.right.canonical()})"

    def evaluate(self, read: Callable[[Leaf], Replicates]) -> Replicates:
        a, b = self.left.evaluate(read), self.right.evaluate(read)
        if not a.scalar and not b.scalar:
            if (
                a.rows != b.rows
                or a.columns != b.columns
                or not np.array_equal(np.zeros(0) if a.x is None else a.x, np.zeros(0) if b.x is None else b.x)
            ):
                raise CriterionError(f"{self}: the two sides have different coordinates; reduce each with .at() first")
            x, y = a.values, b.values
        else:
            ndim = max(a.values.ndim, b.values.ndim)  # a number for each replicate joins every point of a curve
            x = a.values.reshape(a.values.shape + (1,) * (ndim - a.values.ndim))
            y = b.values.reshape(b.values.shape + (1,) * (ndim - b.values.ndim))
        with np.errstate(divide="ignore", invalid="ignore"):
            values = _NUMPY[self.operator](x, y)
        shaped = b if a.scalar else a
        return Replicates(values, shaped.x, shaped.rows, shaped.columns)

    def linear(self) -> tuple[dict[tuple[str, str], float], float] | None:
        a, b = self.left.linear(), self.right.linear()
        if a is None or b is None:
            return None
        if self.operator in "+-":
            sign = 1.0 if self.operator == "+" else -1.0
            joined = dict(a[0])
            for key, coefficient in b[0].items():
                joined[key] = joined.get(key, 0.0) + sign * coefficient
            return joined, a[1] + sign * b[1]
        if self.operator == "*" and not (a[0] and b[0]):
            scale, scaled = (a[1], b) if not a[0] else (b[1], a)
            return {key: scale * c for key, c in scaled[0].items()}, scale * scaled[1]
        if self.operator == "/" and not b[0] and b[1] != 0:
            return {key: c / b[1] for key, c in a[0].items()}, a[1] / b[1]
        return None


@dataclass(frozen=True, eq=False)
class Reduction(Expression):
    """A number taken from a curve or matrix (or the absolute value)."""

    kind: str
    of: Expression
    where: tuple[float | str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "abs":
            return f"|{self.of}|"
        inner = str(self.of) if isinstance(self.of, Leaf) else f"({self.of})"
        return f"{inner}.{self.kind}({', '.join(f'{w:g}' if isinstance(w, float | int) else w for w in self.where)})"

    def leaves(self) -> Iterator[Leaf]:
        return self.of.leaves()

    def canonical(self) -> str:
        return f"{self.of.canonical()}.{self.kind}{self.where!r}"

    def evaluate(self, read: Callable[[Leaf], Replicates]) -> Replicates:
        given = self.of.evaluate(read)
        if self.kind == "abs":
            return Replicates(np.abs(given.values), given.x, given.rows, given.columns)
        if given.scalar:
            raise CriterionError(f"{self}: {self.of} is one number for each replicate, not a curve or matrix")
        values = given.values
        if self.kind in ("min", "max", "mean"):
            return Replicates(getattr(values, self.kind)(axis=tuple(range(1, values.ndim))))
        if self.kind == "at" and given.rows:
            return Replicates(values[:, *self._cell(given)])
        if given.x is None:
            raise CriterionError(
                f"{self}: {self.kind} needs a curve, {self.of} is a matrix; take .at(row, column) first"
            )
        return Replicates(self._of_curve(given.x, values))

    def _cell(self, given: Replicates) -> tuple[int, int]:
        where = tuple(map(str, self.where))  # Matrix names its rows and columns by text
        if len(where) != 2 or where[0] not in given.rows or where[1] not in given.columns:
            raise CriterionError(
                f"{self}: the matrix has rows {', '.join(given.rows)} and columns {', '.join(given.columns)}"
            )
        return given.rows.index(where[0]), given.columns.index(where[1])

    def _of_curve(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        match self.kind:
            case "at":
                number = len(self.where) == 1 and not isinstance(self.where[0], str)
                near = np.isclose(x, float(self.where[0]), rtol=1e-9, atol=1e-12) if number else []
                if not np.any(near):
                    raise CriterionError(f"{self}: the curve's coordinates are {', '.join(f'{v:g}' for v in x)}")
                return y[:, int(np.argmax(near))]
            case "slope":
                if len(x) < 2:
                    raise CriterionError(f"{self}: one point has no slope")
                centred = x - x.mean()
                return y @ centred / (centred @ centred)
            case "argmin" | "argmax":
                where = x[getattr(y, self.kind)(axis=1)]
                return np.where(np.isnan(y).any(axis=1), np.nan, where)  # numpy takes nan for the smallest and largest
            case "first":
                return y[:, 0]
            case "last":
                return y[:, -1]
            case "monotone":
                if len(x) < 2:
                    raise CriterionError(f"{self}: one point has no steps")
                return (np.diff(y, axis=1) * (1 if self.where[0] == "up" else -1)).min(axis=1)
        raise AssertionError(self.kind)


@dataclass(frozen=True, eq=False)
class Superiority(Expression):
    """P(a trial of `a` exceeds a trial of `b`), ties counted half: the rank test's effect (Brunner and Munzel)."""

    a: Leaf
    b: Leaf

    def __str__(self) -> str:
        return f"P({self.a} > {self.b})"

    def leaves(self) -> Iterator[Leaf]:
        yield self.a
        yield self.b

    def canonical(self) -> str:
        return str(self)

    def evaluate(self, read: Callable[[Leaf], Replicates]) -> Replicates:
        raise CriterionError(f"{self}: superiority stands alone in a comparison; it joins no arithmetic")


class Criterion:
    """What must hold: a comparison, or several of them."""

    def parts(self) -> tuple["Comparison", ...]:
        """The comparisons, each of which must hold."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """Changes exactly when what is judged does: quantities, regions, and whether a region holds its ends."""
        parts = [
            f"{p.expression.canonical()} in {p.low!r}, {p.high!r}, {p.closed}, {p.exact_only}" for p in self.parts()
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def leaves(self) -> dict[tuple[str, str], Leaf]:
        """The measurements read, each once."""
        return {leaf.key: leaf for part in self.parts() for leaf in part.expression.leaves()}

    def __bool__(self) -> NoReturn:
        _inert(
            "bool(), `and`, `or`, `not`, or a chained comparison",
            "Use all_of(a, b), between(x, low, high) or ordered(a, b, c).",
        )

    def __eq__(self, other: object) -> NoReturn:
        _inert("==", "Compare str(criterion) or criterion.digest.")

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class Comparison(Criterion):
    """An expression lies within a region of the number line."""

    expression: Expression
    low: float
    high: float
    closed: bool
    """Whether the region holds its ends."""
    text: str
    exact_only: bool = False
    because: str = ""

    def __str__(self) -> str:
        return self.text

    def parts(self) -> tuple["Comparison", ...]:
        return (self,)


@dataclass(frozen=True, eq=False)
class AllOf(Criterion):
    """Every part must hold."""

    comparisons: tuple[Comparison, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.comparisons))

    def parts(self) -> tuple[Comparison, ...]:
        return self.comparisons


def _comparison(
    expression: Expression,
    low: float,
    high: float,
    closed: bool,
    text: str,
    *,
    exact_only: bool = False,
    because: str = "",
) -> Comparison:
    if not any(True for _ in expression.leaves()):
        raise CriterionError(f"{text}: compares numbers only; a criterion reads at least one measurement")
    return Comparison(expression, low, high, closed, text, exact_only, because)


def _compare(left: Expression, operator: str, right: "Expression | float") -> Comparison:
    right = _expression(right)
    text = f"{left} {operator} {right}"
    # All on one side, so that the interval is of one quantity, paired by replicate.
    expression, bound = (left, right.value) if isinstance(right, Constant) else (left - right, 0.0)
    low, high = (bound, math.inf) if operator[0] == ">" else (-math.inf, bound)
    return _comparison(expression, low, high, operator.endswith("="), text)


def _bound(owner: str, value: float) -> float:
    number = _expression(value)
    if not isinstance(number, Constant):
        raise CriterionError(f"{owner}: needs a number there, got {value}; compare two quantities by their difference")
    return number.value


def between(quantity: Expression, low: float, high: float) -> Comparison:
    """`low` <= quantity <= `high`."""
    quantity, low, high = _expression(quantity), _bound("between", low), _bound("between", high)
    if not low < high:
        raise CriterionError(f"between: needs low < high, got {low!r} and {high!r}")
    return _comparison(quantity, low, high, True, f"{Constant(low)} <= {quantity} <= {Constant(high)}")


def equivalent(a: Expression, b: "Expression | float", *, margin: float, because: str = "") -> Comparison:
    """|a - b| < `margin`, the smallest difference that would matter: the only way to confirm "no difference".

    Args:
        a: A quantity.
        b: Another, or a number.
        margin: The smallest difference that would matter, in the unit of the quantities.
        because: Why that margin.
    """
    margin = _bound("equivalent: margin", margin)
    if not margin > 0:
        raise CriterionError(f"equivalent: margin must be a number > 0, got {margin!r}")
    difference = _expression(a) - b
    return _comparison(difference, -margin, margin, False, f"|{difference}| < {Constant(margin)}", because=because)


def equal(a: Expression, b: "Expression | float") -> Comparison:
    """a = b, for exact measurements only (counts and identities); measured ones need :func:`equivalent`."""
    a, b = _expression(a), _expression(b)
    expression, value = (a, b.value) if isinstance(b, Constant) else (a - b, 0.0)
    return _comparison(expression, value, value, True, f"{a} = {b}", exact_only=True)


def all_of(*criteria: Criterion) -> AllOf:
    """Every criterion must hold; with m parts each is judged at level 1 - 0.05 / m."""
    for criterion in criteria:
        if not isinstance(criterion, Criterion):
            raise CriterionError(f"all_of: takes criteria such as a > 0.5, got {criterion!r}")
    if not criteria:
        raise CriterionError("all_of: takes at least one criterion")
    return AllOf(tuple(part for criterion in criteria for part in criterion.parts()))


def ordered(*quantities: Expression) -> AllOf:
    """Each quantity is smaller than the next."""
    if len(quantities) < 2:
        raise CriterionError(f"ordered: takes at least two quantities, got {len(quantities)}")
    return all_of(*(a < b for a, b in itertools.pairwise(quantities)))


def trend(curve: Expression, direction: str) -> Comparison:
    """The least-squares slope of a curve is above 0 ("up") or below ("down")."""
    if direction == "up":
        return curve.slope() > 0
    if direction == "down":
        return curve.slope() < 0
    raise CriterionError(f"trend: direction must be 'up' or 'down', got {direction!r}")


def superiority(a: Any, b: Any) -> Superiority:
    """P(a trial of `a` exceeds a trial of `b`), for measurements over trials; compare it with a number."""
    if not (isinstance(a, Leaf) and isinstance(b, Leaf)):
        raise CriterionError("superiority: takes two measurements, experiment['name']")
    return Superiority(a, b)
