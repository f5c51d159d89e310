"""Worse pictures: which, how the two models are compared on them, and what is refused."""

import io
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.preprocess import to_pixels
from data.spec import ImageSpec
from data.turned import ORIENTATION
from models.config import ReleaseConfig
from models.evaluation.robustness import LEVELS, Asked, Shown, answered, choose, levels, robustness, variants
from models.verdict import Level

DOCS = Path(__file__).parents[2] / "docs" / "release.md"
SPEC = ImageSpec(height=16, width=16, channels=3)
NAMES = [f"{kind} {strength:g}" for kind, strength in LEVELS]


def photo(folder: Path, name: str = "a.png", *, size: tuple[int, int] = (48, 32), bright: int = 128) -> Path:
    """A ramp around a brightness."""
    pixels = np.clip(bright + np.linspace(-60, 60, size[0])[None, :, None] + np.zeros((size[1], 1, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return folder / name


def shown_of(file: Path, *, largest: int = 256) -> dict[str, np.ndarray]:
    files = variants(file, "ab" * 32, largest=largest)
    return dict(zip(NAMES, [np.asarray(Image.open(io.BytesIO(f)), dtype=np.float64) for f in files], strict=True))


def test_each_level_is_what_its_name_says(tmp_path):
    file = photo(tmp_path)
    made = shown_of(file)
    plain = made["unchanged 0"]
    np.testing.assert_array_equal(plain, np.asarray(Image.open(file)))
    assert np.std(made["noise 8"] - plain) == pytest.approx(8, rel=0.05)
    assert np.std(made["noise 16"] - plain) == pytest.approx(16, rel=0.05)
    np.testing.assert_allclose(made["brightness 0.6"], 0.6 * plain, atol=0.51)
    np.testing.assert_allclose(made["brightness 1.5"], np.minimum(255, 1.5 * plain), atol=0.51)
    assert 0 < np.abs(made["jpeg 50"] - plain).mean() < np.abs(made["jpeg 20"] - plain).mean()


def test_blur_is_gaussian_with_the_stated_width(tmp_path):
    line = np.zeros((33, 33, 3), np.uint8)
    line[:, 16] = 255
    Image.fromarray(line).save(tmp_path / "line.png")
    for strength in (1, 2):
        profile = shown_of(tmp_path / "line.png")[f"blur {strength}"][16, :, 0]
        spread = np.sqrt((profile * (np.arange(33) - 16) ** 2).sum() / profile.sum())
        assert spread == pytest.approx(strength, rel=0.15)


def test_a_picture_is_changed_the_same_way_every_time_and_another_one_otherwise(tmp_path):
    file = photo(tmp_path)
    assert variants(file, "ab" * 32, largest=256) == variants(file, "ab" * 32, largest=256)
    assert variants(file, "ab" * 32, largest=256)[3] != variants(file, "cd" * 32, largest=256)[3]


def test_pictures_are_upright_and_no_larger_than_needed(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (600, 300), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert shown_of(tmp_path / "turned.jpg")["blur 1"].shape == (256, 128, 3)
    Image.new("L", (30, 20)).save(tmp_path / "grey.png")
    assert shown_of(tmp_path / "grey.png")["noise 8"].shape == (20, 30)


def test_what_was_not_changed_is_decoded_as_the_file_itself(tmp_path):
    file = photo(tmp_path)
    np.testing.assert_array_equal(to_pixels(variants(file, "0" * 64, largest=256)[0], SPEC), to_pixels(file, SPEC))


def test_a_share_of_every_class_is_chosen_and_always_the_same():
    shown = [Shown(Path(f"{i}"), f"{i * 7919 % 4000:064x}", 0 if i < 3000 else 1) for i in range(4000)]
    model = Asked(SPEC, predict=lambda pixels: pixels)
    chosen = choose(shown, [model])
    assert [sum(one.label == label for one in chosen) for label in (0, 1)] == [750, 250]
    assert choose(shown[::-1], [model]) == chosen
    assert choose(shown[:20], [model, model]) != shown[:20]  # all of them, in another order
    assert len(choose(shown[:20], [model])) == 20


def test_fewer_pictures_are_chosen_where_answers_are_dear():
    shown = [Shown(Path(f"{i}"), f"{i:064x}", i % 2) for i in range(4000)]
    sizes = [len(choose(shown, [Asked(SPEC, lambda p: p, flops)] * 2)) for flops in (10**6, 10**8, 10**11)]
    assert sizes[0] == 1000 > sizes[1] > sizes[2] == 100


def by_brightness(pixels: np.ndarray) -> np.ndarray:
    """Class 1 iff the picture is bright."""
    bright = pixels.mean(axis=(1, 2, 3)) > 128
    return np.stack([~bright, bright], axis=1).astype(np.float32)


def test_both_models_answer_the_same_changed_pictures_each_in_its_own_geometry(tmp_path):
    shown = [Shown(photo(tmp_path, f"{i}.png", bright=(100, 150)[i % 2]), f"{i:064x}", i % 2) for i in range(6)]
    small = ImageSpec(height=8, width=8, channels=1)
    heard: list[tuple[str, int, int]] = []
    models = [Asked(SPEC, by_brightness), Asked(small, by_brightness)]
    right = answered(shown, models, progress=lambda *told: heard.append(told))
    assert right.shape == (2, 6, len(LEVELS))
    assert heard[-1] == ("answers to worse pictures", 6, 6)
    by_name = dict(zip(NAMES, right[0].mean(axis=0), strict=True))
    assert by_name["unchanged 0"] == by_name["blur 2"] == by_name["noise 16"] == 1
    assert by_name["brightness 0.6"] == by_name["brightness 1.5"] == 0.5  # all are dark, or all bright
    np.testing.assert_array_equal(right[0], right[1])


def figures(new: dict[str, float], *, n: int = 400) -> tuple[Level, ...]:
    """A champion with 90 % at every level, and a challenger that loses as said and otherwise is like it."""
    right = np.zeros((2, n, len(LEVELS)), dtype=bool)
    right[:, : round(0.9 * n)] = True
    for name, share in new.items():
        right[0, : round(share * n), NAMES.index(name)] = False
    return levels(right)


def test_a_model_that_falls_under_noise_is_refused_with_both_figures():
    check = robustness(figures({"noise 16": 0.1}), margin=0.05, confidence=0.95)
    assert (check.ok, check.limit) == (False, -0.05)
    assert check.value == pytest.approx(-0.1)
    assert "noise of 16 leaves 80.0 % of 400 right, against 90.0 % by the champion (p < 0.001)" in check.said
    assert "allowed by release.robust_margin" in check.said


@pytest.mark.parametrize(("loss", "n"), [(0.04, 1000), (0.08, 50)])
def test_a_loss_within_the_margin_or_by_accident_is_not(loss, n):
    assert robustness(figures({"blur 2": loss}, n=n), margin=0.05, confidence=0.95).ok is True


def test_what_the_unchanged_pictures_show_is_not_counted_here():
    assert robustness(figures({"unchanged 0": 0.3}), margin=0.05, confidence=0.95).ok is True


def test_a_level_that_the_champion_does_not_bear_decides_nothing():
    right = np.ones((2, 400, len(LEVELS)), dtype=bool)
    right[1, :120, 2], right[0, :, 2] = False, False  # the champion keeps 70 %, the challenger none
    assert robustness(levels(right), margin=0.05, confidence=0.95).ok is True
    right[1, :90, 2] = True  # 92.5 %
    check = robustness(levels(right), margin=0.05, confidence=0.95)
    assert (check.ok, check.said[:14]) == (False, "blur of 2 px l")


def test_of_a_first_model_it_is_told_and_decides_nothing():
    check = robustness(levels(np.ones((1, 10, len(LEVELS)), dtype=bool)), margin=0.05, confidence=0.95)
    assert check.ok is None
    assert "leaves 100.0 % of 10 right" in check.said


@pytest.mark.slow
def test_an_equal_model_is_hardly_ever_refused_and_one_that_lost_ten_points_nearly_always():
    """At each level a tenth of the answers differ; 300 pictures."""
    rng = np.random.default_rng(0)

    def refused(lost: float, gained: float) -> float:
        u = rng.random((300, 300, len(LEVELS)))
        pairs = [np.stack([(one > lost), (one < 1 - gained)]) for one in u]
        return float(np.mean([robustness(levels(p), margin=0.05, confidence=0.95).ok is False for p in pairs]))

    assert refused(0.05, 0.05) <= 0.05
    assert refused(0.12, 0.02) >= 0.95


@pytest.mark.slow
def test_the_power_in_the_docs_is_what_is_simulated():
    """At one level, where 5 of 100 answers are gained beside what is lost."""
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) % \| (\d+) % \| (\d+) % \|$", DOCS.read_text(), flags=re.MULTILINE)
    assert len(rows) == 4
    rng = np.random.default_rng(0)
    for pictures, *stated in rows:
        n = int(pictures.replace(",", ""))
        for loss, percent in zip((0.15, 0.20, 0.25), stated, strict=True):
            counts = rng.multinomial(n, [loss + 0.05, 0.05, 0.9 - loss], size=1000)
            found = [lost(n, *map(int, pair[:2])) for pair in counts]
            assert 100 * np.mean(found) == pytest.approx(int(percent), abs=100 * 3 * 0.016 + 0.5)


@cache
def lost(n: int, lost: int, gained: int) -> bool:
    """Whether a challenger is refused for so many pictures at one level."""
    right = np.ones((2, n, len(LEVELS)), dtype=bool)
    right[0, :lost, 1], right[1, n - gained :, 1] = False, False
    config = ReleaseConfig()
    assert config.robust_margin is not None
    return robustness(levels(right), margin=config.robust_margin, confidence=config.confidence).ok is False
