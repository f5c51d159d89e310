"""A service of two processes: its figures are those of both, and a trial begins and ends in both."""

import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import toy
from conftest import ROOT, START_S, Running, home_is, running, until
from prometheus_client.parser import text_string_to_metric_families

from flows.cli.app import main
from serving import store
from serving.settings import Settings

pytestmark = pytest.mark.slow
GREY = toy.picture(90)  # dark for toy@v1 and toy@v2, bright for toy@v3

# A connection for each request, so that either worker may get it.
ON_ITS_OWN = httpx.Client(headers={"Connection": "close"}, timeout=START_S)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers with toy@v1; beside it in the store are v2, which agrees about GREY, and v3, which does not."""
    folder = tmp_path_factory.mktemp("two")
    with home_is(folder / "bentoml"):
        for version, threshold in (("v1", 127.5), ("v2", 120), ("v3", 50)):
            store.save(toy.bundle(folder / version, version=version, threshold=threshold))
        store.promote(store.resolve("toy@v1"), reason="first")
        # Two processes share two cores with whatever else runs: how long a model takes says nothing here.
        with running(folder / "bentoml", workers="2", trial_answers="10", trial_slowdown="1000") as service:
            until(lambda: figure(service, "trainserve_ready") == 2)
            yield service


class Figures:
    """What /metrics said at a time."""

    def __init__(self, service: Running) -> None:
        families = text_string_to_metric_families(ON_ITS_OWN.get(service.url + "/metrics").text)
        self._samples = [sample for family in families for sample in family.samples]

    def sum(self, name: str, /, **labels: str) -> float:
        """Of all samples of this name that have these labels."""
        return sum(one.value for one in self._samples if one.name == name and labels.items() <= one.labels.items())


def figure(service: Running, name: str, /, **labels: str) -> float:
    return Figures(service).sum(name, **labels)


def ask(service: Running) -> str:
    """Which model answers."""
    response = ON_ITS_OWN.post(service.url + "/predict", files={"image": GREY})
    assert response.status_code == 200, response.text
    return str(response.json()["model"])


def ask_often(service: Running, times: int) -> list[str]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: ask(service), range(times)))


class Asking:
    """Requests until the block ends; whichever is not answered fails the test."""

    def __init__(self, service: Running) -> None:
        self._service = service
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def _ask(self) -> list[str]:
        answers = []
        while not self._ended.is_set():
            answers.append(ask(self._service))
        return answers

    def __enter__(self) -> "Asking":
        self._asked = self._pool.submit(self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.models = self._asked.result()


def test_the_first_line_says_how_many(both):
    line = f"serving toy@v1 on {both.url} with 2 workers of "
    until(lambda: line in both.log.read_text())  # the worker that writes it may be ready last


def test_figures_are_those_of_both_workers(both):
    before = Figures(both)
    assert set(ask_often(both, 40)) == {"toy@v1"}
    for _ in range(5):
        assert ON_ITS_OWN.post(
            both.url + "/predict", content=b"x", headers={"Content-Type": "image/png"}
        ).is_client_error
        assert ON_ITS_OWN.post(both.url + "/predict?model=made-up").status_code == 404

    def grown(sampled: str, /, **labels: str) -> float:
        return figure(both, sampled, **labels) - before.sum(sampled, **labels)

    def requests(**labels: str) -> float:
        return grown("trainserve_requests_total", route="predict", **labels)

    until(lambda: requests() == 50)  # each is counted after its answer has gone out
    assert requests(name="toy", version="v1", outcome="answered", status="200") == 40
    assert requests(name="toy", version="v1", outcome="refused", status="400") == 5
    assert requests(name="", version="", outcome="refused", status="404") == 5
    assert grown("trainserve_refusals_total", reason="unreadable") == 5
    assert grown("trainserve_refusals_total", reason="not_found") == 5
    assert grown("trainserve_request_seconds_count", route="predict") == 50
    assert grown("trainserve_decode_seconds_count") == 40
    assert grown("trainserve_queue_seconds_count") == 40
    assert grown("trainserve_batch_pictures_sum") == 40
    assert grown("trainserve_batch_pictures_count") == grown("trainserve_inference_seconds_count") <= 40
    assert figure(both, "trainserve_swaps_total", name="toy") == 2
    assert figure(both, "trainserve_waiting_pictures") == 0


def test_figures_are_told_while_a_worker_makes_its_file(both):
    made = (
        Path(tempfile.gettempdir())
        / f"trainserve-metrics-{os.getuid()}-{both.process.pid}"
        / f"counter_{os.getpid()}.db"
    )
    made.touch()  # as prometheus_client does, before it writes the first figure
    assert figure(both, "trainserve_ready") == 2
    made.unlink()


def test_a_canary_answers_its_share_and_a_rollback_ends_it(both, capsys):
    withdrawn = figure(both, "trainserve_withdrawn_trials_total")
    with Asking(both) as asking:
        main(["models", "promote", "toy@v2", "--canary", "20%", "--because", "to see how it does"])
        assert "toy@v2 answers 20 % of the requests to toy, beside toy@v1" in capsys.readouterr().out
        until(lambda: figure(both, "trainserve_trials") == 2)
    assert set(asking.models) <= {"toy@v1", "toy@v2"}
    answers = ask_often(both, 200)
    assert 38 <= answers.count("toy@v2") <= 42, "every fifth of each worker's"
    assert answers.count("toy@v1") == 200 - answers.count("toy@v2")
    assert both.get("/model").json()["trial"]["model"] == "toy@v2"
    with Asking(both):
        main(["models", "rollback", "toy"])
        assert "the trial of toy@v2 is ended: toy@v1 answers all requests to toy" in capsys.readouterr().out
        until(lambda: figure(both, "trainserve_trials") == 0)
    assert set(ask_often(both, 40)) == {"toy@v1"}
    assert figure(both, "trainserve_trial_answers_total", version="v2", outcome="answered") >= 38
    assert figure(both, "trainserve_withdrawn_trials_total") == withdrawn, "it was ended by hand"


def test_one_that_disagrees_is_withdrawn_from_both_workers_and_no_request_fails(both):
    with Asking(both) as asking:
        main(["models", "promote", "toy@v3", "--canary", "20%", "--because", "to see how it does"])
        until(lambda: figure(both, "trainserve_trial_differed_pictures_total", version="v3") > 0)
        until(lambda: figure(both, "trainserve_trials") == 0)
    assert set(asking.models) == {"toy@v1", "toy@v3"}
    assert set(ask_often(both, 40)) == {"toy@v1"}
    assert figure(both, "trainserve_withdrawn_trials_total") >= 1
    # The worker that ended it reads the alias file again at its next look.
    until(lambda: all(both.get("/model").json()["ended"] for _ in range(8)))
    ended = both.get("/model").json()["ended"]
    assert ended["model"] == "toy@v3"
    assert "it disagreed about" in ended["reason"]
    held = store.aliases("toy")
    assert (str(held.champion), held.trial, held.history[-1].what) == ("toy@v1", None, "withdraw")
    assert "Traceback" not in both.log.read_text()


def test_a_shadow_answers_nobody(both):
    main(["models", "promote", "toy@v2", "--shadow", "100%"])
    until(lambda: figure(both, "trainserve_trials") == 2)
    before = figure(both, "trainserve_trial_compared_pictures_total", version="v2")
    assert set(ask_often(both, 40)) == {"toy@v1"}
    until(lambda: figure(both, "trainserve_trial_compared_pictures_total", version="v2") > before)
    main(["models", "rollback", "toy"])


def test_bentoml_serve_by_itself_starts_as_many_as_suit_the_machine(tmp_path, toy_bundle):
    home = tmp_path / "bentoml"
    with home_is(home):
        store.promote(store.save(toy_bundle), reason="")
    module = ("bentoml", "serve", "--quiet", "serving.service:Classifier", "--working-dir", str(ROOT), "--port", "PORT")
    with running(home, module=module, workers="") as service:
        until(lambda: figure(service, "trainserve_ready") == Settings().workers)
        assert ask(service) == "toy@v1"
