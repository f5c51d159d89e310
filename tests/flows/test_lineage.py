"""From the `model` of an answer to all that it was made of: the code, the pictures, the run, the verdict."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from lamps import FinishedRun
from pydantic import JsonValue

from data.history import records
from data.prepare import prepare
from data.spec import DatasetSpec
from flows.cli.app import main
from flows.lineage import Code, code, since_champion
from models.bundle import manifest
from models.bundle.bundle import read_card
from models.bundle.page import card_page
from models.cards import Lineage, ModelCard
from models.verdict import Check, Verdict
from serving import store, verdicts
from serving.refs import ModelRef

GOLDEN = Path(__file__).parents[1] / "golden/bundle-v2"


def git(root: Path, *words: str) -> str:
    told = ["-c", "user.name=n", "-c", "user.email=n@example.com"]
    return subprocess.run(["git", *told, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Of a package called as ours, with everything committed."""
    root = tmp_path / "checkout"
    (root / "flows").mkdir(parents=True)
    (root / "flows/lineage.py").write_text("first\n")
    (root / "README.md").write_text("first\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_a_checkout_is_known_by_its_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of git's
    commit = subprocess.run(
        ["git", f"--git-dir={checkout}/.git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert code(checkout) == Code(commit=commit, dirty=False)


@pytest.mark.parametrize(
    ("file", "dirty"), [("flows/lineage.py", True), ("models/new.py", True), ("README.md", False), ("notes.txt", False)]
)
def test_it_is_dirty_where_what_decides_a_training_was_changed(checkout: Path, file: str, dirty: bool):
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text("second\n")
    assert code(checkout).dirty is dirty


def test_a_package_that_is_installed_inside_somebody_elses_checkout_has_no_commit(checkout: Path):
    (checkout / ".gitignore").write_text(".venv\n")
    installed = checkout / ".venv" / "lib"
    shutil.copytree(checkout / "flows", installed / "flows")
    assert code(installed) == Code(commit=None, dirty=None)


def test_without_a_checkout_or_without_git_nothing_is_known(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "plain").mkdir()
    assert code(tmp_path / "plain") == Code(commit=None, dirty=None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code(checkout) == Code(commit=None, dirty=None)


# The pictures, since those of the model in service


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return tmp_path / "home"


@pytest.fixture
def spec(pictures: Path, tmp_path: Path) -> DatasetSpec:
    return DatasetSpec(source=str(shutil.copytree(pictures, tmp_path / "lamps")))


def stored(version: str, tmp_path: Path, *, settings: dict[str, JsonValue] | None = None, **told: object) -> ModelRef:
    """lamps@version, of such a lineage."""
    bundle = Path(shutil.copytree(GOLDEN, tmp_path / "made" / version))
    card = ModelCard.model_validate_json((bundle / "card.json").read_bytes())
    given = Lineage.model_validate(card.lineage.model_dump() | {"run_id": f"run-{version}"} | told)
    changes = {"name": "lamps", "version": version, "lineage": given, "experiment": settings or card.experiment}
    card = card.model_copy(update=changes)
    (bundle / "card.json").write_text(card.model_dump_json())
    manifest.write(bundle)
    return store.save(bundle)


def changed(spec: DatasetSpec) -> None:
    root = Path(spec.source)
    (root / "dark/002.png").unlink()
    (root / "bright/000.png").rename(root / "dark/000 again.png")


def test_it_says_what_changed_since_the_pictures_of_the_champion(home: Path, spec: DatasetSpec, tmp_path: Path):
    first = prepare(spec, home).report.fingerprint
    assert since_champion("lamps", first, spec, home) is None  # nobody is in service yet
    store.promote(stored("v1", tmp_path, fingerprint=first), reason="test")
    assert since_champion("lamps", first, spec, home) == "lamps@v1: the same pictures"
    changed(spec)
    second = prepare(spec, home).report.fingerprint
    said = since_champion("lamps", second, spec, home)
    assert said is not None
    assert said.startswith("lamps@v1: 1 removed, 1 relabelled")
    other = {"dataset": {"val_fraction": "as another version had it"}}
    store.promote(stored("v2", tmp_path, fingerprint="f" * 64, settings=other), reason="test")
    assert since_champion("lamps", second, spec, home) is None
    store.rollback("lamps", reason="test")
    for file in records.folder(home).glob(f"{first}*"):
        file.unlink()
    assert since_champion("lamps", second, spec, home) is None


def refused(champion: ModelRef) -> Verdict:
    check = Check(name="loss", value=-0.04, limit=-0.02, ok=False, said="-1.0 points, at least -4.0")
    return Verdict(
        promoted=False,
        relation="unproven",
        reason=f"Kept {champion}: too few.",
        n=9,
        challenger_accuracy=0.9,
        champion=str(champion),
        checks=(check,),
    )


@pytest.mark.slow
def test_one_command_leads_from_an_answer_to_all_that_is_known(
    home: Path, spec: DatasetSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """No folder of a run is there any more, and the card of v2 is from before it said what changed."""
    first = prepare(spec, home).report.fingerprint
    champion = stored("v1", tmp_path, fingerprint=first)
    changed(spec)
    second = prepare(spec, home).report.fingerprint
    url = "http://127.0.0.1:4200/runs/flow-run/7"
    ref = stored("v2", tmp_path, fingerprint=second, commit="c0ffee", dirty=True, flow_run_url=url, reason="tulips")
    verdicts.keep(ref, refused(champion))
    main(["models", "show", str(ref)])
    lines = capsys.readouterr().out.splitlines()
    for line in (
        f"data         {second}",
        "run          run-v2, whose folder is not here, or gone",
        "asked for    tulips",
        "commit       c0ffee, with changes that were not committed",
        f"Prefect run  {url}",
        "             ✗ loss: -1.0 points, at least -4.0",
    ):
        assert line in lines
    (since,) = [line for line in lines if line.startswith("data since")]
    assert since.startswith("data since   lamps@v1: 1 removed, 1 relabelled")
    assert [line for line in lines if line.startswith(("settings     --", "test         ", "verdict      refused at "))]
    main(["models", "show", str(ref), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["data_since"].startswith("lamps@v1: 1 removed")
    assert (told["lineage"]["dirty"], told["lineage"]["commit"]) == (True, "c0ffee")


def test_what_is_gone_or_was_never_known_is_said_so(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    champion, ref = stored("v1", tmp_path), stored("v2", tmp_path, commit="c0ffee", fingerprint="f" * 64)
    verdicts.keep(ref, refused(champion))
    main(["models", "show", str(ref)])
    said = capsys.readouterr().out
    assert "data since   not known: which pictures model lamps@v2 saw" in said
    assert "commit       c0ffee; whether all was committed is unknown" in said
    (home / "runs" / "run-v1").mkdir(parents=True)
    main(["models", "show", str(champion)])
    said = capsys.readouterr().out
    assert "data since" not in said
    assert f"run          run-v1, in {home}/runs/run-v1" in said


def test_the_page_of_a_bundle_says_it_too(tmp_path: Path, home: Path):
    assert not home.exists()
    ref = stored("v1", tmp_path, commit="c0ffee", dirty=True, data_since="lamps@v0: 3 added; classes new: a|b")
    page = card_page(store.card(ref))
    assert "| commit | `c0ffee`, with changes that were not committed |" in page
    assert r"| data since | lamps@v0: 3 added; classes new: a\|b |" in page


@pytest.mark.flow
def test_a_run_keeps_the_commit_of_this_checkout(finished: FinishedRun):
    told = read_card(Path(finished.outcome["bundle"])).lineage
    assert told.commit == code().commit
    assert (told.dirty is None) == (told.commit is None)
    assert told.data_since is None  # it was the first of its name
