"""Papers of a test's own, written to its folder; compilation anew in each file; library calls without type checks."""

import secrets
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest

PAPER_HEAD = '''"""A paper of a test.

## What
Nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch

from claimwise.lab import *

paper = Paper("{key}")


@dataclass(frozen=True)
class Setup:
    """Settings."""

    size: float = 1.0
    """A number."""


'''


def _write(folder: Path, body: str, key: str | None = None) -> Path:
    key = key or f"paper_{secrets.token_hex(4)}"
    folder.mkdir(parents=True, exist_ok=True)
    module = folder / f"{key}.py"
    module.write_text(PAPER_HEAD.format(key=key) + textwrap.dedent(body), "utf-8")
    with (folder / "reading_list.bib").open("a") as bibliography:
        bibliography.write(
            f"@misc{{{key},\n  title = {{Paper {key}}},\n  author = {{Author, Ann}},\n  year = 2026,\n}}\n\n"
        )
    return module


@pytest.fixture(autouse=True, scope="module")
def compiles_afresh() -> None:
    """What other files compiled does not count here: torch.compile skips code that it has compiled eight times."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without run-time type checks, so that a function's own doors are what refuses."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def write_paper() -> Callable[..., Path]:
    """Writes the module of a paper and its entry into a folder: `write_paper(folder, body, key=None)` gives its path.

    Each has a key of its own, since modules are imported by name; `paper` is `Paper(key)` in the text.
    """
    return _write


@pytest.fixture
def written_paper(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`written_paper(body, key=None)`: the same, into the test's own folder; modules are forgotten after the test."""
    before, path = set(sys.modules), list(sys.path)
    yield lambda body, key=None: _write(tmp_path, body, key)
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
