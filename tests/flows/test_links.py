"""Where the run's page leads to, and what `trainserve retrain` says when no run begins."""

from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flows import api, elsewhere, events, pages
from flows.cli.retraining import not_begun

REPORT = Path("/home/me/runs/1/report.html")


def test_links_lead_to_the_service_the_curves_and_the_run_of_the_other_model():
    page = pages.links_page(
        REPORT,
        model="lamps@1",
        service="http://127.0.0.1:3000",
        tensorboard="http://board:6006",
        champion=("lamps@0", "http://prefect/runs/flow-run/7"),
    )
    assert "`/home/me/runs/1/report.html`" in page
    assert "[TensorBoard](http://board:6006)" in page
    assert "(http://127.0.0.1:3000/ui)" in page
    assert "[lamps@0](http://prefect/runs/flow-run/7)" in page


def test_where_nothing_answers_the_command_is_given_that_starts_it():
    page = pages.links_page(REPORT, model="lamps@1", service=None, tensorboard=None, champion=(None, None))
    assert "`trainserve serve --model lamps`" in page
    assert "`tensorboard --logdir /home/me/runs/1/tensorboard`" in page
    assert "compared with" not in page


def test_a_service_that_does_not_answer_is_not_linked_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINSERVE_URL", "http://127.0.0.1:9")  # discard
    assert elsewhere.service() is None


def test_a_model_that_is_not_stored_any_more_has_no_run_to_lead_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    assert elsewhere.run_of("lamps@20260101-000000") is None
    assert elsewhere.run_of(None) is None


def test_a_server_whose_database_is_taken_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api, "PAUSE_S", (0.0, 0.01))
    answers = [503, 503, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert events.ask(f"http://127.0.0.1:{server.server_port}/api", "GET", "automations") == []
        server.shutdown()
    assert answers == []


def test_a_request_in_the_cool_down_says_which_run_stands_for_it():
    created = (datetime.now(UTC) - timedelta(minutes=4)).isoformat()
    said = not_begun([{"name": "lamps cnn", "created": created}], 1800)
    assert said.startswith("no further run: lamps cnn was asked for 4:00 ago, and in 30:00 one is begun at most")


def test_a_request_that_nothing_came_of_says_where_to_look():
    long_ago = (datetime.now(UTC) - timedelta(hours=4)).isoformat()
    assert "look under Automations" in not_begun([{"name": "old", "created": long_ago}], 1800)
    assert "look under Automations" in not_begun([], 1800)
