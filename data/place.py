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
