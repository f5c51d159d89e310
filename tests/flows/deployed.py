"""`trainserve deploy` as a process of its own, and what the Prefect server knows of its runs."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from lamps import PATIENCE_S, TRAINSERVE, environment, wait_for
from rest import asked

POOL = "trainserve"
FINAL = ("COMPLETED", "FAILED", "CANCELLED")  # from CRASHED a training goes on by itself
PROMPT_S = 1.0


@dataclass
class Server:
    """What is asked of the REST API."""

    api: str
    stood_still_s: float = 0.0  # as far as it was asked meanwhile

    def clock(self) -> float:
        """Seconds, without those in which the server kept everybody waiting. To measure what is promised of runs while
        it works; whoever does has to ask it something again and again."""
        return time.monotonic() - self.stood_still_s

    def ask(self, method: str, path: str, tree: Any = None) -> httpx.Response:
        """Whatever it answers."""
        began = time.monotonic()
        answer = asked(method, f"{self.api}/{path}", tree)
        self.stood_still_s += max(0.0, time.monotonic() - began - PROMPT_S)
        return answer

    def get(self, path: str) -> Any:
        return self.ask("GET", path).raise_for_status().json()

    def post(self, path: str, **tree: Any) -> Any:
        done = self.ask("POST", path, tree).raise_for_status()
        return done.json() if done.content else None

    def patch(self, path: str, **tree: Any) -> None:
        self.ask("PATCH", path, tree).raise_for_status()

    def delete(self, path: str) -> None:
        self.ask("DELETE", path).raise_for_status()

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By their names."""
        return {one["name"]: one for one in self.post("deployments/filter")}

    def begin(self, deployment: str, **parameters: Any) -> str:
        """A run by hand; its id."""
        identity = self.deployments()[deployment]["id"]
        return str(self.post(f"deployments/{identity}/create_flow_run", parameters=parameters)["id"])

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.get(f"flow_runs/{run}")["state"])

    def states(self, run: str) -> list[str]:
        """Names, the oldest first."""
        history = self.get(f"flow_run_states/?flow_run_id={run}")
        return [state["name"] for state in sorted(history, key=lambda state: state["timestamp"])]

    def wait_until(self, run: str, *names: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The state that has one of these names, or failing that another one that is final."""
        seen: dict[str, Any] = {}

        def reached() -> bool:
            seen.update(self.state(run))
            return seen["name"] in names or seen["type"] in FINAL

        wait_for(reached, timeout_s=timeout_s, said=lambda: seen)
        assert seen["name"] in names, f"{seen['name']}: {seen['message']}"
        return seen

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        identity = self.deployments()[deployment]["id"]
        return list(self.post("flow_runs/filter", deployments={"id": {"any_": [identity]}}))

    def artifacts(self, run: str) -> list[dict[str, Any]]:
        return list(self.post("artifacts/filter", flow_runs={"id": {"any_": [run]}}))

    def automations(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.post("automations/filter")}

    def workers(self) -> list[dict[str, Any]]:
        return list(self.post(f"work_pools/{POOL}/workers/filter"))


class Deployed:
    """`with Deployed(home, api, "--cron", ...) as deployed: ...` begins when its worker has shown itself."""

    def __init__(self, home: Path, api: str, *tokens: str | Path, **more: str) -> None:
        self.home, self.server = home, Server(api)
        self.env = environment(home, PREFECT_API_URL=api, **more)
        self.tokens = [str(token) for token in tokens]
        self.log = home / "deploy.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runs_at(self) -> Path:
        return self.home / "trainserve" / "runs"

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        began = datetime.now(UTC)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*TRAINSERVE, "deploy", *self.tokens], cwd=self.home, env=self.env, stdout=log, stderr=log
            )
        wait_for(lambda: self._shown_since(began), timeout_s=2 * PATIENCE_S, every_s=0.5, said=self.said)

    def _shown_since(self, began: datetime) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said()  # it ended: the reason is its last line
        try:
            return any(datetime.fromisoformat(one["last_heartbeat_time"]) > began for one in self.server.workers())
        except httpx.HTTPStatusError:  # no pool so far
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = PATIENCE_S) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def said(self) -> str:
        return self.log.read_text()

    def worker_pid(self) -> int:
        """Of the process that the command keeps."""
        (pid,) = self.worker_pids()
        return pid

    def worker_pids(self) -> list[int]:
        """None while one follows another."""
        assert self.process is not None
        return [pid for pid in processes("flows.deploy.worker") if parent(pid) == self.process.pid]

    def epochs(self) -> int:
        """Of the newest run."""
        files = sorted(self.runs_at.glob("*/history.jsonl"))
        return len(files[-1].read_text().splitlines()) if files else 0

    def __enter__(self) -> "Deployed":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to compute beside the tests that follow, whatever became of this one."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in processes_in(self.home):
            with suppress(ProcessLookupError):
                kill(pid)


def processes(module: str) -> list[int]:
    """Those started as `python -m module`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = words_of(int(entry.name))
            if b"-m" in words and module.encode() in words:
                found.append(int(entry.name))
    return found


def processes_of(run: str) -> list[int]:
    """Those that carry the id of this flow run: its own and its children."""
    return _carrying(f"PREFECT__FLOW_RUN_ID={run}")


def processes_in(home: Path) -> list[int]:
    """Those that work there, whoever started them."""
    return _carrying(f"TRAINSERVE_HOME={home / 'trainserve'}")


def _carrying(mark: str) -> list[int]:
    """In their environment."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and mark.encode() in _read(entry / "environ").split(b"\0")
    ]


def parent(pid: int) -> int:
    text = _read(Path(f"/proc/{pid}/stat")).decode(errors="replace")
    return int(text.rpartition(")")[2].split()[1]) if text else 0


def words_of(pid: int) -> list[bytes]:
    """Its command line; none where it has gone."""
    return _read(Path(f"/proc/{pid}/cmdline")).split(b"\0")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has just ended, or is another user's
        return b""


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)
