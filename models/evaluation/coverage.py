"""The risk-coverage curve as a picture: what being asked to answer less would save in wrong answers."""

from typing import TYPE_CHECKING

import numpy as np

from models.cards import Selective
from models.evaluation.plots import BLUE, FAINT, INK, ORANGE, Format, render, titles
from models.evaluation.selective import curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Labelled = tuple[np.ndarray, np.ndarray]  # probabilities (N, K), labels (N,)


def draw(chosen: Selective, *, val: Labelled, test: Labelled, fmt: Format = "svg") -> bytes:
    """Share of the pictures answered, the surest first, against the share of these answered wrong, in percent. The line
    across is the risk that was asked for; the mark, what the threshold gives on the test pictures."""

    def drawn(figure: "Figure") -> None:
        axes = figure.subplots()
        for name, part, color, dash in (("validation", val, ORANGE, (0, (4, 2))), ("test", test, BLUE, "-")):
            covered, wrong = curve(*part)
            axes.plot(100 * covered, 100 * wrong, color=color, linestyle=dash, label=f"{name} pictures", linewidth=2)
        axes.axhline(100 * chosen.risk, color=FAINT, linewidth=1.5, zorder=0)
        label = f"asked for: at most {100 * chosen.risk:g} %"
        axes.annotate(label, (100, 100 * chosen.risk), (-2, 3), textcoords="offset points", ha="right", color=INK)
        if (done := chosen.test) is not None and done.answered:
            x, y = 100 * done.answered / done.n, 100 * done.wrong / done.answered
            axes.plot([x], [y], "o", color=INK, markersize=7, label=f"called sure: {x:.1f} %", zorder=3)
        axes.set(xlim=(0, 102))
        axes.set_ylim(bottom=0)
        titles(axes, "", "pictures answered, the surest first, %", "of these wrong, %")
        axes.legend(frameon=False, loc="best", labelcolor=INK)

    return render(drawn, width=5.2, height=3.6, fmt=fmt)


def of_run(
    chosen: Selective | None, arrays: dict[str, np.ndarray], *, temperature: float, fmt: Format = "svg"
) -> bytes | None:
    """From what a finished run has kept of its answers; None where no risk was asked for."""
    if chosen is None:
        return None
    logits = arrays["val_logits"].astype(np.float64) / temperature
    val = np.exp(logits - logits.max(axis=1, keepdims=True))
    val /= val.sum(axis=1, keepdims=True)
    test = arrays["test_probabilities"], arrays["test_labels"]
    return draw(chosen, val=(val, arrays["val_labels"]), test=test, fmt=fmt)
