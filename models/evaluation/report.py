"""A finished run -> one HTML file that needs nothing else: no script, no request, pictures inline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data import whole
from data.errors import UnreadableImage
from data.prepare import Dataset
from data.validate import ValidationReport
from models.evaluation import coverage, exported, plots
from models.evaluation.conclusion import checked, next_step, standing, two_accuracies
from models.evaluation.diagnose import diagnose
from models.evaluation.diagnosis import pictures
from models.evaluation.diagnosis.evidence import evidence_of, peers_of
from models.evaluation.diagnosis.remark import Evidence, Peer, Remark
from models.evaluation.doubtful import doubtful
from models.evaluation.html import environment
from models.evaluation.inline import inline
from models.evaluation.labels import Suspects, told
from models.evaluation.metrics import Metrics, Reliability, reliability
from models.evaluation.mistakes import most_confident, thumbnail
from models.evaluation.settings import settings
from models.records import EpochRecord, RunResult
from models.run import RunFolder


@dataclass(frozen=True)
class Picture:
    """A wrong answer, to be looked at."""

    file: str  # as the source names it
    true: str
    predicted: str
    probability: float  # of the wrong answer
    jpeg: bytes | None  # None: the file can no longer be read


def write(folder: RunFolder, dataset: Dataset, labels: Suspects | None = None) -> Path:
    """report.html of a finished run, whole or absent. `labels` that look wrong, where they were looked at."""
    result, arrays = folder.result(), folder.predictions()
    logits = arrays["test_logits"].astype(np.float64)
    before = np.exp(logits - logits.max(axis=1, keepdims=True))
    before /= before.sum(axis=1, keepdims=True)
    page = render(
        result,
        history=folder.history(),
        data=dataset.report,
        after=reliability(arrays["test_probabilities"], arrays["test_labels"]),
        before=reliability(before, arrays["test_labels"]),
        sureness=coverage.of_run(result.selective, arrays, temperature=result.calibration.temperature),
        mistakes=mistakes(result, arrays, dataset),
        peers=peers_of(folder, result),
        labels=None if labels is None else {"told": told(labels), "pictures": doubtful(labels, dataset)},
        found=folder.data_file.name if folder.data_file.exists() else None,
    )
    return whole.write(folder.report_file, page.encode())


def mistakes(
    result: RunResult, arrays: dict[str, np.ndarray], dataset: Dataset, *, limit: int = 24
) -> tuple[Picture, ...]:
    """The most confident wrong answers on the test pictures, with their pictures."""
    found = []
    for mistake in most_confident(arrays["test_probabilities"], arrays["test_labels"], limit=limit):
        row = int(arrays["test_rows"][mistake.position])
        file = dataset.images.path(row)
        try:
            jpeg = thumbnail(file, result.image)
        except UnreadableImage:
            jpeg = None
        name = dataset.images.snapshot.files[int(dataset.images.rows[row])]
        true, predicted = result.classes[mistake.true], result.classes[mistake.predicted]
        found.append(Picture(name, true, predicted, mistake.probability, jpeg))
    return tuple(found)


def render(
    result: RunResult,
    *,
    history: Sequence[EpochRecord],
    data: ValidationReport,
    after: Reliability | None = None,
    before: Reliability | None = None,
    sureness: bytes | None = None,
    mistakes: Sequence[Picture] = (),
    peers: Sequence[Peer] = (),
    labels: Mapping[str, Any] | None = None,
    found: str | None = None,
) -> str:
    """The page. Class and file names are strangers' text and are escaped, in the figures too. `found`: the page with
    pictures of what was found, beside this one; `sureness`: the curve of `coverage`, SVG."""
    pages = environment()
    chosen = settings(result.experiment, result.decided)
    findings = _findings(evidence_of(result, history, peers=peers))
    pages.filters |= {"duration": _duration, "flops": _flops}
    return pages.get_template("report.html.j2").render(
        run=result,
        history=history,
        data=data,
        found=found,
        mistakes=mistakes,
        labels=labels,
        findings=findings,
        coverage=inline(sureness, "Risk against coverage") if sureness else None,
        standing=standing(None, ""),
        exported=exported.section(None),
        checked=checked(None),
        difference=two_accuracies(result, history),
        next_step=next_step([remark for remark, _ in findings]),
        classes=_ranked(result.test),
        confused=_confused(result.test),
        settings=[(name, list(group)) for name, group in groupby(chosen, lambda line: line.section)],
        link=_link(result.lineage.flow_run_url),
        **_figures(result, history, after, before),
    )


def _findings(run: Evidence) -> list[tuple[Remark, Markup | None]]:
    """Each with its picture, where no other has it yet; the curves stand below them all."""
    left = pictures.available(run)
    left.pop("curves", None)
    findings: list[tuple[Remark, Markup | None]] = []
    for remark in diagnose(run):
        shown = remark.picture
        draw = left.pop(shown, None) if shown else None
        findings.append((remark, inline(draw("svg"), pictures.TITLES[shown]) if shown and draw else None))
    return findings


def _figures(
    result: RunResult, history: Sequence[EpochRecord], after: Reliability | None, before: Reliability | None
) -> dict[str, Any]:
    best = result.fit.best_epoch if any(r.epoch == result.fit.best_epoch for r in history) else None
    curves = [plots.learning_curves(history, best_epoch=best, stacked=stacked) for stacked in (False, True)]
    return {
        "curves": [inline(svg, "Learning curves") for svg in curves],
        "matrix": inline(plots.confusion(result.test), "Confusion matrix"),
        "reliability": inline(plots.reliability(after, before=before), "Reliability diagram") if after else None,
    }


def _ranked(metrics: Metrics) -> list[dict[str, Any]]:
    """Per class, with its place in each order: the page sorts by style alone."""
    places = {key: _places([getattr(c, key) for c in metrics.per_class]) for key in ("precision", "recall", "f1")}
    places["support"] = _places([-c.support for c in metrics.per_class])
    return [
        {"figures": figures, "name": index, **{key: order[index] for key, order in places.items()}}
        for index, figures in enumerate(metrics.per_class)
    ]


def _places(values: Sequence[float]) -> list[int]:
    return [int(place) for place in np.argsort(np.argsort(values, kind="stable"), kind="stable")]


def _confused(metrics: Metrics, *, limit: int = 8) -> list[tuple[str, str, int, float]]:
    """(true, predicted, count, share of the true class), most frequent first."""
    counts = np.array(metrics.confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:limit]
    names = [c.label for c in metrics.per_class]
    pairs = [divmod(int(flat), len(names)) for flat in order]
    return [
        (names[t], names[p], int(counts[t, p]), counts[t, p] / metrics.per_class[t].support)
        for t, p in pairs
        if counts[t, p]
    ]


def _link(url: str | None) -> str | None:
    return url if url and url.startswith(("http://", "https://")) else None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _flops(count: int) -> str:
    """Three figures: 1.82 GFLOPs."""
    for size, unit in ((1e9, "GFLOPs"), (1e6, "MFLOPs"), (1e3, "kFLOPs")):
        if count >= size:
            return f"{float(f'{count / size:.3g}'):g} {unit}"
    return f"{count} FLOPs"
