"""The pictures a bundle tests itself with: files, the pixels they must give, the answers the trained network gave."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from data.spec import Frozen, ImageSpec
from models.bundle.manifest import BundleError, parse

RECORD = "golden/golden.json"
PIXELS = "golden/pixels.u8"

MOST = 14  # samples: ten classes as they are, and four made difficult

Kind = Literal["plain", "turned", "rgba", "grey", "wide"]
Decode = Callable[[bytes, ImageSpec], np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]


class Sample(Frozen):
    """One golden picture; the service's page shows the plain ones."""

    file: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}\.png$")  # in golden/
    kind: Kind
    label: str  # the true one
    probabilities: tuple[float, ...]  # (K,) from the trained network, before export


class GoldenRecord(Frozen):
    """golden/golden.json."""

    format: Literal[1] = 1
    tolerance: float = Field(gt=0, le=0.02)  # of any probability; a fault in the arithmetic moves them further
    samples: tuple[Sample, ...] = Field(min_length=3, max_length=MOST)


@dataclass(frozen=True)
class Golden:
    """n samples."""

    samples: tuple[Sample, ...]
    files: tuple[bytes, ...]  # (n,) PNG
    pixels: np.ndarray  # (n, H, W, C) uint8: what the files became where the network was trained
    tolerance: float

    @property
    def probabilities(self) -> np.ndarray:
        """(n, K) float32."""
        return np.array([sample.probabilities for sample in self.samples], dtype=np.float32)


def save(golden: Golden, folder: Path) -> None:
    """Write the samples into a bundle folder.

    Pixels are raw bytes in C order: the card states their shape, and no archive needs to be unpacked to read them.
    """
    (folder / "golden").mkdir()
    for sample, file in zip(golden.samples, golden.files, strict=True):
        (folder / "golden" / sample.file).write_bytes(file)
    (folder / PIXELS).write_bytes(golden.pixels.tobytes())
    record = GoldenRecord(tolerance=golden.tolerance, samples=golden.samples)
    (folder / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


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
    for sample, file, expected in zip(golden.samples, golden.files, golden.pixels, strict=True):
        try:
            found = decode(file, image)
        except ValueError as error:  # data.errors are ValueErrors
            raise BundleError(f"golden/{sample.file} cannot be decoded ({error}); refusing to serve") from None
        if found.shape != expected.shape or not np.array_equal(found, expected):
            raise BundleError(
                f"golden/{sample.file} ({sample.kind}) decodes to other pixels than in training ({made_with}); "
                "refusing to serve: install those versions, or export the run again"
            )
    gap = float(np.abs(predict(golden.pixels) - golden.probabilities).max())
    if not gap <= golden.tolerance:  # so that NaN is refused
        raise BundleError(
            f"probabilities differ from training by {gap:.1e}, tolerance {golden.tolerance:.1e}; "
            "refusing to serve: export the run again"
        )
