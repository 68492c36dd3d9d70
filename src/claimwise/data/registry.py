"""The registry of data sets: what exists, where it comes from, and by which hashes it is known.

``registry.toml`` holds one table per data set; this module reads it into records and needs only the standard
library, so that listing is quick. Names follow the folder and file of the data layout, joined by an underscore
(``mediation/jobs.csv.gz`` is ``mediation_jobs``), or the file alone where it already begins with its folder's name
(``cifar100/cifar100_subset.npz`` is ``cifar100_subset``).

An array is described by one string, ``dtype[shape]``, with ``from KEY`` where the file calls it otherwise and
``from residual(KEY)`` or ``from bits(KEY)`` where it is stored coded: ``x = "uint8[60000,28,28] from x_train"``.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

REGISTRY_FILE = Path(__file__).with_name("registry.toml")


class DataError(RuntimeError):
    """A data set cannot be had; the message says what to do."""


class UnknownDatasetError(DataError, LookupError):
    """No data set of this name is registered."""


class MissingDataError(DataError, FileNotFoundError):
    """The data set is registered but neither at hand nor to be fetched."""


class CorruptDataError(DataError):
    """A file is there but does not hold what is registered."""


@dataclass(frozen=True)
class ArraySpec:
    """One array as registered."""

    dtype: str
    shape: tuple[int, ...]
    key: str
    """Name (npz), column name (csv) or column number (tsv) in the file."""
    coding: str = ""
    """"residual", "bits" or nothing."""

    _PATTERN = re.compile(
        r"(?P<dtype>[\w<>|]+)\[(?P<shape>[\d,]*)\](?: from (?:(?P<coding>\w+)\((?P<coded>[^)]+)\)|(?P<key>.+)))?"
    )

    @classmethod
    def parse(cls, name: str, text: str) -> ArraySpec:
        match = cls._PATTERN.fullmatch(text)
        if match is None:
            raise DataError(f"registry: array {name} is described as {text!r}; expected 'dtype[shape] from key'")
        shape = tuple(int(size) for size in match["shape"].split(",") if size)
        key = match["coded"] or match["key"] or name.rsplit("/", 1)[-1]
        return cls(match["dtype"], shape, key, match["coding"] or "")


@dataclass(frozen=True)
class File:
    """One file of a packing."""

    path: str
    """Relative to the data folder or to the cache."""
    bytes: int
    digest: str
    """"sha256:..." or, as upstream publishes it, "md5:..."."""
    gives: str = ""
    """The split (or "split/array") it holds, where a packing has one file each."""


@dataclass(frozen=True)
class Packing:
    """One way in which a data set comes as files."""

    variant: str
    format: str
    files: tuple[File, ...]
    urls: tuple[str, ...] = ()
    """Addresses of folders, tried in turn, to which a file's name is appended; none where nothing can be fetched."""

    def sources(self, file: File) -> tuple[str, ...]:
        return tuple(url + file.path.rsplit("/", 1)[-1] for url in self.urls)


@dataclass(frozen=True)
class Entry:
    """One data set as registered."""

    name: str
    title: str
    source: str
    licence: str
    publish: bool
    citation: str
    splits: Mapping[str, Mapping[str, ArraySpec]]
    packings: tuple[Packing, ...]
    content: Mapping[str, str] = field(default_factory=dict)
    """Variant to content hash; a variant that is not here has none on record."""
    classes: tuple[str, ...] = ()
    note: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Variant to what distinguishes it, where there is more than one."""
    generator: str = ""
    """Function that makes it, where it has no files."""

    @property
    def decoded_bytes(self) -> int:
        """Size in memory, from the registered types and shapes."""
        return sum(_itemsize(a.dtype) * math.prod(a.shape) for named in self.splits.values() for a in named.values())

    @property
    def bytes(self) -> int:
        """Size of the smallest packing on disk; 0 where there are no files."""
        return min((sum(file.bytes for file in packing.files) for packing in self.packings), default=0)


def _itemsize(dtype: str) -> int:
    if dtype.startswith("<U"):
        return 4 * int(dtype[2:])
    bits = re.search(r"\d+$", dtype)
    return int(bits[0]) // 8 if bits else 1  # bool


class Registry(Mapping[str, Entry]):
    """The data sets of a registry file, read when first asked for.

    >>> Registry()["mnist"].title
    'MNIST handwritten digits'
    """

    def __init__(self, path: str | os.PathLike[str] = REGISTRY_FILE) -> None:
        self.path = Path(path)

    @cached_property
    def _tables(self) -> dict[str, dict[str, Any]]:
        return tomllib.loads(self.path.read_text(encoding="utf-8"))

    def __getitem__(self, name: str) -> Entry:
        try:
            table = self._tables[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._tables, n=3, cutoff=0.5)
            near += [known for known in self._tables if name and name in known and known not in near][:3]
            hint = f"; did you mean {' or '.join(near)}?" if near else "; `claimwise data list` shows all names"
            raise UnknownDatasetError(f"unknown data set {name!r}{hint}") from None
        return _entry(name, table)

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def is_registered(path: Path, digest: str) -> bool:
    """Whether the file is, byte for byte, the one with this digest ("algorithm:hex").

    Raises:
        DataError: it cannot be read.
    """
    algorithm, expected = digest.split(":")
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest() == expected
    except OSError as failed:
        raise DataError(f"cannot read {path}: {failed.strerror or failed}") from failed


def _entry(name: str, table: dict[str, Any]) -> Entry:
    return Entry(
        name=name,
        title=table["title"],
        source=table["source"],
        licence=table["licence"],
        publish=table["publish"],
        citation=table["citation"],
        splits={
            split: {array: ArraySpec.parse(f"{name}/{split}/{array}", text) for array, text in named.items()}
            for split, named in table["splits"].items()
        },
        packings=tuple(_packing(packing) for packing in table.get("packings", ())),
        content=table.get("content", {}),
        classes=tuple(table.get("classes", ())),
        note=table.get("note", ""),
        variants=table.get("variants", {}),
        generator=table.get("generator", ""),
    )


def _packing(table: dict[str, Any]) -> Packing:
    files = tuple(File(f["path"], f["bytes"], f["digest"], f.get("gives", "")) for f in table["files"])
    return Packing(table["variant"], table["format"], files, tuple(table.get("urls", ())))
