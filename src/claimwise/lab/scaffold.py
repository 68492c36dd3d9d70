"""A skeleton for one's own paper (``claimwise new``): whole, so that it runs and is judged as it is."""

import importlib.util
import keyword
import re
from pathlib import Path

from claimwise.lab.bibliography import read_bibliography
from claimwise.lab.paper import READING_LIST
from claimwise.lab.storage import write_atomic

_MODULE = '''"""A skeleton: a linear classifier learns the digits better than guessing.

## What
State what the paper claims, in your own words.

## How
Its method: the equations, the settings.

## Why
Why its authors think that it works.

## Where the paper misleads
What a reader who implements it falls over.
"""

from dataclasses import dataclass

import torch
from torch import nn

from claimwise.lab import STAND_IN, Measurements, Paper, Plan, Proportion, Reported, Results, Run

paper = Paper("{key}")


@dataclass(frozen=True)
class Linear:
    """A linear softmax classifier."""

    dataset: str = "digits"
    """A data set of `claimwise data list`."""
    epochs: int = 5
    """Passes over the training set."""
    learning_rate: float = 0.1
    """Step size of gradient descent."""


@paper.experiment(quick=Plan(Linear(), seeds=5))
def linear(run: Run, setup: Linear) -> Measurements:
    """Train once and count the errors on the test set."""
    data = run.data(setup.dataset)
    x = torch.tensor(data["train"]["x"]).flatten(1)
    y = torch.tensor(data["train"]["y"])
    model = nn.Linear(x.shape[1], int(y.max()) + 1).to(run.device)
    run.fit(
        model,
        lambda model, x, y: nn.functional.cross_entropy(model(x), y),
        (x, y),
        optimizer=torch.optim.SGD(model.parameters(), lr=setup.learning_rate),
        epochs=setup.epochs,
        batch_size=100,
    )
    x_test = torch.tensor(data["test"]["x"]).flatten(1).to(run.device)
    y_test = torch.tensor(data["test"]["y"]).to(run.device)
    with torch.no_grad():
        errors = int((model(x_test).argmax(1) != y_test).sum())
    return {{"test_error": Proportion(errors, len(y_test))}}


paper.claim(
    "learns",
    sheet="1",
    says="The classifier errs on fewer than half of the test digits.",
    where="section 1",
    reported={{linear["test_error"]: Reported(0.1, "low")}},
    holds=linear["test_error"] < 0.5,
    because="guessing errs on nine of ten: half of that is far from chance",
    fidelity={{"quick": STAND_IN}},
    differences="a skeleton: no paper stands behind it",
)


@paper.figure(linear, title="Test error over seeds")
def errors(results: Results):
    """One point for each seed."""
    from claimwise.lab.figures import figure

    stored = results[linear]
    drawing, axes = figure()
    axes.plot(stored.seeds, stored["test_error"], "o")
    axes.set_xlabel("seed")
    axes.set_ylabel("test error")
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    return drawing
'''

_ENTRY = """@misc{{{key},
  title  = {{The title of your paper}},
  author = {{Author, Ann}},
  year   = {{2026}},
  url    = {{https://example.org}},
  topic  = {{own}},
}}
"""


def write_skeleton(key: str, folder: Path) -> Path:
    """Write ``<key>.py`` and its entry in ``reading_list.bib``.

    Raises:
        ValueError: for a key that is no lower-case identifier or another module's name, or a broken bibliography.
        FileExistsError: if the module is there already; nothing is overwritten.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or keyword.iskeyword(key):
        raise ValueError(
            f"a paper's key is lower-case letters, digits and underscores, starting with a letter; got {key!r}"
        )
    path = folder / f"{key}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already; choose another key or folder")
    if (taken := importlib.util.find_spec(key)) is not None:
        raise ValueError(f"the name {key!r} is taken by the module {taken.origin or key}; choose another key")
    bibliography = folder / READING_LIST
    known = read_bibliography(bibliography)  # one that is broken is told before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _MODULE.format(key=key))
    if key not in known:
        before = bibliography.read_text("utf-8").rstrip() + "\n\n" if bibliography.is_file() else ""
        write_atomic(bibliography, before + _ENTRY.format(key=key))
    return path
