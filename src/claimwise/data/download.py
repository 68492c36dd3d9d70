"""Downloads that survive cuts, dead mirrors, liars and company.

pooch checks the hash and puts the finished file in place atomically. Its own HTTP downloader starts over after a cut,
so it is given one here that continues a partial file (``NAME.part``, kept between processes) by HTTP Range.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from claimwise.data.registry import DataError, MissingDataError, is_registered

CHUNK = 1 << 15
"""Bytes between two reports of progress; at most so much is fetched twice after a cut."""
MOST_CUTS = 50
"""An address that was cut so often is given up, even if each attempt brought some bytes."""
TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes on it."""

Progress = Callable[[str, int, "int | None"], None]
"""Called with the file's name, the bytes at hand and the bytes in all (None where the server does not say)."""


class CutError(Exception):
    """A transfer ended early; what came is kept."""


def download(
    urls: Sequence[str],
    target: Path,
    digest: str,
    *,
    progress: Progress | None = None,
    timeout: tuple[float, float] = TIMEOUT,
) -> Path:
    """Fetch one file of known hash, from the first address that gives it.

    A file already there with the right hash is left alone, a wrong one is replaced. A cut transfer is continued as
    long as each attempt brings bytes; an address that fails otherwise (refused, 404, wrong hash) is left for the
    next. Of two processes that want the file the second waits and finds it there.

    Args:
        urls: addresses, tried in turn.
        target: where the file goes; appears there whole or not at all.
        digest: "sha256:..." or "md5:...".
        progress: called with the file's name, the bytes at hand and the bytes in all (None if unknown).
        timeout: seconds to wait for a connection, and for the next bytes on it.

    Raises:
        MissingDataError: no address gave the file (the message tells of each), or the folder cannot be written.
        DataError: the disk is full.
    """
    if target.is_file() and is_registered(target, digest):  # nothing to write: the cache may be read-only
        return target
    import filelock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            return _first_that_works(urls, target, digest, progress, timeout)
    except OSError as failed:
        if failed.errno == errno.ENOSPC:
            raise DataError(
                f"no space left for {target}; free some, or name another cache in CLAIMWISE_CACHE"
            ) from failed
        if isinstance(failed, DataError):
            raise
        raise MissingDataError(
            f"cannot write {target} ({failed.strerror or failed}); name a folder that can be written in CLAIMWISE_CACHE"
        ) from failed


def _first_that_works(
    urls: Sequence[str], target: Path, digest: str, progress: Progress | None, timeout: tuple[float, float]
) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # progress is told by `progress`
    told = []
    for url in urls:
        # Bytes from an earlier attempt may be of another file; a wrong hash then says nothing about this address.
        attempts = 2 if _partial(target).exists() else 1
        for attempt in range(attempts):
            try:
                pooch.retrieve(
                    url, digest, fname=target.name, path=target.parent, downloader=_resuming(target, progress, timeout)
                )
                return target
            except (CutError, requests.exceptions.RequestException) as failed:
                told.append(f"{url}: {_reason(failed)}")
                break
            except ValueError:  # pooch: the hash is wrong; it has removed the file
                if attempt == attempts - 1:
                    told.append(f"{url}: gave another file than the one with {digest}")
    raise MissingDataError(f"could not download {target.name}; tried\n  " + "\n  ".join(told))


def _reason(failed: Exception) -> str:
    response = getattr(failed, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    return f"{type(failed).__name__}: {failed}"


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _resuming(target: Path, progress: Progress | None, timeout: tuple[float, float]) -> Callable[[str, str, Any], None]:
    """A downloader for pooch that continues `target`'s partial file."""
    part = _partial(target)

    def downloader(url: str, output_file: str, pooch: Any) -> None:
        for _ in range(MOST_CUTS):
            before = _size(part)
            try:
                _transfer(url, part, target.name, progress, timeout)
            except CutError:
                if _size(part) <= before:  # this attempt brought nothing: the next will not either
                    raise
            else:
                part.replace(output_file)
                return
        raise CutError(f"cut {MOST_CUTS} times; {_size(part)} bytes are kept in {part}")

    return downloader


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(url: str, part: Path, name: str, progress: Progress | None, timeout: tuple[float, float]) -> None:
    """One request: append what is missing to `part`, or write it anew where the server does not continue."""
    import requests
    from urllib3.exceptions import HTTPError

    have = _size(part)
    # Compression in transit would hand over other bytes than the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, stream=True, timeout=timeout, headers=headers) as response:
        if have and response.status_code == 416:  # nothing beyond what we have: the whole file, or never this file
            if response.headers.get("Content-Range") != f"bytes */{have}":
                part.unlink()
                _transfer(url, part, name, progress, timeout)
            return
        response.raise_for_status()
        if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with part.open("ab" if have else "wb") as file:
            if progress:
                progress(name, have, total)
            while True:
                try:
                    chunk = response.raw.read(CHUNK, decode_content=False)
                except (HTTPError, OSError) as cut:  # OSError: a timeout or reset below urllib3
                    raise CutError(f"{type(cut).__name__} after {have} bytes") from cut
                if not chunk:
                    break
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(name, have, total)
    if total is not None and have < total:
        raise CutError(f"ended after {have} of {total} bytes")
