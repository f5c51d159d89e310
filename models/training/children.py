"""Processes that train for this one: started, told to stop, heard, and never left behind. No torch here."""

import json
import os
import selectors
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from data.errors import InputError, RunFailed
from models.training.told import Stopped

ROOT = Path(__file__).parents[2]
POLL_S = 0.2  # how soon a request to stop is passed on
LEAVES_S = 30.0  # how long a process may take to leave once it is asked to


class Lost(RunFailed):
    """A process ended without saying why, as by `kill -9` or for want of memory: worth another try."""


class Heard:
    """What the processes say, passed on; why they ended is kept until all have."""

    def __init__(self, log: Any, listeners: Mapping[str, Callable[[Any], object]]) -> None:
        """`listeners`: by the word before what is told; any other word is the reason for an end."""
        self._log, self._listeners = log, listeners
        self._ends: dict[str, str] = {}

    def __call__(self, line: bytes) -> None:
        try:
            ((what, told),) = json.loads(line).items()
        except (ValueError, AttributeError):
            self._log.write(line + b"\n")  # a library that prints
            return
        if what in self._listeners:
            self._listeners[what](told)
        else:
            self._ends.setdefault(what, told)

    def judge(self, status: int, who: str, log: Path) -> NoReturn:
        """Why nothing was trained. One rank's own reason comes before the complaints of those that lost it."""
        if "wrong" in self._ends:
            raise InputError(self._ends["wrong"])
        if "failed" in self._ends:
            raise RunFailed(self._ends["failed"])
        if "stopped" in self._ends:
            raise Stopped(self._ends["stopped"])
        why = self._ends.get("broken", f"it ended with status {status}")
        kind = RunFailed if "broken" in self._ends else Lost
        raise kind(f"{who} failed ({why}); the log is {log}, and the same command goes on from the last checkpoint")


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], log: Any, *, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, so that Ctrl-C reaches it through us; none of it outlives this process. In `cwd`, if
    this machine has it, since paths that the user gave may begin there."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env=dict(environment),
        cwd=cwd if cwd is not None and cwd.is_dir() else None,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        with suppress(OSError):
            process.stdin.close()  # they leave when they notice
        try:
            process.wait(LEAVES_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(*, threads: int) -> dict[str, str]:
    """Our modules and nobody else's of the same names; that many threads where the user names no other number."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


def lines_of(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> Iterator[bytes]:
    """Until all processes have closed their end; meanwhile a request to stop is passed on."""
    assert process.stdin is not None
    assert process.stdout is not None
    asked, rest = False, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not asked and stop():
                asked = True
                with suppress(OSError):
                    process.stdin.write(b"stop\n")
                    process.stdin.flush()
            if not selector.select(POLL_S):
                continue
            some = os.read(process.stdout.fileno(), 65_536)
            if not some:
                return
            *lines, rest = (rest + some).split(b"\n")
            yield from lines
