"""Papers of a test's own, written to its folder."""

import secrets
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture
def written_paper(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Writes the module of a paper and its entry into a folder of the test; gives the module's path.

    Each has a key of its own, since modules are imported by name; `paper` is `Paper(key)` in the text.
    """
    before, path = set(sys.modules), list(sys.path)

    def write(body: str, key: str | None = None, folder: Path = tmp_path) -> Path:
        key = key or f"paper_{secrets.token_hex(4)}"
        folder.mkdir(parents=True, exist_ok=True)
        module = folder / f"{key}.py"
        module.write_text(PAPER_HEAD.format(key=key) + textwrap.dedent(body), "utf-8")
        with (folder / "reading_list.bib").open("a") as bibliography:
            bibliography.write(
                f"@misc{{{key},\n  title = {{Paper {key}}},\n  author = {{Author, Ann}},\n  year = 2026,\n}}\n\n"
            )
        return module

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
