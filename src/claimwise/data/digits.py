"""The digits that scikit-learn carries: 1,797 handwritten digits of 8 x 8 pixels, at hand with the lab."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from claimwise.data.formats import Arrays
from claimwise.data.registry import CorruptDataError, MissingDataError

TRAIN = 1437
"""Examples 0..1436 train, 1437..1796 test: file order, the last fifth held out. Both halves hold each digit about
equally often (33 to 37 of each among the 360 test examples)."""


def digits() -> Arrays:
    """Splits ``train`` (1,437) and ``test`` (360): ``x`` float32 (n, 8, 8) in [0, 1] (ink / 16), ``y`` int64 (n,).

    Read from scikit-learn's own file: importing scikit-learn for it would cost every worker process a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise MissingDataError(
            "digits: scikit-learn carries this data set and is not installed; pip install 'claimwise[lab]'"
        )
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # (1797, 64 pixels + label)
    except (OSError, EOFError, ValueError) as broken:
        raise CorruptDataError(f"digits: cannot read {path} ({broken}); reinstall scikit-learn") from broken
    x = table[:, :64].reshape(-1, 8, 8).astype(np.float32) / 16
    y = table[:, 64].astype(np.int64)
    return {"train": {"x": x[:TRAIN], "y": y[:TRAIN]}, "test": {"x": x[TRAIN:], "y": y[TRAIN:]}}
