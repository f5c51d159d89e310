"""The worker's side of being told to leave, without a server."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from flows.api import FlowRun

pytestmark = pytest.mark.slow  # Prefect's import


@pytest.fixture
def worker() -> Any:
    from flows.deploy.worker import Worker

    return Worker("box-1")


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "300"]) as sleeping:
        yield sleeping
        sleeping.kill()


def test_a_run_whose_process_starts_while_the_others_are_stopped_is_stopped_too(
    worker: Any, process: "subprocess.Popen[bytes]"
):
    worker.told("put off")
    worker.begun(uuid4(), process.pid)
    assert process.wait(60) == -signal.SIGTERM


def test_a_run_is_left_alone_while_no_further_one_is_to_begin(worker: Any, process: "subprocess.Popen[bytes]"):
    worker.told("finish")
    worker.begun(uuid4(), process.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)


def test_a_run_that_was_seen_just_before_is_left_to_the_next_worker(worker: Any, capsys: pytest.CaptureFixture[str]):
    run = FlowRun(id=uuid4(), name="night")
    worker.told("finish")
    asyncio.run(worker._submit_run(run))  # it would ask the server for its deployment
    assert capsys.readouterr().err == ""
