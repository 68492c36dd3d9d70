"""What the lab says of a claim, as plain records: the one form that verdicts give and that all reports read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCALES = ("quick", "small", "paper")
"""The three scales, from seconds to days."""

EXACT = "exact"
"""Fidelity of identities, counts and theorems."""
PAPER = "paper"
"""Fidelity of the paper's own data and protocol."""
REDUCED = "reduced"
"""Fidelity of the paper's data or network on a smaller budget."""
STAND_IN = "stand-in"
"""Fidelity of other data than the paper's."""
FIDELITIES = (EXACT, PAPER, REDUCED, STAND_IN)

CONFIRMED, REFUTED, UNDECIDED, NOT_TESTED = "confirmed", "refuted", "undecided", "not tested"
VERDICTS = (CONFIRMED, REFUTED, UNDECIDED, NOT_TESTED)

AGREES, DIFFERS, UNCLEAR, NOT_COMPARABLE = "agrees", "differs", "unclear", "not comparable"
MARKS = (AGREES, DIFFERS, UNCLEAR, NOT_COMPARABLE)


def _json_number(value: float) -> float | None:
    """JSON has no nan and no infinities: an end that is not there is null."""
    return value if math.isfinite(value) else None


def _with_ends(record: Mapping[str, Any], centre: str) -> dict[str, Any]:
    missing = {centre: math.nan, "low": -math.inf, "high": math.inf}
    return {key: missing.get(key) if value is None else value for key, value in record.items()}


@dataclass(frozen=True)
class Estimate:
    """A measured figure with its interval."""

    value: float
    low: float
    high: float
    n: int
    """Replicates behind the interval: seeds, trials, draws or examples, as `method` says."""
    unit: str = ""
    method: str = ""
    """How the interval was made, e.g. "t over 5 seeds" or "exact"."""


@dataclass(frozen=True)
class PartOutcome:
    """One part of a criterion: the compared quantity, its interval and what follows."""

    criterion: str
    estimate: float
    low: float
    high: float
    verdict: str
    method: str = ""
    level: float = 0.95


@dataclass(frozen=True)
class ClaimOutcome:
    """One claim at one scale: what the paper reports beside what was measured, and the verdict."""

    paper: str
    claim: str
    sheet: tuple[str, ...]
    statement: str
    where: str
    reported: Mapping[str, Mapping[str, Any]]
    """By measurement or quantity name: {"value": number, "sure": how sure we are of the figure}."""
    measured: Mapping[str, Estimate]
    figures: Mapping[str, str]
    """By name: one of MARKS."""
    parts: tuple[PartOutcome, ...]
    verdict: str
    reason: str
    fidelity: str
    """One of FIDELITIES, or "" where the claim is not tested at this scale."""
    differences: str
    criterion: str = ""
    """The criterion as text."""
    because: str = ""
    criterion_digest: str = ""
    seeds: tuple[int, ...] = ()
    look: int = 0
    """0 at the planned number of seeds; k at the k-th recorded extension."""
    warning: str = ""
    """E.g. "criterion changed after the run"."""

    def to_json(self) -> dict[str, Any]:
        """The object that `claimwise run --json` prints for a claim."""
        return {
            "paper": self.paper,
            "claim": self.claim,
            "sheet": list(self.sheet),
            "statement": self.statement,
            "where": self.where,
            "reported": {name: dict(figure) for name, figure in self.reported.items()},
            "measured": {
                name: {
                    "value": _json_number(e.value),
                    "low": _json_number(e.low),
                    "high": _json_number(e.high),
                    "n": e.n,
                    "unit": e.unit,
                    "method": e.method,
                }
                for name, e in self.measured.items()
            },
            "figures": dict(self.figures),
            "parts": [
                {
                    "criterion": p.criterion,
                    "estimate": _json_number(p.estimate),
                    "low": _json_number(p.low),
                    "high": _json_number(p.high),
                    "verdict": p.verdict,
                    "method": p.method,
                    "level": p.level,
                }
                for p in self.parts
            ],
            "verdict": self.verdict,
            "reason": self.reason,
            "fidelity": self.fidelity,
            "differences": self.differences,
            "criterion": self.criterion,
            "because": self.because,
            "criterion_digest": self.criterion_digest,
            "seeds": list(self.seeds),
            "look": self.look,
            "warning": self.warning,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ClaimOutcome":
        """The inverse of :meth:`to_json`."""
        fields = dict(data)
        fields["sheet"] = tuple(data["sheet"])
        fields["seeds"] = tuple(data["seeds"])
        fields["measured"] = {name: Estimate(**_with_ends(e, "value")) for name, e in data["measured"].items()}
        fields["parts"] = tuple(PartOutcome(**_with_ends(part, "estimate")) for part in data["parts"])
        return cls(**fields)


@dataclass(frozen=True)
class PlanRow:
    """One experiment's plan at one scale, with what it can detect."""

    experiment: str
    about: str
    scale: str
    seeds: int
    setup: Mapping[str, Any]
    smallest_effect: float | None
    """In seed standard deviations, detected with 80 % power; None for one seed."""
    cost: str = ""


@dataclass(frozen=True)
class FigureRecord:
    """A figure of a report."""

    title: str
    svg: str
    """The whole <svg> element, themed by CSS variables (see claimwise.lab.figures)."""
    caption: str = ""


@dataclass(frozen=True)
class PaperRecord:
    """All that a report says of one paper at one scale."""

    key: str
    title: str
    authors: str
    venue: str
    year: int
    url: str
    topic: str
    note: str
    """The reading note, Markdown."""
    scale: str
    seconds: float
    claims: tuple[ClaimOutcome, ...]
    plans: tuple[PlanRow, ...] = ()
    figures: tuple[FigureRecord, ...] = ()
    command: str = ""
    """The command that runs this again."""
    stamp: Mapping[str, Any] = field(default_factory=dict)
    """What produced the numbers: versions, commit, machine, device, threads, data with content hashes."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Experiments that broke, with the last line of their error."""
    bibtex: str = ""
