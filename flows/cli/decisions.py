"""`trainserve data quarantine`: the list of suspect pictures that a person edits."""

import json
import re
import sys
from pathlib import Path

from data.gate import quarantine
from data.place import home
from data.sources.kinds import default_name, parse_source
from flows.console import stdout_console

HOW = (
    "In the column decision write keep (say no more of this picture), drop (use it nowhere, test included), or",
    "label=NAME (it shows that class); in note whatever you like. Such a line stays; the next run does as it says.",
)


def show(source: str, *, as_json: bool) -> None:
    """Raises `InputError` for a source that there is not, and for a list that cannot be understood."""
    name, file = _list_of(source)
    waiting, decided = quarantine.counts(file)
    if as_json:
        told = {"name": name, "file": str(file), "written": file.exists(), "undecided": waiting, "decided": decided}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    lines = [f"{name}: {file}"]
    if not file.exists():
        lines += ["Not written yet: nothing was found, or nobody has looked; `trainserve data inspect SOURCE` does."]
    else:
        lines += [f"undecided: {_counts(waiting)}", f"decided: {_counts(decided)}", *HOW]
    console = stdout_console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _list_of(source: str) -> tuple[str, Path]:
    """(data set's name, its list), by the name where there is such a list, else by the source."""
    named = quarantine.file_of(home(), source)
    if re.fullmatch(r"[a-z0-9_-]+", source) and named.exists():
        return source, named
    name = default_name(parse_source(source))
    return name, quarantine.file_of(home(), name)


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in numbers.items() if number) or "none"
