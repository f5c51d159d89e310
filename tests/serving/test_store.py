"""Bundles in the store, and the aliases beside it."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import bentoml
import pytest
import toy

from models.bundle.bundle import BundleError
from serving import challengers, store
from serving.refs import ModelRef, StoreError

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def two(home: Path, tmp_path: Path, toy_bundle: Path) -> tuple[ModelRef, ModelRef]:
    """toy@v1 and toy@v2, stored."""
    assert not home.exists()
    second = toy.bundle(tmp_path / "v2", version="v2", threshold=50)
    return store.save(toy_bundle), store.save(second)


def test_a_saved_bundle_is_stored_under_name_and_version(toy_bundle):
    ref = store.save(toy_bundle)
    assert str(ref) == "toy@v1"
    assert (store.path(ref) / "card.json").read_bytes() == (toy_bundle / "card.json").read_bytes()


@pytest.mark.usefixtures("two")
def test_bentoml_itself_finds_what_was_saved(home):
    from bentoml._internal.models import ModelStore

    model = bentoml.models.get("toy:v1", _model_store=ModelStore(home / "models"))
    assert model.info.labels["application"] == "trainserve"
    assert bentoml.models.get("toy:latest", _model_store=ModelStore(home / "models")).tag.version == "v2"


def test_saving_twice_changes_nothing(toy_bundle):
    ref = store.save(toy_bundle)
    before = sorted(path.stat().st_mtime_ns for path in store.path(ref).rglob("*"))
    assert store.save(toy_bundle) == ref
    assert sorted(path.stat().st_mtime_ns for path in store.path(ref).rglob("*")) == before


def test_another_bundle_under_a_taken_version_is_refused(tmp_path, toy_bundle):
    store.save(toy_bundle)
    with pytest.raises(StoreError, match="already stored with other contents"):
        store.save(toy.bundle(tmp_path / "other", version="v1", threshold=1))


def test_a_tampered_bundle_is_never_stored(tmp_path, toy_bundle):
    tampered = tmp_path / "tampered"
    shutil.copytree(toy_bundle, tampered)
    (tampered / "model.onnx").write_bytes(b"x" + (tampered / "model.onnx").read_bytes()[1:])
    with pytest.raises(BundleError):
        store.save(tampered)
    assert store.listing() == ()


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("toy", "../../etc"),
        ("..", "v1"),
        ("toy", "a/b"),
        ("toy", "Upper"),
        ("toy", ""),
        ("toy", "x" * 64),
        ("a b", "1"),
    ],
)
def test_a_name_or_version_that_is_a_path_or_no_word_is_refused(name, version):
    with pytest.raises(StoreError):
        store.path(ModelRef(name=name, version=version))
    with pytest.raises(StoreError):
        store.promote(ModelRef(name=name, version=version), reason="")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A"])
def test_aliases_of_a_name_that_is_a_path_are_refused(name):
    with pytest.raises(StoreError):
        store.aliases(name)
    with pytest.raises(StoreError):
        store.rollback(name, reason="")


def test_a_version_called_as_an_alias_is_refused(tmp_path):
    with pytest.raises(StoreError, match="name of an alias"):
        store.save(toy.bundle(tmp_path / "b", version="champion"))


@pytest.mark.usefixtures("two")
def test_nobody_is_champion_before_a_promotion():
    assert store.aliases("toy").champion is None
    assert store.latest_promoted() is None


def test_a_promotion_moves_the_champion_and_keeps_the_previous_one(two):
    first, second = two
    store.promote(first, reason="the first")
    challengers.challenge(second, reason="trained last night")
    held = store.promote(second, reason="better by 3 points")
    assert (held.champion, held.previous, held.challenger) == (second, first, None)
    assert [change.reason for change in held.history] == ["the first", "trained last night", "better by 3 points"]
    assert held.history[-1].replaced == "v1"


def test_promoting_the_champion_again_keeps_the_way_back(two):
    first, second = two
    store.promote(first, reason="")
    store.promote(second, reason="")
    assert store.promote(second, reason="again").previous == first


def test_a_rollback_brings_the_previous_champion_back_and_can_be_undone(two):
    first, second = two
    store.promote(first, reason="")
    store.promote(second, reason="")
    assert store.rollback("toy", reason="complaints") == first
    assert store.aliases("toy").previous == second
    assert store.rollback("toy", reason="it was not the model") == second


def test_a_rollback_with_nothing_to_go_back_to_is_refused(two):
    store.promote(two[0], reason="")
    with pytest.raises(StoreError, match="no previous champion"):
        store.rollback("toy", reason="")
    assert len(store.aliases("toy").history) == 1


@pytest.mark.usefixtures("two")
def test_a_version_that_is_not_stored_cannot_be_promoted():
    with pytest.raises(StoreError, match="not in the store"):
        store.promote(ModelRef(name="toy", version="v9"), reason="")


def test_the_listing_says_who_has_which_role(two):
    first, second = two
    store.promote(first, reason="")
    store.promote(second, reason="")
    assert [(str(line.ref), line.roles) for line in store.listing()] == [
        ("toy@v1", ("previous",)),
        ("toy@v2", ("champion",)),
    ]


def test_the_name_promoted_last_is_known_over_all_names(two, tmp_path):
    other = store.save(toy.bundle(tmp_path / "other", name="other", version="1"))
    store.promote(two[0], reason="")
    store.promote(other, reason="")
    assert store.latest_promoted() == "other"
    store.promote(two[1], reason="")
    assert store.latest_promoted() == "toy"


def test_a_model_is_named_by_version_or_alias(two):
    first, second = two
    store.promote(first, reason="")
    store.promote(second, reason="")
    assert store.resolve("toy") == store.resolve("toy@champion") == second
    assert store.resolve("toy@previous") == first
    assert store.resolve("toy@v1") == first
    with pytest.raises(StoreError, match="no challenger"):
        store.resolve("toy@challenger")
    with pytest.raises(StoreError, match="not in the store"):
        store.resolve("toy@v9")


def test_a_version_is_named_by_a_beginning_that_no_other_has(tmp_path):
    nights = ["20261121-0300-toy-2b424c", "20261121-0300-toy-77aa01", "20261122-0300-toy-0c55fe"]
    stored = [store.save(toy.bundle(tmp_path / night, version=night)) for night in nights]
    assert store.resolve("toy@20261122") == stored[2]
    assert store.resolve("toy@20261121-0300-toy-2b424c") == stored[0]
    with pytest.raises(StoreError, match=r"beginning of 2 versions, 20261121-0300-toy-2b424c, .*write more of it"):
        store.resolve("toy@20261121")
    with pytest.raises(StoreError, match="toy@202 is not in the store"):
        store.resolve("toy@202")
    store.promote(stored[0], reason="")
    store.promote(stored[2], reason="")
    assert store.rollback("toy", reason="", to="20261121-0300-toy-2b") == stored[0]


def test_an_exported_bundle_opens_and_nothing_is_overwritten(two, tmp_path):
    target = store.export(two[0], tmp_path / "out" / "bundle")
    assert store.save(target) == two[0]
    with pytest.raises(StoreError, match="already there"):
        store.export(two[0], target)


def test_a_stored_bundle_that_was_changed_is_found_out(two):
    store.verify(two[0])
    model = store.path(two[0]) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="changed after export"):
        store.verify(two[0])


def challenge_many(home: str, version: str, times: int) -> None:
    import os

    os.environ["BENTOML_HOME"] = home
    for i in range(times):
        challengers.challenge(ModelRef(name="toy", version=version), reason=f"{version} {i}")


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_two_writers_at_once_lose_nothing_and_readers_see_whole_files(home):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=challenge_many, args=(str(home), version, 25)) for version in ("v1", "v2")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        store.aliases("toy")  # raises on half a file
    for writer in writers:
        writer.join()
    reasons = [change.reason for change in store.aliases("toy").history]
    assert sorted(reasons) == sorted(f"{version} {i}" for version in ("v1", "v2") for i in range(25))


@pytest.mark.slow
def test_a_kill_while_saving_leaves_no_half_model(toy_bundle):
    code = (
        "import os, shutil, sys\n"
        "from pathlib import Path\n"
        "from serving import store\n"
        "shutil.copytree = lambda *a, **k: os._exit(9)\n"
        "store.save(Path(sys.argv[1]))\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(toy_bundle)], cwd=root, check=False)
    assert done.returncode == 9
    assert store.listing() == ()
    assert str(store.save(toy_bundle)) == "toy@v1"


def test_the_alias_file_is_readable_json_for_a_person(two, home):
    store.promote(two[0], reason="why not")
    content = json.loads((home / "trainserve" / "aliases" / "toy.json").read_text())
    assert content["champion"] == "v1"
    assert content["history"][0]["reason"] == "why not"


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b'{"format": 1, "champion": "\xff"}', b"\xff\xfe"])
def test_a_damaged_alias_file_is_a_sentence(two, home, content):
    store.promote(two[0], reason="")
    (home / "trainserve" / "aliases" / "toy.json").write_bytes(content)
    with pytest.raises(StoreError, match="is damaged; restore it"):
        store.aliases("toy")
