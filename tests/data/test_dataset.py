"""The record of a data set and its content hash."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwise.data import Dataset, hash_content


def test_content_hash_is_the_documented_bytes():
    x = np.array([[1, 2], [3, 4]], dtype=">i4")
    y = np.array(["a", "bc"])
    little_x = bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    little_y = "a\0bc".encode("utf-32-le")
    expected = hashlib.sha256()
    for line, data in (
        (b'["test", "y", "<U2", [2]]\n', little_y),
        (b'["train", "x", "<i4", [2, 2]]\n', little_x),
    ):
        expected.update(line + data)
    assert hash_content({"train": {"x": x}, "test": {"y": y}}) == expected.hexdigest()


def test_content_hash_ignores_order_byte_order_and_memory_layout():
    x = np.arange(12.0).reshape(3, 4)
    one = hash_content({"a": {"x": x, "y": x[:2]}, "b": {"z": x[0]}})
    assert one == hash_content({"b": {"z": x[0]}, "a": {"y": x[:2].astype(">f8"), "x": np.asfortranarray(x)}})


@pytest.mark.parametrize(
    "other",
    [
        {"a": {"x": np.arange(4)[::-1]}},
        {"a": {"x": np.arange(4).reshape(2, 2)}},
        {"a": {"x": np.arange(4, dtype=np.int32)}},
        {"a": {"y": np.arange(4)}},
        {"b": {"x": np.arange(4)}},
        {"a": {"x": np.arange(4)}, "b": {"x": np.empty(0)}},
    ],
)
def test_content_hash_sees_every_difference(other):
    assert hash_content({"a": {"x": np.arange(4)}}) != hash_content(other)


@given(st.binary(max_size=20), st.integers(0, 19), st.integers(1, 255))
def test_content_hash_sees_every_byte(data, at, change):
    x = np.frombuffer(data, np.uint8)
    changed = x.copy()
    if at < len(x):
        changed[at] ^= change
    assert (hash_content({"all": {"x": x}}) == hash_content({"all": {"x": changed}})) == (at >= len(x))


def test_content_hash_of_scalars_and_empty_arrays_differs_by_shape():
    shapes = [(), (1,), (0,), (0, 2)]
    assert len({hash_content({"all": {"x": np.zeros(shape)}}) for shape in shapes}) == len(shapes)


def test_content_hash_refuses_objects():
    with pytest.raises(TypeError, match="all/x holds Python objects"):
        hash_content({"all": {"x": np.array([None])}})


def test_arrays_are_read_only_and_unknown_splits_named():
    data = Dataset("mine", {"train": {"x": np.zeros(3)}})
    assert list(data) == ["train"]
    assert len(data) == 1
    with pytest.raises(ValueError, match="read-only"):
        data["train"]["x"][0] = 1
    with pytest.raises(KeyError, match="mine: no split 'test'; it has train"):
        data["test"]
    assert "train/x: float64[3]" in repr(data)
