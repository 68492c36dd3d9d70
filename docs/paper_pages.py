"""One page a paper, from its module and its reference results; nothing on it is typed by hand."""

import shutil
from pathlib import Path

from claimwise.lab.paper import Paper
from claimwise.lab.records import NOT_TESTED, SCALES, STAND_IN, ClaimOutcome, Estimate
from claimwise.lab.reference import Reference
from claimwise.papers import catalogue, load


def write(folder: Path, results: Path) -> None:
    """Write the pages and their figures into `folder`, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for key in catalogue():
        paper = load(key)
        references = [r for scale in SCALES if (r := Reference.read(results, key, scale)) is not None]
        (folder / f"{key}.md").write_text(_page(paper, references, folder, results), "utf-8")
    rows = "\n".join(f"| [{key}]({key}.md) | {c.entry.title} | {c.entry.year} |" for key, c in catalogue().items())
    keys = "\n".join(catalogue())
    index = f"# Papers\n\n| key | title | year |\n|---|---|---|\n{rows}\n\n```{{toctree}}\n:hidden:\n\n{keys}\n```\n"
    (folder / "index.md").write_text(index, "utf-8")
    (folder / "benchmarks.md").write_text(_benchmarks(results / "benchmarks"), "utf-8")


def _benchmarks(folder: Path) -> str:
    """The committed benchmark tables, one section each."""
    about = (
        "# Benchmarks\n\nOurs and the peer in turn in one process, on equal inputs; results are compared "
        "before timing. Ratios hold where absolute times drift. Each table is written by a script in `benchmarks/`.\n"
    )
    tables = [path.read_text("utf-8").replace("# Benchmark: ", "## ") for path in sorted(folder.glob("*.md"))]
    return "\n".join([about, *tables])


def _number(value: float) -> str:
    return f"{value:.4g}"


def _measured(estimate: Estimate) -> str:
    if estimate.method == "exact":
        return _number(estimate.value)
    return f"{_number(estimate.value)} [{_number(estimate.low)}, {_number(estimate.high)}], n = {estimate.n}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _verdict(outcome: ClaimOutcome) -> str:
    if outcome.fidelity == STAND_IN and outcome.verdict != NOT_TESTED:
        words = {"confirmed": "holds", "refuted": "does not hold"}
        return f"on stand-in data: {words.get(outcome.verdict, outcome.verdict)}"
    return f"**{outcome.verdict}**" + (f" ({outcome.warning})" if outcome.warning else "")


def _figures(outcome: ClaimOutcome) -> str:
    """Reported beside measured, one line a quantity."""
    names = list(dict.fromkeys([*outcome.reported, *outcome.measured]))
    lines = []
    for name in names:
        reported = outcome.reported.get(name)
        measured = outcome.measured.get(name)
        said = f"paper {_number(float(reported['value']))} ({reported['sure']})" if reported else ""
        here = f"here {_measured(measured)}" if measured else ""
        mark = f" — {outcome.figures[name]}" if name in outcome.figures and measured else ""
        lines.append(f"`{name}`: {'; '.join(filter(None, (said, here)))}{mark}")
    return "<br>".join(_cell(line) for line in lines)


def _page(paper: Paper, references: list[Reference], folder: Path, results: Path) -> str:
    entry = paper.entry
    note = paper.note.replace("\n# ", "\n## ")
    parts = [
        f"# {paper.key}: {entry.title}\n",
        f"{entry.authors}. {entry.venue}, {entry.year}. <{entry.url}>\n",
        note + "\n",
    ]
    if not references:
        parts.append("## Claims\n\nNo reference results yet.\n")
    for reference in reversed(references):
        stamp = reference.stamp
        versions = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
        data = ", ".join(f"{name} ({d['variant']})" if d["variant"] else name for name, d in stamp["data"].items())
        parts.append(f"## Claims at scale {reference.scale}\n")
        parts.append(
            f"Run on {stamp['date']} at commit `{stamp['commit'][:12]}`; {stamp['processor']}, {stamp['device']}; "
            f"{versions}; data: {data or 'none'}. Again: `claimwise run {paper.key} --scale {reference.scale}`.\n"
        )
        parts.append(
            "| claim | sheet | figures | verdict | fidelity | why, and what differs |\n|---|---|---|---|---|---|"
        )
        for outcome in reference.claims.values():
            why = outcome.reason + (f". Differs: {outcome.differences}" if outcome.differences else "")
            cells = (
                f"**{outcome.claim}**: {outcome.statement} ({outcome.where})",
                " ".join(outcome.sheet),
                _figures(outcome),
                _verdict(outcome),
                outcome.fidelity or "–",
                why,
            )
            parts.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
        parts.append("")
        pictures = results / f"{paper.key}.{reference.scale}"
        if pictures.is_dir():
            target = folder / pictures.name
            shutil.copytree(pictures, target)
            titles = {spec.draw.__name__: (spec.title, spec.caption) for spec in paper.figures}
            for picture in sorted(target.glob("*.svg")):
                title, caption = titles.get(picture.stem, (picture.stem, ""))
                parts.append(
                    f"### {title} ({reference.scale})\n\n{caption}\n\n![{title}]({pictures.name}/{picture.name})\n"
                )
    return "\n".join(parts)
