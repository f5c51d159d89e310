"""One question to a Prefect server, asked by somebody who has time."""

import random
import time
from typing import Any

import httpx

BUSY_S = 180.0  # of refusals in a row
ANSWER_S = 180.0  # SQLite's lock is waited for up to a minute, and the whole server may stand still meanwhile


def asked(method: str, url: str, tree: Any = None, *, auth: tuple[str, str] | None = None) -> httpx.Response:
    """Whatever it answers, but that it is busy. SQLite refuses what has read before another one wrote (503): on a busy
    machine several times in a row, so Prefect's own clients ask again as well."""
    until = time.monotonic() + BUSY_S
    while True:
        answer = httpx.request(method, url, json=tree, auth=auth, timeout=ANSWER_S)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
            return answer
        time.sleep(random.uniform(0.2, 1))
