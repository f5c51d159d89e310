"""Whether a new model goes into service, on the committed digits bundle as champion."""

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import JsonValue

from data.spec import DatasetSpec
from flows import drift
from flows import judge as judging
from flows.judge import answers, by_variant, judge, settled, try_as_service
from flows.measured import Measuring
from models.bundle.bundle import Bundle, BundleError
from models.config import Experiment, ReleaseConfig
from models.evaluation.metrics import Metrics, score
from models.run import RunFolder
from models.verdict import Verdict
from serving import machine, store, verdicts
from serving.refs import ModelRef

BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v1"
NEW = ModelRef(name="digits", version="new")
PLAIN = ReleaseConfig(robust_margin=None)
Fault = Callable[[Path, object], object]


@dataclass(frozen=True)
class Case:
    """A run whose test pictures are the champion's golden files, `copies` times each."""

    folder: Path
    classes: tuple[str, ...]
    files: list[Path]

    def judged(
        self, probabilities: np.ndarray, labels: np.ndarray, *, split_seed: int = 0, config: ReleaseConfig = PLAIN
    ) -> Verdict:
        run = RunFolder(self.folder)
        run.write_experiment(Experiment(dataset=DatasetSpec(split_seed=split_seed)))
        run.write_predictions(
            {"test_probabilities": probabilities, "test_labels": labels, "test_rows": np.arange(len(labels))}
        )
        images = SimpleNamespace(
            classes=self.classes,
            path=lambda row: self.files[row],
            digest=lambda row: hashlib.sha256(f"{row}".encode()).hexdigest(),
            snapshot=SimpleNamespace(fingerprint="f" * 64),
        )
        return judge(run, SimpleNamespace(images=images), NEW, config, latency_ms=12.5)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def champion() -> Bundle:
    return Bundle.open(BUNDLE)


@pytest.fixture
def ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRef:
    """The champion in a store of its own, beside the same network as the new model."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    saved = store.save(BUNDLE)
    store.promote(saved, reason="test")
    stored = store.home() / "models" / "digits"
    shutil.copytree(stored / saved.version, stored / "new")
    return saved


@pytest.fixture
def case(champion: Bundle, tmp_path: Path) -> Case:
    names = sorted((BUNDLE / "golden").glob("*.png"))
    return Case(tmp_path, champion.card.classes, names * 10)


def answers_of(champion: Bundle, case: Case) -> np.ndarray:
    return np.stack([champion.predict(champion.decode(file)[None])[0] for file in case.files])


def test_an_equal_model_is_not_promoted(champion: Bundle, case: Case, ref: ModelRef):
    theirs = answers_of(champion, case)
    verdict = case.judged(theirs, theirs.argmax(axis=1))
    assert (verdict.promoted, verdict.relation, verdict.champion) == (False, "same", str(ref))


def test_a_worse_model_is_not_promoted_and_the_reason_has_the_figures(champion: Bundle, case: Case, ref: ModelRef):
    theirs = answers_of(champion, case)
    verdict = case.judged(np.roll(theirs, 1, axis=1), theirs.argmax(axis=1))
    assert not verdict.promoted
    assert f"Kept {ref}" in verdict.reason
    assert "0.0 % against 100.0 %" in verdict.reason


def test_a_model_whose_graph_in_fewer_bits_would_answer_is_judged_by_its_answers(champion: Bundle, case: Case):
    """Not by the trained network's, which are others."""
    theirs = answers_of(champion, case)
    run = RunFolder(case.folder)
    rows = np.arange(len(theirs))
    trained = {
        "test_probabilities": np.roll(theirs, 1, axis=1),
        "test_labels": theirs.argmax(axis=1),
        "test_rows": rows,
    }
    run.write_predictions(trained)
    images = SimpleNamespace(path=lambda row: case.files[row])

    def answers_by(candidate: Bundle) -> np.ndarray:
        return answers(run, Measuring(candidate, images, PLAIN))  # type: ignore[arg-type]

    assert np.array_equal(answers_by(champion), trained["test_probabilities"])
    quick = replace(champion, variant="int8", why="1.8 times as fast")
    assert np.allclose(answers_by(quick), theirs, atol=1e-6)
    assert by_variant(champion) == ""
    assert by_variant(quick) == "judged by the answers of its int8 graph, which services here give"


@pytest.mark.slow
@pytest.mark.usefixtures("ref")
@pytest.mark.parametrize(
    ("told", "gpus", "expected"),
    [
        ({}, 0, "int8"),
        ({"VARIANT": "no-such"}, 0, "int8"),
        ({"VARIANT": "float"}, 0, "float"),
        ({}, 1, "float"),
        ({"VARIANT": "fp16"}, 1, "fp16"),
        ({"GPUS": "0"}, 1, "int8"),
        ({"GPUS": "2"}, 0, "float"),
    ],
)
def test_it_is_judged_by_the_graph_that_services_of_this_environment_answer_with(
    case: Case, champion: Bundle, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], gpus: int, expected: str
):
    """Asked for by its name: what a clock says when a bundle is opened decides nothing."""
    opened: list[str] = []

    def seen(_: Path, *, variant: str) -> Bundle:
        opened.append(variant)
        return champion

    for name in ("VARIANT", "GPUS"):
        monkeypatch.setenv(f"TRAINSERVE_{name}", told.get(name, ""))
    monkeypatch.setattr(machine, "here", lambda: machine.Machine(cores=2, memory=1 << 33, gpus=gpus))
    monkeypatch.setattr(Bundle, "open", seen)
    answers = answers_of(champion, case)
    case.judged(answers, answers.argmax(axis=1))
    assert opened == [expected, expected]


def test_a_better_model_is_promoted(champion: Bundle, case: Case, ref: ModelRef):
    wrong = np.roll(answers_of(champion, case), 1, axis=1)
    verdict = case.judged(wrong, wrong.argmax(axis=1))
    assert (verdict.promoted, verdict.relation, verdict.champion) == (True, "better", str(ref))


@pytest.mark.slow
def test_the_verdict_lists_what_was_checked_beside_the_answers(champion: Bundle, case: Case, ref: ModelRef):
    wrong = np.roll(answers_of(champion, case), 1, axis=1)
    config = ReleaseConfig(size_mb=100, latency_ms=20)
    verdict = case.judged(wrong, wrong.argmax(axis=1), config=config)
    checks = {check.name: check for check in verdict.checks}
    asked = {"new answers", "significance", "loss", "bootstrap", "classes", "latency", "slowdown", "size", "robustness"}
    told = {"accuracy", "recall", "calibration", "macro recall", "calibration difference"}
    assert {name for name, check in checks.items() if check.ok} == asked
    assert {name for name, check in checks.items() if check.ok is None} == told
    assert "12.5 ms over HTTP" in checks["latency"].said
    size = sum(file.stat().st_size for file in store.path(NEW).rglob("*") if file.is_file())
    assert checks["size"].value == pytest.approx(size / 1e6)
    assert [level.challenger - (level.champion or 0) for level in verdict.robustness] == [0.0] * 9  # the same network
    assert verdict.robustness[0].n == len(case.files)
    assert verdict.champion == str(ref)


@pytest.mark.slow
def test_a_better_model_that_is_too_large_and_too_slow_is_not_promoted(champion: Bundle, case: Case, ref: ModelRef):
    wrong = np.roll(answers_of(champion, case), 1, axis=1)
    config = ReleaseConfig(size_mb=0.001, latency_ms=12, robust_margin=None)
    verdict = case.judged(wrong, wrong.argmax(axis=1), config=config)
    assert (verdict.promoted, verdict.relation, verdict.champion) == (False, "better", str(ref))
    assert "12.5 ms over HTTP; at most 12 ms allowed by release.latency_ms; size failed too." in verdict.reason


@pytest.mark.slow
def test_a_class_that_the_champion_never_saw_is_left_out_of_the_comparison(champion: Bundle, case: Case, ref: ModelRef):
    theirs = answers_of(champion, case)
    labels = theirs.argmax(axis=1)
    labels[:30] = 10  # the new class
    ours = np.hstack([np.roll(theirs, 1, axis=1), np.zeros((len(theirs), 1), np.float32)])
    wider = Case(case.folder, (*case.classes, "ten"), case.files)
    verdict = wider.judged(ours, labels)
    assert verdict.n == len(labels) - 30
    assert "of the classes both know (new: ten)" in verdict.reason
    assert verdict.champion == str(ref)


@pytest.mark.slow
def test_another_split_is_mentioned_since_the_champion_may_have_learned_from_these_pictures(
    champion: Bundle, case: Case, ref: ModelRef
):
    theirs = answers_of(champion, case)
    assert "split otherwise" not in case.judged(theirs, theirs.argmax(axis=1)).reason
    verdict = case.judged(theirs, theirs.argmax(axis=1), split_seed=3)
    assert verdict.champion == str(ref)
    assert "the champion was split otherwise (split_seed 0, now 3)" in verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {}, ""),
        ({"split_by": None, "group": None}, {}, ""),
        ({"split_by": "time"}, {"split_by": "time"}, ""),
        ({}, {"split_by": "time"}, "split_by None, now time"),  # a card of before there was another way
        ({"split_by": "group"}, {}, "split_by group, now None"),
        ({"group": "(a)"}, {"group": "(b)"}, "group (a), now (b)"),
        ({}, {"test_fraction": 0.2}, "test_fraction 0.15, now 0.2"),
    ],
)
def test_pictures_that_were_parted_in_another_way_were_split_otherwise(
    old: dict[str, JsonValue], new: dict[str, str], said: str
):
    found = drift.other_split({"dataset": old}, DatasetSpec.model_validate(new))
    assert found == (
        f"mind that the champion was split otherwise ({said}) and may have learned from these pictures" if said else ""
    )
    assert drift.other_split({}, DatasetSpec.model_validate(new)) == ""  # of which nothing is known


def test_models_of_other_things_are_never_replaced_by_themselves(champion: Bundle, case: Case, ref: ModelRef):
    theirs = answers_of(champion, case)
    others = Case(case.folder, tuple(f"flower {k}" for k in range(10)), case.files)
    verdict = others.judged(theirs, theirs.argmax(axis=1))
    assert not verdict.promoted
    assert f"Kept {ref}" in verdict.reason
    assert "by hand" in verdict.reason


# Small losses, night after night


@pytest.fixture
def anchor(ref: ModelRef, champion: Bundle) -> ModelRef:
    """The first champion, which is the last that was better; since then one took its place that was not worse."""
    assert champion.card.version == ref.version
    stored = store.home() / "models" / "digits"
    shutil.copytree(stored / ref.version, stored / "second")
    second = ModelRef(name="digits", version="second")
    verdicts.keep(second, NOT_WORSE)
    store.promote(second, reason=NOT_WORSE.reason)
    return ref


NOT_WORSE = Verdict(promoted=True, relation="not worse", reason="Not worse than the first.", n=9, challenger_accuracy=1)


def worse_at_first(answers: np.ndarray, num: int) -> np.ndarray:
    changed = answers.copy()
    changed[:num] = np.roll(answers[:num], 1, axis=1)
    return changed


def fleet(monkeypatch: pytest.MonkeyPatch, case: Case, answers: dict[str, np.ndarray]) -> None:
    """Bundles of these versions answer so; `case` is asked for all of its pictures, in order."""
    real = drift.predict_files

    def predict(bundle: Bundle, paths: list[Path]) -> np.ndarray:
        known = answers.get(bundle.folder.parent.name)
        return real(bundle, paths) if known is None or len(paths) != len(case.files) else known

    monkeypatch.setattr(drift, "predict_files", predict)
    monkeypatch.setattr(judging, "predict_files", predict)


@pytest.fixture
def many(case: Case) -> Case:
    return replace(case, files=case.files * 10)


def answers_of_many(champion: Bundle, many: Case) -> np.ndarray:
    once = replace(many, files=many.files[: len(many.files) // 10])
    return np.tile(answers_of(champion, once), (10, 1))


@pytest.mark.slow
def test_a_model_that_is_not_worse_than_the_champion_and_is_than_the_last_better_one_is_not_promoted(
    champion: Bundle, many: Case, anchor: ModelRef, monkeypatch: pytest.MonkeyPatch
):
    first = answers_of_many(champion, many)
    labels, n = first.argmax(axis=1), len(first)
    fleet(monkeypatch, many, {"second": worse_at_first(first, n // 100 * 2)})
    verdict = many.judged(worse_at_first(first, n // 100 * 2 + 2), labels)
    (check,) = [check for check in verdict.checks if check.name == "since"]
    assert (verdict.relation, verdict.promoted, check.ok) == ("not worse", False, False)
    assert f"points against {anchor}, the last that was better than the one before it, at least -" in verdict.reason
    assert verdict.reason.startswith("Kept digits@second: ")
    monkeypatch.setattr(judging, "drifted", lambda *_: ())
    assert many.judged(worse_at_first(first, n // 100 * 2 + 2), labels).promoted


@pytest.mark.slow
def test_one_that_is_better_than_the_champion_is_promoted_though_an_earlier_one_was_better_still(
    champion: Bundle, many: Case, anchor: ModelRef, monkeypatch: pytest.MonkeyPatch
):
    assert anchor
    first = answers_of_many(champion, many)
    labels, n = first.argmax(axis=1), len(first)
    fleet(monkeypatch, many, {"second": worse_at_first(first, n // 5)})
    verdict = many.judged(worse_at_first(first, n // 20), labels)
    (check,) = [check for check in verdict.checks if check.name == "since"]
    assert (verdict.relation, verdict.promoted, check.ok) == ("better", True, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda stored, _: shutil.rmtree(stored), "it is no longer stored"),
        (lambda stored, _: (stored / "bundle" / "model.onnx").write_bytes(b""), "it does not open"),
        (lambda *_: None, "it was split otherwise (split_seed 0, now 7) and may have learned from these pictures"),
    ],
)
def test_where_the_last_better_one_cannot_be_asked_the_verdict_says_so_and_goes_on(
    champion: Bundle, many: Case, anchor: ModelRef, monkeypatch: pytest.MonkeyPatch, fault: Fault, sentence: str
):
    fault(store.home() / "models" / "digits" / anchor.version, many)
    first = answers_of_many(champion, many)
    fleet(monkeypatch, many, {"second": worse_at_first(first, 3)})
    verdict = many.judged(worse_at_first(first, 4), first.argmax(axis=1), split_seed=7)
    (check,) = [check for check in verdict.checks if check.name == "since"]
    assert (verdict.promoted, check.ok, check.value) == (True, None, None)
    assert sentence in check.said


def test_the_last_better_one_is_not_held_against_itself_when_it_is_judged_again(
    champion: Bundle, many: Case, anchor: ModelRef, monkeypatch: pytest.MonkeyPatch
):
    first = answers_of_many(champion, many)
    fleet(monkeypatch, many, {"second": worse_at_first(first, 3)})
    monkeypatch.setattr(sys.modules[__name__], "NEW", anchor)
    assert "since" not in {check.name for check in many.judged(first, first.argmax(axis=1)).checks}


@pytest.mark.slow
def test_a_champion_that_was_itself_better_is_the_only_one_that_is_asked(champion: Bundle, case: Case, ref: ModelRef):
    answers = answers_of(champion, case)
    verdict = case.judged(worse_at_first(answers, 1), answers.argmax(axis=1))
    assert ref.version
    assert "since" not in {check.name for check in verdict.checks}


def test_a_champion_that_does_not_open_does_not_stand_in_the_way(champion: Bundle, case: Case, ref: ModelRef):
    (store.path(ref) / "model.onnx").write_bytes(b"rubbish")
    theirs = answers_of(champion, case)
    verdict = case.judged(theirs, theirs.argmax(axis=1))
    assert verdict.promoted
    assert "does not open" in verdict.reason


def test_a_release_cut_off_after_its_promotion_is_judged_by_the_model_before(
    champion: Bundle, case: Case, ref: ModelRef
):
    """The same run again: it must not be compared with itself, and stays promoted."""
    wrong = np.roll(answers_of(champion, case), 1, axis=1)
    store.promote(NEW, reason="test")
    verdict = case.judged(wrong, wrong.argmax(axis=1))
    assert (verdict.promoted, verdict.champion) == (True, str(ref))


@pytest.mark.slow
def test_a_bundle_is_tried_in_a_process_like_the_service_s(tmp_path: Path):
    try_as_service(BUNDLE)
    shutil.copytree(BUNDLE, tmp_path / "broken")
    (tmp_path / "broken" / "card.json").write_text("{}")
    with pytest.raises(BundleError, match="does not open in a fresh process"):
        try_as_service(tmp_path / "broken")


def figures() -> Metrics:
    return score(np.eye(2)[[0, 1, 1]], np.array([0, 1, 1]), ("bright", "dark"))


def test_a_model_in_service_that_is_made_of_the_same_again_stays_there_without_a_new_verdict(ref: ModelRef):
    verdict = settled(ref, figures(), run_id="another")
    assert verdict is not None
    assert (verdict.promoted, verdict.relation, verdict.champion) == (False, "same", str(ref))
    assert settled(ref, figures(), run_id=ref.version) is None  # a release of its own that was cut off


def test_a_model_that_a_person_took_out_of_service_is_not_put_back_by_a_night_that_makes_it_again(ref: ModelRef):
    store.promote(NEW, reason="test")
    assert settled(ref, figures(), run_id="another") is None  # replaced by a better one: they may be compared
    assert store.rollback("digits", reason="it sees ghosts") == ref
    verdict = settled(NEW, figures(), run_id="another")
    assert verdict is not None
    assert not verdict.promoted
    assert f"trainserve models promote {NEW}" in verdict.reason
