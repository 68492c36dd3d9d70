"""What an experiment may return, and that it comes back from its files as it was."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimwise.lab.measurements import (
    Curve,
    Exact,
    Matrix,
    PerDraw,
    PerExample,
    PerTrial,
    Proportion,
    Value,
    as_measurements,
    from_stored,
    to_stored,
)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Value("3"), TypeError, "Value: expected a number, got '3'"),
        (lambda: Value([1.0]), TypeError, "Value: expected a number.*Curve, Matrix or PerExample"),
        (lambda: Value(torch.ones(2)), TypeError, "Value: expected a number"),
        (lambda: Value(1j), TypeError, "Value: expected a number"),
        (lambda: Exact(None), TypeError, "Exact: expected a number"),
        (lambda: Exact(2**53 + 1), ValueError, "more digits than a float holds"),
        (lambda: Proportion(5, 4), ValueError, "0 <= successes <= total, got 5 of 4"),
        (lambda: Proportion(-1, 4), ValueError, "got -1 of 4"),
        (lambda: Proportion(0, 0), ValueError, "got 0 of 0"),
        (lambda: Proportion(0.5, 4), ValueError, "whole"),
        (lambda: Proportion(float("nan"), 4), ValueError, "got nan of 4"),
        (lambda: Proportion(1, float("inf")), ValueError, "got 1 of inf"),
        (lambda: PerExample([]), ValueError, r"PerExample: expected a non-empty array of 1 dimension\(s\)"),
        (lambda: PerTrial([[1.0]]), ValueError, r"PerTrial: .*got shape \(1, 1\)"),
        (lambda: PerDraw(["a"]), TypeError, "PerDraw: expected numbers"),
        (lambda: PerDraw([None, 1.0]), TypeError, "PerDraw: expected numbers, got dtype object"),
        (lambda: PerDraw(np.array([1j])), TypeError, "PerDraw: expected numbers, got dtype complex128"),
        (lambda: Curve([0, 1], [1.0]), ValueError, "one length, got 2 and 1"),
        (lambda: Curve([0, 0], [1.0, 2.0]), ValueError, "x must increase strictly"),
        (lambda: Curve([1, 0], [1.0, 2.0]), ValueError, "x must increase strictly"),
        (lambda: Curve([0, float("nan")], [1.0, 2.0]), ValueError, "x must increase strictly"),
        (lambda: Curve(0.0, 1.0), ValueError, r"Curve\.x: expected a non-empty array of 1"),
        (lambda: Matrix([[1.0, 2.0]], ["r"], ["a"]), ValueError, r"shape \(1, 2\).*got 1 and 1"),
        (lambda: Matrix([1.0], ["r"], ["a"]), ValueError, "2 dimension"),
        (lambda: Matrix([[1.0, 2.0]], ["r"], ["a", "a"]), ValueError, "columns must have different names, got a, a"),
        (lambda: Matrix([[1.0], [2.0]], [1, "1"], ["a"]), ValueError, "rows must have different names, got 1, 1"),
    ],
)
def test_a_bad_measurement_is_refused_with_its_class_and_value(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_numbers_of_every_library_are_taken():
    for number in (
        3,
        3.0,
        np.float32(3),
        np.int64(3),
        np.array(3.0),
        torch.tensor(3),
        torch.tensor(3.0, requires_grad=True),
    ):
        assert Value(number).value == 3.0
        assert type(Value(number).value) is float
        assert type(Proportion(number, 4).successes) is int
    assert Value(True).value == 1.0
    assert PerExample(torch.tensor([True, False])).values.tolist() == [1.0, 0.0]
    assert PerTrial(torch.ones(2, requires_grad=True)).values.dtype == np.float64


@pytest.mark.parametrize("returned", [None, {}, 3.0, [("a", 1)], {"a"}])
def test_an_experiment_returns_a_mapping_of_names(returned):
    with pytest.raises(TypeError, match=r"paper\.net: an experiment returns a non-empty mapping"):
        as_measurements("paper.net", returned)


@pytest.mark.parametrize(("name", "value"), [("two words", 1.0), ("1st", 1.0), (3, 1.0), ("", 1.0), ("a.b", 1.0)])
def test_a_measurement_is_named_by_an_identifier(name, value):
    with pytest.raises(TypeError, match=r"paper\.net: a measurement's name must be an identifier"):
        as_measurements("paper.net", {name: value})


def test_a_value_that_is_no_measurement_is_named():
    with pytest.raises(TypeError, match=r"paper\.net: accuracy: expected a number, got 'high'"):
        as_measurements("paper.net", {"loss": 0.1, "accuracy": "high"})
    with pytest.raises(TypeError, match=r"paper\.net: filters: expected a number.*Curve, Matrix"):
        as_measurements("paper.net", {"filters": np.ones(3)})


def test_plain_numbers_become_values():
    assert as_measurements("e", {"loss": 0.5, "n": 3, "p": Proportion(1, 2)}) == {
        "loss": Value(0.5),
        "n": Value(3.0),
        "p": Proportion(1, 2),
    }


def same(one, two):
    assert type(one) is type(two)
    assert vars(one).keys() == vars(two).keys()
    for field, value in vars(one).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == vars(two)[field].tobytes(), field
        else:
            assert value == vars(two)[field] or (value != value and vars(two)[field] != vars(two)[field]), field


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.builds(Value, numbers, st.sampled_from(["", "s"]))
        | st.builds(Exact, st.integers(-(2**53), 2**53) | numbers, st.sampled_from(["", "weights"]))
        | st.integers(1, 50).flatmap(lambda n: st.builds(Proportion, st.integers(0, n), st.just(n)))
        | st.builds(PerExample, st.lists(numbers, min_size=1, max_size=4))
        | st.builds(PerTrial, st.lists(numbers, min_size=1, max_size=4), st.just("error"))
        | st.builds(PerDraw, st.lists(numbers, min_size=1, max_size=4))
        | st.lists(numbers, min_size=1, max_size=4).map(lambda y: Curve(range(len(y)), y, "nats"))
        | st.lists(numbers, min_size=2, max_size=2).map(lambda v: Matrix([v], ["r"], ["a", "b"], "errors")),
        min_size=1,
    )
)
def test_measurements_come_back_from_their_files_bit_for_bit(measurements):
    plain, arrays = to_stored(measurements)
    back = from_stored(json.loads(json.dumps(plain)), {name: array.copy() for name, array in arrays.items()})
    assert list(back) == list(measurements)
    for name, measurement in measurements.items():
        same(measurement, back[name])


def test_the_caller_cannot_change_a_measurement_through_its_list():
    rows = ["r"]
    matrix = Matrix([[1.0]], rows, ["c"])
    rows[0] = "other"
    assert matrix.rows == ("r",)
    assert math.isnan(Value(float("nan")).value)
