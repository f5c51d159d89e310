"""Every setting of an experiment, for `trainserve run --help`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.presets import PRESETS
from flows.settings.fields import Setting, groups

ROOM = 120  # columns; in fewer, a table would break words


def show_settings(console: Console | None = None) -> None:
    """Grouped as in the YAML file; `none` means: decided from the data."""
    out = console or Console()
    out.print(
        f"Presets: {', '.join(PRESETS)}. A YAML file holds the same settings: train: {{epochs: 20}}", highlight=False
    )
    for title, settings in groups().values():
        if out.width >= ROOM:
            out.print(_table(title, settings))
            continue
        out.print(f"\n{title}", style="bold", highlight=False)
        for setting, kinds in _once(settings).items():
            what = Text.assemble((f"--{setting.path}", "cyan"), f"  {setting.type}  ", (f"[{setting.default}]", "dim"))
            out.print(Padding(what, (0, 0, 0, 2)))
            out.print(Padding(_meaning(setting, kinds), (0, 0, 0, 6)))


def _table(title: str, settings: Iterable[Setting]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Flag", no_wrap=True, style="cyan")
    table.add_column("Type", overflow="fold", ratio=2)
    table.add_column("Default", no_wrap=True)
    table.add_column("Meaning", ratio=5)
    for setting, kinds in _once(settings).items():
        table.add_row(f"--{setting.path}", setting.type, setting.default, _meaning(setting, kinds))
    return table


def _once(settings: Iterable[Setting]) -> dict[Setting, list[str]]:
    """What several kinds have alike is listed once, with all their names."""
    found: dict[Setting, list[str]] = {}
    for setting in settings:
        kinds = found.setdefault(replace(setting, kind=None), [])
        if setting.kind is not None and setting.kind not in kinds:
            kinds.append(setting.kind)
    return found


def _meaning(setting: Setting, kinds: Sequence[str]) -> Text:
    text = Text(setting.description)
    if setting.limits:
        text.append(f" ({setting.limits})", style="dim")
    if kinds:
        text = Text.assemble((f"[{', '.join(kinds)}] ", "magenta"), text)
    return text
