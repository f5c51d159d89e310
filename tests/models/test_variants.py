"""Which of a bundle's graphs answers: one in fewer bits where it proves itself, otherwise the exported one."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.images import Images
from models.bundle import golden, manifest, session, variants
from models.bundle.bundle import Bundle, BundleError
from models.bundle.parity import ExportError, over_files
from models.cards import ModelCard
from tests.models.bundles import toy_bundle, toy_images
from tests.models.quantised import bundle_in_fewer_bits, parts


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return toy_images(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def folder(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_in_fewer_bits(tmp_path_factory.mktemp("run") / "bundle", images)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def pixels_of(bundle: Bundle) -> np.ndarray:
    return bundle.golden.pixels


def gap(one: Bundle, other: Bundle) -> float:
    return float(np.abs(one.predict(pixels_of(one)) - other.predict(pixels_of(other))).max())


def test_a_gpu_that_cannot_be_used_changes_no_graph(folder: Path):
    """A worker whose GPU had no room just then answers as the others do, and with the graph that was judged."""
    without = Bundle.open(folder, gpu=0)
    assert without.provider == session.CPU
    assert without.variant == "float"


# What is in the bundle


def test_the_bundle_holds_the_variants_and_what_they_answered(folder: Path):
    card = Bundle.open(folder).card
    assert [(one.name, one.kept) for one in card.variants] == [("int8", True), ("fp16", True)]
    for name, file in variants.FILES.items():
        assert (folder / file).exists()
        assert (folder / f"golden/{name}.json").exists()
    assert set(manifest.verified(folder)) >= {*variants.FILES.values(), "golden/int8.json", "golden/fp16.json"}


def test_the_card_says_how_far_each_is_from_the_trained_network(folder: Path, images: Images):
    ways = {way.name: way for way in Bundle.open(folder).card.parity.ways}
    assert list(ways) == ["onnx", "int8", "fp16"]
    assert {way.n for way in ways.values()} == {len(parts(images).test)}
    assert ways["onnx"].largest_difference < 1e-4 < ways["int8"].largest_difference < 0.2


@pytest.mark.slow
def test_a_variant_that_is_not_kept_is_in_the_card_and_not_in_the_bundle(images: Images, tmp_path: Path):
    target = bundle_in_fewer_bits(tmp_path / "bundle", images, fast=1.0)
    kept = {one.name: one.kept for one in Bundle.open(target).card.variants}
    assert kept == {"int8": False, "fp16": True}
    assert not (target / "model.int8.onnx").exists()
    assert not (target / "golden" / "int8.json").exists()


# Which answers


def test_who_asks_for_int8_gets_it_and_its_golden_answers(folder: Path):
    exported, chosen = Bundle.open(folder, variant="float"), Bundle.open(folder, variant="int8")
    assert (exported.variant, chosen.variant) == ("float", "int8")
    assert chosen.why == "as asked for"
    assert 1e-5 < gap(chosen, exported) < 0.2
    assert np.abs(chosen.predict(pixels_of(chosen)) - chosen.golden.probabilities).max() < 1e-4


@pytest.mark.parametrize(
    ("gain", "why"),
    [
        (1.84, "1.8 times as fast here as the graph it was made of"),
        (0.5, "it was the faster one where it was made; here it is slower, 0.50 times as fast"),
    ],
)
def test_by_itself_a_processor_takes_int8_whatever_the_clock_says_so_that_all_who_open_it_agree(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gain: float, why: str
):
    """Workers of one service and the judge would each time it for itself, on a machine that does other work."""
    monkeypatch.setattr(variants, "times_as_fast", lambda *_: gain)
    with caplog.at_level("WARNING", logger="trainserve"):
        chosen = Bundle.open(folder)
    assert chosen.provider == session.CPU
    assert (chosen.variant, chosen.why) == ("int8", why)
    assert ("TRAINSERVE_VARIANT=float takes the other" in caplog.text) == (gain < 1)


def test_the_faster_of_two_is_known():
    def slow(pixels: np.ndarray) -> np.ndarray:
        until = time.perf_counter() + 0.004
        while time.perf_counter() < until:
            pass
        return pixels

    pixels = np.zeros((3, 1), dtype=np.uint8)
    assert variants.times_as_fast(lambda x: x, slow, pixels) > 1
    assert variants.times_as_fast(slow, lambda x: x, pixels) < 1


@pytest.mark.parametrize(
    ("provider", "wanted", "expected"),
    [
        (session.CPU, "auto", "int8"),
        (session.CUDA, "auto", "float"),  # no clock and no verdict has seen fp16 there
        (session.CUDA, "fp16", "fp16"),
        (session.CUDA, "int8", "int8"),
        (session.CPU, "fp16", "fp16"),
        (session.CPU, "float", "float"),
        ("AnotherExecutionProvider", "auto", "float"),
    ],
)
def test_each_provider_has_its_variant(folder: Path, provider: str, wanted: variants.Wanted, expected: str):
    assert variants.suited(Bundle.open(folder).card, provider, wanted)[0] == expected


def test_a_gpu_that_could_answer_in_fp16_is_told_how(folder: Path):
    card = Bundle.open(folder).card
    why = variants.suited(card, session.CUDA, "auto")[1]
    assert why.endswith("answers where TRAINSERVE_VARIANT=fp16 asks for it")


def test_fp16_answers_on_a_processor_when_asked_for(folder: Path):
    chosen = Bundle.open(folder, variant="fp16")
    assert chosen.variant == "fp16"
    assert gap(chosen, Bundle.open(folder, variant="float")) < 0.02


@pytest.mark.slow
def test_a_bundle_without_variants_answers_whatever_is_wanted(images: Images, tmp_path: Path):
    plain = toy_bundle(tmp_path / "bundle", images)
    for wanted in ("auto", "int8", "float"):
        assert Bundle.open(plain, variant=wanted).variant == "float"  # type: ignore[arg-type]
    assert Bundle.open(plain, variant="int8").why == "the bundle has no int8 graph"


# Never to nothing


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def shifted(record: dict[str, Any]) -> None:
    record["probabilities"] = [[p + 0.06 for p in row] for row in record["probabilities"]]


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "answers that differ": (lambda b: edit(b / "golden/int8.json", shifted), "probabilities differ"),
    "no answers": (lambda b: (b / "golden/int8.json").unlink(), "has no golden/int8.json"),
    "too few answers": (
        lambda b: edit(b / "golden/int8.json", lambda r: r["probabilities"].pop()),
        "does not fit the 11 golden pictures",
    ),
    "a tolerance that lets anything through": (
        lambda b: edit(b / "golden/int8.json", lambda r: r.update(tolerance=0.5)),
        "golden/int8.json cannot be read",
    ),
    "no graph": (lambda b: (b / "model.int8.onnx").unlink(), "model.int8.onnx is not there"),
    "no graph at all": (lambda b: (b / "model.int8.onnx").write_bytes(b"nonsense"), "cannot be loaded"),
    "data outside": (lambda b: (b / "model.int8.onnx").write_bytes(b"location"), "model.int8.onnx refers to data"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("wanted", ["auto", "int8"])
def test_a_variant_that_does_not_prove_itself_leaves_the_exported_graph_in_service(
    copy: Path, fault: str, wanted: variants.Wanted, caplog: pytest.LogCaptureFixture
):
    harm, said = FAULTS[fault]
    harm(copy)
    manifest.write(copy)
    with caplog.at_level("WARNING", logger="trainserve"):
        bundle = Bundle.open(copy, variant=wanted)
    assert bundle.variant == "float"
    assert bundle.why.startswith("the int8 graph is not used: ")
    assert said in bundle.why
    assert "its int8 graph is not used" in caplog.text
    bundle.replay()


def test_a_variant_that_fails_while_it_is_timed_is_not_used_either(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(*_: object) -> float:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(variants, "times_as_fast", failing)
    bundle = Bundle.open(folder)
    assert (bundle.variant, bundle.why) == ("float", "the int8 graph is not used: out of memory")


def test_another_label_is_refused_even_within_the_tolerance(folder: Path):
    bundle = Bundle.open(folder, variant="int8")
    record = json.loads((folder / "golden/int8.json").read_text())
    answers = np.array(record["probabilities"])
    other = np.roll(answers, 1, axis=1)

    def replay(predicted: np.ndarray) -> None:
        golden.replay(
            golden.Golden(bundle.golden.samples, bundle.golden.files, bundle.golden.pixels, 1.0, same_labels=True),
            image=bundle.card.image,
            decode=lambda file, _: bundle.golden.pixels[bundle.golden.files.index(file)],
            predict=lambda _: predicted,
            made_with="",
        )

    replay(answers)
    with pytest.raises(BundleError, match="other labels"):
        replay(other)


def test_a_tampered_variant_is_a_tampered_bundle(copy: Path):
    (copy / "model.int8.onnx").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"model\.int8\.onnx has 8 bytes, its manifest says"):
        Bundle.open(copy)


def test_a_card_of_before_has_no_variants(folder: Path):
    told = Bundle.open(folder).card.model_dump(mode="json")
    del told["variants"], told["slimmed"]
    assert ModelCard.model_validate_json(json.dumps(told), strict=True).variants == ()


# A service on it


def test_a_service_is_held_against_the_graph_that_it_answers_with(folder: Path, images: Images):
    exported, chosen = Bundle.open(folder, variant="float"), Bundle.open(folder, variant="int8")

    def parity(by: str) -> dict[str, float]:
        found = over_files(
            images,
            parts(images).test,
            trained=exported.predict,
            exported=exported.predict,
            served=lambda files: chosen.predict(np.stack([chosen.decode(file) for file in files])),
            variants={"int8": chosen.predict},
            by=by,
            tolerance=1e-4,
        )
        return {way.name: way.largest_difference for way in found.ways}

    assert parity("int8")["http"] < 1e-5 < parity("int8")["int8"]
    with pytest.raises(ExportError, match="a service on the exported model does not answer as the trained network"):
        parity("float")
