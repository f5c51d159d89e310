"""`trainserve models sign` and `sign-key`."""

from pathlib import Path

from flows.cli import naming
from models.bundle import manifest, signature


def sign(text: str, key: Path) -> None:
    folder = naming.bundle_folder(text)
    manifest.verified(folder)  # nobody vouches for what was changed since
    signer = signature.sign(folder / manifest.NAME, key)
    print(f"{text} is signed by {signer}")


def make_key(file: Path, name: str) -> None:
    print(signature.new_key(file, name))
