"""The rules of following an alias, one look at a time."""

import gc
import re
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import toy
from conftest import until

from models.bundle import signature
from serving import served, store
from serving.live import Live
from serving.refs import ModelRef
from serving.settings import Settings


@pytest.fixture
def refs(home: Path, tmp_path: Path) -> list[ModelRef]:
    """toy@v0 .. toy@v2, stored."""
    assert not home.exists()
    versions = [toy.bundle(tmp_path / f"v{i}", version=f"v{i}", threshold=50 + 50 * i) for i in range(3)]
    return [store.save(folder) for folder in versions]


def damage(ref: ModelRef) -> None:
    model = store.path(ref) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")


def test_nothing_is_served_before_a_promotion(home):
    live = Live(Settings())
    live.look()
    assert live.current is None
    assert not home.exists()


def test_without_a_name_the_model_promoted_last_is_followed_and_kept(refs, tmp_path):
    other = store.save(toy.bundle(tmp_path / "other", name="other", version="1"))
    store.promote(other, reason="")
    store.promote(refs[0], reason="")
    live = Live(Settings())
    live.look()
    assert live.current.name == "toy@v0"
    store.promote(other, reason="")
    live.look()
    assert live.current.name == "toy@v0"


def test_with_a_name_that_model_is_followed(refs, tmp_path):
    store.promote(store.save(toy.bundle(tmp_path / "other", name="other", version="1")), reason="")
    store.promote(refs[0], reason="")
    live = Live(Settings(), "other")
    live.look()
    assert live.current.name == "other@1"


def test_a_damaged_champion_at_the_start_gives_way_to_the_previous_one(refs):
    store.promote(refs[0], reason="")
    store.promote(refs[1], reason="")
    damage(refs[1])
    live = Live(Settings())
    live.look()
    assert live.current.name == "toy@v0"
    assert live.refused.model == "toy@v1"


def test_a_candidate_is_tried_once_for_each_promotion(refs):
    store.promote(refs[0], reason="")
    opened = []

    def opener(folder, settings):
        opened.append(folder.parent.name)
        return served.opened(folder, settings)

    live = Live(Settings(), open_=opener)
    live.look()
    damage(refs[1])
    store.promote(refs[1], reason="")
    for _ in range(5):
        live.look()
    assert opened == ["v0", "v1"]
    store.promote(refs[1], reason="again")
    live.look()
    assert opened == ["v0", "v1", "v1"]


def test_a_bundle_under_another_name_than_its_own_is_refused(refs):
    store.promote(refs[0], reason="")
    folder = store.path(refs[1])
    shutil.rmtree(folder)
    shutil.copytree(store.path(refs[2]), folder)
    live = Live(Settings())
    live.look()
    store.promote(refs[1], reason="")
    live.look()
    assert live.current.name == "toy@v0"
    assert "toy@v2" in live.refused.reason


def test_an_opener_that_breaks_in_any_way_leaves_the_old_model(refs):
    store.promote(refs[0], reason="")
    live = Live(Settings())
    live.look()

    def broken(folder, settings):
        raise MemoryError(f"{folder} {settings}")

    live._open = broken
    store.promote(refs[1], reason="")
    live.look()
    assert live.current.name == "toy@v0"
    assert live.refused.reason == "it cannot be opened (MemoryError)"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_model_bytes": 1000}, r"it has [\d,]+ bytes, more than TRAINSERVE_MAX_MODEL_BYTES=1000; .*"),
        ({"max_answer_s": 1e-9}, r"it takes 0\.0 s for one picture, more than TRAINSERVE_MAX_ANSWER_S=1e-09; .*"),
    ],
)
def test_a_candidate_that_is_too_large_or_too_slow_takes_no_traffic(refs, limits, reason):
    store.promote(refs[0], reason="")
    live = Live(Settings())
    live.look()
    live._settings = Settings(**limits)
    store.promote(refs[1], reason="")
    live.look()
    assert live.current.name == "toy@v0"
    assert re.fullmatch(reason, live.refused.reason)


class Asked:
    """A bundle that notes how many pictures it is asked about, and may answer what is no number."""

    has_energy = False

    def __init__(self, bundle, *, blind=False):
        self.card, self.asked = bundle.card, []
        self._bundle, self._blind = bundle, blind

    def predict(self, pixels):
        self.asked.append(len(pixels))
        return self._bundle.predict(pixels) * (np.nan if self._blind else 1)


def test_a_candidate_is_warmed_before_it_answers(refs):
    live = Live(Settings(), open_=lambda folder, chosen: Asked(served.opened(folder, chosen)))
    store.promote(refs[0], reason="")
    live.look()
    assert min(live.current.bundle.asked) == 1
    assert max(live.current.bundle.asked) > 1


def test_a_candidate_whose_answers_are_no_numbers_takes_no_traffic(refs):
    live = Live(Settings(), open_=lambda folder, chosen: Asked(served.opened(folder, chosen), blind=True))
    store.promote(refs[0], reason="")
    live.look()
    assert live.current is None
    assert live.refused.reason == "it answers with numbers that are not finite; train it again"


def test_a_replaced_model_is_freed(refs):
    store.promote(refs[0], reason="")
    live = Live(Settings())
    live.look()
    first = weakref.ref(live.current)
    store.promote(refs[1], reason="")
    live.look()
    gc.collect()
    assert first() is None


def test_a_broken_alias_file_does_not_end_the_following(refs, home):
    store.promote(refs[0], reason="")
    live = Live(Settings(poll_s=0.01))
    live.start()
    live.wait(60)
    assert live.current.name == "toy@v0"
    (home / "trainserve" / "aliases" / "toy.json").write_text("{")
    while live.refused is None:
        assert live.alive
    assert live.current.name == "toy@v0"
    (home / "trainserve" / "aliases" / "toy.json").unlink()
    store.promote(refs[1], reason="")
    while live.current.name != "toy@v1":
        assert live.alive
    live.stop()
    assert not live.alive


def test_an_alias_file_that_is_back_as_it_was_is_no_complaint_any_more(refs, home):
    store.promote(refs[0], reason="")
    live = Live(Settings(poll_s=0.01))
    live.start()
    live.wait(60)
    file = home / "trainserve" / "aliases" / "toy.json"
    file.rename(home / "kept")
    file.write_text("{")
    until(lambda: live.refused is not None)
    (home / "kept").rename(file)
    until(lambda: live.refused is None)
    live.stop()
    assert live.current.name == "toy@v0"


def test_where_signing_is_on_only_what_was_signed_takes_traffic(refs, tmp_path):
    (tmp_path / "signers").write_text(signature.new_key(tmp_path / "key", "nightly") + "\n")
    signature.sign(store.path(refs[1]) / "manifest.json", tmp_path / "key")
    live = Live(Settings(signers=tmp_path / "signers"))
    store.promote(refs[1], reason="")
    live.look()
    assert live.current.name == "toy@v1"
    store.promote(refs[2], reason="")
    live.look()
    assert live.current.name == "toy@v1"
    assert live.refused.reason == "the bundle is refused: it is not signed by anybody whom this service trusts"


@pytest.mark.parametrize("lines", [None, "", "nightly\n"])
def test_a_signers_file_that_cannot_be_used_refuses_without_telling_where_it_is(refs, tmp_path, lines):
    if lines is not None:
        (tmp_path / "signers").write_text(lines)
    store.promote(refs[1], reason="")
    live = Live(Settings(signers=tmp_path / "signers"))
    live.look()
    assert live.current is None
    assert "signers" in live.refused.reason
    assert "/" not in live.refused.reason
