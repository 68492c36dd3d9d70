"""Settings given as text (``--set maxout.epsilon=0.1``), checked against the types of the setup's fields."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Sequence
from typing import Any

from claimwise.lab.paper import Experiment, Paper


class SettingError(ValueError):
    """A setting that is unknown or of the wrong type, with the way out."""


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def _typed(value: Any, annotation: Any) -> Any:
    """`value` as the annotation wants it.

    Raises:
        TypeError: where it is of another type.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _typed(value, option)
            except TypeError:
                continue
    elif origin is typing.Literal:
        if value in arguments:
            return value
    elif annotation is None or annotation is type(None):
        if value is None:
            return None
    elif annotation is bool:
        if isinstance(value, bool):
            return value
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif annotation is str:
        if isinstance(value, str):
            return value
    elif origin in (tuple, list) and isinstance(value, list):
        if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
            return origin(_typed(item, arguments[0]) for item in value)
        if len(arguments) == len(value):
            return tuple(_typed(item, option) for item, option in zip(value, arguments, strict=True))
    raise TypeError


def _read(text: str) -> list[Any]:
    """What a text may mean: JSON, Python's words for booleans and None, or the text itself."""
    words = {"True": True, "False": False, "None": None}
    meanings: list[Any] = [words[text]] if text in words else []
    try:
        meanings.append(json.loads(text))
    except ValueError:
        if "," in text:
            meanings.append([_read(item.strip())[0] for item in text.split(",")])
    return [*meanings, text]


def apply_settings(paper: Paper, scale: str, assignments: Sequence[str]) -> dict[Experiment, Any]:
    """The changed setups, by experiment; experiments that no setting names are left out.

    Args:
        paper: The paper.
        scale: The scale whose plan is changed.
        assignments: Texts ``experiment.field=value``.

    Raises:
        SettingError: for an unknown experiment or field (with the nearest one), or a value of the wrong type.
    """
    changed: dict[Experiment, Any] = {}
    here = paper.experiments_at(scale)
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        name, dot, field = target.partition(".")
        if not (equals and dot and field):
            raise SettingError(f"--set takes experiment.field=value, got {assignment!r}")
        if name not in here:
            raise SettingError(f"{paper.key} has no experiment {name!r} at scale {scale}; {_nearest(name, list(here))}")
        experiment = here[name]
        setup = changed.get(experiment, experiment.plans[scale].setup)
        hints = typing.get_type_hints(type(setup))
        fields = [f.name for f in dataclasses.fields(setup)]
        if field not in fields:
            raise SettingError(f"{paper.key}.{name} has no setting {field!r}; {_nearest(field, fields)}")
        for meaning in _read(text):
            try:
                value = _typed(meaning, hints[field])
                break
            except TypeError:
                continue
        else:
            plain = isinstance(hints[field], type) and not typing.get_args(hints[field])
            wanted = hints[field].__name__ if plain else str(hints[field]).replace("typing.", "")
            raise SettingError(f"{name}.{field} takes {wanted}, got {text!r}")
        try:
            changed[experiment] = dataclasses.replace(setup, **{field: value})
        except (ValueError, TypeError) as error:  # the setup's own check of its values
            raise SettingError(f"{name}.{field}={text}: {error}") from None
    return changed
