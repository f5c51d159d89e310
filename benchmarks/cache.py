"""Pictures a second and core of filling the pixel cache, beside decoding and resizing alone.

    python -m benchmarks.cache [--data cifar10.tar.gz] [--photos flowers.tar.gz] [--repeats 5]

Alone: one process on one core calls `data.preprocess.stored_pixels` on every file and throws the pixels away. Together:
as many such processes as there are cores, each on its own, from the start of the first to the end of the last; what
cores that are busy at once cost each other. Build: `data.images.build` by all cores into an empty home, from the
listing to the finished cache, its processes' start, its journal and what it writes to the disk among it. The same
files, read once before so that all have them from memory; wall time; in turns which comes first, ratios within a
repetition. The goal is 0.90 of alone, for each core. Pictures of 32 px as they are, and photographs at 96 px; each file
is there several times, since a data set of some seconds shows how processes start, and not how it would go on.
Without archives pictures are made up, the photographs 500 px.

What a kill costs: a build is killed half way and taken up; told is the time of both together, of that of one build.

The figures go to benchmarks/results/cache.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, pictures
from benchmarks.spread import ratios, spread
from benchmarks.training import RESULTS
from data import filling, images, snapshot
from data.preprocess import stored_pixels
from data.snapshot import Snapshot
from data.spec import ImageSpec

GOAL = 0.90
PHOTOGRAPH = 500  # pixels, of those made up
SMALL, LARGE = ImageSpec(height=32, width=32), ImageSpec(height=96, width=96)
CORES = len(os.sched_getaffinity(0))


def alone(listed: Snapshot, spec: ImageSpec) -> float:
    """Seconds, on one core."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        paths = [listed.path(row) for row in range(len(listed.files))]
        began = time.perf_counter()
        for path in paths:
            stored_pixels(path, spec)
        return time.perf_counter() - began
    finally:
        os.sched_setaffinity(0, everywhere)


def together(listed: Snapshot, spec: ImageSpec) -> float:
    """Seconds, on all cores."""
    paths = [listed.path(row) for row in range(len(listed.files))]
    fork = multiprocessing.get_context("fork")
    parts = [(core, paths[number::CORES], spec) for number, core in enumerate(sorted(os.sched_getaffinity(0)))]
    processes = [fork.Process(target=decoded, args=part) for part in parts]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def decoded(core: int, paths: list[Path], spec: ImageSpec) -> None:
    os.sched_setaffinity(0, {core})
    for path in paths:
        stored_pixels(path, spec)


def built(listed: Snapshot, spec: ImageSpec, home: Path) -> float:
    """Seconds, into a home that has nothing, or what a killed build left."""
    began = time.perf_counter()
    images.build(listed, spec, home)
    return time.perf_counter() - began


def killed(listed: Snapshot, spec: ImageSpec, home: Path) -> float:
    """Seconds until a build that has done half of it is killed."""
    began = time.perf_counter()
    child = multiprocessing.get_context("fork").Process(target=images.build, args=(listed, spec, home))
    child.start()
    journal = home / "images" / f".{images.cache_key(listed, spec)}.part" / filling.DONE
    while child.is_alive() and done(journal) < len(listed.files) / 2:
        time.sleep(0.005)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    return time.perf_counter() - began


def done(journal: Path) -> int:
    """Pictures, as the last whole line has them: they are decoded nearly in order."""
    lines = journal.read_bytes().splitlines()[-3:-1] if journal.exists() else []
    return max((int(json.loads(line)[2]) for line in lines if line.startswith(b"[")), default=0)


def measured(what: str, listed: Snapshot, spec: ImageSpec, place: Path, *, repeats: int) -> dict[str, Any]:
    num = len(listed.files)
    alone(listed, spec)  # reads the files
    taken: dict[str, list[float]] = {"alone": [], "together": [], "build": [], "resumed": []}
    for repeat in range(repeats):
        for name in tuple(taken)[:: 1 if repeat % 2 else -1]:
            home = place / "home"
            shutil.rmtree(home, ignore_errors=True)
            match name:
                case "alone":
                    taken[name].append(alone(listed, spec))
                case "together":
                    taken[name].append(together(listed, spec))
                case "build":
                    taken[name].append(built(listed, spec, home))
                case _:
                    taken[name].append(killed(listed, spec, home) + built(listed, spec, home))
        print(f"{what}, {repeat + 1}: { ({name: times[-1] for name, times in taken.items()}) }", file=sys.stderr)
    rates = {name: [num / seconds for seconds in times] for name, times in taken.items()}
    per_core = [rate / CORES for rate in rates["build"]]
    return {
        "what": what,
        "pictures": num,
        "alone_per_s": spread(rates["alone"]),
        "build_per_s_and_core": spread(per_core),
        "of_alone": ratios(per_core, rates["alone"]),
        "of_together": ratios(rates["build"], rates["together"]),
        "killed_and_taken_up": ratios(taken["resumed"], taken["build"]),
        "goal": GOAL,
    }


def listing(place: Path, archive: Path | None, *, per_class: int, side: int, copies: int) -> tuple[Snapshot, str]:
    """Of files that are there `copies` times: one content, several names."""
    source = pictures.folder_of(place / "pictures", per_class=per_class, side=side, archive=archive)
    for file in list((place / "pictures").rglob("*.jpg")):
        for number in range(1, copies):
            os.link(file, file.with_name(f"{file.stem}-{number}.jpg"))
    return snapshot.take(place / "pictures", "pictures", home=place), source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="cifar10.tar.gz; by default pictures are made up")
    parser.add_argument("--photos", type=Path, help="archive of CLASS/*.jpg")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--per-class", type=int, default=5000, help="pictures of 32 px")
    parser.add_argument("--photos-per-class", type=int, default=600)
    parser.add_argument("--copies", type=int, default=4, help="of each file of 32 px")
    parser.add_argument("--photo-copies", type=int, default=16)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    cases = (
        ("32 px as they are", options.data, options.per_class, 32, SMALL, options.copies),
        ("photographs at 96 px", options.photos, options.photos_per_class, PHOTOGRAPH, LARGE, options.photo_copies),
    )
    rows = []
    for what, archive, per_class, side, spec, copies in cases:
        with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
            listed, source = listing(Path(name), archive, per_class=per_class, side=side, copies=copies)
            rows.append(measured(f"{what} ({source})", listed, spec, Path(name), repeats=options.repeats))
    figures = {
        "command": machine.command("cache"),
        "repeats": options.repeats,
        "cores": CORES,
        "rows": rows,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "cache.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({row["what"]: row["of_alone"] for row in rows}, indent=1))


if __name__ == "__main__":
    main()
