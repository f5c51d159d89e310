"""The settings of a run in the words of the form: each with its value, and who chose it. No torch here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue
from pydantic.fields import FieldInfo

from data.spec import Frozen
from models.config import Experiment

Chooser = Literal["default", "user", "program"]
OPEN = (None, "auto")  # values that leave the choice to the program
BY_DEFAULT = re.compile(r"\bby default ([^;]+)")  # in a description


@dataclass(frozen=True)
class Setting:
    """One line of the settings."""

    section: str
    title: str
    value: str
    by: Chooser  # user: differs from the default


def settings(experiment: Experiment, decided: Mapping[str, JsonValue] | None = None) -> tuple[Setting, ...]:
    """Every value that decided the run. `decided`: path -> the value of a setting that was left open."""
    lines: list[Setting] = []
    for name, field in type(experiment).model_fields.items():
        value = getattr(experiment, name)
        if isinstance(value, Frozen):
            section = field.title or name.capitalize()
            kind = getattr(_usual(field), "kind", None)
            lines += _lines(section, value, path=name, kind=kind, kind_title="Kind", decided=decided or {})
    return tuple(lines)


def _lines(
    section: str, value: Frozen, *, path: str, kind: str | None, kind_title: str, decided: Mapping[str, JsonValue]
) -> Iterator[Setting]:
    """`kind`: the default one. A value inside another one, such as the loss in the training, follows by its kind."""
    for key, field in type(value).model_fields.items():
        chosen, at, title = getattr(value, key), f"{path}.{key}", field.title or key.replace("_", " ").capitalize()
        if key == "kind":
            yield Setting(section, kind_title, chosen, "default" if chosen == kind else "user")
        elif isinstance(chosen, Frozen):
            inner = getattr(_usual(field), "kind", None)
            yield from _lines(section, chosen, path=at, kind=inner, kind_title=title, decided=decided)
        else:
            yield Setting(section, title, *_shown(chosen, field, at, decided))


def _shown(chosen: object, field: FieldInfo, path: str, decided: Mapping[str, JsonValue]) -> tuple[str, Chooser]:
    if chosen in OPEN and path in decided:
        value = decided[path]
        return ("not used", "default") if value is None else (_text(value), "program")
    if chosen == _usual(field):
        by_default = BY_DEFAULT.search(field.description or "") if chosen is None else None
        return (by_default[1], "program") if by_default else (_text(chosen), "default")
    return _text(chosen), "user"


def _usual(field: FieldInfo) -> object:
    return field.get_default(call_default_factory=True)


def _text(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple() | list():
            return ", ".join(_text(item) for item in value)
        case _:
            return str(value)
