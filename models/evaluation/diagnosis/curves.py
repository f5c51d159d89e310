"""What the curves of the epochs say: the learning rate, and how it ended.

They look at where the training loss goes. Of its height one thing holds under mixup and label smoothing too: nobody
should do worse than guessing, whose loss is the same with them.
"""

from collections.abc import Iterator

import numpy as np

from models.evaluation.diagnosis.learned import HIGH_WARNED
from models.evaluation.diagnosis.remark import Evidence, Remark

WARM_UP = 2  # first epochs, whose losses may do as they please
SPIKE = 1.5  # a training loss this many times the lowest so far ...
SPIKE_LEAST = 0.1  # ... and this many nats above it
WORSE_THAN_GUESSING = 1.2
NEVER_BETTER = 0.95  # of the loss of guessing: then the first epochs count too
UNMOVED = 1e-3  # of the loss of guessing
GRADIENT = 1e-2  # norm; with less it is no wonder that nothing moves
STEADY = 0.2  # rises are at most this share of all falls
STRAIGHT = 0.5  # the second half of the way brings at least this share of what the first half brought
FEWEST = 6  # epochs that show a course


def rate_too_high(run: Evidence) -> Iterator[Remark]:
    """The training loss is above that of guessing or jumps up, after the first epochs or where it never got lower."""
    losses = np.array([record.train_loss for record in run.history])
    later = losses if len(losses) and losses.min() > NEVER_BETTER * run.guessing_in_training else losses[WARM_UP:]
    if len(later) < 2:
        return
    before = len(losses) - len(later)
    lowest = np.minimum.accumulate(later)[:-1]
    spikes = np.flatnonzero((later[1:] > SPIKE * lowest) & (later[1:] > lowest + SPIKE_LEAST)) + before + 2
    above = np.flatnonzero(later > WORSE_THAN_GUESSING * run.guessing_in_training) + before + 1
    if not len(spikes) and not len(above):
        return
    peak = max(record.lr for record in run.history)
    if len(above):
        what = (
            f"in {len(above)} of {len(losses)} epochs the training loss was above that of guessing, "
            f"{run.guessing_in_training:.2f} (highest {later.max():.3g} in epoch {int(later.argmax()) + before + 1})"
        )
    else:
        what = f"the training loss jumped up in {len(spikes)} of {len(losses)} epochs (first in epoch {spikes[0]})"
    yield Remark(
        "rate too high",
        "warning",
        f"Learning rate too high: {what}, so with a rate of up to {peak:.2g} the steps leap over what they look for.",
        f"a lower rate, such as {peak / 5:.1g}, a longer warm-up, or harder gradient clipping",
        "rate",
    )


def rate_too_low(run: Evidence) -> Iterator[Remark]:
    """The loss falls steadily, nearly straight over the sum of the rates, and has not got far; or it does not move."""
    if len(run.history) < FEWEST or not still_high(run):
        return
    losses = np.array([record.train_loss for record in run.history])
    unmoved = np.ptp(losses) < UNMOVED * run.guessing_in_training
    if not (straight(run) or (unmoved and np.median([r.grad_norm for r in run.history]) > GRADIENT)):
        return
    peak = max(record.lr for record in run.history)
    course = "without moving" if unmoved else "in a nearly straight line"
    yield Remark(
        "rate too low",
        "warning",
        f"Learning rate too low: in {len(losses)} epochs the training loss crept from {losses[0]:.3f} to "
        f"{losses[-1]:.3f}, {course} (guessing gives {run.guessing_in_training:.2f}), so with a rate of at most "
        f"{peak:.2g} it had hardly set out when it ended.",
        f"a higher rate, such as {5 * peak:.1g}, or many more epochs",
        "rate",
    )


def straight(run: Evidence) -> bool:
    """The second half of the way, in the sum of the rates, brought at least half of what the first did; steadily."""
    losses = np.array([record.train_loss for record in run.history])
    steps = np.diff(losses)
    falls, rises = -steps[steps < 0].sum(), steps[steps > 0].sum()
    way = np.cumsum([record.lr for record in run.history])
    half = np.interp((way[0] + way[-1]) / 2, way, losses)
    return bool(falls > 0 and rises <= STEADY * falls and half - losses[-1] >= STRAIGHT * (losses[0] - half))


def still_high(run: Evidence) -> bool:
    """The training pictures are hardly learnt; where that was not measured, the loop's own loss has to do."""
    if run.trained:
        return run.trained.loss > HIGH_WARNED * run.guessing
    return run.history[-1].train_loss > HIGH_WARNED * run.guessing_in_training


def unfinished(run: Evidence) -> Iterator[Remark]:
    """The best epoch is among the last tenth, and the last third still brought down the loss by 5 %."""
    n, fit = len(run.history), run.fit
    if n < 3 or fit.stopped_early:
        return
    late = n // 3
    losses = [record.val_loss for record in run.history]
    before, after = min(losses[:-late]), min(losses[-late:])
    if fit.best_epoch >= n - max(1, n // 10) and after <= 0.95 * before:
        yield Remark(
            "unfinished",
            "note",
            f"Still improving when it ended: the last {late} of {n} epochs brought validation loss from {before:.2f} "
            f"to {after:.2f}.",
            f"more epochs, such as {2 * n}",
            "curves",
        )


def settled(run: Evidence) -> Iterator[Remark]:
    """Over the last third the validation loss stays within 2 %."""
    n = len(run.history)
    if n < FEWEST or run.fit.stopped_early:
        return
    losses = np.array([record.val_loss for record in run.history[-(n // 3) :]])
    if np.ptp(losses) <= 0.02 * losses.min():
        yield Remark(
            "settled",
            "fine",
            f"Settled: over the last {len(losses)} of {n} epochs validation loss stayed between {losses.min():.3f} and "
            f"{losses.max():.3f}, so more epochs after these would bring little.",
            picture="curves",
        )


def stopped(run: Evidence) -> Iterator[Remark]:
    fit = run.fit
    if fit.stopped_early:
        yield Remark(
            "stopped",
            "note",
            f"Stopped after {fit.epochs_run} of {fit.epochs_planned} epochs: nothing better since epoch "
            f"{fit.best_epoch + 1}, whose weights were kept.",
            picture="curves",
        )
