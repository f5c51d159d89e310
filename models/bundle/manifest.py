"""What a bundle folder holds: names, sizes and digests, verified before anything in it is parsed."""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from data.errors import InputError
from data.spec import Frozen
from models.bundle import identity, signature
from models.bundle.signature import Signers

NAME = "manifest.json"
PAGE = "README.md"  # the one name with capitals: hubs of models look for it
# 2: parity over files, JPEG and WebP among the golden pictures. No version with it has been released, so it may grow by
# fields that have a default; the first release closes it (`docs/models.md`).
FORMAT = 2
MAX_FILES = 64
LARGEST_MODEL = (2 << 30) - 1  # a protobuf ends at 2 GiB
GRAPHS = ("model.onnx", "model.int8.onnx", "model.fp16.onnx")
BESIDE = frozenset({NAME, signature.NAME, identity.NAME})  # what no manifest lists
MAX_BYTES = {
    NAME: 1 << 20,
    signature.NAME: 4096,
    identity.NAME: identity.MAX_BYTES,
    "card.json": 16 << 20,
    PAGE: 1 << 20,
    **dict.fromkeys(GRAPHS, LARGEST_MODEL),
}
MAX_BYTES_OTHER = 64 << 20  # a golden picture, or the pixels of all of them
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63})?")

Value = TypeVar("Value", bound=BaseModel)


class BundleError(InputError):
    """A bundle that must not be served: one sentence that says why."""


class Entry(Frozen):
    size: int = Field(ge=0)  # bytes
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Frozen):
    """manifest.json: every other file of the bundle, by its path in the folder."""

    format: Literal[1, 2] = 2
    files: dict[str, Entry]


class _Versioned(BaseModel):
    """The one field that every format, past or future, has."""

    format: int


def write(folder: Path) -> None:
    """Write manifest.json over all files in `folder`; the last step of making a bundle."""
    names = sorted(set(_listing(folder)) - BESIDE)
    manifest = Manifest(files={name: _entry((folder / name).read_bytes()) for name in names})
    (folder / NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def verified(folder: Path, *, signers: Signers | None = None) -> dict[str, bytes]:
    """The bytes of every file in the bundle. What is returned is what was hashed: nothing is read twice.

    Raises `BundleError` for a link, a special file, a file too many, too few, too large or changed; with `signers`,
    also for a bundle that they have not signed.
    """
    found = _listing(folder)
    if NAME not in found:
        raise BundleError(f"{folder} has no {NAME}, so it is no bundle; give the bundle folder of a finished run")
    raw = _read(folder, NAME, found[NAME])
    if signers is not None:
        signed = {name: _read(folder, name, found[name]) for name in BESIDE - {NAME} if name in found}
        if (fault := _fault(raw, signed, signers)) is not None:
            raise BundleError(f"{folder} is refused: {fault}")
    manifest = parse(Manifest, raw, NAME)
    _compare_names(folder, set(manifest.files), set(found) - BESIDE)
    return {name: _checked(folder, name, entry, found[name]) for name, entry in manifest.files.items()}


def _fault(raw: bytes, signed: Mapping[str, bytes], signers: Signers) -> str | None:
    """Of what is asked for, the first that is not as it should be."""
    fault = None
    if signers.keys is not None:
        fault = signature.fault(raw, signed.get(signature.NAME), signers.keys)
    if fault is None and signers.identity is not None:
        fault = identity.fault(raw, signed.get(identity.NAME), signers.identity)
    return fault


def parse(model: type[Value], raw: bytes, name: str) -> Value:
    """Strictly: a field too many, too few or of another type is a `BundleError`, and so is a newer format."""
    try:
        version = _Versioned.model_validate_json(raw).format
        if version > FORMAT:
            raise BundleError(
                f"{name} has format {version}, newer than the {FORMAT} this version reads; upgrade trainserve"
            )
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:64] for part in first["loc"]) or "the whole file"
        reason = first["msg"][:200]
    raise BundleError(f"{name} cannot be read: {where}: {reason}; export the run again")


def _compare_names(folder: Path, listed: set[str], found: set[str]) -> None:
    known = {name for name in listed if _NAME.fullmatch(name) or name == PAGE} - BESIDE
    unsafe = sorted(listed - known)
    if unsafe:
        raise BundleError(f"{folder}/{NAME} names the file {unsafe[0][:80]!r}, which no bundle has; refusing it")
    if missing := sorted(listed - found):
        raise BundleError(f"{folder} lacks {missing[0]}; export the run again")
    if extra := sorted(found - listed):
        raise BundleError(f"{folder} holds {extra[0]!r}, which its manifest does not list; remove it or export again")


def _checked(folder: Path, name: str, entry: Entry, size: int) -> bytes:
    if size != entry.size:
        raise BundleError(f"{folder}/{name} has {size} bytes, its manifest says {entry.size}; export the run again")
    raw = _read(folder, name, size)
    if _entry(raw) != entry:
        raise BundleError(f"{folder}/{name} was changed after export (sha256 differs); export the run again")
    return raw


def _entry(raw: bytes) -> Entry:
    return Entry(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())


def _listing(folder: Path) -> dict[str, int]:
    """Path -> size of each regular file, at most one folder deep. Links and special files are refused."""
    if not folder.is_dir():
        raise BundleError(f"there is no bundle at {folder}; give the bundle folder of a finished run")
    sizes: dict[str, int] = {}
    pending = [folder]
    while pending:
        for path in pending.pop().iterdir():
            name = path.relative_to(folder).as_posix()
            info = path.lstat()
            if stat.S_ISDIR(info.st_mode) and "/" not in name:
                pending.append(path)
            elif stat.S_ISREG(info.st_mode):
                sizes[name] = info.st_size
            else:
                raise BundleError(f"{folder} holds {name[:80]!r}, which is not a plain file; refusing it")
            if len(sizes) + len(pending) > MAX_FILES:
                raise BundleError(f"{folder} holds more than {MAX_FILES} files, which no bundle does; refusing it")
    return sizes


def _read(folder: Path, name: str, size: int) -> bytes:
    """All `size` bytes. The flags keep a link or a pipe put there after the listing from being followed."""
    limit = MAX_BYTES.get(name, MAX_BYTES_OTHER)
    if size > limit:
        raise BundleError(f"{folder}/{name} has {size} bytes, more than the {limit} a bundle may have there")
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            raw = stream.read(size + 1)
    except OSError as error:
        raise BundleError(f"{folder}/{name} cannot be read ({error.strerror}); export the run again") from None
    if len(raw) != size:
        raise BundleError(f"{folder}/{name} changed while it was read; try again")
    return raw
