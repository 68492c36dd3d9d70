"""Claims in words and figures, the same in every report: numbers, intervals, verdicts, and what a scoreboard counts."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from claimwise.lab.records import (
    CONFIRMED,
    FIDELITIES,
    NOT_TESTED,
    REFUTED,
    STAND_IN,
    UNDECIDED,
    ClaimOutcome,
    Estimate,
    PaperRecord,
)

SHAPES: Mapping[str, str] = {CONFIRMED: "✔", REFUTED: "✘", UNDECIDED: "◐", NOT_TESTED: "○"}
"""A shape for each verdict, so that nothing hangs on colour."""
ON_STAND_IN: Mapping[str, str] = {CONFIRMED: "holds", REFUTED: "does not hold", UNDECIDED: "undecided"}
"""What a verdict is called on other data than the paper's, where it counts neither for nor against the paper."""
COUNTING = tuple(fidelity for fidelity in FIDELITIES if fidelity != STAND_IN)
"""The fidelities whose verdicts count."""


def number(value: float) -> str:
    """A figure as it was given: whole numbers in full, in groups of three; others to at most 12 digits.

    Example:
        >>> number(138357544), number(0.894), number(2.5e-7)
        ('138\u202f357\u202f544', '0.894', '2.5e-7')
    """
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "nan")
    if value == int(value) and abs(value) < 1e15:
        return _set(f"{int(value)}")
    return _set(f"{value:.12g}")


def estimate_texts(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A value and its interval with the same decimals: 3 significant digits, more where the interval is narrow.

    Example:
        >>> estimate_texts(0.96731, 0.96118, 0.97342)
        ('0.967', '0.961', '0.973')
        >>> estimate_texts(0.99994, 0.99981, 0.99998)
        ('0.99994', '0.99981', '0.99998')
        >>> estimate_texts(16, 16, 16)
        ('16', '16', '16')
    """
    given = (value, low, high)
    if all(v == int(v) for v in given if math.isfinite(v)) and (low == high or abs(value) >= 1e4):
        return _three(number(v) for v in given)
    size = max((abs(v) for v in given if math.isfinite(v)), default=0.0)
    if size == 0:
        return _three(number(v) for v in given)
    decimals = 2 - math.floor(math.log10(size))
    width = high - low
    if math.isfinite(width) and width > 0:
        decimals = max(decimals, 1 - math.floor(math.log10(width)))
    decimals = min(decimals, 8 - math.floor(math.log10(size)))  # beyond nine digits an interval says nothing more
    if size >= 1e6 or size < 1e-4:
        digits = max(0, decimals + math.floor(math.log10(size)))
        form = f".{digits}e"
    else:
        form = f".{max(0, decimals)}f"
    # Nought is nought, not 0.000: it may be an exact count.
    return _three(_set(f"{v:{form}}") if math.isfinite(v) and v != 0 else number(v) for v in given)


def interval_text(estimate: Estimate) -> str:
    """The interval alone, "exact" where it is a point, "no interval" where nothing tells how far the value varies."""
    if estimate.low == estimate.high == estimate.value:
        return "exact" if estimate.method == "exact" else "no spread"
    if not (math.isfinite(estimate.low) or math.isfinite(estimate.high)):
        return "no interval"
    _, low, high = estimate_texts(estimate.value, estimate.low, estimate.high)
    return f"[{low}, {high}]"


def measured_text(estimate: Estimate) -> str:
    """Value, unit, interval and n in one line.

    Example:
        >>> measured_text(Estimate(0.96731, 0.96118, 0.97342, 5))
        '0.967 [0.961, 0.973], n = 5'
        >>> measured_text(Estimate(16, 16, 16, 1, "layers", "exact"))
        '16 layers exact, n = 1'
    """
    value = estimate_texts(estimate.value, estimate.low, estimate.high)[0]
    return f"{value}{unit_text(estimate)} {interval_text(estimate)}, n = {estimate.n}"


def unit_text(estimate: Estimate) -> str:
    """The unit after a space; none for fractions, which their numbers say."""
    return f" {estimate.unit}" if estimate.unit not in ("", "fraction") else ""


def reported_text(figure: Mapping[str, object]) -> str:
    """A reported figure with how sure we are of it.

    Example:
        >>> reported_text({"value": 0.894, "sure": "seen"})
        '0.894 (seen)'
    """
    value = figure["value"]
    text = number(value) if isinstance(value, int | float) else str(value)
    return f"{text} ({figure['sure']})" if figure.get("sure") else text


def verdict_text(claim: ClaimOutcome) -> str:
    """The verdict in words; on other data than the paper's it is said to be so.

    Example: "confirmed", "on stand-in data: holds".
    """
    if claim.fidelity == STAND_IN and claim.verdict in ON_STAND_IN:
        return f"on stand-in data: {ON_STAND_IN[claim.verdict]}"
    return claim.verdict


def quantities(claim: ClaimOutcome) -> list[str]:
    """Names of what is reported or measured, the reported first."""
    return list(dict.fromkeys([*claim.reported, *claim.measured]))


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(7.31), duration(83), duration(7300)
        ('7.3 s', '1 min 23 s', '2 h 1 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def broken_under(claim: ClaimOutcome, record: PaperRecord) -> dict[str, str]:
    """The broken experiments that a claim rests on, with their errors.

    A claim names the experiments it needs in its criterion and in its figures, as `experiment.measurement`.
    """
    text = " ".join((claim.criterion, *claim.reported, *claim.measured))
    return {name: error for name, error in record.broken.items() if re.search(rf"(?<![\w.]){re.escape(name)}\.", text)}


@dataclass(frozen=True)
class Scoreboard:
    """How many claims of a paper, or of several, have which verdict.

    Verdicts on stand-in data are counted apart: they speak neither for nor against the paper.
    """

    by_fidelity: Mapping[str, Mapping[str, int]]
    """For each fidelity, the number of claims by verdict (never "not tested")."""
    not_tested: int = 0
    broken: int = 0
    """Experiments that broke."""

    def counted(self, verdict: str) -> int:
        """Claims with this verdict among those that count: exact, on the paper's protocol, or reduced."""
        return sum(self.by_fidelity[fidelity][verdict] for fidelity in COUNTING)

    def stand_in(self, verdict: str) -> int:
        """Claims with this verdict on stand-in data."""
        return self.by_fidelity[STAND_IN][verdict]

    def shares(self, verdict: str) -> str:
        """What `counted` is made of.

        Example: "3 exact, 2 reduced".
        """
        return ", ".join(f"{self.by_fidelity[f][verdict]} {f}" for f in COUNTING if self.by_fidelity[f][verdict])


def scoreboard(records: Iterable[PaperRecord]) -> Scoreboard:
    """Count the claims of these records."""
    counts = {fidelity: dict.fromkeys((CONFIRMED, REFUTED, UNDECIDED), 0) for fidelity in FIDELITIES}
    not_tested = broken = 0
    for record in records:
        broken += len(record.broken)
        for claim in record.claims:
            if claim.verdict == NOT_TESTED:
                not_tested += 1
            else:
                counts[claim.fidelity][claim.verdict] += 1
    return Scoreboard(counts, not_tested, broken)


def _three(texts: Iterable[str]) -> tuple[str, str, str]:
    a, b, c = texts
    return a, b, c


def _set(text: str) -> str:
    """A printed number with a true minus sign, five digits and more in groups of three, and 1e-07 as 1e-7."""
    text = re.sub(r"e([+-])0*(\d+)", lambda m: f"e{'-' if m[1] == '-' else ''}{m[2]}", text)
    whole = re.match(r"-?(\d{5,})", text)
    if whole:
        text = text.replace(whole[1], f"{int(whole[1]):,}".replace(",", "\u202f"), 1)
    return "−" + text[1:] if text.startswith("-") else text
