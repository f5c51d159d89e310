"""More requests than a service can take, for a moment: it answers what it can, and says of the rest that it is busy."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from models.bundle.parity import AT_ONCE

CONNECTIONS = 16
PICTURES = AT_ONCE // 2  # in a request: two of them fill the queue of a rehearsal
FOR_S = 1.0
ANSWER_S = 300.0
ALLOWED = ("200", "429")


class FaultError(Exception):
    """What is wrong with a service, as a sentence goes on after "the service on it"."""


def under(url: str, file: bytes) -> dict[str, int]:
    """HTTP status, or "failed" -> how often. Raises `FaultError` for any that is neither 200 nor 429."""
    request = httpx.Request("POST", f"{url}/predict_batch", files=[("images", file)] * PICTURES)
    body, headers = request.read(), {"Content-Type": request.headers["Content-Type"]}
    until = time.monotonic() + FOR_S

    def press(_: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        with httpx.Client(trust_env=False, verify=False, timeout=ANSWER_S) as http:
            while time.monotonic() < until:
                try:
                    seen[str(http.post(request.url, content=body, headers=headers).status_code)] += 1
                except httpx.HTTPError:
                    seen["failed"] += 1
        return seen

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        seen = sum(pool.map(press, range(CONNECTIONS)), Counter[str]())
    if wrong := {status: count for status, count in seen.items() if status not in ALLOWED}:
        told = ", ".join(f"{status}: {count}" for status, count in sorted(wrong.items()))
        raise FaultError(f"answered {sum(wrong.values())} of {seen.total()} requests beyond its limit badly ({told})")
    if not seen["200"]:
        raise FaultError(f"answered none of {seen.total()} requests while it was asked for more than it can take")
    return dict(sorted(seen.items()))
