"""What the service says of an answer, by what the very version knows that gave it: is it sure, is the picture strange
to it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from conftest import home_is, until
from starlette.testclient import TestClient

from models.bundle.bundle import Bundle
from serving import challengers, metrics, store
from serving.client import Prediction
from serving.http import app
from serving.inference import Inference
from serving.settings import Settings

FAINT, CLEAR = toy.picture(130), toy.picture(250)  # bright with a probability of 0.56, and of more than 0.99
# Of pictures whose mean is so many above 127.5: its logits are 0.05 times that, with both signs.
ENERGIES = tuple(-float(np.logaddexp(0.05 * gap, -0.05 * gap)) for gap in np.linspace(120, 20, 101))
VERSIONS = {"easy": 0.5, "strict": 0.9, "silent": None}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`strict` is in service; `silent` has no threshold, as models of before."""
    folder = tmp_path_factory.mktemp("sure")
    with home_is(folder / "bentoml"):
        for version, limit in VERSIONS.items():
            stored = store.save(toy.bundle(folder / version, version=version, sure=limit))
            if version == "strict":
                store.promote(stored, reason="")
        store.save(toy.bundle(folder / "telling", version="telling", sure=0.9, energies=ENERGIES))
        store.save(toy.bundle(folder / "knowing", version="knowing", energies=ENERGIES))
        inference = Inference(Settings(max_batch=4))
        inference.start()
        yield TestClient(app.build(inference))
        inference.stop()


def unsure(version: str) -> float:
    return metrics.UNSURE.labels("toy", version)._value.get()


@pytest.mark.slow
def test_a_probability_above_the_threshold_is_sure_and_any_other_is_not(asked: TestClient):
    answers = [asked.post("/predict", files={"image": picture}).json() for picture in (CLEAR, FAINT)]
    assert [answer["sure"] for answer in answers] == [True, False]
    assert [answer["label"] for answer in answers] == ["bright", "bright"]  # which answer it is does not depend on it


def test_each_version_has_a_threshold_of_its_own(asked: TestClient):
    given = {
        version: asked.post(f"/predict?model=toy@{version}", files={"image": FAINT}).json() for version in VERSIONS
    }
    assert given["easy"]["sure"] is True
    assert given["strict"]["sure"] is False
    assert "sure" not in given["silent"]


def test_a_picture_that_says_little_to_the_model_is_strange_to_it(asked: TestClient):
    given = [asked.post("/predict?model=toy@knowing", files={"image": toy.picture(g)}).json() for g in (255, 187, 128)]
    assert [one["unfamiliar"] for one in given] == [0, pytest.approx(0.6, abs=0.02), 1]
    assert "sure" not in given[0]  # it has no threshold
    assert "unfamiliar" not in asked.post("/predict", files={"image": CLEAR}).json()


def test_of_many_pictures_each_has_its_own_strangeness(asked: TestClient):
    """More than go into one batch, so that what is put together again is looked at."""
    greys = [128, 250, 187, 128, 255, 128, 0, 187, 128, 250]
    files = [("images", toy.picture(grey)) for grey in greys]
    answer = asked.post("/predict_batch?model=toy@knowing", files=files).json()
    alone = [asked.post("/predict?model=toy@knowing", files={"image": file}).json() for _, file in files]
    assert [one["unfamiliar"] for one in answer["predictions"]] == [one["unfamiliar"] for one in alone]


def test_of_several_pictures_each_is_told(asked: TestClient):
    answer = asked.post("/predict_batch", files=[("images", FAINT), ("images", CLEAR)]).json()
    assert [one["sure"] for one in answer["predictions"]] == [False, True]


def test_unsure_answers_are_counted_by_version(asked: TestClient):
    before = unsure("strict")
    for picture in (FAINT, CLEAR, FAINT):
        asked.post("/predict", files={"image": picture})
    asked.post("/predict?model=toy@silent", files={"image": FAINT})
    assert unsure("strict") == before + 2
    assert unsure("silent") == 0
    assert b'trainserve_unsure_pictures_total{name="toy",version="strict"}' in metrics.text()


def test_whoever_can_tell_both_tells_both_as_documented(asked: TestClient):
    schema = asked.get("/docs.json").json()["components"]["schemas"]["Answer"]
    answer = asked.post("/predict?model=toy@telling", files={"image": CLEAR}).json()
    assert set(answer) == set(schema["properties"])
    assert (answer["sure"], answer["unfamiliar"]) == (True, 0)


def test_the_card_says_what_the_threshold_is(asked: TestClient):
    assert asked.get("/model").json()["selective"]["threshold"] == 0.9
    assert asked.get("/model?model=toy@silent").json()["selective"] is None


def test_the_open_inference_protocol_goes_without(asked: TestClient):
    for version in ("strict", "knowing"):
        outputs = asked.get(f"/v2/models/toy/versions/{version}").json()["outputs"]
        assert [output["name"] for output in outputs] == ["probabilities", "label"]


def test_the_client_has_it_where_the_service_says_it(asked: TestClient):
    given = asked.post("/predict", files={"image": FAINT}).json()
    assert Prediction.model_validate(given).sure is False
    silent = asked.post("/predict?model=toy@silent", files={"image": FAINT}).json()
    assert Prediction.model_validate(silent).sure is None
    assert Prediction.model_validate(silent).unfamiliar is None
    knowing = asked.post("/predict?model=toy@knowing", files={"image": FAINT}).json()
    assert Prediction.model_validate(knowing).unfamiliar == 1


def test_while_a_challenger_is_tried_the_threshold_is_that_of_who_answered(asked: TestClient):
    challenger, seen = store.resolve("toy@easy"), {}

    def both_answered() -> bool:
        answer = asked.post("/predict", files={"image": FAINT}).json()
        seen[answer["model"]] = answer["sure"]
        return len(seen) == 2

    challengers.try_out(challenger, share=0.5, shadow=False, reason="")
    until(both_answered)
    challengers.withdraw(challenger, reason="")
    assert seen == {"toy@easy": True, "toy@strict": False}


@pytest.mark.parametrize(("version", "expected"), [("easy", True), ("strict", False), ("silent", None)])
def test_in_process_it_is_the_same(tmp_path: Path, version: str, expected: bool | None):
    bundle = Bundle.open(toy.bundle(tmp_path / version, version=version, sure=VERSIONS[version]))
    assert bundle.classify(FAINT).sure is expected


def test_in_process_strangeness_is_the_same_too(asked: TestClient, tmp_path: Path):
    bundle = Bundle.open(toy.bundle(tmp_path / "knowing", version="knowing", energies=ENERGIES))
    said = asked.post("/predict?model=toy@knowing", files={"image": toy.picture(187)}).json()
    assert bundle.classify(toy.picture(187)).unfamiliar == said["unfamiliar"]


def test_a_bundle_of_before_opens_and_says_nothing():
    golden = Path(__file__).parents[1] / "golden"
    for name in ("bundle-v1", "bundle-v2"):
        card = json.loads((golden / name / "card.json").read_text())
        assert "selective" not in card
        assert Bundle.open(golden / name).card.threshold is None
