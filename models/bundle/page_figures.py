"""The figures of a model on its page, and words and names as Markdown bears them."""

import html
from collections.abc import Callable, Iterator

from models.cards import ModelCard, Rehearsal
from models.evaluation.metrics import Interval, Metrics
from models.evaluation.percent import percent


def figures(card: ModelCard) -> Iterator[str]:
    """Lines of Markdown."""
    yield "## Figures\n"
    yield "| | test | validation |"
    yield "| --- | ---: | ---: |"
    rows: dict[str, Callable[[Metrics], str]] = {
        "pictures": lambda m: f"{m.n:,}",
        "accuracy": lambda m: percent(m.accuracy),
        "95 % interval (Wilson)": lambda m: interval(m.interval),
        "always the most frequent class": lambda m: percent(m.majority),
        "macro precision": lambda m: percent(m.macro_precision),
        "macro recall": lambda m: percent(m.macro_recall),
        "macro F1": lambda m: percent(m.macro_f1),
        "loss (nats)": lambda m: f"{m.loss:.4f}",
    }
    for name, shown in rows.items():
        yield f"| {name} | {shown(card.test)} | {shown(card.validation)} |"
    if card.crossval is not None:
        cv = card.crossval
        spread = f"{100 * cv.std:.1f} (standard deviation)"
        yield f"\nCross-validation, {len(cv.folds)} folds: {percent(cv.mean)} ± {spread}."
    yield from _trust(card)


def _trust(card: ModelCard) -> Iterator[str]:
    """What its probabilities are worth, and whether what is served answers as what was trained."""
    calibration, parity = card.calibration, card.parity
    yield (
        f"\n**Calibration.** One temperature, {calibration.temperature:.3f}, fitted on validation pictures, is inside "
        f"the graph. Expected calibration error: {percent(calibration.ece_after)}, without it "
        f"{percent(calibration.ece_before)}."
    )
    if card.selective is not None:
        yield f"\n**Sure or not.** {card.selective.said[0].upper()}{card.selective.said[1:]}."
    if card.outliers is not None:
        yield f"\n**Strangers.** {card.outliers.said[0].upper()}{card.outliers.said[1:]}."
    yield (
        f"\n**Parity.** Against the trained network, over {parity.n:,} test pictures: the largest difference of any "
        f"probability is {parity.largest_difference:.1e}, and {parity.changed_answers} answers are others."
    )
    for way in parity.ways:
        if way.name != "onnx":
            found = f"within {way.largest_difference:.1e}, {way.changed_answers} answers are others"
            yield f"- {way.title}, over {way.n:,}: {found}."
    if card.rehearsal is not None:
        yield f"\n**As a service.** {_rehearsed(card.rehearsal)}."
    for variant in card.variants:
        yield f"\n**In {variant.name}.** A graph in fewer bits was {cell(variant.said)}."


def _rehearsed(found: Rehearsal) -> str:
    if found.fault is not None or found.p50_ms is None or found.p95_ms is None:
        return f"The service on it {cell(found.fault or 'was not timed')}"
    return (
        f"Where it was made, a service on it took {found.p50_ms:.1f} ms for a request of one picture, over HTTP "
        f"(95 of 100: {found.p95_ms:.1f} ms), and was overloaded and stopped in good order"
    )


def cell(text: str) -> str:
    """A class is called as its folder was: no name is Markdown, or ends the row of a table."""
    return "".join(f"\\{c}" if c in "\\`*_[]|~#" else c for c in html.escape(plain(text), quote=False))


def plain(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


def interval(of: Interval) -> str:
    return f"{percent(of.low)} to {percent(of.high)}"
