"""Whose models the services of this machine take, so that a command refuses what they would refuse."""

from models.bundle.signature import Signers, load_signers
from serving import settings


def signers() -> Signers | None:
    """Of `TRAINSERVE_SIGNERS`; None where that is not set, so that it does not matter who signed.

    Raises `InputError` for a file that is none.
    """
    file = settings.load().signers
    return load_signers(file) if file else None
