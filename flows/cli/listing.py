"""Every setting of an experiment, for `trainserve run --help`."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.fields import Setting, groups
from flows.presets import PRESETS


def show_settings(console: Console | None = None) -> None:
    """Grouped as in the YAML file; `none` means: decided from the data."""
    out = console or Console()
    out.print(
        f"Presets: {', '.join(PRESETS)}. A YAML file holds the same settings: train: {{epochs: 20}}", highlight=False
    )
    for title, settings in groups().values():
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=True)
        table.add_column("Flag", no_wrap=True, style="cyan")
        table.add_column("Type", overflow="fold", ratio=2)
        table.add_column("Default", no_wrap=True)
        table.add_column("Meaning", ratio=5)
        for setting in settings:
            table.add_row(f"--{setting.path}", setting.type, setting.default, _meaning(setting))
        out.print(table)


def _meaning(setting: Setting) -> Text:
    text = Text(setting.description)
    if setting.limits:
        text.append(f" ({setting.limits})", style="dim")
    if setting.kind is not None:
        text = Text.assemble((f"[{setting.kind}] ", "magenta"), text)
    return text
