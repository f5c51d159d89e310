"""The model store: every model with a role opens, every role names a model, nothing is half saved."""

import shutil
from functools import partial
from pathlib import Path

from data import whole
from flows.health.checked import Checked, Checks, Level
from models.bundle.manifest import BundleError
from serving import aliases, store
from serving.refs import ROLES, ModelRef, StoreError


def models() -> Checks:
    """The service would refuse one that does not open."""
    stored = [one for one in store.listing() if one.roles]
    if not stored:
        yield Checked("models", "note", f"none in service in {store.home()}; `trainserve run` trains one")
    for one in stored:
        roles = ", ".join(one.roles)
        try:
            store.verify(one.ref)
            yield Checked("model", "ok", f"{one.ref} ({roles}) is whole and answers as it did")
        except BundleError as error:
            remedy = f"{error}; `trainserve models rollback {one.ref.name}` or train again"
            yield Checked("model", "wrong", f"{one.ref} ({roles}): {remedy}")


def roles() -> Checks:
    """Of models that are no longer there."""
    for name in aliases.names(store.home()):
        try:
            held = aliases.read(store.home(), name)
        except StoreError as error:
            yield Checked("role", "wrong", str(error))
            continue
        for role in ROLES:
            version = getattr(held, role)
            if version and not (store.home() / "models" / name / version / "bundle").is_dir():
                ref = ModelRef(name=name, version=version)
                remedy = f"`trainserve models promote {name}@VERSION` gives the role to another one"
                level: Level = "wrong" if role == "champion" else "note"
                yield Checked("role", level, f"{ref} is the {role} and is not in the store; {remedy}")


def half_saved() -> Checks:
    """What a kill left while a model was saved."""
    for left in store.home().glob(".saving-*"):
        if not whole.held(_guard(left)):  # a model is being saved there right now
            yield Checked("store", "note", f"{left} was left by a process that was killed", fix=partial(_remove, left))


def _guard(left: Path) -> Path:
    """What a process that saves a model of this name holds locked."""
    return store.home() / "trainserve" / "saving" / left.name.removeprefix(".saving-")


def _remove(left: Path) -> str:
    with whole.locked(_guard(left)):  # not one under way
        shutil.rmtree(left, ignore_errors=True)
    return f"{left} is deleted"
