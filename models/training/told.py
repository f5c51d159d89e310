"""What a training tells of itself, also from one process to another: how far it is, and that it was stopped. No torch
here."""

from dataclasses import dataclass

FOLLOW = "--follow"  # standard input is a pipe: "stop" asks for a stop, its end says that the parent is gone


class Stopped(Exception):  # noqa: N818 - asked for, and no error
    """Training was asked to stop, and did so after a step; the checkpoint holds what was learnt, if anything was."""


@dataclass(frozen=True)
class ProgressUpdate:
    """Told a few times a second within an epoch."""

    epoch: int  # from 0
    epochs: int  # planned
    step: int  # done in the whole run
    total_steps: int
    train_loss: float  # mean over the epoch so far
    images_per_s: float
    seconds_left: float  # if early stopping does not end it sooner
