"""The BentoML service: `bentoml serve serving.service:Classifier`.

BentoML starts and watches the workers, packages and deploys the service. HTTP is ours (`serving.http.app`), because
BentoML's own path costs more than a small model does and answers some bad uploads with 500.
"""

import gc
import logging
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from _bentoml_sdk import Service  # type: ignore[import-untyped]  # for `bentoml.service(service_class=...)`
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import parent
from serving import settings as service_settings
from serving.metrics_folder import MetricsFolder
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.inference import Inference


class OwnHttp(Service[Any]):  # type: ignore[misc]  # BentoML's new half carries no types
    """BentoML's service, with every HTTP request answered by our app.

    BentoML's own app still runs the life of the worker, start and stop. Its routes would answer /readyz without
    asking for a model, and its middlewares count each path that a stranger makes up as a new metric.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        settings = service_settings.load()
        folder = self.inner.metrics_folder = _metrics_folder(settings)
        from serving.http import app as http_app  # here, because the supervisor imports this module and needs none
        from serving.http import protocol
        from serving.inference import Inference
        from serving.repository import Repository
        from serving.served import opened

        protocol.use()
        # A worker that follows one that was ended may be given a number beyond the count of the workers.
        gpu = (_worker() - 1) % settings.gpus if settings.gpus else None
        inference = Inference(settings, Repository(settings, open_=partial(opened, gpu=gpu)))
        self.inner.inference = inference
        lifecycle = super().to_asgi(is_main=is_main)
        answering = http_app.build(inference, shared=folder.path if folder else None)
        if settings.tracing:
            answering = traced(answering)

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            await (lifecycle if scope["type"] == "lifespan" else answering)(scope, receive, send)

        return dispatch


@bentoml.service(name="trainserve", service_class=OwnHttp, workers=service_settings.load().workers)
class Classifier:
    """The life of one worker."""

    inference: "Inference"
    metrics_folder: MetricsFolder | None

    def __init__(self) -> None:
        parent.end_with_it()
        _log_to_stderr(self.inference.settings)
        self.inference.start()
        gc.collect()
        gc.freeze()  # what is here stays: to look through it again keeps requests waiting for a tenth of a second
        _announce(self.inference)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        self.inference.stop()
        if self.metrics_folder is not None:
            self.metrics_folder.leave()


def _metrics_folder(settings: Settings) -> MetricsFolder | None:
    """Where prometheus_client keeps its figures; it looks when it is imported.

    BentoML's choice is a folder in its home, which a second service on the same home empties when it starts.
    """
    if settings.workers == 1:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        return None
    folder = MetricsFolder(Path(tempfile.gettempdir()) / f"trainserve-metrics-{os.getuid()}-{parent.pid()}")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder.path)
    return folder


def traced(app: ASGIApp) -> ASGIApp:
    """OpenTelemetry as BentoML's configuration says; it costs about a sixth of the throughput of a small model."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    middleware: ASGIApp = OpenTelemetryMiddleware(app, tracer_provider=BentoMLContainer.tracer_provider.get())
    return middleware


def _announce(inference: "Inference") -> None:
    """One line for the whole service, whatever the number of workers."""
    if _worker() != 1:
        return
    served = [live.current.name for live in inference.repository.lives if live.current]
    what = ", ".join(served) or "no model yet"
    settings = inference.settings
    where = f"http://{settings.host}:{settings.port}"
    print(f"serving {what} on {where} with {_layout(settings)}", file=sys.stderr, flush=True)


def _layout(settings: Settings) -> str:
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    if settings.gpus:
        return f"{workers} on {'1 GPU' if settings.gpus == 1 else f'{settings.gpus} GPUs'}"
    return f"{workers} of {'1 thread' if settings.threads == 1 else f'{settings.threads} threads'}"


def _worker() -> int:
    """Its number, from 1 on."""
    from bentoml._internal.context import server_context

    return server_context.worker_index or 1


def _log_to_stderr(settings: Settings) -> None:
    """Our own loggers; BentoML's configuration would prefix each line with its worker and trace."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("trainserve")
    ours.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of every malformed upload
    logging.getLogger("trainserve.access").setLevel(logging.INFO if settings.access_log else logging.WARNING)
