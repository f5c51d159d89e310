"""A Prefect server of our own for one run: started while torch is imported, gone with the process that wanted it.

Prefect can start one by itself, but late, after its imports, without the UI, and a `kill -9` leaves it running.
Its database is the one of `PREFECT_HOME`, so a run can be looked at later with `prefect server start`.
"""

import atexit
import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from data.address import secret_in, shown
from data.errors import InputError
from flows.importing import uncollected
from flows.patience import RETRIES

CONNECT_S = 10.0
STALLED_S = 90.0  # a server on SQLite may stand still, rarely, until its wait of 60 s for the database is over
START_UP_S = 180.0  # its first start makes the database: half a minute on a slow machine
ASKED_EVERY_S = 0.02  # whether it answers: a refused connection costs next to nothing

# What it leaves to a server that stays, as Prefect's own temporary server does: each asks the database at its start
# and again every few seconds. Automations, events, cancellation and the removal of old events go on.
NOT_FOR_ONE_RUN = ("SCHEDULER", "LATE_RUNS", "FOREMAN", "PAUSE_EXPIRATIONS", "REPOSSESSOR", "CLEANUP_RECONCILER")

PROTECTION = "PREFECT_SERVER_API_AUTH_STRING"  # for a server that stays; the one of a run listens to this machine only

_ours: set[str] = set()  # API addresses of the servers that end with this process


class ServerStartError(RuntimeError):
    """Not the user's fault; the message names the log."""


class LocalServer:
    """`server = LocalServer(log); server.start(); ... server.wait()`. It ends after Prefect's own last words."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def start(self) -> None:
        """Returns at once. To be called before Prefect is imported: this process will report to it."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.server", str(self._port)],
                stdin=subprocess.PIPE,  # its end tells the server that we are gone, however we went
                stdout=log,
                stderr=log,
                env=_environment(self._port),
                start_new_session=True,  # Ctrl-C is for the run, which still has its last state to report
            )
        os.environ["PREFECT_API_URL"] = self.api
        os.environ.setdefault("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")  # it is of our version
        _ours.add(self.api)
        atexit.register(self.stop)  # the first to register is the last to run: Prefect's queues are empty by then

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self) -> None:
        """Until it answers. Raises `ServerStartError`."""
        assert self._process is not None
        until = time.monotonic() + START_UP_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ServerStartError(f"the local Prefect server ended at its start; see {self._log}")
            try:
                with urllib.request.urlopen(f"{self.api}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(ASKED_EVERY_S)
        raise ServerStartError(f"the local Prefect server did not answer within {START_UP_S:.0f} s; see {self._log}")


def is_ours() -> bool:
    """Whether this process reports to a server that ends with it."""
    return os.environ.get("PREFECT_API_URL") in _ours


def configured() -> str | None:
    """The API that the user has chosen by variable, profile or file; None: nobody has."""
    if chosen := os.environ.get("PREFECT_API_URL"):
        return chosen
    if not any(_mentions(file, "prefect_api_url", "tool.prefect") for file in _setting_files()):
        return None
    from prefect.settings import get_current_settings  # three seconds, so only where it may matter

    return get_current_settings().api.url


def require_answer(api: str, *, timeout_s: float = STALLED_S) -> None:
    """Raises `InputError` if the Prefect server is not there, or is protected and does not know us."""
    import httpx

    if secret_in(api) is not None:
        raise InputError(
            f"the address {shown(api)} has {secret_in(api)}, and would be kept with every run; "
            "leave that out of PREFECT_API_URL and set PREFECT_API_AUTH_STRING=user:password"
        )
    timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
    try:
        httpx.get(f"{api.rstrip('/')}/health", timeout=timeout).raise_for_status()
        known = httpx.get(f"{api.rstrip('/')}/admin/version", headers=authorization(), timeout=timeout)  # unlike health
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(
            f"the Prefect server at {api} does not answer ({error or type(error).__name__}); "
            "start it with `prefect server start`, or correct PREFECT_API_URL"
        ) from None
    if known.status_code == httpx.codes.UNAUTHORIZED:
        doubt = "does not accept what PREFECT_API_AUTH_STRING says" if authorization() else "is protected"
        raise InputError(
            f"the Prefect server at {api} {doubt}; "
            "set PREFECT_API_AUTH_STRING to the user:password that it was started with"
        )


def authorization() -> dict[str, str]:
    """The header for requests of our own to a protected server, from what the user has set for Prefect's own."""
    word, key = os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
    if not (word or key) and any(_mentions(file, "auth_string", "api_key") for file in _setting_files()):
        from prefect.settings import get_current_settings  # three seconds, so only where it may matter

        chosen = get_current_settings().api
        word = chosen.auth_string.get_secret_value() if chosen.auth_string else None
        key = chosen.key.get_secret_value() if chosen.key else None
    if word:
        return {"Authorization": f"Basic {base64.b64encode(word.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"} if key else {}


def _setting_files() -> tuple[Path, ...]:
    """Where Prefect looks for its settings, beside the environment."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    return home / "profiles.toml", Path("prefect.toml"), Path("pyproject.toml"), Path(".env")


def _mentions(file: Path, *words: str) -> bool:
    try:
        text = file.read_text(errors="replace").lower()
    except OSError:
        return False
    return any(word in text for word in words) or (file.name == "prefect.toml" and "url" in text)


def quiet_environment(*, retries: int = RETRIES) -> None:
    """What a run sets before Prefect and torch are imported, unless the user has: no telemetry, patience with slow
    disks, and OpenMP threads that sleep soon, since spinning ones make each other wait on a busy machine."""
    for name, value in {
        "GOMP_SPINCOUNT": "2000",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(round(START_UP_S)),
        "PREFECT_CLIENT_METRICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": str(retries),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # Prefect's least: a run that dies is missed by them
        "BENTOML_DO_NOT_TRACK": "True",
    }.items():
        os.environ.setdefault(name, value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(port: int) -> dict[str, str]:
    return {
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in NOT_FOR_ONE_RUN},
        **{name: value for name, value in os.environ.items() if name != PROTECTION},
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()  # returns when nobody holds the other end
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)


def main(port: int) -> None:
    """The server's own process."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with uncollected():
        import uvicorn
        from prefect.server.api.server import create_app
        from prefect.settings import temporary_settings
    with temporary_settings(restore_defaults=["server.api.auth_string"]):  # a profile may say it, too
        app = create_app(final=True)  # this does look for garbage, once
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", lifespan="on")


if __name__ == "__main__":
    main(int(sys.argv[1]))
