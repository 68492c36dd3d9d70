"""The reading list: one module per paper, beside ``reading_list.bib``; papers from outside come by entry point.

An outside package adds its papers with ::

    [project.entry-points."claimwise.papers"]
    my_paper = "my_package.my_paper"

and a ``reading_list.bib`` beside that module. Nothing is imported to list them.
"""

import difflib
import importlib
import importlib.util
import sys
import traceback
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from claimwise.lab.bibliography import Entry, read_bibliography

if TYPE_CHECKING:
    from claimwise.lab.paper import Paper

ENTRY_POINTS = "claimwise.papers"
READING_LIST = "reading_list.bib"


class UnknownPaper(LookupError):
    """No paper of that key, with the nearest one."""


class BrokenPaper(ImportError):
    """A paper whose module cannot be imported, with what is wrong and where."""


@dataclass(frozen=True)
class Listing:
    """A paper that can be run, known without importing it."""

    entry: Entry
    module: str


def _here() -> dict[str, Listing]:
    """The reading list of this package: entries that have a module."""
    folder = Path(__file__).parent
    entries = read_bibliography(folder / READING_LIST)
    return {key: Listing(e, f"{__name__}.{key}") for key, e in entries.items() if (folder / f"{key}.py").is_file()}


def _outside() -> dict[str, Listing]:
    """Papers of installed packages, in the entry-point group."""
    found: dict[str, Listing] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        package, *rest = point.module.split(".")
        try:
            spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            warnings.warn(f"the paper {point.name!r} is declared in {point.value}, which is not there", stacklevel=2)
            continue
        roots = list(spec.submodule_search_locations or [])
        folders = (
            [Path(root, *rest[:-1]) for root in roots] if rest else [Path(spec.origin or ".").parent, *map(Path, roots)]
        )
        entries: dict[str, Entry] = {}
        try:
            for folder in folders:
                entries |= read_bibliography(folder / READING_LIST)
        except (OSError, ValueError) as error:  # another package's fault must not hide the list
            warnings.warn(f"the paper {point.name!r}: {error}", stacklevel=2)
        entry = entries.get(point.name) or Entry(point.name, "misc", {"title": point.name, "topic": "outside"}, "")
        found[point.name] = Listing(entry, point.module)
    return found


def catalogue() -> dict[str, Listing]:
    """Every paper that can be run by its key: this package's first, then those of other packages."""
    ours = _here()
    return ours | {key: listing for key, listing in _outside().items() if key not in ours}


def load(key: str) -> "Paper":
    """Import a paper by its key, or from a file of one's own (``./my_paper.py``).

    Raises:
        UnknownPaper: naming the nearest key.
        BrokenPaper: if its module cannot be imported.
        LookupError: if the module defines no paper of that key.
    """
    if key.endswith(".py"):
        return _from_file(Path(key))
    known = catalogue()
    if key not in known:
        near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the papers are {', '.join(known)}"
        raise UnknownPaper(f"unknown paper {key!r}; {hint} (claimwise list shows all)")
    return _paper_of(known[key].module, key)


def _from_file(path: Path) -> "Paper":
    if not path.is_file():
        raise UnknownPaper(f"no file {path}; name a paper of the list, or a file made by `claimwise new`")
    if not path.stem.isidentifier():
        raise UnknownPaper(f"{path}: a paper's file is named by its key: letters, digits and underscores; rename it")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(path.stem)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != path.resolve():
        taken = "another module" if spec is None else spec.origin or "another package"
        raise UnknownPaper(f"{path}: the module name {path.stem!r} is taken by {taken}; rename the file and its key")
    return _paper_of(path.stem, path.stem)


def _paper_of(module: str, key: str) -> "Paper":
    from claimwise.lab.paper import Paper

    try:
        imported = importlib.import_module(module)
    except Exception as error:
        if isinstance(error, SyntaxError):
            said, where = error.msg, f"{error.filename}, line {error.lineno}"
        else:
            ours = Path(__file__).parents[1] / "lab"
            frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent != ours]
            said, where = str(error), f"{frames[-1].filename}, line {frames[-1].lineno}"
        raise BrokenPaper(f"{key}: cannot import {module}: {type(error).__name__}: {said} ({where})") from error
    papers = [value for value in vars(imported).values() if isinstance(value, Paper)]
    for paper in papers:
        if paper.key == key:
            return paper
    there = ", ".join(paper.key for paper in papers) or "none"
    raise LookupError(f"{module}: defines no Paper({key!r}); it defines {there}")
