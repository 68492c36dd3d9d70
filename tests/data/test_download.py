"""Downloads from a real server on 127.0.0.1 that cuts, lies, stalls and vanishes."""

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from claimwise.data.download import download
from claimwise.data.registry import DataError, MissingDataError

BODY = np.random.default_rng(0).bytes(200_000)
DIGEST = "md5:" + hashlib.md5(BODY).hexdigest()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_fetches_a_file_and_reports_progress(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    told = []
    target = tmp_path / "deep" / "file"
    assert download([upstream.url + "a/file"], target, DIGEST, progress=lambda *at: told.append(at)) == target
    assert target.read_bytes() == BODY
    assert told[0] == ("file", 0, len(BODY))
    assert told[-1] == ("file", len(BODY), len(BODY))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert leftovers(target.parent) == ["file"]


def test_a_whole_file_is_not_fetched_again_and_a_damaged_one_is_replaced(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    target = tmp_path / "file"
    target.write_bytes(BODY)
    download([upstream.url + "a/file"], target, DIGEST)
    assert upstream.requests == []
    target.write_bytes(BODY[:-1] + b"?")
    download([upstream.url + "a/file"], target, DIGEST)
    assert target.read_bytes() == BODY


def test_resumes_after_cuts_where_the_cut_was(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    upstream.cuts = [70_000, 80_000]
    target = download([upstream.url + "a/file"], tmp_path / "file", DIGEST)
    assert target.read_bytes() == BODY
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0 for _, asked in upstream.requests]
    assert len(starts) == 3
    # What was read whole in chunks of 32 KiB before each cut is not asked for again.
    assert starts[0] == 0
    assert 70_000 - 32_768 < starts[1] <= 70_000
    assert starts[1] + 80_000 - 32_768 < starts[2] <= starts[1] + 80_000


def test_resumes_in_a_later_process(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    (tmp_path / "file.part").write_bytes(BODY[:150_000])
    download([upstream.url + "a/file"], tmp_path / "file", DIGEST)
    assert upstream.requests == [("a/file", "bytes=150000-")]
    assert leftovers(tmp_path) == ["file"]


def test_a_server_that_only_cuts_is_left_and_the_partial_file_kept(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    upstream.cuts = [100_000, 0]
    with pytest.raises(MissingDataError, match="CutError"):
        download([upstream.url + "a/file"], tmp_path / "file", DIGEST)
    kept = (tmp_path / "file.part").read_bytes()
    assert len(kept) > 60_000
    assert kept == BODY[: len(kept)]
    assert not (tmp_path / "file").exists()


def test_a_server_that_ignores_range_starts_over(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    upstream.ranges = False
    (tmp_path / "file.part").write_bytes(BODY[:150_000])
    target = download([upstream.url + "a/file"], tmp_path / "file", DIGEST)
    assert target.read_bytes() == BODY
    assert upstream.requests == [("a/file", "bytes=150000-")]


def test_a_complete_partial_file_is_taken(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    (tmp_path / "file.part").write_bytes(BODY)
    assert download([upstream.url + "a/file"], tmp_path / "file", DIGEST).read_bytes() == BODY


@pytest.mark.parametrize("length", [150_000, 200_000, 250_000])
def test_a_partial_file_of_other_data_is_thrown_away(upstream, tmp_path, length):
    upstream.files["a/file"] = BODY
    (tmp_path / "file.part").write_bytes(b"?" * length)
    assert download([upstream.url + "a/file"], tmp_path / "file", DIGEST).read_bytes() == BODY


def test_wrong_hash_goes_on_to_the_mirror(upstream, tmp_path):
    upstream.files = {"a/file": b"<html>moved</html>", "b/file": BODY}
    target = download([upstream.url + "a/file", upstream.url + "b/file"], tmp_path / "file", DIGEST)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("body", [BODY[:-1] + b"?", BODY[:150_000], b""], ids=["wrong", "truncated", "empty"])
def test_a_wrong_or_truncated_file_never_lands(upstream, tmp_path, body):
    upstream.files["a/file"] = body
    with pytest.raises(MissingDataError, match="gave another file"):
        download([upstream.url + "a/file"], tmp_path / "file", DIGEST)
    assert leftovers(tmp_path) == []


def test_404_then_mirror(upstream, tmp_path):
    upstream.files["b/file"] = BODY
    download([upstream.url + "a/file", upstream.url + "b/file"], tmp_path / "file", DIGEST)
    assert [path for path, _ in upstream.requests] == ["a/file", "b/file"]


def test_the_error_tells_of_every_address(upstream, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(MissingDataError) as error:
            download([upstream.url + "a/file", refused], tmp_path / "file", DIGEST)
    assert f"{upstream.url}a/file: HTTP 404" in str(error.value)
    assert f"{refused}: ConnectionError" in str(error.value)


def test_a_slow_server_is_waited_for_and_its_progress_told(upstream, tmp_path):
    body = BODY[:100_000]
    upstream.files["a/file"] = body
    upstream.pause = 0.003
    told = []
    digest = "md5:" + hashlib.md5(body).hexdigest()
    # Slower in all than the wait for the next bytes: only a standstill times out.
    download(
        [upstream.url + "a/file"], tmp_path / "file", digest, progress=lambda *at: told.append(at), timeout=(5, 0.2)
    )
    assert len({done for _, done, _ in told}) >= 4


def test_a_stalled_server_is_given_up(upstream, tmp_path):
    upstream.files = {"a/file": BODY}
    upstream.pause = 0.5
    with pytest.raises(MissingDataError, match="CutError"):
        download([upstream.url + "a/file"], tmp_path / "file", DIGEST, timeout=(5, 0.1))


def test_compressed_files_are_kept_as_they_are(upstream, tmp_path):
    import gzip

    body = gzip.compress(b"text " * 1000)
    upstream.files["a/file.gz"] = body
    upstream.headers = {"Content-Encoding": "gzip"}
    target = download([upstream.url + "a/file.gz"], tmp_path / "file.gz", "md5:" + hashlib.md5(body).hexdigest())
    assert target.read_bytes() == body


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Makes `folder` read-only for whoever runs the tests; root, whom modes do not stop, becomes nobody meanwhile."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that others may enter (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX modes")
def test_read_only_cache(upstream, open_folder):
    upstream.files["a/file"] = BODY
    whole = open_folder / "whole"
    whole.write_bytes(BODY)
    with read_only(open_folder):
        with pytest.raises(OSError, match="Permission denied"):
            (open_folder / "probe").touch()  # it is read-only indeed
        assert download([upstream.url + "a/file"], whole, DIGEST) == whole
        with pytest.raises(MissingDataError, match=r"cannot write .*CLAIMWISE_CACHE"):
            download([upstream.url + "a/file"], open_folder / "file", DIGEST)
    assert leftovers(open_folder) == ["whole"]
    assert upstream.requests == []


def test_a_file_where_the_cache_should_be(upstream, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(MissingDataError, match=r"cannot write .*CLAIMWISE_CACHE"):
        download([upstream.url + "a/file"], tmp_path / "cache" / "mnist" / "file", DIGEST)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="no space left"):
        download([upstream.url + "a/file"], tmp_path / "file", DIGEST)
    assert not (tmp_path / "file").exists()


def test_two_processes_fetch_once(upstream, tmp_path):
    upstream.files["a/file"] = BODY
    upstream.pause = 0.002
    code = f"""
from pathlib import Path
from claimwise.data.download import download
download([{upstream.url + "a/file"!r}], Path({str(tmp_path / "file")!r}), {DIGEST!r})
"""
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(upstream.requests) == 1
