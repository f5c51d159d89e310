"""Every way to ask a model, against the trained network: what is counted, what is refused, and how much is held."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.images import Images
from data.preprocess import to_pixels
from models.bundle import parity
from models.bundle.graph import compare
from models.bundle.parity import ExportError, Tally, over_files
from models.cards import Parity, Way
from tests.models.bundles import CLASSES, IMAGE, toy_images

BLANK = np.zeros((2, 1, 1, 1), dtype=np.uint8)
SURE = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return toy_images(tmp_path_factory.mktemp("pictures"))


# What is counted and what is refused


def tally(expected: list[list[float]], found: list[list[float]], labels: Sequence[int] = (0, 1)) -> Tally:
    counted = Tally(2)
    counted.add(np.array(expected, np.float32), np.array(found, np.float32), np.array(labels))
    return counted


def test_a_difference_above_the_tolerance_is_refused() -> None:
    off = tally([[0.9, 0.1], [0.2, 0.8]], [[0.88, 0.12], [0.2, 0.8]])
    with pytest.raises(ExportError, match=r"up to 2\.0e-02 \(tolerance 1\.0e-02\) and 0 answers change; .*parity"):
        off.require(0.01)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ExportError):
        tally([[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [np.nan, 0.8]]).require(0.01)


def test_a_coin_flip_within_the_tolerance_is_counted_and_let_through() -> None:
    off = tally([[0.501, 0.499], [0.2, 0.8]], [[0.499, 0.501], [0.2, 0.8]])
    off.require(0.01)
    assert (off.n, off.changed) == (2, 1)
    assert off.largest == pytest.approx(0.002, abs=1e-6)


def test_an_answer_that_changes_by_more_than_the_tolerance_is_refused() -> None:
    with pytest.raises(ExportError, match="1 answers change"):
        tally([[0.508, 0.492], [0.2, 0.8]], [[0.499, 0.501], [0.2, 0.8]]).require(0.01)


def test_differences_are_told_by_class_and_classes_without_pictures_are_left_out() -> None:
    counted = Tally(3)
    same, off = np.array([[0.6, 0.4, 0.0]], np.float32), np.array([[0.4, 0.6, 0.0]], np.float32)
    counted.add(same, same, np.array([0]))
    counted.add(same, off, np.array([2]))
    way = counted.way("http", ("ant", "bee", "cat"))
    assert [(one.label, one.n, one.changed_answers) for one in way.per_class] == [("ant", 1, 0), ("cat", 1, 1)]
    assert [one.largest_difference for one in way.per_class] == pytest.approx([0, 0.2])
    assert (way.n, way.changed_answers, way.largest_difference) == (2, 1, pytest.approx(0.2))


def test_a_graph_that_answers_to_fewer_pictures_than_it_was_given_is_refused() -> None:
    with pytest.raises(ExportError, match="any batch size passes"):
        compare(lambda _: SURE[:1], lambda _: SURE[:1], [BLANK], tolerance=0.01)


# Over the files of the test split


def trained(pixels: np.ndarray) -> np.ndarray:
    """By hand: the brighter a picture, the more of it is the first class."""
    bright = pixels.mean(axis=(1, 2, 3)) / 255
    rest = (1 - bright) / (len(CLASSES) - 1)
    return np.column_stack([bright, *[rest] * (len(CLASSES) - 1)]).astype(np.float32)


def by_file(files: Sequence[bytes]) -> np.ndarray:
    return trained(np.stack([to_pixels(file, IMAGE) for file in files]))


def asked(images: Images, **changes: Any) -> Parity:
    rows = np.arange(0, len(images.rows), 2)
    given = {"trained": trained, "exported": trained, "served": by_file, "tolerance": 1e-3, **changes}
    return over_files(images, rows, **given)


def ways(images: Images, **changes: Any) -> dict[str, Way]:
    return {way.name: way for way in asked(images, **changes).ways}


def test_network_graph_and_service_are_asked_about_the_same_files(images: Images) -> None:
    evaluated = trained(np.stack([to_pixels(images.path(row), IMAGE) for row in range(0, len(images.rows), 2)]))
    found = ways(images, evaluated=evaluated)
    assert list(found) == ["trained", "onnx", "http"]
    assert all((way.n, way.largest_difference, way.changed_answers) == (12, 0, 0) for way in found.values())


def test_a_service_that_answers_otherwise_is_no_bundle(images: Images) -> None:
    with pytest.raises(ExportError, match=r"a service on the exported model does not answer as .* differ by up to 1"):
        asked(images, served=lambda files: by_file(files) + 0.1)


def test_answers_of_another_device_are_told_and_refuse_nothing(images: Images) -> None:
    found = ways(images, evaluated=np.full((12, len(CLASSES)), 0.25, np.float32))
    assert found["trained"].largest_difference > 0.01
    assert found["http"].largest_difference == 0


def test_a_service_that_stops_answering_is_left_out_and_the_graph_is_compared_to_the_end(images: Images) -> None:
    left = [True, False, True]

    def failing(files: Sequence[bytes]) -> np.ndarray | None:
        return by_file(files) if left.pop(0) else None

    found = ways(images, served=failing, at_once=5)
    assert list(found) == ["onnx"]
    assert found["onnx"].n == 12


def test_what_a_service_answered_before_it_stopped_counts(images: Images) -> None:
    left = [True, False, True]

    def failing(files: Sequence[bytes]) -> np.ndarray | None:
        return by_file(files) + 0.1 if left.pop(0) else None

    with pytest.raises(ExportError, match=r"does not answer as .* over 5 pictures"):
        asked(images, served=failing, at_once=5)


def test_few_pictures_and_few_bytes_are_held_at_a_time(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[list[bytes]] = []

    def served(files: Sequence[bytes]) -> np.ndarray:
        held.append(list(files))
        return by_file(files)

    asked(images, served=served, at_once=5)
    assert [len(files) for files in held] == [5, 5, 2]
    held.clear()
    most = 3 * max(len(images.path(row).read_bytes()) for row in range(len(images.rows)))
    monkeypatch.setattr(parity, "AT_ONCE_BYTES", most)
    asked(images, served=served)
    assert sum(map(len, held)) == 12
    assert all(sum(map(len, files)) <= most for files in held)
    monkeypatch.setattr(parity, "AT_ONCE_BYTES", 1)  # every file is larger
    held.clear()
    asked(images, served=served)
    assert [len(files) for files in held] == [1] * 12


def test_it_is_told_how_far_it_is(images: Images) -> None:
    told: list[tuple[str, int, int]] = []
    asked(images, at_once=5, progress=lambda *moved: told.append(moved))
    assert [done for _, done, _ in told] == [0, 5, 10, 12]
    assert {total for _, _, total in told} == {12}


@pytest.mark.parametrize("content", [b"rubbish", None])
def test_a_file_that_changed_since_training_is_named(tmp_path: Path, content: bytes | None) -> None:
    images = toy_images(tmp_path / "pictures", per_class=2)
    file = images.path(2)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(ExportError, match=f"{file.name} (cannot be read any more|no longer gives the pixels)"):
        asked(images)
