"""The lab: papers, claims, experiments, runs, verdicts and reports.

A paper's module takes all it needs from here. Names are imported when first used, so that the command line can read the
reading list without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claimwise.lab.criteria import (
        all_of,
        between,
        equal,
        equivalent,
        ordered,
        superiority,
        trend,
    )
    from claimwise.lab.measurements import (
        Curve,
        Exact,
        Matrix,
        Measurements,
        PerDraw,
        PerExample,
        PerTrial,
        Proportion,
        Value,
    )
    from claimwise.lab.paper import Collection, NotTested, Paper, Plan, Reported
    from claimwise.lab.records import EXACT, PAPER, REDUCED, STAND_IN
    from claimwise.lab.run import Run
    from claimwise.lab.stored import Results, Stored

_HOMES = {
    "criteria": ("all_of", "between", "equal", "equivalent", "ordered", "superiority", "trend"),
    "measurements": (
        "Curve",
        "Exact",
        "Matrix",
        "Measurements",
        "PerDraw",
        "PerExample",
        "PerTrial",
        "Proportion",
        "Value",
    ),
    "paper": ("Collection", "NotTested", "Paper", "Plan", "Reported"),
    "records": ("EXACT", "PAPER", "REDUCED", "STAND_IN"),
    "run": ("Run",),
    "stored": ("Results", "Stored"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "EXACT",
    "PAPER",
    "REDUCED",
    "STAND_IN",
    "Collection",
    "Curve",
    "Exact",
    "Matrix",
    "Measurements",
    "NotTested",
    "Paper",
    "PerDraw",
    "PerExample",
    "PerTrial",
    "Plan",
    "Proportion",
    "Reported",
    "Results",
    "Run",
    "Stored",
    "Value",
    "all_of",
    "between",
    "equal",
    "equivalent",
    "ordered",
    "superiority",
    "trend",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
