"""What goes wrong in a request -> HTTP status, reason and one sentence, decided here and nowhere else."""

from dataclasses import dataclass
from typing import Literal

from starlette.exceptions import HTTPException

from data.errors import ImageTooLarge, InputError, UnreadableImage
from serving.batching import SaturatedError

# What refusals are counted by: few, and none that a sender could make up.
Reason = Literal[
    "unreadable",
    "too_large",
    "wrong_type",
    "wrong_fields",
    "too_slow",
    "not_found",
    "wrong_method",
    "saturated",
    "unauthorized",
    "too_often",
    "no_model",
    "not_kept",
    "ended",
    "failed",
]
FAULTS: tuple[Reason, ...] = ("ended", "failed")  # the service's own


class RequestError(InputError):
    """A request that cannot be answered. The message is the sentence that the sender gets."""

    status = 400
    reason: Reason = "unreadable"
    retry_after_s: int | None = None  # where asking again may help

    def __init__(self, sentence: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class TooLargeError(RequestError):
    status = 413
    reason = "too_large"


class WrongTypeError(RequestError):
    status = 415
    reason = "wrong_type"


class WrongFieldsError(RequestError):
    status = 422
    reason = "wrong_fields"


class TooSlowError(RequestError):
    status = 408
    reason = "too_slow"


class NotFoundError(RequestError):
    status = 404
    reason = "not_found"


class UnauthorizedError(RequestError):
    status = 401
    reason = "unauthorized"


class TooOftenError(RequestError):
    status = 429
    reason = "too_often"


class NoModelError(RequestError):
    status = 503
    reason = "no_model"
    retry_after_s = 2
    details: dict[str, object] = {}  # noqa: RUF012 - replaced, never changed; further fields of the answer


class EndedError(RequestError):
    """A thread of the service has ended that it cannot do without."""

    status = 503
    reason = "ended"
    retry_after_s = 10


class NotKeptError(RequestError):
    """The request is right, and what it brings cannot be kept."""

    status = 503
    reason = "not_kept"
    retry_after_s = 10


@dataclass(frozen=True)
class Refusal:
    """What the sender gets, and what is counted."""

    status: int
    reason: Reason
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()


def refusal(error: Exception) -> Refusal:
    """The one place that knows statuses. Sentences hold no path, no address and no text of another library."""
    match error:
        case UnauthorizedError():
            challenge = ("WWW-Authenticate", 'Bearer realm="trainserve"')
            return Refusal(error.status, error.reason, str(error), (challenge,))
        case RequestError():
            return Refusal(error.status, error.reason, str(error), _again(error.retry_after_s))
        case ImageTooLarge():
            return Refusal(413, "too_large", str(error))
        case UnreadableImage():
            return Refusal(400, "unreadable", str(error))
        case SaturatedError():
            return Refusal(429, "saturated", "the service is saturated; try again in a second", _again(1))
        case HTTPException(status_code=405):
            allowed = (error.headers or {}).get("Allow", "")
            return Refusal(405, "wrong_method", f"this path takes {allowed or 'another method'}", (("Allow", allowed),))
        case HTTPException():
            return Refusal(404, "not_found", "there is nothing at this path; see /docs.json for what there is")
        case _:
            sentence = "the service failed to answer; the operator finds the reason under this request id"
            return Refusal(500, "failed", sentence)


def _again(seconds: int | None) -> tuple[tuple[str, str], ...]:
    return () if seconds is None else (("Retry-After", str(seconds)),)
