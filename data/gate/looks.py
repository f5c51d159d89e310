"""Rules about how single pictures look, how large they are and of what shape.

Looks are those of the decoded pictures. From 16 pixels a side on, and blur from 32: smaller ones are drawings of a few
dots, such as the 8 x 8 digits, of which no such score says anything, and the library takes a second to import. Sizes
and shapes are those of the files. All is measured once, and only for rules that are not ignored.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from data.errors import DataRefused, UnreadableImage
from data.gate import quality
from data.gate.config_looks import Blank, Blurred, Dark, Light, OddAspect, OddSize
from data.gate.found import Found, Spot, Subject
from data.gate.remembered import remembered
from data.gate.words import count

SMALLEST = {"dark": 16, "light": 16, "blank": 16, "blurred": 32}  # pixels of the shorter side
VERSION = 2  # of what is remembered; another one with every change of a measure
ADVICE = "drop, or keep"
TOLD_EVERY = 1000  # files
FACTOR = 2  # of the side of a square of that size

Setting = Dark | Light | Blank | Blurred | OddSize | OddAspect


def dark(subject: Subject, setting: Dark) -> Found | None:
    return _low(subject, "dark", setting, "too dark to see much")


def light(subject: Subject, setting: Light) -> Found | None:
    return _low(subject, "light", setting, "overexposed")


def blank(subject: Subject, setting: Blank) -> Found | None:
    return _low(subject, "blank", setting, "of one colour, or nearly")


def blurred(subject: Subject, setting: Blurred) -> Found | None:
    return _low(subject, "blurred", setting, "blurred")


def odd_size(subject: Subject, setting: OddSize) -> Found | None:
    """By the quartiles of all of them, whoever is left out; and as most files of many sets have one size, so that any
    other is far from the quartiles, only what is `FACTOR` times as long as the median, or the other way round."""
    sizes = sizes_of(subject)
    places, scores = quality.odd_sizes(sizes, iqrs=setting.threshold)
    if not len(places):
        return None
    side = np.sqrt(sizes.prod(axis=1, dtype=np.float64))
    places = places[np.abs(np.log(side[places] / np.median(side))) > np.log(FACTOR)]
    usual = " x ".join(f"{length:g}" for length in np.median(sizes, axis=0))
    return _found(subject, places, scores, f"much larger or smaller than the usual {usual}", setting, _sides(sizes))


def odd_aspect(subject: Subject, setting: OddAspect) -> Found | None:
    sizes = sizes_of(subject)
    shapes = quality.aspects(sizes)
    words = f"whose shorter side is less than {setting.threshold:g} of the longer one"
    return _found(subject, quality.below(shapes, setting.threshold), shapes, words, setting, _sides(sizes))


def looks_of(subject: Subject) -> dict[str, np.ndarray]:
    """Rule -> score (M,) of each decoded picture; of rules that are not ignored and have pictures large enough."""
    pixels, gate = subject.pictures.pixels, subject.spec.gate
    side = min(pixels.shape[1:3])
    asked = [rule for rule, least in SMALLEST.items() if side >= least and getattr(gate, rule).level != "ignore"]
    if not asked:
        return {}
    of = f"looks {VERSION}, cleanvision {version('cleanvision')}"
    return remembered(
        subject, "looks", of, asked, lambda names: quality.looks(pixels, names, progress=subject.progress)
    )


def sizes_of(subject: Subject) -> np.ndarray:
    """(M, 2) int32: width and height of each decoded picture's file. Raises `DataRefused` for one that is gone."""
    try:
        found = remembered(subject, "sizes", f"sizes {VERSION}", ["sizes"], lambda names: {names[0]: _sizes(subject)})
    except UnreadableImage as error:
        raise DataRefused(
            f"a picture of {subject.snapshot.name} changed while it was looked at ({error}); run it again"
        ) from None
    return found["sizes"]


def _sizes(subject: Subject) -> np.ndarray:
    """In the order in which they lie, for there they are read fastest."""
    rows = subject.pictures.rows
    order = subject.snapshot.order(rows)
    found = np.empty((len(rows), 2), np.int32)
    found[order] = quality.sizes(_told(subject.snapshot.contents_of(rows[order]), subject))
    return found


def _told(files: Iterable[bytes | Path], subject: Subject) -> Iterator[bytes | Path]:
    for place, file in enumerate(files):
        if place % TOLD_EVERY == 0 and place:
            subject.progress("sizes", place, len(subject.pictures.rows))
        yield file


def _low(subject: Subject, rule: str, setting: Setting, words: str) -> Found | None:
    scores = looks_of(subject).get(rule)
    if scores is None:
        return None
    places = quality.below(scores, setting.threshold)
    return _found(subject, places, scores, words, setting, lambda place: f"{scores[place]:.2f}")


def _found(
    subject: Subject,
    places: np.ndarray,
    scores: np.ndarray,
    words: str,
    setting: Setting,
    measured: Callable[[int], str],
) -> Found | None:
    """`places`: rows of the decoded pictures, the worst first; `measured`: of one of them, as the sentence has it."""
    rows = subject.pictures.rows
    asked = [place for place in places.tolist() if subject.asked[rows[place]]]
    if not asked:
        return None
    spots = tuple(Spot(int(rows[place]), float(scores[place]), ADVICE) for place in asked)
    example = f"{subject.file(spots[0].row)} ({measured(asked[0])})"
    remedy = "left out" if setting.level == "drop" else "look at them, and decide about each in the quarantine list"
    return Found(f"{count(spots, 'picture')} {words}, such as {example}; {remedy}", spots)


def _sides(sizes: np.ndarray) -> Callable[[int], str]:
    return lambda place: " x ".join(map(str, sizes[place].tolist()))
