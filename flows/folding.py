"""The folds of a cross-validation as tasks, beside each other on an engine. The plain loop is in
`models.training.cross_validate`, and the results are the same."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from data.errors import RunFailed
from flows.child_place import gpus_of_a_place
from flows.engines import RunnerConfig, at_a_time, task_runner
from flows.fan import Fan, fanned, lost, reason
from flows.orders import Orders, heeding
from models.records import CVResult, FoldResult
from models.run import RunFolder
from models.training import apart
from models.training.folds import FOLDER, ended_folds, fold_folder, keep_folds, summarise
from models.training.told import Stopped

if TYPE_CHECKING:
    from flows.cross_validate import Watch

ORDERS = "orders"
TRIES = 3  # of a fold whose worker was lost
LOOK_EVERY_S = 0.5
ENDS_S = 60.0  # how long tasks may take to stop


@task(
    name="fold",
    task_run_name="fold {number}",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=lost,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fold(number: int, folder: Path, cwd: Path, threads: int, kind: str) -> FoldResult:
    """Trained by a process of its own, so that folds beside each other share no random numbers, and a worker that is
    killed takes along what it trains. Counted from 1 here. `cwd`: the flow's."""
    stop = heeding(folder / FOLDER / ORDERS)
    try:
        with gpus_of_a_place(kind, stop=stop) as gpus:
            return apart.fold(
                RunFolder(folder),
                number - 1,
                threads=threads,
                cwd=cwd,
                gpus=gpus,
                on_trouble=get_run_logger().warning,
                stop=stop,
            )
    except Stopped as stopped:
        return cast("FoldResult", Cancelled(message=f"Stopped {stopped}; the next run goes on from there"))


@dataclass
class Folding:
    """All folds that have not ended yet, given out; `shared_out` is the way in."""

    run: RunFolder
    total: int
    runner: RunnerConfig
    threads: int
    kind: str  # cpu or gpu: where folds train
    watch: "Watch"
    ended: dict[int, FoldResult] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)

    def give(self, fan: Fan, fold: int) -> None:
        self.tries[fold] = self.tries.get(fold, 0) + 1
        fan.give(fold + 1, folder=self.run.path, cwd=Path.cwd(), threads=self.threads, kind=self.kind)

    def settle(self, fan: Fan, fold: int, outcome: object) -> None:
        """One is over. Where its worker was lost it is given out again, unless it had ended and only the word of it was
        lost. Raises what the fold raised, and `RunFailed`."""
        kept = {result.fold: result for result in ended_folds(self.run)}
        result = outcome if isinstance(outcome, FoldResult) else kept.get(fold)
        if result is not None:
            self.ended[fold] = result
            keep_folds(self.run, list(self.ended.values()), {}, self.watch.trouble)  # each wrote its own answers
            self.watch.fold(result)
            return
        if (failed := reason(outcome)) is not None:
            raise failed
        why = f"{type(outcome).__name__}: {' '.join(str(outcome).split())[:300]}"
        if self.tries[fold] == TRIES:
            raise RunFailed(
                f"fold {fold + 1} was lost {TRIES} times on engine {self.runner.kind} (at last {why}); see to its "
                "workers, and the same command goes on with the folds that are missing"
            )
        self.watch.trouble(f"fold {fold + 1} was lost ({why}) and is given out again")
        self.give(fan, fold)

    def look(self, fan: Fan) -> None:
        """How far those are that are under way."""
        under_way = {number - 1: fold_folder(self.run, number - 1).path for number in fan.under_way}
        self.watch.under_way({fold: apart.left_progress(path) for fold, path in under_way.items()})

    def leave(self, fan: Fan, orders: Orders) -> None:
        """Ask all to stop, and wait until they have."""
        orders.stop()
        until = time.monotonic() + ENDS_S
        while fan.under_way and time.monotonic() < until:
            one = fan.ended(timeout_s=LOOK_EVERY_S)
            if one is not None and isinstance(one[1], FoldResult):
                self.ended[one[1].fold] = one[1]
        keep_folds(self.run, list(self.ended.values()), {}, self.watch.trouble)  # each wrote its own answers


def shared_out(
    run: RunFolder,
    total: int,
    runner: RunnerConfig,
    *,
    threads: int,
    kind: str,
    gpus: int,
    watch: "Watch",
    stop: Callable[[], bool],
) -> CVResult:
    """As the plain loop, and raises the same; `RunFailed` also where workers are lost again and again."""
    work = Folding(run, total, runner, threads, kind, watch, {result.fold: result for result in ended_folds(run)})
    orders = Orders(run.path / FOLDER / ORDERS)
    at_once, waiting = min(at_a_time(runner, gpus=gpus), total), [k for k in range(total) if k not in work.ended]
    with orders.given(), fanned(fold, partial(task_runner, runner, at_once=at_once)) as fan:
        try:
            while (waiting or fan.under_way) and not stop():
                while waiting and len(fan.under_way) < at_once:
                    work.give(fan, waiting.pop(0))
                one = fan.ended(timeout_s=LOOK_EVERY_S)
                if one is not None:
                    work.settle(fan, one[0] - 1, one[1])
                work.look(fan)
        finally:
            if fan.under_way:
                work.leave(fan, orders)
    if len(work.ended) < total:
        raise Stopped(f"with {len(work.ended)} of {total} folds done")
    return summarise(work.ended.values())
