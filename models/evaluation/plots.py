"""Figures of a run -> SVG or PNG bytes, all in one look: light ground, one blue, one orange, nothing that shouts.

matplotlib through its object-oriented interface only (no pyplot, no current figure), so any thread may draw; the few
settings it keeps in globals are changed under a lock. The same input gives the same bytes. Labels are never read as
mathematics: a class may be called `$x$`. matplotlib is imported when the first figure is drawn (a second or so).
"""

import io
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.evaluation.metrics import Metrics, Reliability
from models.records import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]

# Okabe and Ito's palette, told apart by the colour-blind; lines also differ in dash and marker.
BLUE, ORANGE = "#0072B2", "#D55E00"
INK, FAINT, GROUND = "#22272E", "#C9CFD6", "#FFFFFF"
ON_BLUE = "#FEFEFE"  # not quite the ground, so that a page may exchange one and keep the other
FONTS = ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"]

_drawing = threading.Lock()


def learning_curves(
    history: Sequence[EpochRecord], *, best_epoch: int | None = None, stacked: bool = False, fmt: Format = "svg"
) -> bytes:
    """Loss (training, validation) and validation accuracy by epoch, counted from 1; the kept epoch is marked.

    Side by side, or one above the other for a narrow page.
    """

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
        epochs = [record.epoch + 1 for record in history]
        marker = "o" if len(history) < 2 else ""
        for values, name, color, dash in (
            ([r.train_loss for r in history], "training", ORANGE, (0, (4, 2))),
            ([r.val_loss for r in history], "validation", BLUE, "-"),
        ):
            left.plot(epochs, values, color=color, linestyle=dash, marker=marker, label=name, linewidth=2)
        accuracy = [100 * record.val_accuracy for record in history]
        right.plot(epochs, accuracy, color=BLUE, marker=marker, linewidth=2)
        titles(left, "Loss", "epoch", "nats")
        titles(right, "Validation accuracy", "epoch", "%")
        left.legend(frameon=False, labelcolor=INK)
        for axes in (left, right):
            epoch_axis(axes, len(history))
        if len(history) == 1:  # the little between two points would be stretched over the whole height
            left.set_ylim(0, 1.2 * max(history[0].train_loss, history[0].val_loss))
            right.set_ylim(0, 100)
        if history and best_epoch is not None:
            for axes in (left, right):
                axes.axvline(best_epoch + 1, color=INK, linewidth=1, linestyle=":")
            kept = epochs.index(best_epoch + 1)
            _mark(right, epochs[kept], accuracy[kept], on_the_left=2 * kept >= len(epochs))

    return render(draw, width=4.6 if stacked else 9.0, height=6.0 if stacked else 3.2, fmt=fmt)


def confusion(metrics: Metrics, *, fmt: Format = "svg") -> bytes:
    """True class by predicted class; colour is the share of the true class. Numbers up to 25 classes."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        counts = np.array(metrics.confusion)
        k = len(counts)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(_tint(share if k <= 25 else share**0.6), interpolation="nearest", aspect="equal")
        axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=FAINT, linewidth=0.8 if k <= 25 else 0.2)
        axes.tick_params(which="both", length=0)
        _class_ticks(axes, [c.label for c in metrics.per_class])
        if k <= 25:
            for i, j in np.argwhere(counts):
                dark = share[i, j] > 0.55
                color = ON_BLUE if dark else INK
                axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=color, fontsize=_cell_font(k))
        titles(axes, "", "predicted", "true")
        axes.grid(False, which="major")

    side = 3.4 + 0.28 * min(len(metrics.per_class), 18)
    return render(draw, width=side + 0.6, height=side, fmt=fmt)


def reliability(after: Reliability, *, before: Reliability | None = None, fmt: Format = "svg") -> bytes:
    """How often answers given with a confidence are right; below, how many there are. `before` calibration dashed."""

    def draw(figure: "Figure") -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0, 100], [0, 100], color=FAINT, linewidth=1.5, zorder=0)
        if before is not None:
            filled = before.count > 0
            label = f"before calibration, error {100 * before.error:.1f}"
            x, y = 100 * before.confidence[filled], 100 * before.accuracy[filled]
            top.plot(x, y, color=ORANGE, linestyle=(0, (4, 2)), marker="s", markersize=4, label=label)
        filled = after.count > 0
        label = (
            f"after calibration, error {100 * after.error:.1f}" if before else f"error {100 * after.error:.1f} points"
        )
        top.plot(100 * after.confidence[filled], 100 * after.accuracy[filled], color=BLUE, marker="o", label=label)
        edges = np.linspace(0, 100, len(after.count) + 1)
        bottom.bar(
            edges[:-1], after.count, width=np.diff(edges), align="edge", color=BLUE, alpha=0.55, edgecolor=GROUND
        )
        top.set(xlim=(0, 100), ylim=(0, 100))
        titles(top, "", "", "right, %")
        titles(bottom, "", "confidence, %", "pictures")
        bottom.yaxis.get_major_locator().set_params(nbins=2, integer=True)
        top.legend(frameon=False, loc="best", labelcolor=INK)

    return render(draw, width=5.2, height=4.6, fmt=fmt)


def class_bars(metrics: Metrics, *, fmt: Format = "svg") -> bytes:
    """F1 of each class, weakest first; beyond 40 classes the 40 weakest."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        y = np.arange(len(shown))
        axes.barh(y, [100 * c.f1 for c in shown], color=BLUE, alpha=0.8, height=0.7)
        for position, c in enumerate(shown):
            axes.text(101.5, position, f"{100 * c.f1:.1f}", va="center", color=INK, fontsize=8)
        axes.set_yticks(y, [short(f"{c.label} ({c.support:,})") for c in shown])
        axes.invert_yaxis()
        axes.set_xlim(0, 110)
        axes.axvline(100 * metrics.macro_f1, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.5)
        titles(axes, f"F1, %  (macro average {100 * metrics.macro_f1:.1f})", "", "")
        axes.grid(False, axis="y")

    shown = sorted(metrics.per_class, key=lambda c: c.f1)[:40]
    return render(draw, width=6.0, height=1.0 + 0.3 * len(shown), fmt=fmt)


def contact_sheet(pictures: Sequence[tuple[bytes | None, str]], *, fmt: Format = "png") -> bytes:
    """Pictures (JPEG or PNG bytes; None for one that cannot be shown) with their captions, six in a row."""
    from PIL import Image

    def draw(figure: "Figure") -> None:
        for position, (picture, caption) in enumerate(pictures):
            axes = figure.add_subplot(rows, 6, position + 1)
            axes.axis("off")
            if picture is not None:
                axes.imshow(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")))
            lines = "\n".join(short(line, 22) for line in caption.splitlines())
            axes.set_title(lines, fontsize=8, color=INK)

    rows = max(1, -(-len(pictures) // 6))
    return render(draw, width=9.0, height=1.9 * rows, fmt=fmt)


def render(draw: Any, *, width: float, height: float, fmt: Format) -> bytes:
    """`draw(figure)` on a fresh figure of this size in inches."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look: Any = {
        "text.parse_math": False,
        "svg.fonttype": "none",  # text stays text: small, and in the reader's font
        "svg.hashsalt": "trainserve",  # ids from content, not from chance
        "font.family": "sans-serif",
        "font.sans-serif": FONTS,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None} if fmt == "svg" else {"Software": None}
    out = io.BytesIO()
    with _drawing, rc_context(look), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a script that DejaVu lacks: the browser has a font for it
        figure = Figure(figsize=(width, height), facecolor=GROUND, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(out, format=fmt, dpi=150 if fmt == "png" else 100, metadata=metadata)
    return out.getvalue()


def _mark(axes: "Axes", epoch: int, accuracy: float, *, on_the_left: bool) -> None:
    """The epoch whose weights were kept, named at the foot of its line."""
    axes.plot([epoch], [accuracy], "o", color=BLUE, markersize=7)
    axes.annotate(
        f"kept: epoch {epoch}, {accuracy:.1f} %",
        (epoch, 0.05),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-6 if on_the_left else 6, 0),
        textcoords="offset points",
        ha="right" if on_the_left else "left",
        color=INK,
    )


def epoch_axis(axes: "Axes", epochs: int) -> None:
    """Whole epochs only; a single one stands in the middle."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if epochs == 1:
        axes.set_xlim(0, 2)
        axes.set_xticks([1])


def titles(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _class_ticks(axes: "Axes", labels: Sequence[str]) -> None:
    """Every class named while there is room; beyond 60 classes every fifth, or sparser."""
    k = len(labels)
    every = 1 if k <= 60 else 5 * (1 + k // 250)
    at = range(0, k, every)
    size = 10 if k <= 12 else 8 if k <= 25 else 5.5
    names = [short(labels[i]) for i in at]
    flat = k * max(map(len, names)) <= 48
    axes.set_xticks(at, names, fontsize=size, rotation=0 if flat else 90)
    axes.set_yticks(at, names, fontsize=size)


def _tint(share: np.ndarray) -> np.ndarray:
    """(K, K) shares -> (K, K, 4) blue, transparent where there is nothing, so it sits on any ground."""
    red, green, blue = (int(BLUE[i : i + 2], 16) / 255 for i in (1, 3, 5))
    alpha = np.where(share > 0, 0.08 + 0.92 * share, 0.0)
    return np.stack([np.full_like(share, red), np.full_like(share, green), np.full_like(share, blue), alpha], axis=-1)


def _cell_font(k: int) -> float:
    return 11 if k <= 8 else 9 if k <= 14 else 6.5


def short(label: str, limit: int = 24) -> str:
    """One line of at most `limit` characters; what cannot stand in XML is replaced."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in label)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
