"""Whose models the services of this machine take. No torch here."""

from models.bundle.identity import Identity
from models.bundle.signature import Signers, load_signers
from serving.settings import Settings


def signers(settings: Settings) -> Signers | None:
    """Of `TRAINSERVE_SIGNERS` and `TRAINSERVE_SIGSTORE`, read anew, since a key is withdrawn by its line; None where
    neither is set, so that it does not matter who signed. Raises `InputError` for what is none."""
    keys = load_signers(settings.signers).keys if settings.signers is not None else None
    who = None
    if settings.sigstore is not None:
        name, issuer = settings.sigstore.split(" ")
        who = Identity(name=name, issuer=issuer, root=settings.sigstore_root)
    return Signers(keys=keys, identity=who) if keys is not None or who is not None else None
