"""Which trace a request belongs to: in the log, and, where the service traces, in its spans."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import toy
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.datastructures import Headers
from starlette.types import ASGIApp

from serving import service, store
from serving.http import app, tracing
from serving.inference import Inference
from serving.settings import Settings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def traced(*values: str) -> str | None:
    return tracing.trace_id(Headers(raw=[(b"traceparent", value.encode()) for value in values]))


def test_the_trace_id_is_taken():
    assert traced(TRACEPARENT) == TRACE
    assert traced(f"00-{TRACE}-{PARENT}-00") == TRACE, "also where the sender records nothing itself"
    assert traced(f"01-{TRACE}-{PARENT}-01-and-what-a-later-version-adds") == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        TRACEPARENT.upper(),
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f" {TRACEPARENT}\n",
    ],
)
def test_a_malformed_one_is_ignored(value: str):
    assert traced(value) is None


def test_two_of_them_are_ignored():
    assert traced(TRACEPARENT, TRACEPARENT) is None


@pytest.fixture
def inference(home: Path, toy_bundle: Path) -> Iterator[Inference]:
    """A service in this process, with toy@v1."""
    assert not home.exists()
    store.promote(store.save(toy_bundle), reason="first")
    inference = Inference(Settings(access_log=True))
    inference.start()
    yield inference
    inference.stop()


def ask(application: ASGIApp, **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/predict", files={"image": toy.picture(200)}, headers=headers)

    return asyncio.run(asked())


class Broken:
    """A model that opens and then fails."""

    def __init__(self, bundle: Any) -> None:
        self.card, self.golden = bundle.card, bundle.golden

    def predict(self, _: Any) -> Any:
        raise RuntimeError("no answer")


def test_it_is_in_the_log_beside_the_request_id(inference, caplog):
    caplog.set_level(logging.INFO, "trainserve")
    ask(app.build(inference), **{"X-Request-Id": "one", "traceparent": TRACEPARENT})
    ask(app.build(inference), **{"X-Request-Id": "two"})
    with_trace, without = (record.getMessage() for record in caplog.records if record.name == "trainserve.access")
    assert with_trace.endswith(f" ms one of trace {TRACE}")
    assert without.endswith(" ms two")


def test_it_is_in_the_line_about_a_failure(inference, caplog):
    live = inference.repository.default
    live.current = replace(live.current, bundle=Broken(live.current.bundle))
    assert ask(app.build(inference), **{"X-Request-Id": "one", "traceparent": TRACEPARENT}).status_code == 500
    assert f"request one of trace {TRACE} failed" in caplog.messages


def test_the_services_spans_join_the_senders_trace(inference):
    from bentoml._internal.configuration.containers import BentoMLContainer

    exported = InMemorySpanExporter()
    BentoMLContainer.tracer_provider.get().add_span_processor(SimpleSpanProcessor(exported))
    assert ask(service.traced(app.build(inference)), traceparent=TRACEPARENT).status_code == 200
    spans = exported.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    (request,) = (span for span in spans if span.parent and span.parent.is_remote)
    assert f"{request.parent.span_id:016x}" == PARENT
