"""Requests at a steady rate, sent when they are due and not when the last one is answered; what became of each."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """`status` is 0 where there was none: `broken` says why."""

    sent: float  # time.monotonic()
    took_s: float  # from when it was due
    status: int = 0
    headers: Any = None  # http.client's, which do not mind case
    body: bytes = b""
    broken: str = ""

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def model(self) -> str:
        """Who gave it; "" for a refusal."""
        return str(self.json["model"]) if self.status == 200 else ""


class Load:
    """`POST path` with `body`, `rate` times a second by `senders` connections, until the block ends."""

    def __init__(
        self,
        port: int,
        body: bytes,
        *,
        rate: float,
        senders: int = 8,
        path: str = "/predict",
        media_type: str = "image/png",
        keep: bool = True,
    ) -> None:
        self.answers: list[Answer] = []
        self._port, self._path, self._body = port, path, body
        self._headers = {"Content-Type": media_type} | ({} if keep else {"Connection": "close"})
        self._apart_s = senders / rate
        self._stop = threading.Event()
        begin = time.monotonic()
        self._threads = [
            threading.Thread(target=self._send, args=(begin + i / rate,), daemon=True) for i in range(senders)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, happened: Callable[[], bool]) -> None:
        """Until it has, while requests go on."""
        end = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end, f"it has not happened after {PATIENCE_S} s, {len(self.answers)} answers"
            time.sleep(0.01)

    def wait_for(self, answers: int) -> None:
        """Until so many more have come."""
        goal = len(self.answers) + answers
        self.wait(lambda: len(self.answers) >= goal)

    def _send(self, due: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            sent = time.monotonic()
            try:
                connection.request("POST", self._path, self._body, self._headers)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.answers.append(Answer(sent, time.monotonic() - due, broken=repr(error)))
            else:
                took_s = time.monotonic() - due
                self.answers.append(Answer(sent, took_s, response.status, response.headers, body))
            due = max(due + self._apart_s, time.monotonic() - 1)  # one that fell behind does not send all at once
        connection.close()
