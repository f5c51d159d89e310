"""What a person at a terminal sees of a run: its stages with their times, and that it moves. All of it on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from models.records import EpochRecord

if TYPE_CHECKING:
    from models.training.pulse import ProgressUpdate

LINE_EVERY_S = 5.0  # in a log file; a terminal has a bar that moves
EPOCH_EVERY_S = 1.0
UNBROKEN = 100_000  # characters in a line


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3:05, 1:02:03."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class Display:
    """Silent unless it is given a console; the flow speaks to whichever is current."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._line_at = self._epoch_at = 0.0
        self._said = ""
        self._best_untold: Text | None = None  # the line of the best epoch so far, until it is shown
        self.run_id: str | None = None  # as soon as it is known
        self.seconds: dict[str, float] = {}  # stage -> how long it took
        self.reused: dict[str, str] = {}  # stage -> the run that had made it
        self.result: object | None = None  # of the flow, once all that it does is done

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage; a bar below the lines while it runs, one line when it is done."""
        began = time.monotonic()
        self._said, self._line_at = "", time.monotonic()
        bar = self._begin_bar(name)
        done = False
        try:
            yield
            done = True
        finally:
            if bar is not None:
                bar.stop()
            self._bar = self._task = None
            self._tell_best()
            took = self.seconds[name] = time.monotonic() - began
            mark, style = ("✓", "green") if done else ("✗", "red")
            self._line(
                Text.assemble(
                    (mark, style), f" {name:<15}", (f"{duration(took):>7}", "dim"), f"   {self._said}".rstrip()
                )
            )

    def say(self, text: str) -> None:
        """What the line of this stage shall say at its end; the last one wins."""
        self._said = text

    def note(self, text: str, *, style: str = "") -> None:
        """A line of its own, now."""
        self._line_at = time.monotonic()
        self._line(Text(f"  {text}", style=style))

    def moved(self, what: str, done: float, total: float) -> None:
        """`total` 0 where it is not known."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None, what=what)
        elif time.monotonic() - self._line_at >= LINE_EVERY_S:
            self._line_at = time.monotonic()
            share = f"{100 * done / total:3.0f} %  " if total else ""
            self._line(Text(f"  {share}{what}"))

    def epoch(self, record: EpochRecord, epochs: int, *, best: bool) -> None:
        """At a rate a person can read: not every epoch of a fast run, but the best one, told before the next line."""
        now = time.monotonic()
        line = Text(f"  {epoch_line(record, epochs)}")
        if best:
            line.append("  best", style="green")
            self._best_untold = line
        if now - self._epoch_at < EPOCH_EVERY_S and record.epoch + 1 < epochs and not (best and record.epoch == 0):
            return
        self._epoch_at = self._line_at = now
        self._tell_best()
        if not best:
            self._line(line)

    def _tell_best(self) -> None:
        if self._best_untold is not None:
            self._line(self._best_untold)
        self._best_untold = None

    def _begin_bar(self, name: str) -> Progress | None:
        if self._console is None or not self._console.is_terminal:
            return None
        bar = Progress(
            TextColumn(f"  {name:<15}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[what]}", style="dim"),
            console=self._console,
            transient=True,
        )
        self._task = bar.add_task(name, total=None, what="")
        self._bar = bar
        bar.start()
        return bar

    def _line(self, text: Text) -> None:
        if self._console is not None:
            self._console.print(text, soft_wrap=True, highlight=False)


_current: ContextVar[Display | None] = ContextVar("display", default=None)


def display() -> Display:
    """The one of this run; a silent one where nobody looks, as under a Prefect worker."""
    found = _current.get()
    if found is None:
        found = Display()
        _current.set(found)
    return found


@contextmanager
def shown(console: Console | None) -> Iterator[Display]:
    """A fresh display for one run, on `console` or silent."""
    fresh = Display(console)
    token = _current.set(fresh)
    try:
        yield fresh
    finally:
        _current.reset(token)


def epoch_line(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch + 1:>{len(str(epochs))}}/{epochs}  loss {record.train_loss:.3f}  "
        f"validation loss {record.val_loss:.3f}  accuracy {100 * record.val_accuracy:.1f} %  "
        f"{record.images_per_s:,.0f} images/s"
    )


def going_on(run_id: str, first: "ProgressUpdate") -> str | None:
    """What a run says when it is first heard of; None where that is after its very first step."""
    if first.step <= 1:
        return None
    where = f"step {first.step:,} of {first.total_steps:,}, in epoch {first.epoch + 1} of {first.epochs}"
    return f"going on with run {run_id} from {where}"


def stderr_console() -> Console:
    return Console(file=sys.stderr)


def stdout_console() -> Console:
    """As wide as the terminal; elsewhere, as in a file, no line is ever broken."""
    return Console() if sys.stdout.isatty() else Console(width=UNBROKEN)


def shown_time(iso: str) -> str:
    """2026-11-21T05:34:00.123+00:00 -> 2026-11-21 05:34 UTC."""
    return f"{iso[:10]} {iso[11:16]} UTC"
