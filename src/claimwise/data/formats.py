"""Readers of the formats in which data sets come. None of them ever runs code from a file.

Each reader takes the registered entry, the packing and the files' paths, and returns arrays by split and name; types
and shapes are checked against the registry afterwards, in one place.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from claimwise.data.registry import ArraySpec, DataError, Entry, File, Packing

Arrays = dict[str, dict[str, np.ndarray]]


def decode(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """Arrays of `entry` from the files of `packing`, in the registered types and shapes.

    Args:
        paths: the place of each file of the packing, by its registered path.

    Raises:
        ValueError: the files hold something else than what is registered. Readers raise further exceptions on
            broken files (``BadZipFile``, ``EOFError``, ...); the caller takes any of them for a broken file.
    """
    found = READERS[packing.format](entry, packing, paths)
    arrays: Arrays = {}
    for split, named in entry.splits.items():
        arrays[split] = {}
        for name, spec in named.items():
            array = found[split][name]
            if array.shape != spec.shape:
                raise ValueError(f"{split}/{name} has shape {list(array.shape)}, registered is {list(spec.shape)}")
            arrays[split][name] = np.ascontiguousarray(array.astype(spec.dtype, casting="safe", copy=False))
    return arrays


def _npz(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """Arrays by key; the files of one split are joined along the first axis."""

    def read(file: File) -> Arrays:
        with np.load(paths[file.path], allow_pickle=False) as archive:
            return {
                split: {name: _uncode(archive[spec.key], spec) for name, spec in named.items()}
                for split, named in entry.splits.items()
                if file.gives in ("", split)
            }

    with ThreadPoolExecutor() as pool:  # decompression leaves the interpreter's lock to others
        parts = list(pool.map(read, packing.files))
    arrays: Arrays = {split: {} for split in entry.splits}
    for split, named in entry.splits.items():
        for name in named:
            pieces = [part[split][name] for part in parts if split in part]
            arrays[split][name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return arrays


def _uncode(array: np.ndarray, spec: ArraySpec) -> np.ndarray:
    if spec.coding == "residual":
        return residual_to_rgb(array)
    if spec.coding == "bits":  # rows of bits, padded to whole bytes
        count = spec.shape[-1] if array.ndim == len(spec.shape) else math.prod(spec.shape[array.ndim - 1 :])
        return np.unpackbits(array, axis=-1, count=count).reshape(spec.shape)
    return array


def residual_to_rgb(residual: np.ndarray) -> np.ndarray:
    """Colour images from the residual of their planes G, R-G, B-G after subtracting left + up - upper-left, mod 256.

    Shape:
        (3, n, height, width) uint8 to (n, height, width, 3) uint8.
    """
    if residual.dtype != np.uint8:
        raise ValueError(f"residual-coded images must be uint8, got {residual.dtype}")
    planes = np.cumsum(np.cumsum(residual, 2, dtype=np.uint8), 3, dtype=np.uint8)
    rgb = np.empty((*planes.shape[1:], 3), np.uint8)
    rgb[..., 0] = planes[1] + planes[0]
    rgb[..., 1] = planes[0]
    rgb[..., 2] = planes[2] + planes[0]
    return rgb


def _idx(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """The IDX format of MNIST, gzipped, one array a file: two zero bytes, type 8 (unsigned byte), rank, sizes, data."""
    arrays: Arrays = {split: {} for split in entry.splits}
    for file in packing.files:
        split, name = file.gives.split("/")
        data = gzip.decompress(paths[file.path].read_bytes())
        if len(data) < 4 or data[:3] != b"\0\0\x08":
            raise ValueError(f"{file.path} is not an idx file of unsigned bytes: it begins with {data[:4]!r}")
        shape = struct.unpack_from(f">{data[3]}I", data, 4)
        array = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
        if array.size != math.prod(shape):
            raise ValueError(f"{file.path} announces {list(shape)} but holds {array.size} bytes")
        arrays[split][name] = array.reshape(shape)
    return arrays


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers (lists, dicts, text, bytes, numbers) and refuses all else.

    CIFAR's authors ship pickles. A pickle may name any function to be called; this one resolves only the three names
    an array needs.
    """

    _ALLOWED: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # numpy's own array constructor, under its name before and since numpy 2.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"refused: the pickle asks for {module}.{name}; only arrays are read"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refused: the pickle refers to objects outside itself; only arrays are read")


def _cifar_tar(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """The Python version of CIFAR-10: a tar.gz of pickled batches, each with rows of 3072 bytes (R, G, B planes)."""
    (file,) = packing.files
    batches = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    with tarfile.open(paths[file.path], "r:gz") as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None or not any(name in names for names in batches.values()):
                continue
            batch = ArrayUnpickler(stream, encoding="bytes").load()
            data = batch[b"data"]
            if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
                raise ValueError(f"{name} in {file.path} does not hold rows of 3072 bytes")
            images[name] = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (n, height, width, colour)
            labels[name] = np.array(batch[b"labels"], np.uint8)
    return {
        split: {"x": np.concatenate([images[n] for n in names]), "y": np.concatenate([labels[n] for n in names])}
        for split, names in batches.items()
    }


def _csv(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """Gzipped comma-separated tables with a header: one array per column, one file per split."""
    arrays: Arrays = {}
    for file in packing.files:
        with gzip.open(paths[file.path], "rt", encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        named = entry.splits[file.gives]
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        arrays[file.gives] = {name: _column(columns[spec.key], spec.dtype) for name, spec in named.items()}
    return arrays


def _tsv(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """Tab-separated lines without header, gzipped or not: columns by number, one file per split."""
    arrays: Arrays = {}
    for file in packing.files:
        rows = _tab_separated(paths[file.path])
        named = entry.splits[file.gives]
        arrays[file.gives] = {
            name: _column([row[int(spec.key)] for row in rows], spec.dtype) for name, spec in named.items()
        }
    return arrays


def _tsv_by_split(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """Tab-separated lines whose first column names the split."""
    (file,) = packing.files
    rows: dict[str, list[list[str]]] = {}
    for row in _tab_separated(paths[file.path]):
        rows.setdefault("validation" if row[0] == "dev" else row[0], []).append(row)
    if rows.keys() != entry.splits.keys():
        raise ValueError(f"{file.path} holds the splits {sorted(rows)}, registered are {sorted(entry.splits)}")
    return {
        split: {name: _column([row[int(spec.key)] for row in rows[split]], spec.dtype) for name, spec in named.items()}
        for split, named in entry.splits.items()
    }


def _tab_separated(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return [line.split("\t") for line in data.decode("utf-8").removesuffix("\n").split("\n")]


def _column(values: Any, dtype: str) -> np.ndarray:
    """A column of text in its registered type; an empty or "NA" cell is nan where numbers are floats, else an error."""
    if dtype == "float64":
        return np.array([math.nan if value in ("", "NA") else float(value) for value in values])
    if dtype == "int64":
        return np.array([int(value) for value in values], np.int64)
    return np.array(values, np.str_)


def _jpeg_zip(entry: Entry, packing: Packing, paths: Mapping[str, Path]) -> Arrays:
    """A zip of JPEG images of one size, named by class number: 010_n01530575.jpg."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(f"{entry.name} holds JPEG images and needs Pillow: pip install pillow") from None

    (file,) = packing.files
    images, labels = [], []
    with zipfile.ZipFile(paths[file.path]) as archive:
        for name in sorted(archive.namelist()):
            with Image.open(io.BytesIO(archive.read(name)), formats=["JPEG"]) as image:
                images.append(np.asarray(image.convert("RGB")))
            labels.append(int(name.split("_")[0]))
    return {"all": {"x": np.stack(images), "y": np.array(labels, np.int64)}}


READERS: dict[str, Callable[[Entry, Packing, Mapping[str, Path]], Arrays]] = {
    "npz": _npz,
    "idx": _idx,
    "cifar_tar": _cifar_tar,
    "csv": _csv,
    "tsv": _tsv,
    "tsv_by_split": _tsv_by_split,
    "jpeg_zip": _jpeg_zip,
}
