"""Preset or YAML file, then `--train.epochs 20` and the like -> one validated `Experiment`, or one sentence."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from data.errors import InputError
from flows.presets import PRESETS
from flows.settings.fields import Setting, by_path, kind_of, settings, variants
from flows.settings.spelling import same_word, spelled
from models.config import Experiment

Tree = dict[str, Any]


def experiment(tokens: Sequence[str], *, config: Path | None = None) -> Experiment:
    """`[PRESET] --a.b value ...` over the preset, the file, or the defaults. Raises `InputError`."""
    names, chosen = read_tokens(tokens)
    if len(names) > 1 or (names and config is not None):
        extra = names[1] if len(names) > 1 else f"-c {config}"
        raise InputError(
            f"one preset or one file decides the defaults: {names[0]!r} and {extra!r} were given; leave one out"
        )
    if config is not None:
        return validated(merged(merged(_defaults(), read_yaml(config)), chosen))
    if names:
        return validated(merged(_preset(names[0]), chosen))
    elsewhere = "source" in chosen.get("dataset", {})
    return validated(merged(_defaults() if elsewhere else _preset("digits"), chosen))


def changed(experiment: Experiment, changes: Sequence[str]) -> Experiment:
    """`train.epochs=3` and the like laid over it; the dashes of the command line may be there. Raises `InputError`."""
    words, chosen = read_tokens([change if change.startswith("-") else f"--{change}" for change in changes])
    if words:
        raise InputError(f"{words[0]!r} is no change of a setting; write such as train.epochs=3")
    return validated(merged(experiment.model_dump(mode="python"), chosen)) if chosen else experiment


def read_tokens(tokens: Sequence[str]) -> tuple[list[str], Tree]:
    """(words that are no option, nested settings). `--a.b v`, `--a.b=v`, a bare `--a.b` for yes, `none` for None."""
    known = by_path()
    words: list[str] = []
    tree: Tree = {}
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("-") or token == "-":
            words.append(token)
            continue
        path, equals, text = token.lstrip("-").partition("=")
        path = path.replace("-", "_")
        setting = known.get(path)
        if setting is None:
            raise InputError(unknown(path, option=True))
        if not equals:
            text = _next_value(setting, token, rest)
        _put(tree, path.split("."), _value(setting, text), token)
    return words, spelled(tree)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`over` laid over `base`. A section whose `kind` changes starts afresh: the other kind's fields mean nothing."""
    result: Tree = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if not isinstance(below, Mapping) or not isinstance(value, Mapping):
            result[key] = value
        elif "kind" in value and value["kind"] != below.get("kind"):
            result[key] = dict(value)
        else:
            result[key] = merged(below, value)
    return result


def read_yaml(file: Path) -> Tree:
    """A mapping of settings. Raises `InputError` for a file that is not there or says something else."""
    try:
        tree = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise InputError(f"the configuration file {file} is not there; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration file {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise InputError(f"{file}{line} is not valid YAML: {getattr(error, 'problem', 'unreadable')}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(
            f"{file} holds {type(tree).__name__}, not settings; write lines such as 'train: {{epochs: 20}}'"
        )
    return spelled(tree)


def validated(tree: Mapping[str, Any]) -> Experiment:
    """The experiment, or `InputError` with one sentence about the first thing that is wrong."""
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise InputError(sentence(error)) from None


def sentence(error: ValidationError) -> str:
    """The first complaint of pydantic about an experiment, for a person: the field, its value, what is allowed."""
    every = error.errors(include_url=False)
    first = every[0]
    path = _path(first["loc"])
    match first["type"]:
        case "extra_forbidden":
            return unknown(path)
        case "union_tag_invalid":
            return unknown_kind(path, first["ctx"]["tag"], first["ctx"]["expected_tags"])
        case "union_tag_not_found":
            field = next(iter(first["input"]), "kind")
            return unknown(f"{path}.{field}")
        case "value_error":
            return ": ".join(part for part in (path, str(first["ctx"]["error"])) if part)
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{path} is {first['input']!r}; it is a group of settings such as {_inside(path)}"
        case "string_pattern_mismatch":
            allowed = "must match " + first["ctx"]["pattern"]
            if path.endswith("name"):
                allowed = "may hold lower-case letters, digits, - and _, and begins with a letter or digit"
            return f"{path} is {first['input']!r}; it {allowed}"
        case "missing":
            return f"{path} is missing; give all of its values"
        case _:
            allowed = [
                one["msg"].removeprefix("Input ").split(", unable")[0] for one in every if _path(one["loc"]) == path
            ]
            return f"{path} is {_bare(first['input'])}; it {', or '.join(dict.fromkeys(allowed))}"


def unknown(path: str, *, option: bool = False) -> str:
    """What to say of a setting that does not exist: the nearest ones, or the kind it belongs to."""
    known = {s.path: s for s in settings()}
    dashes = "--" if option else ""
    if path in known and known[path].kind is not None:
        section = path.rpartition(".")[0]
        return _belongs(path, section, _owners(path))
    owners = _owners(f"{path}.kind")
    if owners and not option:  # a group within a group, such as model.attention
        return _belongs(path, path.rpartition(".")[0], owners)
    inside = [p for p in known if p.startswith(f"{path}.")]
    if inside:
        return f"{dashes}{path} is a group of settings; choose one of {', '.join(dashes + p for p in inside[:4])} ..."
    near = difflib.get_close_matches(path, known, n=3, cutoff=0.75)
    last = path.rpartition(".")[2]
    near += [p for p in known if p.rpartition(".")[2] == last and p not in near]
    hint = (
        f"did you mean {' or '.join(dashes + p for p in near[:3])}?"
        if near
        else "`trainserve run --help` lists them all"
    )
    return f"{dashes}{path} is not a known setting; {hint}"


def unknown_kind(path: str, given: str, expected: str) -> str:
    """What to say of a `kind` that does not exist; `expected` is pydantic's list, "'adamw', 'sgd'"."""
    known = expected.replace("'", "").split(", ")
    near = difflib.get_close_matches(given.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{path}.kind is {given!r}, which is not known; {hint}use one of {', '.join(known)}"


def _owners(path: str) -> list[str]:
    """The kinds that have this setting."""
    return list(dict.fromkeys(s.kind for s in settings() if s.path == path and s.kind is not None))


def _belongs(path: str, section: str, owners: list[str]) -> str:
    kinds = " or ".join(owners)
    return f"{path} belongs to {section}.kind {kinds}; choose that kind with --{section}.kind, or leave {path} out"


def _defaults() -> Tree:
    return Experiment().model_dump(mode="python")


def _preset(name: str) -> Tree:
    name = same_word(name, PRESETS)
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"there is no preset {name!r}; {hint}use one of {', '.join(PRESETS)}, or --dataset.source for pictures"
        )
    return PRESETS[name].model_dump(mode="python")


def _next_value(setting: Setting, token: str, rest: list[str]) -> str:
    if setting.boolean:
        takes = bool(rest) and rest[0].lower() in {"true", "false", "yes", "no", "on", "off", "1", "0", "none"}
        return rest.pop(0) if takes else "true"
    if not rest or rest[0].startswith("--"):
        raise InputError(f"{token} has no value; write {token} followed by {setting.type}")
    return rest.pop(0)


def _value(setting: Setting, text: str) -> Any:
    for choice in setting.choices:
        if str(choice) == text:
            return choice
    if setting.nullable and text.lower() in {"none", "null", "auto"}:
        return None
    if setting.sequence:
        return text.split(",") if text else []
    return text


def _put(tree: Tree, keys: list[str], value: Any, token: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    if keys[-1] in tree:
        raise InputError(f"{token.partition('=')[0]} is given twice; leave one out")
    tree[keys[-1]] = value


def _path(loc: tuple[int | str, ...]) -> str:
    """Pydantic's location without the names of variants and of types: ('model', 'vit', 'heads') -> model.heads,
    ('optimizer', 'sgd', 'lr', 'float') -> optimizer.lr."""
    kept: list[str] = []
    models: tuple[type[BaseModel], ...] = (Experiment,)
    for part in loc:
        if len(models) > 1 and part in {kind_of(model) for model in models}:
            models = tuple(model for model in models if kind_of(model) == part)
        elif models or isinstance(part, int):
            kept.append(str(part))
            infos = [model.model_fields.get(str(part)) for model in models]
            models = tuple(variant for info in infos if info is not None for variant in variants(info.annotation))
    return ".".join(kept)


def _inside(path: str) -> str:
    return next((s.path for s in settings() if s.path.startswith(f"{path}.")), "train.epochs")


def _bare(value: Any) -> str:
    """A number typed on the command line is a text that needs no quotes."""
    text = str(value)
    return text if text.lstrip("-").replace(".", "", 1).isdigit() else repr(value)
