"""Figures of a sweep, PNG: which fields matter, and how settings and figure go together. In the look of all figures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from flows.sweep.result import SweepResult, TrialResult, bare
from flows.sweep.search import Choice, Dimension, Space, Span
from models.evaluation.plots import BLUE, FAINT, INK, ORANGE, render, short, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.45  # inches
WITHOUT = -0.08  # on an axis from 0 to 1


def importance(shares: Mapping[str, float]) -> bytes:
    """A bar per field, the one that matters most at the top."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        ordered = sorted(shares.items(), key=lambda item: item[1])
        at = np.arange(len(ordered))
        axes.barh(at, [100 * share for _, share in ordered], color=BLUE, height=0.6)
        axes.set_yticks(at, [short(path, 32) for path, _ in ordered])
        titles(axes, "How much each field matters", "share, %", "")
        axes.grid(visible=False, axis="y")

    return render(draw, width=7, height=1.2 + ROW * len(shares), fmt="png")


def parallel(result: SweepResult, space: Space) -> bytes:
    """A line per trial, from setting to setting to its figure; the best in orange, those given up faint."""
    told = [trial for trial in result.trials if trial.value is not None]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        values = [trial.value for trial in told if trial.value is not None]
        low, high = min(values), max(values)
        for trial in told:
            heights = [height(one, trial) for one in space]
            end = 0.5 if high == low else ((trial.value or 0.0) - low) / (high - low)
            best = result.best is not None and trial.number == result.best.number
            colour = ORANGE if best else BLUE if trial.state == "complete" else FAINT
            axes.plot(
                range(len(space) + 1),
                [*heights, end],
                color=colour,
                alpha=1.0 if best else 0.55,
                linewidth=2.5 if best else 1.2,
                zorder=3 if best else 2 if trial.state == "complete" else 1,
            )
        axes.set_xticks(range(len(space) + 1), [*(short(one.path, 26) for one in space), result.monitor], color=INK)
        axes.set_yticks([])
        axes.set_ylim(-0.12, 1.12)
        titles(axes, "Settings and what came of them", "", "")
        for place, one in enumerate(space):
            scale(axes, place, one)
            if any(one.path not in trial.settings for trial in told):
                _mark(axes, place, WITHOUT, "has none")
        marks(axes, len(space), bare(low, result.monitor), bare(high, result.monitor))

    return render(draw, width=max(7.0, 2.0 * (len(space) + 1)), height=4.5, fmt="png")


def height(one: Dimension, trial: TrialResult) -> float:
    """0 to 1 on the field's axis; below it where the trial's kind has no such field."""
    text = trial.settings.get(one.path)
    if text is None:
        return WITHOUT
    if isinstance(one, Choice):
        return one.of.index(text) / (len(one.of) - 1)
    low, high, value = (np.log(n) if one.log else n for n in (one.low, one.high, float(text)))
    return float((value - low) / (high - low))


def scale(axes: "Axes", place: int, one: Dimension) -> None:
    if isinstance(one, Span):
        marks(axes, place, one.text(one.low), one.text(one.high))
        return
    for index, text in enumerate(one.of):
        _mark(axes, place, index / (len(one.of) - 1), short(text, 14))


def marks(axes: "Axes", place: int, low: str, high: str) -> None:
    _mark(axes, place, 0.0, low)
    _mark(axes, place, 1.0, high)


def _mark(axes: "Axes", place: int, at: float, text: str) -> None:
    axes.annotate(
        text, (place, at), xytext=(4, 3), textcoords="offset points", color=INK, fontsize=8, zorder=4, clip_on=False
    )
