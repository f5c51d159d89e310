"""Seconds from the command to a service that answers, with warm caches.

    python -m benchmarks.cold_start [--bundle BUNDLE ...] [--repeats 5] [--workers 1 2]

`trainserve serve` is started on a store of one model, which is `tests/golden/bundle-v1` by default, and asked until
/readyz answers 200, by the first worker that is ready; with several, a figure more is when all of them are. The goal is
3 s. Beside it, in each repetition, a Python that imports onnxruntime and ends: the least that any such service takes.
One start before the first warms the caches, byte code and pages of libraries.

Processor seconds are of all processes of the service until then. Memory is what each holds then: all pages it has
(resident), and with those that are shared with others divided among them (proportional).

Where the time goes: one more start under PYTHONPROFILEIMPORTTIME, of which the seconds that each package's own modules
take are summed over the processes; the profile makes imports slower, so shares say more than seconds.

The figures go to benchmarks/results/cold_start.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import load, machine
from benchmarks.spread import spread
from benchmarks.start import own_seconds

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GOLDEN = ROOT / "tests" / "golden" / "bundle-v1"
TRAINSERVE = str(Path(sys.executable).with_name("trainserve"))  # of this environment
READY = re.compile(r"^trainserve_ready\{.*\} (\d+)", re.M)
LIMIT_S = 120.0
GOAL_S = 3.0


@contextmanager
def started(workers: int, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The service as it was just started, its address, and the file that it writes to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [TRAINSERVE, "serve", "--port", str(port), "--workers", str(workers)]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, env=os.environ | environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield process, f"http://127.0.0.1:{port}", Path(log.name)
        finally:
            process.terminate()
            process.wait(30)


def until(true: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        with suppress(httpx.TransportError):
            if true():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the service did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.005)


def measured(workers: int) -> dict[str, float]:
    begun = time.perf_counter()
    with started(workers) as (process, url, log):
        # The supervisor listens before a worker answers: one request waits for the other end, and loses no time.
        until(lambda: httpx.get(f"{url}/readyz", timeout=LIMIT_S).is_success, process, log)
        first_s = time.perf_counter() - begun
        until(lambda: num_ready(url) == workers, process, log)
        all_s = time.perf_counter() - begun
        supervisor = psutil.Process(process.pid)
        held = [one.memory_full_info() for one in supervisor.children()]
        return {
            "ready_s": first_s,
            "all_ready_s": all_s,
            "cpu_s": load.cpu_of(process.pid),
            "supervisor_mb": supervisor.memory_info().rss / 1e6,
            "worker_mb": max(one.rss for one in held) / 1e6,
            "worker_proportional_mb": max(one.pss for one in held) / 1e6,
        }


def num_ready(url: str) -> int:
    """Workers, whichever is asked."""
    told = READY.search(httpx.get(f"{url}/metrics", timeout=LIMIT_S).text)
    return int(told[1]) if told else 0


def import_onnxruntime_s() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import onnxruntime"], check=True)
    return time.perf_counter() - begun


def imports() -> list[dict[str, Any]]:
    """The packages whose own modules took longest in all processes, longest first. This start warms the caches too."""
    with started(1, PYTHONPROFILEIMPORTTIME="1") as (process, url, log):
        until(lambda: httpx.get(f"{url}/readyz", timeout=LIMIT_S).is_success, process, log)
        return own_seconds(log.read_text().splitlines())


def of_bundle(bundle: Path, options: argparse.Namespace) -> dict[str, Any]:
    from serving import store  # after the home folders are set

    store.promote(store.save(bundle), reason="cold start")
    card = json.loads((bundle / "card.json").read_text())
    image = card["image"]
    imported = imports()
    runs: dict[int, list[dict[str, float]]] = {workers: [] for workers in options.workers}
    bare = []
    for _ in range(options.repeats):
        bare.append(import_onnxruntime_s())
        for workers in options.workers:
            runs[workers].append(measured(workers))
            print(f"{workers} workers: {runs[workers][-1]}", file=sys.stderr, flush=True)
    return {
        "model": f"{card['kind']}, {card['parameters']:,} parameters, {image['height']} x {image['width']}",
        "import_onnxruntime_s": spread(bare),
        "starts": [
            {"workers": workers} | {key: spread([one[key] for one in told]) for key in told[0]}
            for workers, told in runs.items()
        ],
        "imports": imported,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, nargs="+", default=[GOLDEN])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    cases = []
    for bundle in options.bundle:
        with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
            os.environ |= {"TRAINSERVE_HOME": name, "BENTOML_HOME": f"{name}/bentoml"}
            cases.append(of_bundle(bundle.resolve(), options))
    figures = {
        "command": machine.command("cold_start"),
        "repeats": options.repeats,
        "goal_s": GOAL_S,
        "cases": cases,
        "machine": machine.describe(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cold_start.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps([case["starts"] for case in cases], indent=1))


if __name__ == "__main__":
    main()
