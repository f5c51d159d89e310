"""The trace that a request belongs to: W3C Trace Context, https://www.w3.org/TR/trace-context/."""

import re

from starlette.datastructures import Headers

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_id(headers: Headers) -> str | None:
    """Of the sender's trace, for the log; None where there is none or it is malformed, as if it had not been sent.

    Nothing goes back: the header is for whoever is asked next, and this service asks nobody.
    """
    given = headers.getlist("traceparent")
    match = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        return None
    version, trace, parent, more = match.groups()
    known = version != "ff" and (version != "00" or more is None)  # later versions may add to what 00 has
    return trace if known and int(trace, 16) and int(parent, 16) else None
