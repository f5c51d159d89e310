"""The pictures that show what a finding speaks of, in the look of `plots`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from models.evaluation.diagnosis.remark import Evidence, Shown
from models.evaluation.diagnosis.signals import gradient_table
from models.evaluation.plots import BLUE, FAINT, INK, ORANGE, Format, epoch_axis, learning_curves, render, short, titles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST_NORM = 1e-12  # what a gradient of nothing is drawn as
MOST_NAMES = 24  # of layers along an axis

TITLES: dict[Shown, str] = {
    "curves": "Loss and accuracy by epoch",
    "rate": "Learning rate by epoch, and the loss over the way walked",
    "gradients": "Norm of the gradient in each layer by epoch",
    "dead units": "Share of the units that never fire, by layer",
    "shift": "How test pictures differ from training pictures",
    "spectrum": "Eigenvalues of the Hessian at the end",
}


def available(run: Evidence) -> dict[Shown, Callable[[Format], bytes]]:
    """What can be drawn of this run; each takes the format and draws when it is called."""
    pictures: dict[Shown, Callable[[Format], bytes]] = {}
    if run.history:
        best = run.fit.best_epoch if run.fit.best_epoch < len(run.history) else None
        pictures["curves"] = lambda fmt: learning_curves(run.history, best_epoch=best, fmt=fmt)
        pictures["rate"] = lambda fmt: rate(run, fmt=fmt)
    if gradient_table(run) is not None:
        pictures["gradients"] = lambda fmt: gradients(run, fmt=fmt)
    if run.checks and any(layer.dead for layer in run.checks.dead):
        pictures["dead units"] = lambda fmt: dead_units(run, fmt=fmt)
    if run.checks and run.checks.shift:
        pictures["shift"] = lambda fmt: shift(run, fmt=fmt)
    if run.checks and run.checks.spectrum:
        pictures["spectrum"] = lambda fmt: spectrum(run, fmt=fmt)
    return pictures


def rate(run: Evidence, *, fmt: Format = "svg") -> bytes:
    """The rate by epoch; the training loss over the sum of all rates so far, straight where the rate is too low."""

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        rates = [record.lr for record in run.history]
        marker = "o" if len(rates) < 2 else ""
        left.plot([record.epoch + 1 for record in run.history], rates, color=BLUE, linewidth=2, marker=marker)
        left.set_ylim(bottom=0)
        epoch_axis(left, len(rates))
        titles(left, "Learning rate", "epoch", "at the end of the epoch")
        losses = [record.train_loss for record in run.history]
        right.plot(np.cumsum(rates), losses, color=ORANGE, linewidth=2, marker=marker)
        guessing = run.guessing_in_training
        right.axhline(guessing, color=INK, linewidth=1, linestyle=":")
        right.annotate("guessing", (1, guessing), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        titles(right, "Training loss over the way walked", "sum of the rates of all epochs", "nats")

    return render(draw, width=9.0, height=3.2, fmt=fmt)


def gradients(run: Evidence, *, fmt: Format = "svg") -> bytes:
    """A row for each layer, the input's on top, a column for each epoch; the colour is the power of ten."""
    table = gradient_table(run)
    assert table is not None
    names, norms = table
    powers = np.log10(np.maximum(norms, SMALLEST_NORM))

    def draw(figure: "Figure") -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        tint = LinearSegmentedColormap.from_list("tint", [FAINT, BLUE, INK])
        low, high = float(powers.min()), max(float(powers.max()), float(powers.min()) + 0.5)
        reach = (0.5, norms.shape[1] + 0.5, len(names) - 0.5, -0.5)
        image = axes.imshow(
            powers, aspect="auto", interpolation="nearest", cmap=tint, vmin=low, vmax=high, extent=reach
        )
        every = -(-len(names) // MOST_NAMES)
        at = range(0, len(names), every)
        axes.set_yticks(at, [short(names[i], 32) for i in at], fontsize=8)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        titles(axes, "Norm of the gradient", "epoch", "")
        axes.grid(False)
        bar = figure.colorbar(image, ax=axes)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK)
        bar.set_label("power of ten", color=INK)

    return render(draw, width=9.0, height=1.4 + 0.2 * min(len(names), MOST_NAMES), fmt=fmt)


def dead_units(run: Evidence, *, fmt: Format = "svg") -> bytes:
    """A bar for each layer with ReLUs, the input's on top."""
    assert run.checks is not None
    layers = run.checks.dead

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        y = np.arange(len(layers))
        axes.barh(y, [100 * layer.dead / layer.units for layer in layers], color=BLUE, alpha=0.8, height=0.7)
        if len(layers) <= 2 * MOST_NAMES:
            for position, layer in enumerate(layers):
                axes.text(101, position, f"{layer.dead} of {layer.units}", va="center", color=INK, fontsize=8)
        at = range(0, len(layers), -(-len(layers) // (2 * MOST_NAMES)))
        axes.set_yticks(at, [short(layers[i].layer or "network", 32) for i in at], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        titles(axes, "Units that never fire, %", "", "")
        axes.grid(False, axis="y")

    return render(draw, width=9.0, height=1.0 + 0.25 * min(len(layers), 2 * MOST_NAMES), fmt=fmt)


def shift(run: Evidence, *, fmt: Format = "svg") -> bytes:
    """How far the test pictures lie from the training pictures, in standard deviations."""
    assert run.checks is not None
    assert run.checks.shift is not None
    statistics = run.checks.shift.statistics

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        y = np.arange(len(statistics))
        axes.barh(y, [s.difference for s in statistics], color=BLUE, alpha=0.8, height=0.7)
        for position, s in enumerate(statistics):
            figures = f"{s.train:.3f} in training, {s.test:.3f} in test"
            axes.annotate(figures, (1.02, position), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.set_yticks(y, [s.name for s in statistics])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=1)
        reach = max(1.0, *(abs(s.difference) for s in statistics))
        axes.set_xlim(-reach, reach)
        titles(axes, "", "test minus training, in standard deviations", "")
        axes.grid(False, axis="y")

    return render(draw, width=9.0, height=0.9 + 0.3 * len(statistics), fmt=fmt)


def spectrum(run: Evidence, *, fmt: Format = "svg") -> bytes:
    """The values found, and the share of the spectrum near each; below zero the loss bends down."""
    assert run.checks is not None
    assert run.checks.spectrum is not None
    found = run.checks.spectrum

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        values, shares = np.array(found.values), np.maximum(found.weights, 1e-7)
        for side, color in ((values >= 0, BLUE), (values < 0, ORANGE)):
            axes.vlines(values[side], 1e-7, shares[side], color=color, linewidth=2)
            axes.plot(values[side], shares[side], "o", color=color, markersize=4)
        axes.axvline(0, color=INK, linewidth=1, linestyle=":")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # the usual one writes powers as mathematics, which is not read
        axes.set_ylim(1e-7, 2)
        titles(axes, "Curvature of the loss at the end", "eigenvalue (below 0 the loss falls)", "share near it")

    return render(draw, width=9.0, height=3.0, fmt=fmt)
