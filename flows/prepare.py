"""The stage that turns a source into checked pictures."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from data import prepare as chain
from data.errors import DataRefused, InputError
from data.prepare import Dataset
from data.spec import DatasetSpec, Frozen
from flows import artifacts
from flows.console import display, duration
from flows.reuse.states import cached, valued

READING = "reading"  # the one step that leaves nothing behind


class Prepared(Frozen):
    """What passes between tasks instead of pictures: enough to open them again, in any process."""

    dataset: DatasetSpec
    home: Path
    fingerprint: str


@dataclass
class _Opened:
    """The pictures opened last, so that the tasks of one run share them."""

    prepared: Prepared | None = None
    dataset: Dataset | None = None


_opened = _Opened()


def transient(task: Any, task_run: Any, state: Any) -> bool:  # noqa: ARG001 - Prefect's names
    """Worth another try: the network or the disk failed. What the user has to mend is not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, InputError)


@valued
@task(
    name="prepare",
    task_run_name="prepare",
    retries=3,
    retry_delay_seconds=[2, 10, 60],
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def prepare(spec: DatasetSpec, home: Path, *, anew: bool = False) -> Prepared:
    """Fetch, list, decode, split and check; what was fetched and decoded before is kept, unless asked for `anew`."""
    work: dict[str, float] = {}  # step -> when it began
    with display().stage("prepare"), artifacts.progress("data-progress") as bar:

        def moved(what: str, done: int, total: int) -> None:
            took = time.monotonic() - work.setdefault(what, time.monotonic())
            words = f"{what} {done:,}" + (f" of {total:,}{left(took, done, total)}" if total else "")
            display().moved(words, done, total)
            bar.moved(done / total if total else 0.0, words)

        dataset = chain.prepare(spec, home, anew=anew, progress=moved)
        bar.moved(1.0, "done")
        report = dataset.report
        said = f"{report.name}: {report.num_examples:,} pictures, {len(report.classes)} classes"
        display().say(f"{said}, {report.width} x {report.height}")
        for finding in report.findings:
            get_run_logger().info("%s: %s", finding.level, finding.message)
        for one in report.dropped:
            get_run_logger().info("dropped by %s: %s", one.rule, one.said)
        artifacts.show_data(dataset)
    prepared = Prepared(dataset=spec, home=home, fingerprint=dataset.images.snapshot.fingerprint)
    _opened.prepared, _opened.dataset = prepared, dataset
    return prepared if work.keys() - {READING} else cached(prepared, "the same pictures, decoded before")


def left(took_s: float, done: int, total: int) -> str:
    """`, 12 s left`, by the pace so far; empty where there is none yet."""
    return f", {duration(took_s * (total - done) / done)} left" if took_s > 0 < done < total else ""


def opened(prepared: Prepared) -> Dataset:
    """The same pictures again: those of this process, or from the cache on disk.

    Raises `DataRefused` if the source has changed since it was prepared.
    """
    if _opened.prepared == prepared and _opened.dataset is not None:
        return _opened.dataset
    dataset = chain.prepare(prepared.dataset, prepared.home, again=True)
    if dataset.images.snapshot.fingerprint != prepared.fingerprint:
        raise DataRefused(
            f"the pictures of {prepared.dataset.source} changed while the run was under way; run it again"
        )
    _opened.prepared, _opened.dataset = prepared, dataset
    return dataset
