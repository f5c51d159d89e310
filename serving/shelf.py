"""Where a stored model lies: BentoML's own `models/<name>/<version>/`, our bundle in it as `bundle/`."""

import os
from pathlib import Path

from serving.refs import ModelRef, StoreError

SHORTEST = 4  # letters of a version that stand for the whole of it


def home() -> Path:
    """The user's BentoML home, as BentoML itself finds it."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml").expanduser().absolute()


def folder(ref: ModelRef) -> Path:
    """Of the version; it need not be there."""
    return home() / "models" / ref.name / ref.version


def completed(ref: ModelRef) -> ModelRef:
    """The stored version that this is, or the only one that begins so, as git takes a commit; else the same, which is
    not stored. Raises `StoreError` where several begin so."""
    if (folder(ref) / "bundle").is_dir() or len(ref.version) < SHORTEST:
        return ref
    begun = sorted(found.parent.name for found in (home() / "models" / ref.name).glob(f"{ref.version}*/bundle"))
    if len(begun) > 1:
        raise StoreError(f"{ref} is the beginning of {len(begun)} versions, {', '.join(begun)}; write more of it")
    return ModelRef(name=ref.name, version=begun[0]) if begun else ref


def path(ref: ModelRef) -> Path:
    """The folder of a stored bundle. Raises `StoreError` if there is none."""
    ModelRef.checked(ref.name, ref.version)
    bundle = folder(ref) / "bundle"
    if not bundle.is_dir():
        raise StoreError(f"{ref} is not in the store; `trainserve models list` shows what is")
    return bundle
