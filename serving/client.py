"""A small client of the service: time-outs, retries where the service asks for them, typed answers."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict

from data.errors import InputError

RETRIED = (429, 503)
LONGEST_PAUSE_S = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServiceError(InputError):
    """The service refused. The message is its own sentence."""

    def __init__(self, sentence: str, *, status: int, request_id: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.request_id = request_id


class UnreachableError(InputError):
    """There is no service at the address, or it did not answer in time."""


class _Answer(BaseModel):
    """Fields that a newer service adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Score(_Answer):
    label: str
    probability: float


class Prediction(_Answer):
    """What /predict says of one picture."""

    request_id: str
    model: str  # name@version
    label: str
    probability: float
    scores: tuple[Score, ...]  # every class, the most probable first
    sure: bool | None = None  # None: the model has no threshold for it
    unfamiliar: float | None = None  # share of the test pictures that were no stranger to it; None: it cannot tell


def authorization(key: str | None = None) -> dict[str, str]:
    """The headers for a key, by default that of TRAINSERVE_KEY; none where there is none. Raises `InputError`."""
    chosen = (os.environ.get("TRAINSERVE_KEY", "") if key is None else key).strip()
    if not all("!" <= character <= "~" for character in chosen):
        raise InputError("the key (TRAINSERVE_KEY) has a character that no key has; copy it again, whole and alone")
    return {"Authorization": f"Bearer {chosen}"} if chosen else {}


class Client:
    """One service. Connections are kept; close it, or use it in a `with` block.

    `key` is for a service that wants one; by default that of TRAINSERVE_KEY.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:3000",
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
    ) -> None:
        self._url = url
        self._retries = retries
        here = httpx.URL(url).host in LOOPBACK  # a proxy cannot reach this machine's own addresses
        self._http = httpx.Client(base_url=url, headers=authorization(key), timeout=timeout_s, trust_env=not here)

    def predict(self, file: bytes | Path, *, model: str | None = None, request_id: str | None = None) -> Prediction:
        """A picture's bytes or file -> the service's answer. Raises `ServiceError`, `UnreachableError`.

        `model` is `name` or `name@version`; by default the service's own first one.
        """
        body = file if isinstance(file, bytes) else _bytes_of(file)
        headers = {"Content-Type": "application/octet-stream"}
        if request_id is not None:
            headers["X-Request-Id"] = request_id
        return Prediction.model_validate(self._ask("POST", "/predict", model, content=body, headers=headers))

    def predict_batch(self, files: list[bytes], *, model: str | None = None) -> list[Prediction]:
        """Several pictures in one request, answered in their order by one model."""
        answer = self._ask("POST", "/predict_batch", model, files=[("images", file) for file in files])
        shared = {"request_id": answer["request_id"], "model": answer["model"]}
        return [Prediction.model_validate({**shared, **prediction}) for prediction in answer["predictions"]]

    def model(self, model: str | None = None) -> dict[str, Any]:
        """The card of a model in service, since when it is, what was refused and what is on trial."""
        return self._ask("GET", "/model", model)

    def ready(self) -> bool:
        """Whether a picture sent now would be answered. Never raises."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, model: str | None, **content: Any) -> dict[str, Any]:
        """Come back when the service says that it is busy; a request changes nothing, so asking again is safe."""
        asked = {} if model is None else {"model": model}
        for attempt in range(self._retries + 1):
            try:
                response = self._http.request(method, path, params=asked, **content)
            except httpx.HTTPError as error:
                if attempt == self._retries or not isinstance(error, httpx.ConnectError | httpx.RemoteProtocolError):
                    raise UnreachableError(_why(error, self._url)) from None
                time.sleep(_pause_s(None, attempt))
                continue
            if response.status_code not in RETRIED or attempt == self._retries:
                return _content(response)
            time.sleep(_pause_s(response.headers.get("Retry-After"), attempt))
        raise AssertionError("unreachable")


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = {}
    if response.is_success and isinstance(content, dict):
        return content
    request_id = response.headers.get("X-Request-Id", "")
    sentence = content.get("error") if isinstance(content, dict) else None
    raise ServiceError(
        sentence or f"the service answered {response.status_code} without a reason; is it trainserve?",
        status=response.status_code,
        request_id=request_id,
    )


def _pause_s(retry_after: str | None, attempt: int) -> float:
    asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.1 * 2**attempt
    return min(asked, LONGEST_PAUSE_S)


def _why(error: httpx.HTTPError, url: str) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"{url} did not answer in time; try again, or allow it more time"
    return f"no service answers at {url}; start one with `trainserve serve`"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of a picture") from None
