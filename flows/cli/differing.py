"""`trainserve data diff`: two records found, compared, and told."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console

from data.history import diff as differences
from data.history.diff import Difference, Example, Group, Side
from flows.cli.which_pictures import pictures
from flows.console import display, shown, stderr_console, stdout_console
from flows.place import writable_home
from flows.settings import overrides

SIGNS = {"added": "+", "removed": "-", "relabelled": "~", "moved": ">", "renamed": "="}
STYLES = {"added": "green", "removed": "red", "relabelled": "yellow", "moved": "cyan", "renamed": "dim"}


def show(a: str, b: str, settings: Sequence[str], *, as_json: bool) -> None:
    """Raises `InputError` where one of them is nothing."""
    asked = overrides.experiment(["--dataset.source", "digits", *settings]).dataset  # each of the two has its own
    home = writable_home()
    with shown(stderr_console()), display().stage("diff"):
        one, other = (pictures(text, home, asked=asked, progress=display().moved) for text in (a, b))
        found = differences.diff(one, other)
    if as_json:
        told = {"a": a, "b": b, "counts": found.counts} | found.model_dump(mode="json")
        sys.stdout.write(json.dumps(told) + "\n")
        return
    tell(a, b, found, stdout_console())


def tell(a: str, b: str, found: Difference, out: Console) -> None:
    """Each group with a few of its files; all counts at the end."""

    def line(text: str, style: str = "") -> None:
        out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    line(f"{a}: {side(found.before)}")
    line(f"{b}: {side(found.after)}")
    for labels, said in ((found.classes_added, "new"), (found.classes_removed, "gone")):
        if labels:
            line(f"{said}: class {', '.join(map(repr, labels))}", "yellow")
    for kind, sign in SIGNS.items():
        for group in found.groups(kind):
            line(f"{sign} {group.count:,} {heading(kind, group)}", STYLES[kind])
            for example in group.examples:
                line(f"    {files(example)}", "dim")
            if group.count > len(group.examples):
                line(f"    and {group.count - len(group.examples):,} more", "dim")
    line(f"{found.sentence}; {found.unchanged:,} unchanged")


def side(one: Side) -> str:
    return f"{one.pictures:,} pictures, {one.classes} classes, fingerprint {one.fingerprint[:12]}"


def heading(kind: str, group: Group) -> str:
    match kind:
        case "relabelled":
            return f"{group.before} -> {group.after}"
        case "moved":
            return f"{group.label}: {group.before or 'left out'} -> {group.after or 'left out'}"
        case "renamed":
            return f"{group.label}, renamed"
        case _:
            return group.label


def files(example: Example) -> str:
    """One name, or both where they differ."""
    names = [seen.file for seen in (example.before, example.after) if seen is not None]
    return " -> ".join(dict.fromkeys(names))
