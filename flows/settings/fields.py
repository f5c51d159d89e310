"""The settings of an experiment as a flat list: what the command line accepts, and what its help says of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from models.config import Experiment


@dataclass(frozen=True)
class Setting:
    """One leaf of `Experiment`, such as `train.epochs`."""

    path: str
    kind: str | None  # the variant that owns it, such as "vit"; None where there is no choice of variants
    type: str  # for the reader: "integer", "cnn | vit"
    default: str
    limits: str  # "4 to 1024", "greater than 0", or ""
    description: str
    nullable: bool
    boolean: bool
    sequence: bool
    choices: tuple[Any, ...] = ()  # of a closed list; not only texts: 1 | 3


def variants(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The pydantic models that `annotation` allows; empty for a leaf."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))


def kind_of(model: type[BaseModel]) -> str | None:
    """The value of a variant's `kind` field: "cnn" for CNNConfig. None where the choices of `kind` are open."""
    info = model.model_fields.get("kind")
    choices = get_args(info.annotation) if info is not None else ()
    return str(choices[0]) if len(choices) == 1 else None


def settings(model: type[BaseModel] = Experiment, prefix: str = "", kind: str | None = None) -> Iterator[Setting]:
    """Every leaf in the order of declaration; the variants of a union one after the other."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = variants(info.annotation)
        if not inner:
            if kind is None or name != "kind":
                yield _leaf(path, info, kind)
            continue
        if len(inner) > 1:
            yield _choice(f"{path}.kind", info, inner, kind)
        for variant in inner:
            yield from settings(variant, f"{path}.", kind_of(variant) if len(inner) > 1 else kind)


def by_path() -> dict[str, Setting]:
    """How to read each setting. Where kinds share a name, such as `model.layers`, the choices of all are read."""
    known: dict[str, Setting] = {}
    for setting in settings():
        before = known.get(setting.path)
        choices = setting.choices + (before.choices if before is not None else ())
        known[setting.path] = replace(setting, choices=choices)
    return known


def groups() -> dict[str, tuple[str, tuple[Setting, ...]]]:
    """Section name -> (title, settings); the top-level leaves under ""."""
    every = tuple(settings())
    found: dict[str, tuple[str, tuple[Setting, ...]]] = {
        "": ("Experiment", tuple(s for s in every if "." not in s.path))
    }
    for name, info in Experiment.model_fields.items():
        if variants(info.annotation):
            found[name] = (info.title or name, tuple(s for s in every if s.path.startswith(f"{name}.")))
    return found


def _choice(path: str, info: FieldInfo, inner: tuple[type[BaseModel], ...], kind: str | None) -> Setting:
    default = info.get_default(call_default_factory=True)
    kinds = tuple(str(kind_of(variant)) for variant in inner)
    told = "; ".join(f"{kind_of(v)}: {(v.__doc__ or '').strip().splitlines()[0]}" for v in inner)
    chosen = str(getattr(default, "kind", ""))
    return Setting(path, kind, " | ".join(kinds), chosen, "", told, False, False, False, kinds)


def _leaf(path: str, info: FieldInfo, kind: str | None) -> Setting:
    annotation = info.annotation
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    nullable = NoneType in members
    types = tuple(_bare(m) for m in members if m is not NoneType)
    default = info.get_default(call_default_factory=True)
    return Setting(
        path=path,
        kind=kind,
        type=" | ".join(_type_name(t) for t in types),
        default=_shown(default),
        limits=_limits([*info.metadata, *(rule for m in members for rule in getattr(m, "__metadata__", ()))]),
        description=_described(info),
        nullable=nullable,
        boolean=types == (bool,),
        sequence=any(get_origin(t) in (tuple, list) for t in types),
        choices=tuple(c for t in types if get_origin(t) is Literal for c in get_args(t)),
    )


def _bare(annotation: Any) -> Any:
    """Without the limits: Annotated[float, Gt(0)] -> float."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _type_name(annotation: Any) -> str:
    annotation = _bare(annotation)
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (tuple, list):
        return ",".join(_type_name(a) for a in get_args(annotation) if a is not Ellipsis)
    names = {int: "integer", float: "number", str: "text", bool: "yes | no"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(_shown(part) for part in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _described(info: FieldInfo) -> str:
    title, description = info.title or "", info.description or ""
    return f"{title}: {description}" if title and description else title or description


def _limits(rules: Iterable[Any]) -> str:
    low = high = ""
    for rule in rules:
        match rule:
            case annotated_types.Ge(ge=bound):
                low = f"at least {_number(bound)}"
            case annotated_types.Gt(gt=bound):
                low = f"more than {_number(bound)}"
            case annotated_types.Le(le=bound):
                high = f"at most {_number(bound)}"
            case annotated_types.Lt(lt=bound):
                high = f"less than {_number(bound)}"
            case _:
                pass
    return ", ".join(part for part in (low, high) if part)


def _number(bound: Any) -> str:
    return f"{bound:,}".replace(",", " ") if isinstance(bound, int) and bound >= 10_000 else f"{bound:g}"
