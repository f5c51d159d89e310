"""The count of places taken, on the Prefect server: a concurrency limit of 1 per place, held by a lease.

The lock on the host is the truth (flows.slots), so every count that is wrong may be set right by whoever has the lock:
after a kill -9 the lease ends by itself within a minute, after a restart of the server, which forgets leases and keeps
counts, the next one who looks mends it. Nothing here raises.
"""

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx

from flows import api
from flows.api import Api, Away

LEASE_S = 60.0  # the shortest that Prefect takes
RENEWED_EVERY_S = 20.0
LOCKED, CONFLICT = 423, 409

logger = logging.getLogger("trainserve.places")


def limit_name(place: str) -> str:
    """What the limit of a place of this host is called: trainserve-<host>-gpu-0."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", f"{prefix()}{place}")


def prefix() -> str:
    return f"trainserve-{socket.gethostname()}-"


@contextmanager
def leased(places: Sequence[str], *, every_s: float = RENEWED_EVERY_S) -> Iterator[None]:
    """Counted on the server while the block runs, by a thread: training never waits for the server."""
    server = api.lasting()
    if server is None:
        yield
        return
    over = threading.Event()
    lease = Lease(server, [limit_name(place) for place in places])
    thread = threading.Thread(target=_keep, args=(lease, over, every_s), name="places", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2 * api.TIMEOUT_S)


def _keep(lease: "Lease", over: threading.Event, every_s: float) -> None:
    while True:
        with suppress(Away, ValueError, KeyError):
            lease.hold()
        if over.wait(every_s):
            break
    with suppress(Away):
        lease.give_back()


class Lease:
    """One slot of each limit."""

    def __init__(self, server: Api, limits: Sequence[str]) -> None:
        self._server, self._limits = server, list(limits)
        self._id: UUID | None = None

    def hold(self) -> None:
        """Renewed; or taken anew where the server has forgotten it; and the count is 1. Raises `Away`."""
        if self._id is None or not self._renewed():
            self._id = self._taken()
        for limit in self._limits:
            if self._server.get(f"v2/concurrency_limits/{limit}")["active_slots"] != 1:
                set_count(self._server, limit, 1)

    def give_back(self) -> None:
        if self._id is not None:
            self._server.post("v2/concurrency_limits/decrement-with-lease", {"lease_id": str(self._id)})
        for limit in self._limits:  # a lease that the server has forgotten gives nothing back
            set_count(self._server, limit, 0)

    def _renewed(self) -> bool:
        answer = self._server.ask("POST", f"v2/concurrency_limits/leases/{self._id}/renew", {"lease_duration": LEASE_S})
        if answer.is_server_error:
            answer.raise_for_status()  # it may well know the lease: a second one would be in the first one's way
        return answer.is_success

    def _taken(self) -> UUID:
        for limit in self._limits:
            made = self._server.ask("POST", "v2/concurrency_limits/", {"name": limit, "limit": 1})
            if made.status_code not in (CONFLICT, httpx.codes.OK, httpx.codes.CREATED):
                made.raise_for_status()
        answer = self._increment()
        if answer.status_code == LOCKED:  # by one who is dead: the lock is ours
            for limit in self._limits:
                set_count(self._server, limit, 0)
            answer = self._increment()
        answer.raise_for_status()
        return UUID(answer.json()["lease_id"])

    def _increment(self) -> httpx.Response:
        body: dict[str, object] = {
            "names": self._limits,
            "slots": 1,
            "mode": "concurrency",
            "lease_duration": LEASE_S,
        }
        if run := os.environ.get("PREFECT__FLOW_RUN_ID"):
            body["holder"] = {"type": "flow_run", "id": run}
        return self._server.ask("POST", "v2/concurrency_limits/increment-with-lease", body)


def set_count(server: Api, limit: str, count: int) -> None:
    server.patch(f"v2/concurrency_limits/{limit}", {"active_slots": count})


def counted(server: Api) -> dict[str, int]:
    """The limits of this host -> how many are counted as holding them. Raises `Away`."""
    found = server.post("v2/concurrency_limits/filter", {"limit": api.MOST})
    return {one["name"]: one["active_slots"] for one in found if is_here(one["name"])}


def is_here(limit: str) -> bool:
    """Of this host: `box-2` is another one than `box`."""
    here = re.sub(r"[^A-Za-z0-9-]+", "-", prefix())
    return limit.startswith((f"{here}gpu-", f"{here}cpu-"))


def ownerless(counts: dict[str, int], taken: Sequence[str]) -> list[str]:
    """Limits that are counted as held while nobody has the lock. `taken`: places by name."""
    held = {limit_name(place) for place in taken}
    return sorted(limit for limit, count in counts.items() if count > 0 and limit not in held)
