"""Files that are whole at any moment: atomic writes, strict JSON, append-only logs, locks between processes."""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

TEMPORARY = ".writing-"
"""Prefix of a file that is being written. What a killed process leaves under this prefix is rubbish."""

_CANCEL = b"\x18"
"""Closes a line that a killed process left unfinished; JSON never holds this byte unescaped."""


class CorruptFile(ValueError):
    """A file that is not what this program wrote: truncated, damaged, or somebody else's."""


class DiskFull(OSError):
    """No room for a file: the disk is full, a quota is used up, or a file-size limit is reached."""

    def __init__(self, path: str | Path, needed: int, free: int, code: int = errno.ENOSPC) -> None:
        super().__init__(
            code,
            f"{os.strerror(code)}: needs {_size(needed)}, {_size(free)} free on this disk; the earlier state is kept. "
            "Make room and start again",
            str(path),
        )
        self.needed, self.free = needed, free

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own pickling forgets `needed` and `free`; errors travel back from worker processes.
        return DiskFull, (self.filename, self.needed, self.free, self.errno)


def write_atomic(path: str | Path, content: bytes | str | Iterable[bytes | memoryview]) -> None:
    """Write a file so that at any moment, also after kill -9 or a power cut, it is wholly old or wholly new.

    Args:
        path: replaced when it exists; missing folders are made.
        content: bytes, text (stored as UTF-8), or an iterable of chunks of bytes, which are not gathered in memory.

    Raises:
        DiskFull: there is no room; the earlier file is untouched and the temporary one removed.
    """
    path = Path(path)
    if isinstance(content, str):
        content = content.encode()
    chunks = iter((content,) if isinstance(content, bytes) else content)
    # In the same folder, since os.replace is atomic only within one file system.
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}")
    needed = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            for chunk in chunks:
                needed += len(chunk)
                rest = memoryview(chunk)
                while len(rest):
                    rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        free = _free_bytes(path.parent)  # before the temporary file gives its bytes back
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise DiskFull(path, needed + sum(map(len, chunks)), free, error.errno or errno.ENOSPC) from error
        raise
    _sync_folder(path.parent)


def remove_leftovers(folder: str | Path) -> None:
    """Delete what killed processes were writing in this folder and those in it. Hold the folder's lock meanwhile."""
    for leftover in Path(folder).rglob(f"{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write strict JSON atomically. Floats are exact; nan and ±inf become `{"$float": "nan"}`; tuples become lists.

    Raises:
        TypeError: something that JSON does not have, named by its place (`value['a'][3]`).
        DiskFull: there is no room; the earlier file is untouched.
    """
    write_atomic(path, json.dumps(_to_json(value, "value"), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        CorruptFile: not strict JSON.
    """
    return _parse(Path(path).read_bytes(), str(path))


def append_line(path: str | Path, value: Any) -> None:
    """Append one JSON line in one write, so that lines of several processes never mix.

    A kill loses at most this line, a power cut at most the last few: the log is not synced to the disk at each line.

    Raises:
        TypeError: something that JSON does not have.
        DiskFull: there is no room; earlier lines are whole, and readers ignore the unfinished one.
    """
    line = _line(value)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
    try:
        if os.lseek(descriptor, 0, os.SEEK_END):
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                line = _CANCEL + b"\n" + line
        rest = memoryview(line)
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(path, len(line), _free_bytes(Path(path).parent), error.errno or errno.ENOSPC) from error
        raise
    finally:
        os.close(descriptor)


def write_lines(path: str | Path, values: Iterable[Any]) -> None:
    """Replace a log atomically, e.g. by fewer of its lines.

    Raises:
        TypeError: something that JSON does not have.
        DiskFull: there is no room; the earlier log is untouched.
    """
    write_atomic(path, b"".join(map(_line, values)))


def read_lines(path: str | Path) -> list[Any]:
    """Read a log of `append_line`, without the lines that a kill left unfinished. A missing file is an empty log.

    Raises:
        CorruptFile: a finished line that is not JSON.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    *lines, _unfinished = content.split(b"\n")
    return [
        _parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if not line.endswith(_CANCEL)
    ]


@contextlib.contextmanager
def locked(path: str | Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock between processes. The kernel releases it when its holder dies, however it dies.

    Args:
        path: the lock file; created when missing, left in place afterwards.
        waiting: called once if another process holds the lock, before waiting for it without limit.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if waiting is not None:
            waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def available_cores() -> int:
    """How many cores this process may use: its CPU affinity, and its container's CPU quota if there is one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2 here, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _to_json(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise TypeError(f"{place}: cannot store a string that is not valid Unicode: {value!r}") from error
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, list | tuple):
        return [_to_json(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place}: JSON keys are strings, got {key!r}; use str(key)")
            if key == "$float":
                raise TypeError(f'{place}: the key "$float" is taken for nan and infinity; choose another')
        return {key: _to_json(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise TypeError(f"{place}: cannot store {type(value).__name__} {value!r:.80} as JSON; convert it to a plain value")


def _line(value: Any) -> bytes:
    text = json.dumps(_to_json(value, "value"), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _from_json(entries: dict[str, Any]) -> Any:
    return float(entries["$float"]) if entries.keys() == {"$float"} else entries


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _parse(content: bytes, origin: str) -> Any:
    try:
        return json.loads(content.decode(), object_hook=_from_json, parse_constant=_refuse_constant)
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFile(f"{origin}: not JSON of this program: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the platform lets one."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not sync folders
            raise
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    existing = next(part for part in (folder, *folder.absolute().parents) if part.is_dir())
    return shutil.disk_usage(existing).free


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.4g} {unit}"
        n /= 1000
    return f"{n:.4g} GB"
