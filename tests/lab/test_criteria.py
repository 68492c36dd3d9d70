"""Criteria: inert when written, honest when read, right when evaluated."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.lab.criteria import (
    AllOf,
    Comparison,
    CriterionError,
    Expression,
    Leaf,
    Replicates,
    all_of,
    between,
    equal,
    equivalent,
    ordered,
    superiority,
    trend,
)


@dataclass(frozen=True)
class Named:
    name: str

    def __getitem__(self, measurement: str) -> Leaf:
        return Leaf(self, measurement)


net, other = Named("net"), Named("other")
a, b, c = net["a"], net["b"], other["c"]


def values_of(expression: Expression, **measured: object) -> np.ndarray:
    """The expression over replicates; measurements by name as lists or Replicates."""

    def read(leaf: Leaf) -> Replicates:
        value = measured[leaf.measurement]
        return value if isinstance(value, Replicates) else Replicates(np.asarray(value, dtype=float))

    return expression.evaluate(read).values


# inert ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "way_out"),
    [
        (lambda: bool(a), r"all_of"),
        (lambda: bool(a > 0.5), r"all_of.*between.*ordered"),
        (lambda: a > 0.5 and b > 0.5, r"all_of"),
        (lambda: a > 0.5 or b > 0.5, r"all_of"),
        (lambda: not a > 0.5, r"all_of"),
        (lambda: 0.1 < a < 0.5, r"between"),
        (lambda: a < b < c, r"ordered"),
        (lambda: a == b, r"equal\(a, b\).*equivalent"),
        (lambda: a == 0.5, r"equal\(a, b\).*equivalent"),
        (lambda: a != b, r"a > b or a < b"),
        (lambda: (a > 0.5) == (b > 0.5), r"digest"),
        (lambda: (a > 0.5) != (b > 0.5), r"digest"),
        (lambda: a in [b], r"equal"),
        (lambda: max(a, b), r"all_of"),
        (lambda: sorted([a, b]), r"all_of"),
        (lambda: 1 if a > 0.5 else 0, r"all_of"),
    ],
)
def test_what_would_evaluate_a_criterion_when_written_raises_with_the_way_out(write, way_out):
    with pytest.raises(CriterionError, match=way_out):
        write()


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda: a + "text", "got 'text'"),
        (lambda: a > True, "got True"),
        (lambda: a > None, "got None"),
        (lambda: a > float("nan"), "finite, got nan"),
        (lambda: a > float("inf"), "finite, got inf"),
        (lambda: a * float("inf") > 1, "finite"),
        (lambda: np.array([1.0, 2.0]) * a > 1, r"joins measurements and numbers, got array"),
        (lambda: np.array([1.0, 2.0]) < a, r"joins measurements and numbers, got array"),
        (lambda: between(a, 0.5, 0.5), "low < high"),
        (lambda: between(a, 2, 1), "low < high"),
        (lambda: between(a, b, 1), "needs a number there, got net.b"),
        (lambda: between(a, 0.1, float("nan")), "finite"),
        (lambda: between(3, 1, 5), "numbers only"),
        (lambda: equivalent(a, b, margin=0), "margin must be a number > 0, got 0"),
        (lambda: equivalent(a, b, margin=-0.1), "margin must be a number > 0"),
        (lambda: equivalent(a, b, margin=float("inf")), "finite"),
        (lambda: equivalent(1, 2, margin=0.1), "numbers only"),
        (lambda: equal(1, 1), "numbers only"),
        (lambda: all_of(), "at least one"),
        (lambda: all_of(a > 1, 0.5), "takes criteria such as a > 0.5, got 0.5"),
        (lambda: all_of(a), "takes criteria"),
        (lambda: ordered(a), "at least two"),
        (lambda: trend(a, "sideways"), "'up' or 'down', got 'sideways'"),
        (lambda: a.monotone("sideways"), "'up' or 'down', got 'sideways'"),
        (lambda: superiority(a, 0.5), "takes two measurements"),
    ],
)
def test_a_criterion_that_makes_no_sense_is_refused_when_written(write, said):
    with pytest.raises(CriterionError, match=said):
        write()


# text ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (a > 0.5, "net.a > 0.5"),
        (a >= 1, "net.a >= 1"),
        (a < b, "net.a < net.b"),
        (a - b > 0.1, "net.a - net.b > 0.1"),
        (a - (b - c) > 0, "net.a - (net.b - other.c) > 0"),
        ((a - b) - c > 0, "net.a - net.b - other.c > 0"),
        (a - (b + c) > 0, "net.a - (net.b + other.c) > 0"),
        ((a - b) * c > 0, "(net.a - net.b) * other.c > 0"),
        (a - b * c > 0, "net.a - net.b * other.c > 0"),
        (a / (b / c) > 0, "net.a / (net.b / other.c) > 0"),
        (a / b / c > 0, "net.a / net.b / other.c > 0"),
        (a / (b + 1) > 2, "net.a / (net.b + 1) > 2"),
        (2 * a + 1 > b, "2 * net.a + 1 > net.b"),
        (1 - a > 0, "1 - net.a > 0"),
        (1 / a > 0, "1 / net.a > 0"),
        (-a > 0, "-1 * net.a > 0"),
        (abs(a - b) > 0.1, "|net.a - net.b| > 0.1"),
        (a.at(0.25) > 1, "net.a.at(0.25) > 1"),
        (a.at("row", "column") > 1, "net.a.at(row, column) > 1"),
        ((a - b).slope() > 0, "(net.a - net.b).slope() > 0"),
        (a.monotone("down") > 0, "net.a.monotone(down) > 0"),
        (trend(a, "down"), "net.a.slope() < 0"),
        (between(a, 0.1, 2), "0.1 <= net.a <= 2"),
        (equivalent(a, b, margin=0.02), "|net.a - net.b| < 0.02"),
        (equivalent(a, 3, margin=0.02), "|net.a - 3| < 0.02"),
        (equal(a, 16), "net.a = 16"),
        (equal(a, b), "net.a = net.b"),
        (superiority(a, c) > 0.5, "P(net.a > other.c) > 0.5"),
        (all_of(a > 0.5, all_of(b < 1, c < 2)), "net.a > 0.5 and net.b < 1 and other.c < 2"),
        (ordered(a, b, c), "net.a < net.b and net.b < other.c"),
    ],
)
def test_a_criterion_prints_itself(criterion, text):
    assert str(criterion) == text


def trees() -> st.SearchStrategy[tuple[Expression, object]]:
    """Expressions over a and b beside the same computation on two numbers."""
    numbers = st.floats(-4, 4).map(lambda v: round(v, 2) + 0.0)  # no -0
    leaf = st.sampled_from([(a, lambda x, y: x), (b, lambda x, y: y)])

    def grown(inner):
        joined = st.sampled_from(["+", "-", "*", "/"])

        def join(left, operator, right):
            (one, f), (two, g) = left, right
            compute = {
                "+": (lambda: one + two, lambda x, y: f(x, y) + g(x, y)),
                "-": (lambda: one - two, lambda x, y: f(x, y) - g(x, y)),
                "*": (lambda: one * two, lambda x, y: f(x, y) * g(x, y)),
                "/": (lambda: one / two, lambda x, y: np.divide(f(x, y), g(x, y))),
            }[operator]
            return compute[0](), compute[1]

        def with_number(left, operator, number, on_left):
            one, f = left
            return {
                ("+", False): lambda: (one + number, lambda x, y: f(x, y) + number),
                ("-", False): lambda: (one - number, lambda x, y: f(x, y) - number),
                ("*", False): lambda: (one * number, lambda x, y: f(x, y) * number),
                ("/", False): lambda: (one / number, lambda x, y: np.divide(f(x, y), number)),
                ("+", True): lambda: (number + one, lambda x, y: number + f(x, y)),
                ("-", True): lambda: (number - one, lambda x, y: number - f(x, y)),
                ("*", True): lambda: (number * one, lambda x, y: number * f(x, y)),
                ("/", True): lambda: (number / one, lambda x, y: np.divide(number, f(x, y))),
            }[operator, on_left]()

        return st.builds(join, inner, joined, inner) | st.builds(with_number, inner, joined, numbers, st.booleans())

    return st.recursive(leaf, grown, max_leaves=8)


@given(trees(), st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=300, deadline=None)
def test_text_keeps_the_meaning_and_the_linear_form_equals_the_evaluation(tree, x, y):
    expression, compute = tree
    with np.errstate(all="ignore"):
        wanted = float(compute(np.float64(x), np.float64(y)))
        (evaluated,) = values_of(expression, a=[x], b=[y])
        # The text is Python over the same names: its parentheses must give the same number.
        text = str(expression).replace("net.a", "x_").replace("net.b", "y_")
        read_back = float(eval(text, {"x_": np.float64(x), "y_": np.float64(y)}))
    assert evaluated == pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True)
    assert read_back == pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True)
    linear = expression.linear()
    if linear is not None and np.isfinite(wanted):
        coefficients, constant = linear
        point = {("net", "a"): x, ("net", "b"): y}
        total = constant + sum(c * point[key] for key, c in coefficients.items())
        scale = 1 + abs(constant) + sum(abs(c) for c in coefficients.values())
        assert total == pytest.approx(wanted, rel=1e-9, abs=1e-9 * scale)


def test_linear_knows_what_is_linear():
    assert (2 * a - b / 4 + 1).linear() == ({("net", "a"): 2.0, ("net", "b"): -0.25}, 1.0)
    assert (3 - (a - 2 * a)).linear() == ({("net", "a"): 1.0}, 3.0)
    assert (-(a - c)).linear() == ({("net", "a"): -1.0, ("other", "c"): 1.0}, 0.0)
    for curved in (a * b, a / b, 1 / a, abs(a), a / 0, a.mean(), superiority(a, b)):
        assert curved.linear() is None, curved


# digest --------------------------------------------------------------------------------------------------------------


def test_the_digest_changes_exactly_when_the_criterion_does():
    criteria = [
        a > 0.5,
        a >= 0.5,
        a * 0.5 > 0,
        a * 0.50000000000001 > 0,
        a < 0.5,
        a <= 0.5,
        a > 0.50000000000001,  # prints alike
        b > 0.5,
        Named("another")["a"] > 0.5,
        a - b > 0.5,
        b - a > 0.5,
        a + b > 0.5,
        a / b > 0.5,
        a - (b - c) > 0,
        (a - b) - c > 0,
        abs(a - b) < 0.1,
        equivalent(a, b, margin=0.1),  # reads like the one before, and is judged otherwise
        equivalent(a, b, margin=0.1000000001),
        between(a, 0.1, 0.9),
        between(a, 0.1, 0.9000000001),
        all_of(a >= 0.1, a <= 0.9),
        equal(a, 5),
        a.at(1) > 0,
        a.at(1.0000001) > 0,
        a.at("1", "2") > 0,
        a.slope() > 0,
        a.argmin() > 0,
        a.monotone("up") > 0,
        a.monotone("down") > 0,
        superiority(a, b) > 0.5,
        superiority(b, a) > 0.5,
        all_of(a > 0.5, b > 0.5),
        all_of(a > 0.5, c > 0.5),
    ]
    digests = [criterion.digest for criterion in criteria]
    assert len(set(digests)) == len(criteria)


def test_the_digest_does_not_change_with_what_is_judged_alike():
    half = 0.5
    assert (a > 0.5).digest == (net["a"] > 0.5).digest == (half < a).digest == (a > np.float64(0.5)).digest
    assert (a > b).digest == (a - b > 0).digest
    assert all_of(a > 1).digest == (a > 1).digest
    assert ordered(a, b, c).digest == all_of(a < b, b < c).digest
    assert equivalent(a, b, margin=1, because="x").digest == equivalent(a, b, margin=1.0, because="y").digest
    digest = (a > 0.5).digest
    assert len(digest) == 16
    assert int(digest, 16) >= 0


# comparisons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.float32(0.5), 1, np.int64(1)])
def test_a_constant_may_stand_on_either_side(number):
    for left, right in [
        (number < a, a > number),
        (number <= a, a >= number),
        (number > a, a < number),
        (number >= a, a <= number),
    ]:
        assert isinstance(left, Comparison)
        assert (left.low, left.high, left.closed, str(left)) == (right.low, right.high, right.closed, str(right))
        assert left.expression is a
    for expression, value in [(number + a, number + 3), (number - a, number - 3), (number * a, 3 * number)]:
        assert isinstance(expression, Expression)
        assert values_of(expression, a=[3.0]) == pytest.approx([float(value)])
    assert values_of(number / a, a=[4.0]) == pytest.approx([float(number) / 4])


def test_a_comparison_of_two_quantities_is_one_quantity_against_zero():
    comparison = a < c
    assert (comparison.low, comparison.high) == (-np.inf, 0.0)
    assert str(comparison.expression) == "net.a - other.c"
    assert values_of(comparison.expression, a=[1, 2], c=[5, 9]) == pytest.approx([-4, -7])


def test_parts_and_leaves():
    criterion = all_of(a > b, all_of(a > 1, c > 0))
    assert isinstance(criterion, AllOf)
    assert [str(part) for part in criterion.parts()] == ["net.a > net.b", "net.a > 1", "other.c > 0"]
    assert list(criterion.leaves()) == [("net", "a"), ("net", "b"), ("other", "c")]
    assert (a > 1).parts()[0].expression is a


# curves and matrices -------------------------------------------------------------------------------------------------

X = np.array([0.0, 0.25, 1.0])
CURVE = Replicates(np.array([[1.0, 4.0, 2.0], [3.0, 0.0, 5.0]]), x=X)
MATRIX = Replicates(np.arange(12.0).reshape(2, 2, 3), rows=("r0", "1"), columns=("x", "y", "2"))


@pytest.mark.parametrize(
    ("reduced", "wanted"),
    [
        (a.at(0.25), [4, 0]),
        (a.at(0), [1, 3]),
        (a.at(0.1 + 0.15), [4, 0]),
        (a.slope(), [np.polyfit(X, row, 1)[0] for row in CURVE.values]),
        (a.argmin(), [0.0, 0.25]),
        (a.argmax(), [0.25, 1.0]),
        (a.min(), [1, 0]),
        (a.max(), [4, 5]),
        (a.mean(), [7 / 3, 8 / 3]),
        (a.first(), [1, 3]),
        (a.last(), [2, 5]),
        (a.monotone(), [-2, -3]),
        (a.monotone("down"), [-3, -5]),
        ((a - 1).max(), [3, 4]),
        ((a - a.first()).last(), [1, 2]),
        (abs(a - 3).max(), [2, 3]),
    ],
)
def test_curves_reduce_to_a_number_for_each_replicate(reduced, wanted):
    assert values_of(reduced, a=CURVE) == pytest.approx(wanted)


def test_matrices_are_indexed_by_row_and_column_name():
    assert values_of(a.at("r0", "y"), a=MATRIX) == pytest.approx([1, 7])
    assert values_of(a.at(1, 2), a=MATRIX) == pytest.approx([5, 11])
    assert values_of(a.mean(), a=MATRIX) == pytest.approx([2.5, 8.5])
    assert values_of((a - a).max(), a=MATRIX) == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("expression", "measured", "said"),
    [
        (a.at(0.3), {"a": CURVE}, r"net\.a\.at\(0\.3\).*coordinates are 0, 0\.25, 1"),
        (a.at("r0", "x"), {"a": CURVE}, r"coordinates are 0, 0\.25, 1"),
        (a.at("0.25"), {"a": CURVE}, r"coordinates are 0, 0\.25, 1"),
        (a.at(), {"a": CURVE}, r"coordinates are"),
        (a.at("r0"), {"a": MATRIX}, r"rows r0, 1 and columns x, y, 2"),
        (a.at("r0", "z"), {"a": MATRIX}, r"rows r0, 1 and columns x, y, 2"),
        (a.at("x", "r0"), {"a": MATRIX}, r"rows r0, 1"),
        (a.slope(), {"a": MATRIX}, r"needs a curve.*at\(row, column\)"),
        (a.argmin(), {"a": MATRIX}, r"needs a curve"),
        (a.slope(), {"a": [1.0, 2.0]}, r"one number for each replicate"),
        (a.mean(), {"a": [1.0, 2.0]}, r"one number for each replicate"),
        (a.at(0.25), {"a": [1.0, 2.0]}, r"one number for each replicate"),
        (a.slope(), {"a": Replicates(np.ones((2, 1)), x=np.ones(1))}, r"one point has no slope"),
        (a.monotone(), {"a": Replicates(np.ones((2, 1)), x=np.ones(1))}, r"one point has no steps"),
        ((a - b).max(), {"a": CURVE, "b": MATRIX}, r"different coordinates"),
        ((a - b).max(), {"a": CURVE, "b": Replicates(CURVE.values, x=X + 1)}, r"different coordinates"),
        (superiority(a, b) + 0, {"a": [1.0], "b": [1.0]}, r"superiority stands alone"),
    ],
)
def test_a_reduction_that_does_not_fit_names_what_there_is(expression, measured, said):
    with pytest.raises(CriterionError, match=said):
        values_of(expression, **measured)


@pytest.mark.parametrize("reduced", [a.argmin(), a.argmax(), a.min(), a.max(), a.mean(), a.slope(), a.monotone()])
def test_a_point_that_is_not_a_number_is_never_reduced_away(reduced):
    holed = Replicates(np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]]), x=X)
    values = values_of(reduced, a=holed)
    assert np.isnan(values[0])
    assert np.isfinite(values[1])


def test_a_number_joins_every_point_of_a_curve():
    assert values_of((a / b).at(0.25), a=CURVE, b=[2.0, 5.0]) == pytest.approx([2, 0])
    assert values_of((b - a).at(1), a=CURVE, b=[2.0, 5.0]) == pytest.approx([0, 0])


def test_division_by_zero_is_not_a_number_and_not_a_crash():
    assert np.isnan(values_of(a / b, a=[0.0], b=[0.0])[0])
    assert np.isinf(values_of(a / b, a=[1.0], b=[0.0])[0])
