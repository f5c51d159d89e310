"""Does everything that answers for a model answer as the trained network does? Asked over the files of the test split.

The files are read and decoded as a request is, a few at a time, whatever their number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import PIL

from data.errors import UnreadableImage
from data.images import Images
from data.preprocess import centre, to_pixels
from data.progress import Progress, ignore
from models.bundle.golden import LOOSEST
from models.cards import ClassParity, Parity, Way

AT_ONCE = 64  # pictures
AT_ONCE_BYTES = 32 << 20  # of their files; one that is larger goes alone
ASKED = "test pictures asked every way"

Answer = Callable[[np.ndarray], np.ndarray]
"""uint8 pixels (N, H, W, C) -> probabilities (N, K) float32."""

Ask = Callable[[Sequence[bytes]], np.ndarray | None]
"""Files of pictures -> probabilities (N, K) float32; None: it cannot answer, now or any more."""

# What is wrong where a way differs, and what to do about it. `trained` stops nothing: a GPU may compute in fewer bits.
SAID = {
    "onnx": "the exported model is not the trained one: ",
    "http": "a service on the exported model does not answer as the trained network does: ",
}
REMEDY = "use another torch or onnxruntime version, or raise release.parity if that is acceptable"


NONE: Mapping[str, Answer] = MappingProxyType({})


class ExportError(RuntimeError):
    """The exported model is not the trained one: the run fails."""


class ServedOtherwiseError(ExportError):
    """The exported model is the trained one, but a service on it does not answer like its graph."""


class Tally:
    """How far answers are from the trained network's, by class."""

    def __init__(self, num_classes: int) -> None:
        self._n, self._changed = (np.zeros(num_classes, dtype=np.int64) for _ in range(2))
        self._largest = np.zeros(num_classes)
        self._widest = 0.0  # margin of the trained answer over the one that it changed to

    @property
    def n(self) -> int:
        return int(self._n.sum())

    @property
    def largest(self) -> float:
        return float(self._largest.max())

    @property
    def changed(self) -> int:
        return int(self._changed.sum())

    def add(self, expected: np.ndarray, found: np.ndarray, labels: np.ndarray) -> None:
        """Both (N, K); labels (N,) int64. Raises `ExportError` for answers of another shape."""
        if found.shape != expected.shape or len(found) != len(labels):
            raise ExportError(
                f"the exported model answers {found.shape} to a batch of {len(labels)}, the trained "
                f"{expected.shape}; write the network so that any batch size passes"
            )
        rows, answers = np.arange(len(expected)), found.argmax(axis=1)
        differs = expected.argmax(axis=1) != answers
        margins = expected.max(axis=1) - expected[rows, answers]
        self._widest = max(self._widest, float(margins[differs].max(initial=0.0)))
        np.maximum.at(self._largest, labels, np.abs(found - expected).max(axis=1))  # keeps NaN
        np.add.at(self._changed, labels, differs)
        np.add.at(self._n, labels, 1)

    def require(self, tolerance: float, *, said: str = SAID["onnx"], error: type[ExportError] = ExportError) -> None:
        """Raises `error` where they differ by more than that.

        A changed answer between two classes that were equally probable, within the tolerance, is let through.
        """
        if not self.largest <= tolerance or self._widest > tolerance:
            raise error(
                f"{said}over {self.n} pictures probabilities differ by up to {self.largest:.1e} (tolerance "
                f"{tolerance:.1e}) and {self.changed} answers change; {REMEDY}"
            )

    def way(self, name: str, classes: Sequence[str]) -> Way:
        per_class = tuple(
            ClassParity(
                label=classes[k],
                n=int(self._n[k]),
                largest_difference=float(self._largest[k]),
                changed_answers=int(self._changed[k]),
            )
            for k in map(int, np.flatnonzero(self._n))
        )
        figures = {"n": self.n, "largest_difference": self.largest, "changed_answers": self.changed}
        return Way.model_validate({"name": name, **figures, "per_class": per_class})


def over_files(
    images: Images,
    test: np.ndarray,
    *,
    trained: Answer,
    exported: Answer,
    evaluated: np.ndarray | None = None,
    served: Ask | None = None,
    variants: Mapping[str, Answer] = NONE,
    by: str = "float",
    at_once: int = AT_ONCE,
    tolerance: float,
    progress: Progress = ignore,
) -> Parity:
    """Each way to ask against `trained`. test: rows of `images`; evaluated: (rows, K), what the figures rest on;
    variants: graphs in fewer bits, which are as far off as they are; by: which of them the service answers with.

    Raises `ExportError` where the graph or the service differs by more than `tolerance`, and for a file that no longer
    gives the pixels that were trained on.
    """
    tallies = {name: Tally(len(images.classes)) for name in ("trained", "onnx", *variants, "http")}
    done = 0
    progress(ASKED, done, len(test))
    for rows, files in _read(images, test, min(at_once, AT_ONCE)):
        pixels = np.stack([_decoded(images, row, file) for row, file in zip(rows, files, strict=True)])
        expected = trained(pixels)
        answers = {"onnx": exported(pixels)} | {name: answer(pixels) for name, answer in variants.items()}
        if evaluated is not None:
            answers["trained"] = evaluated[done : done + len(rows)]
        if served is not None and (told := served(files)) is not None:
            answers["http"] = told
        _require({name: tallies[name] for name in tallies.keys() - answers.keys()}, tolerance, by)  # as far as it came
        tallies = {name: tally for name, tally in tallies.items() if name in answers}
        for name, tally in tallies.items():
            tally.add(answers.get(by, expected) if name == "http" else expected, answers[name], images.labels[rows])
        done += len(rows)
        progress(ASKED, done, len(test))
    _require(tallies, tolerance, by)
    graph, ways = tallies["onnx"], tuple(tally.way(name, images.classes) for name, tally in tallies.items())
    return Parity(n=graph.n, largest_difference=graph.largest, changed_answers=graph.changed, ways=ways)


def _require(tallies: Mapping[str, Tally], tolerance: float, by: str) -> None:
    # Eight bits round a sum that another number of threads added up otherwise to the next step.
    rounded = tolerance if by == "float" else max(tolerance, LOOSEST)
    served = SAID["http"] if by == "float" else f"a service on it does not answer as the {by} graph does: "
    if "onnx" in tallies:
        tallies["onnx"].require(tolerance)
    if "http" in tallies:
        tallies["http"].require(rounded, said=served, error=ServedOtherwiseError)


def _read(images: Images, test: np.ndarray, at_once: int) -> Iterator[tuple[np.ndarray, list[bytes]]]:
    """(rows, their files), bounded in number and bytes."""
    rows: list[int] = []
    files: list[bytes] = []
    size = 0
    for row in map(int, test):
        file = _bytes_of(images, row)
        if rows and (len(rows) == at_once or size + len(file) > AT_ONCE_BYTES):
            yield np.array(rows), files
            rows, files, size = [], [], 0
        rows.append(row)
        files.append(file)
        size += len(file)
    if rows:
        yield np.array(rows), files


def _bytes_of(images: Images, row: int) -> bytes:
    try:
        return images.path(row).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ExportError(f"{images.path(row)} cannot be read any more ({reason}); put it back and run again") from None


def _decoded(images: Images, row: int, file: bytes) -> np.ndarray:
    """What a request with this file is decoded to, which is what was trained on and tested with."""
    try:
        found = to_pixels(file, images.spec)
        if np.array_equal(found, centre(images.pixels[row], images.spec)):
            return found
    except UnreadableImage:
        pass
    raise ExportError(
        f"{images.path(row)} no longer gives the pixels that were trained on (Pillow is {PIL.__version__}); "
        "delete the images folder in TRAINSERVE_HOME and run again"
    )
