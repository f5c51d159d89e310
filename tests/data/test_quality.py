"""What is wrong with a picture by its looks: the scores of cleanvision, from stored pixels and in pieces."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from data.gate import measuring, quality
from data.gate.sharpness import sharpness
from data.workers import ROOT

SIDE = 96


def photograph(seed: int, side: int = SIDE) -> np.ndarray:
    """Soft blots of all brightnesses under sharp grain: uint8 (side, side, 3)."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)
    return (soft + random.normal(0, 30, soft.shape)).clip(0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


GOOD = photograph(0)
FAULTS = {
    "dark": (GOOD * 0.1).astype(np.uint8),
    "light": (255 - (255 - GOOD.astype(float)) * 0.03).astype(np.uint8),
    "blank": np.full_like(GOOD, 90),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_a_worse_score_than_a_good_picture(fault):
    scores = quality.looks(np.stack([GOOD, FAULTS[fault]]))
    good, bad = scores[fault]
    assert bad < good
    assert min(good, bad) >= 0
    assert max(good, bad) <= 1


def test_the_more_a_picture_is_blurred_the_worse_its_score():
    scores = sharpness([blurred(GOOD, radius) for radius in (0, 1.5, 3, 6)])
    assert list(scores) == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.2


def test_sharpness_is_that_of_edges_and_not_of_light_contrast_or_the_frame():
    soft = blurred(GOOD, 3)
    framed = soft.copy()
    framed[[0, -1]], framed[:, [0, -1]] = 255 - framed[[0, -1]], 255 - framed[:, [0, -1]]
    darker, frame = sharpness([soft // 2, framed]) - sharpness([soft])
    assert abs(darker) < 0.02
    assert 0 <= frame < sharpness([GOOD])[0] - sharpness([soft])[0]  # a frame is an edge, and no more than one


def test_a_slope_of_light_is_as_soft_as_can_be_and_a_chessboard_as_sharp():
    slope = np.tile(np.arange(32, dtype=np.uint8), (32, 1))
    chess = (255 * (np.indices((32, 32)).sum(axis=0) % 2)).astype(np.uint8)
    assert sharpness([slope[..., None], chess[..., None]]) == pytest.approx([0, 1])


def test_what_has_no_edge_is_not_called_blurred():
    assert sharpness([np.full((40, 40, 3), 90, np.uint8), np.zeros((2, 40, 1), np.uint8)]) == pytest.approx([1, 1])


def test_a_blur_is_judged_as_a_share_of_the_picture_whatever_its_size():
    large = photograph(1, 192)
    small = np.asarray(Image.fromarray(large).resize((64, 64), Image.Resampling.BOX))
    assert sharpness([blurred(large, 9)]) == pytest.approx(sharpness([blurred(small, 3)]), abs=0.02)


def test_each_fault_is_the_worst_of_its_rule():
    pixels = np.stack([GOOD, *FAULTS.values()])
    scores = quality.looks(pixels)
    worst = {name: int(np.argmin(scores[name])) for name in FAULTS}
    assert worst == {"dark": 1, "light": 2, "blank": 3}


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_those_that_cleanvision_itself_finds(channels, tmp_path):
    """Its own way, which decodes files, one at a time and into a table."""
    from cleanvision import Imagelab  # seconds, which the other tests need not wait for

    pixels = np.stack([photograph(seed)[..., :channels] for seed in range(6)] + [GOOD[..., :channels] // 9])
    for row, picture in enumerate(pixels):
        Image.fromarray(picture.squeeze()).save(tmp_path / f"{row}.png")
    lab = Imagelab(filepaths=[str(tmp_path / f"{row}.png") for row in range(len(pixels))], verbose=False)
    lab.find_issues({issue: {} for issue in quality.ISSUES.values()}, n_jobs=1, verbose=False)
    ours = quality.looks(pixels)
    for name, theirs in quality.ISSUES.items():
        assert ours[name] == pytest.approx(lab.issues[f"{theirs}_score"].to_numpy(), abs=1e-6)


def test_pictures_are_measured_alike_in_one_piece_and_in_several(monkeypatch):
    pixels = np.stack([photograph(seed, 16) for seed in range(7)])
    whole = quality.looks(pixels)
    monkeypatch.setattr(measuring, "CHUNK", 3)
    for name, scores in quality.looks(pixels).items():
        assert scores.tolist() == whole[name].tolist()


def test_no_pictures_have_no_scores():
    scores = quality.looks(np.zeros((0, SIDE, SIDE, 3), np.uint8))
    assert {name: len(values) for name, values in scores.items()} == dict.fromkeys(quality.LOOKS, 0)
    rows, values = quality.odd_sizes(np.zeros((0, 2), np.int32), iqrs=3)
    assert len(rows) == len(values) == 0


def test_what_lies_below_the_threshold_comes_worst_first():
    assert quality.below(np.array([0.3, 0.9, 0.1, 0.31]), 0.31).tolist() == [2, 0]


def test_sizes_are_those_of_the_files_and_need_no_decoding(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(photograph(0)[:, :40]).save(whole)
    cut_off = tmp_path / "cut_off.png"
    cut_off.write_bytes(whole.read_bytes()[:100])  # its header is there, its pixels are not
    assert quality.sizes([whole, cut_off]).tolist() == [[40, 96], [40, 96]]
    assert quality.sizes([]).shape == (0, 2)


def test_a_squeezed_picture_is_far_from_square_either_way():
    assert quality.aspects(np.array([[100, 100], [30, 100], [100, 30]])) == pytest.approx([1, 0.3, 0.3])


def test_a_size_is_odd_where_it_lies_far_outside_the_quartiles():
    usual = [(100 + i, 100 + i) for i in range(40)]
    rows, scores = quality.odd_sizes(np.array([*usual, (200, 200), (240, 240)]), iqrs=3)
    assert rows.tolist() == [41, 40]
    assert scores[41] <= scores[40] < scores[0]
    assert not len(quality.odd_sizes(np.array(usual), iqrs=3)[0])


def test_where_all_sizes_are_one_any_other_is_odd():
    rows, _ = quality.odd_sizes(np.array([(32, 32)] * 30 + [(33, 32)]), iqrs=3)
    assert rows.tolist() == [30]


@pytest.mark.slow
@settings(max_examples=50)
@given(sides=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1), iqrs=st.floats(0.5, 6))
def test_odd_sizes_are_those_that_cleanvision_itself_finds(sides: list[tuple[int, int]], iqrs: float):
    import pandas as pd
    from cleanvision.issue_managers.image_property import SizeProperty

    by_size, sizes = SizeProperty(), np.array(sides)
    raw = pd.DataFrame({by_size.name: np.sqrt(sizes.astype(np.float64).prod(axis=1))})
    theirs = by_size.get_scores(raw_scores=raw, issue_type="odd_size", iqr_factor=iqrs)
    odd = by_size.mark_issue(theirs, "odd_size")["is_odd_size_issue"].to_numpy(bool)
    rows, scores = quality.odd_sizes(sizes, iqrs=iqrs)
    assert set(rows.tolist()) == set(np.flatnonzero(odd).tolist())
    assert scores == pytest.approx(theirs["odd_size_score"].to_numpy(), abs=1e-6)


def test_only_what_is_asked_for_is_measured():
    pixels = np.stack([GOOD, *FAULTS.values()])
    assert list(quality.looks(pixels, ["blank"])) == ["blank"]
    assert quality.looks(pixels, ["blank"])["blank"].tolist() == quality.looks(pixels)["blank"].tolist()


@pytest.mark.slow
def test_quality_is_looked_for_without_loading_any_of_it_before():
    """The libraries take seconds, and most commands need none of them."""
    code = "import sys, data.gate.quality, data.gate.near; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(done.stdout.split()) & {"cleanvision", "imagehash", "pandas", "scipy", "matplotlib", "torch"}


# What follows measures means, which needs no library.


def means(pixels: np.ndarray) -> np.ndarray:
    return pixels.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """(20, 4, 5, 3) in a file."""
    file = tmp_path / "pixels.u8"
    np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8).tofile(file)
    return np.memmap(file, np.uint8, "r", shape=(20, 4, 5, 3))


@pytest.fixture
def in_processes(monkeypatch, tmp_path):
    """Everything but the first two chunks, in processes that run `means` as a module of this name."""
    monkeypatch.setattr(measuring, "CHUNK", 3)
    monkeypatch.setattr(measuring, "WORTH_SECONDS", -1.0)
    monkeypatch.setattr(measuring, "cores", lambda: 2)

    def as_module(body: str):
        (tmp_path / "means_of.py").write_text(
            "import os, numpy as np\nfrom data.gate import measuring\nmeasuring.CHUNK = 3\n" + body
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setattr(means, "__module__", "means_of")
        return means

    return as_module


WORKS = """
def means(pixels):
    print("a library that talks")
    return pixels.mean(axis=(1, 2), dtype=np.float32)
measuring.work(means)
"""


def brightest(pixels: np.ndarray, *names: str) -> np.ndarray:
    return pixels.max(axis=(1, 2)).astype(np.float32)[:, : len(names)]


NAMED = """
def brightest(pixels, *names):
    return pixels.max(axis=(1, 2)).astype(np.float32)[:, :len(names)]
measuring.work(brightest)
"""


@pytest.mark.slow
def test_processes_are_told_what_to_measure(mapped, in_processes, monkeypatch):
    in_processes(NAMED)
    monkeypatch.setattr(brightest, "__module__", "means_of")
    values = measuring.each(mapped, brightest, "brightest", "red", "green")
    assert values.tolist() == brightest(mapped, "red", "green").tolist()


@pytest.mark.slow
def test_processes_measure_what_this_process_would(mapped, in_processes):
    told = []
    values = measuring.each(
        mapped, in_processes(WORKS), "means", progress=lambda what, done, total: told.append((what, done, total))
    )
    assert values.tolist() == means(mapped).tolist()
    assert told[-1] == ("means", 20, 20)


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_not_waited_for(mapped, in_processes):
    with pytest.raises(RuntimeError, match="ended with status 7"):
        measuring.each(mapped, in_processes("os._exit(7)\n"), "means")


def test_pixels_that_are_no_whole_file_stay_in_this_process(mapped, in_processes):
    values = measuring.each(mapped[4:], in_processes("os._exit(7)\n"), "means")
    assert values.tolist() == means(mapped[4:]).tolist()
