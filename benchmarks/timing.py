"""Time our code against a peer's, in turn, in one process, and write the table down.

Every benchmark of this folder is a script that imports this module::

    from timing import compare, write_table

    rows = [compare("fgsm, batch 100", ours, peer, peer_name="foolbox", difference=max_difference, tolerance=1e-6)]
    write_table("adversarial", rows, peers=["foolbox"])

``ours`` and ``peer`` are callables without arguments. Where ``difference`` is given, both are called once before
timing and their results must agree within ``tolerance``: two programs that compute different things are never timed.
Then they are timed in turn (ours, peer, peer, ours, ...), so that a machine that slows down slows both, and the
figure is the ratio of neighbours: medians over the repeats, with the quartiles of the ratio.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils import benchmark

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"


@dataclass(frozen=True)
class Row:
    """One comparison. Times are seconds a call, medians over ``repeats`` blocks of ``calls`` calls each."""

    name: str
    peer: str
    ours_seconds: float
    peer_seconds: float
    ratio: float
    """Peer's time over ours, median over repeats: above 1, ours is faster."""
    ratio_low: float
    """Lower quartile of the ratio over repeats."""
    ratio_high: float
    """Upper quartile of the ratio over repeats."""
    repeats: int
    calls: int
    difference: float | None
    """Largest difference between the two results, asserted before timing; None where nothing was compared."""
    tolerance: float | None
    threads: int
    clock: str
    note: str


def max_difference(a: Any, b: Any) -> float:
    """Largest absolute difference between two arrays, tensors or numbers of equal shape (infinite where NaN)."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    if a.shape != b.shape:
        raise ValueError(f"max_difference: shapes must be equal, got {tuple(a.shape)} and {tuple(b.shape)}")
    difference = (a - b).abs()
    return float("inf") if difference.isnan().any() else float(difference.max())


def compare(
    name: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    repeats: int = 41,
    peer_name: str = "peer",
    difference: Callable[[Any, Any], float] | None = None,
    tolerance: float | None = None,
    threads: int = 1,
    block_seconds: float = 0.02,
    clock: Literal["wall", "processor"] = "wall",
    note: str = "",
) -> Row:
    """Time ``ours`` and ``peer`` in turn.

    Args:
        name: What is timed, with the sizes that matter.
        ours: Our program.
        peer: The other program.
        repeats: Blocks of each that are timed; at least 3.
        peer_name: The other program's name for the table.
        difference: Distance between the two results; :func:`max_difference` for tensors. Checked before timing.
        tolerance: Largest admissible distance; given with ``difference``.
        threads: Threads torch may use while timing.
        block_seconds: Length aimed at for one block: as many calls as fill it on the slower side, 1 at least.
        clock: What is read. ``"processor"`` counts the time that this process computed, so that other programs on the
            machine hardly disturb it: for work of one thread on the CPU only.
        note: What a reader must know, for instance that the peer does less.

    Raises:
        ValueError: ``repeats`` below 3, the processor's clock with more than one thread, or one of ``difference`` and
            ``tolerance`` without the other.
        AssertionError: The results differ by more than ``tolerance``.
    """
    if repeats < 3:
        raise ValueError(f"compare: repeats must be at least 3, got {repeats}")
    if clock == "processor" and threads != 1:
        raise ValueError(
            f"compare: the processor's clock adds up threads; give threads=1 or clock='wall', got {threads}"
        )
    if (difference is None) != (tolerance is None):
        raise ValueError("compare: give difference and tolerance together, or neither")
    found = None
    if difference is not None and tolerance is not None:
        found = difference(ours(), peer())
        if not found <= tolerance:
            raise AssertionError(f"{name}: results differ by {found:.3g}, more than {tolerance:.3g}: not timed")

    timers = [
        benchmark.Timer(
            "program()",
            globals={"program": program},
            num_threads=threads,
            timer=time.process_time if clock == "processor" else benchmark.timer,
        )
        for program in (ours, peer)
    ]
    slower = max(timer.timeit(1).median for timer in timers)  # also warms both up (timeit runs once before it times)
    slower = max(timer.timeit(1).median for timer in timers)
    calls = max(1, round(block_seconds / slower))
    seconds: list[list[float]] = [[], []]
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            seconds[side].append(timers[side].timeit(calls).median)
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Row(
        name=name,
        peer=peer_name,
        ours_seconds=statistics.median(seconds[0]),
        peer_seconds=statistics.median(seconds[1]),
        ratio=statistics.median(ratios),
        ratio_low=low,
        ratio_high=high,
        repeats=repeats,
        calls=calls,
        difference=found,
        tolerance=tolerance,
        threads=threads,
        clock=clock,
        note=note,
    )


def environment(peers: Sequence[str] = ()) -> dict[str, Any]:
    """What produced the figures: machine, versions (of ``peers`` by distribution name too), commit."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "torch": torch.__version__,
        "numpy": importlib.metadata.version("numpy"),
        "peers": {peer: importlib.metadata.version(peer) for peer in peers},
        "commit": _commit(),
    }


def write_table(topic: str, rows: Sequence[Row], path: Path | None = None, *, peers: Sequence[str] = ()) -> Path:
    """Write ``rows`` as JSON and, beside it, as a Markdown table.

    Args:
        topic: Title of the table and, by default, name of the files in ``results/benchmarks``.
        rows: What :func:`compare` returned.
        path: The JSON file; the Markdown file has the same name with ``.md``.
        peers: Distribution names whose versions go into the environment.
    """
    path = Path(path) if path is not None else RESULTS / f"{topic}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = environment(peers)
    path.write_text(
        json.dumps({"topic": topic, "environment": stamp, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
    )
    path.with_suffix(".md").write_text(_markdown(topic, rows, stamp))
    return path


def _markdown(topic: str, rows: Sequence[Row], stamp: dict[str, Any]) -> str:
    lines = [
        f"# Benchmark: {topic}",
        "",
        "| what | peer | ours | peer's | times faster (quartiles) | results differ by | note |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        differ = "not compared" if row.difference is None else f"{row.difference:.1e} (≤ {row.tolerance:.0e})"
        lines.append(
            f"| {row.name} | {row.peer} | {_duration(row.ours_seconds)} | {_duration(row.peer_seconds)} "
            f"| {row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f}) | {differ} | {row.note} |"
        )
    versions = {"Python": stamp["python"], "torch": stamp["torch"], "NumPy": stamp["numpy"], **stamp["peers"]}
    threads = ", ".join(sorted({str(row.threads) for row in rows}))
    clocks = " and ".join(sorted({row.clock for row in rows}))
    lines += [
        "",
        f"{stamp['cpu']}, {stamp['cores']} cores; threads as timed: {threads}; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}; "
        f"commit {stamp['commit']}; {stamp['date']}.",
        "",
        f"Medians of a call ({clocks} time). Both programs are timed in turn in one process; the ratio is that of "
        "neighbouring blocks.",
        "",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")
