"""A paper at a scale: its plan, its runs, what they say of its claims, and the record of that."""

import datetime
import hashlib
import inspect
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from claimwise.lab import statistics
from claimwise.lab.criteria import CriterionError
from claimwise.lab.measurements import to_stored
from claimwise.lab.paper import Experiment, Paper
from claimwise.lab.records import ClaimOutcome, FigureRecord, PaperRecord, PlanRow
from claimwise.lab.reference import Reference
from claimwise.lab.run import FinishedRun, Hardware, Workspace, environment, find, setup_fields
from claimwise.lab.storage import locked, read_json, write_json
from claimwise.lab.stored import Stored
from claimwise.lab.suite import Ended, Job
from claimwise.lab.verdicts import evaluate

UNFIT = "the criterion does not fit the measurements"


@dataclass(frozen=True)
class Seeds:
    """Which seeds of each experiment are asked for."""

    count: int | None = None
    """Another number than planned; None is the plan."""
    fresh: bool = False
    """The next N seeds after the ones that were used, for a criterion that was edited after its run."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"seeds must be a whole number >= 1, got {self.count}")
        if self.count is not None and self.fresh:
            raise ValueError("fresh seeds are as many as planned: give either --seeds or --fresh")

    def of(self, planned: int, unused: int = 0) -> range:
        """The seeds for a plan of that many; fresh ones from the first that no experiment of the paper has used."""
        if self.fresh:
            return range(unused, unused + planned)
        return range(planned if self.count is None else self.count)


def jobs_of(paper: Paper, scale: str, seeds: Seeds, reference: Reference | None = None) -> list[Job]:
    """Every run of a paper at a scale; experiments in the order of the module, so that needed ones come first.

    Fresh seeds start where neither a plan nor the reference results, if a criterion was edited since, have used them:
    at one seed for all experiments, since claims pair them.
    """
    experiments = paper.experiments_at(scale).values()
    unused = max(experiment.plans[scale].seeds for experiment in experiments)
    if reference is not None:
        unused = max(unused, reference.used(paper, scale))
    return [
        Job.of(experiment, experiment.plans[scale].setup, seed)
        for experiment in experiments
        for seed in seeds.of(experiment.plans[scale].seeds, unused)
    ]


def jobs_again(paper: Paper, scale: str, reference: Reference) -> list[Job]:
    """The runs that reference results were made from; where they tell none of an experiment, its plan."""
    return [
        Job.of(experiment, experiment.plans[scale].setup, seed)
        for experiment in paper.experiments_at(scale).values()
        for seed in reference.seeds_of(experiment.name) or range(experiment.plans[scale].seeds)
    ]


def runs_at_hand(
    paper: Paper, scale: str, seeds: Seeds, workspace: Workspace, hardware: Hardware
) -> dict[Experiment, list[FinishedRun]]:
    """The finished runs of a paper at a scale that are current: their code, data and versions are those of now."""
    found: dict[Experiment, list[FinishedRun]] = {}
    for experiment in paper.experiments_at(scale).values():
        plan = experiment.plans[scale]
        runs = [find(experiment, plan.setup, seed, workspace, hardware) for seed in seeds.of(plan.seeds)]
        if finished := [run for run in runs if run is not None]:
            found[experiment] = finished
    return found


def runs_of(paper: Paper, ended: Iterable[Ended]) -> dict[Experiment, list[FinishedRun]]:
    """The finished runs of a suite by experiment."""
    found: dict[Experiment, list[FinishedRun]] = {}
    for end in ended:
        if end.run is not None and end.job.module == paper.module:
            found.setdefault(paper.experiments[end.job.experiment], []).append(end.run)
    return found


def broken_of(paper: Paper, ended: Iterable[Ended]) -> dict[str, str]:
    """The experiments of a paper that broke, with the first line of their error."""
    broken: dict[str, str] = {}
    for end in ended:
        if end.run is None and end.job.module == paper.module:
            broken.setdefault(end.job.experiment, end.error.splitlines()[0] if end.error else "no message")
    return broken


# looks ---------------------------------------------------------------------------------------------------------------


def _look(workspace: Workspace, experiment: Experiment, scale: str, seeds: int) -> int:
    """Which look at the data this is: 0 at the planned number of seeds, k at the k-th recorded extension."""
    planned = experiment.plans[scale].seeds
    if seeds <= planned:
        return 0
    setup = hashlib.sha256(json.dumps(setup_fields(experiment.plans[scale].setup), sort_keys=True).encode()).hexdigest()
    path = workspace.runs / experiment.collection.key / "looks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    key = f"{experiment.name}-{setup[:16]}"
    with locked(path.with_suffix(".lock")):
        looks: dict[str, list[int]] = read_json(path) if path.exists() else {}
        extensions = looks.setdefault(key, [])
        if seeds not in extensions:
            extensions.append(seeds)
            write_json(path, looks)
    return extensions.index(seeds) + 1


# the record ----------------------------------------------------------------------------------------------------------


def plan_rows(paper: Paper, scales: Sequence[str]) -> tuple[PlanRow, ...]:
    """The plan of every experiment at the given scales, with the smallest effect that it detects."""
    rows = []
    for scale in scales:
        for experiment in paper.experiments_at(scale).values():
            plan = experiment.plans[scale]
            rows.append(
                PlanRow(
                    experiment=experiment.name,
                    about=experiment.about or (inspect.getdoc(type(plan.setup)) or "").split("\n")[0],
                    scale=scale,
                    seeds=plan.seeds,
                    setup=setup_fields(plan.setup),
                    smallest_effect=statistics.smallest_effect(plan.seeds) if plan.seeds > 1 else None,
                    cost=plan.cost,
                )
            )
    return tuple(rows)


def _short(paper: Paper, claim_experiments: Iterable[Experiment], scale: str, results: Mapping[str, Stored]) -> str:
    """Why there is no verdict although something was measured: fewer seeds than planned."""
    for experiment in claim_experiments:
        planned = experiment.plans[scale].seeds
        have = len(results[experiment.name].seeds) if experiment.name in results else 0
        if have < planned:
            return f"{experiment.name}: {have} of the planned {planned} seeds ran; the verdict is given at the plan"
    return ""


def outcomes(
    paper: Paper,
    scale: str,
    runs: Mapping[Experiment, Sequence[FinishedRun]],
    workspace: Workspace,
    *,
    broken: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    again: bool = False,
) -> tuple[ClaimOutcome, ...]:
    """What the runs say of every claim of a paper; `again`: at the reference's look, which this repeats."""
    results = {experiment.name: Stored.of(experiment, found) for experiment, found in runs.items() if found}
    looks = {} if again else {e.name: _look(workspace, e, scale, len(runs[e])) for e in runs if scale in e.plans}
    found = []
    for claim in paper.claims.values():
        experiments = claim.experiments(scale)
        look = max((looks.get(name, 0) for name in experiments), default=0)
        if again and reference is not None and claim.id in reference.claims:
            look = reference.claims[claim.id].look
        judge = partial(
            evaluate,
            claim,
            scale,
            look=look,
            broken=broken,
            warning=reference.warning(claim, scale, results) if reference is not None else "",
        )
        try:
            found.append(judge(results, short=_short(paper, experiments.values(), scale, results)))
        except (CriterionError, LookupError) as error:  # one claim that is wrong must not hide the others' verdicts
            found.append(judge({}, short=f"{UNFIT}: {error}"))
    return tuple(found)


@dataclass(frozen=True)
class Drawn:
    """A figure of a paper, drawn, or the error of drawing it."""

    name: str
    title: str
    caption: str
    figure: Any = None
    error: str = ""
    publish: bool = True
    """Whether all data that its runs read may be published."""


def draw_figures(paper: Paper, runs: Mapping[Experiment, Sequence[FinishedRun]]) -> list[Drawn]:
    """Every figure whose experiments all have runs; one that breaks does not keep the others from being drawn."""
    drawn = []
    for spec in paper.figures:
        if all(runs.get(experiment) for experiment in spec.experiments):
            results = {experiment: Stored.of(experiment, runs[experiment]) for experiment in spec.experiments}
            name = spec.draw.__name__
            read = [
                data for experiment in spec.experiments for run in runs[experiment] for data in _data_of(run).values()
            ]
            publish = all(data.get("publish", True) for data in read)
            try:
                drawn.append(Drawn(name, spec.title, spec.caption, spec.draw(results), publish=publish))
            except Exception as error:
                drawn.append(Drawn(name, spec.title, spec.caption, error=f"{type(error).__name__}: {error}"))
    return drawn


def stamp(runs: Mapping[Experiment, Sequence[FinishedRun]], hardware: Hardware) -> dict[str, Any]:
    """What produced the numbers. `commit` is that of the verdicts, `run_commits` those at which runs were begun."""
    data: dict[str, Any] = {}
    commits = set()
    for found in runs.values():
        for run in found:
            data |= _data_of(run)
            commits.add(read_json(run.folder / "environment.json")["commit"])
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **environment(hardware),
        "run_commits": sorted(commits - {""}),
        "data": data,
        "runs": {
            f"{experiment.name}-seed{run.seed}": run.identity[:16]
            for experiment, found in runs.items()
            for run in found
        },
    }


def _data_of(run: FinishedRun) -> dict[str, Any]:
    """The data sets that a run read, also through shared runs, and theirs."""
    return _data_read(run.inputs, run.folder.parents[2])


def _data_read(inputs: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    data = dict(inputs["data"])
    for record in inputs["runs"].values():
        for shared in runs.glob(f"*/{record['experiment']}/{record['folder']}/inputs.json"):
            data |= _data_read(read_json(shared), runs)
    return data


def record_of(
    paper: Paper,
    scale: str,
    runs: Mapping[Experiment, Sequence[FinishedRun]],
    workspace: Workspace,
    hardware: Hardware,
    *,
    broken: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    figures: bool = True,
    again: bool = False,
) -> PaperRecord:
    """The whole record of a paper at a scale, for every report; `again`: a repetition of the reference's look."""
    pictures: list[FigureRecord] = []
    broke = dict(broken or {})
    if figures:
        from claimwise.lab.figures import themed_svg

        for drawn in draw_figures(paper, runs):
            if drawn.error:
                broke[f"figure {drawn.name}"] = drawn.error
            else:
                pictures.append(FigureRecord(drawn.title, themed_svg(drawn.figure, drawn.title), drawn.caption))
    claims = outcomes(paper, scale, runs, workspace, broken=broken, reference=reference, again=again)
    broke |= {f"claim {claim.claim}": claim.reason for claim in claims if claim.reason.startswith(UNFIT)}
    entry = paper.entry
    return PaperRecord(
        key=paper.key,
        title=entry.title,
        authors=entry.authors,
        venue=entry.venue,
        year=entry.year,
        url=entry.url,
        topic=entry.topic,
        note=paper.note,
        scale=scale,
        seconds=round(sum(run.seconds for found in runs.values() for run in found), 3),
        claims=claims,
        plans=plan_rows(paper, [scale]),
        figures=tuple(pictures),
        command=f"claimwise run {paper.key}" + ("" if scale == "quick" else f" --scale {scale}"),
        stamp=stamp(runs, hardware),
        broken=broke,
        bibtex=entry.source,
    )


def measurements_of(runs: Mapping[Experiment, Sequence[FinishedRun]]) -> dict[str, Any]:
    """Measurements by experiment and seed as plain values, for exploratory runs."""
    plain: dict[str, Any] = {}
    for experiment, found in runs.items():
        for run in found:
            values, arrays = to_stored(run.measurements)
            for name, array in arrays.items():
                values[name.rpartition(".")[0]][name.rpartition(".")[2]] = _plain(array.tolist())
            for value in values.values():
                value |= {key: _plain(number) for key, number in value.items() if isinstance(number, float)}
            plain.setdefault(experiment.name, {})[str(run.seed)] = values
    return plain


def _plain(value: Any) -> Any:
    """JSON has no nan and no infinities: they become null."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def keep_verdicts(record: PaperRecord, workspace: Workspace) -> Path:
    """Write the verdicts beside the runs, where `list` and the index find them."""
    path = workspace.runs / record.key / f"{record.scale}.verdicts.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    claims = [{"claim": c.claim, "verdict": c.verdict, "fidelity": c.fidelity} for c in record.claims]
    write_json(path, {"paper": record.key, "scale": record.scale, "date": record.stamp["date"], "claims": claims})
    return path
