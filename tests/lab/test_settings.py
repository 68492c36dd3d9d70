"""Settings given as text."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from claimwise.lab.paper import Paper, Plan
from claimwise.lab.settings import SettingError, apply_settings


@dataclass(frozen=True)
class Many:
    """Every kind of setting."""

    count: int = 1
    rate: float = 0.5
    name: str = "a"
    flag: bool = False
    kind: Literal["x", "y"] = "x"
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "b")
    limit: int | None = None


@pytest.fixture
def paper() -> Paper:
    paper = Paper("settings_test")

    @paper.experiment(quick=Plan(Many()))
    def first(run: Any, setup: Many) -> dict[str, float]:
        return {}

    @paper.experiment(quick=Plan(Many(count=7)), small=Plan(Many()))
    def second(run: Any, setup: Many) -> dict[str, float]:
        return {}

    return paper


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("count=3", "count", 3),
        ("rate=0.25", "rate", 0.25),
        ("rate=2", "rate", 2.0),
        ("rate=1e-3", "rate", 1e-3),
        ("name=12", "name", "12"),
        ("name=a=b", "name", "a=b"),
        ("flag=true", "flag", True),
        ("flag=True", "flag", True),
        ("kind=y", "kind", "y"),
        ("widths=3,4,5", "widths", (3, 4, 5)),
        ("widths=[3]", "widths", (3,)),
        ("pair=2,c", "pair", (2, "c")),
        ("limit=4", "limit", 4),
        ("limit=None", "limit", None),
    ],
)
def test_values_of_every_type(paper: Paper, text: str, field: str, value: Any) -> None:
    ((experiment, setup),) = apply_settings(paper, "quick", [f"first.{text}"]).items()
    assert experiment.name == "first"
    found = getattr(setup, field)
    assert found == value
    assert type(found) is type(value)


def test_several_settings_join_and_other_experiments_stay_out(paper: Paper) -> None:
    changed = apply_settings(paper, "quick", ["second.rate=0.1", "second.name=z"])
    assert [e.name for e in changed] == ["second"]
    assert next(iter(changed.values())) == Many(count=7, rate=0.1, name="z")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first.cuont=3", "did you mean 'count'"),
        ("frist.count=3", "did you mean 'first'"),
        ("first.count=3.5", "takes int, got '3.5'"),
        ("first.count=true", "takes int, got 'true'"),
        ("first.flag=1", "takes bool, got '1'"),
        ("first.kind=z", "got 'z'"),
        ("first.widths=a,b", "got 'a,b'"),
        ("first.pair=2", "got '2'"),
        ("first=3", "takes experiment.field=value"),
        ("first.count", "takes experiment.field=value"),
    ],
)
def test_what_is_refused(paper: Paper, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        apply_settings(paper, "quick", [text])


def test_an_experiment_without_a_plan_at_the_scale(paper: Paper) -> None:
    with pytest.raises(SettingError, match="no experiment 'first' at scale small"):
        apply_settings(paper, "small", ["first.count=3"])


def test_of_a_written_paper(written_paper: Callable[..., Path]) -> None:
    """Annotations of a module's own are resolved there."""
    from claimwise.papers import load

    paper = load(str(written_paper("@paper.experiment(quick=Plan(Setup()))\ndef net(run, setup): ...\n")))
    ((_, setup),) = apply_settings(paper, "quick", ["net.size=3"]).items()
    assert setup.size == 3.0
