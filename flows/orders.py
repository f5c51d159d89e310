"""How a flow speaks to its tasks, on whatever machine they are: by a file on the disk that all share.

The file holds a number that grows every few seconds, or the word stop. A task whose flow was killed notices that the
number grows no more, without comparing clocks, and stops too.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

STOP = "stop"
BEAT_S = 3.0
SILENT_S = 30.0  # without a beat: the flow is gone
LOOK_EVERY_S = 0.5


class Orders:
    """The flow's side: `with orders.given(): ...` while tasks are under way."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._over = threading.Event()
        self._asked = threading.Event()
        self._writing = threading.Lock()

    @contextmanager
    def given(self) -> Iterator[None]:
        """Afterwards the file is gone, which says stop to whoever still looks."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._write("0")
        thread = threading.Thread(target=self._beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self.file.unlink(missing_ok=True)

    def stop(self) -> None:
        self._asked.set()
        with suppress(OSError):  # then it is with the next beat
            self._write(STOP)

    def _beat(self) -> None:
        for number in count(1):
            if self._over.wait(BEAT_S):
                return
            with suppress(OSError):  # a full disk for a moment
                self._write(str(number))

    def _write(self, text: str) -> None:
        part = self.file.with_name(f".{self.file.name}.part")
        with self._writing:
            part.write_text(STOP if self._asked.is_set() else text)
            part.replace(self.file)


def heeding(file: Path, *, silent_s: float = SILENT_S) -> Callable[[], bool]:
    """The task's side: whether it is to stop. To be asked as often as one likes."""
    last: list[str | float] = ["", time.monotonic(), float("-inf")]  # what it said, since when, when looked at

    def stop() -> bool:
        now = time.monotonic()
        if now - float(last[2]) < LOOK_EVERY_S:
            return last[0] == STOP
        last[2] = now
        try:
            said = file.read_text()
        except FileNotFoundError:
            said = STOP
        except OSError:
            said = str(last[0])
        if said != last[0]:
            last[:2] = said, now
        elif now - float(last[1]) > silent_s:
            last[0] = STOP
        return last[0] == STOP

    return stop
