"""What people say a picture really shows: what is kept, where, and within which bounds."""

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import toy

from models.bundle.bundle import Bundle
from serving import feedback, settings, start
from serving.errors import NotKeptError
from serving.feedback import Answered, Feedback, Opinion, Recent
from serving.http import app, openapi
from serving.inference import Inference
from serving.live import Live
from serving.pace import Pace
from serving.refs import ModelRef
from serving.repository import Repository
from serving.served import Served
from serving.settings import Settings

PICTURE = toy.picture(200)
ABOUT = Answered("toy", "toy@v1", toy.CLASSES, "bright", 0.9, PICTURE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where feedback goes."""
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "feedback"


def lines(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(place.glob("*.jsonl")) for line in file.read_text().splitlines()]


class Service:
    """toy@v1 in this process."""

    def __init__(self, bundle: Path, **chosen: Any) -> None:
        self.settings = Settings(**chosen)
        live = Live(self.settings, "toy")
        ref = ModelRef(name="toy", version="v1")
        live.current = Served(ref=ref, name=str(ref), bundle=Bundle.open(bundle), since="", pace=Pace(32))
        inference = Inference(self.settings, Repository(self.settings, lives=[live]))
        inference.batcher.start()
        self.app = app.build(inference)

    def post(self, path: str, **body: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post(path, **body)

        return asyncio.run(run())

    def told(self, request_id: str, label: str = "dark") -> httpx.Response:
        return self.post("/feedback", json={"request_id": request_id, "label": label})


def test_a_line_says_what_was_answered_and_what_it_really_is(toy_bundle: Path, place: Path):
    service = Service(toy_bundle)
    answer = service.post("/predict", files={"image": PICTURE}).json()
    told = service.told(answer["request_id"])
    assert told.status_code == 200
    assert set(told.json()) == set(openapi.document(service.settings)["components"]["schemas"]["Kept"]["required"])
    assert {name: told.json()[name] for name in ("about", "label", "answered_by", "picture_kept")} == {
        "about": answer["request_id"],
        "label": "dark",
        "answered_by": "toy@v1",
        "picture_kept": False,
    }
    (line,) = lines(place)
    assert datetime.fromisoformat(line.pop("when")).tzinfo == UTC
    assert line == {
        "request_id": answer["request_id"],
        "name": "toy",
        "label": "dark",
        "model": "toy@v1",
        "answered": "bright",
        "probability": answer["probability"],
        "picture": None,
    }


def test_pictures_are_kept_only_where_the_operator_asked_for_it(toy_bundle: Path, place: Path):
    for keep in (False, True):
        service = Service(toy_bundle, keep_pictures=keep)
        for _ in range(2):  # the second time it is there already
            answer = service.post("/predict", files={"image": PICTURE}).json()
            assert service.told(answer["request_id"]).json()["picture_kept"] == keep
        assert (place / "pictures").exists() == keep
    names = {line["picture"] for line in lines(place)} - {None}
    assert [file.read_bytes() for file in (place / "pictures").iterdir()] == [PICTURE]
    assert [(place / name).read_bytes() for name in names] == [PICTURE]
    assert names.pop().endswith(".png")


def test_without_feedback_nothing_is_written(toy_bundle: Path, place: Path):
    Service(toy_bundle, keep_pictures=True).post("/predict", files={"image": PICTURE})
    assert not place.exists()


def test_feedback_about_an_answer_that_is_not_remembered_is_kept_with_what_is_known(toy_bundle: Path, place: Path):
    told = Service(toy_bundle).told("of-another-worker", "bright")
    assert (told.status_code, told.json()["answered_by"]) == (200, None)
    (line,) = lines(place)
    assert (line["name"], line["label"], line["model"], line["answered"]) == ("toy", "bright", None, None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"[" * 4000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b'{"request_id": "a", "label": "dark"}', "headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": {"request_id": "a", "label": "dark"}}, 415),
        ({"json": {"request_id": "a", "label": "d" * 5000}}, 413),
        ({"json": []}, 422),
        ({"json": {"request_id": "a"}}, 422),
        ({"json": {"request_id": "a", "label": "dark", "note": "x"}}, 422),
        ({"json": {"request_id": "a", "label": "grue"}}, 422),
        ({"json": {"request_id": "a", "label": 1}}, 422),
        ({"json": {"request_id": "../../a", "label": "dark"}}, 422),
        ({"json": {"request_id": "a\n", "label": "dark"}}, 422),
        ({"json": {"request_id": "", "label": "dark"}}, 422),
        ({"json": {"request_id": "a" * 129, "label": "dark"}}, 422),
        ({"content": b'{"request_id": "a", "label": "\\ud800"}', "headers": {"Content-Type": "application/json"}}, 422),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence_and_nothing_is_kept(
    toy_bundle: Path, place: Path, body: dict[str, Any], status: int
):
    answer = Service(toy_bundle).post("/feedback", **body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert not place.exists()


def test_what_people_sent_is_for_the_operators_eyes(place: Path):
    Feedback(place, Settings(keep_pictures=True)).keep(Opinion(request_id="a", label="dark"), ABOUT)
    (file,) = place.glob("*.jsonl")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_worker_has_a_file_of_its_own_for_a_day(place: Path):
    for kept in (Feedback(place, Settings()), Feedback(place, Settings())):
        for number in range(3):
            kept.keep(Opinion(request_id=str(number), label="dark"), ABOUT)
    assert len(list(place.glob("*.jsonl"))) == 2
    assert [line["request_id"] for line in lines(place)] == ["0", "1", "2"] * 2


def test_there_are_so_many_lines_a_day_and_no_more(toy_bundle: Path, place: Path):
    service = Service(toy_bundle, feedback_a_day=2)
    assert [service.told(str(i)).status_code for i in range(3)] == [200, 200, 503]
    refused = service.told("x")
    assert refused.json()["error"] == "no more than 2 lines of feedback are kept a day; come back tomorrow"
    then = datetime.now(UTC) + timedelta(seconds=int(refused.headers["Retry-After"]))
    assert (then.hour, then.minute) == (0, 0)
    assert len(lines(place)) == 2


def test_pictures_beyond_the_bytes_of_a_day_are_left_out_and_their_lines_kept(place: Path):
    kept = Feedback(place, Settings(keep_pictures=True, feedback_bytes_a_day=len(PICTURE)))
    other = Answered("toy", "toy@v1", toy.CLASSES, "bright", 0.9, toy.picture(199))
    opinion = Opinion(request_id="a", label="dark")
    assert [kept.keep(opinion, about).picture is not None for about in (ABOUT, other, ABOUT)] == [True, False, True]
    assert len(lines(place)) == 3


def test_a_disk_that_takes_nothing_is_a_503_without_a_path(toy_bundle: Path, place: Path):
    place.parent.mkdir()
    place.write_text("a file where the folder should be")
    answer = Service(toy_bundle).told("a")
    assert answer.status_code == 503
    assert answer.json()["error"] == "the feedback cannot be written down at the moment; tell the operator"


def test_half_a_line_is_taken_back(place: Path, monkeypatch: pytest.MonkeyPatch):
    kept = Feedback(place, Settings())
    opinion = Opinion(request_id="a", label="dark")
    kept.keep(opinion, ABOUT)
    write = feedback.os.write
    with monkeypatch.context() as full:  # a full disk: the kernel takes what there is room for
        full.setattr(feedback.os, "write", lambda file, line: write(file, line[:20]))
        with pytest.raises(NotKeptError):
            kept.keep(opinion, ABOUT)
    kept.keep(opinion, ABOUT)
    assert len(lines(place)) == 2


def test_the_last_answers_are_remembered_within_a_number_and_bytes():
    recent = Recent(most=3, most_bytes=3 * len(PICTURE))
    for number in range(5):
        recent.add(str(number), ABOUT)
    assert [number for number in range(5) if recent.find(str(number))] == [2, 3, 4]
    recent.add("4", ABOUT)
    assert recent.find("2")
    recent.add("large", Answered("toy", "toy@v1", toy.CLASSES, "bright", 0.9, PICTURE * 2))
    assert [name for name in ("2", "3", "4", "large") if recent.find(name)] == ["4", "large"]
    recent.add("larger", Answered("toy", "toy@v1", toy.CLASSES, "bright", 0.9, PICTURE * 9))
    assert not any(recent.find(name) for name in ("4", "large", "larger"))


def test_workers_keep_it_where_the_one_who_started_the_service_stood(tmp_path, monkeypatch):
    monkeypatch.delenv("TRAINSERVE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert start.environment(settings.load())["TRAINSERVE_HOME"] == str(tmp_path / ".trainserve")
