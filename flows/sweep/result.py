"""What a sweep found, as a value, as table rows, and as the command that trains with the best settings. No Optuna
here."""

import shlex
from collections.abc import Iterator
from typing import Any, Literal

from data.spec import Frozen
from flows.pages import Row
from flows.presets import PRESETS
from flows.settings.overrides import merged, validated
from models.config import Experiment, leaves
from models.evaluation.percent import percent

SHOWN = 50  # trials in a table


class TrialResult(Frozen):
    """One trial; counted from 1."""

    number: int
    state: Literal["complete", "pruned", "failed"]
    value: float | None  # of the best epoch, or of the last one before it was given up
    settings: dict[str, str]
    epochs: int
    why: str | None = None  # it failed


class SweepResult(Frozen):
    """Trials in their order; `best` is one of them."""

    name: str
    monitor: Literal["val_loss", "val_accuracy"]
    trials: tuple[TrialResult, ...]
    best: TrialResult | None
    command: str | None  # trains with the best settings

    @property
    def sentence(self) -> str:
        count = f"{len(self.trials)} trials, {sum(t.state == 'pruned' for t in self.trials)} given up early"
        if self.best is None:
            return f"{count}, none to its end"
        return f"{count}; the best, trial {self.best.number}: {shown(self.best.value, self.monitor)}"


def shown(value: float | None, monitor: str) -> str:
    """`validation accuracy 93.1 %`, or the loss."""
    return f"validation {'loss' if monitor == 'val_loss' else 'accuracy'} {bare(value, monitor)}"


def bare(value: float | None, monitor: str) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if monitor == "val_loss" else percent(value)


def ranked(result: SweepResult) -> list[TrialResult]:
    """Those that were trained to their end come first, the best of them at the top."""
    order, sign = ("complete", "pruned", "failed"), 1 if result.monitor == "val_loss" else -1
    return sorted(
        result.trials,
        key=lambda t: (order.index(t.state), t.value is None, sign * (t.value or 0.0), t.number),
    )


def rows(result: SweepResult) -> list[Row]:
    """For the UI: the best first."""
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.settings))
    words = {"complete": "", "pruned": "given up", "failed": "failed"}
    return [
        {
            "trial": trial.number,
            result.monitor: bare(trial.value, result.monitor),
            "epochs": trial.epochs,
            **{name: trial.settings.get(name, "") for name in names},
            "": trial.why or words[trial.state],
        }
        for trial in ranked(result)[:SHOWN]
    ]


def command_for(experiment: Experiment) -> str:
    """`trainserve run ...` with these settings: those that differ from the preset's or the defaults'."""
    preset = PRESETS.get(experiment.name)
    base = preset or Experiment()
    words = [experiment.name] if preset else ["--dataset.source", experiment.dataset.source]
    for path, text in differing(base, experiment):
        if path != "dataset.source" or preset:
            words += [f"--{path}", text]
    return shlex.join(["trainserve", "run", *words])


def differing(base: Experiment, wanted: Experiment) -> Iterator[tuple[str, str]]:
    """(path, value as typed); where a kind differs, what differs from the defaults of that kind."""
    after = dict(leaves(wanted.model_dump()))
    for path in sorted((path for path in after if path.endswith(".kind")), key=lambda path: path.count(".")):
        if dict(leaves(base.model_dump())).get(path) != after[path]:
            base = validated(merged(base.model_dump(), nested(path, after[path])))
            yield path, typed(after[path])
    before = dict(leaves(base.model_dump()))
    for path, value in after.items():
        if before.get(path) != value:
            yield path, typed(value)


def nested(path: str, value: Any) -> dict[str, Any]:
    head, dot, rest = path.partition(".")
    return {head: nested(rest, value) if dot else value}


def typed(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple() | list():
            return ",".join(map(typed, value))
        case _:
            return str(value)
