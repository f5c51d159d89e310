"""One queue, one thread: what waits together is answered together."""

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from serving.batching import Batcher, SaturatedError
from serving.pace import Pace
from serving.refs import ModelRef
from serving.served import Served

PATIENCE_S = 60.0  # this machine may be busy


@dataclass
class Gate:
    """A bundle that answers the mean of each picture, when it is allowed to."""

    opened: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    asked_by: list[str] = field(default_factory=list)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.asked_by.append(threading.current_thread().name)
        self.opened.wait(PATIENCE_S)
        self.batches.append(len(pixels))
        mean = pixels.reshape(len(pixels), -1).mean(axis=1, keepdims=True)
        return np.concatenate([mean, 255 - mean], axis=1).astype(np.float32)


class Steady(Pace):
    """Learns nothing: how long these bundles take says nothing."""

    def note(self, pictures: int, seconds: float) -> None:
        pass


def served(bundle: object, version: str = "1", *, most: int = 4) -> Served:
    ref = ModelRef(name="gate", version=version)
    return Served(ref=ref, name=str(ref), bundle=bundle, since="", pace=Steady(most))  # type: ignore[arg-type]


def pictures(*greys: int) -> np.ndarray:
    return np.stack([np.full((2, 2, 3), grey, dtype=np.uint8) for grey in greys])


@pytest.fixture
def batcher():
    batcher = Batcher(max_queue=10)
    batcher.start()
    yield batcher
    batcher.stop()


def hold(batcher: Batcher, model: Served):
    """A first job that the batcher is busy with, so that what follows has to wait."""
    future = batcher.submit(model, pictures(0))
    while batcher.waiting:
        time.sleep(0.001)
    return future


def test_each_job_gets_its_own_rows(batcher):
    gate = Gate()
    model = served(gate)
    futures = [hold(batcher, model), *(batcher.submit(model, pictures(i, i + 100)) for i in (1, 2, 3))]
    gate.opened.set()
    answers = [future.result(PATIENCE_S) for future in futures]
    assert [answer.probabilities[:, 0].tolist() for answer in answers] == [[0], [1, 101], [2, 102], [3, 103]]


def test_who_is_alone_asks_the_model_himself(batcher):
    gate = Gate()
    gate.opened.set()
    answered = batcher.submit(served(gate), pictures(3), alone=True)
    assert answered.done()
    assert answered.result().probabilities[:, 0].tolist() == [3]
    assert gate.asked_by == [threading.current_thread().name]


def test_who_only_thinks_he_is_alone_waits_in_the_queue(batcher):
    gate = Gate()
    model = served(gate)
    first = hold(batcher, model)
    second = batcher.submit(model, pictures(1), alone=True)
    assert not second.done()
    gate.opened.set()
    assert second.result(PATIENCE_S).probabilities[:, 0].tolist() == [1]
    assert first.done()
    assert set(gate.asked_by) == {"batcher"}


def test_what_comes_while_somebody_asks_alone_is_batched_after_him(batcher):
    gate = Gate()
    model = served(gate)
    alone = threading.Thread(target=lambda: batcher.submit(model, pictures(0), alone=True), name="alone")
    alone.start()
    while not gate.asked_by:
        time.sleep(0.001)
    futures = [batcher.submit(model, pictures(i)) for i in (1, 2)]
    assert batcher.waiting == 2
    gate.opened.set()
    assert [future.result(PATIENCE_S).probabilities[0, 0] for future in futures] == [1, 2]
    assert gate.asked_by == ["alone", "batcher"]
    assert gate.batches == [1, 2]
    alone.join()


def test_who_asks_alone_while_the_service_stops_is_answered():
    batcher, gate, answers = Batcher(max_queue=10), Gate(), []
    batcher.start()
    alone = threading.Thread(target=lambda: answers.append(batcher.submit(served(gate), pictures(5), alone=True)))
    alone.start()
    while not gate.asked_by:
        time.sleep(0.001)
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    gate.opened.set()
    stopping.join()
    alone.join()
    assert answers[0].result().probabilities[0, 0] == 5
    assert not batcher.alive


def test_what_waits_is_batched_and_pictures_are_counted_not_requests(batcher):
    gate = Gate()
    model = served(gate)
    futures = [hold(batcher, model), *(batcher.submit(model, pictures(*[7] * n)) for n in (2, 1, 2, 1))]
    gate.opened.set()
    assert [future.result(PATIENCE_S).timing.pictures for future in futures] == [1, 3, 3, 3, 3]
    assert gate.batches == [1, 3, 3]


def test_what_waits_is_taken_in_batches_of_the_size_that_serves_the_model_best(batcher):
    gate = Gate()
    model = served(gate, most=2)
    futures = [hold(batcher, model), *(batcher.submit(model, pictures(i)) for i in range(5))]
    gate.opened.set()
    assert [future.result(PATIENCE_S).probabilities[0, 0] for future in futures] == [0, 0, 1, 2, 3, 4]
    assert gate.batches == [1, 2, 2, 1]


def test_the_pace_of_a_model_is_told_how_long_each_batch_took(batcher):
    gate = Gate()
    gate.opened.set()
    told = []

    class Told(Steady):
        def note(self, pictures: int, seconds: float) -> None:
            told.append((pictures, seconds > 0))

    model = replace(served(gate), pace=Told(4))
    batcher.submit(model, pictures(*range(6))).result(PATIENCE_S)
    assert told == [(4, True), (2, True)]


def test_a_request_larger_than_a_batch_is_answered_in_slices(batcher):
    gate = Gate()
    gate.opened.set()
    answer = batcher.submit(served(gate), pictures(*range(10))).result(PATIENCE_S)
    assert answer.probabilities[:, 0].tolist() == list(range(10))
    assert gate.batches == [4, 4, 2]


def test_a_lone_request_is_not_kept_until_others_come(batcher):
    """The fastest of many: a busy machine keeps some of them, a batcher that waits keeps all."""
    gate = Gate()
    gate.opened.set()

    def seconds() -> float:
        begun = time.perf_counter()
        batcher.submit(served(gate), pictures(1)).result(PATIENCE_S)
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(30)) < 0.05


def test_a_full_queue_refuses_at_once_and_recovers(batcher):
    gate = Gate()
    model = served(gate)
    first = hold(batcher, model)
    waiting = [batcher.submit(model, pictures(*[1] * 5)) for _ in range(2)]
    with pytest.raises(SaturatedError):
        batcher.submit(model, pictures(1))
    gate.opened.set()
    for future in (first, *waiting):
        future.result(PATIENCE_S)
    assert batcher.submit(model, pictures(9)).result(PATIENCE_S).probabilities[0, 0] == 9


def test_a_batch_never_mixes_models_and_an_answer_names_its_own(batcher):
    old, new = Gate(), Gate()
    models = [served(old, "1"), served(new, "2")]
    futures = [hold(batcher, models[0])]
    futures += [batcher.submit(models[i], pictures(1)) for i in (0, 0, 1, 1, 0)]
    old.opened.set()
    new.opened.set()
    assert [future.result(PATIENCE_S).served.name for future in futures] == [f"gate@{v}" for v in (1, 1, 1, 2, 2, 1)]
    assert (old.batches, new.batches) == ([1, 2, 1], [2])


def test_a_batch_that_fails_fails_its_own_requests_only(batcher):
    class Broken:
        def predict(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError(f"{len(pixels)}")

    gate = Gate()
    gate.opened.set()
    with pytest.raises(RuntimeError):
        batcher.submit(served(Broken()), pictures(1)).result(PATIENCE_S)
    assert batcher.alive
    assert batcher.submit(served(gate), pictures(3)).result(PATIENCE_S).probabilities[0, 0] == 3


def test_a_batch_hangs_when_it_takes_longer_than_its_pictures_may(batcher):
    gate = Gate()
    hold(batcher, served(gate))
    assert batcher.hangs(picture_s=0, beyond_s=0)
    assert not batcher.hangs(picture_s=PATIENCE_S, beyond_s=0)
    assert not batcher.hangs(picture_s=0, beyond_s=PATIENCE_S)
    gate.opened.set()
    batcher.stop()
    assert not batcher.hangs(picture_s=0, beyond_s=0), "nothing to do is no hang"


def test_stopping_answers_what_was_accepted_and_takes_nothing_more():
    batcher = Batcher(max_queue=10)
    batcher.start()
    gate = Gate()
    model = served(gate)
    futures = [batcher.submit(model, pictures(i)) for i in range(5)]
    gate.opened.set()
    batcher.stop()
    assert [future.result(0).probabilities[0, 0] for future in futures] == [0, 1, 2, 3, 4]
    with pytest.raises(SaturatedError):
        batcher.submit(model, pictures(1))
