"""Do training and test pictures differ in kind? A classifier two-sample test, https://arxiv.org/abs/1610.06545.

A classifier is asked to tell training from test pictures. It sees simple statistics of the pixels and not the
network's features: those differ between what was trained on and what was not, shift or no shift. Both samples hold
the same number of pictures of every class, so that other proportions of the classes are not taken for other pictures.
No torch here.
"""

import numpy as np

from data.images import Images
from data.preprocess import centre
from data.split import Split
from models.records import Shift, Statistic

LARGEST_SAMPLE = 1_000  # pictures of each part
SMALLEST_SAMPLE = 30  # fewer do not tell
BYTES = 128_000_000  # read of each part at most
FOLDS = 5
SEED = 0
GRID = 4  # the picture in GRID x GRID areas
NAMES = ("brightness", "contrast", "sharpness", "share of black or white pixels", "colourfulness")


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
