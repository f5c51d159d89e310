"""The whole chain against a real Prefect server: what it leaves in the server, the store and the run folder."""

import json
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from deployed import Server
from lamps import SMALL, TINY, Command, FinishedRun, environment, wait_for

from models.bundle.bundle import read_card
from models.cards import TITLES

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

FOREVER = ["--train.batch_size", "16", "--train.epochs", "5000", "--train.patience", "4999"]
WAYS = ("trained", "onnx", "http")
STAGES = {"prepare", "cross-validate", "train", "evaluate", "export", "release"}


def test_the_result_is_one_json_object_with_the_promised_fields(finished: FinishedRun):
    outcome = finished.outcome
    assert {"run_id", "run_folder", "bundle", "model", "metrics", "verdict", "seconds"} <= outcome.keys()
    assert {"validation", "test", "crossval"} <= outcome["metrics"].keys()
    assert {"promoted", "reason"} <= outcome["verdict"].keys()
    assert outcome["model"] == f"lamps@{outcome['run_id']}"
    assert outcome["seconds"].keys() >= STAGES


def test_the_run_folder_holds_the_promised_files(finished: FinishedRun):
    folder = Path(finished.outcome["run_folder"])
    written = (
        "experiment.json",
        "history.jsonl",
        "weights.safetensors",
        "run.json",
        "report.html",
        "data.html",
        "verdict.json",
    )
    for name in (*written, "labels.csv"):
        assert (folder / name).stat().st_size > 0
    assert any((folder / "tensorboard").iterdir())
    assert "epoch 2/2" in (folder / "run.log").read_text()
    assert json.loads((folder / "verdict.json").read_text()) == finished.outcome["verdict"]
    assert ("it went into service" in (folder / "report.html").read_text()) == finished.outcome["verdict"]["promoted"]


def test_the_flow_run_is_completed_with_a_task_for_each_stage(finished: FinishedRun):
    assert finished.flow_run["state_type"] == "COMPLETED"

    def tasks() -> dict[str, str]:
        """The server makes them from events, one by one."""
        return {task["name"]: task["state_type"] for task in finished.of_kind("task_runs")}

    wait_for(lambda: tasks() == dict.fromkeys(STAGES, "COMPLETED"), timeout_s=120)


def test_the_run_has_the_tag_by_which_it_is_found_and_its_tasks_have_none(finished: FinishedRun):
    """With tags, a task asks the server for their limits before it begins, and fails where that is away."""
    assert finished.flow_run["tags"] == ["trainserve"]
    assert [task["tags"] for task in finished.of_kind("task_runs")] == [[]] * len(STAGES)


def test_every_promised_artifact_is_there(finished: FinishedRun):
    found = {artifact["key"]: artifact for artifact in finished.of_kind("artifacts")}
    assert {
        "training-progress",
        "data",
        "metrics",
        "per-class",
        "confusion-matrix",
        "mistakes",
        "curves",
        "diagnosis",
        "cross-validation",
        "labels",
        "parity",
        "verdict",
        "report",
    } <= found.keys()
    assert [row["asked"] for row in json.loads(found["parity"]["data"])] == [TITLES[way] for way in WAYS]
    assert found["training-progress"]["data"] == 100
    assert "data:image/" in found["data"]["data"]
    assert "data:image/png" in found["curves"]["data"]
    assert found["verdict"]["description"] == finished.outcome["verdict"]["reason"]
    assert len(json.loads(found["per-class"]["data"])) == 2


def test_the_new_model_is_asked_every_way_and_rehearsed_before_it_is_judged(finished: FinishedRun):
    card = read_card(Path(finished.outcome["bundle"]))
    assert card.rehearsal is not None
    assert card.rehearsal.fault is None
    assert {way.name: way.n for way in card.parity.ways} == dict.fromkeys(WAYS, card.test.n)
    assert "over HTTP too" in finished.said
    assert TITLES["http"] in (Path(finished.outcome["run_folder"]) / "report.html").read_text()


def test_the_terminal_shows_stages_and_no_chatter(finished: FinishedRun):
    for stage in STAGES:
        assert f"✓ {stage}" in finished.said
    assert re.search(r"[\de] of \d+ labels looks? wrong", finished.said)
    for noise in ("Warning", "INFO", "Traceback", "prefect.flow_runs"):
        assert noise not in finished.said


def test_the_model_is_in_the_store_with_its_role(finished: FinishedRun):
    listed = json.loads(finished.command("models", "list", "--json").stdout)["models"]
    assert [one["model"] for one in listed] == [finished.outcome["model"]]
    assert listed[0]["roles"] == ["champion" if finished.outcome["verdict"]["promoted"] else "challenger"]
    shown = finished.command("models", "show", finished.outcome["model"]).stdout
    assert finished.outcome["run_id"] in shown
    assert finished.outcome["flow_run_url"] in shown
    assert finished.outcome["verdict"]["reason"] in shown


def test_the_verdict_outlives_the_run_in_the_store(finished: FinishedRun):
    known = json.loads(finished.command("models", "show", finished.outcome["model"], "--json").stdout)
    assert known["verdicts"][0]["verdict"] == json.loads(
        (Path(finished.outcome["run_folder"]) / "verdict.json").read_text()
    )
    history = json.loads(finished.command("models", "history", "lamps", "--json").stdout)["history"]
    if finished.outcome["verdict"]["promoted"]:
        assert (history[-1]["verdict"], history[-1]["because"]) == ("promoted", None)
    assert all("@" in change["by"] for change in history)


def test_the_bundle_answers_about_a_picture_without_a_service(finished: FinishedRun, pictures: Path):
    asked = finished.command("predict", pictures / "dark" / "000.png", "--bundle", finished.outcome["model"], "--json")
    answer = json.loads(asked.stdout)
    assert answer["model"] == finished.outcome["model"]
    assert {score["label"] for score in answer["scores"]} == {"bright", "dark"}


def test_the_same_again_is_the_same_model_and_is_not_promoted(finished: FinishedRun, pictures: Path):
    """A second release of equal weights must not count as an improvement."""
    finished.command("models", "promote", finished.outcome["model"], "--because", "a test")
    anew = ["--refresh", "train", "--crossval.folds", "2", "--json"]
    done = finished.command("run", "--dataset.source", pictures, *TINY, *anew)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["run_id"] != finished.outcome["run_id"]
    assert again["reused"] == {"cross-validate": finished.outcome["run_id"]}
    assert again["model"] == f"lamps@{again['run_id']}"
    first, second = (Path(o["run_folder"]) / "weights.safetensors" for o in (finished.outcome, again))
    assert first.read_bytes() == second.read_bytes()
    assert again["verdict"]["promoted"] is False
    assert again["verdict"]["relation"] == "same"
    assert again["verdict"]["champion"] == finished.outcome["model"]


def test_what_only_the_pictures_show_to_be_wrong_is_one_sentence_too(
    prefect_server: str, pictures: Path, tmp_path: Path
):
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=f"{prefect_server}/api"))
    done = command("run", "--dataset.source", pictures, "--train.epochs", "2", "--train.batch_size", "4096")
    assert done.returncode == 2, done.stderr
    assert "batch_size 4096 is larger than" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_run_that_diverges_has_failed_and_says_so_in_one_sentence(
    prefect_server: str, pictures: Path, tmp_path: Path
):
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=f"{prefect_server}/api"))
    network = ["--model.kind", "vit", "--model.patch", "4", "--model.dim", "16", "--model.depth", "1"]
    step = ["--optimizer.kind", "sgd", "--optimizer.lr", "1e12", "--train.clip_norm", "none", "--schedule.warmup", "0"]
    size = ["--model.heads", "1", "--dataset.size", "12", "--train.batch_size", "16", "--train.epochs", "20"]
    done = command("run", "--dataset.source", pictures, *network, *step, *size)
    assert done.returncode == 1, done.stderr
    assert "the loss was no longer finite" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_without_a_server_a_run_brings_its_own_and_leaves_none(pictures: Path, tmp_path: Path):
    command = Command(tmp_path, environment(tmp_path))
    done = command("run", "--dataset.source", pictures, *TINY, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["flow_run_url"] is None
    address = done.stderr.partition("Prefect at ")[2].split()[0]
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
    with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as database:  # what a later server shows
        runs = database.execute("SELECT state_type FROM flow_run").fetchall()
        tasks = database.execute("SELECT name, state_type FROM task_run").fetchall()
        (logs,) = database.execute("SELECT count(*) FROM log").fetchone()
        (events,) = database.execute("SELECT count(*) FROM events").fetchone()
        artifacts = {key for (key,) in database.execute("SELECT key FROM artifact")}
    assert runs == [("COMPLETED",)]
    assert sorted(tasks) == sorted((stage, "COMPLETED") for stage in STAGES - {"cross-validate"})
    assert {"data", "training-progress", "metrics", "report", "verdict"} <= artifacts
    assert logs > 0
    assert events > 0


def test_ctrl_c_says_how_to_go_on_and_the_server_knows(prefect_server: str, pictures: Path, tmp_path: Path):
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=f"{prefect_server}/api"))
    process = command.start("run", "--dataset.source", pictures, *SMALL, *FOREVER, "--name", "stopped")
    wait_for(lambda: any(tmp_path.glob("trainserve/runs/*/history.jsonl")) or process.poll() is not None, timeout_s=120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "the same command goes on" in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    (run,) = Server(f"{prefect_server}/api").post("flow_runs/filter", flow_runs={"name": {"any_": ["stopped"]}})
    assert run["state_type"] in ("CRASHED", "CANCELLED", "FAILED")
