"""Optuna's part: which settings are tried next, which trials are given up, and a journal that outlives a kill.

One process writes the journal, and holds the folder of the sweep while it does; trials know nothing of it.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from data.errors import InputError
from flows.sweep.search import Dimension, Space, Span, suggested, with_values
from models.config import Experiment

JOURNAL = "journal.log"
PICKED, WHY = "picked", "why"  # what is written beside a trial
STARTUP, WARMUP = 4, 2  # trials, and epochs of each, before any is given up


class Study:
    """`trial = study.begin(...)`, then `study.saw(...)` epoch by epoch, then `completed`, `pruned` or `failed`."""

    def __init__(self, folder: Path, space: Space, *, seed: int, larger_is_better: bool, prune: bool) -> None:
        self._space, self._seed = space, seed
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP)
        with quiet():
            self.study = optuna.create_study(
                storage=JournalStorage(journal(folder / JOURNAL)),
                study_name=folder.name,
                direction="maximize" if larger_is_better else "minimize",
                pruner=pruner if prune else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def begin(self, base: Experiment) -> tuple[int, dict[str, str]]:
        """The next trial: its number, from 0, and its settings. Raises `InputError` where these do not go together; the
        trial has failed then."""
        with quiet():
            self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()
            try:
                picked = suggested(self._space, base, lambda one: suggest(trial, one))
                with_values(base, picked)
            except InputError as error:
                self.failed(trial.number, str(error))
                raise
            trial.set_user_attr(PICKED, picked)
        return trial.number, picked

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A function of the trials so far alone: a sweep that is gone on with tries what it would have tried."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def under_way(self) -> dict[int, dict[str, str]]:
        """Those that a process before this one began and did not end."""
        left = {}
        for trial in self.trials(TrialState.RUNNING):
            if PICKED in trial.user_attrs:
                left[trial.number] = dict(trial.user_attrs[PICKED])
            else:
                self.failed(trial.number, "nothing had begun yet")
        return left

    def saw(self, number: int, curve: dict[int, float]) -> bool:
        """By epoch; those heard before are passed over. Whether the trial is to be given up: nothing more is to be told
        of it then, so that it does not matter how far it has got meanwhile."""
        (frozen,) = [trial for trial in self.trials() if trial.number == number]
        with quiet():
            trial = Trial(self.study, frozen._trial_id)
            if frozen.intermediate_values and trial.should_prune():
                return True  # and a kill came before it was noted
            for epoch in sorted(curve.keys() - frozen.intermediate_values.keys()):
                trial.report(curve[epoch], epoch)
                if trial.should_prune():
                    return True
        return False

    def completed(self, number: int, value: float) -> None:
        with quiet():
            self.study.tell(number, value)

    def pruned(self, number: int, why: str | None = None) -> None:
        """Given up, or ended by itself in a way that is the settings' fault."""
        self._tell(number, TrialState.PRUNED, why)

    def failed(self, number: int, why: str) -> None:
        self._tell(number, TrialState.FAIL, why)

    def _tell(self, number: int, state: TrialState, why: str | None) -> None:
        with quiet():
            if why is not None:
                (frozen,) = [trial for trial in self.trials() if trial.number == number]
                Trial(self.study, frozen._trial_id).set_user_attr(WHY, why)
            self.study.tell(number, state=state)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def best(self) -> FrozenTrial | None:
        """None before any has been completed."""
        return self.study.best_trial if self.trials(TrialState.COMPLETE) else None

    def importances(self) -> dict[str, float]:
        """Of each field for the figure, shares of 1; empty where there are too few trials to tell."""
        if len(self.trials(TrialState.COMPLETE)) < 2:
            return {}
        with quiet():
            return optuna.importance.get_param_importances(
                self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )


def suggest(trial: Trial, one: Dimension) -> str:
    if not isinstance(one, Span):
        return str(trial.suggest_categorical(one.path, one.of))
    if one.whole:
        return one.text(trial.suggest_int(one.path, round(one.low), round(one.high), log=one.log))
    return one.text(trial.suggest_float(one.path, one.low, one.high, log=one.log))


def journal(file: Path) -> JournalFileBackend:
    """As a kill may have left it: a lock that nobody holds, a last line that is not whole. Nobody else writes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(file))
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if file.exists():
        whole = file.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            with file.open("r+b") as cut:
                cut.truncate(end)
    return JournalFileBackend(str(file), lock_obj=lock)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna tells of every trial on standard error, and of what is new in it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
