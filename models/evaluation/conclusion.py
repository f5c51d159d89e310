"""What a report says first: whether the model went into service, and what to try next. No torch here.

The report is written before the release decides, so that a run that fails there has one; the decision is put into the
page afterwards, between marks that no stranger's text can hold, since its `<` is escaped.
"""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from data import whole
from models.evaluation import judged
from models.evaluation.diagnosis.remark import Remark
from models.records import EpochRecord, RunResult
from models.verdict import Verdict

OPEN, CLOSE = Markup("<!-- release -->"), Markup("<!-- /release -->")
OPEN_CHECKS, CLOSE_CHECKS = Markup("<!-- checks -->"), Markup("<!-- /checks -->")
UNDECIDED = Markup("whether it goes into service was not decided when this page was written.")


def standing(verdict: Verdict | None, model: str) -> Markup:
    """The end of the first sentence, and the reason; `model` is name@version."""
    if verdict is None:
        said = UNDECIDED
    elif verdict.promoted:
        said = Markup('<b class="right">it went into service</b> as <code>{}</code>.').format(model)
    elif verdict.champion == model:
        said = Markup('<b class="right">it is in service</b> as <code>{}</code>, as before.').format(model)
    else:
        said = Markup('<b class="wrong">it was not promoted</b> (<code>{}</code>).').format(model)
    if verdict is not None:
        said += Markup('<span class="soft reason">{}</span>').format(verdict.reason)
    return OPEN + said + CLOSE


def checked(verdict: Verdict | None) -> Markup:
    """The section about the checks; nothing while there are none."""
    return OPEN_CHECKS + (Markup("") if verdict is None else judged.section(verdict)) + CLOSE_CHECKS


def conclude(report: Path, verdict: Verdict, model: str) -> None:
    """Put the decision into a written report, in the place of an earlier one. Nothing is done without a report."""
    if not report.exists():
        return
    page = report.read_text(encoding="utf-8")
    page = between_marks(page, standing(verdict, model), OPEN, CLOSE)
    whole.write(report, between_marks(page, checked(verdict), OPEN_CHECKS, CLOSE_CHECKS).encode())


def between_marks(page: str, told: Markup, opening: Markup, closing: Markup) -> str:
    """The page with `told`, marks and all, in the place between these marks; as it was where it has none."""
    head, opened, rest = page.partition(opening)
    _, closed, tail = rest.partition(closing)
    return head + str(told) + tail if opened and closed else page


def next_step(remarks: Sequence[Remark]) -> tuple[str, str] | None:
    """(what to try, the finding's heading) of the gravest finding that says what to try; None where none does."""
    for remark in remarks:
        if remark.remedy:
            return remark.remedy, remark.text.partition(":")[0]
    return None


def two_accuracies(result: RunResult, history: Sequence[EpochRecord]) -> str | None:
    """Why the validation accuracy of the kept epoch is not that of the table, where a reader can see that it is not."""
    kept = next((record for record in history if record.epoch == result.fit.best_epoch), None)
    if kept is None or f"{100 * kept.val_accuracy:.1f}" == f"{100 * result.validation.accuracy:.1f}":
        return None
    asked = result.experiment.train.precision
    precision = (result.decided or {}).get("train.precision", asked)
    how = ["in bfloat16, which is faster"] if precision == "bfloat16" else []
    how += ["without the mirror image"] if result.experiment.answer.mirror else []
    return (
        f"While training, validation pictures were answered {' and '.join(how) or 'in the precision of training'}: "
        f"{100 * kept.val_accuracy:.1f} % right in the kept epoch. All other figures are of the model as it is "
        f"exported, in float32: {100 * result.validation.accuracy:.1f} %."
    )
