"""The command line. Commands are frozen dataclasses; tyro reads them, and only the one that was asked for.

``--help``, ``list`` and ``cite`` need the .bib file and the index only: nothing here imports torch, scipy or matplotlib
before a command needs it.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import claimwise

if TYPE_CHECKING:
    from claimwise.lab.paper import Experiment, Paper
    from claimwise.lab.records import PaperRecord
    from claimwise.lab.reference import Reference
    from claimwise.lab.run import FinishedRun, Hardware, Workspace
    from claimwise.lab.study import Seeds
    from claimwise.lab.suite import Ended, Job

Scale = Literal["quick", "small", "paper"]

OK, UNFAVOURABLE, USAGE, BROKEN = 0, 1, 2, 3


class UsageError(Exception):
    """Something that the caller can put right, said in one message; exit status 2."""


def _positional() -> Any:
    import tyro

    return tyro.conf.Positional


def _print(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def _runs_folder(given: str | None) -> Path:
    return Path(given or os.environ.get("CLAIMWISE_RUNS") or "runs")


# list, show, cite -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class List:
    """The reading list, by topic, with last verdicts."""

    json: bool = False
    """One JSON list on stdout."""
    runs: str | None = None
    """Folder of runs (default: $CLAIMWISE_RUNS, else ./runs)."""

    def __call__(self) -> int:
        from claimwise.lab.index import Index
        from claimwise.papers import catalogue

        listings = catalogue()
        last: dict[str, dict[str, list[str]]] = {}
        for verdict in Index(_runs_folder(self.runs)).verdicts():
            shown = f"{verdict.verdict} on stand-in data" if verdict.fidelity == "stand-in" else verdict.verdict
            last.setdefault(verdict.paper, {}).setdefault(verdict.scale, []).append(shown)
        if self.json:
            _print_json(
                [
                    {
                        "key": key,
                        "title": listing.entry.title,
                        "year": listing.entry.year,
                        "topic": listing.entry.topic,
                        "last": {scale: _counts(verdicts) for scale, verdicts in last.get(key, {}).items()},
                    }
                    for key, listing in listings.items()
                ]
            )
            return OK
        topics = list(dict.fromkeys(listing.entry.topic for listing in listings.values()))
        for topic in topics:
            _print(topic)
            for key, listing in listings.items():
                if listing.entry.topic != topic:
                    continue
                _print(f"  {key:<18} {listing.entry.title} ({listing.entry.year})")
                for scale, verdicts in last.get(key, {}).items():
                    counts = ", ".join(f"{n} {verdict}" for verdict, n in _counts(verdicts).items())
                    _print(f"  {'':<18} {scale}: {counts}")
        return OK


def _counts(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}


@dataclass(frozen=True)
class Show:
    """A paper: note, claims, scales, plan with its power, last results."""

    key: str
    """A paper of the list, or a file of one's own."""
    json: bool = False
    """One JSON object on stdout."""
    runs: str | None = None
    """Folder of runs (default: $CLAIMWISE_RUNS, else ./runs)."""
    results: str | None = None
    """Folder of reference results (default: ./results, else the installed ones)."""

    def __call__(self) -> int:
        from claimwise.lab.reference import Reference, find_results
        from claimwise.lab.study import plan_rows

        paper = _load(self.key)
        folder = find_results(Path(self.results) if self.results else None)
        references = [Reference.read(folder, paper.key, s) for s in paper.scales()] if folder is not None else []
        last = _last_verdicts(paper.key, _runs_folder(self.runs), [r for r in references if r is not None])
        rows = plan_rows(paper, paper.scales())
        if self.json:
            _print_json(
                {
                    "key": paper.key,
                    "title": paper.entry.title,
                    "authors": paper.entry.authors,
                    "year": paper.entry.year,
                    "topic": paper.entry.topic,
                    "url": paper.entry.url,
                    "note": paper.note,
                    "scales": list(paper.scales()),
                    "plans": [
                        {
                            "experiment": row.experiment,
                            "about": row.about,
                            "scale": row.scale,
                            "seeds": row.seeds,
                            "setup": dict(row.setup),
                            "smallest_effect": row.smallest_effect,
                            "cost": row.cost,
                        }
                        for row in rows
                    ],
                    "claims": [_described(claim, last.get(claim.id, {})) for claim in paper.claims.values()],
                }
            )
            return OK
        from rich.console import Console
        from rich.markdown import Markdown

        console = Console()
        console.print(f"[bold]{paper.entry.title}[/bold]", highlight=False)
        console.print(
            f"{paper.entry.authors}. {paper.entry.venue}, {paper.entry.year}. {paper.entry.url}\n", highlight=False
        )
        console.print(Markdown(paper.note))
        console.print("\n[bold]Claims[/bold]", highlight=False)
        for claim in paper.claims.values():
            console.print(f"\n{claim.id} [{' '.join(claim.sheet)}; {claim.where}]", markup=False, highlight=False)
            console.print(f"  {claim.says}", markup=False, highlight=False)
            for quantity, figure in claim.reported:
                console.print(
                    f"  reported: {quantity} = {figure.value:g} ({figure.sure})", markup=False, highlight=False
                )
            for scale, criterion in claim.criteria.items():
                console.print(f"  {scale} ({claim.fidelity[scale]}): {criterion}", markup=False, highlight=False)
            if claim.not_tested is not None:
                reason = f"{claim.not_tested.reason}: {claim.not_tested.detail}"
                console.print(f"  not tested: {reason}", markup=False, highlight=False)
            for scale, verdict in last.get(claim.id, {}).items():
                console.print(f"  last at {scale}: {verdict}", markup=False, highlight=False)
        console.print("\n[bold]Plan[/bold]", highlight=False)
        for row in rows:
            if row.smallest_effect:
                power = f"detects {row.smallest_effect:.2f} seed standard deviations with 80 % power"
            else:
                power = "one run"
            cost = f"; {row.cost}" if row.cost else ""
            console.print(f"  {row.scale:<6} {row.experiment}: {row.seeds} seed(s), {power}{cost}", highlight=False)
            console.print(
                f"         {', '.join(f'{k}={v}' for k, v in row.setup.items())}", markup=False, highlight=False
            )
        return OK


def _described(claim: Any, last: Mapping[str, str]) -> dict[str, Any]:
    return {
        "claim": claim.id,
        "sheet": list(claim.sheet),
        "statement": claim.says,
        "where": claim.where,
        "reported": {str(q): {"value": figure.value, "sure": figure.sure} for q, figure in claim.reported},
        "criteria": {scale: str(criterion) for scale, criterion in claim.criteria.items()},
        "because": claim.because,
        "fidelity": dict(claim.fidelity),
        "differences": dict(claim.differences),
        "not_tested": None
        if claim.not_tested is None
        else {"reason": claim.not_tested.reason, "detail": claim.not_tested.detail},
        "last": dict(last),
    }


def _last_verdicts(key: str, runs: Path, references: Sequence["Reference"]) -> dict[str, dict[str, str]]:
    """By claim and scale: the verdict of the reference results, or of the last run here."""
    from claimwise.lab.index import Index

    last: dict[str, dict[str, str]] = {}
    for reference in references:
        for claim, outcome in reference.claims.items():
            last.setdefault(claim, {})[reference.scale] = f"{outcome.verdict} (reference, {reference.stamp['date']})"
    for verdict in Index(runs).verdicts(key):
        last.setdefault(verdict.claim, {})[verdict.scale] = f"{verdict.verdict} (here, {verdict.date})"
    return last


@dataclass(frozen=True)
class Cite:
    """BibTeX of the papers that you used."""

    keys: tuple[str, ...]
    """Papers of the list."""

    def __call__(self) -> int:
        from claimwise.papers import catalogue

        known = catalogue()
        entries = [known[key].entry if key in known else _load(key).entry for key in dict.fromkeys(self.keys)]
        _print("\n\n".join(entry.source for entry in entries))
        return OK


# run, report, check ---------------------------------------------------------------------------------------------------


def _load(key: str) -> "Paper":
    from claimwise.papers import BrokenPaper, UnknownPaper, load

    try:
        paper = load(key)
        _ = paper.entry  # before anything runs
    except (UnknownPaper, BrokenPaper, LookupError) as error:
        raise UsageError(error.args[0]) from None
    return paper


def _selected(keys: Sequence[str], everything: bool) -> "list[Paper]":
    from claimwise.papers import catalogue

    if everything == bool(keys):
        raise UsageError("name the papers, e.g. claimwise run fgsm, or say --all for the whole list")
    return [_load(key) for key in (catalogue() if everything else dict.fromkeys(keys))]


def _require_scale(paper: "Paper", scale: str) -> None:
    if scale not in paper.scales():
        raise UsageError(
            f"{paper.key} has no experiment at scale {scale}; it has {', '.join(paper.scales()) or 'none'}"
        )


@dataclass(frozen=True)
class Run:
    """Run papers: train, measure over seeds, give verdicts, write the report."""

    keys: tuple[str, ...] = ()
    """Papers of the list, or files of one's own."""
    all: bool = False
    """The whole list."""
    scale: Scale = "quick"
    """How much: seconds on stand-in data, minutes on real data, or the paper's own protocol."""
    seeds: int | None = None
    """Another number of seeds than planned: fewer give no verdict, more are a recorded second look."""
    fresh: bool = False
    """The next N seeds after the planned ones, for a criterion that was edited after its run."""
    jobs: int | None = None
    """Runs side by side (default: as the cores allow); never changes a number."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, mps."""
    precision: str = "32-true"
    """Precision of training, as Lightning Fabric names it, e.g. bf16-mixed."""
    devices: int = 1
    """Devices (or, on the CPU, processes) that compute one run together, each on its share of every batch."""
    set: tuple[str, ...] = ()
    """Exploratory settings, experiment.field=value: prints measurements, never a verdict."""
    json: bool = False
    """One JSON object on stdout and nothing else."""
    fail_on: Literal["refuted", "undecided"] | None = None
    """Exit with 1 if a claim is refuted; "undecided" also fails on undecided ones."""
    record: str | None = None
    """Write the outcome as reference results into this folder."""
    report: str = "report"
    """Folder of the HTML report."""
    runs: str | None = None
    """Folder of runs (default: $CLAIMWISE_RUNS, else ./runs)."""
    data_dir: str | None = None
    """Folder looked at first for data (default: $CLAIMWISE_DATA)."""
    results: str | None = None
    """Folder of reference results (default: ./results, else the installed ones)."""
    executor: str = "processes"
    """processes, dask[:ADDRESS] or slurm[:PARTITION]."""

    def __call__(self) -> int:
        papers = _selected(self.keys, self.all)
        if self.all:
            papers = [paper for paper in papers if self.scale in paper.scales()]
        if not papers:
            raise UsageError(f"no paper of the list has an experiment at scale {self.scale}")
        study = _Study.of(self)
        for paper in papers:
            _require_scale(paper, self.scale)
        if self.set:
            return self._explore(papers, study)
        from claimwise.lab.study import jobs_of

        if self.record is not None:
            study.require_whole(papers)
        jobs = [job for paper in papers for job in jobs_of(paper, self.scale, study.seeds, study.reference(paper.key))]
        ended, seconds = study.perform(jobs)
        records = []
        for paper in papers:
            records.append(study.record(paper, ended))
            if self.record is not None:
                study.keep_reference(paper, records[-1], ended, Path(self.record))
        for end in ended:
            if end.run is None:
                sys.stderr.write(f"claimwise: {end.job.experiment}, seed {end.job.seed} broke: {end.error}\n")
        broken = {f"{record.key}, {what}": why for record in records for what, why in record.broken.items()}
        for what, why in broken.items():
            sys.stderr.write(f"claimwise: {what}: {why}\n")
        if self.json:
            claims = [outcome.to_json() for record in records for outcome in record.claims]
            _print_json({"scale": self.scale, "seconds": round(seconds, 3), "claims": claims})
        else:
            _print_records(records)
            _print(f"report: {_write_html(records, Path(self.report))}")
        if broken:
            return BROKEN
        return self._verdict_status(records)

    def _verdict_status(self, records: "Sequence[PaperRecord]") -> int:
        failing = {"refuted": ("refuted",), "undecided": ("refuted", "undecided"), None: ()}[self.fail_on]
        bad = [c for record in records for c in record.claims if c.verdict in failing]
        for claim in bad:
            sys.stderr.write(f"claimwise: {claim.paper}: {claim.claim}: {claim.verdict}: {claim.reason}\n")
        return UNFAVOURABLE if bad else OK

    def _explore(self, papers: "Sequence[Paper]", study: "_Study") -> int:
        from claimwise.lab.settings import SettingError, apply_settings
        from claimwise.lab.study import measurements_of, runs_of
        from claimwise.lab.suite import Job

        if self.record is not None or len(papers) != 1:
            raise UsageError("--set explores one paper and is never recorded: name one paper and drop --record")
        (paper,) = papers
        try:
            changed = apply_settings(paper, self.scale, self.set)
        except SettingError as error:
            raise UsageError(str(error)) from None
        jobs = [
            Job.of(experiment, setup, seed)
            for experiment, setup in changed.items()
            for seed in study.seeds.of(experiment.plans[self.scale].seeds)
        ]
        ended, seconds = study.perform(jobs)
        runs = runs_of(paper, ended)
        measured = measurements_of(runs)
        if self.json:
            _print_json({"scale": self.scale, "seconds": round(seconds, 3), "set": self.set, "measurements": measured})
        else:
            _print(f"exploratory ({', '.join(self.set)}): measurements, no verdict")
            _print_measurements(runs)
        for end in ended:
            if end.run is None:
                sys.stderr.write(f"claimwise: {end.job.experiment}, seed {end.job.seed} broke: {end.error}\n")
        return BROKEN if any(end.run is None for end in ended) else OK


def _print_measurements(runs: "Mapping[Experiment, Sequence[FinishedRun]]") -> None:
    from claimwise.lab.stored import Stored

    for experiment, found in runs.items():
        stored = Stored.of(experiment, found)
        for name in stored:
            values = stored[name]
            if values.ndim == 1:
                spread = f" ± {values.std(ddof=1):.3g}" if len(values) > 1 else ""
                _print(f"  {experiment.name}.{name} = {values.mean():.6g}{spread}  (n = {len(values)})")
            else:
                _print(f"  {experiment.name}.{name}: {'×'.join(map(str, values.shape[1:]))} values (n = {len(values)})")


def _print_records(records: "Sequence[PaperRecord]") -> None:
    from rich.console import Console

    from claimwise.lab.report import print_claims

    console = Console()
    for record in records:
        print_claims(console, record)


def _write_html(records: "Sequence[PaperRecord]", folder: Path) -> Path:
    from claimwise.lab.report import html_report

    return html_report(records, folder)


@dataclass(frozen=True)
class _Study:
    """What run, report and check share: where runs live, on what they compute, which seeds."""

    workspace: "Workspace"
    hardware: "Hardware"
    seeds: "Seeds"
    scale: Scale
    jobs: int
    executor: str
    quiet: bool
    results: Path | None

    @classmethod
    def of(cls, command: "Run | Check | Report") -> "_Study":
        from claimwise.data.loading import data_folder
        from claimwise.lab.reference import find_results
        from claimwise.lab.run import Hardware, Workspace
        from claimwise.lab.storage import available_cores
        from claimwise.lab.study import Seeds

        jobs = getattr(command, "jobs", None)
        if jobs is not None and jobs < 1:
            raise UsageError(f"--jobs must be a whole number >= 1, got {jobs}")
        try:
            hardware = Hardware(command.device, command.precision, devices=command.devices)
            seeds = Seeds(getattr(command, "seeds", None), getattr(command, "fresh", False))
        except ValueError as error:
            raise UsageError(str(error)) from None
        data_dir = data_folder(command.data_dir)  # one that is named and not there is an error, used or not
        data_dir = None if data_dir is None else data_dir.absolute()
        try:
            checkpoint = float(given := os.environ.get("CLAIMWISE_CHECKPOINT_SECONDS", "30"))
        except ValueError:
            raise UsageError(f"CLAIMWISE_CHECKPOINT_SECONDS must be a number of seconds, got {given!r}") from None
        return cls(
            Workspace(_runs_folder(command.runs).absolute(), data_dir, checkpoint),
            hardware,
            seeds,
            command.scale,
            jobs or max(1, available_cores() // command.devices),
            getattr(command, "executor", "processes"),
            getattr(command, "json", False),
            find_results(None if command.results is None else Path(command.results)),
        )

    def perform(self, jobs: "Sequence[Job]") -> "tuple[list[Ended], float]":
        """Make the runs, showing progress; also how many seconds it took."""
        import time
        from dataclasses import replace

        from claimwise.lab.progress import Display
        from claimwise.lab.suite import run_suite

        started = time.perf_counter()
        with Display(len(jobs)) as display:
            try:
                ended = run_suite(
                    jobs,
                    replace(self.workspace, progress=display.step),
                    self.hardware,
                    workers=self.jobs,
                    executor=self.executor,
                    on_end=display.end,
                )
            except ValueError as error:
                raise UsageError(str(error)) from None
        return ended, time.perf_counter() - started

    def require_whole(self, papers: "Sequence[Paper]") -> None:
        """Refuse to record fewer seeds than planned, which give no verdict."""
        for paper in papers:
            for experiment in paper.experiments_at(self.scale).values():
                planned = experiment.plans[self.scale].seeds
                if self.seeds.count is not None and self.seeds.count < planned:
                    raise UsageError(
                        f"{paper.key}: {experiment.name} is planned with {planned} seeds, and fewer are not recorded"
                    )

    def reference(self, key: str) -> "Reference | None":
        """The reference results of a paper at this scale."""
        from claimwise.lab.reference import Reference

        return None if self.results is None else Reference.read(self.results, key, self.scale)

    def record(self, paper: "Paper", ended: "Sequence[Ended]", *, again: bool = False) -> "PaperRecord":
        """The record of a paper from a suite; `again`: of the reference's runs, repeated."""
        from claimwise.lab.study import broken_of, keep_verdicts, record_of, runs_of

        record = record_of(
            paper,
            self.scale,
            runs_of(paper, ended),
            self.workspace,
            self.hardware,
            broken=broken_of(paper, ended),
            reference=self.reference(paper.key),
            again=again,
        )
        if not again:
            keep_verdicts(record, self.workspace)
        return record

    def keep_reference(self, paper: "Paper", record: "PaperRecord", ended: "Sequence[Ended]", folder: Path) -> None:
        """Write reference results; only whole ones."""
        from claimwise.lab.figures import standalone_svg
        from claimwise.lab.reference import Reference, keep_reference
        from claimwise.lab.study import draw_figures, runs_of

        if record.broken:
            sys.stderr.write(f"claimwise: {paper.key}: not recorded, {', '.join(record.broken)} broke\n")
            return
        figures = [d for d in draw_figures(paper, runs_of(paper, ended)) if d.publish]
        drawn = [(d.name, standalone_svg(d.figure)) for d in figures]
        path = keep_reference(record, folder, Reference.read(folder, paper.key, self.scale), drawn)
        sys.stderr.write(f"claimwise: reference results: {path}\n")


@dataclass(frozen=True)
class Report:
    """A report from the runs at hand; trains nothing."""

    keys: tuple[str, ...] = ()
    """Papers of the list, or files of one's own (default: all that have runs)."""
    scale: Scale = "quick"
    """Which runs."""
    format: Literal["html", "md", "json", "junit"] = "html"
    """html into a folder; the others to stdout, or to the file named by --output."""
    output: str | None = None
    """Folder (html; default: report) or file (md, json, junit; default: stdout)."""
    device: str = "cpu"
    """Device of the runs."""
    precision: str = "32-true"
    """Precision of the runs."""
    devices: int = 1
    """Devices that computed each run together."""
    runs: str | None = None
    """Folder of runs (default: $CLAIMWISE_RUNS, else ./runs)."""
    data_dir: str | None = None
    """Folder looked at first for data (default: $CLAIMWISE_DATA)."""
    results: str | None = None
    """Folder of reference results (default: ./results, else the installed ones)."""

    def __call__(self) -> int:
        from claimwise.lab.study import record_of, runs_at_hand
        from claimwise.papers import catalogue

        study = _Study.of(self)
        records = []
        for key in self.keys or tuple(catalogue()):
            paper = _load(key)
            if self.scale not in paper.scales() and not self.keys:
                continue
            runs = runs_at_hand(paper, self.scale, study.seeds, study.workspace, study.hardware)
            if runs:
                reference = study.reference(paper.key)
                records.append(record_of(paper, self.scale, runs, study.workspace, study.hardware, reference=reference))
        if not records:
            wanted = f" of {', '.join(self.keys)}" if self.keys else ""
            raise UsageError(
                f"no current {self.scale} runs{wanted} in {study.workspace.runs}; "
                f"make some: claimwise run {self.keys[0] if self.keys else 'fgsm'} --scale {self.scale}"
            )
        if self.format == "html":
            _print(f"report: {_write_html(records, Path(self.output or 'report'))}")
            return OK
        from claimwise.lab.report import json_report, junit_report, markdown_report
        from claimwise.lab.storage import write_atomic

        if self.format == "json":
            text = json.dumps(json_report(records), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        else:
            text = (markdown_report if self.format == "md" else junit_report)(records)
        if self.output is None:
            sys.stdout.write(text)
        else:
            write_atomic(Path(self.output), text)
            _print(f"report: {self.output}")
        return OK


@dataclass(frozen=True)
class Check:
    """Run papers again and compare with the reference results: has anything drifted?"""

    keys: tuple[str, ...] = ()
    """Papers of the list."""
    all: bool = False
    """Every paper that has reference results at this scale."""
    scale: Scale = "quick"
    """Which reference results."""
    jobs: int | None = None
    """Runs side by side (default: as the cores allow)."""
    device: str = "cpu"
    """Where to compute."""
    precision: str = "32-true"
    """Precision of training."""
    devices: int = 1
    """Devices (or, on the CPU, processes) that compute one run together."""
    json: bool = False
    """One JSON object on stdout."""
    runs: str | None = None
    """Folder of runs (default: $CLAIMWISE_RUNS, else ./runs)."""
    data_dir: str | None = None
    """Folder looked at first for data (default: $CLAIMWISE_DATA)."""
    results: str | None = None
    """Folder of reference results (default: ./results, else the installed ones)."""

    def __call__(self) -> int:
        from claimwise.lab.reference import drift
        from claimwise.lab.study import jobs_again

        study = _Study.of(self)
        papers = _selected(self.keys, self.all)
        references = {paper.key: study.reference(paper.key) for paper in papers}
        if self.all:
            papers = [paper for paper in papers if references[paper.key] is not None]
        missing = [key for key, reference in references.items() if reference is None]
        if not papers or (missing and not self.all):
            raise UsageError(
                f"no reference results at scale {self.scale} for {', '.join(missing) or 'any paper'} in "
                f"{study.results or 'results'}; make them: claimwise run KEY --scale {self.scale} --record results"
            )
        found = {paper.key: reference for paper in papers if (reference := references[paper.key]) is not None}
        for paper in papers:
            _require_scale(paper, self.scale)
        jobs = [job for paper in papers for job in jobs_again(paper, self.scale, found[paper.key])]
        ended, seconds = study.perform(jobs)
        broken = [end for end in ended if end.run is None]
        changes = {paper.key: drift(study.record(paper, ended, again=True), found[paper.key]) for paper in papers}
        for end in broken:
            sys.stderr.write(f"claimwise: {end.job.experiment}, seed {end.job.seed} broke: {end.error}\n")
        if self.json:
            _print_json({"scale": self.scale, "seconds": round(seconds, 3), "drift": changes})
        else:
            for key, drifted in changes.items():
                _print(f"{key}: {'nothing has drifted' if not drifted else f'{len(drifted)} change(s)'}")
                for change in drifted:
                    _print(f"  {change}")
        if broken:
            return BROKEN
        return UNFAVOURABLE if any(changes.values()) else OK


# data -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataList:
    """Data sets: size, licence, source, at hand or not."""

    json: bool = False
    """One JSON list on stdout."""
    data_dir: str | None = None
    """Folder looked at first (default: $CLAIMWISE_DATA)."""

    def __call__(self) -> int:
        from dataclasses import asdict

        from claimwise.data import list_datasets

        listed = list_datasets(data_dir=self.data_dir)
        if self.json:
            _print_json([asdict(entry) for entry in listed])
            return OK
        width = max(len(entry.name) for entry in listed)
        for entry in listed:
            terms = entry.licence if entry.publish else f"{entry.licence}; not to be published"
            size = _size(entry.bytes)
            _print(f"{entry.name:<{width}}  {size:>8}  {entry.place:<12} {entry.title} [{terms}] {entry.source}")
        return OK


def _size(n: int) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if n >= scale:
            return f"{n / scale:.1f} {unit}"
    return f"{n} B"


@dataclass(frozen=True)
class DataFetch:
    """Download data sets into the user cache, from upstream or a mirror, verified."""

    names: tuple[str, ...]
    """Data sets, as `claimwise data list` names them."""

    def __call__(self) -> int:
        from claimwise.data import fetch

        for name in self.names:
            for path in fetch(name, progress=_download_line()):
                _print(f"{name}: {path}")
        return OK


def _download_line() -> Callable[[str, int, int | None], None]:
    """Shows a download on stderr, now and then."""
    import time

    last = 0.0

    def show(name: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > (0.2 if sys.stderr.isatty() else 5.0) or done == total:
            last = now
            of = f" of {_size(total)}" if total else ""
            end = "\r" if sys.stderr.isatty() and done != total else "\n"
            sys.stderr.write(f"{name}: {_size(done)}{of}{end}")
            sys.stderr.flush()

    return show


@dataclass(frozen=True)
class DataVerify:
    """Read data sets wholly and compare them with the registry."""

    names: tuple[str, ...] = ()
    """Data sets (default: all)."""
    json: bool = False
    """One JSON list on stdout."""
    data_dir: str | None = None
    """Folder looked at first (default: $CLAIMWISE_DATA)."""

    def __call__(self) -> int:
        from dataclasses import asdict

        from claimwise.data import verify

        found = [v for name in self.names or (None,) for v in verify(name, data_dir=self.data_dir)]
        if self.json:
            _print_json([asdict(verified) for verified in found])
        else:
            for verified in found:
                _print(f"{verified.name}: {verified.status}: {verified.detail}")
        return UNFAVOURABLE if any(verified.status == "corrupt" for verified in found) else OK


# new, doctor ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class New:
    """A skeleton for a paper of one's own: it runs as it is."""

    key: str
    """The paper's key: letters, digits and underscores."""
    folder: str = "."
    """Where to write it."""

    def __call__(self) -> int:
        from claimwise.lab.scaffold import write_skeleton

        try:
            path = write_skeleton(self.key, Path(self.folder))
        except (ValueError, FileExistsError) as error:
            raise UsageError(str(error)) from None
        _print(f"wrote {path} and its entry in {path.parent / 'reading_list.bib'}")
        _print(f"run it: claimwise run {path if path.parent != Path('.') else f'./{path}'}")
        return OK


@dataclass(frozen=True)
class Doctor:
    """What this machine can run: devices, memory, data, extras."""

    json: bool = False
    """One JSON object on stdout."""
    runs: str | None = None
    """Folder of runs (default: $CLAIMWISE_RUNS, else ./runs)."""

    def __call__(self) -> int:
        from claimwise.lab.doctor import examine

        findings = examine(_runs_folder(self.runs))
        if self.json:
            _print_json(findings)
            return OK
        for section, found in findings.items():
            _print(section)
            for name, value in found.items():
                _print(f"  {name}: {value}")
        return OK


# dispatch -------------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, type[Any]] = {
    "list": List,
    "show": Show,
    "run": Run,
    "report": Report,
    "check": Check,
    "data list": DataList,
    "data fetch": DataFetch,
    "data verify": DataVerify,
    "cite": Cite,
    "new": New,
    "doctor": Doctor,
}
_POSITIONAL = {"keys", "key", "names"}


def _first_line(command: type[Any]) -> str:
    return (command.__doc__ or "").strip().splitlines()[0]


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: claimwise [-h] [--version] COMMAND ...",
        "",
        "Reading notes that run: the claims of classic deep-learning papers as executable checks.",
        "",
        *(f"  {name:<{width}}  {_first_line(command)}" for name, command in COMMANDS.items()),
        "",
        "claimwise COMMAND --help tells a command's options. Exit status: 0 done, 1 --fail-on or drift, 2 usage,",
        "3 an experiment broke.",
    ]
    return "\n".join(lines)


def _parse(name: str, arguments: Sequence[str]) -> Any:
    """The command with its options; tyro prints the help or the error and exits."""
    import dataclasses

    command = COMMANDS[name]
    if not arguments and all(field.default is not dataclasses.MISSING for field in dataclasses.fields(command)):
        return command()  # tyro takes a tenth of a second to import, and has nothing to read
    try:
        import tyro
    except ImportError:
        raise UsageError('the command line needs the extra: pip install "claimwise[lab]"') from None
    # Positional words are marked here, so that importing this module does not import tyro.
    for field in dataclasses.fields(command):
        if field.name in _POSITIONAL:
            annotation = command.__annotations__[field.name]
            if not hasattr(annotation, "__metadata__"):
                command.__annotations__[field.name] = Annotated[annotation, tyro.conf.arg(metavar=field.name.upper())]
                command.__annotations__[field.name] = tyro.conf.Positional[command.__annotations__[field.name]]
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.UseAppendAction)
    return tyro.cli(command, prog=f"claimwise {name}", args=list(arguments), description=command.__doc__, config=config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without Greek letters still shows the rest
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except UsageError as error:
        sys.stderr.write(f"claimwise: {error}\n")
        return USAGE
    except KeyboardInterrupt:
        sys.stderr.write("claimwise: stopped; run it again to go on where it was\n")
        return 130
    except BrokenPipeError:  # e.g. claimwise list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return status


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _print(_help())
        return OK if words else USAGE
    if words[0] == "--version":
        _print(f"claimwise {claimwise.__version__}")
        return OK
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        raise UsageError(
            f"unknown command {name!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}")
        )
    command = _parse(name, words[len(name.split()) :])
    try:
        return int(command())
    except UsageError:
        raise
    except Exception as error:
        from claimwise.data import DataError
        from claimwise.lab.storage import CorruptFile

        if isinstance(error, DataError):
            raise UsageError(str(error)) from None
        if isinstance(error, OSError | CorruptFile):  # a full disk, a folder that cannot be written, a damaged file
            sys.stderr.write(f"claimwise: {error}\n")
        else:  # a fault of ours; Python's own status 1 would read as "refuted" or "drifted"
            import traceback

            traceback.print_exc()
        return BROKEN


if __name__ == "__main__":
    sys.exit(main())
