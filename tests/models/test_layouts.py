"""A bundle as other servers and registries have it: Triton's configuration is run as it stands, blobs are proved."""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models.bundle import layouts, manifest, oci
from models.bundle.bundle import Bundle
from models.bundle.manifest import BundleError
from models.records import ModelCard

BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v1"
CARD = ModelCard.model_validate_json((BUNDLE / "card.json").read_bytes())


def model_config() -> ModuleType:
    """Triton's own protobuf. Its package wants grpcio, which this file does not."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    file = Path(found.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Parse = text_format.Parse  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    assert layouts.triton(BUNDLE, CARD, folder) == folder / "digits"
    return folder


def test_triton_finds_a_model_where_it_looks_for_one(repository: Path):
    assert {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()} == {
        "digits/config.pbtxt",
        "digits/labels.txt",
        "digits/1/model.onnx",
        "digits/1/card.json",
    }


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_the_graph_run_by_tritons_configuration_answers_as_training_did(repository: Path, batch: int):
    triton, golden = model_config(), Bundle.open(BUNDLE).golden
    config = triton.Parse((repository / "digits/config.pbtxt").read_text(), triton.ModelConfig())
    (given,), (wanted,) = config.input, config.output
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "onnxruntime", 32)
    assert config.HasField("dynamic_batching")
    assert config.parameters["model"].string_value == f"digits@{CARD.version}"
    assert batch <= config.max_batch_size
    types = {triton.TYPE_UINT8: np.uint8, triton.TYPE_FP32: np.float32}
    rows = np.arange(batch) % len(golden.pixels)
    pixels = golden.pixels[rows].astype(types[given.data_type]).reshape(batch, *given.dims)
    graph = onnxruntime.InferenceSession(repository / "digits" / "1" / "model.onnx")
    (answer,) = graph.run([wanted.name], {given.name: pixels})
    assert (answer.dtype, answer.shape) == (types[wanted.data_type], (batch, *wanted.dims))
    assert np.abs(answer - golden.probabilities[rows]).max() <= golden.tolerance
    labels = (repository / "digits" / wanted.label_filename).read_text().splitlines()
    assert labels == list(CARD.classes)


def test_a_label_that_breaks_the_line_stays_one_line(tmp_path: Path):
    odd = CARD.model_copy(update={"classes": ("a\nb", *CARD.classes[1:])})
    folder = layouts.triton(BUNDLE, odd, tmp_path)
    assert (folder / "labels.txt").read_text().splitlines()[:2] == ["a b", "1"]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "layout").mkdir()
    oci.write(BUNDLE, CARD, tmp_path / "layout")
    return tmp_path / "layout"


def blob(layout: Path, described: dict[str, Any]) -> bytes:
    content = (layout / "blobs" / "sha256" / described["digest"].removeprefix("sha256:")).read_bytes()
    assert len(content) == described["size"]
    assert hashlib.sha256(content).hexdigest() == described["digest"].removeprefix("sha256:")
    return content


def test_every_file_is_a_blob_with_its_digest_size_and_name(layout: Path):
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_bytes())
    assert (index["schemaVersion"], index["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
    (entry,) = index["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == CARD.version
    artifact = json.loads(blob(layout, entry))
    assert artifact["mediaType"] == entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert artifact["artifactType"] == "application/vnd.trainserve.bundle.v1"
    assert artifact["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert blob(layout, artifact["config"]) == b"{}"
    held = {layer["annotations"]["org.opencontainers.image.title"]: blob(layout, layer) for layer in artifact["layers"]}
    assert held == {p.relative_to(BUNDLE).as_posix(): p.read_bytes() for p in BUNDLE.rglob("*") if p.is_file()}
    named = {described["digest"] for described in (entry, artifact["config"], *artifact["layers"])}
    assert {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()} == named


def test_what_is_read_from_a_layout_is_the_bundle_to_the_byte(layout: Path, tmp_path: Path):
    folder = oci.read(layout, tmp_path / "bundle")
    assert Bundle.open(folder).card == CARD
    for path in folder.rglob("*"):
        assert path.is_dir() or path.read_bytes() == (BUNDLE / path.relative_to(folder)).read_bytes()


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A layout whose artifact says something else, with digests that fit: as a forger would leave it."""

    def forge(layout: Path) -> None:
        index = json.loads((layout / "index.json").read_bytes())
        artifact = json.loads(blob(layout, index["manifests"][0]))
        change(artifact)
        raw = json.dumps(artifact).encode()
        digest = hashlib.sha256(raw).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(raw)
        index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(raw)}
        (layout / "index.json").write_text(json.dumps(index))

    return forge


def titled(*titles: str) -> Callable[[Path], None]:
    def change(artifact: dict[str, Any]) -> None:
        for layer, title in zip(artifact["layers"], titles, strict=False):
            layer["annotations"] = {"org.opencontainers.image.title": title}

    return rewritten(change)


def largest(layout: Path) -> Path:
    return max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def linked(layout: Path) -> None:
    moved = largest(layout)
    shutil.move(moved, layout.parent / "elsewhere")
    moved.symlink_to(layout.parent / "elsewhere")


def two(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] *= 2
    (layout / "index.json").write_text(json.dumps(index))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte changed": (lambda layout: largest(layout).write_bytes(b"x" + largest(layout).read_bytes()[1:]), "changed"),
    "a byte less": (lambda layout: largest(layout).write_bytes(largest(layout).read_bytes()[:-1]), "was changed"),
    "a blob missing": (lambda layout: largest(layout).unlink(), "cannot be read"),
    "a link": (linked, "cannot be read"),
    "a name above": (titled("../x"), "called '../x'"),
    "a name elsewhere": (titled("/etc/passwd"), "called '/etc/passwd'"),
    "a name too deep": (titled("a/b/c"), "called 'a/b/c'"),
    "a hidden name": (titled("golden/.x"), r"called 'golden/\.x'"),
    "no name": (rewritten(lambda artifact: artifact["layers"][0].pop("annotations")), "called ''"),
    "a name twice": (titled("x", "x"), "two files of the same name"),
    "a file that is a folder": (titled("golden", "golden/x"), "cannot be unpacked"),
    "another size": (rewritten(lambda a: a["layers"][0].update(size=1)), "was changed"),
    "a digest that is a path": (rewritten(lambda a: a["layers"][0].update(digest="sha256:../../x")), "no OCI artifact"),
    "another kind": (rewritten(lambda a: a.update(artifactType="application/vnd.cncf.helm")), "no bundle of this"),
    "too many files": (rewritten(lambda a: a.update(layers=a["layers"] * 9)), "no OCI artifact"),
    "two artifacts": (two, "holds 2 artifacts"),
    "no JSON": (lambda layout: (layout / "index.json").write_bytes(b"\xff{"), "no OCI index"),
    "an index without end": (lambda layout: (layout / "index.json").write_bytes(b" " * (2 << 20)), "at most 1048576"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_layout_that_lies_is_refused_in_a_sentence(layout: Path, tmp_path: Path, fault: str):
    spoil, sentence = HOSTILE[fault]
    spoil(layout)
    with pytest.raises(BundleError, match=sentence):
        oci.read(layout, tmp_path / "bundle")
    outside = {path.name for path in tmp_path.iterdir()} - {"layout", "bundle", "elsewhere"}
    assert not outside


def test_what_a_layout_adds_to_a_bundle_is_refused_by_whoever_opens_it(layout: Path, tmp_path: Path):
    titled("extra.bin")(layout)
    with pytest.raises(BundleError):
        manifest.verified(oci.read(layout, tmp_path / "bundle"))
