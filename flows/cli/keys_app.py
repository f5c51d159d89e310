"""The commands about API keys: what each takes, and where it is done. No work here."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from data.errors import InputError

File = Annotated[Path | None, Parameter(name="--file", help="The file of keys; by default that of TRAINSERVE_KEYS.")]

keys_app = App(name="keys", help="Who may ask the service: a file of names and hashes, which it follows while it runs.")


@keys_app.command
def new(name: str, /, *, rate: float | None = None, file: File = None, signing: Path | None = None) -> None:
    """Print a new key, the only time that it is shown, and keep its hash; with --signing, one to sign models with.

    Parameters
    ----------
    rate
        Requests that it may send in a second, to all workers of a service together; by default any number.
    signing
        New file for a private key that models are signed with; its public line for a signers' file is printed, as by
        `trainserve models sign-key`.
    """
    if signing is not None:
        if rate is not None or file is not None:
            raise InputError("a key that signs models asks nothing of a service; leave --rate and --file out")
        from flows.cli import signing as keys_that_sign

        keys_that_sign.make_key(signing, name)
        return
    from serving import keys

    path = _chosen(file)
    print(keys.new(path, name, rate=rate), flush=True)
    print(f"{name} is in {path}; send the key as Authorization: Bearer KEY or X-API-Key: KEY", file=sys.stderr)


@keys_app.command(name="list")
def list_(*, file: File = None) -> None:
    """The names, and how often each may ask."""
    from serving import keys

    for key in keys.listed(_chosen(file)):
        print(key.name if key.rate is None else f"{key.name}  {key.rate:g} requests a second")


@keys_app.command
def remove(name: str, /, *, file: File = None) -> None:
    """Take the key NAME away; a running service refuses it within a second."""
    from serving import keys

    keys.remove(_chosen(file), name)


def _chosen(file: Path | None) -> Path:
    from serving import settings

    path = file or settings.load().keys
    if path is None:
        raise InputError("no file of keys is named; export TRAINSERVE_KEYS=FILE, here and where the service starts")
    return path
