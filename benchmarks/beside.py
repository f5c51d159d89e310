"""What other threads of this process compute while one of a given name is alive: what goes on beside a training."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LOOK_EVERY_S = 0.25
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """All of them seconds."""

    clock: float
    process: float  # processor time of all threads
    thread: float  # of the one of that name
    looking: float  # of the one that takes these samples, which is no part of what is measured

    @property
    def others(self) -> float:
        return self.process - self.thread - self.looking


@dataclass
class Beside:
    """The first and the last sample of every thread of the name, by its id."""

    seen: dict[int, tuple[Sample, Sample]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long threads of the name were alive."""
        return sum(last.clock - first.clock for first, last in self.seen.values())

    @property
    def cpu_s(self) -> float:
        """Processor seconds of the others in that time."""
        return sum(last.others - first.others for first, last in self.seen.values())

    def look(self, name: str) -> None:
        for thread in threading.enumerate():
            if thread.name != name or thread.native_id is None:
                continue
            try:
                used = cpu_of(thread.native_id)
            except OSError:  # it has just ended
                continue
            sample = Sample(time.perf_counter(), time.process_time(), used, time.thread_time())
            first, _ = self.seen.get(thread.native_id, (sample, sample))
            self.seen[thread.native_id] = (first, sample)


def cpu_of(thread: int) -> float:
    """Processor seconds, user's and system's, of a thread of this process, by its native id."""
    fields = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def watching(name: str) -> Iterator[Beside]:
    """Looks until the block ends."""
    beside, over = Beside(), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            beside.look(name)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield beside
    finally:
        over.set()
        thread.join()
