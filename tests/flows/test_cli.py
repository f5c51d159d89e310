"""The command line as a person meets it: what it prints, where, and its exit status."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from deployed import processes_in
from lamps import ROOT, Command, draw, environment
from PIL import Image
from rich.console import Console

from data.errors import InputError
from flows.cli.app import main
from flows.cli.listing import show_settings
from flows.settings.fields import settings
from models.config import CrossvalConfig, Experiment, TrainConfig

Making = Callable[[Path], Path]


def one_sentence(text: str) -> str:
    """Without the lines of progress: the last line is the refusal, and nothing of it is a trace."""
    assert "Traceback" not in text
    last = text.strip().splitlines()[-1]
    assert last.startswith("trainserve: ")
    return last


@pytest.mark.slow
def test_help_comes_within_a_second_and_imports_nothing_heavy():
    code = (
        "import sys, time; began = time.perf_counter()\n"
        "from flows.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'bentoml', 'sklearn', 'numpy', 'onnxruntime'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time())"
    )
    command = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    heavy, seconds = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 1.0  # of this process's own work: the machine may be busy with other things


def test_help_of_run_names_every_setting(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")
    main(["run", "--help"])
    shown = capsys.readouterr().out
    for setting in settings():
        assert f"--{setting.path}" in shown
    assert "--config" in shown
    assert "--json" in shown
    assert "at least 4, at most 1024" in " ".join(shown.split())  # however it is wrapped


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_help_of_run_breaks_no_word(columns: int):
    out = io.StringIO()
    show_settings(Console(file=out, width=columns))
    words = set(out.getvalue().split())
    for setting in settings():
        wanted = {f"--{setting.path}", *setting.type.split(), *setting.description.split()}
        assert wanted <= words, setting.path
    assert max(map(len, out.getvalue().splitlines())) <= columns


@pytest.mark.parametrize("command", ["run", "data", "serve", "predict", "models", "deploy", "retrain", "doctor"])
def test_every_public_command_is_in_the_help(command: str, capsys: pytest.CaptureFixture[str]):
    main(["--help"])
    assert f" {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "part"),
    [
        (["rnu"], 'Unknown command "rnu"'),
        (["run", "--train.epoch", "3"], "did you mean --train.epochs"),
        (["run", "--dataset.source", "no-such-set"], "'no-such-set' is no folder"),
        (["run", "--dataset.source", "no/such/folder"], "no file or folder 'no/such/folder'"),
        (["run", "-c", "no.yaml"], "no.yaml is not there"),
        (["data", "inspect", "no-such-set"], "'no-such-set' is no folder"),
        (["predict"], "no picture was named"),
        (["predict", "no.jpg"], "no picture 'no.jpg'"),
        (["models", "show", "nobody"], "model 'nobody' has no champion"),
        (["models", "rollback", "nobody"], "no previous champion to go back to; models in service: none"),
        (["models", "rollback"], "NAME is missing; write trainserve models rollback NAME; `trainserve models list`"),
        (["models", "verify", "there/is/none"], "there is no bundle 'there/is/none'"),
        (["data", "inspect"], "SOURCE is missing; write trainserve data inspect SOURCE"),
        (["data", "shards", "digits"], "--to requires an argument"),
        (["data", "shards", "no-such-set", "--to", "there"], "'no-such-set' is no folder"),
        (["serve", "--port"], "--port requires an argument"),
        (["models", "promote", "nobody@1"], "nobody@1 is not in the store"),
        (["models", "promote", "../x@1"], "cannot be stored"),
        (["serve", "--port", "70000"], "70000"),
        (["deploy"], "prefect server start"),
        (["retrain", "--reason", "x"], "prefect server start"),
        (["retrain"], "--reason"),
        (["run", "--train.devices", "1024"], "train.devices 1024 asks for more than the"),
        (["run", "--resume", "latest"], "no unfinished run is in"),
        (["run", "--resume", "nonsense", "--train.epochs", "3"], "there is no run 'nonsense'"),
        (["run", "--refresh", "training"], "--refresh"),
        (["run", "--resume", "latest", "--refresh", "train"], "leave out one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_status_2(
    tokens: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    for name in ("TRAINSERVE_HOME", "BENTOML_HOME", "PREFECT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(tokens)
    assert left.value.code == 2
    monkeypatch.setenv("PREFECT_API_URL", "")  # which a server of its own had changed
    said = capsys.readouterr()
    assert part in one_sentence(said.err)
    assert said.out == ""
    with pytest.raises(SystemExit) as left:
        main([*tokens, "--json"])
    said = capsys.readouterr()
    assert left.value.code == 2
    assert f"trainserve: {json.loads(said.out)['error']}" == one_sentence(said.err)


def empty(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


def one_class(folder: Path) -> Path:
    draw(folder / "one")
    for file in (folder / "one" / "dark").iterdir():
        file.unlink()
    (folder / "one" / "dark").rmdir()
    return folder / "one"


def two_of_a_class(folder: Path) -> Path:
    draw(folder / "few")
    for file in sorted((folder / "few" / "dark").iterdir())[2:]:
        file.unlink()
    return folder / "few"


def text_as_pictures(folder: Path) -> Path:
    draw(folder / "text")
    for index in range(20):
        (folder / "text" / "dark" / f"x{index}.jpg").write_text(f"not a picture {index}")
    return folder / "text"


def escaping_archive(folder: Path) -> Path:
    draw(folder / "escape")
    with tarfile.open(folder / "escape.tar.gz", "w:gz") as archive:
        archive.add(folder / "escape" / "dark" / "000.png", "../../owned.png")
    return folder / "escape.tar.gz"


def truncated_archive(folder: Path) -> Path:
    draw(folder / "whole")
    with tarfile.open(folder / "cut.tar.gz", "w:gz") as archive:
        archive.add(folder / "whole", "whole")
    data = (folder / "cut.tar.gz").read_bytes()
    (folder / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    return folder / "cut.tar.gz"


@pytest.mark.parametrize(
    "making", [empty, one_class, two_of_a_class, text_as_pictures, escaping_archive, truncated_archive]
)
def test_pictures_that_cannot_be_used_are_refused_by_inspect(
    making: Making, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    source = making(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["data", "inspect", str(source)])
    assert left.value.code == 2
    said = capsys.readouterr()
    refusal = one_sentence(said.err).removeprefix("trainserve: ")
    assert (said.out + said.err).count(refusal) == 1
    assert not (tmp_path / "home" / "runs").exists()
    with pytest.raises(SystemExit):
        main(["data", "inspect", str(source), "--json"])
    assert json.loads(capsys.readouterr().out)["error"] == refusal


def test_inspect_tells_the_state_of_good_pictures(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    main(["data", "inspect", str(pictures), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["num_examples"] == 60
    assert [c["label"] for c in report["classes"]] == ["bright", "dark"]
    main(["data", "inspect", str(pictures)])
    assert "60 pictures, 2 classes" in capsys.readouterr().out


def test_shards_are_a_source_like_the_folder_they_were_written_of(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    main(["data", "shards", str(pictures), "--to", str(tmp_path / "shards"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["shards"], told["to"]) == (60, 1, str(tmp_path / "shards"))
    main(["data", "inspect", str(tmp_path / "shards"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["num_examples"], report["fingerprint"]) == (60, told["fingerprint"])


def test_pictures_that_a_person_dropped_do_not_come_back_with_shards(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    dropped = hashlib.sha256(min(path for path in pictures.rglob("*") if path.is_file()).read_bytes()).hexdigest()
    decided = tmp_path / f"home/datasets/quarantine/{pictures.name}.csv"
    decided.parent.mkdir(parents=True)
    decided.write_text(f"sha256,decision\n{dropped},drop\n")
    main(["data", "shards", str(pictures), "--to", str(tmp_path / "shards")])
    assert f"59 pictures of 2 classes in 1 shard in {tmp_path}/shards, without 1 picture that" in (
        capsys.readouterr().out
    )
    assert dropped not in (tmp_path / "shards/000000.tar.index").read_text()


@pytest.mark.slow
def test_run_refuses_an_empty_folder_before_anything_heavy_and_leaves_no_server(tmp_path: Path):
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "torch.py").write_text("raise RuntimeError('imported')")
    path = os.pathsep.join([str(tmp_path / "heavy"), str(ROOT)])
    command = Command(tmp_path, environment(tmp_path, PYTHONPATH=path))
    done = command("run", "--dataset.source", empty(tmp_path), "--json")
    assert done.returncode == 2, done.stderr
    assert "holds no files" in one_sentence(done.stderr)
    assert "holds no files" in json.loads(done.stdout)["error"]
    assert not processes_in(tmp_path)
    assert not list((tmp_path / "trainserve").glob("runs/*"))


@pytest.mark.slow
def test_run_refuses_a_device_that_is_not_there_before_anything_is_started_or_written(tmp_path: Path):
    none_here = Command(tmp_path, environment(tmp_path, CUDA_VISIBLE_DEVICES=""))
    done = none_here("run", "--dataset.source", draw(tmp_path / "lamps"), "--train.devices", "cuda", "--json")
    assert done.returncode == 2
    assert "train.devices cuda is not to be had here; use one of auto, " in one_sentence(done.stderr)
    assert "train.devices cuda" in json.loads(done.stdout)["error"]
    assert not (tmp_path / "trainserve").exists()


@pytest.mark.slow
def test_the_flow_itself_refuses_a_device_that_is_not_there_before_the_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from flows.pipeline import chain

    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match="asks for more than the"):
        chain(Experiment(train=TrainConfig(devices=1024)), None)
    assert not (tmp_path / "home").exists()


def test_the_flow_itself_refuses_an_engine_that_is_not_there_before_the_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from flows.engines import RunnerConfig
    from flows.pipeline import chain

    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    gone = RunnerConfig(kind="dask", address="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="nothing answers at"):
        chain(Experiment(crossval=CrossvalConfig(folds=2)), None, runner=gone)
    assert not (tmp_path / "home").exists()


def test_the_flow_itself_refuses_a_signing_key_that_is_not_there_before_the_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from flows.pipeline import chain

    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRAINSERVE_SIGNING_KEY", str(tmp_path / "nowhere.key"))
    with pytest.raises(InputError, match=r"the signing key .*nowhere.key cannot be read"):
        chain(Experiment(), None)
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_run_says_that_the_chosen_prefect_server_is_not_there(tmp_path: Path):
    gone = Command(tmp_path, environment(tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api"))
    done = gone("run")
    assert done.returncode == 2
    assert "the Prefect server at http://127.0.0.1:9/api does not answer" in one_sentence(done.stderr)
    assert not list((tmp_path / "trainserve").glob("runs/*"))


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINSERVE_HOME", str(tmp_path / "file" / "home"))
        with pytest.raises(SystemExit) as left:
            main(["data", "inspect", "digits"])
    assert left.value.code == 2
    assert "set it to a folder you own" in one_sentence(capsys.readouterr().err)


def test_asking_nobody_names_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(tmp_path / "a.png"), "--url", "http://127.0.0.1:9"])
    assert left.value.code == 2
    assert "trainserve serve" in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("host", "asked"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost")]
)
def test_whoever_names_no_address_asks_the_service_that_would_be_started_here(
    host: str, asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setenv("TRAINSERVE_HOST", host)
    monkeypatch.setenv("TRAINSERVE_PORT", "9")
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path / "a.png")])
    assert f"no service answers at http://{asked}:9 " in one_sentence(capsys.readouterr().err)


def test_what_nobody_foresaw_is_one_sentence_with_the_log_and_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A folder where the roles of a model should be: not the user's input, and not foreseen by `models list`."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    card = tmp_path / "models" / "lamps" / "1" / "bundle" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text("{}")
    (tmp_path / "trainserve" / "aliases" / "lamps.json").mkdir(parents=True)
    with pytest.raises(SystemExit) as left:
        main(["models", "list"])
    said = capsys.readouterr().err
    assert left.value.code == 1
    assert "failed: IsADirectoryError" in one_sentence(said)
    assert "Traceback" in Path(said.strip().rpartition("the log is ")[2]).read_text()
