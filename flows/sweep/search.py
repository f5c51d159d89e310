"""What is searched, as people write it: `--search.lr 1e-4..1e-2:log --search.model.kind cnn,vit`. No Optuna here."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import product

from data.errors import InputError
from data.spec import Frozen
from flows.settings.fields import Setting, by_path, settings
from flows.settings.overrides import merged, read_tokens, unknown, validated
from flows.settings.spelling import same_word
from models.config import Experiment, leaves

PREFIX = "--search."
MOST_TRIALS = 10_000
FIGURES = 4  # of a number that is drawn from a range: what is printed is what was tried
# Trials are compared by the validation pictures: what chooses those, or what they are asked, or nothing of it.
NOT_SEARCHED = ("name", "dataset.", "train.monitor", "crossval.", "answer.", "release.", "diagnose.")
SEARCHED = ("dataset.size", "dataset.max_size", "dataset.channels", "dataset.margin", "dataset.fit")


class Span(Frozen):
    """Numbers from `low` to `high`, both included."""

    path: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def ends(self) -> tuple[str, ...]:
        return self.text(self.low), self.text(self.high)

    def text(self, value: float) -> str:
        """As it is typed, and as it is tried."""
        if self.whole:
            return str(round(value))
        return repr(min(max(float(f"{value:.{FIGURES}g}"), self.low), self.high))


class Choice(Frozen):
    """One of these, as they are typed."""

    path: str
    of: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        return self.of


Dimension = Span | Choice
Space = tuple[Dimension, ...]
Picked = Mapping[str, str]  # path -> value, as typed


def require_optuna() -> None:
    """Raises `InputError`."""
    if find_spec("optuna") is None:
        raise InputError("a sweep needs a package more; pip install 'trainserve[sweep]'")


def split(tokens: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(the settings that all trials have, what is searched). Raises `InputError`."""
    rest: list[str] = []
    search: dict[str, str] = {}
    left = list(tokens)
    while left:
        token = left.pop(0)
        if not token.startswith(PREFIX):
            rest.append(token)
            continue
        name, equals, text = token.removeprefix(PREFIX).partition("=")
        if not equals:
            if not left or left[0].startswith("--"):
                raise InputError(f"{token} has no value; write a range such as 1e-4..1e-2:log, or choices such as a,b")
            text = left.pop(0)
        if name in search:
            raise InputError(f"{PREFIX}{name} is given twice; leave one out")
        search[name] = text
    return rest, search


def parsed(search: Mapping[str, str], base: Experiment) -> Space:
    """Every range and choice, checked against what the settings allow. Raises `InputError`."""
    if not search:
        raise InputError(f"nothing is searched; add such as {PREFIX}lr 1e-4..1e-2:log or {PREFIX}model.kind cnn,vit")
    space = tuple(dimension(full_path(name), text) for name, text in search.items())
    paths = [one.path for one in space]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{PREFIX}{path} is given twice, once by a shorter name; leave one out")
    require_valid(space, base)
    return space


def full_path(name: str) -> str:
    """`lr` is `optimizer.lr`. Raises `InputError` for a name that is none, or more than one."""
    name, known = name.replace("-", "_"), by_path()
    ending = [name] if name in known else [path for path in known if path.endswith(f".{name}")]
    if not ending:
        raise InputError(unknown(name, option=True).replace("--", PREFIX))
    if len(ending) > 1:
        raise InputError(f"{PREFIX}{name} may be {', '.join(ending[:6])}; write which one in full")
    (path,) = ending
    if path.startswith(NOT_SEARCHED) and path not in SEARCHED:
        raise InputError(
            f"{path} is not searched: trials are compared by one figure on the same validation pictures; "
            f"give it to all of them as --{path}"
        )
    return path


def dimension(path: str, text: str) -> Dimension:
    """Raises `InputError` for what is neither a range nor a choice."""
    of_kinds = [setting for setting in settings() if setting.path == path]
    if ".." in text:
        return span(path, text, of_kinds)
    between = "/" if any(setting.sequence for setting in of_kinds) else ","
    words = [word.strip() for word in text.split(between)]
    known = [choice for setting in of_kinds for choice in setting.choices]
    words = list(dict.fromkeys(str(same_word(word, known)) for word in words if word))
    if len(words) < 2:
        raise InputError(
            f"{PREFIX}{path} {text!r} leaves nothing to choose; write a range such as 1e-4..1e-2:log, "
            f"choices such as a{between}b, or --{path} {text} for all trials"
        )
    return Choice(path=path, of=tuple(words))


def span(path: str, text: str, of_kinds: Sequence[Setting]) -> Span:
    """`low..high`, and `:log` where each factor is to be as likely as another."""
    types = {word for setting in of_kinds for word in setting.type.split(" | ")}
    if not types & {"integer", "number"}:
        raise InputError(f"{path} is no number, so there is no range {text}; write its choices, such as a,b")
    whole = "number" not in types
    body, colon, how = text.partition(":")
    low, _, high = body.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        raise InputError(f"{PREFIX}{path} {text!r} is no range; write such as 1e-4..1e-2 or 1e-4..1e-2:log") from None
    if colon and how != "log":
        raise InputError(f"{PREFIX}{path} {text!r} ends in {how!r}; write :log or nothing after the range")
    if not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
        raise InputError(f"{PREFIX}{path} {text!r} does not rise from its first number to its second; exchange them")
    if colon and ends[0] <= 0:
        raise InputError(f"{PREFIX}{path} {text!r} has no logarithm at {low}; begin above 0, or leave :log out")
    if whole and not all(end.is_integer() for end in ends):
        raise InputError(f"{PREFIX}{path} {text!r} is a range of whole numbers; write it without fractions")
    return Span(path=path, low=ends[0], high=ends[1], log=bool(colon), whole=whole)


def with_values(base: Experiment, picked: Picked) -> Experiment:
    """Raises `InputError`."""
    if not picked:
        return base
    _, tree = read_tokens([f"--{path}={text}" for path, text in picked.items()])
    return validated(merged(base.model_dump(), tree))


def suggested(space: Space, base: Experiment, suggest: Callable[[Dimension], str]) -> dict[str, str]:
    """A value of each dimension that means something for the kinds that are chosen before: `model.heads` does for a vit
    alone. Raises `InputError`."""
    picked: dict[str, str] = {}
    for kind in kinds(space):
        if has(with_values(base, picked), kind.path):
            picked[kind.path] = suggest(kind)
    shaped = with_values(base, picked)
    for one in space:
        if not is_kind(one) and has(shaped, one.path):
            picked[one.path] = suggest(one)
    return picked


def has(experiment: Experiment, path: str) -> bool:
    return path in dict(leaves(experiment.model_dump()))


def is_kind(one: Dimension) -> bool:
    return one.path.endswith(".kind")


def kinds(space: Space) -> list[Choice]:
    """The outer ones first: `model.kind` before `model.attention.kind`."""
    return sorted((one for one in space if isinstance(one, Choice) and is_kind(one)), key=lambda c: c.path.count("."))


def require_valid(space: Space, base: Experiment) -> None:
    """Every choice and both ends of every range are valid with some choice of kinds. Raises `InputError`."""
    for one in space:
        for text in one.ends:
            refusals = list(refused(one, text, space, base))
            if all(refusals):
                said = [str(refusal) for refusal in refusals]
                raise InputError(min(said, key=lambda sentence: " belongs to " in sentence))


def refused(one: Dimension, text: str, space: Space, base: Experiment) -> Iterator[InputError | None]:
    """For each choice of the other kinds: why the value is not valid, or None."""
    others = [kind for kind in kinds(space) if kind.path != one.path]
    for combination in product(*(kind.of for kind in others)):
        picked = dict(zip((kind.path for kind in others), combination, strict=True))
        try:
            shaped = with_values(base, {path: word for path, word in picked.items() if path.count(".") == 1})
            there = dict(leaves(shaped.model_dump()))
            with_values(base, {path: word for path, word in picked.items() if path in there} | {one.path: text})
            yield None
        except InputError as error:
            yield error
