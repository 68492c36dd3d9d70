"""How far a suite is: bars on a terminal, an occasional line elsewhere; always on stderr."""

import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from claimwise.lab.suite import Ended

_QUIET_SECONDS = 5.0
"""Elsewhere than on a terminal, a line is printed at most this often (and at the end)."""


class Display:
    """A context in which loops and runs tell how far they are."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self.total = total
        self.ended = 0
        self.broken = 0
        self._started = time.perf_counter()
        self._last_line = self._started
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, int], Any] = {}
        self._bars: Any = None
        if sys.stderr.isatty() and not quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._overall = self._bars.add_task("runs", total=total)
        self.quiet = quiet

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        elif not self.quiet:
            print(f"claimwise: {self.total} runs", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif not self.quiet:
            self._line("done" if kind is None else "stopped")

    def _line(self, what: str) -> None:
        seconds = time.perf_counter() - self._started
        broken = f", {self.broken} broke" if self.broken else ""
        print(
            f"claimwise: {self.ended}/{self.total} runs{broken}, {seconds:.0f} s: {what}", file=sys.stderr, flush=True
        )
        self._last_line = time.perf_counter()

    def step(self, address: str, seed: int, loop: str, step: int, total: int | None) -> None:
        """A loop is at a step."""
        with self._lock:
            if self._bars is not None:
                key = (address, seed)
                label = f"  {address}, seed {seed}: {loop}"
                if key not in self._tasks:
                    self._tasks[key] = self._bars.add_task(label, total=total)
                self._bars.update(self._tasks[key], description=label, completed=step, total=total)
            elif not self.quiet and time.perf_counter() - self._last_line > _QUIET_SECONDS:
                self._line(f"{address}, seed {seed}, {loop}: step {step}{f' of {total}' if total else ''}")

    def end(self, ended: Ended) -> None:
        """A run ended."""
        with self._lock:
            self.ended += 1
            self.broken += ended.run is None
            if self._bars is not None:
                for key in [
                    k for k in self._tasks if k[0].endswith(f".{ended.job.experiment}") and k[1] == ended.job.seed
                ]:
                    self._bars.remove_task(self._tasks.pop(key))
                self._bars.update(self._overall, completed=self.ended)
            elif not self.quiet and time.perf_counter() - self._last_line > _QUIET_SECONDS:
                self._line(f"{ended.job.experiment}, seed {ended.job.seed} ended")
