"""The ASGI app: keys, request ids, errors, metrics, security headers around the routes."""

import logging
import random
import re
import time
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import errors, metrics, writers
from serving.feedback import REQUEST_ID
from serving.http import tracing
from serving.http.bodies import DRAIN_BYTES, STRANGER_DRAIN_BYTES, Body
from serving.http.gate import Gate
from serving.http.routes import routes
from serving.inference import Inference
from serving.settings import Settings

logger = logging.getLogger("trainserve.http")
access = logging.getLogger("trainserve.access")
_REQUEST_ID = re.compile(REQUEST_ID)
# Where an answer has none of its own. After https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html;
# Strict-Transport-Security is for whoever ends TLS, and X-Frame-Options says what frame-ancestors says.
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


def build(inference: Inference, *, shared: Path | None = None) -> ASGIApp:
    """All of the HTTP interface. `shared`: a folder of all workers, where there are several."""
    settings = inference.settings
    router = Router(routes(inference), redirect_slashes=False)
    front = Front(router, gate=_gate(settings, shared), access_log=settings.access_log)
    return _shared(front, settings.cors.split(",")) if settings.cors else front


def _gate(settings: Settings, shared: Path | None) -> Gate | None:
    if settings.keys is None:
        return None
    return Gate(settings.keys, trusted=writers.trusted(settings.writers), poll_s=settings.poll_s, shared=shared)


def _shared(app: ASGIApp, origins: list[str]) -> ASGIApp:
    """Pages of these origins may ask. Outside of the rest: a browser's preflight has no key, and a 401 can be read."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "traceparent"],
        expose_headers=["X-Request-Id", "Retry-After"],
    )


class Front:
    """What every request has in common. The routes inside raise; here it becomes an answer."""

    def __init__(self, router: Router, *, gate: Gate | None, access_log: bool) -> None:
        self._router = router
        self._gate = gate
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._router(scope, receive, send)
        headers = Headers(scope=scope)
        request = _Request(scope, headers, Body(receive, expects=_expects_body(headers)), send)
        scope["app"] = self  # so that the router raises for an unknown path instead of answering it
        try:
            if self._gate is not None:
                self._gate.admit(scope["path"], headers)
            await self._router(scope, request.body.receive, request.send)
        except Exception as error:  # noqa: BLE001 - the boundary: every failure is an answer
            await request.refuse(error)
            # The frames they came through hold the picture, and the error: a cycle, which stays until it is collected.
            error.__traceback__ = error.__context__ = None
        finally:
            request.count()
            if self._access_log:
                request.log()


class _Request:
    """One request on its way through `Front`."""

    def __init__(self, scope: Scope, headers: Headers, body: Body, send: Send) -> None:
        given = headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        self.trace = tracing.trace_id(headers)
        self.scope = scope
        self.body = body
        self.status = 0
        self.refused: errors.Reason | None = None
        self._send = send
        self._begun = time.perf_counter()
        self._answered: float | None = None
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._answered = time.perf_counter()
            given = {name for name, _ in message["headers"]}
            ours = [header for header in _SECURITY if header[0] not in given]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode()), *ours]
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        refusal = errors.refusal(error)
        if refusal.status >= 500 and not isinstance(error, errors.RequestError):
            logger.error("request %s failed", self.name, exc_info=error)
        self.refused = refusal.reason
        metrics.REFUSALS.labels(self.route, refusal.reason).inc()
        if self.status:  # half an answer is out; all that is left is to cut it
            raise error
        extra: dict[str, Any] = getattr(error, "details", {})
        response = JSONResponse(
            {"error": refusal.sentence, "request_id": self.id, **extra}, refusal.status, dict(refusal.headers)
        )
        # The answer goes out first and what is still arriving is read afterwards: a sender that is cut off while
        # writing sees a broken connection instead of the reason.
        unread = not self.body.ended
        if unread:
            response.headers["Connection"] = "close"
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": response.raw_headers})
        await self.send({"type": "http.response.body", "body": response.body, "more_body": unread})
        if unread:
            stranger = isinstance(error, errors.UnauthorizedError)
            await self.body.drain(STRANGER_DRAIN_BYTES if stranger else DRAIN_BYTES)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def route(self) -> str:
        """The name of the route, never the path that the sender made up."""
        endpoint = self.scope.get("endpoint")
        return str(getattr(endpoint, "__name__", "none"))

    @property
    def name(self) -> str:
        """For the log."""
        return f"{self.id} of trace {self.trace}" if self.trace else self.id

    @property
    def outcome(self) -> str:
        if self.refused is None:
            return "answered" if self.status else "failed"
        return "failed" if self.refused in errors.FAULTS else "refused"

    @property
    def took_s(self) -> float:
        """To the answer; not what is read of a refused upload afterwards."""
        return (self._answered or time.perf_counter()) - self._begun

    def count(self) -> None:
        ref = self.scope["state"].get("ref")  # of the model that answered, or was asked
        name, version = (ref.name, ref.version) if ref else ("", "")
        metrics.REQUESTS.labels(self.route, str(self.status), name, version, self.outcome).inc()
        metrics.LATENCY.labels(self.route).observe(self.took_s)

    def log(self) -> None:
        path = self.scope["path"][:256].encode("unicode_escape").decode()
        access.info("%s %s %d %.1f ms %s", self.scope["method"], path, self.status, 1000 * self.took_s, self.name)


def _expects_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
