"""API keys: a file with one line for each, `name sha256 [requests per second]`, that anybody may read.

A key is 256 random bits, so its plain SHA-256 tells nothing about it. Salted, slow hashes are for secrets that can be
guessed: NIST SP 800-63B asks for them below 112 bits (5.1.2.2, https://pages.nist.gov/800-63-3/sp800-63b.html), and
they would cost each request milliseconds. A key that somebody thought up does not belong here; `new` makes them.
"""

import hashlib
import math
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from data import whole
from data.errors import InputError
from serving import writers

PREFIX = "ts_"  # so that scanners of repositories and logs can know one
BYTES = 32
MAX_FILE_BYTES = 4 << 20
_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+(?P<digest>[0-9a-f]{64})(?:\s+(?P<rate>\S+))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeysError(InputError):
    """A keys file that cannot be used. The sentence never holds what is written in it: that may be a key."""


@dataclass(frozen=True)
class Key:
    name: str
    digest: bytes  # sha256 of the key
    rate: float | None  # requests per second that it may send; None: any number


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()  # latin-1: as headers are decoded


def read(path: Path, trusted: frozenset[int] | None) -> tuple[Key, ...]:
    """The keys of a file that only `trusted` users can have written (None: anyone). Raises `KeysError`."""
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError(
            f"the keys file {path} cannot be read ({error.strerror}); `trainserve keys new` makes one"
        ) from None
    who = writers.stranger(info, trusted) if trusted is not None else None
    if who:
        raise KeysError(
            f"the keys file {path} {who}, who could give himself a key; `chown` or `chmod go-w` it, or name him in "
            "TRAINSERVE_WRITERS"
        )
    return parse(content, path)


def parse(content: bytes, path: Path) -> tuple[Key, ...]:
    """Raises `KeysError` with the number of the first line that is not understood."""
    if len(content) > MAX_FILE_BYTES:
        raise KeysError(f"{path} has more than {MAX_FILE_BYTES:,} bytes, so it is no file of keys")
    found: dict[str, Key] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        text = _text(line)
        if not text:
            continue
        key = _key(text)
        if key is None:
            raise KeysError(
                f"line {number} of {path} is not `name sha256 [requests per second]`; make keys with "
                "`trainserve keys new`"
            )
        if key.name in found:
            raise KeysError(f"line {number} of {path} has the name of an earlier one, {key.name}; give each its own")
        found[key.name] = key
    return tuple(found.values())


def new(path: Path, name: str, *, rate: float | None = None) -> str:
    """A new key, whose digest is appended to the file; nothing keeps the key itself. Raises `KeysError`."""
    if not _NAME.fullmatch(name):
        raise KeysError(f"the name {name!r} is none for a key; use up to 64 of letters, digits, dot, dash, underscore")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise KeysError(f"the rate {rate:g} is none; give the requests per second, above 0, or leave it out")
    key = PREFIX + secrets.token_urlsafe(BYTES)
    with whole.locked(path):
        content = _content(path)
        if name in (held.name for held in parse(content, path)):
            raise KeysError(f"there is a key {name!r} in {path}; choose another name, and remove the old one later")
        separator = b"" if not content or content.endswith(b"\n") else b"\n"
        line = " ".join([name, digest(key).hex(), *([] if rate is None else [f"{rate:g}"])])
        whole.write(path, content + separator + line.encode() + b"\n")
    return key


def listed(path: Path) -> tuple[Key, ...]:
    """For people, who may not be the user of the service. Raises `KeysError`."""
    return parse(_content(path), path)


def remove(path: Path, name: str) -> None:
    """Its line; comments and the others stay. Raises `KeysError` where there is none of that name."""
    with whole.locked(path):
        content = _content(path)
        held = [key.name for key in parse(content, path)]
        if name not in held:
            raise KeysError(f"there is no key {name!r} in {path}; it has {', '.join(held) or 'none'}")
        lines = content.splitlines(keepends=True)
        whole.write(path, b"".join(line for line in lines if _name(line) != name))


def _text(line: bytes) -> str:
    """What stands before the comment."""
    return line.decode("utf-8", "replace").partition("#")[0].strip()


def _name(line: bytes) -> str | None:
    key = _key(_text(line))
    return key.name if key else None


def _key(text: str) -> Key | None:
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    try:
        rate = float(match["rate"]) if match["rate"] else None
    except ValueError:
        return None
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        return None
    return Key(match["name"], bytes.fromhex(match["digest"]), rate)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise KeysError(f"{path} cannot be read ({error.strerror}); give the path of a file of keys") from None
