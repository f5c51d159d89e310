"""Labels that look wrong: confident learning, https://arxiv.org/abs/1911.00068, by cleanlab, over answers of networks
to pictures that they were not trained on. No torch here.

With folds these are all pictures: those outside the test part are answered by the fold that did not see them, the test
pictures by the final model. Without, the final model's answers to validation and test pictures are all there is.
"""

import csv
import io
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from data import whole
from data.gate.quarantine import Suspect
from data.gate.words import printable
from data.prepare import Dataset
from data.spec import Frozen, Part
from models.run import RunFolder
from models.training.folds import held_out

RULE = "labels"  # of the gate
COLUMNS = ("sha256", "file", "part", "given", "likelier", "quality")


TRUSTED = 0.8  # of the answers right: at 0.93 half of what was named was wrong indeed (digits), at 0.72 a twentieth


class Suspects(Frozen):
    """Pictures whose label looks wrong, the least credible first; the tuples are of one length."""

    rows: tuple[int, ...]  # of the `Images`
    sha256: tuple[str, ...]
    file: tuple[str, ...]  # as the source names it
    part: tuple[Part, ...]
    given: tuple[str, ...]
    likelier: tuple[str, ...]
    quality: tuple[float, ...]  # of the given label, 0 to 1
    looked_at: int  # pictures
    right: int  # of them, answered with the given label
    left_out: int  # pictures that only folds could look at


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (M,) whose label looks wrong, the least credible first, and the quality (M,) of these labels.

    probabilities (N, K) of answers to pictures that were not trained on, labels (N,). Where a class j is answered more
    surely than it is on average for its own pictures, a picture labelled i counts for the pair (i, j); the share of i
    that is to be taken for j decides how many are named, those with the largest margin (`prune_by_noise_rate`).
    """
    from cleanlab.filter import find_label_issues  # late: seconds
    from cleanlab.rank import get_label_quality_scores

    if len(np.unique(labels)) < 2:
        return np.empty(0, dtype=np.int64), np.empty(0)
    with warnings.catch_warnings(action="ignore"):  # that of classes with few pictures fewer may be found
        wrong = find_label_issues(labels, probabilities, filter_by="prune_by_noise_rate", n_jobs=1)  # in this process
    quality = get_label_quality_scores(labels, probabilities)
    positions = np.flatnonzero(wrong)
    positions = positions[np.argsort(quality[positions], kind="stable")]
    return positions, quality[positions]


def among(dataset: Dataset, rows: np.ndarray, probabilities: np.ndarray, *, left_out: int = 0) -> Suspects:
    """The suspects of these rows, by name; probabilities (N, K) are the answers to them."""
    images, split = dataset.images, dataset.split
    labels = images.labels[rows]
    positions, quality = suspects(probabilities, labels)
    parts = np.full(len(images.rows), Part.TRAIN, dtype=object)
    parts[split.val], parts[split.test] = Part.VAL, Part.TEST
    found = rows[positions].tolist()
    return Suspects(
        rows=tuple(found),
        sha256=tuple(images.digest(row) for row in found),
        file=tuple(images.snapshot.files[images.rows[row]] for row in found),
        part=tuple(parts[row] for row in found),
        given=tuple(images.classes[label] for label in labels[positions]),
        likelier=tuple(images.classes[label] for label in probabilities[positions].argmax(axis=1)),
        quality=tuple(round(value, 4) for value in quality.tolist()),
        looked_at=len(rows),
        right=int((probabilities.argmax(axis=1) == labels).sum()),
        left_out=left_out,
    )


def of_folds(run: RunFolder, dataset: Dataset) -> Suspects:
    """Outside the test part, each by the fold that was not trained on it; left out are those of a fold that was not
    kept. One temperature makes their answers as sure as they are right."""
    from models.evaluation.evaluate import fit_temperature, probabilities  # torch: seconds

    answers = held_out(run)
    temperature = fit_temperature(answers.logits, dataset.images.labels[answers.rows])
    left_out = len(np.setdiff1d(dataset.split.development, answers.rows))
    return among(dataset, answers.rows, probabilities(answers.logits, temperature=temperature), left_out=left_out)


def of_the_run(run: RunFolder, dataset: Dataset) -> Suspects:
    """Of a finished run: what its folds found and, in the test part, its final model. Without folds by the model alone,
    which was not trained on the validation pictures either."""
    from models.evaluation.evaluate import probabilities  # torch: seconds

    arrays, result = run.predictions(), run.result()
    rows, answers = arrays["test_rows"], arrays["test_probabilities"]
    if result.crossval is not None:
        return together(of_folds(run, dataset), among(dataset, rows, answers))
    val = probabilities(arrays["val_logits"], temperature=result.calibration.temperature)
    both = np.concatenate([arrays["val_rows"], rows])
    return among(dataset, both, np.concatenate([val, answers]), left_out=len(dataset.split.train))


def together(one: Suspects, other: Suspects) -> Suspects:
    """Of the same pictures, each looked at by one of the two."""
    both = {name: getattr(one, name) + getattr(other, name) for name in Suspects.model_fields}
    found = Suspects.model_validate(both)
    return _picked(found, np.argsort(found.quality, kind="stable").tolist())


def undecided(found: Suspects, decided: Collection[str]) -> Suspects:
    """Those of whose picture (sha256) no person has decided."""
    return _picked(found, [place for place, digest in enumerate(found.sha256) if digest not in decided])


def lines(found: Suspects) -> list[Suspect]:
    """For the quarantine list."""
    listed = []
    columns = (found.sha256, found.file, found.part, found.likelier, found.quality)
    for digest, file, part, likelier, quality in zip(*columns, strict=True):
        twice = "; a test picture: look twice" if part == Part.TEST else ""
        listed.append(Suspect(digest, printable(file), RULE, quality, f"label={likelier}, or keep{twice}"))
    return listed


def keep(found: Suspects, run: RunFolder) -> Path:
    """labels.csv in the run folder, whole or absent."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(zip(*(getattr(found, name) for name in COLUMNS), strict=True))
    return whole.write(run.path / "labels.csv", text.getvalue().encode())


def _picked(found: Suspects, places: Sequence[int]) -> Suspects:
    columns = {name: getattr(found, name) for name in ("rows", *COLUMNS)}
    return found.model_copy(update={name: tuple(values[i] for i in places) for name, values in columns.items()})


def told(found: Suspects) -> str:
    """Such as `12 of 1,437 labels look wrong`, and where not all were looked at, how that is done."""
    num = len(found.rows)
    words = f"{f'{num:,}' if num else 'none'} of {found.looked_at:,} labels look{'' if num > 1 else 's'} wrong"
    if num and found.right < TRUSTED * found.looked_at:
        right = f"{100 * found.right / found.looked_at:.0f} %"
        words += f" to a network that is right about {right}; many will be its own mistakes, so begin with the first"
    if not found.left_out:
        return words
    share = 100 * found.looked_at / (found.looked_at + found.left_out)
    return f"{words}; these are {share:.0f} % of the pictures, and crossval.folds 3 looks at all that are trained on"
