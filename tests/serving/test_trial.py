"""When a trial is ended, by its figures; how requests are shared out."""

import asyncio
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from conftest import until
from scipy.stats import binomtest

from flows.cli import promoting
from models.bundle.bundle import Bundle
from serving import challengers, store
from serving.aliases import Trial
from serving.batching import Answer, Timing
from serving.http import app
from serving.inference import Inference
from serving.live import Live
from serving.pace import Pace
from serving.refs import ModelRef, StoreError
from serving.served import Served
from serving.settings import Settings
from serving.trial import Trying, at_least
from serving.trying import Trials

SETTINGS = Settings(trial_answers=20)
GREY = toy.picture(200)


def trying(share: float = 0.1, *, shadow: bool = False) -> Trying:
    ref = ModelRef(name="toy", version="v1")
    served = Served(ref=ref, name=str(ref), bundle=None, since="", pace=Pace(32))  # type: ignore[arg-type]
    return Trying(served, Trial(version="v1", share=share, shadow=shadow))


@pytest.mark.parametrize(("share", "due"), [(0.1, 100), (0.25, 250), (1.0, 1000), (0.001, 1), (1 / 3, 333)])
def test_a_share_is_met_exactly_and_spread_evenly(share: float, due: int):
    one = trying(share)
    turns = [one.is_due() for _ in range(1000)]
    assert sum(turns) == due
    gaps = {b - a for a, b in itertools.pairwise(i for i, turn in enumerate(turns) if turn)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_the_lower_end_is_wilsons():
    low, _ = binomtest(10, 100).proportion_ci(method="wilson")
    assert at_least(10, 100) == pytest.approx(low, abs=1e-4)
    assert at_least(0, 100) == 0 == at_least(0, 0)


def played(*, answers: int = 100, failures: int = 0, differed: int = 0, slower: float = 1.0) -> str | None:
    one = trying()
    for _ in range(answers):
        one.answered(one.champion, 1, 0.01)
        one.answered(one.challenger, 1, 0.01 * slower)
    for _ in range(failures):
        one.failed()
    one.agreed(answers, differed)
    return one.failing(SETTINGS)


def test_one_that_does_as_well_stays():
    assert played() is None
    assert played(differed=50, slower=1.9) is None


def test_each_limit_ends_the_trial_with_its_figures():
    assert played(failures=9) == "it failed to answer 9 of 109 requests, more than the limit of 1 %"
    assert played(differed=80) == "it disagreed about 80 of 100 pictures, more than the limit of 50 %"
    assert played(slower=3) == ("it takes 30.0 ms a picture where the champion takes 10.0, more than 2 times as long")


def test_who_is_asked_rarely_answers_small_batches_and_is_no_slower_for_that():
    one = trying()
    for _ in range(100):
        one.answered(one.champion, 32, 0.05)  # 1.6 ms a picture
        one.answered(one.challenger, 1, 0.02)
    assert one.failing(SETTINGS) is None
    for _ in range(20):
        one.answered(one.champion, 1, 0.018)
    assert one.failing(SETTINGS) is None
    assert (one.told()["model_ms"], one.told()["champion_ms"]) == (20, 18)


def test_a_fraction_of_a_millisecond_and_a_few_long_ones_are_not_slow():
    one = trying()
    for i in range(100):
        one.answered(one.champion, 1, 0.0002)
        one.answered(one.challenger, 1, 0.0009 if i % 3 else 0.5)
    assert one.failing(SETTINGS) is None


def test_few_answers_prove_nothing():
    assert played(answers=10, failures=9, differed=10, slower=9) is None
    assert played(answers=100, failures=1) is None


@pytest.fixture
def versions(home: Path, tmp_path: Path) -> list[ModelRef]:
    """toy@v0, in service: bright above 50; toy@v1: above 100; toy@v2: above 250."""
    assert not home.exists()
    thresholds = (50, 100, 250)
    refs = [
        store.save(toy.bundle(tmp_path / f"v{i}", version=f"v{i}", threshold=threshold))
        for i, threshold in enumerate(thresholds)
    ]
    store.promote(refs[0], reason="first")
    return refs


@pytest.fixture
def serving() -> Iterator[Any]:
    """Starts a service in this process and asks it: `serving(numbers of requests, settings)`."""
    started: list[Inference] = []

    def ask(
        times: int,
        *,
        before: Callable[[Inference], None] = lambda _: None,
        settled: Callable[[Inference], bool] = lambda _: True,
        **settings: Any,
    ) -> tuple[list[Any], Inference]:
        inference = Inference(Settings(trial_answers=20, **settings))
        inference.start()
        started.append(inference)
        before(inference)

        async def run() -> list[Any]:
            transport = httpx.ASGITransport(app.build(inference), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answers = []
                for _ in range(times):
                    answer = await client.post("/predict", files={"image": GREY})
                    answers.append(answer.json() if answer.is_success else answer.status_code)
                    if behind := asyncio.all_tasks() - {asyncio.current_task()}:
                        await asyncio.wait(behind)  # second opinions
                await asyncio.to_thread(until, lambda: settled(inference))
                answers.append((await client.get("/model")).json())
            return answers

        return asyncio.run(run()), inference

    yield ask
    for inference in started:
        inference.stop()


def models(answers: list[Any]) -> dict[str, int]:
    said = [answer["model"] if isinstance(answer, dict) else answer for answer in answers]
    return {model: said.count(model) for model in dict.fromkeys(said)}


@pytest.mark.slow
def test_a_canary_answers_its_share_and_is_compared(versions, serving):
    challengers.try_out(versions[1], share=0.25, shadow=False, reason="")
    answers, _ = serving(40)
    assert models(answers[:-1]) == {"toy@v0": 30, "toy@v1": 10}
    told = answers[-1]["trial"]
    assert (told["model"], told["mode"], told["share"]) == ("toy@v1", "canary", 0.25)
    assert (told["answers"], told["compared"], told["differed"]) == (10, 10, 0)


@pytest.mark.slow
def test_a_shadow_answers_nobody_and_is_compared(versions, serving):
    challengers.try_out(versions[1], share=1.0, shadow=True, reason="")
    answers, _ = serving(20)
    assert models(answers[:-1]) == {"toy@v0": 20}
    told = answers[-1]["trial"]
    assert told["mode"] == "shadow"
    assert (told["answers"], told["compared"], told["differed"]) == (20, 20, 0)


class Broken:
    """A model that opens and then fails."""

    def __init__(self, bundle: Bundle) -> None:
        self.card, self.golden = bundle.card, bundle.golden

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"{len(pixels)} pictures, no answer")


class Infinite(Broken):
    """A model that opens, and has no numbers for the pictures that come."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return np.full((len(pixels), 2), np.nan, dtype=np.float32)


def breaks(inference: Inference, how: type[Broken]) -> None:
    live = inference.repository.default
    assert live.trying is not None
    served = live.trying.served
    live.trying.served = dataclasses.replace(served, bundle=how(served.bundle))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("how", [Broken, Infinite])
def test_one_that_fails_harms_no_request_and_is_withdrawn(versions, serving, shadow, how):
    challengers.try_out(versions[1], share=1.0, shadow=shadow, reason="")
    answers, inference = serving(60, before=lambda inference: breaks(inference, how))
    assert models(answers[:-1]) == {"toy@v0": 60}
    assert inference.repository.default.trying is None
    last = store.aliases("toy").history[-1]
    assert (last.what, last.version) == ("withdraw", "v1")
    assert last.reason.startswith("it failed to answer 20 of 20 requests")
    assert store.aliases("toy").champion == versions[0]


class Busy:
    """An inference for which others always wait; whoever is on trial takes ten times as long."""

    def __init__(self, live: Live, settings: Settings) -> None:
        self.settings, self.batcher, self.repository = settings, self, self
        self.waiting = 1
        self._live = live

    def champion(self, name: str) -> Served:
        assert self._live.current is not None
        assert name == self._live.name
        return self._live.current

    async def answer(self, files: list[bytes], served: Served) -> Answer:
        took_s = 0.01 if served is self._live.current else 0.1
        return Answer(np.full((len(files), 2), 0.5, dtype=np.float32), served, Timing(0, took_s, len(files)))


def test_one_that_is_slow_is_withdrawn_also_where_it_keeps_everyone_waiting(versions):
    challengers.try_out(versions[1], share=0.5, shadow=False, reason="")
    live = Live(SETTINGS, "toy")
    live.look()
    trials = Trials(Busy(live, SETTINGS))  # type: ignore[arg-type]

    async def run() -> None:
        for _ in range(60):
            await trials.answer(live, [toy.picture(1)])
        while trials._behind:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert live.trying is None
    assert "it takes 100.0 ms a picture" in store.aliases("toy").history[-1].reason


@pytest.mark.slow
def test_one_that_disagrees_is_withdrawn_and_the_page_says_why(versions, serving):
    challengers.try_out(versions[2], share=0.5, shadow=False, reason="")
    answers, inference = serving(120, poll_s=0.02, settled=lambda it: it.repository.default.held.trial is None)
    assert models(answers[100:-1]) == {"toy@v0": 20}
    assert inference.repository.default.trying is None
    ended = answers[-1]["ended"]
    assert ended["model"] == "toy@v2"
    assert "disagreed about" in ended["reason"]


@pytest.mark.slow
def test_a_damaged_challenger_takes_no_traffic(versions, serving):
    model = store.path(versions[1]) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    challengers.try_out(versions[1], share=0.5, shadow=False, reason="")
    answers, _ = serving(10)
    assert models(answers[:-1]) == {"toy@v0": 10}
    assert answers[-1]["refused"]["model"] == "toy@v1"
    assert store.aliases("toy").trial is None


def test_a_trial_that_cannot_be_written_off_is_ended_all_the_same(versions, home, caplog):
    """The service may only read the aliases, say."""
    live = Live(SETTINGS, "toy")
    live.look()
    model = store.path(versions[1]) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    challengers.try_out(versions[1], share=0.5, shadow=False, reason="")
    aliases = home / "trainserve" / "aliases"
    (aliases / ".toy.json.lock").unlink()
    (aliases / ".toy.json.lock").mkdir()  # nobody can write
    live.look()
    assert live.trying is None
    assert "was changed after export" in live.refused.reason
    assert "could not be written down" in caplog.text


@pytest.mark.slow
def test_the_command_ends_the_trial_first_and_then_goes_back(versions, capsys):
    store.promote(versions[2], reason="")
    challengers.try_out(versions[1], share=0.5, shadow=False, reason="")
    promoting.rollback("toy", to=None, because=None)
    assert "the trial of toy@v1 is ended: toy@v2 answers" in capsys.readouterr().out
    assert store.aliases("toy").champion == versions[2]
    assert store.aliases("toy").trial is None
    promoting.rollback("toy", to=None, because=None)
    assert store.aliases("toy").champion == versions[0]


def test_a_new_champion_ends_the_trial_beside_the_old_one(versions):
    for change in (lambda: store.promote(versions[2], reason=""), lambda: store.rollback("toy", reason="")):
        challengers.try_out(versions[1], share=0.5, shadow=False, reason="")
        change()
        assert store.aliases("toy").trial is None
    challengers.try_out(versions[1], share=0.5, shadow=False, reason="")
    store.promote(versions[1], reason="well done")
    assert challengers.withdraw(versions[1], reason="too late").champion == versions[1]


def test_nothing_can_be_tried_beside_nothing_or_itself(versions, tmp_path):
    other = store.save(toy.bundle(tmp_path / "other", name="other", version="1"))
    with pytest.raises(StoreError, match="no champion to try"):
        challengers.try_out(other, share=0.5, shadow=False, reason="")
    with pytest.raises(StoreError, match="is the champion already"):
        challengers.try_out(versions[0], share=0.5, shadow=False, reason="")
