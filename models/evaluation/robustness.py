"""How many answers stay right when pictures get worse, as cameras and web pages make them. No torch here.

The same test pictures are blurred, made noisy, saved as a poor JPEG, darkened or brightened, at the size that their
files have (at most `LARGEST` pixels, or twice what the network sees), and go from there the way of every picture: each
model decodes them by its own geometry. A picture's noise is decided by its content, so that two models, and the same
model tomorrow, see the same one. The kinds are four of the fifteen of https://arxiv.org/abs/1903.12261, at two
strengths each, weaker than theirs: they are to be met in use.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from data.preprocess import to_pixels
from data.progress import Progress, ignore
from data.spec import ImageSpec
from data.upright import upright
from models.evaluation.checks import p, points
from models.evaluation.pairs import of_a_loss
from models.evaluation.percent import percent
from models.verdict import Check, Kind, Level

LEVELS: tuple[tuple[Kind, float], ...] = (
    ("unchanged", 0),
    ("blur", 1),  # standard deviation of the Gaussian, in pixels
    ("blur", 2),
    ("noise", 8),  # standard deviation, of 255
    ("noise", 16),
    ("jpeg", 50),  # quality, of 100
    ("jpeg", 20),
    ("brightness", 0.6),  # factor
    ("brightness", 1.5),
)
MOST, FEWEST = 1_000, 100  # pictures
LEFT = 0.75  # of the champion's right answers: where it keeps fewer, which of two models keeps more is chance
FLOPS = 1e12  # of all answers together: some ten seconds of one core
LARGEST_SPEC = 1024  # pixels of a side, of any `ImageSpec`
LARGEST = 256  # pixels; blur and noise of a photograph of millions would be gone once it is scaled down


@dataclass(frozen=True)
class Asked:
    """A model, as far as it is needed here."""

    image: ImageSpec
    predict: Callable[[np.ndarray], np.ndarray]  # u8 (N, H, W, C) -> (N, K), from any thread
    flops: int | None = None  # of one picture


@dataclass(frozen=True)
class Shown:
    """A test picture. `digest` (hex, of its content) decides its noise."""

    file: Path
    digest: str
    label: int


def choose(shown: Sequence[Shown], models: Sequence[Asked]) -> list[Shown]:
    """A share of each class's pictures, at most `MOST` together, and fewer where answers are dear; the same ones every
    time, since their contents decide."""
    each = len(LEVELS) * sum(model.flops or 0 for model in models)
    most = min(MOST, max(FEWEST, int(FLOPS / each))) if each else MOST
    by_class: dict[int, list[Shown]] = {}
    for one in sorted(shown, key=lambda one: one.digest):
        by_class.setdefault(one.label, []).append(one)
    spread = [((i + 0.5) / len(group), one) for group in by_class.values() for i, one in enumerate(group)]
    return [one for _, one in sorted(spread, key=lambda entry: (entry[0], entry[1].digest))[:most]]


def answered(shown: Sequence[Shown], models: Sequence[Asked], *, progress: Progress = ignore) -> np.ndarray:
    """bool (models, N, `LEVELS`): was the answer right. Raises `UnreadableImage`."""
    needed = 2 * max(side for model in models for side in (model.image.height, model.image.width))
    largest = min(max(LARGEST, needed), LARGEST_SPEC)

    def right(one: Shown) -> np.ndarray:
        files = variants(one.file, one.digest, largest=largest)
        pixels = {model.image: np.stack([to_pixels(file, model.image) for file in files]) for model in models}
        return np.stack([model.predict(pixels[model.image]).argmax(axis=1) == one.label for model in models])

    found = []
    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow, numpy and onnxruntime let others run meanwhile
    try:
        for answers in pool.map(right, shown):
            found.append(answers)
            progress("answers to worse pictures", len(found), len(shown))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for no more than what is under way
    return np.stack(found, axis=1)


def levels(right: np.ndarray) -> tuple[Level, ...]:
    """bool (1 or 2, N, `LEVELS`), of the challenger and of the champion, if there is one -> the figures of each."""
    found = []
    for column, (kind, strength) in enumerate(LEVELS):
        new, old = right[0, :, column], right[-1, :, column]
        level = Level(kind=kind, strength=strength, n=len(new), challenger=float(new.mean()))
        if len(right) == 2:
            level = level.model_copy(update={"champion": float(old.mean()), "p_value": of_a_loss(new, old)})
        found.append(level)
    return tuple(found)


def robustness(found: Sequence[Level], *, margin: float, confidence: float) -> Check:
    """Of what `levels` gives, unchanged pictures first. Refused for a loss of more than `margin` at a level that the
    champion bears, if it is no accident: one-sided exact McNemar, its error shared among the levels (Bonferroni)."""
    changed = [level for level in found if level.kind != "unchanged"]
    if any(level.p_value is None for level in changed):
        worst = min(changed, key=lambda level: level.challenger)
        said = f"{worst.name} leaves {percent(worst.challenger)} of {worst.n:,} right"
        return Check(name="robustness", value=worst.challenger, limit=None, ok=None, said=said)
    alpha, held = (1 - confidence) / len(changed), LEFT * (found[0].champion or 0.0)
    borne = [level for level in changed if (level.champion or 0.0) >= held]
    lost = [level for level in borne if -_gain(level) > margin and (level.p_value or 0.0) < alpha]
    worst = min(lost or borne or changed, key=_gain)
    theirs = percent(worst.champion or 0.0)
    said = (
        f"{worst.name} leaves {percent(worst.challenger)} of {worst.n:,} right, against {theirs} by the champion "
        f"(p {p(worst.p_value or 0.0)}); {points(-margin)} allowed by release.robust_margin"
    )
    return Check(name="robustness", value=_gain(worst), limit=-margin, ok=not lost, said=said)


def variants(file: Path, digest: str, *, largest: int) -> list[bytes]:
    """Picture files, one for each of `LEVELS`. Raises `UnreadableImage`."""
    picture = upright(file, largest=largest)
    rng = np.random.default_rng(int(digest[:16], 16))
    return [_changed(picture, kind, strength, rng) for kind, strength in LEVELS]


def _changed(picture: Image.Image, kind: Kind, strength: float, rng: np.random.Generator) -> bytes:
    match kind:
        case "unchanged":
            return _file(picture)
        case "blur":
            return _file(picture.filter(ImageFilter.GaussianBlur(strength)))
        case "noise":
            pixels = np.asarray(picture, dtype=np.float32)
            noisy = pixels + strength * rng.standard_normal(pixels.shape, dtype=np.float32)
            return _file(Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8)))
        case "jpeg":
            return _file(picture, "JPEG", quality=round(strength))
        case "brightness":
            return _file(picture.point(lambda value: min(255, round(strength * value))))


def _file(picture: Image.Image, kind: str = "BMP", **options: int) -> bytes:
    """BMP keeps every pixel and costs nothing to write."""
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def _gain(level: Level) -> float:
    """Accuracy beyond the champion's."""
    return level.challenger - (level.champion or 0.0)
