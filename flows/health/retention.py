"""What may go: a plan made from values alone, so that nothing is deleted by a rule that no test has seen."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal
from uuid import UUID

from pydantic import Field

from data.spec import Frozen

MIGHT_GO_ON = timedelta(days=7)  # a run, or a cache, that is unfinished and younger

Kind = Literal["run folder", "model", "cache", "unpacked archive", "snapshot record", "log", "sweep"]


class Keep(Frozen):
    """How much of the past stays."""

    runs_days: float = Field(30, ge=0, title="Flow runs", description="days that they stay on the Prefect server")
    runs_at_least: int = Field(50, ge=0, title="At least", description="flow runs that stay, however old")
    light_days: float = Field(3, ge=0, title="Upkeep", description="days that runs stay which train nothing")
    folders_days: float = Field(30, ge=0, title="Run folders", description="days that they stay")
    folders_at_least: int = Field(10, ge=0, title="At least", description="run folders that stay, however old")
    versions: int = Field(20, ge=0, title="Models", description="of each name that stay; those with a role always do")
    cache_gb: float = Field(50, ge=0, title="Caches", description="decoded pictures, all together; the oldest go first")
    cache_days: float = Field(
        30,
        ge=0,
        title="Unused caches",
        description="days that one stays that nobody reads; unpacked archives and records of pictures as well",
    )
    logs_days: float = Field(14, ge=0, title="Logs", description="days that log files stay")
    sweeps_days: float = Field(90, ge=0, title="Sweeps", description="days that one stays after its last trial")


class Thing(Frozen):
    """Something on disk: a folder of a run, a stored model, a cache, an unpacked archive, a record of which pictures
    there were, a log file, a sweep."""

    kind: Kind
    name: str  # run id, name@version, or path
    bytes: int
    used: datetime  # last written to; of a cache and of an archive, last read
    held: str | None = None  # why it must stay, whatever its age; None: it need not
    unfinished: bool = False
    group: str = ""  # of a model, its name


class Ran(Frozen):
    """A flow run on the server that has ended."""

    id: UUID
    end: datetime
    light: bool  # it trained nothing: upkeep, a release, or a run that was skipped


class Plan(Frozen):
    """What goes."""

    things: tuple[Thing, ...] = ()
    runs: tuple[UUID, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(thing.bytes for thing in self.things)

    @property
    def sentence(self) -> str:
        """3 run folders, 2 models, 120 flow runs; 1.5 GB."""
        counts = [(len(list(group)), kind) for kind, group in groupby(self.things, key=lambda thing: thing.kind)]
        counts += [(len(self.runs), "flow run")] if self.runs else []
        said = ", ".join(f"{num:,} {kind}{'s' if num > 1 else ''}" for num, kind in counts)
        return f"{said}; {self.bytes / 1e9:.1f} GB" if said else "nothing"


def plan(now: datetime, keep: Keep, *, things: Sequence[Thing], runs: Sequence[Ran]) -> Plan:
    """Everything that no rule keeps, grouped by kind."""
    going = [
        *_beyond(now, of(things, "run folder"), at_least=keep.folders_at_least, days=keep.folders_days),
        *_old_versions(of(things, "model"), keep.versions),
        *_old_caches(now, of(things, "cache"), keep),
        *_beyond(now, of(things, "unpacked archive"), at_least=0, days=keep.cache_days),
        *_beyond(now, of(things, "snapshot record"), at_least=0, days=keep.cache_days),
        *_beyond(now, of(things, "log"), at_least=0, days=keep.logs_days),
        *_beyond(now, of(things, "sweep"), at_least=0, days=keep.sweeps_days),
    ]
    return Plan(things=tuple(going), runs=tuple(_old_runs(now, runs, keep)))


def of(things: Sequence[Thing], kind: Kind) -> list[Thing]:
    """The newest first."""
    return sorted((thing for thing in things if thing.kind == kind), key=lambda thing: thing.used, reverse=True)


def free(thing: Thing, now: datetime) -> bool:
    """Whether it may go at all."""
    return thing.held is None and not (thing.unfinished and now - thing.used < MIGHT_GO_ON)


def _beyond(now: datetime, newest_first: list[Thing], *, at_least: int, days: float) -> list[Thing]:
    older = [thing for thing in newest_first[at_least:] if now - thing.used > timedelta(days=days)]
    return [thing for thing in older if free(thing, now)]


def _old_versions(newest_first: list[Thing], stay: int) -> list[Thing]:
    """Of each name those with a role, and so many others."""
    going: list[Thing] = []
    for _, group in groupby(sorted(newest_first, key=lambda thing: thing.group), key=lambda thing: thing.group):
        going += [thing for thing in list(group)[stay:] if thing.held is None]
    return going


def _old_caches(now: datetime, newest_first: list[Thing], keep: Keep) -> list[Thing]:
    going, size = [], 0
    for thing in newest_first:
        size += thing.bytes
        unread = now - thing.used > (MIGHT_GO_ON if thing.unfinished else timedelta(days=keep.cache_days))
        if (unread or size > keep.cache_gb * 1e9) and free(thing, now):
            going.append(thing)
    return going


def _old_runs(now: datetime, runs: Sequence[Ran], keep: Keep) -> list[UUID]:
    newest_first = sorted(runs, key=lambda run: run.end, reverse=True)
    trained = [run for run in newest_first if not run.light]
    going = [run for run in trained[keep.runs_at_least :] if now - run.end > timedelta(days=keep.runs_days)]
    going += [run for run in newest_first if run.light and now - run.end > timedelta(days=keep.light_days)]
    return [run.id for run in going]
