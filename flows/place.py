"""Where everything of a user's lives. No import that takes time: the first thing that a run asks for."""

import os
from pathlib import Path

from data.errors import InputError


def home() -> Path:
    """`TRAINSERVE_HOME`, by default `.trainserve` in the working directory; absolute. Raises `InputError`."""
    given = os.environ.get("TRAINSERVE_HOME") or ".trainserve"
    try:
        return Path(given).expanduser().resolve()
    except RuntimeError as error:  # the home of nobody, a link in a circle
        raise InputError(f"TRAINSERVE_HOME {given} is no folder ({error}); set it to a folder you own") from None


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
