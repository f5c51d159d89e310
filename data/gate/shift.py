"""Do training and test pictures differ in kind? A classifier two-sample test, https://arxiv.org/abs/1610.06545.

A classifier is asked to tell training from test pictures. It sees simple statistics of the pixels and not the
network's features: those differ between what was trained on and what was not, shift or no shift. Both samples hold
the same number of pictures of every class, so that other proportions of the classes are not taken for other pictures.
No torch here.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from data import whole
from data.gate.config import ShiftRule
from data.gate.found import Found, Subject
from data.gate.records import Shift, Statistic
from data.images import Images, folder_of
from data.preprocess import centre
from data.split import Split

LARGEST_SAMPLE = 1_000  # pictures of each part
SMALLEST_SAMPLE = 30  # fewer do not tell
BYTES = 128_000_000  # read of each part at most
FOLDS = 5
SEED = 0
GRID = 4  # the picture in GRID x GRID areas
NAMES = ("brightness", "contrast", "sharpness", "share of black or white pixels", "colourfulness")
P = 0.01  # what chance alone does more often is not told
VERSION = 1  # of what is remembered; another one with every change of the measure


def shift(subject: Subject, setting: ShiftRule) -> Found | None:
    """Before anything is trained; with the decoded pictures it is remembered, for it takes a second or two."""
    assert subject.images is not None
    assert subject.split is not None
    found = remembered(subject.images, subject.split, subject.home)
    if found is None or found.separability < setting.threshold or found.p_value >= P:
        return None
    most = found.statistics[0]
    return Found(
        f"test pictures differ in kind from training pictures: of one of each, simple statistics tell which is which "
        f"in {found.separability:.0%} of the cases (50% is chance, {found.n:,} pictures each), most of all "
        f"{most.name}, {most.train:.3f} in training and {most.test:.3f} in test; train on pictures of the kind that "
        "will be asked about, or draw the test part from the same source"
    )


def remembered(images: Images, split: Split, home: Path) -> Shift | None:
    """`look_for_shift`, measured once for these pictures and parts."""
    if len(split.test) < SMALLEST_SAMPLE:
        return None
    rows = hashlib.sha256(json.dumps([VERSION, *map(len, (split.train, split.test))]).encode())
    for part in (images.labels, split.train, split.test):
        rows.update(part.astype("<i8").tobytes())
    folder, key = folder_of(images.snapshot, images.spec, home), rows.hexdigest()
    try:
        known = json.loads((folder / "shift.json").read_bytes())
        if known["of"] == key:
            return None if known["shift"] is None else Shift.model_validate(known["shift"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing is remembered, or nothing that can be read
    found = look_for_shift(images, split)
    if folder.is_dir():
        told = {"of": key, "shift": None if found is None else found.model_dump(mode="json")}
        whole.write(folder / "shift.json", json.dumps(told).encode())
    return found


def look_for_shift(images: Images, split: Split) -> Shift | None:
    """None where there are too few test pictures, or too few of their classes in the training part."""
    limit = min(LARGEST_SAMPLE, max(SMALLEST_SAMPLE, BYTES // images.pixels[0].nbytes))
    train, test = alike(images.labels, split.train, split.test, limit=limit)
    if len(test) < SMALLEST_SAMPLE:
        return None
    return compare(*(statistics(centre(images.pixels[np.sort(rows)], images.spec)) for rows in (train, test)))


def alike(labels: np.ndarray, train: np.ndarray, test: np.ndarray, *, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each part, as many of every class in one as in the other, about `limit` at most."""
    random = np.random.default_rng(SEED)
    chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    pools = [(train[labels[train] == k], test[labels[test] == k]) for k in np.unique(labels[test])]
    share = min(1.0, limit / max(1, sum(min(map(len, pool)) for pool in pools)))
    for pool in pools:
        count = round(share * min(map(len, pool)))
        for part, rows in zip(chosen, pool, strict=True):
            part.append(random.choice(rows, count, replace=False))
    return np.concatenate(chosen[0]), np.concatenate(chosen[1])


def statistics(pixels: np.ndarray) -> np.ndarray:
    """pixels uint8 (N, H, W, C) -> float64 (N, S): the named ones of `NAMES`, then means of areas and of colours."""
    x = pixels.astype(np.float32) / 255
    grey = x.mean(axis=3)  # (N, H, W)
    fine = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    extreme = ((pixels == 0) | (pixels == 255)).mean(axis=(1, 2, 3))
    named = [grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), fine, extreme, x.std(axis=3).mean(axis=(1, 2))]
    rows, columns = (np.array_split(np.arange(size), GRID) for size in grey.shape[1:])
    areas = [grey[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean(axis=(1, 2)) for r in rows for c in columns]
    return np.stack([*named, *areas, *x.mean(axis=(1, 2)).T], axis=1).astype(np.float64)


def compare(train: np.ndarray, test: np.ndarray) -> Shift:
    """(N, S) each. Every picture is judged by a classifier that was fitted without it."""
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both, part = np.concatenate([train, test]), np.repeat([0, 1], [len(train), len(test)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    scores = cross_val_predict(classifier, both, part, cv=folds, method="decision_function")
    told = mannwhitneyu(scores[part == 1], scores[part == 0], alternative="greater")
    known = [
        Statistic(name=name, train=ours.mean(), test=theirs.mean(), spread=all_of_it.std())
        for name, ours, theirs, all_of_it in zip(NAMES, train.T, test.T, both.T, strict=False)  # the named come first
    ]
    return Shift(
        n=len(test),
        separability=float(told.statistic) / (len(train) * len(test)),
        p_value=float(told.pvalue),
        statistics=tuple(sorted(known, key=lambda statistic: -abs(statistic.difference))),
    )
