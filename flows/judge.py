"""Whether a stored bundle may go into service: tried, then compared with the champion. No Prefect here."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from data.prepare import Dataset
from data.progress import Progress, ignore
from flows.drift import drifted, other_split
from flows.measured import Measuring
from flows.service import variant_here
from models.bundle.bundle import Bundle, BundleError, predict_files
from models.config import ReleaseConfig
from models.evaluation.checks import beside, sureness
from models.evaluation.compare import align, compare
from models.evaluation.metrics import Metrics
from models.run import RunFolder
from models.verdict import Verdict
from serving import store
from serving.aliases import DECISIONS
from serving.refs import ModelRef

# What a service does before it answers: a fresh process, no torch, the golden samples replayed.
OPEN = """
import sys
from pathlib import Path
from models.bundle.bundle import Bundle, BundleError
try:
    Bundle.open(Path(sys.argv[1]))
except BundleError as error:
    sys.exit(str(error))
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""


def try_as_service(bundle: Path) -> None:
    """Raises `BundleError` unless the stored bundle opens in a process such as the service's."""
    done = subprocess.run([sys.executable, "-c", OPEN, str(bundle)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise BundleError(f"the bundle does not open in a fresh process, so it was not promoted: {last}")


def settled(ref: ModelRef, test: Metrics, *, run_id: str) -> Verdict | None:
    """On a model that an earlier run made of the same pictures and settings, where no new verdict is due: it is in
    service, or a person took it out of service. None: it is to be judged. `test`: its figures on the test pictures."""
    held = store.aliases(ref.name)
    if ref.version == run_id or held.champion is None:
        return None
    given = partial(Verdict, promoted=False, n=test.n, challenger_accuracy=test.accuracy, champion=str(held.champion))
    if held.champion == ref:
        reason = f"{ref} stays in service: the pictures and the settings are those that it was made of."
        return given(relation="same", reason=reason)
    last = [change for change in held.history if change.what in DECISIONS][-1]
    if last.what == "rollback" and last.replaced == ref.version:
        reason = (
            f"Kept {held.champion}: the same pictures and settings give {ref} again, which a rollback took out of "
            f'service; `trainserve models promote {ref} --because "..."` puts it back.'
        )
        return given(relation="unproven", reason=reason)
    return None


def judge(
    run: RunFolder,
    dataset: Dataset,
    ref: ModelRef,
    config: ReleaseConfig,
    *,
    latency_ms: float | None = None,
    progress: Progress = ignore,
) -> Verdict:
    """The new model against the champion on this run's test pictures; both saw none of them in training.

    `latency_ms`: within which 95 of 100 requests for one picture were answered; None: it is measured here, in process.
    """
    held = store.aliases(ref.name)
    baseline = held.previous if held.champion == ref else held.champion  # a release cut off after its promotion
    wanted = variant_here()
    candidate = Bundle.open(store.path(ref), variant=wanted)
    measuring = Measuring(candidate, dataset.images, config, latency_ms=latency_ms, progress=progress)
    if baseline is None:
        return alone(run, measuring)
    try:
        champion = Bundle.open(store.path(baseline), variant=wanted)
    except BundleError as error:
        remark = f"{baseline} could not be compared with, because it does not open ({error})"
        return with_remark(alone(run, measuring), remark)
    return against(champion, baseline, run, measuring)


def alone(run: RunFolder, measuring: Measuring) -> Verdict:
    """A first model."""
    predictions, images = run.predictions(), measuring.images
    measured = measuring.beside(None, predictions["test_rows"], predictions["test_labels"])
    verdict = compare(
        challenger=answers(run, measuring),
        champion=None,
        labels=predictions["test_labels"],
        classes=images.classes,
        config=measuring.config,
        champion_name=None,
        also=(*sureness(measuring.candidate.card.selective), *measured.checks),
    )
    return with_remark(verdict.model_copy(update={"robustness": measured.levels}), by_variant(measuring.candidate))


def answers(run: RunFolder, measuring: Measuring) -> np.ndarray:
    """(N, K) to the run's test pictures, of what is to answer in service: the trained network's, as the exported graph
    has the same, or those of a graph in fewer bits."""
    predictions, candidate = run.predictions(), measuring.candidate
    if candidate.variant == "float":
        return predictions["test_probabilities"]
    measuring.progress(f"the answers of the {candidate.variant} graph", 0, 0)
    return predict_files(candidate, [measuring.images.path(int(row)) for row in predictions["test_rows"]])


def by_variant(candidate: Bundle) -> str:
    """ "" where the exported graph answers."""
    if candidate.variant == "float":
        return ""
    return f"judged by the answers of its {candidate.variant} graph, which services here give"


def against(champion: Bundle, baseline: ModelRef, run: RunFolder, measuring: Measuring) -> Verdict:
    """On the test pictures of the classes that both know."""
    predictions, images, config = run.predictions(), measuring.images, measuring.config
    ours, labels, old = answers(run, measuring), predictions["test_labels"], champion.card.classes
    known = np.isin(labels, [k for k, label in enumerate(images.classes) if label in old])
    if not known.any():
        return strangers(baseline, old, ours, labels)
    ours, labels, rows = ours[known], labels[known], predictions["test_rows"][known]
    measuring.progress("the champion's answers", 0, 0)
    paths = [images.path(int(row)) for row in rows]
    theirs = align(predict_files(champion, paths), classes=old, onto=images.classes)
    measured, seed = measuring.beside(champion, rows, labels), int(images.snapshot.fingerprint[:16], 16)
    spec = run.experiment().dataset
    before = drifted(ours, theirs, labels, rows, baseline, spec, measuring)
    verdict = compare(
        challenger=ours,
        champion=theirs,
        labels=labels,
        classes=images.classes,
        config=config,
        champion_name=str(baseline),
        also=(
            *before,
            *beside(ours, theirs, labels, config=config, seed=seed),
            *sureness(measuring.candidate.card.selective),
            *measured.checks,
        ),
    )
    verdict = verdict.model_copy(update={"robustness": measured.levels})
    verdict = with_remark(verdict, by_variant(measuring.candidate))
    verdict = with_remark(verdict, class_changes(old, images.classes, int(known.sum())))
    return with_remark(verdict, other_split(champion.card.experiment, spec))


def class_changes(old: tuple[str, ...], new: tuple[str, ...], shared: int) -> str:
    """ "" where both know the same classes. Otherwise they were compared on the pictures of the classes both know."""
    added, gone = [c for c in new if c not in old], [c for c in old if c not in new]
    if not added and not gone:
        return ""
    changes = [f"{word} {', '.join(labels[:5])}" for word, labels in (("new:", added), ("gone:", gone)) if labels]
    return f"compared on the {shared:,} test pictures of the classes both know ({'; '.join(changes)})"


def strangers(baseline: ModelRef, classes: tuple[str, ...], ours: np.ndarray, labels: np.ndarray) -> Verdict:
    return Verdict(
        promoted=False,
        relation="unproven",
        reason=f"Kept {baseline}: no class of these test pictures is known to it (it knows "
        f"{', '.join(classes[:5])}), so the two cannot be compared; "
        "promote the new model by hand, or give the data another dataset.name.",
        n=0,
        challenger_accuracy=float((ours.argmax(axis=1) == labels).mean()),
        champion=str(baseline),
    )


def with_remark(verdict: Verdict, remark: str) -> Verdict:
    """The same decision, its sentence continued."""
    if not remark:
        return verdict
    return verdict.model_copy(update={"reason": f"{verdict.reason.rstrip('.')}; {remark}."})
