"""The trials of a sweep under way: asked for, given out, watched, given up, told."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from optuna.trial import FrozenTrial, TrialState
from prefect.logging import get_run_logger

from data.errors import InputError, RunFailed
from flows.artifacts import Progress
from flows.console import display, duration
from flows.engines import RunnerConfig, at_a_time, task_runner
from flows.fan import Fan, fanned, reason
from flows.orders import Orders
from flows.prepare import Prepared
from flows.sweep.result import SweepResult, TrialResult, command_for, shown
from flows.sweep.search import Space, with_values
from flows.sweep.study import PICKED, WHY, Study
from flows.sweep.trial import STOP, curve, figure, folder_of, made, offer, thin, trial
from models.config import Experiment
from models.records import FitSummary
from models.run import RunFolder
from models.training import apart
from models.training.told import Stopped

if TYPE_CHECKING:
    from flows.sweep.flow import SweepConfig

LOOK_EVERY_S = 0.5
ENDS_S = 60.0  # how long trials may take to stop
TRIES = 3  # of a trial whose worker was lost
BAD_IN_A_ROW = 5  # failures, before anything else came: it is not the settings then
STATES: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass
class Trying:
    """`all` is the way in; `result` what has been found so far."""

    experiment: Experiment
    space: Space
    config: "SweepConfig"
    runner: RunnerConfig
    prepared: Prepared
    folder: Path
    kind: str  # cpu or gpu: where trials train
    bar: Progress
    tries: dict[int, int] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)
    failures: int = 0  # in a row

    def __post_init__(self) -> None:
        self.monitor = self.experiment.train.monitor
        self.study = Study(
            self.folder,
            self.space,
            seed=self.experiment.train.seed,
            larger_is_better=self.monitor == "val_accuracy",
            prune=self.config.prune,
        )
        self.left = self.study.under_way()
        self.given_up |= {number for number in self.left if (self.run_of(number).path / STOP).exists()}
        self.orders = Orders(self.folder / "orders")

    def all(self, stop: Callable[[], bool], *, threads: int, gpus: int) -> None:
        """Raises `Stopped`, and `RunFailed` where nothing but failures comes."""
        at_once = min(at_a_time(self.runner, gpus=gpus), self.config.trials)
        if done := self.done():
            display().note(f"going on with sweep {self.folder.name} after {done} of {self.config.trials} trials")
        make = partial(task_runner, self.runner, at_once=at_once)
        with self.orders.given(), fanned(trial, make) as fan:
            try:
                while not stop():
                    self.give_more(fan, at_once, threads)
                    if not fan.under_way:
                        return
                    one = fan.ended(timeout_s=LOOK_EVERY_S)
                    self.look(fan)
                    if one is not None:
                        self.settle(fan, one[0] - 1, one[1], threads)
            finally:
                if fan.under_way:
                    self.leave(fan)
        raise Stopped(f"after {self.done()} of {self.config.trials} trials")

    def done(self) -> int:
        return len(self.study.trials(TrialState.COMPLETE, TrialState.PRUNED))

    def give_more(self, fan: Fan, at_once: int, threads: int) -> None:
        """Those that an earlier process began come first."""
        while len(fan.under_way) < at_once and self.done() + len(fan.under_way) < self.config.trials:
            if self.left:
                number = min(self.left)
                picked = self.left.pop(number)
            else:
                try:
                    number, picked = self.study.begin(self.experiment)
                except InputError as error:
                    self.bad(str(error))
                    continue
            self.give(fan, number, with_values(self.experiment, picked), threads)

    def give(self, fan: Fan, number: int, experiment: Experiment, threads: int) -> None:
        self.tries[number] = self.tries.get(number, 0) + 1
        run = made(self.run_of(number), experiment, self.prepared.fingerprint)
        fan.give(
            number + 1,
            folder=run.path,
            cwd=Path.cwd(),
            orders=self.orders.file,
            prepared=self.prepared,
            threads=threads,
            kind=self.kind,
            apart_=self.runner.kind != "plain",
        )

    def run_of(self, number: int) -> RunFolder:
        return folder_of(self.prepared.home, self.folder.name, number)

    def look(self, fan: Fan) -> None:
        """Curves are told to the study, what is not worth its time is given up, and the bar moves."""
        share, left, words = 0.0, 0.0, []
        for number in sorted(one - 1 for one in fan.under_way):
            run = self.run_of(number)
            self.gives_up(number, run)
            update = apart.left_progress(run.path)
            if update is not None:
                share += update.step / max(update.total_steps, 1)
                left = max(left, update.seconds_left)
                words.append(f"trial {number + 1} epoch {update.epoch + 1} of {update.epochs}")
        done, best = self.done(), self.study.best()
        so_far = "" if best is None else f"; best {shown(best.value, self.monitor)}"
        said = "; ".join((f"{done} of {self.config.trials} trials{so_far}", *words))
        said += f"; {duration(left)} left of what is under way" if words else ""
        display().moved(said, done + share, self.config.trials)
        self.bar.moved((done + share) / self.config.trials, said)

    def gives_up(self, number: int, run: RunFolder) -> bool:
        """Decided by the curve alone, also where the trial was quicker than this look at it: so a sweep that was killed
        finds what an undisturbed one does."""
        if number not in self.given_up and self.study.saw(number, curve(run, self.monitor)):
            self.given_up.add(number)
            (run.path / STOP).touch()
        return number in self.given_up

    def settle(self, fan: Fan, number: int, outcome: object, threads: int) -> None:
        """One is over: its figure is told, or it is given out again where its worker was lost."""
        run = self.run_of(number)
        if self.gives_up(number, run):
            self.study.pruned(number)
            thin(run, weights=False)
            self.failures = 0
            self.tell(number, "given up")
        elif isinstance(outcome, FitSummary) or run.learned:
            value = figure(run.history()[run.fit().best_epoch], self.monitor)
            self.study.completed(number, value)
            best = self.study.best()
            for other in self.study.trials(TrialState.COMPLETE):
                thin(self.run_of(other.number), weights=best is not None and other.number == best.number)
            self.failures = 0
            self.tell(number, shown(value, self.monitor))
        elif (failed := reason(outcome)) is not None:
            why = str(failed)
            if isinstance(failed, InputError):
                self.study.failed(number, why)
            else:  # as a loss that was no number any more: the search is to keep away from there
                self.study.pruned(number, why)
            thin(run, weights=False)
            self.tell(number, f"failed: {why}")
            self.bad(why)
        elif self.tries[number] == TRIES:
            raise RunFailed(
                f"trial {number + 1} was lost {TRIES} times on engine {self.runner.kind} (at last "
                f"{type(outcome).__name__}: {outcome}); see to its workers, and the same command goes on"
            )
        else:
            self.tell(number, "was lost and is given out again")
            self.give(fan, number, run.experiment(), threads)

    def tell(self, number: int, what: str) -> None:
        words = f"trial {number + 1}: {what}"
        display().note(words)
        get_run_logger().info("%s", words)

    def bad(self, why: str) -> None:
        """Raises `RunFailed` where nothing else comes."""
        self.failures += 1
        if self.failures == BAD_IN_A_ROW:
            raise RunFailed(f"{BAD_IN_A_ROW} trials in a row failed, at last because {why}; change what is searched")

    def leave(self, fan: Fan) -> None:
        """Ask all to stop, and wait until they have; they go on where they stopped."""
        self.orders.stop()
        until = time.monotonic() + ENDS_S
        while fan.under_way and time.monotonic() < until:
            fan.ended(timeout_s=LOOK_EVERY_S)

    def stopping(self) -> None:
        display().note("stopping: what was tried is kept; once more ends at once", style="yellow")

    def offer_best(self) -> None:
        """A run of the settings that did best need not train again."""
        best = self.study.best()
        if best is not None:
            try:
                offer(self.run_of(best.number), self.prepared)
            except OSError as error:  # costs no result: that run trains
                get_run_logger().warning("the best trial is not offered to runs: %s", error.strerror or error)

    def result(self) -> SweepResult:
        found = tuple(self.told(one) for one in self.study.trials(*STATES))
        best = self.study.best()
        return SweepResult(
            name=self.folder.name,
            monitor=self.monitor,
            trials=found,
            best=None if best is None else self.told(best),
            command=None if best is None else command_for(with_values(self.experiment, best.user_attrs[PICKED])),
        )

    def told(self, one: FrozenTrial) -> TrialResult:
        return TrialResult(
            number=one.number + 1,
            state=STATES[one.state],
            value=one.value,
            settings=cast("dict[str, str]", one.user_attrs.get(PICKED, {})),
            epochs=len(one.intermediate_values),
            why=one.user_attrs.get(WHY),
        )
