"""The app in this process, on a bundle that waits or breaks when told: saturation and failure."""

import asyncio
import logging
import threading
import time
from typing import Any

import httpx
import numpy as np
import toy

from models.bundle.bundle import Bundle
from serving.http import app
from serving.inference import Inference
from serving.live import Live, Served
from serving.refs import ModelRef
from serving.settings import Settings

BRIGHT = toy.picture(200)


class Slow:
    """A bundle that answers when it is allowed to."""

    def __init__(self, bundle: Bundle) -> None:
        self.card = bundle.card
        self.golden = bundle.golden
        self.opened = threading.Event()
        self._bundle = bundle

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.opened.wait(10)
        return self._bundle.predict(pixels)


class Broken(Slow):
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"/secret/path 0x7f00deadbeef {len(pixels)}")


def inference(bundle: Any, **settings: Any) -> Inference:
    """Serving `bundle`, without a store."""
    chosen = Settings(**settings)
    live = Live(chosen)
    ref = ModelRef(name="toy", version="v1")
    live.current = Served(ref=ref, name=str(ref), bundle=bundle, since="")
    whole = Inference(chosen, live)
    whole.batcher.start()
    return whole


def ask(whole: Inference, times: int, *, meanwhile: Any = None) -> list[httpx.Response]:
    """`times` requests at once; `meanwhile` is called when all but those that wait have been answered."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app.build(whole), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [asyncio.create_task(client.post("/predict", files={"image": BRIGHT})) for _ in range(times)]
            await asyncio.sleep(0.3)
            early = [task for task in asked if task.done()]
            if meanwhile:
                meanwhile()
            late = [await task for task in asked if task not in early]
            return [task.result() for task in early] + late

    return asyncio.run(run())


def test_beyond_the_queue_requests_get_429_at_once_and_the_others_are_answered(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    whole = inference(slow, max_queue=3, max_pictures=3)
    answers = ask(whole, 8, meanwhile=slow.opened.set)
    assert [answer.status_code for answer in answers] == [429] * 5 + [200] * 3
    for answer in answers[:5]:
        assert answer.headers["Retry-After"] == "1"
        assert "saturated" in answer.json()["error"]
    assert [answer.status_code for answer in ask(whole, 3)] == [200] * 3


def test_the_loop_is_never_blocked_by_decoding_or_by_the_model(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    whole = inference(slow)

    async def run() -> float:
        transport = httpx.ASGITransport(app.build(whole))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            waiting = asyncio.create_task(client.post("/predict", files={"image": toy.picture(9, size=(5000, 5000))}))
            await asyncio.sleep(0.02)
            begun = time.perf_counter()
            await client.get("/livez")
            took = time.perf_counter() - begun
            slow.opened.set()
            assert (await waiting).status_code == 200
            return took

    assert asyncio.run(run()) < 0.25


def test_a_failure_of_the_model_is_a_500_without_its_text_and_logged_with_the_request_id(toy_bundle, caplog):
    whole = inference(Broken(Bundle.open(toy_bundle)))
    with caplog.at_level(logging.ERROR):
        (answer,) = ask(whole, 1)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "0x7f" not in answer.text
    assert answer.json()["request_id"] in caplog.text
    assert "secret" in caplog.text


def test_a_picture_over_the_operators_own_pixel_limit_gets_413(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    slow.opened.set()
    (answer,) = ask(inference(slow, max_pixels=100), 1)
    assert answer.status_code == 413
    assert "40 x 24" in answer.json()["error"]


def test_uploads_held_at_a_time_are_bounded(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    whole = inference(slow, max_held_bytes=2 * (len(BRIGHT) + 300))
    answers = ask(whole, 5, meanwhile=slow.opened.set)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    assert [answer.status_code for answer in ask(whole, 2)] == [200, 200]
