"""What the process that keeps the worker looks after, again and again."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from flows import api, due, leases, slots
from flows.deploy.definitions import worker_name
from flows.health import reaper


class Rounds:
    """Remembers since when the server has answered every time: before that it may not have heard from runs."""

    def __init__(self, home: Path) -> None:
        self._worker = worker_name(home)
        self._since: datetime | None = None

    def the_look_for_dead_runs(self) -> None:
        """Raises `Away`."""
        server = api.lasting()
        if server is None:
            return
        since, self._since = self._since, None
        with server:
            changes = reaper.reap(server, self._worker, listening_since=since)
        self._since = since or datetime.now(UTC)
        say(change.sentence for change in changes)

    def the_look_for_missed_runs(self) -> None:
        """Raises `Away`."""
        server = api.lasting()
        if server is None:
            return
        with server:
            cleared = due.clear(server)
        say(f"{one.state_name}: {one.message}" for one in cleared)

    def the_look_for_idle_places(self) -> None:
        """Counted as held by one that died, or that ended while the server was away. Raises `Away`."""
        server = api.lasting()
        if server is None:
            return
        with server:
            for limit in leases.ownerless(leases.counted(server), slots.taken_here()):
                leases.set_count(server, limit, 0)


def say(sentences: Iterable[str]) -> None:
    """For whoever reads. That nobody does any more, or that the disk is full, ends nothing."""
    with suppress(OSError, ValueError):
        for sentence in sentences:
            print(sentence, file=sys.stderr, flush=True)
