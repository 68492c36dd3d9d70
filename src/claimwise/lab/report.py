"""Reports of claims: HTML pages that need nothing but a browser, Markdown, JSON, JUnit XML, and lines for a terminal.

All of them say the same of a claim (:mod:`claimwise.lab.wording`): what the paper reports, what was measured with its
interval and n, the verdict, the mark and the fidelity.  Verdicts on stand-in data stand apart everywhere.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from claimwise.lab import figures
from claimwise.lab.records import (
    AGREES,
    CONFIRMED,
    DIFFERS,
    NOT_COMPARABLE,
    NOT_TESTED,
    REFUTED,
    SCALES,
    STAND_IN,
    UNCLEAR,
    UNDECIDED,
    ClaimOutcome,
    Estimate,
    FigureRecord,
    PaperRecord,
)
from claimwise.lab.storage import write_atomic
from claimwise.lab.wording import (
    ON_STAND_IN,
    SHAPES,
    Scoreboard,
    broken_under,
    duration,
    estimate_texts,
    interval_text,
    measured_text,
    number,
    quantities,
    reported_text,
    scoreboard,
    unit_text,
    verdict_text,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

MARK_SIGNS: Mapping[str, str] = {AGREES: "≈", DIFFERS: "≠", UNCLEAR: "?", NOT_COMPARABLE: ""}
"""A sign before each mark's word."""


@dataclass(frozen=True)
class Group:
    """Claims that are shown together."""

    title: str
    about: str
    claims: tuple[ClaimOutcome, ...]


def grouped(record: PaperRecord) -> tuple[Group, ...]:
    """The claims that count, those on stand-in data, those not tested; each in the paper's order."""

    def those(wanted: Any) -> tuple[ClaimOutcome, ...]:
        return tuple(claim for claim in record.claims if wanted(claim))

    return (
        Group(
            "Verdicts that count",
            "exact, on the paper's protocol, or on a reduced budget",
            those(lambda c: c.verdict != NOT_TESTED and c.fidelity != STAND_IN),
        ),
        Group(
            "On stand-in data",
            "other data than the paper's: neither for nor against it",
            those(lambda c: c.verdict != NOT_TESTED and c.fidelity == STAND_IN),
        ),
        Group("Not tested at this scale", "", those(lambda c: c.verdict == NOT_TESTED)),
    )


# HTML


def html_report(papers: Sequence[PaperRecord], folder: Path, *, title: str = "Papers, claim by claim") -> Path:
    """Write a static report: `index.html` with the scoreboard and one page for each paper and scale.

    Every page is self-contained (style and figures inside, no script, no request to anywhere), opens from the disk, and
    is light or dark as the reader's system is.

    Args:
        papers: At most one record for each paper and scale.
        folder: Made when missing. Other files in it are left alone.
        title: Of the scoreboard.

    Returns:
        The path of `index.html`. The pages beside it are named `key-scale.html`.

    Raises:
        ValueError: without papers; when two records are of one paper and scale; when a key is no file name; when a
            figure is not well-formed SVG, or would run a script or load something from elsewhere.
    """
    if not papers:
        raise ValueError("html_report: wants at least one paper, got none")
    pages: dict[tuple[str, str], str] = {}
    for record in papers:
        if (record.key, record.scale) in pages:
            raise ValueError(f"html_report: two records of {record.key} at scale {record.scale}; give one of each")
        pages[record.key, record.scale] = _page_name(record)
    ordered = sorted(papers, key=lambda r: (r.topic, r.year, r.key, _scale_order(r.scale)))
    environment = _environment()
    written = {"index.html": environment.get_template("index.html").render(**_scoreboard_page(ordered, pages, title))}
    for record in ordered:
        others = [(r.scale, pages[r.key, r.scale]) for r in ordered if r.key == record.key and r is not record]
        written[pages[record.key, record.scale]] = environment.get_template("paper.html").render(
            record=record,
            board=scoreboard([record]),
            groups=grouped(record),
            figures=[_placed(figure, i, record) for i, figure in enumerate(record.figures, 1)],
            note=_note_html(record.note),
            others=others,
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        write_atomic(folder / name, text)
    return folder / "index.html"


def _page_name(record: PaperRecord) -> str:
    name = f"{record.key}-{record.scale}"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"html_report: a key is made of letters, digits, '.', '_' and '-', got {record.key!r}")
    return f"{name}.html"


def _scale_order(scale: str) -> int:
    return SCALES.index(scale) if scale in SCALES else len(SCALES)


def _scoreboard_page(
    ordered: Sequence[PaperRecord], pages: Mapping[tuple[str, str], str], title: str
) -> dict[str, Any]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for record in ordered:
        row = {"record": record, "board": scoreboard([record]), "page": pages[record.key, record.scale]}
        topics.setdefault(record.topic or "other", []).append(row)
    return {
        "title": title,
        "topics": list(topics.items()),
        "total": scoreboard(ordered),
        "claims": sum(len(record.claims) for record in ordered),
        "papers": len({record.key for record in ordered}),
    }


def _environment() -> Any:
    from importlib.metadata import PackageNotFoundError, version

    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("claimwise.lab", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        environment.globals["version"] = version("claimwise")
    except PackageNotFoundError:  # a source tree that is on the path but not installed
        environment.globals["version"] = ""
    environment.globals.update(
        theme_css=figures.theme_css,
        marks=MARK_SIGNS,
        on_stand_in=ON_STAND_IN,
        anchor=_anchor,
        breakable=_breakable,
        broken_under=broken_under,
        duration=duration,
        estimate_texts=estimate_texts,
        grouped=grouped,
        interval_text=interval_text,
        is_apart=_is_apart,
        is_link=_is_link,
        quantities=quantities,
        reasons=_reasons,
        reported_text=reported_text,
        seeds_text=_seeds_text,
        shape=lambda claim: ("stand-in-" if _is_apart(claim) else "") + _slug(claim.verdict),
        slug=_slug,
        strip=_strip,
        unit_text=unit_text,
        verdict_text=verdict_text,
    )
    return environment


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def _anchor(claim: ClaimOutcome) -> str:
    return f"claim-{_slug(claim.claim)}"


def _is_apart(claim: ClaimOutcome) -> bool:
    return claim.fidelity == STAND_IN and claim.verdict != NOT_TESTED


def _reasons(claim: ClaimOutcome) -> list[tuple[str, str]]:
    """A claim's reason line by line: what is said of each part of its criterion, and the part's verdict or ""."""
    lines: list[tuple[str, str]] = []
    for piece in claim.reason.split("; "):
        verdict = next((part.verdict for part in claim.parts if piece.startswith(f"{part.criterion}:")), "")
        if verdict or not lines:
            lines.append((verdict, piece))
        else:
            lines[-1] = (lines[-1][0], f"{lines[-1][1]}; {piece}")
    return lines


def _breakable(text: str) -> Any:
    """Text in which a name may break after a dot or an underscore."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=\w)([._])(?=\w)", r"\1<wbr>", str(escape(text))))


def _seeds_text(seeds: Sequence[int]) -> str:
    """Seeds, the planned 0..N-1 as a range."""
    if len(seeds) > 2 and tuple(seeds) == tuple(range(len(seeds))):
        return f"0 to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _is_link(url: str) -> bool:
    return url.startswith(("https://", "http://"))


def _note_html(note: str) -> str:
    """A reading note as HTML below the page's own headings; raw HTML in it is shown as text, pictures as links."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(note.strip())
    headings = [token for token in tokens if token.type in ("heading_open", "heading_close")]
    highest = min((int(token.tag[1]) for token in headings), default=1)
    for token in headings:
        token.tag = f"h{min(6, int(token.tag[1]) - highest + 3)}"
    return str(parser.renderer.render(tokens, parser.options, {}))


def _placed(figure: FigureRecord, position: int, record: PaperRecord) -> dict[str, Any]:
    """A figure with ids of its own on this page, a size for its container, and nothing that reaches outside."""
    try:
        root = ElementTree.fromstring(figure.svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"{record.key}: figure {figure.title!r} is not well-formed SVG: {error}") from error
    if (fault := _reaches_out(root)) is not None:
        raise ValueError(f"{record.key}: figure {figure.title!r} {fault}; a report's figures stand on their own")
    width = float(root.get("viewBox", "0 0 316 216").split()[2])
    # 1.4 px a point puts 10-point text at 14 px; below .95 it could not be read, so the container scrolls.
    size = f"width:100%;max-width:{width * 1.4:.0f}px;min-width:{width * 0.95:.0f}px"
    svg = figures.with_prefix(figure.svg[figure.svg.index("<svg") :], f"figure{position}-")
    return {
        "title": figure.title,
        "caption": figure.caption,
        "svg": svg.replace("<svg", f'<svg style="{size}"', 1),
        "wide": width > 380,
    }


def _reaches_out(root: ElementTree.Element) -> str | None:
    """What is wrong with an SVG that is to stand inside a page, or None."""
    if root.tag.rpartition("}")[2] != "svg":
        return f"is <{root.tag}>, not <svg>"
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        if tag in ("script", "foreignObject", "style", "iframe"):
            return f"holds <{tag}>"
        for name, value in element.attrib.items():
            name = name.rpartition("}")[2]
            if name.startswith("on"):
                return f"holds the script attribute {name}"
            if name == "href" and not value.startswith(("#", "data:image/")):
                return f"refers to {value!r}"
            if any(not target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)'\"]*)", value)):
                return f"refers to {value!r}"
    return None


def _strip(reported: Mapping[str, Any] | None, estimate: Estimate | None) -> Any:
    """A reported figure (diamond) and a measured interval (bar and dot) on one line, with the ends of its axis."""
    from markupsafe import Markup, escape

    if reported is None or estimate is None or not isinstance(reported["value"], int | float):
        return ""
    target = float(reported["value"])
    spread = math.isfinite(estimate.low) and math.isfinite(estimate.high)
    places = [target, estimate.value, *((estimate.low, estimate.high) if spread else ())]
    if not all(map(math.isfinite, places)):
        return ""
    start, end = _axis(min(places), max(places))

    def x(value: float) -> float:
        return round(8 + 174 * (value - start) / (end - start), 1)

    bar = ""
    if spread:
        left, right = x(estimate.low), x(estimate.high)
        bar = (
            f'<rect x="{left:g}" y="8" width="{max(right - left, 0.5):g}" height="6" rx="1.5" '
            'fill="var(--figure-blue)" fill-opacity=".35"/>'
        )
    at, goal = x(estimate.value), x(target)
    said = f"reported {reported_text(reported)}, measured {measured_text(estimate)}"
    text = 'font-size="10" fill="var(--figure-muted)" style="font-variant-numeric:tabular-nums"'
    return Markup(
        f'<svg class="strip" viewBox="0 0 190 34" role="img" aria-label="{escape(said)}">'
        f'<path d="M8 11H182" stroke="var(--figure-rule)" stroke-width="1.5"/>{bar}'
        f'<path d="M{goal:g} 4.5l6.5 6.5-6.5 6.5-6.5-6.5z" fill="none" stroke="var(--figure-ink)" stroke-width="1.4"/>'
        f'<circle cx="{at:g}" cy="11" r="3.4" fill="var(--figure-blue)"/>'
        f'<text x="8" y="31" {text}>{number(start)}</text>'
        f'<text x="182" y="31" text-anchor="end" {text}>{number(end)}</text></svg>'
    )


def _axis(low: float, high: float) -> tuple[float, float]:
    """Round ends a little outside [low, high]; proportions stay within [0, 1]."""
    span = high - low or abs(low) * 0.2 or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step = step / 2 if span / step < 3 else step
    start = math.floor((low - 0.12 * span) / step) * step
    end = math.ceil((high + 0.12 * span) / step) * step
    if low >= 0 and high <= 1:
        start, end = max(start, 0.0), min(end, 1.0)
    elif low >= 0:
        start = max(start, 0.0)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return round(start, digits), round(end, digits)


# Markdown


def markdown_report(papers: Sequence[PaperRecord]) -> str:
    """The scoreboard and each paper's claims, figures and plans left out, as Markdown tables.

    Example: for a pull request, a README or a chat.
    """
    lines = [
        "# Papers, claim by claim",
        "",
        "| paper | scale | confirmed | refuted | undecided | on stand-in data (does not count) | not tested |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in papers:
        board = scoreboard([record])
        cells = [f"{_cell(record.title)} ({_code(record.key)})", record.scale]
        for verdict in (CONFIRMED, REFUTED, UNDECIDED):
            shares = board.shares(verdict)
            cells.append(f"{board.counted(verdict)}" + (f" ({shares})" if shares else ""))
        cells += [_stand_in_text(board), str(board.not_tested)]
        lines.append(_row(cells))
    for record in papers:
        lines += ["", *_markdown_paper(record)]
    return "\n".join(lines) + "\n"


def _markdown_paper(record: PaperRecord) -> list[str]:
    about = ", ".join(_cell(part) for part in (record.authors, record.venue, str(record.year or "")) if part)
    link = f" <{record.url}>" if _is_link(record.url) and not re.search(r"[<>\s]", record.url) else ""
    lines = [f"## {_cell(record.title)}", "", f"{about}.{link} Scale `{record.scale}`, {duration(record.seconds)}.", ""]
    for name, error in record.broken.items():
        lines += [f"**Experiment {_cell(name)} broke:** {_cell(error)}", ""]
    lines += [
        "| verdict | claim | reported | measured | mark | fidelity | differs from the paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim in record.claims:
        names = quantities(claim)
        several = len(names) > 1
        reported, measured, marks = [], [], []
        for name in names:
            label = f"{_cell(name)}: " if several or name not in claim.reported else ""
            if name in claim.reported:
                reported.append(label + _cell(reported_text(claim.reported[name])))
            if name in claim.measured:
                measured.append(label + _cell(measured_text(claim.measured[name])))
            if name in claim.figures:
                marks.append(label + claim.figures[name])
        reason = f"<br>{_cell(claim.reason)}" if claim.verdict != CONFIRMED and claim.reason else ""
        warning = f"<br>**{_cell(claim.warning)}**" if claim.warning else ""
        lines.append(
            _row(
                [
                    f"{SHAPES[claim.verdict]} **{verdict_text(claim)}**",
                    f"{_code(claim.claim)} ({_cell(', '.join(claim.sheet))}) {_cell(claim.statement)}"
                    + warning
                    + reason,
                    "<br>".join(reported) or "–",
                    "<br>".join(measured) or "–",
                    "<br>".join(marks) or "–",
                    claim.fidelity or "–",
                    _cell(claim.differences) or "–",
                ]
            )
        )
    if record.command:
        lines += ["", "Run it again:", "", *(f"    {line}" for line in record.command.splitlines())]
    return lines


def _stand_in_text(board: Scoreboard) -> str:
    return ", ".join(f"{ON_STAND_IN[v]}: {board.stand_in(v)}" for v in ON_STAND_IN if board.stand_in(v)) or "–"


def _cell(text: str) -> str:
    """Text inside a Markdown table: one line, nothing of it markup or HTML."""
    text = re.sub(r"[ \t\n\r\f\v]+", " ", text).strip(" ")  # not the narrow spaces between digits
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]~])", r"\\\1", text)


def _code(text: str) -> str:
    """A key or id as a code span inside a Markdown table."""
    return "`" + re.sub(r"\s+", " ", text).replace("`", "'").replace("|", r"\|") + "`"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# JSON


def json_report(papers: Sequence[PaperRecord]) -> dict[str, Any]:
    """Everything but the drawings, as plain values that are strict JSON: what is not finite becomes None."""
    report: dict[str, Any] = _finite(
        {
            "scoreboard": _board_json(scoreboard(papers)),
            "papers": [
                {
                    "key": record.key,
                    "title": record.title,
                    "authors": record.authors,
                    "venue": record.venue,
                    "year": record.year,
                    "url": record.url,
                    "topic": record.topic,
                    "note": record.note,
                    "scale": record.scale,
                    "seconds": record.seconds,
                    "scoreboard": _board_json(scoreboard([record])),
                    "claims": [claim.to_json() for claim in record.claims],
                    "plans": [asdict(plan) for plan in record.plans],
                    "figures": [{"title": figure.title, "caption": figure.caption} for figure in record.figures],
                    "command": record.command,
                    "stamp": record.stamp,
                    "broken": record.broken,
                    "bibtex": record.bibtex,
                }
                for record in papers
            ],
        }
    )
    return report


def _board_json(board: Scoreboard) -> dict[str, Any]:
    verdicts = (CONFIRMED, REFUTED, UNDECIDED)
    return {
        "counted": {verdict: board.counted(verdict) for verdict in verdicts},
        "stand-in": {verdict: board.stand_in(verdict) for verdict in verdicts},
        "by fidelity": {fidelity: dict(counts) for fidelity, counts in board.by_fidelity.items()},
        "not tested": board.not_tested,
        "broken experiments": board.broken,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


# JUnit


def junit_report(papers: Sequence[PaperRecord]) -> str:
    """Claims as tests, for CI systems: one suite for each paper and scale, one case for each claim.

    Confirmed passes, refuted fails, undecided and not tested are skipped; a claim whose experiment broke is an error.
    What does not hold on stand-in data is skipped too: it counts neither for nor against the paper. A case's class name
    ends with its fidelity.
    """
    root = ElementTree.Element("testsuites", name="claimwise")
    totals = dict.fromkeys(("tests", "failures", "errors"), 0)
    for record in papers:
        suite = _junit_suite(root, record)
        for name in totals:
            totals[name] += int(suite.attrib[name])
    root.attrib.update({name: str(count) for name, count in totals.items()})
    root.set("time", f"{sum(record.seconds for record in papers):.3f}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _junit_suite(root: ElementTree.Element, record: PaperRecord) -> ElementTree.Element:
    name = f"{record.key}.{record.scale}"
    suite = ElementTree.SubElement(root, "testsuite", name=_xml(name), time=f"{record.seconds:.3f}")
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in {"title": record.title, "command": record.command, **record.stamp}.items():
        text = value if isinstance(value, str) else json.dumps(_finite(value), ensure_ascii=False)
        ElementTree.SubElement(properties, "property", name=_xml(str(key)), value=_xml(text))
    for claim in record.claims:
        counts["tests"] += 1
        case = ElementTree.SubElement(
            suite,
            "testcase",
            name=_xml(claim.claim),
            classname=_xml(f"{name}.{claim.fidelity}" if claim.fidelity else name),
            time="0",
        )
        outcome, kind = _junit_outcome(claim, record)
        if outcome is not None:
            counts[{"failure": "failures", "error": "errors", "skipped": "skipped"}[outcome]] += 1
            told = ElementTree.SubElement(case, outcome, message=_xml(f"{verdict_text(claim)}: {claim.reason}"))
            if outcome != "skipped":
                told.set("type", kind)
                told.text = _xml(claim.criterion)
        ElementTree.SubElement(case, "system-out").text = _xml("\n".join(_claim_lines(claim)))
    for error in record.broken.items():
        if not any(error[0] in broken_under(claim, record) for claim in record.claims):
            # An experiment that no claim names would otherwise break unseen.
            counts["tests"] += 1
            counts["errors"] += 1
            case = ElementTree.SubElement(
                suite, "testcase", name=_xml(f"experiment {error[0]}"), classname=_xml(name), time="0"
            )
            ElementTree.SubElement(case, "error", message=_xml(error[1]), type="broken experiment")
    suite.attrib.update({key: str(count) for key, count in counts.items()})
    return suite


def _junit_outcome(claim: ClaimOutcome, record: PaperRecord) -> tuple[str | None, str]:
    if claim.verdict != NOT_TESTED and broken_under(claim, record):
        return "error", "broken experiment"
    if claim.verdict == CONFIRMED:
        return None, ""
    counts = claim.verdict == REFUTED and claim.fidelity != STAND_IN
    return ("failure", REFUTED) if counts else ("skipped", claim.verdict)


def _claim_lines(claim: ClaimOutcome) -> list[str]:
    """A claim as plain lines."""
    lines = [claim.statement, f"{', '.join(claim.sheet)} | {claim.where} | verdict: {verdict_text(claim)}"]
    for name in quantities(claim):
        parts = [name]
        if name in claim.reported:
            parts.append(f"reported {reported_text(claim.reported[name])}")
        if name in claim.measured:
            parts.append(f"measured {measured_text(claim.measured[name])}")
        if name in claim.figures:
            parts.append(claim.figures[name])
        lines.append(" | ".join(parts))
    for label, text in (("criterion", claim.criterion), ("differs", claim.differences), ("warning", claim.warning)):
        if text:
            lines.append(f"{label}: {text}")
    return lines


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 does not have."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


# Terminal


_STYLES: Mapping[str, str] = {CONFIRMED: "bold green", REFUTED: "bold red", UNDECIDED: "bold yellow", NOT_TESTED: "dim"}
_PLAIN: Mapping[str, str] = {CONFIRMED: "+", REFUTED: "x", UNDECIDED: "~", NOT_TESTED: "-"}
"""Shapes for terminals that cannot show the others."""
_WIDE = 132
"""Columns from which on a terminal shows one table."""


def print_claims(console: "Console", record: PaperRecord) -> None:
    """Print a paper's claims: verdict, fidelity, statement, and each figure reported beside measured, with its mark.

    A terminal of 132 columns or more shows a table; a narrower one a block for each claim.
    """
    from rich.text import Text

    console.print(Text.assemble("\n", (record.title, "bold"), f"  {record.key}, scale {record.scale}"))
    widths = _widths(record)
    if console.width >= _WIDE:
        console.print(_wide_table(record, widths, console))
    else:
        console.print(Text("\n    " + _figure_line(("reported", "measured, 95 % interval, n", "mark"), widths), "dim"))
        for claim in record.claims:
            console.print(_narrow_block(claim, widths, console))
    for name, error in record.broken.items():
        console.print(Text.assemble((f"experiment {name} broke: ", "bold red"), error))
    console.print(_summary(scoreboard([record])))


def _widths(record: PaperRecord) -> tuple[int, int]:
    """Columns that reported and measured figures take, the same for all claims of a paper."""
    reported = [len(reported_text(figure)) for claim in record.claims for figure in claim.reported.values()]
    measured = [len(measured_text(estimate)) for claim in record.claims for estimate in claim.measured.values()]
    return max([8, *reported]), max([26, *measured])


def _figure_line(cells: tuple[str, str, str], widths: tuple[int, int]) -> str:
    return f"{cells[0]:<{widths[0]}}  {cells[1]:<{widths[1]}}  {cells[2]}".rstrip()


def _figure_text(claim: ClaimOutcome, widths: tuple[int, int], indent: str = "") -> "Text":
    """Each quantity's name, and under it: reported, measured, mark."""
    from rich.text import Text

    lines = Text()
    for name in quantities(claim):
        cells = (
            reported_text(claim.reported[name]) if name in claim.reported else "–",
            measured_text(claim.measured[name]) if name in claim.measured else "–",
            claim.figures.get(name, ""),
        )
        lines.append(f"{indent}{name}\n", "dim")
        lines.append(f"{indent}{_figure_line(cells, widths)}\n")
    lines.rstrip()
    return lines


def _terminal_verdict(claim: ClaimOutcome, console: "Console") -> "Text":
    from rich.text import Text

    shapes = SHAPES if console.encoding.startswith("utf") else _PLAIN
    return Text(f"{shapes[claim.verdict]} {verdict_text(claim)}", _STYLES[claim.verdict])


def _remarks(claim: ClaimOutcome) -> "list[Text]":
    """What must not go unseen beside a verdict: a warning, and the reason of all but a confirmed one."""
    from rich.text import Text

    remarks = [Text(claim.warning, "bold yellow")] if claim.warning else []
    if claim.verdict != CONFIRMED and claim.reason:
        remarks.append(Text(claim.reason, "dim"))
    return remarks


def _wide_table(record: PaperRecord, widths: tuple[int, int], console: "Console") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True)
    table.add_column("verdict", width=19)
    table.add_column("claim", ratio=1)
    table.add_column(_figure_line(("reported", "measured, 95 % interval, n", "mark"), widths), no_wrap=True)
    table.add_column("fidelity", no_wrap=True)
    for i, claim in enumerate(record.claims):
        if i:
            table.add_row()
        said = Text.assemble((claim.claim, "bold"), f"  {', '.join(claim.sheet)}\n", claim.statement)
        for remark in _remarks(claim):
            said.append("\n").append_text(remark)
        table.add_row(_terminal_verdict(claim, console), said, _figure_text(claim, widths), claim.fidelity)
    return table


def _narrow_block(claim: ClaimOutcome, widths: tuple[int, int], console: "Console") -> "Lines":
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    head = _terminal_verdict(claim, console)
    if claim.fidelity and not _is_apart(claim):
        head.append(f" ({claim.fidelity})", "not bold")
    head.append("  ").append(claim.claim, "bold default").append(f"  {', '.join(claim.sheet)}", "not bold default")
    parts: list[Any] = [Text(), head, Padding(Text(claim.statement), (0, 0, 0, 2))]
    if quantities(claim):
        parts.append(_figure_text(claim, widths, indent="    "))
    parts += [Padding(remark, (0, 0, 0, 2)) for remark in _remarks(claim)]
    return Group(*parts)


def _summary(board: Scoreboard) -> "Text":
    from rich.text import Text

    text = Text("\n")
    for verdict in (CONFIRMED, REFUTED, UNDECIDED):
        text.append(f"{board.counted(verdict)} {verdict}", _STYLES[verdict] if board.counted(verdict) else "")
        text.append(f" ({board.shares(verdict)})" if board.shares(verdict) else "")
        text.append(" · ")
    text.append(f"{board.not_tested} not tested")
    text.append(f"\non stand-in data, which does not count: {_stand_in_text(board)}")
    return text
