"""Faults are real here: processes are killed, disks are full, locks are fought over."""

import contextlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.lab.storage import (
    TEMPORARY,
    CorruptFile,
    DiskFull,
    append_line,
    available_cores,
    locked,
    read_json,
    read_lines,
    remove_leftovers,
    write_atomic,
    write_json,
    write_lines,
)


def start(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_together(processes):
    """Let processes that print "ready" and then wait for their input go at the same time."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def finish(process):
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return output


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "$float"), inner),
    max_leaves=10,
)


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


@given(json_values)
@settings(max_examples=40, deadline=None)
def test_json_round_trip_is_exact(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert same(read_json(path), value)
    json.loads(path.read_text(), parse_constant=lambda constant: pytest.fail(f"{constant} is not strict JSON"))
    append_line(path.with_suffix(".jsonl"), value)
    append_line(path.with_suffix(".jsonl"), value)
    assert same(read_lines(path.with_suffix(".jsonl")), [value, value])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, {1, 2}]}, r"value\['a'\]\[1\].*set"),
        ({1: 2}, r"value: JSON keys are strings, got 1"),
        ({"x": {"$float": "nan"}}, r"value\['x'\].*taken"),
        ({"x": b"bytes"}, r"value\['x'\].*bytes"),
        (["\ud800"], r"value\[0\].*Unicode"),
    ],
)
def test_what_json_lacks_is_refused_by_its_place_and_nothing_is_written(tmp_path, value, place):
    write_json(tmp_path / "kept.json", "earlier")
    with pytest.raises(TypeError, match=place):
        write_json(tmp_path / "kept.json", value)
    with pytest.raises(TypeError, match=place):
        append_line(tmp_path / "log.jsonl", value)
    assert read_json(tmp_path / "kept.json") == "earlier"
    assert os.listdir(tmp_path) == ["kept.json"]


@pytest.mark.parametrize("content", ["", "{", '{"a": NaN}', "[1] [2]", '{"$float": [1]}', "\x00"])
def test_damaged_json_is_refused_with_its_path(tmp_path, content):
    (tmp_path / "damaged.json").write_text(content)
    with pytest.raises(CorruptFile, match=r"damaged\.json"):
        read_json(tmp_path / "damaged.json")


def test_an_atomic_write_takes_text_bytes_and_chunks(tmp_path):
    path = tmp_path / "file"
    for content, expected in [("ε", "ε".encode()), (b"\x00", b"\x00"), (iter([b"a", b"", memoryview(b"bc")]), b"abc")]:
        write_atomic(path, content)
        assert path.read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


def test_a_failure_while_content_is_made_keeps_the_earlier_file(tmp_path):
    def content():
        yield b"new"
        raise RuntimeError("no more")

    write_atomic(tmp_path / "file", "old")
    with pytest.raises(RuntimeError, match="no more"):
        write_atomic(tmp_path / "file", content())
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_whole_after_kill_9_at_any_moment(tmp_path):
    """Version n is n % 256 repeated; each read, while it is written and after the kill, sees one version whole."""
    path = tmp_path / "file"
    write_atomic(path, bytes(300_000))
    torn = lambda content: len(content) != 300_000 or len(set(content)) != 1  # noqa: E731
    for pause in (0.0, 0.003, 0.011, 0.037, 0.05):
        writer = start(
            """
            import sys
            from claimwise.lab.storage import write_atomic
            print("ready", flush=True)
            version = 0
            while True:
                version += 1
                # Many chunks, so that most kills fall inside a write.
                write_atomic(sys.argv[1], (bytes([version % 256]) * 1000 for _ in range(300)))
            """,
            path,
        )
        assert writer.stdout.readline() == "ready\n"
        end = time.monotonic() + 0.05 + pause
        while time.monotonic() < end:
            assert not torn(path.read_bytes())
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert not torn(path.read_bytes())
    assert path.read_bytes() != bytes(300_000)
    write_atomic(tmp_path / "inner" / f"{TEMPORARY}left", b"")
    remove_leftovers(tmp_path)
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["file"]


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_keeps_the_earlier_state(small_disk):
    path = small_disk / "state"
    write_atomic(path, b"earlier")
    for _ in range(2):  # a second time: the first left nothing behind
        with pytest.raises(DiskFull, match=r"state") as caught:
            write_atomic(path, iter([bytes(200_000), bytes(200_000), bytes(200_000)]))
        assert caught.value.needed == 600_000
        assert caught.value.free < 300_000
        assert "needs 600 kB" in str(caught.value)
        assert "earlier state is kept" in str(caught.value)
        assert path.read_bytes() == b"earlier"
        assert os.listdir(small_disk) == ["state"]
    write_atomic(path, bytes(100_000))
    assert path.stat().st_size == 100_000


def test_a_log_on_a_full_disk_keeps_its_lines_and_goes_on_when_there_is_room(small_disk):
    log, ballast = small_disk / "log.jsonl", small_disk / "ballast"
    append_line(log, {"step": 1})
    with contextlib.suppress(DiskFull):
        ballast.write_bytes(bytes(230_000))
    with pytest.raises(DiskFull, match=r"log\.jsonl"):
        append_line(log, "x" * 100_000)
    assert read_lines(log) == [{"step": 1}]
    ballast.unlink()
    append_line(log, {"step": 2})
    assert read_lines(log) == [{"step": 1}, {"step": 2}]


def test_a_file_size_limit_is_a_full_disk_too(tmp_path):
    write_atomic(tmp_path / "file", b"earlier")
    output = finish(
        start(
            """
            import resource, sys
            from claimwise.lab.storage import DiskFull, write_atomic
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            try:
                write_atomic(sys.argv[1], bytes(80_000))
            except DiskFull as error:
                print(error.needed, error)
            """,
            tmp_path / "file",
        )
    )
    assert output.startswith("80000 ")
    assert "earlier state is kept" in output
    assert (tmp_path / "file").read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["file"]


def test_disk_full_travels_between_processes():
    error = DiskFull("folder/file", 3_000_000, 10)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.needed, copy.free, copy.filename) == (str(error), 3_000_000, 10, "folder/file")
    assert "needs 3 MB, 10 B free" in str(copy)


def test_other_errors_of_the_file_system_stay_what_they_are(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "folder", b"")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        write_atomic(tmp_path / "file" / "below", b"")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_missing_folders_are_made(tmp_path):
    write_json(tmp_path / "a" / "b" / "file.json", 1)
    append_line(tmp_path / "c" / "d" / "log.jsonl", 1)
    assert read_json(tmp_path / "a" / "b" / "file.json") == 1
    assert read_lines(tmp_path / "c" / "d" / "log.jsonl") == [1]


def test_a_log_is_replaced_by_some_of_its_lines(tmp_path):
    log = tmp_path / "log.jsonl"
    for step in range(4):
        append_line(log, {"step": step, "loss": math.nan})
    write_lines(log, [line for line in read_lines(log) if line["step"] < 2])
    append_line(log, {"step": 9, "loss": math.inf})
    assert [line["step"] for line in read_lines(log)] == [0, 1, 9]
    assert math.isnan(read_lines(log)[0]["loss"])


def test_a_line_that_a_kill_left_unfinished_is_ignored_for_ever(tmp_path):
    log = tmp_path / "log.jsonl"
    assert read_lines(log) == []
    append_line(log, {"step": 1})
    append_line(log, {"step": 2})
    whole = log.read_bytes()
    for length in range(whole.index(b"\n") + 2, len(whole)):
        log.write_bytes(whole[:length])
        assert read_lines(log) == [{"step": 1}]
        append_line(log, {"step": 3})
        append_line(log, {"step": 4})
        assert read_lines(log) == [{"step": 1}, {"step": 3}, {"step": 4}]


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CorruptFile, match=r"log\.jsonl, line 2"):
        read_lines(tmp_path / "log.jsonl")


def test_lines_of_several_processes_never_mix(tmp_path):
    log = tmp_path / "log.jsonl"
    writers = [
        start(
            """
            import sys
            from claimwise.lab.storage import append_line
            print("ready", flush=True)
            input()
            for i in range(1000):
                append_line(sys.argv[1], {"writer": int(sys.argv[2]), "i": i, "text": "x" * (37 * i % 5000)})
            """,
            log,
            number,
        )
        for number in range(2)
    ]
    start_together(writers)
    for writer in writers:
        finish(writer)
    lines = read_lines(log)
    for number in range(2):
        mine = [line for line in lines if line["writer"] == number]
        assert [line["i"] for line in mine] == list(range(1000))
        assert all(len(line["text"]) == 37 * line["i"] % 5000 for line in mine)


def test_the_lock_admits_one_process_at_a_time(tmp_path):
    (tmp_path / "counter").write_text("0")
    counters = [
        start(
            """
            import pathlib, sys
            from claimwise.lab.storage import locked
            folder = pathlib.Path(sys.argv[1])
            print("ready", flush=True)
            input()
            for _ in range(40):
                with locked(folder / "lock"):
                    count = int((folder / "counter").read_text())
                    (folder / "counter").write_text(str(count + 1))
            """,
            tmp_path,
        )
        for _ in range(2)
    ]
    start_together(counters)
    for counter in counters:
        finish(counter)
    assert (tmp_path / "counter").read_text() == "80"


def test_the_kernel_releases_the_lock_of_a_killed_process(tmp_path):
    holder = start(
        """
        import sys, time
        from claimwise.lab.storage import locked
        with locked(sys.argv[1]):
            print("held", flush=True)
            time.sleep(60)
        """,
        tmp_path / "lock",
    )
    assert holder.stdout.readline() == "held\n"
    calls = []

    def waiting():
        calls.append("waiting")
        holder.send_signal(signal.SIGKILL)

    with locked(tmp_path / "lock", waiting=waiting):
        assert calls == ["waiting"]
    holder.communicate()
    with locked(tmp_path / "lock", waiting=waiting):
        assert calls == ["waiting"]


def test_the_lock_is_released_after_an_exception(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock", waiting=lambda: pytest.fail("still held")):
        pass


def test_available_cores_follow_the_affinity():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        one = min(os.sched_getaffinity(0))
        output = finish(
            start(
                """
                import os, sys
                from claimwise.lab.storage import available_cores
                os.sched_setaffinity(0, {int(sys.argv[1])})
                print(available_cores())
                """,
                one,
            )
        )
        assert output == "1\n"
