"""What the gate's measurements find of faults that were planted into real pictures, and what they find beside them.

    python -m benchmarks.planted --photos flowers.tar.gz --data cifar10.tar.gz [--share 0.01] [--repeats 5]
        [--published duplicates_cifar10.csv --labels cifar10_test_set_original_labels.npy]

`benchmarks/faults.py` says what is planted, each kind into a share of the pictures of its own. All go the way of any
other: listed, decoded to the size that is chosen for them, measured. Recall is the share of a kind's pictures that a
rule finds; of a copy, that it is paired with its original. The false-positive rate is the share of the untouched
pictures that are found: some of these are dark, or near copies, in truth, so it is an upper bound. What pairs pictures
of two classes is told apart: of these nearly all are wrong. Intervals are Wilson's, 95 %.

Near copies between CIFAR-10's own test and training pictures are a fault that nobody planted. --published and --labels
compare them with the pairs that people looked at (https://github.com/cvjena/cifair, meta/, whose numbers count the
original test pictures; their classes, from https://github.com/cleanlab/label-errors, say which file that is).

Speed: CPU seconds of one process, of pictures decoded before, without imports.

The figures go to benchmarks/results/planted-SET.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.faults import COPIES, FAULTS, Planted, plant
from benchmarks.spread import spread
from benchmarks.training import RESULTS
from data import catalog, images, snapshot
from data.gate import near, quality
from data.gate.near import Pairs
from data.images import Images
from data.spec import DatasetSpec, Part

SCORES = ("dark", "light", "blank", "blurred", "odd_aspect")
THRESHOLDS = [round(0.01 * step, 2) for step in range(1, 71)]
IQRS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
BITS = (0, 4, 8, 10, 12, 14)
ALIKE = (0.0, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98)
MEASURED = 2000  # pictures, for the speed

Figures = dict[str, Any]


class Known:
    """Which row is what."""

    def __init__(self, decoded: Images, planted: list[Planted]) -> None:
        files = [decoded.snapshot.files[row] for row in decoded.rows.tolist()]
        row_of = {file: row for row, file in enumerate(files)}
        kinds = {**dict.fromkeys(COPIES), **dict.fromkeys(FAULTS)}
        self.rows: dict[str, np.ndarray] = {
            kind: np.array([row_of[one.file] for one in planted if one.kind == kind], np.int64) for kind in kinds
        }
        self.originals: dict[str, np.ndarray] = {
            kind: np.array([row_of[one.original] for one in planted if one.kind == kind], np.int64) for kind in COPIES
        }
        self.untouched = np.ones(len(files), bool)  # the original of a copy is one of the untouched
        self.untouched[np.concatenate(list(self.rows.values()))] = False
        self.files, self.labels, self.row_of = files, decoded.labels, row_of
        parts = [decoded.snapshot.parts[row] for row in decoded.rows.tolist()]
        self.test = np.array([part == Part.TEST for part in parts])


def swept(points: Iterable[float], flagged: Callable[[float], np.ndarray], known: Known) -> list[Figures]:
    """For each threshold how many a rule finds: flagged(threshold) -> (M,) bool."""
    rows = []
    for point in points:
        found = flagged(point)
        recall = {kind: int(found[known.rows[kind]].sum()) for kind in FAULTS}
        rows.append({"threshold": point, "false": int(found[known.untouched].sum()), "found": recall})
    return rows


def quality_of(decoded: Images, known: Known) -> dict[str, list[Figures]]:
    """rule -> sweep."""
    scores = quality.looks(decoded.pixels)
    sizes = quality.sizes(decoded.path(row) for row in range(len(decoded.pixels)))
    scores["odd_aspect"] = quality.aspects(sizes)

    def odd(iqrs: float) -> np.ndarray:
        return np.isin(np.arange(len(sizes)), quality.odd_sizes(sizes, iqrs=iqrs)[0])

    found = {rule: swept(THRESHOLDS, lambda point, rule=rule: scores[rule] < point, known) for rule in SCORES}  # type: ignore[misc]
    return found | {"odd_size": swept(IQRS, odd, known)}


def steps(known: Known) -> list[tuple[int, float]]:
    """(bits, alike), as far as pairs are looked for."""
    return [(bits, alike) for bits, alike in product(BITS, ALIKE) if bits <= near.bits_for(len(known.files))]


def near_of(pairs: Pairs, known: Known) -> list[Figures]:
    """For each pair of thresholds how many copies are paired with their original, and how many others are paired."""
    copies = {kind: _codes(np.stack([known.originals[kind], known.rows[kind]], axis=1)) for kind in COPIES}
    rows = []
    for bits, alike in steps(known):
        kept = pairs.rows[(pairs.bits <= bits) & (pairs.alike >= alike)]
        own = kept[known.untouched[kept].all(axis=1)]
        across = own[known.labels[own[:, 0]] != known.labels[own[:, 1]]]
        told = _tested(own, known)
        rows.append(
            {
                "bits": bits,
                "alike": alike,
                "found": {kind: int(np.isin(copies[kind], _codes(kept)).sum()) for kind in COPIES},
                "false": len(np.unique(own)),
                "across_classes": len(np.unique(across)),
                "of_test_in_train": len(told),
            }
        )
    return rows


def _tested(rows: np.ndarray, known: Known) -> np.ndarray:
    """The test pictures of pairs with a picture that is not tested on."""
    split = np.unique(rows[known.test[rows[:, 0]] != known.test[rows[:, 1]]])
    return split[known.test[split]]


def _codes(rows: np.ndarray) -> np.ndarray:
    low, high = np.sort(rows, axis=1).T
    return low << 32 | high


def published_of(pairs: Pairs, known: Known, listed: Path, labels: Path) -> Figures:
    """Of test pictures that people found to have near copies in train: how many have one by these pairs."""
    classes = np.load(labels, allow_pickle=False).astype(np.int64)
    number = np.zeros(len(classes), np.int64)
    for label in np.unique(classes):
        number[classes == label] = np.arange((classes == label).sum())
    names = sorted({file.split("/")[-2] for file in known.files})
    with listed.open(newline="") as file:
        judged = [(int(row["TestID"]), int(row["Judgment"])) for row in csv.DictReader(file)]
    rows: dict[int, list[int]] = {1: [], 2: []}
    for test, judgment in judged:
        row = known.row_of.get(f"test/{names[classes[test]]}/{number[test]:04}.jpg")
        if row is not None and known.untouched[row]:
            rows[judgment].append(row)
    found = []
    for bits, alike in steps(known):
        kept = pairs.rows[(pairs.bits <= bits) & (pairs.alike >= alike)]
        told = _tested(kept[known.untouched[kept].all(axis=1)], known)
        same, similar = (int(np.isin(rows[judgment], told).sum()) for judgment in (1, 2))
        not_listed = int((~np.isin(told, rows[1] + rows[2])).sum())
        found.append({"bits": bits, "alike": alike, "same_shot": same, "similar": similar, "not_listed": not_listed})
    return {"same_shot": len(rows[1]), "similar": len(rows[2]), "rows": found}


def speed_of(pixels: np.ndarray, repeats: int) -> dict[str, Any]:
    """Pictures a CPU second."""
    some = np.asarray(pixels[:MEASURED])
    rates: dict[str, list[float]] = {"looks": [], "hashes": []}
    for _ in range(repeats):
        for name, measure, what in (("looks", quality.scores_of, quality.LOOKS), ("hashes", near.hashes_of, ())):
            begun = time.process_time()
            for start in range(0, len(some), 256):
                measure(some[start : start + 256], *what)
            rates[name].append(len(some) / (time.process_time() - begun))
    return {name: spread(values) for name, values in rates.items()}


def measured(name: str, archive: Path, options: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        home, spec = Path(folder), DatasetSpec(source=str(archive))
        fetched = catalog.fetch(spec, home)
        files = snapshot.take(fetched.root, name, fetched.mirror, home=home).files
        planted = plant(fetched.root, files, share=options.share, seed=options.seed)
        listed = snapshot.take(fetched.root, name, fetched.mirror, home=home, anew=True)
        decoded = images.build(listed, images.choose_spec(listed, spec), home)
        known = Known(decoded, planted)
        print(f"{name}: {len(known.files):,} pictures, {len(planted):,} planted", file=sys.stderr)
        speed = speed_of(decoded.pixels, options.repeats)
        by_quality = quality_of(decoded, known)
        print(f"{name}: looked at", file=sys.stderr)
        hashed = near.hashes(decoded.pixels)
        begun = time.process_time()
        pairs = near.pairs(decoded.pixels, hashed, mirror=fetched.mirror)
        seconds = time.process_time() - begun
        figures = {
            "command": machine.command("planted"),
            "set": name,
            "pictures": len(known.files),
            "untouched": int(known.untouched.sum()),
            "untouched_test": int((known.untouched & known.test).sum()),
            "planted_of_each": len(planted) // (len(COPIES) + len(FAULTS)),
            "side": decoded.spec.height,
            "seed": options.seed,
            "quality": by_quality,
            "near": near_of(pairs, known),
            "speed": speed,
            "pairs": {
                "bits": near.bits_for(len(known.files)),
                "candidates": len(pairs.rows),
                "complete": pairs.complete,
                "cpu_s": seconds,
            },
            "machine": machine.describe() | {one: machine.version(one) for one in ("cleanvision", "imagehash")},
        }
        if name == "cifar10" and options.published:
            figures["published"] = published_of(pairs, known, options.published, options.labels)
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="archive of CLASS/*.jpg")
    parser.add_argument("--data", type=Path, help="cifar10.tar.gz")
    parser.add_argument("--share", type=float, default=0.01, help="of the pictures, planted of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5, help="of the speed")
    parser.add_argument("--published", type=Path, help="duplicates_cifar10.csv")
    parser.add_argument("--labels", type=Path, help="cifar10_test_set_original_labels.npy")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.results.mkdir(exist_ok=True, parents=True)
    for name, archive in (("flowers", options.photos), ("cifar10", options.data)):
        if archive is not None:
            figures = measured(name, archive, options)
            (options.results / f"planted-{name}.json").write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
