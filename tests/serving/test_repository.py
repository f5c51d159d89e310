"""Several names in one service, and versions that are not in service."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import toy

from serving import challengers, served, store
from serving.errors import NoModelError, NotFoundError
from serving.http import app
from serving.inference import Inference
from serving.live import Live
from serving.refs import ModelRef
from serving.repository import MOST_WAITING, Repository
from serving.settings import Settings

Stored = Callable[..., ModelRef]
PATIENCE_S = 60.0  # this machine may be busy


@pytest.fixture
def stored(home: Path, tmp_path: Path) -> Stored:
    """Stores a bundle under a name and a version."""
    assert not home.exists()

    def make(name: str, version: str, threshold: float = 127.5) -> ModelRef:
        return store.save(toy.bundle(tmp_path / f"{name}-{version}", name=name, version=version, threshold=threshold))

    return make


def looked(repository: Repository) -> Repository:
    for live in repository.lives:
        live.look()
    return repository


def opened(repository: Repository, name: str | None = None, version: str | None = None) -> str:
    return asyncio.run(repository.open(name, version)).name


def test_each_name_has_its_champion_and_the_first_answers_where_none_is_named(stored: Stored):
    for name in ("lamps", "toy", "others"):
        store.promote(stored(name, "1"), reason="")
    repository = looked(Repository(Settings(model="toy,lamps,toy")))
    assert len(repository.lives) == 2
    assert repository.champion().name == "toy@1"
    assert repository.champion("lamps").name == "lamps@1"
    with pytest.raises(NotFoundError, match="it has toy, lamps"):
        repository.champion("others")


def test_a_name_without_a_champion_does_not_keep_the_others_from_answering(stored: Stored):
    store.promote(stored("toy", "1"), reason="")
    repository = looked(Repository(Settings(model="toy,lamps")))
    assert repository.champion().name == "toy@1"
    with pytest.raises(NoModelError, match="'lamps' has been promoted yet"):
        repository.champion("lamps")


@pytest.mark.slow
def test_versions_and_roles_are_opened_when_they_are_asked_for(stored: Stored):
    refs = [stored("toy", f"v{i}") for i in range(4)]
    store.promote(refs[0], reason="")
    store.promote(refs[1], reason="")
    challengers.challenge(refs[2], reason="")
    repository = looked(Repository(Settings()))
    assert opened(repository) == opened(repository, "toy", "champion") == opened(repository, "toy", "v1") == "toy@v1"
    assert opened(repository, None, "previous") == "toy@v0"
    assert opened(repository, "toy", "challenger") == "toy@v2"
    assert opened(repository, "toy", "v3") == "toy@v3"
    assert repository.find("toy", "v1") is repository.champion()


@pytest.mark.parametrize("version", ["v9", "challenger", "../v0", "V0", "", "latest", "x" * 500])
def test_what_is_not_there_is_not_found(stored: Stored, version: str):
    store.promote(stored("toy", "v0"), reason="")
    repository = looked(Repository(Settings()))
    with pytest.raises(NotFoundError, match=r"^model toy has no"):
        opened(repository, "toy", version)


def test_only_so_many_are_kept_open_and_those_asked_for_last(stored: Stored):
    refs = [stored("toy", f"v{i}") for i in range(4)]
    store.promote(refs[0], reason="")
    repository = looked(Repository(Settings(versions=2)))
    opened(repository, "toy", "v1")
    first = weakref.ref(repository.find("toy", "v1"))
    opened(repository, "toy", "v2")
    opened(repository, "toy", "v1")
    opened(repository, "toy", "v3")
    assert repository.find("toy", "v2") is None
    assert repository.find("toy", "v1") is first() is not None
    assert opened(Repository(Settings(versions=0), lives=repository.lives), "toy", "v2") == "toy@v2"


def test_a_version_that_many_ask_for_at_once_is_opened_once(stored: Stored):
    store.promote(stored("toy", "v0"), reason="")
    stored("toy", "v1")
    seen: list[str] = []

    def counting(folder: Path, settings: Settings) -> served.Bundle:
        seen.append(folder.parent.name)
        return served.opened(folder, settings)

    repository = looked(Repository(Settings(), open_=counting))
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: opened(repository, "toy", "v1"), range(8)))
    assert names == {"toy@v1"}
    assert seen == ["v0", "v1"]


@pytest.mark.slow
def test_who_waits_for_versions_to_be_opened_keeps_nobody_from_the_other_threads(stored: Stored):
    store.promote(stored("toy", "v0"), reason="")
    versions = [stored("toy", f"v{i}").version for i in range(1, 4)]
    asked, may = threading.Event(), threading.Event()

    def waiting(folder: Path, settings: Settings) -> served.Bundle:
        asked.set()
        assert may.wait(60)
        return served.opened(folder, settings)

    repository = looked(Repository(Settings()))
    repository._open = waiting

    async def run() -> list[served.Served | BaseException]:
        many = [repository.open("toy", version) for version in versions * 20]
        opening = asyncio.gather(*many, return_exceptions=True)
        try:
            async with asyncio.timeout(60):
                assert await asyncio.to_thread(asked.wait, 60)
        finally:
            may.set()
        return await opening

    answers = asyncio.run(run())
    refused = [answer for answer in answers if isinstance(answer, NoModelError)]
    assert len(refused) == 60 - MOST_WAITING
    assert "too many requests wait" in str(refused[0])
    assert {answer.name for answer in answers if isinstance(answer, served.Served)} == {"toy@v1", "toy@v2", "toy@v3"}


def test_a_damaged_version_is_refused_and_the_champion_goes_on(stored: Stored):
    store.promote(stored("toy", "v0"), reason="")
    model = store.path(stored("toy", "v1")) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    repository = looked(Repository(Settings()))
    with pytest.raises(NoModelError, match=r"^toy@v1 is refused: the bundle/model.onnx was changed"):
        opened(repository, "toy", "v1")
    assert repository.champion().name == "toy@v0"


def test_while_a_candidate_is_opened_the_one_in_service_answers_and_both_kinds_of_health_stay(stored: Stored):
    store.promote(stored("toy", "v0"), reason="")
    second = stored("toy", "v1")
    opening, allowed = threading.Event(), threading.Event()

    def slowly(folder: Path, settings: Settings) -> served.Bundle:
        if folder.parent.name == "v1":
            opening.set()
            allowed.wait(PATIENCE_S)
        return served.opened(folder, settings)

    settings = Settings(poll_s=0.01)
    inference = Inference(settings, Repository(settings, lives=[Live(settings, "toy", open_=slowly)]))
    inference.start()

    async def run() -> None:
        transport = httpx.ASGITransport(app.build(inference), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def answering() -> str:
                return (await client.post("/predict", files={"image": toy.picture(1)})).json()["model"]

            store.promote(second, reason="")
            assert await asyncio.to_thread(opening.wait, PATIENCE_S)
            for path in ("/livez", "/readyz", "/v2/health/ready", "/v2/models/toy/ready"):
                assert (await client.get(path)).status_code == 200
            assert await answering() == "toy@v0"
            allowed.set()
            async with asyncio.timeout(PATIENCE_S):
                while await answering() != "toy@v1":
                    await asyncio.sleep(0)

    asyncio.run(run())
    inference.stop()


@pytest.mark.slow
def test_requests_choose_a_model_by_name_and_version(stored: Stored):
    store.promote(stored("toy", "low", threshold=50), reason="")
    store.promote(stored("lamps", "high", threshold=200), reason="")
    stored("toy", "high", threshold=200)
    inference = Inference(Settings(model="toy,lamps"))
    inference.start()

    async def ask() -> None:
        transport = httpx.ASGITransport(app.build(inference), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def answered(query: str) -> tuple[str, str]:
                answer = (await client.post(f"/predict{query}", files={"image": toy.picture(125)})).json()
                return answer["model"], answer["label"]

            assert await answered("") == ("toy@low", "bright")
            assert await answered("?model=lamps") == ("lamps@high", "dark")
            assert await answered("?model=toy@high") == ("toy@high", "dark")
            assert await answered("?model=toy@champion") == ("toy@low", "bright")
            assert (await client.post("/predict?model=x", files={"image": toy.picture(1)})).status_code == 404
            assert (await client.get("/model?model=toy@high")).json()["version"] == "high"
            samples = (await client.get("/samples?model=lamps")).json()
            assert samples["model"] == "lamps@high"
            assert (await client.get(samples["samples"][0]["url"])).is_success
            assert (await client.get("/readyz")).json()["status"] == "serving toy@low, lamps@high"

    asyncio.run(ask())
    inference.stop()
