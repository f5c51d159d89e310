"""Which processes of this host work on a flow run: by their environment, so a number used again deceives nobody."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MARK = b"PREFECT__FLOW_RUN_ID="
ENGINES = (b"flows.deploy.engine", b"prefect.engine")  # as `python -m` has them


@dataclass(frozen=True)
class Worked:
    """On one flow run: `engine` are the processes that run the flow, `others` what they have started."""

    engine: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    @property
    def alive(self) -> bool:
        return bool(self.engine)


def by_run() -> dict[str, Worked] | None:
    """Flow run's id -> its processes; None where a host does not tell: there is no /proc, or flows are run by another
    user, whose environment is hidden from this one."""
    if not (PROC / "self/environ").exists():
        return None
    found: dict[str, Worked] = {}
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        with suppress(OSError):  # gone meanwhile
            environ = shown(folder / "environ")  # first: of a process that is just beginning it is there last
            cmdline = (folder / "cmdline").read_bytes()
            if environ is None and any(word in ENGINES for word in cmdline.split(b"\0")):
                return None
            run = run_of(environ or b"")
            if run is not None:
                pid, before = int(folder.name), found.get(run, Worked())
                if runs_flows(cmdline):
                    found[run] = Worked((*before.engine, pid), before.others)
                else:
                    found[run] = Worked(before.engine, (*before.others, pid))
    return found


def shown(environ: Path) -> bytes | None:
    """None where it is hidden from this user."""
    try:
        return environ.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
        return b""
    except OSError:
        return None


def run_of(environ: bytes) -> str | None:
    """The flow run that a process was started for; a zombie's environment is empty."""
    for entry in environ.split(b"\0"):
        if entry.startswith(MARK):
            return entry.removeprefix(MARK).decode(errors="replace")
    return None


def runs_flows(cmdline: bytes) -> bool:
    """flows.deploy.engine, prefect.engine, `prefect flow-run execute`; not torchrun, not a data worker."""
    return any(word.endswith(b"engine") or word == b"flow-run" for word in cmdline.split(b"\0"))


def end(worked: Worked) -> None:
    """`kill -9`, what runs the flow first, so that it starts nothing anew."""
    for pid in (*worked.engine, *worked.others):
        if pid != os.getpid():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
