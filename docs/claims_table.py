"""Write the README's scoreboard and each paper's table from the reference results: ``python docs/claims_table.py``."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from paper_pages import _cell, _measured, _number, _verdict

from claimwise.lab.records import CONFIRMED, NOT_TESTED, REFUTED, STAND_IN, UNDECIDED, ClaimOutcome
from claimwise.lab.reference import Reference
from claimwise.papers import Listing, catalogue

ROOT = Path(__file__).parents[1]
START, END = "<!-- claims: written by docs/claims_table.py -->", "<!-- end of claims -->"


def _figures(outcome: ClaimOutcome) -> str:
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
    return "<br>".join(figures)


def _reason(outcome: ClaimOutcome) -> str:
    reason = outcome.reason.removeprefix(f"{NOT_TESTED}: ").removeprefix(f"{NOT_TESTED} ")
    return f"<br>{reason}" if reason and outcome.verdict != CONFIRMED else ""


def _row(outcome: ClaimOutcome) -> str:
    cells = (
        " ".join(outcome.sheet),
        outcome.statement,
        _figures(outcome),
        _verdict(outcome) + _reason(outcome),
        outcome.fidelity or "–",
    )
    return "| " + " | ".join(map(_cell, cells)) + " |"


def scoreboard(results: Path, scale: str = "small") -> str:
    """Verdicts by paper, and the claims that were refuted."""
    board = [
        "| paper | confirmed | refuted | undecided | on stand-in data | not tested |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    refuted = []
    for key, listing, reference in _references(results, scale):
        outcomes = list(reference.claims.values())
        own = [o.verdict for o in outcomes if o.fidelity != STAND_IN]
        stand_in = [o.verdict for o in outcomes if o.fidelity == STAND_IN]
        apart = (
            f"hold: {stand_in.count(CONFIRMED)}, do not: {stand_in.count(REFUTED)}, "
            f"undecided: {stand_in.count(UNDECIDED)}"
            if stand_in
            else "–"
        )
        counts = " | ".join(str(own.count(verdict)) for verdict in (CONFIRMED, REFUTED, UNDECIDED))
        name = f"[{key}](results/{key}.{scale}.md): {_cell(listing.entry.title)}, {listing.entry.year}"
        board.append(f"| {name} | {counts} | {apart} | {own.count(NOT_TESTED)} |")
        refuted += [
            f"| {key} {' '.join(o.sheet)} | {_cell(o.statement)} | {_cell(_figures(o))} | {o.fidelity} |"
            for o in outcomes
            if o.verdict == REFUTED and o.fidelity != STAND_IN
        ]
    head = ["Refuted:", "", "| sheet | claim | figures, 95 % interval | fidelity |", "|---|---|---|---|"]
    return "\n".join([*board, "", *(head + refuted if refuted else []), ""])


def paper_table(key: str, listing: Listing, reference: Reference, results: Path, scale: str) -> str:
    """Every claim of a paper at a scale, and its figures."""
    entry, stamp = listing.entry, reference.stamp
    outcomes = list(reference.claims.values())
    lines = [
        f"# {entry.title}",
        "",
        f"{entry.authors}, {entry.year}. <{entry.url}>",
        "",
        f"{len(outcomes)} claims at scale {scale}, measured on {stamp['date']}. Written by `docs/claims_table.py` from "
        f"`{key}.{scale}.json`, which has the stamp, the criteria and every interval.",
        "",
        "| sheet | claim | figures, 95 % interval | verdict | fidelity |",
        "|---|---|---|---|---|",
        *map(_row, outcomes),
    ]
    for path in sorted((results / f"{key}.{scale}").glob("*.svg")):
        name = path.stem.replace("_", " ")
        lines += ["", f"![{name[:1].upper()}{name[1:]}]({key}.{scale}/{path.name})"]
    return "\n".join(lines) + "\n"


def _references(results: Path, scale: str) -> Iterator[tuple[str, Listing, Reference]]:
    for key, listing in catalogue().items():
        reference = Reference.read(results, key, scale)
        if reference is not None:
            yield key, listing, reference


def written(readme: str, results: Path, scale: str = "small") -> dict[Path, str]:
    """What every written file should say now: the README, and a page beside each paper's reference results."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    pages = {
        results / f"{key}.{scale}.md": paper_table(key, listing, reference, results, scale)
        for key, listing, reference in _references(results, scale)
    }
    return {results.parent / "README.md": f"{before}{START}\n\n{scoreboard(results, scale)}\n{END}{after}", **pages}


if __name__ == "__main__":
    for path, text in written((ROOT / "README.md").read_text("utf-8"), ROOT / "results").items():
        path.write_text(text, "utf-8")
