"""Pictures of a listing on a web server: asked for one by one, over few connections, and only if they changed."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from data.access import WAYS, Only
from data.address import shown
from data.download import TRY_AGAIN, Broken, Patience, fast_enough
from data.errors import DownloadError, Unreachable
from data.sources.bucket import WORKERS
from data.sources.mirror import Bring

if TYPE_CHECKING:
    import httpx

LARGEST = 1 << 30  # bytes of one picture


@contextmanager
def pictures(listing: str, headers: dict[str, str], patience: Patience | None = None) -> Iterator[Bring]:
    """What brings a picture by its name relative to the listing's address. `headers` go to its server alone."""
    import httpx  # late: most runs fetch nothing

    patience = patience or Patience()
    above = urlunsplit((*urlsplit(listing)[:3], "", ""))
    with httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(patience.silence_s),
        limits=httpx.Limits(max_connections=WORKERS),
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [Only(listing, headers)]},
    ) as client:

        def bring(name: str, version: str | None, target: Path) -> str | None:
            return _bring(client, urljoin(above, quote(name)), version, target, patience)

        yield bring


def _bring(client: "httpx.Client", url: str, version: str | None, target: Path, patience: Patience) -> str | None:
    import httpx

    for attempt in range(1, patience.attempts + 1):
        try:
            return _attempt(client, url, version, target, patience)
        except (Broken, httpx.TransportError, httpx.TooManyRedirects) as error:
            if attempt == patience.attempts:
                reason = str(error) or type(error).__name__
                kind = Unreachable if isinstance(error, httpx.ConnectError) else DownloadError
                raise kind(
                    f"{shown(url)} could not be downloaded after {attempt} attempts ({reason}); "
                    "check the network and run again, which goes on from there"
                ) from None
            time.sleep(min(patience.first_wait_s * 2 ** (attempt - 1), patience.longest_wait_s))
    return None


def _attempt(client: "httpx.Client", url: str, version: str | None, target: Path, patience: Patience) -> str | None:
    """One request; -> what the server calls this version. Raises `KeyError` where there is no such picture."""
    with client.stream("GET", url, headers=json.loads(version) if version else {}) as response:
        status = response.status_code
        if status == 304 and version:
            return version
        if status in (404, 410):
            raise KeyError(url)
        if status in TRY_AGAIN:
            raise Broken(f"status {status}")
        if status != 200:
            remedy = f"give what it wants to see in {WAYS}" if status in (401, 403) else "check the address"
            raise DownloadError(f"{shown(url)} answers with status {status} {response.reason_phrase}; {remedy}")
        _write(url, response, target, patience)
        said = {
            "If-None-Match": response.headers.get("etag"),
            "If-Modified-Since": response.headers.get("last-modified"),
        }
        return json.dumps({name: value for name, value in said.items() if value})


def _write(url: str, response: "httpx.Response", target: Path, patience: Patience) -> None:
    """Whole or absent."""
    part = target.with_name(f"{target.name}.part")
    have, length = 0, response.headers.get("content-length", "")
    with part.open("wb") as file:
        for chunk in fast_enough(response, patience):
            file.write(chunk)
            have += len(chunk)
            if have > LARGEST:
                raise DownloadError(f"{shown(url)} is larger than {LARGEST:,} bytes, and so no picture; leave it out")
    if length.isdecimal() and have != int(length):
        raise Broken(f"{have:,} of {length} bytes came")
    part.replace(target)
