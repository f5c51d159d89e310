"""Did it learn, too little or by heart? Training pictures against validation pictures, with the final weights.

The loss that the training loop prints is not used for this: mixup, cutmix, label smoothing and augmentation raise it,
so that every run with them would seem to underfit. Rules that need `checks` say nothing about runs without them.
"""

from collections.abc import Iterator

import numpy as np

from models.evaluation.diagnosis.remark import Evidence, Level, Peer, Remark
from models.evaluation.percent import percent

GAP_NOTED, GAP_WARNED = 0.05, 0.10  # of accuracy, training minus validation
HIGH_NOTED, HIGH_WARNED = 0.25, 0.5  # of the training loss, as a share of the loss of guessing
BETTER = 0.9  # another run's training loss is at most this share of ours
RISE = 1.1  # of the validation loss over its lowest


def not_learning(run: Evidence) -> Iterator[Remark]:
    """Neither validation nor training pictures are told better than by their most frequent class."""
    if learnt(run):
        return
    yield Remark(
        "not learning",
        "warning",
        f"Not learning: validation accuracy {percent(run.validation.accuracy)} cannot be told from always giving the "
        f"most frequent class ({percent(run.validation.majority)})"
        + (f", and on its own training pictures it is {percent(run.trained.accuracy)}." if run.trained else "."),
        "another learning rate; and check that pictures and labels belong together",
        "curves",
    )


def learnt(run: Evidence) -> bool:
    """Something, be it by heart."""
    trained = run.trained_interval
    return above_majority(run) or (trained is not None and trained.low > run.validation.majority)


def above_majority(run: Evidence) -> bool:
    return run.validation.interval.low > run.validation.majority


def overfitting(run: Evidence) -> Iterator[Remark]:
    """Clearly more training than validation pictures are right; or else, a rise of the validation loss."""
    trained, interval, validation = run.trained, run.trained_interval, run.validation
    if trained is None or interval is None:
        yield from rising(run)
        return
    gap = trained.accuracy - validation.accuracy
    if gap < GAP_NOTED or interval.low <= validation.interval.high:
        yield from rising(run)
        return
    yield Remark(
        "overfitting",
        "warning" if gap >= GAP_WARNED else "note",
        f"Overfitting: {percent(trained.accuracy)} of the training pictures are right but only "
        f"{percent(validation.accuracy)} of the validation pictures, a gap of {100 * gap:.0f} points (loss "
        f"{trained.loss:.2f} against {validation.loss:.2f}): part of what was learnt is these pictures by heart.",
        "more pictures, more augmentation (mixup, cutmix, erase), more weight decay or dropout, or a smaller model",
        "curves",
    )


def rising(run: Evidence) -> Iterator[Remark]:
    """Validation loss has risen by a tenth since its lowest while the loop's training loss went on falling."""
    history = run.history
    if len(history) < 5:
        return
    losses = np.array([record.val_loss for record in history])
    lowest, last = int(losses.argmin()), losses[-3:].mean()
    if last < RISE * losses[lowest] or history[-1].train_loss >= history[lowest].train_loss:
        return
    lost = history[run.fit.best_epoch].val_accuracy - np.mean([record.val_accuracy for record in history[-3:]])
    yield Remark(
        "overfitting",
        "warning" if lost > 0.01 else "note",
        f"Overfitting: validation loss rose from {losses[lowest]:.2f} (epoch {lowest + 1}) to {last:.2f} while "
        f"training loss kept falling, and validation accuracy {'fell with it' if lost > 0.01 else 'held'}; the weights "
        f"of epoch {run.fit.best_epoch + 1} were kept.",
        "more augmentation, more weight decay or more pictures",
        "curves",
    )


def follows(run: Evidence) -> bool:
    """The training loss fell, and validation with it: what one epoch cannot show."""
    history = run.history
    if len(history) < 2 or any(rising(run)):
        return False
    first, last = history[0], history[-1]
    return last.train_loss < first.train_loss and min(record.val_loss for record in history[1:]) < first.val_loss


def underfitting(run: Evidence) -> Iterator[Remark]:
    """The loss on training pictures stays high; if a smaller model got it lower, size is not what is missing."""
    trained, interval = run.trained, run.trained_interval
    if trained is None or interval is None or interval.low <= run.validation.majority:
        return
    gap = trained.accuracy - run.validation.accuracy
    share = trained.loss / run.guessing
    if share < HIGH_NOTED or (gap >= GAP_WARNED and interval.low > run.validation.interval.high):
        return
    level: Level = "warning" if share >= HIGH_WARNED else "note"
    better = smaller_and_better(run)
    if better:
        yield trouble(run, better, level=level)
        return
    yield Remark(
        "underfitting",
        level,
        f"Underfitting: even of its own training pictures only {percent(trained.accuracy)} are right, with a loss of "
        f"{trained.loss:.2f} where guessing gives {run.guessing:.2f}, so there is more in them than it learnt.",
        "a wider or deeper model, larger pictures, more epochs, or less augmentation and weight decay",
        "curves",
    )


def smaller_and_better(run: Evidence) -> Peer | None:
    """The best of the smaller models that had a clearly lower loss on the same training pictures."""
    trained = run.trained
    if trained is None:
        return None
    better = [p for p in run.peers if p.parameters < run.fit.parameters and p.training.loss < BETTER * trained.loss]
    return min(better, key=lambda peer: peer.training.loss, default=None)


def trouble(run: Evidence, better: Peer, *, level: Level) -> Remark:
    assert run.trained is not None
    return Remark(
        "optimisation trouble",
        level,
        f"Optimisation trouble: its loss on training pictures is {run.trained.loss:.2f}, but the smaller {better.kind} "
        f"of run {better.run_id} reached {better.training.loss:.2f} on the same pictures with {better.parameters:,} "
        f"weights instead of {run.fit.parameters:,}, so the size is enough and the training is what fails.",
        "another learning rate or optimiser, a longer warm-up, normalisation layers or shortcuts, more epochs",
        "curves",
    )
