"""What a bundle promises to whoever serves it, and what it refuses."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from data.errors import UnreadableImage
from data.images import Images
from data.preprocess import to_pixels
from data.spec import ImageSpec
from models.bundle import manifest
from models.bundle.bundle import Bundle, BundleError, PixelError, Sample, predict_files
from models.bundle.graph import calibrated
from serving import aliases
from tests.models.bundles import CLASSES, IMAGE, IMAGENET, TEMPERATURE, Tiny, toy_bundle, toy_images

FILES = ["model.onnx", "card.json", "golden/golden.json", "golden/pixels.u8", "golden/0-plain.png"]
COMMITTED = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return toy_images(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def folder(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("run") / "bundle", images)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return Bundle.open(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def sign(folder: Path) -> None:
    """What a forger would do last: a manifest that fits."""
    manifest.write(folder)


def random_pixels(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, IMAGE.height, IMAGE.width, 3), dtype=np.uint8)


# Answers


@pytest.mark.parametrize("n", [1, 3, 64])
def test_a_bundle_answers_like_the_trained_network(bundle: Bundle, n: int) -> None:
    import torch

    pixels = random_pixels(n)
    expected = calibrated(Tiny(), TEMPERATURE)(torch.from_numpy(pixels)).detach().numpy()
    found = bundle.predict(pixels)
    assert found.shape == (n, len(CLASSES))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


def test_no_pictures_give_no_answers(bundle: Bundle) -> None:
    assert bundle.predict(random_pixels(1)[:0]).shape == (0, len(CLASSES))


def test_a_picture_is_classified_from_its_bytes(bundle: Bundle, images: Images) -> None:
    said = bundle.classify(images.path(0).read_bytes())
    probabilities = bundle.predict(to_pixels(images.path(0), IMAGE)[None])[0]
    assert said.label == CLASSES[probabilities.argmax()]
    assert said.probability == pytest.approx(probabilities.max())
    assert {score.label for score in said.scores} == set(CLASSES)
    assert [s.probability for s in said.scores] == sorted((s.probability for s in said.scores), reverse=True)
    assert sum(score.probability for score in said.scores) == pytest.approx(1, abs=1e-5)


def test_equally_probable_classes_stay_in_the_cards_order(bundle: Bundle) -> None:
    said = bundle.prediction(np.array([0.2, 0.3, 0.2, 0.3], dtype=np.float32))
    assert [score.label for score in said.scores] == ["bee", "dog", "ant", "cat"]


def test_files_are_answered_in_their_order_whatever_the_chunk(bundle: Bundle, images: Images) -> None:
    paths = [images.path(row) for row in (5, 0, 17, 3, 3)]
    one_by_one = np.stack([bundle.predict(bundle.decode(path)[None])[0] for path in paths])
    for chunk in (1, 2, 64):
        assert np.abs(predict_files(bundle, paths, chunk=chunk) - one_by_one).max() < 1e-6
    assert predict_files(bundle, []).shape == (0, len(CLASSES))


def test_many_threads_may_ask_at_once(bundle: Bundle) -> None:
    batches = [random_pixels(1 + i % 5) for i in range(200)]
    expected = [bundle.predict(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(bundle.predict, batches))
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(expected, found, strict=True))


def test_bytes_that_are_no_picture_are_unreadable(bundle: Bundle) -> None:
    with pytest.raises(UnreadableImage):
        bundle.classify(b"this is no picture")


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.full((1, 12, 16, 3), 0.5, dtype=np.float32), "this model scales pixels itself; give uint8"),
        (np.zeros((1, 12, 16, 3), dtype=np.int64), "pixels are int64; give uint8"),
        (np.zeros((12, 16, 3), dtype=np.uint8), r"have shape \(12, 16, 3\); give \(N, 12, 16, 3\)"),
        (np.zeros((1, 3, 12, 16), dtype=np.uint8), r"have shape \(1, 3, 12, 16\)"),
        ([[0]], "pixels are a list"),
    ],
)
def test_pixels_of_another_kind_are_refused_with_the_remedy(bundle: Bundle, pixels: np.ndarray, sentence: str) -> None:
    with pytest.raises(PixelError, match=sentence):
        bundle.predict(pixels)


# The golden samples


def test_golden_samples_exercise_every_branch_of_decoding(bundle: Bundle) -> None:
    by_kind = {
        s.kind: Image.open(io.BytesIO(f)) for s, f in zip(bundle.golden.samples, bundle.golden.files, strict=True)
    }
    assert set(by_kind) == {"plain", "turned", "rgba", "grey", "wide", "jpeg", "progressive", "webp"}
    assert by_kind["turned"].getexif()[0x0112] == 6
    assert by_kind["rgba"].mode == "RGBA"
    assert by_kind["grey"].mode == "L"
    width, height = by_kind["wide"].size
    assert abs(width / height - IMAGE.width / IMAGE.height) > 0.2
    assert all(picture.size != (IMAGE.width, IMAGE.height) for picture in by_kind.values())
    others = {kind: picture.format for kind, picture in by_kind.items() if picture.format != "PNG"}
    assert others == {"jpeg": "JPEG", "progressive": "JPEG", "webp": "WEBP"}
    assert [bool(by_kind[kind].info.get("progressive")) for kind in ("jpeg", "progressive")] == [False, True]
    for sample, file in zip(bundle.golden.samples, bundle.golden.files, strict=True):
        assert sample.media_type == Image.MIME[Image.open(io.BytesIO(file)).format]


def test_the_turned_sample_is_turned_back(bundle: Bundle) -> None:
    kinds = [sample.kind for sample in bundle.golden.samples]
    assert np.array_equal(bundle.golden.pixels[kinds.index("turned")], bundle.golden.pixels[kinds.index("plain")])


def test_golden_samples_keep_their_true_labels_of_different_classes(bundle: Bundle) -> None:
    plain = [sample.label for sample in bundle.golden.samples if sample.kind == "plain"]
    assert sorted(plain) == sorted(CLASSES)


def test_webp_without_loss_gives_the_pixels_of_the_png(bundle: Bundle) -> None:
    kinds = [sample.kind for sample in bundle.golden.samples]
    third = [i for i, kind in enumerate(kinds) if kind == "plain"][2]
    assert np.array_equal(bundle.golden.pixels[kinds.index("webp")], bundle.golden.pixels[third])


def moved(by: int, *formats: str) -> Callable[[bytes, ImageSpec], np.ndarray]:
    """A decoder that gives other pixels for these formats."""

    def decode(file: bytes, image: ImageSpec) -> np.ndarray:
        pixels = to_pixels(file, image).astype(int)
        if Image.open(io.BytesIO(file)).format in formats:
            pixels[::2] += np.where(pixels[::2] > 127, -by, by)
        return pixels.astype(np.uint8)

    return decode


def test_another_libjpeg_may_be_off_by_two_of_255(bundle: Bundle) -> None:
    bundle.replay(decode=moved(2, "JPEG"))
    with pytest.raises(BundleError, match=r"-jpeg\.jpg \(jpeg\) decodes to other pixels"):
        bundle.replay(decode=moved(3, "JPEG"))


@pytest.mark.parametrize(("format", "kind"), [("PNG", "plain"), ("WEBP", "webp")])
def test_what_is_stored_without_loss_may_not_be_off_by_one(bundle: Bundle, format: str, kind: str) -> None:
    with pytest.raises(BundleError, match=rf"\({kind}\) decodes to other pixels"):
        bundle.replay(decode=moved(1, format))


def test_a_jpeg_that_is_hardly_off_and_answered_otherwise_is_refused(bundle: Bundle) -> None:
    samples = tuple(
        replace_sample(sample, probabilities=tuple(np.eye(len(CLASSES))[k]) if sample.lossy else sample.probabilities)
        for sample, k in zip(bundle.golden.samples, wrong(bundle), strict=True)
    )
    forged = replace(bundle, golden=replace(bundle.golden, samples=samples))
    with pytest.raises(BundleError, match=r"-jpeg\.jpg \(jpeg\) decodes to other pixels"):
        forged.replay(decode=moved(1, "JPEG"))


def wrong(bundle: Bundle) -> np.ndarray:
    """A class for each sample that is not the answer."""
    return (bundle.golden.probabilities.argmax(axis=1) + 1) % len(CLASSES)


def replace_sample(sample: Sample, **changes: object) -> Sample:
    return Sample(**{**sample.model_dump(), **changes})


def by_hand(file: bytes, image: ImageSpec, *, resample: Image.Resampling) -> np.ndarray:
    """Scale to cover, cut the centre: an independent reading of fit="crop", for plain pictures."""
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    scale = max(image.stored_width / picture.width, image.stored_height / picture.height)
    width, height = image.stored_width / scale, image.stored_height / scale
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    size = (image.stored_width, image.stored_height)
    stored = np.asarray(picture.resize(size, resample, box=(left, top, left + width, top + height)))
    return stored[image.margin : image.margin + image.height, image.margin : image.margin + image.width]


def bicubic(file: bytes, image: ImageSpec) -> np.ndarray:
    return by_hand(file, image, resample=Image.Resampling.BICUBIC)


def bgr(file: bytes, image: ImageSpec) -> np.ndarray:
    return to_pixels(file, image)[..., ::-1]


def stretch(file: bytes, image: ImageSpec) -> np.ndarray:
    return to_pixels(file, ImageSpec(**{**image.model_dump(), "fit": "stretch"}))


def unturned(file: bytes, image: ImageSpec) -> np.ndarray:
    stream = io.BytesIO()
    Image.open(io.BytesIO(file)).save(stream, format="PNG", exif=Image.Exif())
    return to_pixels(stream.getvalue(), image)


@pytest.mark.parametrize("mutant", [bicubic, bgr, stretch, unturned])
def test_a_decoder_that_differs_from_training_is_refused(bundle: Bundle, mutant: Callable) -> None:
    bundle.replay()
    with pytest.raises(BundleError, match=r"decodes to other pixels than in training .*Pillow.* refusing to serve"):
        bundle.replay(decode=mutant)


def test_the_bicubic_mutant_differs_in_its_filter_only(bundle: Bundle) -> None:
    file, expected = bundle.golden.files[0], bundle.golden.pixels[0]
    found = by_hand(file, IMAGE, resample=Image.Resampling.BILINEAR)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_graph_with_other_statistics_is_refused(copy: Path) -> None:
    graph = onnx.load(copy / "model.onnx")
    for name, values in (("mean", IMAGENET.mean), ("std", IMAGENET.std)):
        (mine,) = (constant for constant in graph.graph.initializer if constant.name.endswith(name))
        mine.CopyFrom(onnx.numpy_helper.from_array(np.array(values, dtype=np.float32), mine.name))
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    sign(copy)
    with pytest.raises(BundleError, match=r"probabilities differ from training by .* refusing to serve"):
        Bundle.open(copy)


def test_a_decoder_that_fails_is_a_refusal_too(bundle: Bundle) -> None:
    def broken(_: bytes, __: ImageSpec) -> np.ndarray:
        raise UnreadableImage("no PNG support")

    with pytest.raises(BundleError, match=r"cannot be decoded \(no PNG support\)"):
        bundle.replay(decode=broken)


# Tampering


@pytest.mark.parametrize(
    "name", ["model.onnx", "card.json", "README.md", "golden/golden.json", "golden/pixels.u8", "golden/0-plain.png"]
)
def test_a_tampered_file_is_refused(copy: Path, name: str) -> None:
    raw = bytearray((copy / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / name).write_bytes(raw)
    with pytest.raises(BundleError, match=f"{name} was changed after export"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "name", ["model.onnx", "card.json", "golden/golden.json", "golden/0-plain.png", "manifest.json"]
)
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "name", ["model.onnx", "card.json", "golden/golden.json", "golden/pixels.u8", "golden/0-plain.png"]
)
def test_a_file_missing_from_manifest_and_folder_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    sign(copy)
    with pytest.raises(BundleError):
        Bundle.open(copy)


def test_an_extra_file_is_refused(copy: Path) -> None:
    (copy / "golden" / "model.py").write_text("print('hello')")
    with pytest.raises(BundleError, match=r"'golden/model.py', which its manifest does not list"):
        Bundle.open(copy)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle at"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"has no manifest\.json"):
        Bundle.open(tmp_path)


def test_a_link_is_refused_even_if_what_it_points_to_fits(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "card.json", tmp_path / "elsewhere.json")
    (copy / "card.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match=r"'card.json', which is not a plain file"):
        Bundle.open(copy)


def test_a_linked_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "golden", tmp_path / "golden")
    (copy / "golden").symlink_to(tmp_path / "golden")
    with pytest.raises(BundleError, match="'golden', which is not a plain file"):
        Bundle.open(copy)


def test_a_pipe_is_refused_instead_of_waited_for(copy: Path) -> None:
    (copy / "card.json").unlink()
    os.mkfifo(copy / "card.json")
    with pytest.raises(BundleError, match="not a plain file"):
        Bundle.open(copy)


PAGES = ["LICENSE", "README.MD", "README.md/a", "golden/README.md", "README.md\n"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "golden/../../secret", "a/b/c", "..", "", *PAGES])
def test_a_manifest_that_points_elsewhere_is_refused(copy: Path, name: str) -> None:
    (copy.parent / "secret").write_bytes(b"")
    entry = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    edit_json(copy / "manifest.json", lambda content: content["files"].update({name: entry}))
    with pytest.raises(BundleError, match="which no bundle has"):
        Bundle.open(copy)


def test_a_hundred_megabytes_of_card_are_not_read(copy: Path) -> None:
    os.truncate(copy / "card.json", 100 << 20)
    edit_json(copy / "manifest.json", lambda content: content["files"]["card.json"].update(size=100 << 20))
    with pytest.raises(BundleError, match="has 104857600 bytes, more than the 16777216"):
        Bundle.open(copy)


def test_a_hundred_megabytes_of_page_are_not_read(copy: Path) -> None:
    os.truncate(copy / "README.md", 100 << 20)
    edit_json(copy / "manifest.json", lambda content: content["files"]["README.md"].update(size=100 << 20))
    with pytest.raises(BundleError, match="has 104857600 bytes, more than the 1048576"):
        Bundle.open(copy)


def test_a_bundle_without_a_page_for_readers_opens(copy: Path) -> None:
    (copy / "README.md").unlink()
    sign(copy)
    assert Bundle.open(copy).card.name == "toy"


def test_a_hundred_megabytes_of_manifest_are_not_read(copy: Path) -> None:
    os.truncate(copy / "manifest.json", 100 << 20)
    with pytest.raises(BundleError, match="more than the 1048576"):
        Bundle.open(copy)


def test_thousands_of_files_are_not_listed(copy: Path) -> None:
    for i in range(200):
        (copy / "golden" / f"{i}.txt").touch()
    with pytest.raises(BundleError, match="more than 64 files"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["manifest.json", "card.json", "golden/golden.json"])
@pytest.mark.parametrize(
    "raw", [b"", b"[" * 100_000, b"\xff\xfe\x00", b"null", b'{"format": 1', b'{"format": 1e400}', b'{"format": 2}']
)
def test_a_broken_record_is_refused_in_one_sentence(copy: Path, name: str, raw: bytes) -> None:
    (copy / name).write_bytes(raw)
    if name != "manifest.json":
        sign(copy)
    with pytest.raises(BundleError, match=f"{name} cannot be read") as refused:
        Bundle.open(copy)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("name", ["manifest.json", "card.json", "golden/golden.json"])
def test_a_newer_format_is_refused_with_the_remedy(copy: Path, name: str) -> None:
    edit_json(copy / name, lambda content: content.update(format=3, novelty=True))
    if name != "manifest.json":
        sign(copy)
    with pytest.raises(BundleError, match="format 3, newer than the 2 this version reads; upgrade trainserve"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("card.json", lambda card: card.update(surprise=1), "surprise"),
        ("card.json", lambda card: card.update(parameters="268"), "parameters"),
        ("card.json", lambda card: card.update(classes=["ant", "ant", "cat", "dog"]), "classes"),
        ("card.json", lambda card: card.update(classes=["ant", "bee", "cat"]), "3 classes"),
        ("card.json", lambda card: card["image"].update(height=13), "needs 6864"),
        ("golden/golden.json", lambda record: record.update(tolerance=1.0), "tolerance"),
        ("golden/golden.json", lambda record: record.update(samples=record["samples"][:1]), "at least 3"),
        ("golden/golden.json", lambda record: record["samples"][0].update(file="../card.json"), "samples.0.file"),
        ("golden/golden.json", lambda record: record["samples"][0].update(file="8-plain.png"), "8-plain.png"),
        ("golden/golden.json", lambda record: record["samples"][0].update(label="eel"), "4 classes"),
    ],
)
def test_records_that_do_not_fit_are_refused(copy: Path, name: str, change: Callable, sentence: str) -> None:
    edit_json(copy / name, change)
    sign(copy)
    with pytest.raises(BundleError, match=sentence):
        Bundle.open(copy)


def zipped(raw: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.onnx", raw)
    return stream.getvalue()


@pytest.mark.parametrize("spoil", [lambda raw: raw[: len(raw) // 2], lambda _: b"", lambda _: b"\x80\x04.", zipped])
def test_bytes_that_are_no_graph_are_refused(copy: Path, spoil: Callable) -> None:
    (copy / "model.onnx").write_bytes(spoil((copy / "model.onnx").read_bytes()))
    sign(copy)
    with pytest.raises(BundleError, match=r"model\.onnx") as refused:
        Bundle.open(copy)
    assert "\n" not in str(refused.value)


def test_a_graph_that_reads_other_files_is_refused(copy: Path) -> None:
    graph = onnx.load(copy / "model.onnx")
    onnx.save(graph, copy / "model.onnx", save_as_external_data=True, size_threshold=0, location="golden/weights.bin")
    sign(copy)
    with pytest.raises(BundleError, match="refers to data outside itself"):
        Bundle.open(copy)


def test_a_graph_with_a_fixed_batch_is_refused(copy: Path) -> None:
    graph = onnx.load(copy / "model.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    sign(copy)
    with pytest.raises(BundleError, match=r"batches of 1 only|cannot be loaded"):
        Bundle.open(copy)


def test_an_energy_that_is_not_one_of_each_picture_is_refused(copy: Path) -> None:
    graph = onnx.load(copy / "model.onnx")
    (end,) = (end for end in graph.graph.output if end.name == "energy")
    (node,) = (node for node in graph.graph.node if "energy" in node.output)
    node.output[list(node.output).index("energy")] = "energies"
    graph.graph.node.append(onnx.helper.make_node("ReduceSum", ["energies"], ["energy"], keepdims=0))
    end.CopyFrom(onnx.helper.make_tensor_value_info("energy", onnx.TensorProto.FLOAT, []))
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    sign(copy)
    with pytest.raises(BundleError, match=r"'energy', 'tensor\(float\)', None\)\], its card says"):
        Bundle.open(copy)


# Formats and arrows


@pytest.mark.parametrize("format", [1, 2])
def test_bundles_of_each_format_still_open(format: int) -> None:
    bundle = Bundle.open(COMMITTED / f"bundle-v{format}")
    assert (bundle.card.format, bundle.card.name) == (format, "digits")
    assert (bundle.card.flops is None) == (format == 1)  # they were not counted then
    assert {way.name for way in bundle.card.parity.ways} == (set() if format == 1 else {"trained", "onnx", "http"})
    assert (bundle.card.rehearsal is None) == (format == 1)
    right = [
        s.label == bundle.classify(f).label for s, f in zip(bundle.golden.samples, bundle.golden.files, strict=True)
    ]
    assert sum(right) >= 6


def test_format_2_may_grow_until_the_first_release_which_closes_it() -> None:
    """Whoever writes that release into the change log gives later fields of cards, manifests, golden records and alias
    files the next number, and says so here and in docs/models.md."""
    lines = (COMMITTED.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## Unreleased"]
    assert (manifest.FORMAT, aliases.FORMAT) == (2, 2)


@pytest.mark.slow
def test_a_bundle_is_opened_without_torch_or_the_training_libraries() -> None:
    banned = "{'torch', 'torchvision', 'sklearn', 'prefect', 'bentoml', 'onnx', 'scipy.stats'}"
    code = f"import sys, models.bundle.bundle; print(*sorted({banned} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
