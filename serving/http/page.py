"""The page: one file, whose own script and style are the only ones its policy allows."""

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Page:
    html: bytes
    headers: dict[str, str]


def load(path: Path) -> Page:
    """Read the page and write its policy: a script that someone else put into it would not run."""
    html = path.read_bytes()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_digests(html, b'script')}",
            f"style-src {_digests(html, b'style')}",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Page(html, {"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


def _digests(html: bytes, tag: bytes) -> str:
    """CSP sources for the inline blocks: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, flags=re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(block).digest()).decode()}'" for block in blocks)
