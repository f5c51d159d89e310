"""Deployments: from a request to the first training step, and many runs one after the other.

    python -m benchmarks.nights [--requests 5] [--runs 200] [--trained-every 20] [--threads 2]

A Prefect server stands, and `trainserve deploy` keeps a worker, as in service. The Prefect UI's button sends what is
sent here: one POST to `train-by-hand`. The first training step has been taken when its checkpoint lies in the run
folder (`train.checkpoint_every=1`, looked for every 20 ms). Each request trains with another seed, so nothing is taken
over.

Then `--runs` runs are asked for at once, all due now; the queue lets one train at a time. Every `--trained-every`th has
another seed and trains (digits, 1 epoch), the others take its stages over, so that what is counted is orchestration. A
request that is answered 503, since Prefect's SQLite was taken, is sent again, as by curl's `--retry`. Counted are: runs
that the server says ended as Completed, attempts, run folders, processes that are left, and how far the database has
grown.

The figures go to benchmarks/results/nights.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks import machine
from benchmarks.overhead import environment, standing_server
from benchmarks.spread import spread

RESULTS = Path(__file__).parent / "results"
TRAINSERVE = str(Path(sys.executable).with_name("trainserve"))  # of this environment
SETTINGS = ["digits", "--train.epochs", "1", "--train.patience", "never", "--train.checkpoint_every", "1"]
LIMIT_S = 300.0
BUSY_TRIES, BUSY_S = 60, 0.5
STALLED_S = 120.0  # its SQLite's wait of 60 s for a lock may hold up everything
PAGE = 200  # runs in an answer of the server


@contextmanager
def deployed(env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen([TRAINSERVE, "deploy", *SETTINGS], env=env, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


class Requests:
    """What a person or a program does, over HTTP: each on a connection of its own, as curl's are. Prefect's server ends
    the one on which it has answered 503."""

    def __init__(self, api: str) -> None:
        self._api = api
        self.deployment = ""
        self.busy = 0  # answers of 503: another transaction had the database

    def _ask(self, method: str, path: str, tree: Any = None) -> httpx.Response:
        for _ in range(BUSY_TRIES):
            done = httpx.request(method, f"{self._api}{path}", json=tree, timeout=STALLED_S)
            if done.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            self.busy += 1
            time.sleep(BUSY_S)
        return done

    def ready(self) -> bool:
        """The deployment is there, and a worker asks for its runs."""
        found = self._ask("GET", "/deployments/name/pipeline/train-by-hand")
        if found.status_code != httpx.codes.OK:
            return False
        self.deployment = found.json()["id"]
        workers = self._ask("POST", "/work_pools/trainserve/workers/filter", {})
        return workers.status_code == httpx.codes.OK and any(one["status"] == "ONLINE" for one in workers.json())

    def begin(self, seed: int) -> str:
        tree = {"parameters": {"changes": [f"train.seed={seed}"]}}
        done = self._ask("POST", f"/deployments/{self.deployment}/create_flow_run", tree).raise_for_status()
        return str(done.json()["id"])

    def state(self, run: str) -> str:
        return str(self._ask("GET", f"/flow_runs/{run}").raise_for_status().json()["state"]["name"])

    def all(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = []
        while True:
            tree = {"limit": PAGE, "offset": len(runs), "sort": "ID_DESC"}
            page = self._ask("POST", "/flow_runs/filter", tree).raise_for_status().json()
            runs += page
            if len(page) < PAGE:
                return runs


def wait_for(done: Callable[[], bool], *, limit_s: float = LIMIT_S, every_s: float = 0.5) -> None:
    until = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > until:
            raise SystemExit(f"not within {limit_s:.0f} s")
        time.sleep(every_s)


def first_step_s(asked: Requests, runs: Path, seed: int) -> float:
    """From the request until the first step's checkpoint; the run is then waited for."""
    before = set(runs.glob("[0-9]*"))

    def stepped() -> bool:
        return any(any(folder.glob("checkpoint/*.pt")) for folder in set(runs.glob("[0-9]*")) - before)

    began = time.perf_counter()
    run = asked.begin(seed)
    wait_for(stepped, every_s=0.02)
    took = time.perf_counter() - began
    wait_for(lambda: asked.state(run) in ("Completed", "Failed", "Crashed"))
    return took


def back_to_back(asked: Requests, home: Path, *, runs: int, trained_every: int) -> dict[str, Any]:
    folders = home / "trainserve" / "runs"
    there, bytes_before = len(list(folders.glob("[0-9]*"))), database_bytes(home)
    began = time.perf_counter()
    mine = {asked.begin(10_000 + number // trained_every) for number in range(runs)}
    told = began

    def over() -> bool:
        nonlocal told
        ended = [run for run in asked.all() if run["id"] in mine and run["end_time"] is not None]
        if time.perf_counter() - told > 30:
            told = time.perf_counter()
            print(f"{len(ended)} of {runs} after {told - began:.0f} s", file=sys.stderr, flush=True)
        return len(ended) == runs

    wait_for(over, limit_s=60.0 * runs, every_s=2)
    took = time.perf_counter() - began
    ended = [run for run in asked.all() if run["id"] in mine]
    return {
        "runs": runs,
        "trained_every": trained_every,
        "seconds": took,
        "seconds_per_run": took / runs,
        "distinct": len(mine),
        "asked_again": asked.busy,
        "states": dict(Counter(run["state_name"] for run in ended)),
        "attempts": dict(Counter(str(run["run_count"]) for run in ended)),
        "run_folders": len(list(folders.glob("[0-9]*"))) - there,
        "processes_left": len(engines()),
        "database_bytes_per_run": (database_bytes(home) - bytes_before) / runs,
    }


def engines() -> list[int]:
    """Processes of runs."""
    done = subprocess.run(["pgrep", "-f", "flows.deploy.engine"], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def database_bytes(home: Path) -> int:
    return sum(file.stat().st_size for file in (home / "prefect").glob("prefect.db*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--trained-every", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--port", type=int, default=4298, help="of the Prefect server")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        home = Path(name)
        with standing_server(home, options.port) as api:
            env = environment(home, api, options.threads)
            asked = Requests(api)
            with deployed(env, home / "deploy.log"):
                wait_for(asked.ready)
                first_step_s(asked, home / "trainserve" / "runs", 0)  # caches, byte code, the first champion
                steps = []
                for repeat in range(options.requests):
                    steps.append(first_step_s(asked, home / "trainserve" / "runs", 1 + repeat))
                    print(f"first step after {steps[-1]:.2f} s", file=sys.stderr, flush=True)
                many = back_to_back(asked, home, runs=options.runs, trained_every=options.trained_every)
    figures = {
        "command": machine.command("nights"),
        "threads": options.threads,
        "first_step_s": spread(steps),
        "back_to_back": many,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "nights.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({key: figures[key] for key in ("first_step_s", "back_to_back")}, indent=1))


if __name__ == "__main__":
    main()
