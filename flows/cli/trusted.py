"""Whose models the services of this machine take, so that a command refuses what they would refuse."""

from models.bundle.signature import Signers
from serving import settings, trust


def signers() -> Signers | None:
    """None where it does not matter who signed. Raises `InputError` for settings that name nobody."""
    return trust.signers(settings.load())
