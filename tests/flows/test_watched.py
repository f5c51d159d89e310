"""A flow that looks at its own run on the server: when it ends itself, and how."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest
from lamps import ROOT, environment, wait_for

from flows.api import FlowRun, State
from flows.watched import ending

RUN = UUID(int=7)


def a_run(state: str, *, run_count: int = 1) -> FlowRun:
    return FlowRun(
        id=RUN, name="night", run_count=run_count, state=State(type=state, name=state, timestamp=datetime.now(UTC))
    )


@pytest.mark.parametrize(
    ("mine", "run", "why"),
    [
        (1, a_run("RUNNING"), None),
        (1, a_run("CANCELLING"), "cancelled"),
        (1, a_run("CANCELLED"), "cancelled"),
        (1, a_run("CRASHED"), None),  # marked by mistake: it goes on
        (1, a_run("SCHEDULED"), None),
        (1, a_run("RUNNING", run_count=2), "taken over"),
        (2, a_run("RUNNING", run_count=2), None),
        (1, None, "deleted"),
    ],
)
def test_why_a_process_has_to_end(mine: int, run: FlowRun | None, why: str | None):
    assert ending(mine, run) == why


class Told:
    """A server that knows one run, whose state the test changes."""

    run: FlowRun | None = a_run("RUNNING")
    away = False
    looks = 0  # that were answered

    def looked_at(self) -> None:
        """Returns when the run has asked since, and has read the answer."""
        before = self.looks
        wait_for(lambda: self.looks >= before + 2, timeout_s=60, every_s=0.02)


@pytest.fixture
def told() -> Iterator[tuple[str, Told]]:
    now = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = 503 if now.away else 404 if now.run is None else 200
            body = b"{}" if now.run is None or now.away else now.run.model_dump_json().encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            now.looks += 1

        def do_POST(self) -> None:
            """set_state, which counts an attempt as Prefect does."""
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["state"]
            assert now.run is not None
            now.run = a_run(asked["type"], run_count=now.run.run_count + 1)
            body = b'{"status": "ACCEPT"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api", now
    server.shutdown()
    server.server_close()


WORKS = f"""
import time
from flows import stopping, watched
watched.GRACE_S = 0.3
def work(stop):
    print("begun", flush=True)
    while not stop(): time.sleep(0.01)
    print("saved", flush=True)
with stopping.terminable(), watched.watched("{RUN}", every_s=0.1):
    stopping.stoppable(work, on_stop=lambda: None)
"""


def works(url: str, now: Told, home: Path) -> "subprocess.Popen[str]":
    env = environment(home, PREFECT_API_URL=url)
    process = subprocess.Popen([sys.executable, "-c", WORKS], cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    now.looked_at()
    return process


@pytest.mark.slow
@pytest.mark.parametrize("run", [a_run("CANCELLING"), None], ids=["cancelled", "deleted"])
def test_a_run_that_is_no_longer_wanted_saves_and_ends(told: tuple[str, Told], tmp_path: Path, run: FlowRun | None):
    url, now = told
    process = works(url, now, tmp_path)
    now.run = run
    assert "saved" in process.communicate(timeout=60)[0]
    assert process.returncode != 0


@pytest.mark.slow
def test_a_run_that_another_process_goes_on_with_is_left_to_it(told: tuple[str, Told], tmp_path: Path):
    url, now = told
    process = works(url, now, tmp_path)
    now.run = a_run("RUNNING", run_count=2)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")  # 0: its worker is to report nothing


@pytest.mark.slow
def test_a_server_that_is_away_ends_nothing_and_a_signal_from_elsewhere_is_not_doubled(
    told: tuple[str, Told], tmp_path: Path
):
    url, now = told
    process = works(url, now, tmp_path)
    now.away = True
    now.looked_at()
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    now.away, now.run = False, a_run("CANCELLING")
    assert process.communicate(timeout=60)[0] == "saved\n"


@pytest.mark.slow
def test_a_run_that_was_marked_as_dead_and_lives_says_so_and_goes_on(told: tuple[str, Told], tmp_path: Path):
    url, now = told
    process = works(url, now, tmp_path)
    now.run = a_run("CRASHED")
    wait_for(lambda: now.run is not None and now.run.type == "RUNNING", timeout_s=60)
    now.looked_at()
    assert process.poll() is None  # its second attempt is this process, too
    now.run = a_run("RUNNING", run_count=3)
    assert process.communicate(timeout=60)[0] == ""  # and the third is not
