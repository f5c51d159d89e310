"""Memory and seconds of each stage, from a folder of files to the first training steps, for more and more pictures.

    python -m benchmarks.size --data cifar10.tar.gz [--pictures 1000 10000 100000]

The pictures are the archive's 32 px JPEGs, each with a comment of its own, so that all contents differ. Beyond those
that the archive has they come again, turned by 90 degrees and saved anew: no rule takes these for near copies. The
classes take turns; nothing says which part a picture is in. They lie in a temporary folder, made and removed for each
number.

For each number two fresh processes: the first prepares a data set of which nothing is known (`cold`); the second opens
it again, as every later process of a run does, and trains for some steps (`warm`). Memory is told for each stage, that
of what it calls apart, sampled ten times a second and at the stage's end: the private one (anonymous, which must fit
into RAM) of the process, and that of the processes it started to decode and measure, a few pictures at a time; beside
it what is mapped from files (which the system may drop and read again, such as the decoded pictures); `resident` is the
kernel's own high-water mark of the process (VmHWM). A line through each stage's private peaks tells the bytes that a
picture costs it, and is extended to a million. How CPU seconds grow is told as the power of the number of pictures,
between the two largest numbers.

The figures go to benchmarks/results/size.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import machine, pictures
from benchmarks.training import RESULTS

EVERY_S = 0.1
LEAST_S = 0.01  # of CPU: the clock's grain
EXTENDED = 1_000_000  # pictures
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
MADE_UP = 200  # pictures, where there is no archive

Bytes = dict[str, int]


def stock_of(archive: Path | None) -> dict[str, list[bytes]]:
    """Class -> JPEG files."""
    found: dict[str, list[bytes]] = defaultdict(list)
    if archive is None:
        random = np.random.default_rng(0)
        for number in range(MADE_UP):
            label = number % pictures.CLASSES
            found[f"class{label}"].append(_saved(pictures.invented(random, label, 32)))
        return found
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and member.name.endswith(".jpg"):
                file = packed.extractfile(member)
                assert file is not None
                found[Path(member.name).parent.name].append(file.read())
    return found


def make(folder: Path, stock: dict[str, list[bytes]], num: int) -> None:
    """`num` files of different contents below `folder`, the classes in turn."""
    labels = sorted(stock)
    for label in labels:
        (folder / label).mkdir(parents=True)
    for number in range(num):
        label, place = labels[number % len(labels)], number // len(labels)
        again, which = divmod(place, len(stock[label]))
        content = stock[label][which]
        turn = TURNS[again % len(TURNS)]
        if turn is not None:
            content = _saved(Image.open(io.BytesIO(content)).transpose(turn))
        text = f"number {number:012}".encode()
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        (folder / label / f"{place:08}.jpg").write_bytes(content[:2] + comment + content[2:])


def _saved(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=pictures.QUALITY)
    return out.getvalue()


class Sampled:
    """The memory of a process and of those that it started, by the stage that it says it is in."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.stage = "start"
        self.private: dict[str, int] = defaultdict(int)
        self.helpers: dict[str, int] = defaultdict(int)  # private memory of those that it started
        self.mapped: dict[str, int] = defaultdict(int)
        self._pid, self._over = process.pid, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            stage, private, mapped = self.stage, [0], 0
            for pid in _tree(self._pid):
                told = _rollup(pid)
                private.append(told.get("Pss_Anon", 0) + told.get("Pss_Shmem", 0) + told.get("SwapPss", 0))
                mapped += told.get("Pss_File", 0)
            own, *others = private[1:] or [0]
            self.private[stage] = max(self.private[stage], own)
            self.helpers[stage] = max(self.helpers[stage], sum(others))
            self.mapped[stage] = max(self.mapped[stage], mapped)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))
    except OSError:
        return  # it has ended


def _rollup(pid: int) -> Bytes:
    """Bytes by kind; each is shared out among those that share it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}


def measured(folder: Path, home: Path, *, train: bool) -> list[dict[str, Any]]:
    """A row for each stage, of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.size_once", str(folder), str(home), *(["--train"] if train else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        sampled = Sampled(process)
        try:
            stages: list[dict[str, Any]] = []
            for line in process.stdout:
                told = json.loads(line)
                if isinstance(told, str):
                    sampled.stage = told
                else:
                    stages = told
        finally:
            sampled.end()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    for one in stages:
        one["private"] = max(one["private"], sampled.private[one["stage"]])
        one |= {"helpers": sampled.helpers[one["stage"]], "mapped": sampled.mapped[one["stage"]]}
    return stages


def in_words(stage: dict[str, Any]) -> str:
    megabytes = ", ".join(f"{what} {stage[what] / 1e6:.0f}" for what in ("private", "helpers", "mapped", "resident"))
    return f"  {stage['stage']:24} {stage['seconds']:8.2f} s, CPU {stage['cpu']:8.2f} s, MB: {megabytes}"


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each stage: bytes a picture, by least squares; what a million would take; the power of the CPU seconds."""
    numbers = [row["pictures"] for row in rows]
    found = []
    for name in [stage["stage"] for stage in rows[-1]["stages"]]:
        stages = [next(stage for stage in row["stages"] if stage["stage"] == name) for row in rows]
        peaks, cpu = ([stage[what] for stage in stages] for what in ("private", "cpu"))
        slope, offset = np.polyfit(numbers, peaks, 1) if len(rows) > 1 else (0.0, peaks[0])
        power = (
            np.log(max(cpu[-1], LEAST_S) / max(cpu[-2], LEAST_S)) / np.log(numbers[-1] / numbers[-2])
            if len(rows) > 1
            else 1.0
        )
        found.append(
            {
                "stage": name,
                "bytes_a_picture": float(slope),
                "extended": float(offset + slope * EXTENDED) + stages[-1]["helpers"],
                "power": float(power),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="archive of CLASS/*.jpg, 32 px; by default pictures are made up")
    parser.add_argument("--pictures", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    stock = stock_of(options.data)
    rows: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for num in sorted(options.pictures):
        with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
            folder, home = Path(name) / "pictures", Path(name) / "home"
            make(folder, stock, num)
            for what, found in rows.items():
                stages = measured(folder, home, train=what == "warm")
                found.append({"pictures": num, "stages": stages})
                print(f"{num:,} pictures, {what}", file=sys.stderr)
                print("\n".join(map(in_words, stages)), file=sys.stderr, flush=True)
    figures = {
        "command": machine.command("size"),
        "rows": rows,
        "extended_to": EXTENDED,
        "growth": {what: growth(found) for what, found in rows.items()},
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "size.json").write_text(json.dumps(figures, indent=1) + "\n")
    for what, stages in figures["growth"].items():
        for one in stages:
            print(
                f"{what:5} {one['stage']:28} {one['bytes_a_picture']:8.0f} bytes a picture, {EXTENDED:,}: "
                f"{one['extended'] / 1e6:6.0f} MB, CPU seconds grow with the power {one['power']:.2f}"
            )


if __name__ == "__main__":
    main()
