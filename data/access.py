"""What a web server wants to see before it hands out a file: from the environment or ~/.netrc, never from a setting,
since settings are kept with every run and shown in Prefect's UI."""

import base64
import netrc
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from data.errors import DownloadError

if TYPE_CHECKING:
    import httpx

VARIABLE = "TRAINSERVE_SOURCE_HEADER"
WAYS = f"~/.netrc or {VARIABLE}"


def headers_for(url: str) -> dict[str, str]:
    """For this server and no other; empty where nothing is known of it. Raises `DownloadError`.

    The variable names the server that it is for: whoever may choose a source may not choose who gets the secret.
    """
    host = urlsplit(url).netloc.lower()
    return _of_variable(host) or _of_netrc(urlsplit(url).hostname or "")


class Only:
    """A hook for httpx: the headers go to the server that they are for, and not where it sends us on to."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._origin, self._headers = urlsplit(url)[:2], headers

    def __call__(self, request: "httpx.Request") -> None:
        at_home = urlsplit(str(request.url))[:2] == self._origin
        for name, value in self._headers.items():
            if at_home:
                request.headers[name] = value
            else:
                request.headers.pop(name, None)


def _of_variable(host: str) -> dict[str, str]:
    given = os.environ.get(VARIABLE)
    if not given:
        return {}
    said = re.fullmatch(r"\s*(\S+)\s+([A-Za-z0-9-]+):\s*(\S.*?)\s*", given)
    if said is None:
        raise DownloadError(
            f"{VARIABLE} is not understood; write HOST NAME: VALUE, as in data.example.org Authorization: Bearer ..."
        )
    return {said[2]: said[3]} if said[1].lower() == host else {}


def _of_netrc(host: str) -> dict[str, str]:
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser()
    try:
        known = netrc.netrc(str(file)).authenticators(host)
    except OSError:
        return {}
    except netrc.NetrcParseError as error:
        raise DownloadError(f"{file} is not understood in line {error.lineno}; correct it") from None
    if known is None:
        return {}
    login, _, password = known
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password or ''}".encode()).decode()}
