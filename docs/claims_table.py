"""Write the claims table of the README from the reference results: ``python docs/claims_table.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from paper_pages import _cell, _measured, _number, _verdict

from claimwise.lab.records import NOT_TESTED, STAND_IN, ClaimOutcome
from claimwise.lab.reference import Reference
from claimwise.papers import catalogue

ROOT = Path(__file__).parents[1]
START, END = "<!-- claims: written by docs/claims_table.py -->", "<!-- end of claims -->"


def _row(outcome: ClaimOutcome) -> str:
    figures = []
    names = list(dict.fromkeys([*outcome.reported, *outcome.measured]))
    short = [name.rpartition(".")[2] for name in names]
    if len(set(short)) < len(short):  # the same measurement of two experiments
        short = names
    for name, shown in zip(names, short, strict=True):
        reported, measured = outcome.reported.get(name), outcome.measured.get(name)
        said = f"paper {_number(float(reported['value']))}" if reported else ""
        here = f"here {_measured(measured)}" if measured else ""
        figures.append(f"`{shown}`: " + ", ".join(filter(None, (said, here))))
    cells = (
        " ".join(outcome.sheet),
        outcome.statement,
        "<br>".join(figures),
        _verdict(outcome),
        outcome.fidelity or "–",
    )
    return "| " + " | ".join(map(_cell, cells)) + " |"


def table(results: Path, scale: str = "small") -> str:
    """The scoreboard, and every claim of every paper at a scale."""
    board = [
        "| paper | confirmed | refuted | undecided | on stand-in data | not tested |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    details = []
    for key, listing in catalogue().items():
        reference = Reference.read(results, key, scale)
        if reference is None:
            continue
        outcomes = list(reference.claims.values())
        own = [o.verdict for o in outcomes if o.fidelity != STAND_IN]
        stand_in = [o.verdict for o in outcomes if o.fidelity == STAND_IN]
        apart = (
            f"hold: {stand_in.count('confirmed')}, do not: {stand_in.count('refuted')}, "
            f"undecided: {stand_in.count('undecided')}"
            if stand_in
            else "–"
        )
        counts = " | ".join(str(own.count(verdict)) for verdict in ("confirmed", "refuted", "undecided"))
        board.append(f"| {key} | {counts} | {apart} | {own.count(NOT_TESTED)} |")
        details.append(
            f"<details><summary><b>{key}</b>: {listing.entry.title} ({len(outcomes)} claims, scale {scale}, "
            f"{reference.stamp['date']})</summary>\n\n"
            "| sheet | claim | figures, 95 % interval | verdict | fidelity |\n|---|---|---|---|---|\n"
            + "\n".join(map(_row, outcomes))
            + "\n\n</details>\n"
        )
    return "\n".join([*board, "", *details])


def rewritten(readme: str, results: Path) -> str:
    """The README with the table of now between its marks."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table(results)}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text("utf-8"), ROOT / "results"), "utf-8")
