"""What is deployed, as values; and the parts of `trainserve deploy` that need no server."""

import ast
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml as pyyaml
from lamps import wait_for

from data.errors import InputError
from flows.deploy import yaml
from flows.deploy.definitions import (
    POOL,
    QUEUES,
    ROOT,
    Definition,
    anchored,
    definitions,
    job_variables,
    worker_name,
)
from flows.deploy.keep import FINISH, STOP, Ending, looking
from flows.events import RETRAIN
from models.config import Experiment

EVERY = definitions(Experiment(), cron="0 3 * * *", timezone="Europe/Berlin", when_busy="skip")
BY_NAME = {one.name: one for one in EVERY}


def test_prefect_yaml_is_what_the_definitions_make():
    assert yaml.FILE.read_text() == yaml.text(), "write it anew with `python -m flows.deploy.yaml`"


@pytest.mark.slow
def test_prefect_yaml_says_the_same_when_it_is_read():
    tree = pyyaml.safe_load(yaml.text())
    assert tree["pull"] == []
    for one, read in zip(definitions(Experiment()), tree["deployments"], strict=True):
        assert (read["name"], read["entrypoint"], read["tags"]) == (one.name, one.flow, list(one.tags))
        assert read["parameters"] == one.parameters
        assert read["work_pool"]["name"] == POOL
        assert read["work_pool"]["job_variables"]["command"].endswith("flows.deploy.engine")


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_every_definition_names_a_flow_that_is_there_and_a_queue_that_is_made(one: Definition):
    module, _, name = one.flow.rpartition(".")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert any("flow" in ast.unparse(decorator) for decorator in function.decorator_list)
    assert one.queue in QUEUES


def test_names_are_unique():
    assert len(BY_NAME) == len(EVERY)


def test_the_clock_is_off_unless_it_is_asked_for():
    assert BY_NAME["train"].cron == "0 3 * * *"
    assert BY_NAME["train"].timezone == "Europe/Berlin"
    assert {one.name for one in definitions(Experiment()) if one.cron} <= {"maintain"}


def test_waiting_or_skipping_is_a_tag_of_the_deployment_that_runs_by_the_clock():
    assert "when-busy:skip" in BY_NAME["train"].tags
    assert not any(tag.startswith("when-busy") for tag in BY_NAME["train-by-hand"].tags)
    assert all("trainserve" in one.tags for one in EVERY)


def test_a_request_to_train_again_starts_one_run_in_its_cool_down():
    (trigger,) = BY_NAME["train-by-hand"].triggers
    assert (trigger["expect"], trigger["posture"], trigger["threshold"]) == ([RETRAIN], "Reactive", 1)
    assert trigger["within"] == 1800


def test_a_folder_is_named_by_its_full_path_in_what_is_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "flowers" / "rose").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.model_validate({"dataset": {"source": "flowers/"}})
    assert anchored(experiment).dataset.source == str(tmp_path / "flowers")
    assert anchored(Experiment()) == Experiment()
    (tmp_path / "flowers/0.tar").touch()
    for text, found in (("shards:flowers", f"shards:{tmp_path}/flowers"), ("shards:s3://b/f", "shards:s3://b/f")):
        in_shards = Experiment.model_validate({"dataset": {"source": text}})
        assert anchored(in_shards).dataset.source == found
    (tmp_path / "roses.csv").write_text("path,label\n")
    several = Experiment.model_validate({"dataset": {"source": "digits", "more": ["flowers/", "roses.csv"]}})
    assert anchored(several).dataset.source == "digits"
    assert anchored(several).dataset.more == (str(tmp_path / "flowers"), str(tmp_path / "roses.csv"))


def test_runs_are_started_by_this_interpreter_in_the_checkout_and_in_the_home_of_the_deployment(tmp_path: Path):
    variables = job_variables(tmp_path)
    assert variables["working_dir"] == str(ROOT)
    assert str(variables["command"]).endswith(" -m flows.deploy.engine")
    assert variables["env"] == {"TRAINSERVE_HOME": str(tmp_path)}


def test_a_worker_has_the_same_name_after_every_start_and_another_one_in_another_home(tmp_path: Path):
    assert worker_name(tmp_path) == worker_name(tmp_path)
    assert worker_name(tmp_path) != worker_name(tmp_path / "other")
    assert "/" not in worker_name(tmp_path)


def test_ctrl_c_finishes_once_more_stops_and_sigterm_stops_at_once():
    twice, terminated = Ending(), Ending()
    with twice.heard():
        os.kill(os.getpid(), signal.SIGINT)
        assert (twice.level, twice.word) == (FINISH, "finish")
        os.kill(os.getpid(), signal.SIGINT)
        assert (twice.level, twice.word) == (STOP, "stop")
    with terminated.heard():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (terminated.level, terminated.word) == (STOP, "put off")


def test_the_end_of_a_session_is_one_request_however_many_signals_it_sends():
    ended = Ending()
    with ended.heard():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert (ended.level, ended.word) == (STOP, "put off")


class Full:
    """A file on a disk without space, or a terminal that has gone."""

    def write(self, _: str) -> None:
        raise OSError(28, "No space left on device")


def test_what_is_looked_after_goes_on_where_nothing_can_be_said(monkeypatch: pytest.MonkeyPatch):
    looked: list[int] = []

    def dead_runs() -> None:
        looked.append(len(looked))
        raise ConnectionError(f"no server, {len(looked)} times")

    monkeypatch.setattr(sys, "stderr", Full())
    with looking((dead_runs,), 0.01):
        wait_for(lambda: len(looked) >= 3, every_s=0.01)


def test_what_is_looked_after_goes_on_after_one_of_it_failed(capsys: pytest.CaptureFixture[str]):
    seen: list[str] = []

    def dead_runs() -> None:
        seen.append("failed")
        raise ConnectionError("no server")

    def missed_runs() -> None:
        seen.append("done")

    with looking((dead_runs, missed_runs), 0.01):
        wait_for(lambda: seen.count("done") >= 3, every_s=0.01)
    assert seen[:6] == ["failed", "done"] * 3
    assert capsys.readouterr().err == "dead runs did not get through: ConnectionError: no server\n"


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [("every night", "UTC"), ("0 3 * * *", "Middle/Earth"), ("0 25 * * *", "UTC"), ("0 3 31 2 *", "UTC"), ("", "UTC")],
)
@pytest.mark.slow  # Prefect's import
def test_a_schedule_that_is_none_is_refused_in_one_sentence(cron: str, timezone: str):
    from flows.deploy.register import schedules_of

    (train, *_) = definitions(Experiment(), cron=cron, timezone=timezone)
    with pytest.raises(InputError, match="write such as '0 3") as refused:
        schedules_of(train)
    assert f"{cron!r} in {timezone!r}" in str(refused.value)
    assert "\n" not in str(refused.value)
