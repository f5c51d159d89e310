"""`trainserve models sign` and `sign-key`."""

from pathlib import Path

from data.errors import InputError
from flows.cli import naming
from models.bundle import identity, manifest, signature


def sign(text: str, key: Path | None, *, sigstore: bool) -> None:
    if not sigstore and key is None:
        raise InputError("nothing to sign with; name a key, --key FILE or TRAINSERVE_SIGNING_KEY, or say --sigstore")
    folder = naming.bundle_folder(text)
    manifest.verified(folder)  # nobody vouches for what was changed since
    file = folder / manifest.NAME
    signer = signature.sign(file, key) if key is not None and not sigstore else identity.sign(file)
    print(f"{text} is signed by {signer}")


def make_key(file: Path, name: str) -> None:
    print(signature.new_key(file, name))
