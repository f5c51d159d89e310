"""What the Prefect UI shows of a run. An artifact that cannot be made is logged and never fails the run."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import wraps
from pathlib import Path
from typing import ParamSpec, cast
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_run_logger

from data.prepare import Dataset
from flows import elsewhere, pages, proof
from flows.data_page import FOUND_PX, PER_RULE, data_page, sample_strips
from flows.patience import at_most
from models.cards import ModelCard
from models.evaluation.diagnose import diagnose
from models.evaluation.diagnosis import pictures
from models.evaluation.diagnosis.remark import Evidence
from models.evaluation.percent import percent
from models.evaluation.sheets import sheets
from models.records import CVResult, RunResult
from models.run import RunFolder
from models.verdict import Verdict

POST_EVERY_S = 3.0
RETRIES = 12  # about a minute (flows.patience): the run waits for it, once

_away = threading.Event()  # the server, when it was last to be shown something
MISTAKES = 12  # pictures: each artifact stays in the server's database for weeks

P = ParamSpec("P")


def harmless(show: Callable[P, object]) -> Callable[P, None]:
    """A picture that cannot be drawn or posted is no reason to lose a trained model."""

    @wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with at_most(0 if _away.is_set() else RETRIES):
                show(*args, **kwargs)
            _away.clear()
        except Exception as error:  # noqa: BLE001 - drawing and posting may fail in any way
            if isinstance(error, httpx.HTTPError):
                _away.set()
            _left_out(show.__name__, error)

    return shown


def _left_out(name: str, error: Exception) -> None:
    with suppress(Exception):
        get_run_logger().warning("artifact %s left out: %s: %s", name, type(error).__name__, error)


class Progress:
    """The latest figure, posted by a thread of its own: training never waits for the server."""

    def __init__(self) -> None:
        self._latest = (0.0, "starting")
        self._posted: tuple[float, str] | None = None
        self._artifact: UUID | None = None
        self._over = threading.Event()

    def moved(self, share: float, text: str) -> None:
        """`share` 0 to 1."""
        self._latest = (100 * min(max(share, 0.0), 1.0), text)

    def _post(self, key: str, client: SyncPrefectClient) -> None:
        latest = self._latest
        if latest == self._posted:
            return
        with suppress(Exception):  # the next one may get through
            if self._artifact is None:
                self._artifact = cast("UUID", create_progress_artifact(latest[0], key=key, description=latest[1]))
            else:  # Prefect's function makes a client and an event each time, which was most of its cost
                body = {"data": latest[0], "description": latest[1]}
                client.request("PATCH", "/artifacts/{id}", path_params={"id": self._artifact}, json=body)
            self._posted = latest

    def _keep_posting(self, key: str) -> None:
        last = False
        with get_client(sync_client=True) as client:
            while not last:
                last = self._over.is_set()
                self._post(key, client)
                self._over.wait(POST_EVERY_S)

    @contextmanager
    def shown(self, key: str) -> Iterator[None]:
        context = copy_context()  # the thread posts on behalf of this task
        thread = threading.Thread(target=context.run, args=(self._keep_posting, key), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(30)


@contextmanager
def progress(key: str) -> Iterator[Progress]:
    """A bar in the UI that moves every few seconds, with words beside it."""
    bar = Progress()
    with bar.shown(key):
        yield bar


class Pace:
    """True at most every so many seconds: what goes into a run's log."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._last = every_s, float("-inf")

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True


@harmless
def show_data(dataset: Dataset) -> None:
    report = dataset.report
    found = sheets(report.findings, dataset.images.snapshot, most=PER_RULE, side=FOUND_PX)
    page = data_page(report, sample_strips(dataset), found)
    create_markdown_artifact(page, key="data", description=f"{dataset.report.name}: the pictures and what was found")


def leave_data_page(dataset: Dataset, run: RunFolder, home: Path) -> None:
    """What was found, with its pictures, as a file of the run. No server is asked: not `harmless`, which would take it
    for one that is there again."""
    try:
        from models.evaluation.data_page import write  # jinja2

        write(dataset.report, dataset.images.snapshot, run.data_file, home=home)
    except Exception as error:  # noqa: BLE001 - drawing and writing may fail in any way
        _left_out("leave_data_page", error)


@harmless
def show_crossval(crossval: CVResult) -> None:
    create_table_artifact(pages.fold_rows(crossval), key="cross-validation", description="Accuracy of each fold")


@harmless
def show_sweep(rows: list[pages.Row], said: str, command: str | None) -> None:
    """The trials, and how to train with the best settings."""
    train = "" if command is None else f"\n\n    {command}"
    create_table_artifact(rows, key="sweep-trials", description=f"{said}{train}")


@harmless
def show_metrics(result: RunResult) -> None:
    create_table_artifact(
        pages.metric_rows(result),
        key="metrics",
        description=f"**{percent(result.test.accuracy)}** of the test pictures right",
    )
    create_table_artifact(
        pages.class_rows(result.test), key="per-class", description="Test pictures, the weakest class first"
    )


@harmless
def show_mistakes(run: RunFolder, dataset: Dataset) -> None:
    """The most confident wrong answers, with their pictures."""
    from models.evaluation.report import mistakes  # jinja2, matplotlib

    found = mistakes(run.result(), run.predictions(), dataset, limit=MISTAKES)
    description = "The surest wrong answers to the test pictures"
    create_markdown_artifact(pages.mistakes_page(found), key="mistakes", description=description)


@harmless
def show_picture(key: str, title: str, draw: Callable[[], bytes]) -> None:
    """`draw` gives a PNG."""
    create_markdown_artifact(f"{pages.picture(draw(), title)}\n", key=key, description=title)


@harmless
def show_sureness(run: RunFolder) -> None:
    """When an answer counts as sure, and the curve that this is a point of."""
    from models.evaluation.coverage import of_run  # matplotlib

    result = run.result()
    drawn = of_run(result.selective, run.predictions(), temperature=result.calibration.temperature, fmt="png")
    if drawn is not None and result.selective is not None:
        page = f"{pages.picture(drawn, 'Risk by coverage')}\n"
        create_markdown_artifact(page, key="sure", description=result.selective.said)


@harmless
def show_diagnosis(run: Evidence) -> None:
    """What the curves say, the gravest first, each with its picture."""
    remarks = diagnose(run)
    shown = {remark.picture for remark in remarks}
    drawn = {name: draw("png") for name, draw in pictures.available(run).items() if name in shown}
    create_markdown_artifact(pages.diagnosis_page(remarks, drawn), key="diagnosis", description=pages.headline(remarks))


@harmless
def show_parity(card: ModelCard) -> None:
    """Every way to ask the model, and how a service on it did."""
    said = "Every way to ask the model, against the trained network on the files of the test pictures."
    description = f"{said} {proof.rehearsal_said(card)}".strip()
    create_table_artifact(proof.parity_rows(card), key="parity", description=description)


@harmless
def show_verdict(verdict: Verdict, model: str) -> None:
    from models.evaluation import judged

    page = pages.verdict_page(verdict, model)
    if verdict.robustness:
        drawn = judged.robustness(verdict.robustness, verdict.champion, fmt="png")
        page += f"\n{pages.picture(drawn, judged.TITLE)}\n"
    create_markdown_artifact(page, key="verdict", description=pages.cell(verdict.reason))


@harmless
def show_links(run: RunFolder, model: str, verdict: Verdict) -> None:
    """Where to look further: the report, the curves, the service, the run of the model it was compared with."""
    create_markdown_artifact(
        pages.links_page(
            run.report_file,
            model=model,
            service=elsewhere.service(),
            tensorboard=elsewhere.tensorboard(),
            champion=(verdict.champion, elsewhere.run_of(verdict.champion)),
        ),
        key="links",
        description=f"Where to look further: the report, the curves, and {model} in service",
    )


@harmless
def show_report(report: Path) -> None:
    description = "The whole report of the run, one HTML file"
    create_markdown_artifact(pages.report_page(report), key="report", description=description)
