"""A real Prefect server: started, killed, started again on the same port and database."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from lamps import environment, wait_for
from rest import asked

from data import whole
from tests.ports import free_port

# Prefect's own loops, so fast that a test need not wait for them.
QUICK = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "2",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT2S",
}


def begun(create: str, auth: tuple[str, str] | None = None) -> str:
    """The id of a run by hand."""
    return str(asked("POST", create, {}, auth=auth).raise_for_status().json()["id"])


class Template:
    """A database with all its tables, made once for all servers of the tests: that is most of a first start."""

    folder: Path | None = None  # shared by the processes that run the tests

    @classmethod
    def copied_to(cls, home: Path) -> None:
        """Unless there is one."""
        if cls.folder is None or (home / "prefect.db").exists():
            return
        made = cls.folder / "made" / "prefect" / "prefect.db"
        with whole.locked(cls.folder / "making"):
            if not made.exists():
                made.parent.mkdir(parents=True)
                command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
                subprocess.run(command, env=environment(cls.folder / "made"), check=True, capture_output=True)
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, home)


@dataclass
class PrefectServer:
    """`with PrefectServer(home) as server: ...`"""

    home: Path
    more: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def __enter__(self) -> "PrefectServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it answers."""
        if "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in self.more:
            Template.copied_to(self.home / "prefect")
        env = environment(self.home, PREFECT_UI_API_URL=self.api, PREFECT_API_URL=self.api, **self.more)
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)],
                env=env,
                stdout=log,
                stderr=log,
            )
        wait_for(self.answers, said=(self.home / "server.log").read_text)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "server.log").read_text()
        try:
            return httpx.get(f"{self.api}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """`kill -9`, as a power cut would."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
