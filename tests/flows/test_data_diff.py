"""`trainserve data diff`: what it understands, what it says, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from lamps import FinishedRun

from data.gate import quarantine
from data.history import records
from data.prepare import prepare
from data.spec import DatasetSpec
from flows.cli.app import main
from models.claims import release
from models.config import Experiment
from models.run import new_run

GOLDEN = Path(__file__).parents[1] / "golden/bundle-v1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def lamps(pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "lamps"))


@pytest.fixture
def run(home: Path, lamps: Path) -> str:
    """A run on the pictures as they were, which have changed since: its id."""
    spec = DatasetSpec(source=str(lamps))
    folder = new_run(home, Experiment(dataset=spec), prepare(spec, home).report.fingerprint)
    release(folder.path)
    (lamps / "bright/000.png").rename(lamps / "dark/000 again.png")
    (lamps / "bright/001.png").rename(lamps / "bright/other.png")
    (lamps / "dark/002.png").unlink()
    shutil.copyfile(lamps / "dark/003.png", lamps / "dark/copy.png")
    return folder.run_id


def stored(tmp_path: Path, fingerprint: str, source: Path) -> str:
    """A model that saw these pictures."""
    bundle = tmp_path / "bentoml/models/lamps/v1/bundle"
    shutil.copytree(GOLDEN, bundle)
    card = json.loads((bundle / "card.json").read_text())
    card["lineage"]["fingerprint"] = fingerprint
    card["experiment"] = {"dataset": {"source": str(source), "unknown to this version": 1}}
    (bundle / "card.json").write_text(json.dumps(card))
    return "lamps@v1"


def asked(capsys: pytest.CaptureFixture[str], *tokens: str) -> dict[str, object]:
    main(["data", "diff", *tokens, "--json"])
    return dict(json.loads(capsys.readouterr().out))


CHANGED = {"added": 1, "removed": 1, "relabelled": 1, "moved": 0, "renamed": 1}


def test_it_says_what_became_of_the_pictures_of_a_run(run: str, capsys: pytest.CaptureFixture[str]):
    main(["data", "diff", run, "lamps/"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{run}: 60 pictures, 2 classes, fingerprint ")
    assert said[2:] == [
        "+ 1 dark",
        "    dark/copy.png",
        "- 1 dark",
        "    dark/002.png",
        "~ 1 bright -> dark",
        "    bright/000.png -> dark/000 again.png",
        "= 1 bright, renamed",
        "    bright/001.png -> bright/other.png",
        "1 added, 1 removed, 1 relabelled, 1 renamed; 57 unchanged",
    ]


@pytest.mark.slow
def test_a_run_a_model_and_a_fingerprint_mean_the_same_pictures(
    run: str, home: Path, lamps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (record,) = records.folder(home).glob("*.csv.gz")
    fingerprint = records.fingerprint_of(record)
    for text in (run, stored(tmp_path, fingerprint, lamps), fingerprint[:8], fingerprint):
        found = asked(capsys, text, str(lamps))
        assert found["counts"] == CHANGED
        assert found["a"] == text
    assert asked(capsys, run, fingerprint[:10])["counts"] == dict.fromkeys(CHANGED, 0)


def test_a_source_is_read_with_the_settings_that_a_run_would_have(
    lamps: Path, home: Path, capsys: pytest.CaptureFixture[str]
):
    spec = DatasetSpec(source=str(lamps), name="night", rename=("bright=day",))
    dataset = prepare(spec, home)
    quarantine.file_of(home, "night").parent.mkdir(parents=True)
    quarantine.file_of(home, "night").write_text(f"sha256,decision\n{dataset.images.snapshot.digests[0]},label=day\n")
    settings = ("--dataset.name=night", "--dataset.rename=bright=day")
    found = asked(capsys, dataset.report.fingerprint, "lamps", *settings)
    assert found["counts"] == dict.fromkeys(CHANGED, 0) | {"relabelled": 1}
    with pytest.raises(SystemExit):
        main(["data", "diff", "lamps", "lamps", "--dataset.nmae", "night"])
    assert "--dataset.nmae is not a known setting; did you mean --dataset.name" in capsys.readouterr().err


def test_json_says_each_group_and_both_sides(run: str, capsys: pytest.CaptureFixture[str]):
    found = asked(capsys, "lamps", run)  # the other way round
    (group,) = found["relabelled"]  # type: ignore[misc, var-annotated]
    assert (group["label"], group["before"], group["after"], group["count"]) == ("bright", "dark", "bright", 1)
    assert group["examples"] == [
        {
            "before": {"file": "dark/000 again.png", "label": "dark", "part": None},
            "after": {"file": "bright/000.png", "label": "bright", "part": group["examples"][0]["after"]["part"]},
        }
    ]
    assert group["examples"][0]["after"]["part"] in ("train", "val", "test")
    assert found["unchanged"] == 57


def test_pictures_moved_between_the_folders_of_parts_are_told(tmp_path: Path, home: Path, pictures: Path, capsys):  # noqa: ARG001
    for part in ("train", "val", "test"):
        shutil.copytree(pictures, tmp_path / "parts" / part)
        for file in (tmp_path / "parts" / part).rglob("*.png"):
            file.write_bytes(file.read_bytes() + part.encode())
    shutil.copytree(tmp_path / "parts", tmp_path / "moved")
    (tmp_path / "moved/train/dark/007.png").rename(tmp_path / "moved/test/dark/from train.png")
    main(["data", "diff", "parts", "moved"])
    assert "> 1 dark: train -> test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nowhere", "'nowhere' is no folder, no archive and no known data set"),
        ("nowhere", "nor is it a run, NAME@VERSION of a model, or 8 or more digits of a fingerprint"),
        ("0123456789ab", "no record in "),
        ("no/such/folder", "there is no file or folder 'no/such/folder'"),
        ("roses@v7", "roses@v7 is not in the store"),
        ("empty", "'empty' holds no picture in a class folder"),
        ("", "'' names no pictures"),
        ("https://user:geheim@example.org/a.zip", "password"),
    ],
)
def test_what_is_neither_is_refused_in_a_sentence(
    text: str, sentence: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "empty").mkdir()
    for tokens in ((run, text), (text, run)):
        with pytest.raises(SystemExit) as left:
            main(["data", "diff", *tokens])
        assert left.value.code == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "geheim" not in said
        assert sentence in said.splitlines()[-1]


def test_a_run_whose_record_is_gone_is_told(run: str, home: Path, capsys: pytest.CaptureFixture[str]):
    for file in records.folder(home).glob("*.gz"):
        file.unlink()
    with pytest.raises(SystemExit):
        main(["data", "diff", run, "lamps"])
    assert f"which pictures run {run} saw (fingerprint " in capsys.readouterr().err


def test_help_says_that_differences_are_no_failure(capsys: pytest.CaptureFixture[str]):
    main(["data", "diff", "--help"])
    assert "Exit status 0 whether or not there are differences" in " ".join(capsys.readouterr().out.split())


@pytest.mark.flow
def test_the_pictures_of_a_real_run_and_of_its_model_are_known(finished: FinishedRun, pictures: Path):
    for name in (finished.outcome["run_id"], finished.outcome["model"]):
        done = finished.command("data", "diff", name, pictures, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["counts"] == dict.fromkeys(CHANGED, 0)
        assert found["unchanged"] == 60
