"""The embedded digits."""

import numpy as np
import pytest

from claimwise.data import load


def test_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    data = load("digits")
    x = np.concatenate([data["train"]["x"], data["test"]["x"]])
    y = np.concatenate([data["train"]["y"], data["test"]["y"]])
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    np.testing.assert_array_equal(x, images.reshape(-1, 8, 8) / 16)
    np.testing.assert_array_equal(y, labels)
    assert data["train"]["x"].shape == (1437, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    assert min(np.bincount(data["test"]["y"])) >= 33


def test_digits_are_read_without_importing_scikit_learn():
    import subprocess
    import sys

    code = "import sys, claimwise.data; claimwise.data.load('digits'); print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
