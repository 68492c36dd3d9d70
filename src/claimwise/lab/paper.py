"""Papers, their experiments and their claims, as declared by a paper's module.

Everything is checked where it is declared, so that a paper which imports is well-formed; nothing runs here.
"""

import dataclasses
import importlib
import inspect
import json
import math
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from claimwise.lab.bibliography import Entry, read_bibliography
from claimwise.lab.criteria import Criterion, Expression, Leaf
from claimwise.lab.records import FIDELITIES, SCALES

READING_LIST = "reading_list.bib"
"""Stands beside the modules of a collection of papers."""

Sureness = Literal["paper", "seen", "official code", "computed", "high", "med", "low"]
REASON_CLASSES = ("data", "hardware", "people", "not empirical")


@dataclass(frozen=True)
class Plan:
    """One scale of an experiment: its settings and how many seeds, fixed before the run.

    Seeds are 0 to `seeds` - 1: 5 by default, 10 where a seed costs seconds, 3 only where cost forces it.
    A run computes with one thread, or with as many as a field `threads` of its setup says.
    """

    setup: Any
    seeds: int = 5
    cost: str = ""
    """What a run costs where that is more than the scale's usual, e.g. "about 6 h on one GPU"."""

    def __post_init__(self) -> None:
        if not (dataclasses.is_dataclass(self.setup) and not isinstance(self.setup, type)):
            raise TypeError(f"Plan: setup must be an instance of a frozen dataclass, got {self.setup!r}")
        if not type(self.setup).__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"Plan: {type(self.setup).__name__} must be frozen: @dataclass(frozen=True)")
        if not (isinstance(self.seeds, int) and self.seeds >= 1):
            raise ValueError(f"Plan: seeds must be a whole number >= 1, got {self.seeds!r}")
        threads = getattr(self.setup, "threads", 1)
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ValueError(f"Plan: {type(self.setup).__name__}.threads must be a whole number >= 1, got {threads!r}")
        for name, value in dataclasses.asdict(self.setup).items():
            try:
                json.dumps(value)
            except TypeError:
                raise TypeError(
                    f"Plan: {type(self.setup).__name__}.{name} must be numbers, strings, booleans, None, or lists, "
                    f"tuples and dicts of them, since a run is named by its setup; got {value!r}"
                ) from None


@dataclass(frozen=True)
class Reported:
    """A figure that the paper reports, and how sure we are of it.

    Without a tolerance, a measured interval agrees when it lies within 10 % of the figure or its printed precision,
    whichever is larger. A figure recalled with low certainty is shown, but is never a target.
    """

    value: float
    sure: Sureness
    tolerance: float | None = None
    because: str = ""
    """Why that tolerance."""

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise TypeError(f"Reported: value must be a number, got {self.value!r}")
        if not math.isfinite(self.value):
            raise ValueError(f"Reported: value must be finite, got {self.value!r}")
        if self.sure not in typing.get_args(Sureness):
            raise ValueError(f"Reported: sure must be one of {', '.join(typing.get_args(Sureness))}, got {self.sure!r}")
        if self.tolerance is not None and not (self.tolerance >= 0 and self.because):
            raise ValueError("Reported: a tolerance must be >= 0 and needs its reason in `because`")


@dataclass(frozen=True)
class NotTested:
    """Why a claim is tested at no scale. Time is no reason: give the claim a `paper` scale with its cost."""

    reason: str
    detail: str

    def __post_init__(self) -> None:
        if self.reason not in REASON_CLASSES:
            raise ValueError(
                f"NotTested: reason must be one of {', '.join(REASON_CLASSES)}, got {self.reason!r}"
                + ("; time is not one: give the claim a `paper` scale" if self.reason == "time" else "")
            )
        if not self.detail:
            raise ValueError("NotTested: say in `detail` what exactly is lacking")


class Experiment:
    """A pure function of (setup, seed) with a plan for each scale at which it can honestly run.

    ``experiment["name"]`` is a measurement in a criterion; calling the experiment calls the function.
    """

    def __init__(self, collection: "Collection", function: Callable[..., Any], plans: Mapping[str, Plan]) -> None:
        self.collection = collection
        self.function = function
        self.plans = dict(plans)
        self.__doc__ = function.__doc__

    @property
    def name(self) -> str:
        """What a person types: the function's name."""
        return self.function.__name__

    @property
    def address(self) -> str:
        """The experiment among all of all papers, e.g. ``fgsm.maxout``."""
        return f"{self.collection.key}.{self.name}"

    @property
    def about(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    def __call__(self, run: Any, setup: Any) -> Any:
        return self.function(run, setup)

    def __getitem__(self, measurement: str) -> Leaf:
        if not (isinstance(measurement, str) and measurement.isidentifier()):
            raise TypeError(f"{self.address}: a measurement is named by an identifier, got {measurement!r}")
        return Leaf(self, measurement)

    def __repr__(self) -> str:
        return f"<experiment {self.address}>"


def find_experiment(module: str, name: str) -> Experiment:
    """The experiment that a module declares under a name, importing the module.

    Raises:
        LookupError: if it declares none of that name.
    """
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, Collection) and value.module == module and name in value.experiments:
            return value.experiments[name]
    raise LookupError(f"{module}: declares no experiment {name!r}")


class Collection:
    """A named set of experiments, e.g. the models that several papers share."""

    def __init__(self, key: str) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_name == "__init__" and frame.f_back is not None:  # the module, past subclasses
            frame = frame.f_back
        if not key.isidentifier():
            raise ValueError(f"{type(self).__name__}: the key must be an identifier, got {key!r}")
        self.key = key
        self.module: str = frame.f_globals.get("__name__", "__main__")
        self.file = Path(frame.f_globals.get("__file__") or f"{key}.py")
        self.note = inspect.cleandoc(frame.f_globals.get("__doc__") or "")
        self.experiments: dict[str, Experiment] = {}

    def experiment(self, **plans: Plan) -> Callable[[Callable[..., Any]], Experiment]:
        """Declare an experiment with its plans by scale; a scale left out cannot honestly run.

        Raises:
            ValueError: for an unknown scale, plans with different setups, or a name given twice.
        """
        for scale, plan in plans.items():
            if scale not in SCALES:
                raise ValueError(f"{self.key}: unknown scale {scale!r}; the scales are {', '.join(SCALES)}")
            if not isinstance(plan, Plan):
                raise TypeError(f"{self.key}: {scale} needs a Plan(setup, seeds=...), got {plan!r}")
        if len({type(plan.setup) for plan in plans.values()}) > 1:
            raise ValueError(f"{self.key}: the plans of one experiment must share one setup class")

        def declare(function: Callable[..., Any]) -> Experiment:
            experiment = Experiment(self, function, plans)
            if experiment.name in self.experiments:
                raise ValueError(f"{self.key}: the experiment {experiment.name!r} is declared twice")
            self.experiments[experiment.name] = experiment
            return experiment

        return declare


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim of a paper with its criterion; see :meth:`Paper.claim`."""

    paper: "Paper"
    id: str
    sheet: tuple[str, ...]
    says: str
    where: str
    reported: tuple[tuple[Expression | str, Reported], ...]
    criteria: Mapping[str, Criterion]
    """By scale."""
    because: str
    fidelity: Mapping[str, str]
    differences: Mapping[str, str]
    """By scale."""
    not_tested: NotTested | None

    def experiments(self, scale: str) -> dict[str, Experiment]:
        """The experiments that the criterion reads at a scale, by name."""
        leaves = self.criteria[scale].leaves().values() if scale in self.criteria else ()
        return {leaf.experiment.name: typing.cast(Experiment, leaf.experiment) for leaf in leaves}


@dataclass(frozen=True, eq=False)
class FigureSpec:
    """A figure drawn from the stored measurements of all seeds."""

    experiments: tuple[Experiment, ...]
    draw: Callable[..., Any]
    title: str
    caption: str


def _words(value: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(value.split()) if isinstance(value, str) else tuple(value)


class Paper(Collection):
    """A paper: its note (the module's docstring), experiments, claims and figures.

    Title, authors, venue and year come from the ``reading_list.bib`` beside the module, by key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.claims: dict[str, Claim] = {}
        self.figures: list[FigureSpec] = []

    @cached_property
    def entry(self) -> Entry:
        """The bibliographic entry; one that is missing is an error that says where it belongs."""
        path = self.file.parent / READING_LIST
        entries = read_bibliography(path)
        if self.key not in entries:
            raise LookupError(
                f"{self.key}: no entry @misc{{{self.key}, ...}} in {path}; add one with title, author, year, url"
            )
        return entries[self.key]

    def claim(
        self,
        id: str,
        *,
        sheet: str | Sequence[str],
        says: str,
        where: str,
        reported: Mapping[Expression | str, Reported] | None = None,
        holds: Criterion | Mapping[str, Criterion] | None = None,
        because: str = "",
        fidelity: Mapping[str, str] | None = None,
        differences: str | Mapping[str, str] = "",
        not_tested: NotTested | None = None,
    ) -> Claim:
        """Declare a claim, before its runs.

        Args:
            id: The claim's name within the paper.
            sheet: Row(s) of the paper's sheet that it covers, "F2" or "F2 F9".
            says: The statement in our own words.
            where: Where it stands in the paper.
            reported: The paper's figures by measurement (or by a name, where nothing of ours measures it).
            holds: The criterion, or one by scale.
            because: Why that criterion: why these thresholds and margins decide the statement.
            fidelity: By scale, for every scale that can test the claim.
            differences: What differs from the paper, or that by scale.
            not_tested: Why no scale can test it; then neither `holds` nor `fidelity` is given.

        Raises:
            ValueError: where a part is missing, unknown or contradicts another, with the way out.
        """
        owner = f"{self.key}: claim {id!r}"
        if id in self.claims:
            raise ValueError(f"{owner} is declared twice")
        for what, given in (("sheet", _words(sheet)), ("says", says), ("where", where)):
            if not given:
                raise ValueError(f"{owner}: `{what}` is missing")
        if not isinstance(fidelity, Mapping | None):
            raise TypeError(f'{owner}: fidelity is given by scale, e.g. {{"quick": STAND_IN}}, got {fidelity!r}')
        fidelity = dict(fidelity or {})
        if not_tested is not None:
            if holds is not None or fidelity:
                raise ValueError(f"{owner}: a claim that is not tested has neither `holds` nor `fidelity`")
        elif holds is None or not because or not fidelity:
            raise ValueError(f"{owner}: needs `holds`, `because` and `fidelity`, or `not_tested` with its reason")
        for scale, value in fidelity.items():
            if scale not in SCALES or value not in FIDELITIES:
                raise ValueError(f"{owner}: fidelity must map {SCALES} to {FIDELITIES}, got {scale!r}: {value!r}")
        criteria = dict(holds) if isinstance(holds, Mapping) else {s: holds for s in fidelity if holds is not None}
        for scale, criterion in criteria.items():
            if not isinstance(criterion, Criterion):
                raise TypeError(f"{owner}: `holds` must be a criterion such as a > 0.5, got {criterion!r}")
            if scale not in fidelity:
                raise ValueError(f"{owner}: a criterion at scale {scale!r} needs its fidelity there")
        if missing := [scale for scale in fidelity if scale not in criteria]:
            raise ValueError(f"{owner}: fidelity is given at {', '.join(missing)}, but no criterion")
        if isinstance(differences, Mapping) and (unknown := sorted(set(differences) - set(fidelity))):
            raise ValueError(f"{owner}: `differences` speaks of {', '.join(unknown)}, where the claim is not tested")
        for quantity, figure in (reported or {}).items():
            if not isinstance(quantity, Expression | str) or not isinstance(figure, Reported):
                raise TypeError(
                    f"{owner}: `reported` maps a measurement (or a name) to Reported(value, sure), "
                    f"got {quantity!s}: {figure!r}"
                )
        if len({str(quantity) for quantity in reported or {}}) < len(reported or {}):
            raise ValueError(f"{owner}: `reported` names a quantity twice; give each figure a quantity of its own")
        read = [leaf for criterion in criteria.values() for leaf in criterion.leaves().values()]
        read += [leaf for quantity in reported or {} if isinstance(quantity, Expression) for leaf in quantity.leaves()]
        for leaf in read:
            if self.experiments.get(leaf.experiment.name) is not leaf.experiment:
                raise ValueError(
                    f"{owner}: reads {leaf}, which is no experiment of this paper; "
                    f"measure it in one that gets the shared run by run.needs"
                )
        claim = Claim(
            paper=self,
            id=id,
            sheet=_words(sheet),
            says=says,
            where=where,
            reported=tuple((reported or {}).items()),
            criteria=criteria,
            because=because,
            fidelity=fidelity,
            differences=dict.fromkeys(fidelity, differences) if isinstance(differences, str) else dict(differences),
            not_tested=not_tested,
        )
        for scale in fidelity:
            for leaf in criteria[scale].leaves().values():
                experiment = typing.cast(Experiment, leaf.experiment)
                if scale not in experiment.plans:
                    raise ValueError(
                        f"{owner}: is to be tested at {scale!r}, but {experiment.address} has no plan there; "
                        f"give it one, or leave the scale out of `fidelity`"
                    )
        self.claims[id] = claim
        return claim

    def figure(
        self, *experiments: Experiment, title: str = "", caption: str = ""
    ) -> Callable[[Callable[..., Any]], FigureSpec]:
        """Declare a figure drawn from stored measurements of all seeds, at every scale that its experiments have."""
        if not experiments or not all(isinstance(e, Experiment) for e in experiments):
            raise TypeError(f"{self.key}: @paper.figure takes the experiments it reads, got {experiments!r}")
        for experiment in experiments:
            if self.experiments.get(experiment.name) is not experiment:
                raise ValueError(f"{self.key}: @paper.figure reads {experiment!r}, which is not of this paper")
        if not set.intersection(*(set(experiment.plans) for experiment in experiments)):
            raise ValueError(f"{self.key}: @paper.figure{experiments}: there is no scale that all of them have")

        def declare(draw: Callable[..., Any]) -> FigureSpec:
            spec = FigureSpec(experiments, draw, title or draw.__name__.replace("_", " ").capitalize(), caption)
            self.figures.append(spec)
            return spec

        return declare

    def experiments_at(self, scale: str) -> dict[str, Experiment]:
        """The experiments with a plan at a scale."""
        return {name: e for name, e in self.experiments.items() if scale in e.plans}

    def scales(self) -> tuple[str, ...]:
        """The scales at which some experiment has a plan."""
        return tuple(s for s in SCALES if self.experiments_at(s))

    def __repr__(self) -> str:
        return f"<paper {self.key}: {len(self.claims)} claims, {len(self.experiments)} experiments>"
