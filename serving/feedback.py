"""What people say a picture really shows: lines of JSON in TRAINSERVE_HOME/feedback, one file for a day and a worker.

Pictures are kept only where the operator has asked for it. No name of a file comes from outside: files are called by
the day and a word of the worker's own, pictures by their digest.
"""

import hashlib
import json
import logging
import os
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from data import whole
from data.spec import Frozen
from models.records import ModelCard
from serving.errors import NotKeptError, RequestError, WrongFieldsError
from serving.served import Served
from serving.settings import MIB, Settings

REQUEST_ID = r"[A-Za-z0-9._:-]{1,128}"
DAY_S = 86_400
RECENT = 1000  # answers of a worker that are remembered
RECENT_BYTES = 64 * MIB  # of their pictures
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"GI": ".gif", b"BM": ".bmp"}  # else TIFF

logger = logging.getLogger("trainserve.feedback")


class Opinion(Frozen):
    """The body of a request."""

    request_id: str = Field(pattern=f"^{REQUEST_ID}$")  # of the answer that it is about
    label: str


class Line(Frozen):
    """One line of a file."""

    when: str  # ISO 8601, UTC
    request_id: str
    name: str  # of the model
    label: str  # what the picture shows, says the sender
    model: str | None  # name@version that answered; None: this worker does not remember the answer
    answered: str | None
    probability: float | None
    picture: str | None  # a file beside this one


@dataclass(frozen=True)
class Answered:
    """What is remembered of an answer; not the model, which would stay in memory."""

    name: str
    model: str
    classes: tuple[str, ...]
    label: str
    probability: float
    picture: bytes | None


def read(body: bytes) -> Opinion:
    """Raises `RequestError`, `WrongFieldsError`."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not valid JSON") from None
    try:
        return Opinion.model_validate(content)
    except ValidationError:
        raise WrongFieldsError(
            'the JSON must be {"request_id": "<the id of an answer>", "label": "<a class>"} and nothing else'
        ) from None


class Recent:
    """The last answers, by request id. Belongs to the event loop."""

    def __init__(self, *, most: int = RECENT, most_bytes: int = RECENT_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._answers: OrderedDict[str, Answered] = OrderedDict()
        self._bytes = 0

    def add(self, request_id: str, answered: Answered) -> None:
        self._forget(request_id)  # a sender may have given the same id twice: the later one counts
        self._answers[request_id] = answered
        self._bytes += len(answered.picture or b"")
        while len(self._answers) > self._most or self._bytes > self._most_bytes:
            self._forget(next(iter(self._answers)))

    def find(self, request_id: str) -> Answered | None:
        return self._answers.get(request_id)

    def _forget(self, request_id: str) -> None:
        old = self._answers.pop(request_id, None)
        self._bytes -= len(old.picture or b"") if old else 0


class Feedback:
    """Of one worker. `answered` and `known` belong to the event loop, `keep` to a thread."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._recent = Recent()
        self._worker = secrets.token_hex(4)  # nobody else writes to files of this name
        self._lock = threading.Lock()
        self._day = ""
        self._lines = self._picture_bytes = 0  # of this day

    def answered(self, request_id: str, served: Served, label: str, probability: float, picture: bytes) -> None:
        """Remember, for the case that somebody objects."""
        kept = picture if self._settings.keep_pictures else None
        card = served.bundle.card
        self._recent.add(request_id, Answered(card.name, served.name, card.classes, label, probability, kept))

    def known(self, request_id: str) -> Answered | None:
        """None: another worker answered, or it was long ago, or nobody did."""
        return self._recent.find(request_id)

    def keep(self, opinion: Opinion, about: Answered | ModelCard) -> Line:
        """`about`: the answer, or where that is not known the model. Raises `NotKeptError`."""
        known = about if isinstance(about, Answered) else None
        with self._lock:
            now = datetime.now(UTC)
            self._turn_the_day(now.date().isoformat())
            if self._lines == self._settings.feedback_a_day:
                raise NotKeptError(
                    f"no more than {self._lines:,} lines of feedback are kept a day; come back tomorrow",
                    retry_after_s=DAY_S - (now.hour * 3600 + now.minute * 60 + now.second),
                )
            try:
                line = Line(
                    when=now.isoformat(timespec="milliseconds"),
                    request_id=opinion.request_id,
                    name=about.name,
                    label=opinion.label,
                    model=known.model if known else None,
                    answered=known.label if known else None,
                    probability=known.probability if known else None,
                    picture=self._kept_picture(known.picture) if known and known.picture else None,
                )
                self._append((line.model_dump_json() + "\n").encode())
            except OSError as error:
                logger.error("feedback cannot be kept: %s", error)
                raise NotKeptError("the feedback cannot be written down at the moment; tell the operator") from None
            self._lines += 1
            return line

    def _turn_the_day(self, day: str) -> None:
        if day != self._day:
            self._day, self._lines, self._picture_bytes = day, 0, 0

    def _kept_picture(self, picture: bytes) -> str | None:
        """Its name, relative to the folder; None where the day's bytes are spent."""
        suffix = SUFFIXES.get(picture[:2], ".tif")
        path = self._folder / "pictures" / f"{hashlib.sha256(picture).hexdigest()}{suffix}"
        if not path.exists():
            if self._picture_bytes + len(picture) > self._settings.feedback_bytes_a_day:
                return None
            self._made()
            whole.write(path, picture)
            self._picture_bytes += len(picture)
        return path.relative_to(self._folder).as_posix()

    def _append(self, line: bytes) -> None:
        """The whole line or nothing of it: half a line would spoil the next one, too."""
        self._made()
        path = self._folder / f"{self._day}-{self._worker}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, line) < len(line):
                os.ftruncate(descriptor, before)
                raise OSError("the disk is full")
        finally:
            os.close(descriptor)

    def _made(self) -> None:
        """What people sent is for the operator's eyes."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
