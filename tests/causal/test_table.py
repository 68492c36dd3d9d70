import numpy as np
import pytest
import torch

from claimwise.causal.table import numeric, read_columns

NAN = float("nan")


class Frame:
    """A data frame that has columns, but no keys()."""

    def __init__(self, columns):
        self._columns = columns

    @property
    def columns(self):
        return list(self._columns)

    def __getitem__(self, name):
        return self._columns[name]


@pytest.mark.parametrize(
    "table",
    [
        {"a": [1, 2], "b": ["u", "v"]},
        {"a": np.array([1, 2], dtype=np.int8), "b": np.array(["u", "v"], dtype=object)},
        {"a": torch.tensor([1, 2]), "b": ("u", "v")},
        {"a": torch.tensor([1.0, 2.0], requires_grad=True), "b": ["u", "v"]},
        Frame({"a": [1, 2], "b": ["u", "v"]}),
        np.array([(1, "u"), (2, "v")], dtype=[("a", "i4"), ("b", "U1")]),
    ],
)
def test_kinds_of_tables(table):
    columns = read_columns(table, ["b", "a"], "here")
    assert list(columns) == ["b", "a"]
    assert columns["a"].tolist() == [1, 2]
    assert columns["b"].dtype.kind == "U"


def test_data_frames_by_column_name():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": [1, 2],
            "b": pandas.Categorical(["u", "v"]),
            "c": [True, False],
            "d": pandas.array([3, 4], dtype="Int64"),
        }
    )
    columns = read_columns(frame, "abcd", "here")
    assert columns["a"].tolist() == [1, 2]
    assert columns["b"].tolist() == ["u", "v"]
    assert columns["c"].tolist() == [1, 0]
    assert numeric(columns["d"], "d", "outcome", "here").tolist() == [3, 4]
    for column in (pandas.array([3, None], dtype="Int64"), pandas.Series(["u", None]), pandas.Series([1.0, None])):
        with pytest.raises(ValueError, match="column 'a' must have no missing values, got 1 in 2 rows"):
            read_columns(pandas.DataFrame({"a": column}), "a", "here")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [1, 2], "b": [1]}, r"columns must have equal lengths, got \{'a': 2, 'b': 1\}"),
        ({"a": [], "b": []}, "the table must have rows, got 0"),
        ({"a": [1, 2]}, "unknown variable 'b'; known are a"),
        ({"a": [1.0, NAN], "b": [1, 2]}, "'a' must have no missing values, got 1 in 2 rows; drop or impute"),
        ({"a": np.array([1, None]), "b": [1, 2]}, "'a' must have no missing values"),
        ({"a": [1.0, float("inf")], "b": [1, 2]}, "'a' must be finite, got inf"),
        ({"a": np.array([1, float("-inf")], dtype=object), "b": [1, 2]}, "'a' must be finite, got -inf"),
        ({"a": [[1], [2]], "b": [1, 2]}, r"'a' must be one-dimensional, got shape \(2, 1\)"),
        (np.zeros((2, 2)), r"named columns, got an array of shape \(2, 2\); give a dict"),
        ([1, 2], "table must map column names to columns, got list"),
    ],
)
def test_bad_tables_are_refused(table, message):
    with pytest.raises(ValueError, match=f"here: .*{message}"):
        read_columns(table, ["a", "b"], "here")


def test_strings_are_no_numbers():
    with pytest.raises(ValueError, match=r"the outcome 'a' must be numeric, got 'u'; code it as numbers"):
        numeric(np.array(["u"]), "a", "outcome", "here")
