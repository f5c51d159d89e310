"""One rule for the spelling of choices: `one_cycle` and `one-cycle`, `conv-vit` and `conv_vit` are the same word."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from flows.settings.fields import Setting, by_path

Choice = TypeVar("Choice")


def same_word(text: str, choices: Iterable[Choice]) -> Choice | str:
    """The choice that `text` is but for dashes and underscores; `text` itself where there is none."""
    return next((c for c in choices if str(c).replace("-", "_") == text.replace("-", "_")), text)


def spelled(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, from the command line or a file, with every choice in its own spelling."""
    return _below(tree, "", by_path())


def _below(tree: Mapping[str, Any], prefix: str, known: Mapping[str, Setting]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result[str(key)] = _below(value, f"{path}.", known)
        else:
            choices = known[path].choices if path in known else ()
            result[str(key)] = same_word(value, choices) if isinstance(value, str) else value
    return result
