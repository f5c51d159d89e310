"""Who vouches for a bundle: Ed25519 (RFC 8032) over the bytes of manifest.json, which holds the digests of all else.

`manifest.sig` lies in the bundle beside it. The private key is one file that only its owner can read; the public ones
are lines `name base64` of a file that a service is told of, one for each that may sign.
"""

import base64
import binascii
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from data import whole
from data.errors import InputError
from data.spec import Frozen
from models.bundle.identity import Identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME = "manifest.sig"
Keys = Mapping[str, bytes]
"""Public ones, 32 bytes each, by the names of their owners."""

logger = logging.getLogger("trainserve.bundle")


@dataclass(frozen=True)
class Signers:
    """Who has to have vouched for a bundle: one of the keys, where they are named, and the identity, where that is."""

    keys: Keys | None = None
    identity: Identity | None = None

    def __post_init__(self) -> None:
        if self.keys is None and self.identity is None:
            raise ValueError("signers that name nobody would let everything through")


class Signature(Frozen):
    format: Literal[1] = 1
    signer: str = Field(min_length=1, max_length=64)
    ed25519: str = Field(max_length=128)  # 64 bytes in base64


def new_key(file: Path, signer: str) -> str:
    """Write a private key to a new file that only this user can read; returns the line for the services' file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    _require_word(signer)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(f"{file} is already there; give the name of a new file") from None
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); give another place") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(f"# signer: {signer}\n".encode() + pem)
    return line_of(key, signer)


def line_of(key: "Ed25519PrivateKey", signer: str) -> str:
    return f"{signer} {base64.b64encode(key.public_key().public_bytes_raw()).decode()}"


def sign(manifest: Path, key_file: Path) -> str:
    """Put the signature beside a manifest; returns the signer's name. Raises `InputError` for a key that is none."""
    signer, key = _private(key_file)
    made = Signature(signer=signer, ed25519=base64.b64encode(key.sign(manifest.read_bytes())).decode())
    # Made beside the bundle: in it, what a kill leaves would be a file too many.
    whole.write(
        manifest.with_name(NAME), made.model_dump_json().encode() + b"\n", within=manifest.resolve().parent.parent
    )
    return signer


def require_key(file: Path) -> None:
    """Raises `InputError` for a key that nothing could be signed with: before what is to be signed takes hours."""
    _private(file)


def load_signers(file: Path) -> Signers:
    """Raises `InputError` for a file that is not there, that others may write, or a line that is no key.

    Its sentences go to whoever asks a service, so they name the file without the folders.
    """
    try:
        info = file.stat()
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise InputError(f"the signers' file {file.name} cannot be read ({reason}); give another") from None
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"others may write the signers' file {file.name}; `chmod go-w` it")
    signers: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key = _decoded(words[1]) if len(words) == 2 else None
        if key is None or len(key) != 32 or words[0] in signers:
            raise InputError(f"line {number} of {file.name} is no signer; write `name key`, each name once")
        signers[words[0]] = key
    if not signers:
        raise InputError(f"{file.name} has no signer, so nothing could be served; add the line that sign-key printed")
    return Signers(keys=signers)


def fault(manifest: bytes, given: bytes | None, signers: Keys) -> str | None:
    """Why this signature vouches for nothing; None: it does. Its sentences go to whoever asks a service: they name
    nobody; the log does."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if given is None:
        logger.warning("a bundle has no %s: only what %s signed is taken", NAME, " or ".join(sorted(signers)))
        return "it is not signed by anybody whom this service trusts"
    try:
        signature = Signature.model_validate_json(given, strict=True)
    except ValidationError:
        return f"its {NAME} cannot be read; sign it again"
    key, value = signers.get(signature.signer), _decoded(signature.ed25519)
    if key is None:
        logger.warning(
            "%s is by %r, and only what %s signed is taken", NAME, signature.signer, " or ".join(sorted(signers))
        )
        return "it is signed by somebody whom this service does not know"
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(value or b"", manifest)
    except InvalidSignature:
        logger.warning("%s is by %r, and not over this manifest", NAME, signature.signer)
        return "it is not what was signed; export and sign it again"
    return None


def _private(file: Path) -> "tuple[str, Ed25519PrivateKey]":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        raw = file.read_bytes()
    except OSError as error:
        raise InputError(f"the signing key {file} cannot be read ({error.strerror}); give another") from None
    head, _, pem = raw.partition(b"\n")
    if file.stat().st_mode & 0o077:
        raise InputError(f"others may read the signing key {file}; `chmod 600 {file}`")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    signer = head.decode("utf-8", "replace").removeprefix("# signer: ").strip()
    if not isinstance(key, Ed25519PrivateKey) or not head.startswith(b"# signer: "):
        raise InputError(f"{file} is no signing key of this project; `trainserve models sign-key` makes one")
    return signer, key


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _require_word(signer: str) -> None:
    if not signer.isidentifier() and not signer.replace("-", "_").isidentifier():
        raise InputError(f"the signer's name {signer!r} is no word; use letters, digits, '-' and '_'")
