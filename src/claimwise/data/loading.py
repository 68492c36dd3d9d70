"""The one door to all data: list, load, fetch and verify registered data sets.

A data set is looked for in the data folder (``data_dir`` or ``CLAIMWISE_DATA``), then in the user cache
(``CLAIMWISE_CACHE``, else the platform's), and is otherwise fetched from upstream into the cache.

Nothing is used unverified. A file whose SHA-256 (or upstream's MD5) is on record is checked against it at every load;
a file that was packed otherwise is decoded and its content hash compared instead, so any packing of the same data
will do. Hashing costs a few percent of decoding, so there is no record of "verified before" that could be wrong.
Decoded arrays that took long to make are kept in the cache, and their content is hashed at every load too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claimwise.data.dataset import Dataset, hash_content
from claimwise.data.download import Progress, download
from claimwise.data.registry import (
    CorruptDataError,
    DataError,
    Entry,
    MissingDataError,
    Packing,
    Registry,
    is_registered,
)

if TYPE_CHECKING:
    from claimwise.data.formats import Arrays

REGISTRY = Registry()
"""The data sets that come with Claimwise."""

WORTH_KEEPING = 0.5
"""Decoded arrays are kept in the cache when decoding took more than this many seconds of CPU time ..."""
READING_BACK = 150e6
"""... and more than reading them back at this many bytes a second, which any disk manages."""


@dataclass(frozen=True)
class Listed:
    """One line of `claimwise data list`."""

    name: str
    title: str
    bytes: int
    """On disk, in its smallest packing; in memory for what is generated."""
    licence: str
    source: str
    publish: bool
    place: str
    """"embedded", "generated", "data folder", "cached", "to fetch" (upstream has it) or "missing"."""


@dataclass(frozen=True)
class Verified:
    """One line of `claimwise data verify`."""

    name: str
    status: str
    """"ok", "corrupt" or "missing"."""
    detail: str
    """What was found, and what to do where it is not ok."""
    content_hash: str = ""
    variant: str = ""


def cache_folder() -> Path:
    """The user cache: ``CLAIMWISE_CACHE``, else where the platform keeps caches."""
    if named := os.environ.get("CLAIMWISE_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "claimwise"


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder that is looked at first: `data_dir`, else ``CLAIMWISE_DATA``, else none.

    Raises:
        MissingDataError: a folder is named and is not there.
    """
    named = data_dir if data_dir is not None else os.environ.get("CLAIMWISE_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        said = "data_dir" if data_dir is not None else "CLAIMWISE_DATA"
        raise MissingDataError(f"{said} names {os.fspath(named)!r}, which is not a folder; correct it or unset it")
    return folder


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: Progress | None = None,
    registry: Registry = REGISTRY,
) -> Dataset:
    """A registered data set, verified and decoded.

    Args:
        name: as `claimwise data list` shows it.
        data_dir: folder that is looked at first; ``CLAIMWISE_DATA`` where not given.
        download: fetch the data set into the cache where it is not at hand.
        progress: told of a download's progress.
        registry: another registry than Claimwise's own.

    Raises:
        UnknownDatasetError: no such name; the message gives the nearest ones.
        MissingDataError: neither at hand nor to be fetched; the message says where to put which file.
        CorruptDataError: a file in the data folder does not hold what is registered.

    >>> load("digits")["train"]["x"].shape
    (1437, 8, 8)
    """
    entry = registry[name]
    if entry.generator:
        return _dataset(entry, "original", _generate(entry))
    folder, cache = data_folder(data_dir), cache_folder()
    if folder is not None and (packing := _at_hand(entry, folder)):
        return _read(entry, packing, folder)
    if packing := _at_hand(entry, cache):
        try:
            return _read(entry, packing, cache)
        except CorruptDataError:
            if not (download and packing.urls):
                raise
            fetch(name, progress=progress, registry=registry)  # replaces what is corrupt
            return _read(entry, packing, cache)
    if download and any(packing.urls for packing in entry.packings):
        fetch(name, progress=progress, registry=registry)
        packing = _at_hand(entry, cache)
        if packing is not None:
            return _read(entry, packing, cache)
    raise MissingDataError(_where_to_put(entry, folder, cache))


def fetch(name: str, *, progress: Progress | None = None, registry: Registry = REGISTRY) -> tuple[Path, ...]:
    """Download a data set from upstream into the cache; files that are there and whole stay.

    Returns:
        The files.

    Raises:
        MissingDataError: upstream offers no download, or none of its addresses gave the right file.
    """
    entry = registry[name]
    cache = cache_folder()
    packing = next((packing for packing in entry.packings if packing.urls), None)
    if entry.generator:
        return ()
    if packing is None:
        raise MissingDataError(_where_to_put(entry, None, cache))
    try:
        return tuple(
            download(packing.sources(file), cache / file.path, file.digest, progress=progress) for file in packing.files
        )
    except MissingDataError as failed:
        raise MissingDataError(f"{name}: {failed}\n{_where_to_put(entry, None, cache)}") from failed


def list_datasets(*, data_dir: str | os.PathLike[str] | None = None, registry: Registry = REGISTRY) -> list[Listed]:
    """Every registered data set, with where it is now; looks at names of files only, reads none."""
    folder, cache = data_folder(data_dir), cache_folder()
    return [_listed(entry, folder, cache) for entry in registry.values()]


def dataset_info(name: str, *, registry: Registry = REGISTRY) -> Entry:
    """What is registered about a data set: title, terms, citation, splits, packings, known content."""
    return registry[name]


def verify(
    name: str | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    registry: Registry = REGISTRY,
) -> list[Verified]:
    """Read data sets wholly and compare them with the registry; downloads nothing and never raises for broken data.

    Args:
        name: one data set; all where not given.
    """
    data_folder(data_dir)  # a misnamed folder is an error, not data sets that are missing
    return [_verified(entry, data_dir, registry) for entry in ([registry[name]] if name else registry.values())]


def _listed(entry: Entry, folder: Path | None, cache: Path) -> Listed:
    if entry.generator:
        place = "embedded" if entry.source == "embedded" else "generated"
    elif folder is not None and _at_hand(entry, folder):
        place = "data folder"
    elif _at_hand(entry, cache):
        place = "cached"
    else:
        place = "to fetch" if any(packing.urls for packing in entry.packings) else "missing"
    size = entry.bytes or entry.decoded_bytes
    return Listed(entry.name, entry.title, size, entry.licence, entry.source, entry.publish, place)


def _verified(entry: Entry, data_dir: str | os.PathLike[str] | None, registry: Registry) -> Verified:
    try:
        dataset = load(entry.name, data_dir=data_dir, download=False, registry=registry)
    except MissingDataError as missing:
        return Verified(entry.name, "missing", str(missing))
    except CorruptDataError as corrupt:
        return Verified(entry.name, "corrupt", str(corrupt))
    known = "content as registered" if dataset.content_hash in entry.content.values() else "files as registered"
    detail = "generated anew" if entry.generator and not entry.content else known
    return Verified(entry.name, "ok", detail, dataset.content_hash, dataset.variant)


def _at_hand(entry: Entry, folder: Path) -> Packing | None:
    """The first packing whose files are all in `folder`."""
    for packing in entry.packings:
        if all((folder / file.path).is_file() for file in packing.files):
            return packing
    return None


def _where_to_put(entry: Entry, folder: Path | None, cache: Path) -> str:
    place = folder or cache
    ways = []
    for packing in entry.packings:
        files = ", ".join(str(place / file.path) for file in packing.files)
        origin = f" (from {packing.urls[0]})" if packing.urls else ""
        ways.append(f"{files}{origin}")
    looked = f"{folder} and {cache}" if folder else f"{cache} (CLAIMWISE_DATA is not set)"
    return (
        f"{entry.name} ({entry.title}) is not at hand: looked in {looked}. Put it there as "
        + "; or as ".join(ways)
        + f". Its home: {entry.source}"
    )


def _generate(entry: Entry) -> Arrays:
    if entry.generator == "digits":
        from claimwise.data.digits import digits

        return digits()
    from claimwise.data import generators

    made: Dataset = getattr(generators, entry.generator)()
    return {split: dict(named) for split, named in made.items()}


def _dataset(
    entry: Entry, variant: str, arrays: Arrays, content: str | None = None, files: tuple[Path, ...] = ()
) -> Dataset:
    content = content or hash_content(arrays)
    if entry.generator and content != entry.content.get(variant, content):
        raise CorruptDataError(f"{entry.name}: content hash {content} instead of {entry.content[variant]}")
    return Dataset(
        entry.name,
        arrays,
        variant=variant,
        content_hash=content,
        source=entry.source,
        licence=entry.licence,
        publish=entry.publish,
        citation=entry.citation,
        classes=entry.classes,
        note=" ".join(part for part in (entry.note, entry.variants.get(variant, "")) if part),
        files=files,
    )


def _read(entry: Entry, packing: Packing, folder: Path) -> Dataset:
    """The data set from the files of one packing, refused unless the files or the content are as registered."""
    paths = {file.path: folder / file.path for file in packing.files}
    files = tuple(paths.values())
    strange = next((file for file in packing.files if not is_registered(paths[file.path], file.digest)), None)
    expected = entry.content.get(packing.variant)
    if strange is None and (kept := _kept(entry, packing)):
        arrays, content = kept
        return _dataset(entry, packing.variant, arrays, content, files)
    if strange is not None and expected is None:  # nothing is on record that it could be compared with
        raise CorruptDataError(
            _corrupt(entry, packing, paths[strange.path], f"it is not the file with {strange.digest}")
        )
    from claimwise.data.formats import decode

    began = time.process_time()
    try:
        arrays = decode(entry, packing, paths)
    except (DataError, MemoryError):
        raise
    except Exception as broken:  # readers of a broken file raise what they like; all of it means the same
        path = paths[strange.path] if strange else files[0]
        raise CorruptDataError(_corrupt(entry, packing, path, f"{type(broken).__name__}: {broken}")) from broken
    seconds = time.process_time() - began
    content = hash_content(arrays)
    variant = packing.variant
    if content != (expected or content):
        # A re-packing of another known variant is that variant.
        variant = next((known for known, value in entry.content.items() if value == content), "")
        if not variant:
            path = paths[strange.path] if strange else files[0]
            raise CorruptDataError(_corrupt(entry, packing, path, f"content hash {content}, registered {expected}"))
    elif strange is None and seconds > max(WORTH_KEEPING, entry.decoded_bytes / READING_BACK):
        _keep(entry, packing, arrays, content)
    return _dataset(entry, variant, arrays, content, files)


def _corrupt(entry: Entry, packing: Packing, path: Path, found: str) -> str:
    again = f" or fetch it again from {packing.urls[0]}" if packing.urls else ""
    return (
        f"{entry.name}: {path} is not what is registered ({found}); it was not used. "
        f"Replace it by a whole copy{again}, or remove it"
    )


# Decoded arrays, kept in the cache in numpy's own format: CIFAR-10 takes seconds to decode and a tenth to read.


def _keeping_place(entry: Entry, packing: Packing) -> Path:
    """Named by all that determines the arrays, so that another registry or version never finds them."""
    key = repr((packing, sorted((s, sorted(named.items())) for s, named in entry.splits.items())))
    return cache_folder() / "decoded" / f"{entry.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _kept(entry: Entry, packing: Packing) -> tuple[Arrays, str] | None:
    """Decoded arrays from the cache with their content hash, or None where there are none or they are damaged."""
    import numpy as np

    place = _keeping_place(entry, packing)
    try:
        recorded = (place / "content").read_text()
        arrays = {
            split: {name: np.load(place / f"{split}.{name}.npy", allow_pickle=False) for name in named}
            for split, named in entry.splits.items()
        }
    except (OSError, ValueError, EOFError):
        return None
    if hash_content(arrays) == recorded == entry.content.get(packing.variant, recorded):
        return arrays, recorded
    return None


def _keep(entry: Entry, packing: Packing, arrays: Arrays, content: str) -> None:
    """Keep decoded arrays; a cache that is read-only or full costs time at the next load and nothing else."""
    import numpy as np

    place = _keeping_place(entry, packing)
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        writing = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            for split, named in arrays.items():
                for name, array in named.items():
                    np.save(writing / f"{split}.{name}.npy", array, allow_pickle=False)
            (writing / "content").write_text(content)
            if place.exists():  # damaged, or it would have been read
                shutil.rmtree(place)
            writing.rename(place)  # fails where another process was first, which is as good
        finally:
            shutil.rmtree(writing, ignore_errors=True)
