"""The pictures a bundle tests itself with: files, the pixels they must give, the answers the trained network gave."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from data.spec import Frozen, ImageSpec
from models.bundle.manifest import BundleError, parse

RECORD = "golden/golden.json"
PIXELS = "golden/pixels.u8"

MOST = 17  # samples: ten classes as they are, four made difficult, three encoded otherwise
# Where a JPEG is decoded by another libjpeg than in training: no pixel is further off, and the answer is the same, or
# one that was nearly as probable.
LOSSY = 2  # of 255
NEARLY = 0.1  # of a probability
LOOSEST = 0.02  # tolerance that a bundle may state
IN_FEWER_BITS = 0.05  # of a variant's probabilities: another processor rounds otherwise, by 1e-2

Kind = Literal["plain", "turned", "rgba", "grey", "wide", "jpeg", "progressive", "webp"]
Format = Literal["png", "jpg", "webp"]
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
Decode = Callable[[bytes, ImageSpec], np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]


class Sample(Frozen):
    """One golden picture; the service's page shows the plain ones."""

    file: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}\.(png|jpg|webp)$")  # in golden/
    kind: Kind
    label: str  # the true one
    probabilities: tuple[float, ...]  # (K,) from the trained network, before export

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.file.rpartition(".")[2]]

    @property
    def lossy(self) -> bool:
        return self.file.endswith(".jpg")


class GoldenRecord(Frozen):
    """golden/golden.json."""

    format: Literal[1, 2] = 2
    tolerance: float = Field(gt=0, le=LOOSEST)  # of any probability; a fault in the arithmetic moves them further
    samples: tuple[Sample, ...] = Field(min_length=3, max_length=MOST)


class VariantRecord(Frozen):
    """golden/int8.json: what a graph in fewer bits answered to the same pictures."""

    format: Literal[2] = 2
    tolerance: float = Field(gt=0, le=IN_FEWER_BITS)
    probabilities: tuple[tuple[float, ...], ...] = Field(min_length=3, max_length=MOST)  # (n, K)


@dataclass(frozen=True)
class Golden:
    """n samples."""

    samples: tuple[Sample, ...]
    files: tuple[bytes, ...]  # (n,)
    pixels: np.ndarray  # (n, H, W, C) uint8: what the files became where the network was trained
    tolerance: float
    same_labels: bool = False  # required beside the tolerance, where that is a wide one

    @property
    def probabilities(self) -> np.ndarray:
        """(n, K) float32."""
        return np.array([sample.probabilities for sample in self.samples], dtype=np.float32)


def save(golden: Golden, folder: Path) -> None:
    """Write the samples into a bundle folder, over those that are there.

    Pixels are raw bytes in C order: the card states their shape, and no archive needs to be unpacked to read them.
    """
    (folder / "golden").mkdir(exist_ok=True)
    for sample, file in zip(golden.samples, golden.files, strict=True):
        (folder / "golden" / sample.file).write_bytes(file)
    (folder / PIXELS).write_bytes(golden.pixels.tobytes())
    record = GoldenRecord(tolerance=golden.tolerance, samples=golden.samples)
    (folder / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def variant_file(name: str) -> str:
    return f"golden/{name}.json"


def save_variant(name: str, probabilities: np.ndarray, folder: Path) -> None:
    """probabilities (n, K): of the variant, to the golden pixels."""
    rows = tuple(tuple(float(p) for p in row) for row in probabilities)
    record = VariantRecord(tolerance=IN_FEWER_BITS, probabilities=rows)
    (folder / variant_file(name)).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def of_variant(golden: Golden, name: str, contents: Mapping[str, bytes]) -> Golden:
    """The same pictures with the variant's answers. Raises `BundleError`."""
    file = variant_file(name)
    if file not in contents:
        raise BundleError(f"the bundle has no {file}, so its {name} graph cannot be tested; export the run again")
    record = parse(VariantRecord, contents[file], file)
    shape = golden.probabilities.shape
    if [len(row) for row in record.probabilities] != [shape[1]] * shape[0]:
        raise BundleError(f"{file} does not fit the {shape[0]} golden pictures; export the run again")
    samples = tuple(
        sample.model_copy(update={"probabilities": row})
        for sample, row in zip(golden.samples, record.probabilities, strict=True)
    )
    return replace(golden, samples=samples, tolerance=record.tolerance, same_labels=True)


def load(contents: Mapping[str, bytes], *, image: ImageSpec, classes: tuple[str, ...]) -> Golden:
    """The samples from a bundle's verified contents. Raises `BundleError`."""
    for name in (RECORD, PIXELS):
        if name not in contents:
            raise BundleError(f"the bundle has no {name}, so it cannot be tested; export the run again")
    record = parse(GoldenRecord, contents[RECORD], RECORD)
    for sample in record.samples:
        if f"golden/{sample.file}" not in contents:
            raise BundleError(f"{RECORD} names {sample.file}, which the bundle does not hold; export the run again")
        if sample.label not in classes or len(sample.probabilities) != len(classes):
            raise BundleError(f"{RECORD} does not fit the card's {len(classes)} classes; export the run again")
    shape = (len(record.samples), image.height, image.width, image.channels)
    raw = np.frombuffer(contents[PIXELS], dtype=np.uint8)
    if raw.size != np.prod(shape):
        raise BundleError(f"{PIXELS} has {raw.size} bytes, {shape} needs {np.prod(shape)}; export the run again")
    files = tuple(contents[f"golden/{sample.file}"] for sample in record.samples)
    return Golden(samples=record.samples, files=files, pixels=raw.reshape(shape), tolerance=record.tolerance)


def replay(golden: Golden, *, image: ImageSpec, decode: Decode, predict: Predict, made_with: str) -> None:
    """Decode and classify the samples as a request would be. Raises `BundleError` if anything differs from training.

    made_with: the versions that made the pixels, for the refusal.
    """
    for i, sample in enumerate(golden.samples):
        try:
            found = decode(golden.files[i], image)
        except ValueError as error:  # data.errors are ValueErrors
            raise BundleError(f"golden/{sample.file} cannot be decoded ({error}); refusing to serve") from None
        if not _alike(sample, found, golden.pixels[i], predict):
            raise BundleError(
                f"golden/{sample.file} ({sample.kind}) decodes to other pixels than in training ({made_with}); "
                "refusing to serve: install those versions, or export the run again"
            )
    found = predict(golden.pixels)
    gap = float(np.abs(found - golden.probabilities).max())
    if not gap <= golden.tolerance:  # so that NaN is refused
        raise BundleError(
            f"probabilities differ from training by {gap:.1e}, tolerance {golden.tolerance:.1e}; "
            "refusing to serve: export the run again"
        )
    if golden.same_labels and (found.argmax(axis=1) != golden.probabilities.argmax(axis=1)).any():
        raise BundleError("golden pictures are answered with other labels than where it was made")


def _alike(sample: Sample, found: np.ndarray, expected: np.ndarray, predict: Predict) -> bool:
    """Equal; of a JPEG, which every libjpeg decodes a little otherwise, as good as equal. Both u8 (H, W, C)."""
    if found.shape != expected.shape:
        return False
    if np.array_equal(found, expected):
        return True
    if not sample.lossy or np.abs(found.astype(int) - expected).max() > LOSSY:
        return False
    trained = np.array(sample.probabilities)
    return bool(trained.max() - trained[predict(found[None])[0].argmax()] <= NEARLY)
