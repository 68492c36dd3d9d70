"""Settings given as text become values of the setup's types, or one clear message."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from claimwise.lab import Paper, Plan
from claimwise.lab.settings import SettingError, apply_settings


@dataclass(frozen=True)
class Setup:
    """Settings."""

    size: float = 1.0
    epochs: int = 5
    name: str = "digits"
    fast: bool = False
    kind: Literal["sgd", "adam"] = "sgd"
    rate: float | None = None
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[float, str] = (0.5, "a")
    many: list[float] | None = None
    anything: Any = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"Setup: epochs must be >= 1, got {self.epochs}")


paper = Paper("trial")


@paper.experiment(quick=Plan(Setup()), small=Plan(Setup(epochs=50)))
def net(run, setup):
    pass


@paper.experiment(small=Plan(Setup()))
def late(run, setup):
    pass


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("size=0.25", "size", 0.25),
        ("size=2", "size", 2.0),
        ("size=-1e-3", "size", -1e-3),
        ("epochs=7", "epochs", 7),
        ("name=mnist", "name", "mnist"),
        ("name=5", "name", "5"),
        ("name=true", "name", "true"),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        ("fast=true", "fast", True),
        ("fast=True", "fast", True),
        ("fast=false", "fast", False),
        ("kind=adam", "kind", "adam"),
        ("rate=0.5", "rate", 0.5),
        ("rate=None", "rate", None),
        ("rate=null", "rate", None),
        ("widths=3,4,5", "widths", (3, 4, 5)),
        ("widths=[3, 4]", "widths", (3, 4)),
        ("widths=[]", "widths", ()),
        ("pair=2,b", "pair", (2.0, "b")),
        ("many=0.5,1", "many", [0.5, 1.0]),
        ('anything={"a": 1}', "anything", {"a": 1}),
    ],
)
def test_text_becomes_a_value_of_the_fields_type(text, field, value):
    changed = apply_settings(paper, "quick", [f"net.{text}"])
    assert list(changed) == [net]
    got = getattr(changed[net], field)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size=big", "net.size takes float, got 'big'"),
        ("size=true", "net.size takes float, got 'true'"),
        ("size=", "net.size takes float, got ''"),
        ("epochs=2.5", "net.epochs takes int, got '2.5'"),
        ("epochs=true", "net.epochs takes int"),
        ("epochs=1e3", "net.epochs takes int, got '1e3'"),
        ("fast=1", "net.fast takes bool, got '1'"),
        ("fast=yes", "net.fast takes bool"),
        ("kind=lion", r"net.kind takes .*'sgd', 'adam'"),
        ("rate=fast", r"net.rate takes float \| None"),
        ("widths=3,x", "net.widths takes"),
        ("widths=3", "net.widths takes"),
        ("pair=1,b,c", "net.pair takes"),
        ("epochs=0", r"net.epochs=0: Setup: epochs must be >= 1, got 0"),
    ],
)
def test_a_value_of_another_type_is_refused(text, said):
    with pytest.raises(SettingError, match=said):
        apply_settings(paper, "quick", [f"net.{text}"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("net.sise=1", "trial.net has no setting 'sise'; did you mean 'size'?"),
        ("net.zzz=1", "trial.net has no setting 'zzz'; there are size, epochs"),
        ("nett.size=1", "trial has no experiment 'nett' at scale quick; did you mean 'net'?"),
        ("late.size=1", "trial has no experiment 'late' at scale quick; "),
        ("size=1", "--set takes experiment.field=value, got 'size=1'"),
        ("net.size", "--set takes experiment.field=value, got 'net.size'"),
        ("net.=1", "--set takes experiment.field=value"),
        (".size=1", "trial has no experiment ''"),
        ("", "--set takes experiment.field=value"),
        ("net.__class__=1", "trial.net has no setting '__class__'"),
    ],
)
def test_an_unknown_experiment_or_field_names_the_nearest(text, said):
    with pytest.raises(SettingError) as raised:
        apply_settings(paper, "quick", [text])
    assert said in str(raised.value)


def test_several_settings_join_and_the_plan_stays():
    changed = apply_settings(paper, "small", ["net.size=3", "late.epochs=2", "net.name=x", "net.size=4"])
    assert changed == {net: Setup(4.0, 50, "x"), late: Setup(epochs=2)}
    assert net.plans["small"].setup == Setup(epochs=50)
    assert apply_settings(paper, "small", []) == {}
