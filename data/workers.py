"""Processes of our own, that read lines and answer them: what those that decode and those that measure share.

No pool's processes: these start from any thread and under any main module, import neither torch nor that module, and
end when their input does, so that none outlives the process that started it, however that one ended.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Process:
    """`python -m MODULE ARGUMENT...`, asked a line at a time."""

    def __init__(self, module: str, *arguments: str, kept: Sequence[int] = ()) -> None:
        """kept: open files that it inherits."""
        self.command = [sys.executable, "-P", "-m", module, *arguments]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, env=environment, pass_fds=kept)
        assert self._process.stdin
        assert self._process.stdout
        self._input: IO[bytes] = self._process.stdin
        self.output: IO[bytes] = self._process.stdout

    def ask(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it has died; its output ends, which whoever reads that finds out
            self._input.write(f"{line}\n".encode())
            self._input.flush()

    def status(self) -> int:
        """Of its end, which is waited for."""
        return self._process.wait()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):  # closing would send what it did not live to read
            self._input.close()
        self.output.close()
