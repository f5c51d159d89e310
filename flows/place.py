"""Where everything of a user's lives, made if need be. No import that takes time: a run asks for it first."""

import os
from pathlib import Path

from data.errors import InputError
from data.place import home

__all__ = ["home", "writable_home"]


def writable_home() -> Path:
    """The home folder, made if need be. Raises `InputError` where nothing can be written."""
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"TRAINSERVE_HOME {folder} cannot be made ({error.strerror}); set it to a folder you own"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"TRAINSERVE_HOME {folder} cannot be written; set it to a folder you own")
    return folder
