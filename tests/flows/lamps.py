"""A tiny folder of pictures, and the console script as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rest import asked

ROOT = Path(__file__).parents[2]
TRAINSERVE = [sys.executable, "-c", "from flows.cli import main; main()"]
NARROW = ["--model.width", "8", "--dataset.size", "12"]
# Few of these tests look at the service that a new model is rehearsed with, and each would wait for it.
SMALL = [*NARROW, "--release.rehearse", "no"]
SHORT = ["--train.epochs", "2", "--train.batch_size", "16"]
TINY = [*SMALL, *SHORT]
PATIENCE_S = 300.0  # where no time is stated: the machine may be slow, and a server stand still for a minute


def draw(folder: Path, *, per_class: int = 30, side: int = 12) -> Path:
    """Two classes that differ in brightness; no two pictures are the same."""
    rng = np.random.default_rng(0)
    for label, level in (("bright", 190), ("dark", 60)):
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.clip(rng.normal(level, 25, (side, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index:03}.png")
    return folder


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the user's: own homes, no terminal width, no Prefect settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TRAINSERVE_"))}
    return {
        **kept,
        "TRAINSERVE_HOME": str(home / "trainserve"),
        "BENTOML_HOME": str(home / "bentoml"),
        "PREFECT_HOME": str(home / "prefect"),
        "TRAINSERVE_PLACES": str(home / "places"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "160",
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **more,
    }


@dataclass(frozen=True)
class Command:
    """`command("run", ...)` in an environment of its own."""

    cwd: Path
    env: dict[str, str]

    def __call__(self, *tokens: str | Path, timeout: float = 2 * PATIENCE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TRAINSERVE, *map(str, tokens)],
            cwd=self.cwd,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *tokens: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*TRAINSERVE, *map(str, tokens)],
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass(frozen=True)
class FinishedRun:
    """What `trainserve run --json` left behind."""

    outcome: dict[str, Any]
    said: str  # on standard error
    server: str
    command: Command

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """`task_runs` or `artifacts` of its flow run, as the server tells them."""
        chosen = {"flow_runs": {"id": {"any_": [self.flow_run["id"]]}}}
        return list(asked("POST", f"{self.server}/api/{kind}/filter", chosen).raise_for_status().json())

    @property
    def flow_run(self) -> dict[str, Any]:
        run_id = self.outcome["flow_run_url"].rpartition("/")[2]
        return dict(asked("GET", f"{self.server}/api/flow_runs/{run_id}").raise_for_status().json())


def wait_for(
    done: Callable[[], bool],
    *,
    timeout_s: float = PATIENCE_S,
    every_s: float = 0.2,
    said: Callable[[], object] = lambda: "",
) -> None:
    """Looks at least once after the time is over: a look may take a minute itself, where it asks a server. `said` is
    what to tell if it was in vain."""
    until = time.monotonic() + timeout_s
    while True:
        looked_at = time.monotonic()
        if done():
            return
        assert looked_at < until, f"not within {timeout_s:.0f} s {said()}"
        time.sleep(every_s)
