"""Which bundle a person means: a folder that holds one, or a model of the store."""

import sys
from pathlib import Path

from data.errors import InputError
from models.bundle import manifest
from serving import store
from serving.refs import StoreError


def bundle_folder(text: str) -> Path:
    """The bundle's folder. What is there decides: a folder that holds a bundle, otherwise NAME or NAME@VERSION.

    Raises `InputError` where neither is there, and says on standard error which was taken where both are.
    """
    folder = Path(text)
    if "/" in text:
        if not folder.is_dir():
            raise InputError(f"there is no bundle {text!r}; name a folder, or NAME@VERSION of the store")
        return folder  # what is wrong with it is said when it is opened
    try:
        stored = store.path(store.resolve(text))
    except StoreError as error:
        if (folder / manifest.NAME).is_file():
            return folder
        if folder.is_dir():
            raise InputError(f"the folder {text!r} holds no bundle, having no {manifest.NAME}, and {error}") from None
        raise
    if not (folder / manifest.NAME).is_file():
        return stored
    print(
        f"{text!r} is a bundle folder here and a model of the store: the folder is taken; "
        f"write {text}@champion for the other",
        file=sys.stderr,
    )
    return folder
