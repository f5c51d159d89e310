"""A rehearsal of a model's service: the real one is asked, timed, overloaded and stopped. No Prefect here."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from subprocess import TimeoutExpired
from typing import Any

import httpx
import numpy as np

from data.errors import InputError
from data.progress import Progress, ignore
from flows import overload
from flows.overload import FaultError
from flows.service import HOST, STOP_S, Running, service_on
from models.bundle.bundle import Bundle
from models.cards import Rehearsal
from serving import start
from serving.client import Client

START_S = 120.0  # the machine may be busy
ASK_S = 300.0  # for the test pictures of one request
REQUESTS, REQUESTS_S, FEWEST = 200, 2.0, 20  # that are timed: so many, or for so long, but not fewer


@contextmanager
def rehearsed(bundle: Bundle, progress: Progress = ignore) -> Iterator["Rehearsed"]:
    """A service on the bundle to ask, and then to try."""
    progress("starting a service on the bundle", 0, 0)
    begun = time.monotonic()
    with service_on(bundle) as running, Client(running.url, timeout_s=ASK_S) as client:
        tried = Rehearsed(bundle, running, client, progress)
        tried.does(lambda: {"started_s": until_ready(running, client, begun, variant=bundle.variant)})
        yield tried


class Rehearsed:
    """What has been found so far; after the first fault nothing more is looked at."""

    def __init__(self, bundle: Bundle, running: Running, client: Client, progress: Progress) -> None:
        self._bundle, self._running, self._client, self._progress = bundle, running, client, progress
        self._found: dict[str, Any] = {}
        self._fault: str | None = None

    def does(self, step: Callable[[], dict[str, Any]]) -> None:
        if self._fault is not None:
            return
        try:
            self._found |= step()
        except FaultError as fault:
            self._fault = str(fault)
        except (InputError, httpx.HTTPError, OSError) as error:
            why = str(error) or type(error).__name__
            dead = self._running.process.poll() is not None
            self._fault = f"ended while it was asked ({self._running.last_words()})" if dead else f"failed: {why}"

    def ask(self, files: Sequence[bytes]) -> np.ndarray | None:
        answered: list[np.ndarray] = []

        def batch() -> dict[str, Any]:
            answered.append(_probabilities(self._bundle, self._client.predict_batch(list(files))))
            return {}

        self.does(batch)
        return answered[0] if answered else None

    def rehearse(self) -> Rehearsal:
        client, golden = self._client, self._bundle.golden
        right = partial(golden_difference, self._bundle, client)
        pressed = partial(overload.under, self._running.url, min(golden.files, key=len))
        for said, step in (
            ("asking for the golden samples", lambda: {"golden_difference": right()}),
            ("timing single requests", lambda: latency(client, golden.files)),
            ("overloading the service", lambda: {"overload": pressed()}),
            ("asking for the golden samples again", lambda: {"golden_difference": right()}),
            ("stopping the service", lambda: {"stopped_s": stop(self._running)}),
        ):
            self._progress(said, 0, 0)
            self.does(step)
        return Rehearsal(fault=self._fault, **self._found)


def until_ready(running: Running, client: Client, begun: float, *, variant: str) -> float:
    """Seconds since `begun`. Raises `FaultError` for a service that ends, refuses the model, takes too long, or answers
    with another graph than this one."""
    while not client.ready():
        if running.process.poll() is not None:
            raise FaultError(f"did not start: {running.last_words()}")
        if refused := _refused(running.url):
            raise FaultError(f"refused the model: {refused}")
        if time.monotonic() - begun > START_S:
            raise FaultError(f"was not ready within {START_S:.0f} s: {running.last_words()}")
        time.sleep(0.05)
    while not (told := _told(running.url)):  # it was ready a moment ago, so it may be busy
        if running.process.poll() is not None or time.monotonic() - begun > START_S:
            raise FaultError(f"was ready, and then did not say which model answers: {running.last_words()}")
        time.sleep(0.05)
    if (answers := told.get("variant")) != variant:
        raise FaultError(f"answers with its {answers} graph, not with the {variant} one that is to be tried")
    return round(time.monotonic() - begun, 3)


def _refused(url: str) -> str | None:
    told = _told(url).get("refused")
    return str(told["reason"]) if told else None


def _told(url: str) -> dict[str, Any]:
    """What it says of its model; {} where it says nothing."""
    with suppress(httpx.HTTPError, ValueError):
        return dict(httpx.get(f"{url}/model", timeout=ASK_S, trust_env=False, verify=False).json())
    return {}


def golden_difference(bundle: Bundle, client: Client) -> float:
    """The largest of any probability. Raises `FaultError` beyond the bundle's own tolerance."""
    largest = 0.0
    for sample, file in zip(bundle.golden.samples, bundle.golden.files, strict=True):
        (found,) = _probabilities(bundle, [client.predict(file)])
        off = float(np.abs(found - np.array(sample.probabilities, np.float32)).max())
        if not off <= bundle.golden.tolerance:
            raise FaultError(
                f"answers golden/{sample.file} otherwise than the trained network: a probability is {off:.1e} off, "
                f"{bundle.golden.tolerance:.1e} are allowed"
            )
        largest = max(largest, off)
    return largest


def latency(client: Client, files: Sequence[bytes]) -> dict[str, Any]:
    """Of one picture a request, one after the other, as a client on this machine sees it."""
    times: list[float] = []
    until = time.perf_counter() + REQUESTS_S
    while len(times) < FEWEST or (len(times) < REQUESTS and time.perf_counter() < until):
        begun = time.perf_counter()
        client.predict(files[len(times) % len(files)])
        times.append(1000 * (time.perf_counter() - begun))
    p50, p95 = np.percentile(times, [50, 95])
    return {"requests": len(times), "p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def stop(running: Running) -> float:
    """Seconds from SIGTERM until it has ended, with status 0 and nothing left behind. Raises `FaultError`."""
    begun = time.monotonic()
    running.process.terminate()
    try:
        status = running.process.wait(STOP_S)
    except TimeoutExpired:
        raise FaultError(f"had not ended {STOP_S:.0f} s after SIGTERM") from None
    if status:
        raise FaultError(f"ended with status {status} after SIGTERM: {running.last_words()}")
    try:
        start.require_free(HOST, running.port)  # a worker that was left would hold it
    except InputError:
        raise FaultError(f"ended after SIGTERM and left a process that holds port {running.port}") from None
    return round(time.monotonic() - begun, 3)


def _probabilities(bundle: Bundle, predictions: Sequence[Any]) -> np.ndarray:
    """(N, K) float32 in the card's order."""
    said = [{score.label: score.probability for score in prediction.scores} for prediction in predictions]
    return np.array([[one[label] for label in bundle.card.classes] for one in said], dtype=np.float32)
