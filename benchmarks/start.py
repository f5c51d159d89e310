"""Seconds from the command to the first training step of `trainserve run` on digits, with warm caches.

    python -m benchmarks.start [--repeats 5] [--threads 2]

The command runs in a terminal of its own (a pseudo-terminal), whose text is watched: a stage begins when its words are
seen, and the first step has been taken when the bar of the training speaks of epoch 1. The bar is drawn ten times a
second, so a figure is late by up to 0.1 s. One run before the first warms the caches: byte code, digests, decoded
pictures, Prefect's database. `import torch` is timed in a process of its own in each repetition; the goal, under 3 s,
is for what comes beyond it. Processor seconds until then, which other jobs disturb least, are told apart for the
command and for the Prefect server that it starts; on Linux alone.

Where the time goes: one more run under `python -X importtime`, of which the seconds that each package's own modules
take until the first epoch has ended are summed; the profile makes imports slower, so shares say more than seconds.

The figures go to benchmarks/results/start.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.spread import spread

RESULTS = Path(__file__).parent / "results"
COMMAND = "import sys; sys.argv[0] = 'trainserve'; from flows.cli import main; main()"
RUN = ["run", "digits", "--train.epochs", "1", "--refresh", "train"]
# What is seen -> what begins. A dict, because it is their order.
WORDS = {
    "importing torch": "torch imports",
    "importing Prefect": "Prefect imports",
    "waiting for Prefect": "wait for Prefect's server",
    "✓ start": "flow begins",
    "✓ prepare": "training begins",
    "epoch 1 of": "first step done",
}
FIRST_STEP = "first step done"
LIMIT_S = 600.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")  # own microseconds, module
PACKAGES_SHOWN = 15


class Moment(NamedTuple):
    """Since the command."""

    wall_s: float
    cpu_s: float  # of the command's own process
    server_cpu_s: float  # of those it started, and waits for


def processor_s(pid: int) -> tuple[float, float]:
    """Processor seconds of this process and of its children so far."""
    own, children = 0.0, 0.0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()  # from the third of proc(5) on
        except OSError:  # it has ended
            continue
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if file.parent.name == str(pid):
            own = seconds
        elif fields[1] == str(pid):
            children += seconds
    return own, children


def environment(home: Path, threads: int) -> dict[str, str]:
    return os.environ | {
        "TRAINSERVE_HOME": str(home / "trainserve"),
        "BENTOML_HOME": str(home / "bentoml"),
        "PREFECT_HOME": str(home / "prefect"),
        "OMP_NUM_THREADS": str(threads),
        "COLUMNS": "160",
        "TERM": "xterm",
    }


def watched(home: Path, threads: int) -> dict[str, Moment]:
    """What was seen begin -> when. The command is ended after its first step."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, [sys.executable, "-c", COMMAND, *RUN], environment(home, threads))
    seen: dict[str, Moment] = {}
    text = ""
    try:
        while FIRST_STEP not in seen and time.perf_counter() - began < LIMIT_S:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            text += ESCAPES.sub("", read(terminal))
            for words, what in WORDS.items():
                if what not in seen and words in text:
                    seen[what] = Moment(time.perf_counter() - began, *processor_s(pid))
    finally:
        os.kill(pid, signal.SIGINT)
        drain(terminal)
        os.close(terminal)
        os.waitpid(pid, 0)
    if FIRST_STEP not in seen:
        raise SystemExit(f"no training step was seen; the command said:\n{text[-2000:]}")
    return seen


def read(terminal: int) -> str:
    try:
        data = os.read(terminal, 65536)
    except OSError:  # what Linux says at the end of a terminal
        data = b""
    if not data:
        raise SystemExit("the command ended before its first training step")
    return data.decode(errors="replace")


def drain(terminal: int) -> None:
    """Until the command has ended: it must not wait for a reader."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass


def import_torch_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


def packages(home: Path, threads: int) -> list[dict[str, Any]]:
    """The packages whose own modules took longest until the first epoch had ended, longest first."""
    command = [sys.executable, "-X", "importtime", "-c", COMMAND, *RUN]
    done = subprocess.run(command, env=environment(home, threads), capture_output=True, text=True, check=True)
    first_epoch = re.compile(r"epoch +1/")
    return own_seconds(list(takewhile(lambda line: not first_epoch.search(line), done.stderr.splitlines())))


def own_seconds(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Of the text that Python's `-X importtime` prints: the packages whose own modules took longest, longest first."""
    own: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for line in lines:
        if found := IMPORT.search(line):
            package = found[2].partition(".")[0]
            package = "standard library" if package in sys.stdlib_module_names else package
            own[package] += int(found[1]) / 1e6
            count[package] += 1
    longest = sorted(own, key=lambda name: -own[name])[:PACKAGES_SHOWN]
    return [{"package": name, "own_s": own[name], "modules": count[name]} for name in longest]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    runs: list[dict[str, Moment]] = []
    torch_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        home = Path(name)
        imported = packages(home, options.threads)  # this run also warms the caches
        for _ in range(options.repeats):
            torch_s.append(import_torch_s())
            runs.append(watched(home, options.threads))
            print(f"import torch {torch_s[-1]:.2f} s; {runs[-1]}", file=sys.stderr)
    steps = [one[FIRST_STEP].wall_s for one in runs]
    stages = [what for what in WORDS.values() if all(what in one for one in runs)]
    figures = {
        "command": machine.command("start"),
        "repeats": options.repeats,
        "threads": options.threads,
        "first_step_s": spread(steps),
        "import_torch_s": spread(torch_s),
        "beyond_torch_s": spread([step - torch for step, torch in zip(steps, torch_s, strict=True)]),
        "goal_beyond_torch_s": 3.0,
        "seen_after_s": {what: spread([one[what].wall_s for one in runs]) for what in stages},
        "cpu_s_until": {what: spread([one[what].cpu_s for one in runs]) for what in stages},
        "server_cpu_s_until": {what: spread([one[what].server_cpu_s for one in runs]) for what in stages},
        "imports": imported,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "start.json").write_text(json.dumps(figures, indent=1) + "\n")
    shown = ("first_step_s", "import_torch_s", "beyond_torch_s", "cpu_s_until", "server_cpu_s_until")
    print(json.dumps({key: figures[key] for key in shown}, indent=1))


if __name__ == "__main__":
    main()
