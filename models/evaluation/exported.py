"""What a report says of the exported model. No torch here.

The report is written before the export, so that a run that fails there has one; these figures are put into the page
afterwards, between two marks.
"""

from pathlib import Path

from markupsafe import Markup

from data import whole
from models.cards import ModelCard, Rehearsal, Way
from models.evaluation.conclusion import between_marks

OPEN, CLOSE = Markup("<!-- export -->"), Markup("<!-- /export -->")
UNDECIDED = Markup("<p>It had not been exported when this page was written.</p>")
HEAD = Markup(
    '<table><thead><tr><th>Asked</th><th class="n">Test pictures</th><th class="n">Largest difference</th>'
    '<th class="n">Changed answers</th><th>Most in class</th></tr></thead><tbody>'
)
ROW = Markup('<tr><td>{}</td><td class="n">{:,}</td><td class="n">{:.1e}</td><td class="n">{:,}</td><td>{}</td></tr>')


def section(card: ModelCard | None) -> Markup:
    """A table of the ways to ask the model, and how a service on it did."""
    if card is None:
        return OPEN + UNDECIDED + CLOSE
    said = HEAD + Markup("").join(_row(way) for way in card.parity.ways) + Markup("</tbody></table>")
    for variant in card.variants:
        said += Markup("<p><strong>{}</strong> {}.</p>").format(variant.name, variant.said)
    if card.rehearsal is not None:
        said += Markup("<p>{}</p>").format(_rehearsal(card.rehearsal))
    return OPEN + said + CLOSE


def conclude(report: Path, card: ModelCard) -> None:
    """Put the figures into a written report, in the place of earlier ones. Nothing is done without a report."""
    if not report.exists():
        return
    page = report.read_text(encoding="utf-8")
    whole.write(report, between_marks(page, section(card), OPEN, CLOSE).encode())


def _row(way: Way) -> Markup:
    return ROW.format(way.title, way.n, way.largest_difference, way.changed_answers, way.worst)


def _rehearsal(one: Rehearsal) -> str:
    if one.fault is not None:
        return f"The service on it {one.fault}."
    refused = (one.overload or {}).get("429", 0)
    return (
        f"A service on it was ready after {one.started_s:.1f} s. It took {one.p50_ms:.1f} ms for a request of one "
        f"picture, and {one.p95_ms:.1f} ms at the 95th percentile of {one.requests} requests. Asked for more than it "
        f"can take, it said so {refused:,} times, and answered as before when that was over. It stopped within "
        f"{one.stopped_s:.1f} s."
    )
