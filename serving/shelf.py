"""Where a stored model lies: BentoML's own `models/<name>/<version>/`, our bundle in it as `bundle/`."""

import os
from pathlib import Path

from serving.refs import ModelRef, StoreError


def home() -> Path:
    """The user's BentoML home, as BentoML itself finds it."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml").expanduser().absolute()


def folder(ref: ModelRef) -> Path:
    """Of the version; it need not be there."""
    return home() / "models" / ref.name / ref.version


def path(ref: ModelRef) -> Path:
    """The folder of a stored bundle. Raises `StoreError` if there is none."""
    ModelRef.checked(ref.name, ref.version)
    bundle = folder(ref) / "bundle"
    if not bundle.is_dir():
        raise StoreError(f"{ref} is not in the store; `trainserve models list` shows what is")
    return bundle
