"""What leaves training is what was trained, or nothing leaves."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from data.images import Images
from data.prepare import Dataset
from data.spec import ImageSpec
from data.split import Split
from data.validate import ValidationReport
from models.bundle import golden, manifest, samples
from models.bundle.bundle import Bundle, read_card
from models.bundle.export import ExportError, export, write_bundle
from models.bundle.graph import OPSET, calibrated, to_onnx
from models.bundle.page import card_page
from models.bundle.slim import slimmed
from models.config import TrainConfig
from models.run import NetworkSpec, RunFolder
from models.zoo.build import build
from tests.models.bundles import CLASSES, IMAGE, STATISTICS, TEMPERATURE, Tiny, toy_bundle, toy_images, toy_result


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return toy_images(tmp_path_factory.mktemp("pictures"))


class Fickle(Tiny):
    """Another network while it is being exported."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels)
        return 1.1 * logits if torch.compiler.is_exporting() else logits


class Rounded(Tiny):
    """Nearly the same network while it is being exported."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels)
        return 1.06 * logits if torch.compiler.is_exporting() else logits


class Frozen2(nn.Module):
    """Works for a batch of two only."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().reshape(2, -1)[:, : len(CLASSES)]


@pytest.fixture(scope="module")
def folder(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("run") / "bundle", images)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "bundle"))


@pytest.mark.slow
def test_a_finished_run_is_exported_from_its_folder(images: Images, tmp_path: Path) -> None:
    run = finished(tmp_path, TrainConfig())
    rows = np.arange(len(images.rows))
    folder = export(run, dataset_of(images, Split(train=rows[::4], val=rows[1::4], test=rows[2::4])))
    assert folder == run.path / "bundle"
    assert Bundle.open(folder).card.parity.n == len(rows[2::4])


def test_the_card_states_what_was_exported(folder: Path) -> None:
    card, result = Bundle.open(folder).card, toy_result()
    assert (card.name, card.version, card.classes, card.kind) == ("toy", result.run_id, CLASSES, "cnn")
    assert (card.parameters, card.flops) == (result.fit.parameters, result.flops)
    assert (card.image, card.statistics, card.calibration) == (IMAGE, result.statistics, result.calibration)
    assert {"python", "torch", "onnxruntime", "pillow"} <= set(card.versions)


def test_a_reader_of_the_folder_finds_the_card_as_a_page_which_the_manifest_covers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (folder / "README.md").read_text()
    assert page == card_page(read_card(folder))  # as it was in the end, with the parity
    assert "README.md" in json.loads((folder / "manifest.json").read_bytes())["files"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = pytest.importorskip("huggingface_hub")
    assert hub.ModelCard.load(folder / "README.md").data.model_name == f"toy@{toy_result().run_id}"


def test_parity_is_measured_over_the_whole_test_split(folder: Path, images: Images) -> None:
    parity = Bundle.open(folder).card.parity
    assert parity.n == len(images.rows) / 2
    assert 0 <= parity.largest_difference < 1e-5
    assert parity.changed_answers == 0
    (way,) = parity.ways
    assert (way.name, way.n) == ("onnx", parity.n)
    assert [(one.label, one.n) for one in way.per_class] == [(label, 3) for label in CLASSES]


@pytest.mark.slow
def test_parity_looks_at_no_more_pictures_at_once_than_training(images: Images, tmp_path: Path) -> None:
    """Beyond those that a bundle's own test takes, whatever was trained."""
    sizes = []

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        if not torch.compiler.is_exporting():
            sizes.append(len(given[0]))

    run = finished(tmp_path, TrainConfig(batch_size=12))
    rows = np.arange(len(images.rows))
    counter = register_module_forward_pre_hook(count)
    try:
        export(run, dataset_of(images, Split(train=rows[:2], val=rows[2:4], test=rows[4:])))
    finally:
        counter.remove()
    assert max(sizes) == 12


def finished(folder: Path, train: TrainConfig) -> RunFolder:
    run, result = RunFolder(folder / "run"), toy_result()
    chosen = result.experiment.model_copy(update={"train": train})
    network = build(chosen.model, IMAGE, STATISTICS, len(CLASSES))
    run.write_experiment(chosen)
    run.write_network(NetworkSpec(image=IMAGE, statistics=STATISTICS, classes=CLASSES))
    save_file(network.state_dict(), run.weights_file)
    run.write_result(result)
    answers = {"test_rows": np.arange(1), "test_probabilities": np.zeros((1, len(CLASSES)), np.float32)}
    run.write_predictions(answers)  # to other pictures
    return run


def dataset_of(images: Images, split: Split) -> Dataset:
    report = ValidationReport(
        name="toy",
        fingerprint="0" * 64,
        num_examples=len(images.rows),
        num_unreadable=0,
        height=IMAGE.height,
        width=IMAGE.width,
        channels=IMAGE.channels,
        classes=(),
        findings=(),
    )
    return Dataset(images, split, report)


def test_a_failed_export_leaves_the_earlier_bundle_and_nothing_else(copy: Path, images: Images) -> None:
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match=r"is not the trained one: .* differ by up to"):
        toy_bundle(copy, images, Fickle())
    assert (copy / "manifest.json").read_bytes() == before
    assert [path for path in copy.parent.iterdir() if path.is_dir()] == [copy]


@pytest.mark.slow
def test_a_bundle_that_was_set_aside_when_it_was_to_be_replaced_is_put_back(copy: Path, images: Images) -> None:
    """By a kill between the two renames."""
    before = (copy / "manifest.json").read_bytes()
    copy.rename(copy.with_name(".bundle.old"))
    with pytest.raises(ExportError, match="is not the trained one"):
        toy_bundle(copy, images, Fickle())
    assert (copy / "manifest.json").read_bytes() == before
    assert [path for path in copy.parent.iterdir() if path.is_dir()] == [copy]


@pytest.mark.slow
def test_a_bundle_states_no_looser_tolerance_than_it_may(images: Images, tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "bundle", images, Rounded(), parity=0.1)
    assert Bundle.open(folder).card.parity.largest_difference > golden.LOOSEST / 2
    assert json.loads((folder / golden.RECORD).read_text())["tolerance"] == golden.LOOSEST


@pytest.mark.slow
def test_a_second_export_replaces_the_first_and_leaves_the_network_alone(copy: Path, images: Images) -> None:
    (copy / "leftover").touch()
    network = Tiny().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    toy_bundle(copy, images, network)
    Bundle.open(copy)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_export_needs_test_pictures(images: Images, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no test pictures"):
        write_bundle(
            tmp_path / "bundle", network=Tiny(), result=toy_result(), images=images, test=np.array([], dtype=int)
        )


@pytest.mark.slow
def test_a_cache_that_no_longer_fits_its_files_is_refused(images: Images, tmp_path: Path) -> None:
    pixels = images.pixels.copy()
    pixels[4] += 1
    stale = Images(images.snapshot, images.spec, images.rows, pixels, ())
    with pytest.raises(ExportError, match=r"ant/4\.png no longer gives the pixels that were trained on"):
        toy_bundle(tmp_path / "bundle", stale)


# The graph


@pytest.fixture(scope="module")
def graph(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "model.onnx")


def test_the_graph_takes_bytes_of_pixels_in_any_number(graph: onnx.ModelProto) -> None:
    (pixels,), (probabilities, energy) = graph.graph.input, graph.graph.output
    assert pixels.name == "pixels"
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in pixels.type.tensor_type.shape.dim] == [0, 12, 16, 3]
    assert probabilities.name == "probabilities"
    assert [d.dim_value for d in probabilities.type.tensor_type.shape.dim] == [0, len(CLASSES)]
    assert energy.name == "energy"
    assert [d.dim_value for d in energy.type.tensor_type.shape.dim] == [0]
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET]


def test_the_graph_says_nothing_of_the_machine_it_was_made_on(graph: onnx.ModelProto) -> None:
    raw = graph.SerializeToString()
    assert b".py" not in raw
    assert str(Path(__file__).parents[2]).encode() not in raw


@pytest.mark.slow
def test_the_same_network_gives_the_same_bytes_and_the_exporter_says_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    again, _ = slimmed(to_onnx(calibrated(Tiny(), TEMPERATURE), IMAGE, tolerance=1e-3), lambda _: None)
    assert again == (folder / "model.onnx").read_bytes()
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert not list(recwarn)


@pytest.mark.slow
def test_a_network_for_one_batch_size_is_refused() -> None:
    with pytest.raises(ExportError, match=r"cannot be exported|fails on batches|any batch size"):
        to_onnx(calibrated(Frozen2(), 1.0), IMAGE, tolerance=1e-3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_no_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ExportError, match="is not a positive number"):
        calibrated(Tiny(), temperature)


# Golden samples


def test_samples_are_of_different_classes_while_there_are_any() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert sorted(labels[samples.choose(labels, np.arange(6))]) == [0, 0, 1, 2]
    assert sorted(labels[samples.choose(labels, np.array([0, 1]))]) == [0, 0, 0, 0]
    assert samples.choose(labels, np.array([5])) == [5, 5, 5, 5]


@pytest.mark.parametrize(("num_classes", "offered"), [(5, 5), (10, 10), (100, 10)])
def test_every_class_has_a_sample_while_they_are_few(num_classes: int, offered: int) -> None:
    labels = np.repeat(np.arange(num_classes), 3)
    chosen = labels[samples.choose(labels, np.arange(len(labels)))]
    assert sorted(chosen) == list(range(offered))
    assert offered + samples.DIFFICULT + samples.ENCODED <= golden.MOST


def test_the_largest_pictures_fit_into_a_bundle() -> None:
    assert golden.MOST * 1024 * 1024 * 3 <= manifest.MAX_BYTES_OTHER


@pytest.mark.parametrize("side", [8, 30, 40, 256])
def test_no_sample_has_the_size_the_network_takes(images: Images, side: int) -> None:
    spec = ImageSpec(height=side, width=side, channels=3)
    sources = [(images.path(row), CLASSES[images.labels[row]]) for row in (0, 6, 12, 18)]
    made = samples.make(sources, spec)
    assert len(made) == 11
    assert all(Image.open(BytesIO(picture.file)).size != (side, side) for picture in made)


def test_a_digit_of_8_by_8_becomes_a_picture_one_can_see(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "digit.png")
    made = samples.make([(tmp_path / "digit.png", "0")] * 4, ImageSpec(height=8, width=8, channels=1))
    assert all(min(Image.open(BytesIO(picture.file)).size) >= 18 for picture in made)


def test_golden_files_are_listed_with_their_labels(folder: Path) -> None:
    record = json.loads((folder / "golden" / "golden.json").read_text())
    files = {path.name for path in (folder / "golden").iterdir()} - {"golden.json", "pixels.u8"}
    assert {sample["file"] for sample in record["samples"]} == files
    assert len(files) == 11
