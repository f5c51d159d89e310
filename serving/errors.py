"""What goes wrong in a request -> HTTP status and one sentence, decided here and nowhere else."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException

from data.errors import ImageTooLarge, InputError, UnreadableImage
from serving.batching import SaturatedError


class RequestError(InputError):
    """A request that cannot be answered. The message is the sentence that the sender gets."""

    status = 400


class TooLargeError(RequestError):
    status = 413


class WrongTypeError(RequestError):
    status = 415


class WrongFieldsError(RequestError):
    status = 422


class TooSlowError(RequestError):
    status = 408


class NotFoundError(RequestError):
    status = 404


class UnauthorizedError(RequestError):
    status = 401


class TooOftenError(RequestError):
    status = 429

    def __init__(self, sentence: str, *, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class NoModelError(RequestError):
    status = 503
    details: dict[str, object] = {}  # noqa: RUF012 - replaced, never changed; further fields of the answer


class NotKeptError(RequestError):
    """The request is right, and what it brings cannot be kept."""

    status = 503


@dataclass(frozen=True)
class Refusal:
    """What the sender gets."""

    status: int
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()


def refusal(error: Exception) -> Refusal:
    """The one place that knows statuses. Sentences hold no path, no address and no text of another library."""
    match error:
        case NoModelError():
            return Refusal(503, str(error), (("Retry-After", "2"),))
        case UnauthorizedError():
            return Refusal(401, str(error), (("WWW-Authenticate", 'Bearer realm="trainserve"'),))
        case TooOftenError():
            return Refusal(429, str(error), (("Retry-After", str(error.retry_after_s)),))
        case RequestError():
            return Refusal(error.status, str(error))
        case ImageTooLarge():
            return Refusal(413, str(error))
        case UnreadableImage():
            return Refusal(400, str(error))
        case SaturatedError():
            return Refusal(429, "the service is saturated; try again in a second", (("Retry-After", "1"),))
        case HTTPException(status_code=405):
            allowed = (error.headers or {}).get("Allow", "")
            return Refusal(405, f"this path takes {allowed or 'another method'}", (("Allow", allowed),))
        case HTTPException():
            return Refusal(404, "there is nothing at this path; see /docs.json for what there is")
        case _:
            return Refusal(500, "the service failed to answer; the operator finds the reason under this request id")
