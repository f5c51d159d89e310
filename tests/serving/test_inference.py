"""The app in this process, on a bundle that waits or breaks when told: saturation and failure."""

import asyncio
import gc
import io
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from PIL import Image

from data.errors import UnreadableImage
from models.bundle.bundle import Bundle
from models.records import ModelCard
from serving.batching import Answer
from serving.http import app
from serving.inference import Inference
from serving.live import Live
from serving.pace import Pace
from serving.refs import ModelRef
from serving.repository import Repository
from serving.served import Served
from serving.settings import Settings

BRIGHT = toy.picture(200)
PATIENCE_S = 60.0  # this machine may be busy


class Slow:
    """A bundle that answers when it is allowed to."""

    def __init__(self, bundle: Bundle) -> None:
        self.card = bundle.card
        self.golden = bundle.golden
        self.asked, self.opened = threading.Event(), threading.Event()
        self._bundle = bundle

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.asked.set()
        self.opened.wait(PATIENCE_S)
        return self._bundle.predict(pixels)


class Noting(Slow):
    """A bundle that notes who asks it for how many pictures."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.opened.set()
        self.noted: list[tuple[str, int]] = []

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.noted.append((threading.current_thread().name.partition("_")[0], len(pixels)))
        return super().predict(pixels)


class Undecided:
    """A card that tells the geometry when it is allowed to: decoding begins by asking for it."""

    def __init__(self, card: ModelCard) -> None:
        self.asked, self.opened = threading.Event(), threading.Event()
        self._card = card

    def __getattr__(self, name: str) -> Any:
        if name == "image":
            self.asked.set()
            self.opened.wait(PATIENCE_S)
        return getattr(self._card, name)


class Broken(Slow):
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"/secret/path 0x7f00deadbeef {len(pixels)}")


def inference(bundle: Any, **settings: Any) -> Inference:
    """Serving `bundle`, without a store."""
    chosen = Settings(**settings)
    live = Live(chosen)
    ref = ModelRef(name="toy", version="v1")
    live.current = Served(ref=ref, name=str(ref), bundle=bundle, since="", pace=Pace(chosen.max_batch))
    whole = Inference(chosen, Repository(chosen, lives=[live]))
    whole.batcher.start()
    return whole


def asking(whole: Inference) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app.build(whole), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def ask(
    whole: Inference, times: int, *, once: int = 0, then: Callable[[], None] = lambda: None
) -> list[httpx.Response]:
    """Answers to `times` requests at once, in the order in which they came; `then` is called `once` so many have."""

    async def run() -> list[httpx.Response]:
        async with asking(whole) as client:
            asked = [client.post("/predict", files={"image": BRIGHT}) for _ in range(times)]
            answers = []
            for answer in asyncio.as_completed(asked):
                answers.append(await answer)
                if len(answers) == once:
                    then()
            return answers

    return asyncio.run(run())


def test_beyond_the_queue_requests_get_429_at_once_and_the_others_are_answered(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    whole = inference(slow, max_queue=3, max_pictures=3)
    answers = ask(whole, 8, once=5, then=slow.opened.set)
    assert [answer.status_code for answer in answers] == [429] * 5 + [200] * 3
    for answer in answers[:5]:
        assert answer.headers["Retry-After"] == "1"
        assert "saturated" in answer.json()["error"]
    assert [answer.status_code for answer in ask(whole, 3)] == [200] * 3


def test_the_loop_is_never_blocked_by_decoding_or_by_the_model(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    slow.card = card = Undecided(slow.card)
    whole = inference(slow)

    async def run() -> None:
        async with asking(whole) as client:
            predicting = asyncio.create_task(client.post("/predict", files={"image": BRIGHT}))
            for busy in (card, slow):  # first decoding, then the model
                assert await asyncio.to_thread(busy.asked.wait, PATIENCE_S)
                await client.get("/livez")
                assert not predicting.done()
                busy.opened.set()
            assert (await predicting).json()["label"] == "bright"

    asyncio.run(run())


@pytest.mark.slow
def test_a_request_of_many_large_pictures_lets_others_have_their_turn(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    slow.card = card = Undecided(slow.card)
    slow.opened.set()
    card.opened.set()
    whole = inference(slow, decoders=1)
    large = toy.picture(9, size=(4000, 4000))

    async def run() -> None:
        async with asking(whole) as client:
            many = asyncio.create_task(client.post("/predict_batch", files=[("images", large)] * 16))
            assert await asyncio.to_thread(card.asked.wait, PATIENCE_S)
            assert (await client.post("/predict", files={"image": BRIGHT})).json()["label"] == "bright"
            assert not many.done()
            assert len((await many).json()["predictions"]) == 16

    asyncio.run(run())


@pytest.mark.slow
def test_a_request_that_is_being_decoded_when_the_service_stops_is_answered(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    slow.card = card = Undecided(slow.card)
    slow.opened.set()
    whole = inference(slow, decoders=1)
    whole.repository.start()

    async def run() -> None:
        async with asking(whole) as client:
            large = toy.picture(9, size=(2000, 2000))
            many = asyncio.create_task(client.post("/predict_batch", files=[("images", large)] * 8))
            assert await asyncio.to_thread(card.asked.wait, PATIENCE_S)
            stopping = asyncio.create_task(asyncio.to_thread(whole.stop))
            card.opened.set()
            assert len((await many).json()["predictions"]) == 8
            await stopping

    asyncio.run(run())


def test_numbers_that_are_not_finite_are_no_answer(toy_bundle):
    class Infinite(Slow):
        def predict(self, pixels: np.ndarray) -> np.ndarray:
            return np.full((len(pixels), 2), np.inf, dtype=np.float32)

    whole = inference(Infinite(Bundle.open(toy_bundle)))
    whole.repository.default.name = "toy"
    shape = [1, 16, 16, 3]
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": shape, "data": [0] * 768}

    async def run() -> list[httpx.Response]:
        async with asking(whole) as client:
            single = await client.post("/predict", files={"image": BRIGHT})
            return [single, await client.post("/v2/models/toy/infer", json={"inputs": [pixels]})]

    assert [answer.status_code for answer in asyncio.run(run())] == [500, 500]


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
    answers = ask(whole, 5, once=3, then=slow.opened.set)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    assert [answer.status_code for answer in ask(whole, 2)] == [200, 200]


def test_a_body_that_never_comes_whole_gets_408_and_the_connection_is_not_kept(toy_bundle):
    whole = inference(Slow(Bundle.open(toy_bundle)), upload_timeout_s=0.05)

    async def beginning() -> AsyncIterator[bytes]:
        yield BRIGHT[:20]
        await asyncio.Event().wait()

    async def run() -> httpx.Response:
        async with asking(whole) as client:
            return await client.post("/predict", content=beginning(), headers={"Content-Type": "image/png"})

    answer = asyncio.run(run())
    assert answer.status_code == 408
    assert answer.headers["Connection"] == "close"


def test_a_model_that_does_not_answer_is_noticed_and_so_is_that_it_goes_on(toy_bundle):
    slow = Slow(Bundle.open(toy_bundle))
    whole = inference(slow, max_answer_s=0.01, hang_s=0.2)
    whole.repository.start()

    async def run() -> None:
        async with asking(whole) as client:
            assert (await client.get("/livez")).status_code == 200
            predicting = asyncio.create_task(client.post("/predict", files={"image": BRIGHT}))
            async with asyncio.timeout(PATIENCE_S):
                while (told := await client.get("/livez")).status_code == 200:
                    await asyncio.sleep(0.01)
            assert told.status_code == 503
            assert "hangs" in told.json()["error"]
            assert (await client.get("/readyz")).status_code == 503
            slow.opened.set()
            assert (await predicting).json()["label"] == "bright"
            async with asyncio.timeout(PATIENCE_S):
                while (await client.get("/livez")).status_code != 200:
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    whole.stop()


def test_a_worker_whose_thread_has_ended_is_neither_alive_nor_ready(toy_bundle):
    whole = inference(Bundle.open(toy_bundle))
    whole.repository.start()

    async def health() -> set[int]:
        async with asking(whole) as client:
            paths = ("/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready")
            return {(await client.get(path)).status_code for path in paths}

    assert asyncio.run(health()) == {200}
    whole.batcher.stop()
    assert asyncio.run(health()) == {503}
    whole.stop()


class Picture:
    """What somebody holds while failing."""


def test_a_refused_request_holds_nothing_until_the_collector_passes(toy_bundle):
    held: list[weakref.ref[Picture]] = []

    class Refusing(Slow):
        def predict(self, pixels: np.ndarray) -> np.ndarray:
            picture = Picture()
            held.append(weakref.ref(picture))
            try:
                raise OSError(len(pixels))
            except OSError:
                raise UnreadableImage("it is damaged") from None

    whole = inference(Refusing(Bundle.open(toy_bundle)))
    gc.disable()
    try:
        (answer,) = ask(whole, 1)
        whole.batcher.stop()
        assert answer.status_code == 400
        assert held[0]() is None
    finally:
        gc.enable()


def jpeg(side: int = 16) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 200, 200)).save(file, "JPEG")
    return file.getvalue()


def known(whole: Inference, *, picture_s: float) -> None:
    """How long a picture takes the model."""
    whole.repository.champion().pace.note(1, picture_s)


def answers(whole: Inference, *files: bytes) -> list[Answer]:
    """To these pictures, sent at the same time."""

    async def run() -> list[Answer]:
        return await asyncio.gather(*(whole.answer([file]) for file in files))

    return asyncio.run(run())


def noted(whole: Inference, bundle: Noting, *files: bytes) -> list[tuple[str, int]]:
    """Who asked the model, for these pictures sent at the same time."""
    bundle.noted.clear()
    answers(whole, *files)
    return bundle.noted


def test_one_small_jpeg_by_itself_is_answered_without_waking_up_anybody(toy_bundle):
    bundle = Noting(Bundle.open(toy_bundle))
    whole = inference(bundle)
    known(whole, picture_s=0.001)
    assert noted(whole, bundle, jpeg()) == [("MainThread", 1)]
    quick, usual = answers(whole, jpeg())[0], answers(whole, BRIGHT)[0]
    assert quick.probabilities == pytest.approx(usual.probabilities)


def test_small_pictures_that_come_together_are_decoded_and_asked_for_together(toy_bundle):
    bundle = Noting(Bundle.open(toy_bundle))
    whole = inference(bundle)
    known(whole, picture_s=0.001)
    assert "MainThread" not in dict(noted(whole, bundle, *[jpeg()] * 4))


def test_what_takes_long_or_may_take_long_never_holds_up_the_loop(toy_bundle):
    bundle = Noting(Bundle.open(toy_bundle))
    whole = inference(bundle)
    assert noted(whole, bundle, jpeg()) == [("decoder", 1)], "how long the model takes is not known"
    known(whole, picture_s=0.001)
    assert noted(whole, bundle, BRIGHT) == [("decoder", 1)], "a PNG may be anything"
    assert noted(whole, bundle, jpeg(300)) == [("decoder", 1)], "many pixels"
    assert noted(whole, bundle, jpeg() + bytes(70_000)) == [("decoder", 1)], "many bytes"
    slow = inference(bundle)
    known(slow, picture_s=0.02)
    assert noted(slow, bundle, jpeg()) == [("decoder", 1)], "a slow model"


def test_a_small_jpeg_that_cannot_be_read_is_refused_alike(toy_bundle):
    whole = inference(Noting(Bundle.open(toy_bundle)))
    known(whole, picture_s=0.001)
    with pytest.raises(UnreadableImage):
        answers(whole, jpeg()[:200])
    assert answers(whole, jpeg())[0].timing.pictures == 1
