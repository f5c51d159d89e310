"""What the Prefect UI shows, as markdown and table rows made from values. No Prefect here."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.evaluation.diagnosis.pictures import TITLES
from models.evaluation.diagnosis.remark import Remark, Shown
from models.evaluation.metrics import Metrics
from models.evaluation.percent import percent
from models.records import CVResult, RunResult
from models.verdict import MARKS as MARK_OF
from models.verdict import Check, Verdict

if TYPE_CHECKING:
    from models.evaluation.report import Picture  # jinja2, matplotlib

Row = dict[str, str | int | float]

MARKS = {"stop": "**stop**", "drop": "**left out**", "warn": "**mind**", "warning": "**mind**", "note": "note:"}


def picture(data: bytes, alt: str, *, kind: str = "png") -> str:
    """Markdown that carries the picture inside, so that nothing else has to serve it."""
    return f"![{alt}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def metric_rows(result: RunResult) -> list[Row]:
    rows = [_metric_row("validation", result.validation), _metric_row("test", result.test)]
    if result.crossval is not None:
        rows.append(
            {
                "part": f"cross-validation, {len(result.crossval.folds)} folds",
                "accuracy": f"{percent(result.crossval.mean)} ± {100 * result.crossval.std:.1f}",
            }
        )
    return rows


def class_rows(metrics: Metrics) -> list[Row]:
    """The weakest class first: that is the one to look at."""
    return [
        {
            "class": c.label,
            "recall": percent(c.recall),
            "precision": percent(c.precision),
            "F1": percent(c.f1),
            "pictures": c.support,
        }
        for c in sorted(metrics.per_class, key=lambda c: c.f1)
    ]


def mistakes_page(mistakes: Sequence["Picture"]) -> str:
    """The surest first; framed as the network sees them."""
    if not mistakes:
        return "Every test picture was answered rightly.\n"
    lines = [
        "Look here first for wrong labels.",
        "",
        "| | Is | Answered | Sure | File |",
        "| :-- | :-- | :-- | --: | :-- |",
    ]
    for one in mistakes:
        shown = "cannot be shown" if one.jpeg is None else picture(one.jpeg, "", kind="jpeg")
        words = f"{cell(one.true)} | {cell(one.predicted)} | {percent(one.probability)} | {cell(one.file)}"
        lines.append(f"| {shown} | {words} |")
    return "\n".join(lines) + "\n"


def fold_rows(crossval: CVResult) -> list[Row]:
    rows: list[Row] = [
        {
            "fold": str(fold.fold + 1),
            "accuracy": percent(fold.accuracy),
            "pictures": fold.n,
            "epochs": fold.epochs_run,
            "seconds": round(fold.seconds, 1),
        }
        for fold in crossval.folds
    ]
    rows.append({"fold": "mean ± sd", "accuracy": f"{percent(crossval.mean)} ± {100 * crossval.std:.1f}"})
    return rows


def headline(remarks: Sequence[Remark]) -> str:
    """How many warnings there are, and of what."""
    warnings = [remark.kind for remark in remarks if remark.level == "warning"]
    if not warnings:
        return "What the curves say: no warnings"
    return f"What the curves say: {len(warnings)} warning{'s' if len(warnings) > 1 else ''} ({', '.join(warnings)})"


def diagnosis_page(remarks: Sequence[Remark], pictures: Mapping[Shown, bytes]) -> str:
    """Each finding, what to try, and its picture (PNG), which stands under the first finding that it shows."""
    left, lines = dict(pictures), ["# What the curves say", ""]
    for remark in remarks:
        head, colon, rest = remark.text.partition(":")
        mark = f"{MARKS[remark.level]} " if remark.level in MARKS else ""
        text = f"**{cell(head)}:**{cell(rest)}" if colon else cell(remark.text)
        lines += [f"- {mark}{text}"]
        lines += [f"  What to try: {remark.remedy}."] if remark.remedy else []
        if remark.picture in left:
            lines += ["", picture(left.pop(remark.picture), TITLES[remark.picture]), ""]
    return "\n".join(lines) + "\n"


def verdict_page(verdict: Verdict, model: str) -> str:
    """The figures, and what was checked; the sentence is the artifact's description, shown above them."""
    name = model.partition("@")[0]
    if verdict.promoted:
        heading = f"## {model} is now the champion of {name}"
    else:
        heading = f"## {model} {'stays in service' if verdict.champion == model else 'was not promoted'}"
    figures = [f"- this model: {percent(verdict.challenger_accuracy)} of {verdict.n:,} test pictures"]
    if verdict.champion_accuracy is not None:
        figures.append(f"- {verdict.champion}: {percent(verdict.champion_accuracy)} of the same pictures")
    if verdict.difference is not None and verdict.difference_low is not None:
        figures.append(
            f"- difference {100 * verdict.difference:+.1f} points, at least {100 * verdict.difference_low:+.1f}"
        )
    return "\n".join([heading, "", *figures, *check_lines(verdict.checks)]) + "\n"


def check_lines(checks: Sequence[Check]) -> list[str]:
    """A table; nothing where nothing was checked."""
    if not checks:
        return []
    rows = [f"| {MARK_OF[check.ok]} | {cell(check.name)} | {cell(check.said)} |" for check in checks]
    return ["", "| | Check | |", "| :-- | :-- | :-- |", *rows]


def report_page(report: Path) -> str:
    """A browser does not follow a link from a server to a file: the path is there to be copied."""
    return (
        f"[{cell(report.name)}]({report.resolve().as_uri()}), on the machine that ran it:\n\n"
        f"    {report.resolve()}\n\nEvery step of the training:\n\n"
        f"    tensorboard --logdir {report.resolve().parent / 'tensorboard'}\n"
    )


def links_page(
    report: Path,
    *,
    model: str,
    service: str | None,
    tensorboard: str | None,
    champion: tuple[str | None, str | None],
) -> str:
    """`service`, `tensorboard`: where they answer; `champion`: the model compared with and the page of its run."""
    folder = report.resolve().parent / "tensorboard"
    other, run = champion
    lines = [
        f"- report: `{report.resolve()}`, on the machine that ran it; the artifact *report* has it too",
        f"- curves: [TensorBoard]({tensorboard})" if tensorboard else f"- curves: `tensorboard --logdir {folder}`",
        f"- service: [a page to try pictures on]({service}/ui), [the model in service]({service}/model)"
        if service
        else f"- service: none answers here; `trainserve serve --model {model.partition('@')[0]}` starts one",
        f"- this model: `trainserve models show {model}`",
    ]
    if other is not None:
        lines.append(f"- compared with: [{cell(other)}]({run})" if run else f"- compared with: `{other}`")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A label inside a markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[").replace("\n", " ").replace("<", "&lt;")


def _metric_row(part: str, metrics: Metrics) -> Row:
    return {
        "part": part,
        "accuracy": percent(metrics.accuracy),
        "95 % interval": f"{percent(metrics.interval.low)} to {percent(metrics.interval.high)}",
        "macro F1": percent(metrics.macro_f1),
        "loss": round(metrics.loss, 4),
        "calibration error": percent(metrics.ece),
        "majority": percent(metrics.majority),
        "pictures": metrics.n,
    }
