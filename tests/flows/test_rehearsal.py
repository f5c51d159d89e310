"""The service that a new model is tried with before anybody depends on it: what it must do, and that it is gone."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lamps import ROOT, wait_for

from data.errors import InputError
from flows import overload, rehearsal, service
from flows.export import opens
from flows.overload import FaultError
from flows.rehearsal import golden_difference, latency, rehearsed, stop
from flows.release import held_back, vouched_for
from flows.service import HOST, Running, free_port
from models.bundle import manifest, signature
from models.bundle.bundle import Bundle, BundleError
from models.cards import ModelCard, Rehearsal
from models.records import Verdict
from models.run import RunFolder
from serving import start, store

BUNDLE = ROOT / "tests" / "golden" / "bundle-v2"
FAULT = "took 7.1 s for one picture"


@pytest.fixture(scope="module")
def golden() -> Bundle:
    return Bundle.open(BUNDLE)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """In a folder beside which there is room."""
    return Bundle.open(Path(shutil.copytree(BUNDLE, tmp_path / "run" / "bundle")))


def is_free(port: int) -> bool:
    try:
        start.require_free(HOST, port)
    except InputError:
        return False
    return True


# With the real service


@pytest.mark.slow
def test_a_good_model_is_asked_timed_overloaded_and_stopped_whatever_the_user_has_set(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    """Keys, signers and proxies are for the service that people use; this one is reached by nobody else."""
    nowhere = str(bundle.folder / "nothing-there")
    for name, value in {"KEYS": nowhere, "SIGNERS": nowhere, "MODEL": "another", "HOME": nowhere}.items():
        monkeypatch.setenv(f"TRAINSERVE_{name}", value)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with rehearsed(bundle) as tried:
        port = tried._running.port
        answers = tried.ask(bundle.golden.files)
        found = tried.rehearse()
    assert answers is not None
    assert np.abs(answers - bundle.golden.probabilities).max() <= bundle.golden.tolerance
    assert found.fault is None
    assert found.golden_difference is not None
    assert found.golden_difference < 1e-5
    assert found.requests is not None
    assert found.requests >= rehearsal.FEWEST
    assert 0 < (found.p50_ms or 0) <= (found.p95_ms or 0)
    assert found.overload is not None
    assert set(found.overload) == {"200", "429"}
    assert is_free(port)
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_a_model_that_the_service_refuses_is_told_with_the_figure(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINSERVE_MAX_ANSWER_S", "0.0000001")
    with rehearsed(bundle) as tried:
        assert tried.ask(bundle.golden.files) is None
        found = tried.rehearse()
    assert found.fault is not None
    assert found.fault.startswith("refused the model: it takes 0.0 s for one picture, more than")
    assert found.p50_ms is None


@pytest.mark.slow
def test_a_service_that_answers_with_another_graph_than_the_one_to_be_tried_proves_nothing(bundle: Bundle):
    """This bundle has no int8 graph, so the service falls back."""
    with rehearsed(replace(bundle, variant="int8")) as tried:
        found = tried.rehearse()
    assert found.fault == "answers with its float graph, not with the int8 one that is to be tried"


@pytest.mark.slow
def test_a_run_that_is_interrupted_leaves_no_service(bundle: Bundle):
    def interrupted() -> None:
        with rehearsed(bundle) as tried:
            services.append(tried._running)
            raise KeyboardInterrupt

    services: list[Running] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (running,) = services
    assert is_free(running.port)
    assert running.process.poll() is not None
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


KILLED = """
import sys, time
from pathlib import Path
from flows.rehearsal import rehearsed
from models.bundle import manifest, signature
from models.bundle.bundle import Bundle, BundleError
with rehearsed(Bundle.open(Path(sys.argv[1]))) as tried:
    print(tried._running.port, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_service(bundle: Bundle):
    """Neither the supervisor nor its worker, which holds the port."""
    command = [sys.executable, "-c", KILLED, str(bundle.folder)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        port = int(run.stdout.readline())
        assert not is_free(port)
        run.kill()
    wait_for(lambda: is_free(port), timeout_s=60)


# What counts as a fault


def client(probabilities: np.ndarray, classes: tuple[str, ...]) -> Any:
    """It gives these answers, one after the other, whatever it is asked."""
    rows = iter(probabilities)

    def predict(_: bytes) -> SimpleNamespace:
        row = next(rows)
        return SimpleNamespace(
            scores=[SimpleNamespace(label=k, probability=p) for k, p in zip(classes, row, strict=True)]
        )

    return SimpleNamespace(predict=predict)


def test_the_service_answers_with_the_graph_that_is_to_be_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINSERVE_VARIANT", "float")
    given = service.environment(tmp_path, 20_000, "toy", "int8")
    assert given["TRAINSERVE_VARIANT"] == "int8"


def test_golden_samples_are_to_be_answered_within_the_bundles_tolerance(golden: Bundle):
    answers = golden.golden.probabilities
    assert golden_difference(golden, client(answers, golden.card.classes)) == 0
    wrong = answers.copy()
    wrong[3] = np.roll(wrong[3], 1)
    with pytest.raises(FaultError, match=r"golden/3-\w+\.png otherwise than .* is \S+ off, 1\.0e-04 are allowed"):
        golden_difference(golden, client(wrong, golden.card.classes))


def test_few_slow_requests_are_timed_and_many_fast_ones():
    class Slow:
        asked = 0

        def predict(self, _: bytes) -> None:
            self.asked += 1

    found = latency(Slow(), [b"a", b"b"])  # type: ignore[arg-type]
    assert found["requests"] == rehearsal.REQUESTS
    assert found["p50_ms"] <= found["p95_ms"]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([{}, {}, {"variant": "int8"}], None),
        ([{}, {"variant": "float"}], "answers with its float graph, not with the int8 one"),
        ([{}] * 1000, "was ready, and then did not say which model answers: OSError"),
    ],
)
def test_which_graph_answers_is_asked_again_where_nothing_came_back(
    told: list[dict[str, str]], sentence: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "log").write_text("OSError\n")
    answers = iter(told)
    monkeypatch.setattr(rehearsal, "_told", lambda _: next(answers))
    monkeypatch.setattr(rehearsal, "START_S", 0.3)
    process, ready = SimpleNamespace(poll=lambda: None), SimpleNamespace(ready=lambda: True)
    running = Running(process, 1, tmp_path / "log")  # type: ignore[arg-type]
    begun = time.monotonic()
    if sentence is None:
        assert rehearsal.until_ready(running, ready, begun, variant="int8") >= 0.1  # type: ignore[arg-type]
        return
    with pytest.raises(FaultError, match=sentence):
        rehearsal.until_ready(running, ready, begun, variant="int8")  # type: ignore[arg-type]


@contextmanager
def answering(status: Callable[[int], int]) -> Iterator[str]:
    """A server that answers its nth request with `status(n)`."""
    counted = iter(range(10**9))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status(next(counted)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128  # connections at a time

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (lambda n: 500 if n % 2 else 200, r"answered \d+ of \d+ requests beyond its limit badly \(500: \d+\)"),
        (lambda n: 503 if n == 7 else 429, r"answered 1 of \d+ requests beyond its limit badly \(503: 1\)"),
        (lambda _: 429, r"answered none of \d+ requests"),
    ],
)
def test_overloaded_it_may_answer_and_be_busy_and_nothing_else(
    status: Callable[[int], int], sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(overload, "FOR_S", 0.2)
    with answering(status) as url, pytest.raises(FaultError, match=sentence):
        overload.under(url, b"picture")


def test_a_service_that_ends_when_it_is_overloaded_has_failed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overload, "FOR_S", 0.1)
    with pytest.raises(FaultError, match=r"\(failed: \d+\)"):
        overload.under(f"http://127.0.0.1:{free_port()}", b"picture")


def process_that(does: str, log: Path) -> Running:
    code = f"import signal, sys, time\n{does}\nprint('up', flush=True)\ntime.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    log.write_text("the first\nOSError: /home/somebody/file is lost\n")
    return Running(process, free_port(), log)


ENDS = "signal.signal(signal.SIGTERM, lambda *_: sys.exit({}))"


@pytest.mark.parametrize(
    ("does", "sentence"),
    [
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "had not ended .* s after SIGTERM"),
        (ENDS.format(3), r"ended with status 3 after SIGTERM: OSError: \.\.\. is lost"),
    ],
)
def test_it_is_to_end_when_it_is_told_to(does: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rehearsal, "STOP_S", 0.5)
    monkeypatch.setattr(service, "STOP_S", 0.1)
    running = process_that(does, tmp_path / "log")
    try:
        with pytest.raises(FaultError, match=sentence):
            stop(running)
    finally:
        service._end(running.process)
    assert running.process.poll() is not None


def test_it_is_to_leave_no_worker_behind(tmp_path: Path):
    running = process_that(ENDS.format(0), tmp_path / "log")
    with socket.socket() as left:
        left.bind((HOST, running.port))
        left.listen()
        with pytest.raises(FaultError, match=f"left a process that holds port {running.port}"):
            stop(running)


# What the verdict makes of it


def card(golden: Bundle, found: Rehearsal | None) -> ModelCard:
    return golden.card.model_copy(update={"rehearsal": found})


def verdict(*, promoted: bool, champion: str | None) -> Verdict:
    relation = "better" if promoted else "worse"
    return Verdict(
        promoted=promoted, relation=relation, reason="It is.", n=9, challenger_accuracy=0.9, champion=champion
    )


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (verdict(promoted=True, champion="digits@a"), "Kept digits@a: the service on {} took 7.1 s for one picture."),
        (verdict(promoted=True, champion=None), "Not promoted: the service on {} took 7.1 s for one picture."),
        (
            verdict(promoted=False, champion="digits@a"),
            "It is; besides, the service on {} took 7.1 s for one picture.",
        ),
    ],
)
def test_a_model_that_failed_its_rehearsal_is_not_promoted_and_the_reason_says_why(
    golden: Bundle, before: Verdict, reason: str
):
    after = held_back(before, card(golden, Rehearsal(fault=FAULT)))
    assert not after.promoted
    assert after.reason == reason.format(f"digits@{golden.card.version}")
    assert [(check.name, check.ok) for check in after.checks] == [("service", False)]


def test_one_that_was_not_rehearsed_is_judged_by_its_answers(golden: Bundle):
    before = verdict(promoted=True, champion=None)
    assert held_back(before, card(golden, None)) == before


def test_one_that_passed_is_judged_by_its_answers_and_the_verdict_says_that_it_passed(golden: Bundle):
    before = verdict(promoted=True, champion=None)
    after = held_back(before, card(golden, Rehearsal(fault=None)))
    assert (after.promoted, after.reason) == (True, before.reason)
    assert [(check.name, check.ok) for check in after.checks] == [("service", True)]


@pytest.mark.parametrize("signed", [False, True])
def test_what_the_services_here_are_told_to_refuse_is_not_promoted(
    golden: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool
):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "store"))
    bundle = shutil.copytree(golden.folder, tmp_path / "bundle")
    ref = store.save(bundle)
    before = verdict(promoted=True, champion="digits@a")
    assert vouched_for(before, ref) == before  # nobody minds who signed
    (tmp_path / "signers").write_text(signature.new_key(tmp_path / "key", "nightly") + "\n")
    monkeypatch.setenv("TRAINSERVE_SIGNERS", str(tmp_path / "signers"))
    if signed:
        signature.sign(bundle / manifest.NAME, tmp_path / "key")
        assert store.save(bundle) == ref  # it is in the store already, and is signed there too
    after = vouched_for(before, ref)
    assert after.promoted == signed
    assert [(check.name, check.ok) for check in after.checks] == [("signature", signed)]
    if not signed:
        assert "it is not signed by anybody whom this service trusts" in after.reason
        assert f"`trainserve models promote {ref}`" in after.reason


def test_a_bundle_that_failed_its_rehearsal_is_not_taken_over_but_made_and_tried_again(bundle: Bundle):
    run = RunFolder(bundle.folder.parent)
    opens(run)
    failed = card(bundle, Rehearsal(fault=FAULT))
    (bundle.folder / "card.json").write_text(failed.model_dump_json())
    manifest.write(bundle.folder)
    with pytest.raises(BundleError, match=f"the service on it {FAULT}"):
        opens(run)
