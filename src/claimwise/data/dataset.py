"""A data set in memory: arrays by split and name, and the hash that says which data they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, Mapping[str, np.ndarray]]


class Dataset(Mapping[str, "Mapping[str, np.ndarray]"]):
    """Read-only arrays by split and name: ``dataset["train"]["x"]``.

    Splits are ``train``, ``validation`` and ``test`` where the data set has them; what belongs to no split is under
    ``all``. The arrays are marked read-only, because one copy may serve many; copy before writing
    (``torch.tensor(x)`` copies, ``torch.from_numpy(x)`` would warn).

    Args:
        name: what :func:`claimwise.data.load` is asked for.
        arrays: split to array name to array.
        variant: which of the known versions of the data this is.
        content_hash: computed from the arrays where it is not given.
        source: where the data come from originally: an address, "embedded" or "generated".
        licence: licence or terms, in words.
        publish: whether pixels or rows may be shown outside this machine; aggregates always may.
        citation: BibTeX.
        classes: names of the classes by label, where the data set names them.
        note: what is known to be missing or different from the original.
        files: the files that were read.
    """

    def __init__(
        self,
        name: str,
        arrays: Arrays,
        *,
        variant: str = "original",
        content_hash: str | None = None,
        source: str = "generated",
        licence: str = "Apache-2.0",
        publish: bool = True,
        citation: str = "",
        classes: tuple[str, ...] = (),
        note: str = "",
        files: tuple[Path, ...] = (),
    ) -> None:
        self.name = name
        self.variant = variant
        self.source = source
        self.licence = licence
        self.publish = publish
        self.citation = citation
        self.classes = classes
        self.note = note
        self.files = files
        self.content_hash = content_hash if content_hash is not None else hash_content(arrays)
        self._splits: dict[str, dict[str, np.ndarray]] = {}
        for split, named in arrays.items():
            self._splits[split] = dict(named)
            for array in named.values():
                array.setflags(write=False)

    def __getitem__(self, split: str) -> Mapping[str, np.ndarray]:
        try:
            return self._splits[split]
        except KeyError:
            raise KeyError(f"{self.name}: no split {split!r}; it has {', '.join(self._splits)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __repr__(self) -> str:
        lines = [f"Dataset {self.name} ({self.variant}), content {self.content_hash[:12]}"]
        for split, named in self._splits.items():
            for name, array in named.items():
                lines.append(f"  {split}/{name}: {array.dtype}{list(array.shape)}")
        return "\n".join(lines)


def hash_content(arrays: Arrays) -> str:
    """SHA-256 of decoded arrays, in lower-case hex: what the data are, however they were packed.

    For each split and array in name order the hash takes in one line of JSON, ``[split, name, dtype, shape]`` with
    the dtype in numpy's little-endian notation (``"|u1"``, ``"<i8"``, ``"<U5"``), a newline, and the array's C-order
    little-endian bytes.

    Raises:
        TypeError: an array holds Python objects, which have no bytes of their own.

    >>> import numpy as np
    >>> hash_content({"all": {"x": np.arange(3, dtype="<i8")}})[:12]
    '91684d461f3e'
    """
    import numpy as np

    digest = hashlib.sha256()
    for split in sorted(arrays):
        for name in sorted(arrays[split]):
            array = arrays[split][name]
            if array.dtype.hasobject:
                raise TypeError(f"content hash: {split}/{name} holds Python objects; give numbers or fixed-width text")
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
            digest.update(json.dumps([split, name, little.dtype.str, list(little.shape)]).encode() + b"\n")
            digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
