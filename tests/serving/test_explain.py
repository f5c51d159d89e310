"""Where a model looked: on models of which it is known."""

import asyncio
import base64
import io
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from PIL import Image

from models.bundle.bundle import Bundle
from serving import explain
from serving.batching import SaturatedError
from serving.errors import WrongFieldsError
from serving.http import app, openapi
from serving.inference import Inference
from serving.live import Live
from serving.pace import Pace
from serving.refs import ModelRef
from serving.repository import Repository
from serving.served import Served
from serving.settings import Settings

PATIENCE_S = 60.0  # this machine may be busy


def spotted(side: int = 16, *, top: bool = True) -> np.ndarray:
    """Dark, with a bright quarter: upper left, or lower right."""
    pixels = np.full((side, side, 3), 40, dtype=np.uint8)
    half = slice(0, side // 2) if top else slice(side // 2, side)
    pixels[half, half] = 160
    return pixels


def as_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Looks at the upper left quarter alone."""
    return Bundle.open(toy.bundle(tmp_path_factory.mktemp("corner") / "v1", version="v1", corner=True))


def falls(bundle: Bundle, pixels: np.ndarray, k: int = 0) -> np.ndarray:
    return bundle.predict(pixels[None])[0, k] - explain.occluded(pixels, bundle.predict, k)


def test_the_map_points_where_the_model_looks_and_nowhere_else(corner: Bundle):
    found = falls(corner, spotted())
    assert found.shape == (8, 8)
    assert (found[:4, :4] > 0.001).all()
    assert np.abs(found[5:]).max() == np.abs(found[:, 5:]).max() == 0


def test_what_speaks_against_a_label_is_negative(corner: Bundle):
    assert np.allclose(falls(corner, spotted(), k=1), -falls(corner, spotted(), k=0), atol=1e-6)


def test_to_a_model_that_takes_the_mean_all_parts_alike_matter_alike(toy_bundle: Path):
    found = falls(Bundle.open(toy_bundle), spotted())
    bright = found[:3, :3]  # wholly inside the bright quarter
    assert bright.min() > 1e-4
    assert np.ptp(bright) < 1e-6
    assert np.ptp(found[5:, 5:]) < 1e-6


def test_a_picture_of_one_colour_has_no_part_that_matters(toy_bundle: Path):
    assert not falls(Bundle.open(toy_bundle), np.full((16, 16, 3), 140, dtype=np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 1), (8, 8, 3), (17, 30, 3), (224, 100, 3)])
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_every_pixel_is_covered_and_all_patches_have_one_size(shape: tuple[int, int, int], chunk: int):
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels.reshape(-1)[::2] = 255  # so that the mean, which covers, is no pixel's own value
    sizes: list[int] = []
    touched = np.zeros(shape[:2], dtype=bool)

    def predict(batch: np.ndarray) -> np.ndarray:
        assert len(batch) <= chunk
        for picture in batch:
            other = (picture != pixels).any(axis=-1)
            sizes.append(int(other.sum()))
            touched[other] = True
        return np.zeros((len(batch), 2))

    found = explain.occluded(pixels, predict, 0, chunk=chunk)
    assert found.shape == (min(8, shape[0]), min(8, shape[1]))
    if shape != (1, 1, 1):
        assert touched.all()
        assert min(sizes) == max(sizes)


class Held:
    """A bundle that answers when it is allowed to, and notes how much it is asked at a time."""

    def __init__(self, bundle: Bundle) -> None:
        self.card, self.golden = bundle.card, bundle.golden
        self.opened = threading.Event()
        self.asked: list[int] = []
        self._bundle = bundle

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.asked.append(len(pixels))
        self.opened.wait(PATIENCE_S)
        return self._bundle.predict(pixels)


def serving(bundle: Any, **settings: Any) -> Inference:
    """`bundle` as toy@v1, without a store."""
    chosen = Settings(**settings)
    ref = ModelRef(name="toy", version="v1")
    live = Live(chosen, "toy")
    live.current = Served(ref=ref, name=str(ref), bundle=bundle, since="", pace=Pace(32))
    inference = Inference(chosen, Repository(chosen, lives=[live]))
    inference.batcher.start()
    return inference


def asked(inference: Inference, *requests: tuple[str, dict[str, Any]]) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app.build(inference), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.post(path, **body) for path, body in requests]

    return asyncio.run(run())


def test_the_three_ways_to_send_a_picture_have_one_answer(corner: Bundle):
    file = as_png(spotted(64))
    answers = asked(
        serving(corner),
        ("/explain", {"files": {"image": file}}),
        ("/explain", {"json": {"image": base64.b64encode(file).decode()}}),
        ("/explain", {"content": file, "headers": {"Content-Type": "image/png"}}),
        ("/predict", {"files": {"image": file}}),
    )
    assert [answer.status_code for answer in answers] == [200] * 4
    *told, predicted = [answer.json() for answer in answers]
    assert set(told[0]) == set(openapi.document(Settings())["components"]["schemas"]["Explanation"]["required"])
    assert len({one.pop("request_id") for one in told}) == 3
    assert told[0] == told[1] == told[2]
    assert (told[0]["model"], told[0]["label"]) == ("toy@v1", "bright") == (predicted["model"], predicted["label"])
    assert told[0]["probability"] == pytest.approx(predicted["probability"])
    assert (told[0]["height"], told[0]["width"]) == np.shape(told[0]["map"]) == (8, 8)


def test_the_picture_comes_back_as_the_model_saw_it(corner: Bundle):
    file = as_png(spotted(64))
    (answer,) = asked(serving(corner), ("/explain", {"files": {"image": file}}))
    kind, _, text = answer.json()["picture"].partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), corner.decode(file))


def test_another_label_can_be_asked_about_and_an_unknown_one_is_refused(corner: Bundle):
    file = {"files": {"image": as_png(spotted())}}
    dark, unknown, missing = asked(
        serving(corner),
        ("/explain?label=dark", file),
        ("/explain?label=grue", file),
        ("/explain?model=others", file),
    )
    assert dark.json()["label"] == "dark"
    assert min(min(row) for row in dark.json()["map"]) < 0
    assert (unknown.status_code, missing.status_code) == (422, 404)
    assert unknown.json()["error"] == "toy@v1 has no class 'grue'; see the classes in /model"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"files": {"image": b"no picture"}}, 400),
        ({"files": {"picture": toy.picture(1)}}, 422),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"content": b"x" * 5000, "headers": {"Content-Type": "image/png"}}, 413),
    ],
)
def test_what_is_wrong_is_refused_as_by_predict(corner: Bundle, body: dict[str, Any], status: int):
    (answer,) = asked(serving(corner, max_upload_bytes=4000), ("/explain", body))
    assert answer.status_code == status


def test_others_wait_for_a_few_pictures_at_most_and_more_than_two_explanations_at_once_are_refused(corner: Bundle):
    slow = Held(corner)
    inference = serving(slow)
    explainer = explain.Explainer(inference)
    served = inference.repository.champion()
    file = as_png(spotted())

    async def run() -> list[explain.Explanation]:
        explaining = [asyncio.create_task(explainer.explain(served, file, None)) for _ in range(2)]
        await asyncio.sleep(0)  # both have begun
        with pytest.raises(SaturatedError):
            await explainer.explain(served, file, None)
        answering = asyncio.create_task(inference.answer([file]))
        slow.opened.set()
        assert (await answering).served is served
        found = await asyncio.gather(*explaining)
        return [*found, await explainer.explain(served, file, None)]

    for found in asyncio.run(run()):
        assert found.label == "bright"
    assert max(slow.asked) <= 2 * explain.CHUNK + 1


def test_the_label_is_looked_at_before_any_work(corner: Bundle):
    inference = serving(corner)
    with pytest.raises(WrongFieldsError):
        asyncio.run(explain.Explainer(inference).explain(inference.repository.champion(), b"", "grue"))


def test_a_small_batch_limit_is_kept(corner: Bundle):
    slow = Held(corner)
    slow.opened.set()
    asked(serving(slow, max_batch=2), ("/explain", {"files": {"image": as_png(spotted())}}))
    assert max(slow.asked) <= 2
