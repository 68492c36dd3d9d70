"""Progress is told on stderr, as bars on a terminal and as occasional lines elsewhere."""

import io
import sys

import pytest

from claimwise.lab import progress
from claimwise.lab.progress import Display
from claimwise.lab.suite import Ended, Job


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


JOB = Job("trial", "", "net", None, 3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, told by the test."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_elsewhere_than_on_a_terminal_lines_are_occasional(clock, capsys):
    with Display(2) as display:
        for second in range(12):
            clock[0] = float(second)
            display.step("trial.net", 3, "loop1", second, 20)
        clock[0] = 20.0
        display.end(Ended(JOB, None, "broke"))
        clock[0] = 21.0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "claimwise: 2 runs",
        "claimwise: 0/2 runs, 6 s: trial.net, seed 3, loop1: step 6 of 20",
        "claimwise: 1/2 runs, 1 broke, 20 s: net, seed 3 ended",
        "claimwise: 1/2 runs, 1 broke, 21 s: done",
    ]


def test_what_is_stopped_is_not_called_done(clock, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Display(1):
        stopped()
    assert capsys.readouterr().err.splitlines()[-1] == "claimwise: 0/1 runs, 0 s: stopped"


def test_quiet_says_nothing(clock, capsys):
    with Display(1, quiet=True) as display:
        clock[0] = 60.0
        display.step("trial.net", 3, "loop1", 1, None)
        display.end(Ended(JOB, None, "broke"))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_bars(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Display(2) as display:
        display.step("trial.net", 3, "loop1", 5, 20)
        display._bars.refresh()
        assert "trial.net, seed 3: loop1" in terminal.getvalue()
        display.end(Ended(JOB, None, "broke"))
        assert list(display._tasks) == []
    assert "claimwise: " not in terminal.getvalue()


def test_a_loop_without_an_end_has_a_bar_too(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Display(1) as display:
        display.step("trial.net", 3, "em", 5, None)
        display.step("trial.net", 3, "em", 6, None)
        assert len(display._tasks) == 1
