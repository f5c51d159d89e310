"""When a picture was taken, as a text."""

from datetime import UTC, datetime


def at(text: str) -> str:
    """A date or a time in ISO 8601, such that texts are in the order of time; without an offset it is taken as UTC.
    Raises `ValueError`."""
    try:
        time = datetime.fromisoformat(text)
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no date or time; write such as 2026-03-01 or 2026-03-01T14:30:00") from None
    return utc.isoformat(timespec="microseconds")
