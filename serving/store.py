"""Bundles in the BentoML model store, and the aliases that say which of them is in service.

`BENTOML_HOME` (default `~/bentoml`) holds BentoML's own `models/<name>/<version>/`, where our bundle is the
sub-folder `bundle/`, and beside it `trainserve/aliases/<name>.json`. A version appears whole or not at all.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data import whole
from data.spec import Frozen
from serving import aliases as alias_files
from serving.aliases import AliasFile, Change, Trial
from serving.refs import ROLES, ModelRef, Role, StoreError

if TYPE_CHECKING:
    from models.records import ModelCard


class Aliases(Frozen):
    """Which versions of a model have a role, and how that came about."""

    champion: ModelRef | None
    challenger: ModelRef | None
    previous: ModelRef | None
    trial: Trial | None
    history: tuple[Change, ...]  # oldest first


class Stored(Frozen):
    """One line of `listing`."""

    ref: ModelRef
    roles: tuple[Role, ...]
    created: str  # of the bundle, ISO 8601
    accuracy: float | None  # on its test pictures
    bytes: int


def home() -> Path:
    """The user's BentoML home, as BentoML itself finds it."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml").expanduser().absolute()


def save(bundle: Path) -> ModelRef:
    """Copy a bundle into the store, after opening it (manifest and golden replay). Saving it again changes nothing."""
    card = _opened(bundle)
    ref = ModelRef.checked(card.name, card.version)
    with whole.locked(home() / "trainserve" / "saving" / ref.name):
        if _folder(ref).is_dir():
            if _manifest(path(ref)) != _manifest(bundle):
                raise StoreError(f"{ref} is already stored with other contents; give the new one another version")
            return ref
        _register(bundle, ref, card)
    return ref


def path(ref: ModelRef) -> Path:
    """The folder of a stored bundle. Raises `StoreError` if there is none."""
    ModelRef.checked(ref.name, ref.version)
    folder = _folder(ref) / "bundle"
    if not folder.is_dir():
        raise StoreError(f"{ref} is not in the store; `trainserve models list` shows what is")
    return folder


def resolve(text: str) -> ModelRef:
    """`name@version`, `name@champion` (or challenger, previous), or `name`, which means its champion."""
    name, _, version = text.partition("@")
    version = version or "champion"
    if version not in ROLES:
        ref = ModelRef.checked(name, version)
        path(ref)
        return ref
    ModelRef.checked(name, "0")
    found: ModelRef | None = getattr(aliases(name), version)
    if found is None:
        raise StoreError(f"model {name!r} has no {version}; `trainserve models list` shows what there is")
    return found


def listing() -> tuple[Stored, ...]:
    """Every stored bundle, by name and then oldest first."""
    found = []
    for folder in sorted((home() / "models").glob("*/*/bundle/card.json")):
        version = folder.parent.parent
        found.append(_stored(ModelRef(name=version.parent.name, version=version.name)))
    return tuple(sorted(found, key=lambda stored: (stored.ref.name, stored.created)))


def card(ref: ModelRef) -> "ModelCard":
    """What the bundle says of itself, unverified. Raises `StoreError` where it cannot be read."""
    from models.records import ModelCard

    file = path(ref) / "card.json"
    try:
        return ModelCard.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        raise StoreError(f"{file} is damaged or of another version; restore it, or remove {_folder(ref)}") from None


def verify(ref: ModelRef) -> "ModelCard":
    """Open a stored bundle as the service would: manifest and golden replay. Raises `BundleError`."""
    return _opened(path(ref))


def export(ref: ModelRef, to: Path) -> Path:
    """Copy a stored bundle to the folder `to`, whole or not at all."""
    source = path(ref)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StoreError(f"{to} is already there; give the name of a new folder")
    with whole.locked(to), whole.folder(to) as part:
        shutil.copytree(source, part, dirs_exist_ok=True)
    return to


def aliases(name: str) -> Aliases:
    """Who has which role; nobody where nothing was ever promoted."""
    ModelRef.checked(name, "0")
    return _aliases(name, alias_files.read(home(), name))


def promote(ref: ModelRef, *, reason: str) -> Aliases:
    """Make `ref` the champion; a running service follows within two seconds."""
    path(ref)

    def edit(old: AliasFile) -> AliasFile:
        return old.model_copy(
            update={
                "champion": ref.version,
                "previous": old.previous if old.champion == ref.version else old.champion,
                "challenger": None if old.challenger == ref.version else old.challenger,
                "trial": None,  # the champion that it was compared with is gone
                "history": (*old.history, alias_files.entry("promote", ref.version, old.champion, reason)),
            }
        )

    return change(ref.name, edit)


def rollback(name: str, *, reason: str) -> ModelRef:
    """Make the previous champion the champion again. Rolling back twice comes back."""
    ModelRef.checked(name, "0")

    def edit(old: AliasFile) -> AliasFile:
        if old.previous is None:
            there = "" if old.champion else f"; models in service: {', '.join(alias_files.names(home())) or 'none'}"
            raise StoreError(f"model {name!r} has no previous champion to go back to{there or '; promote a version'}")
        path(ModelRef(name=name, version=old.previous))
        change = alias_files.entry("rollback", old.previous, old.champion, reason)
        roles = {"champion": old.previous, "previous": old.champion, "trial": None}
        return old.model_copy(update={**roles, "history": (*old.history, change)})

    champion = change(name, edit).champion
    assert champion is not None
    return champion


def change(name: str, edit: Callable[[AliasFile], AliasFile]) -> Aliases:
    """Replace the roles of a name, under its lock."""
    return _aliases(name, alias_files.change(home(), name, edit))


def latest_promoted() -> str | None:
    """Name of the model whose champion was decided last."""
    decided = [
        (change.when, name)
        for name in alias_files.names(home())
        for change in alias_files.read(home(), name).history
        if change.what in alias_files.DECISIONS
    ]
    return max(decided)[1] if decided else None


def champions() -> tuple[ModelRef, ...]:
    """Of every name that has one, in the order of names."""
    held = (aliases(name).champion for name in alias_files.names(home()))
    return tuple(ref for ref in held if ref is not None)


def alias_path(name: str) -> Path:
    """The file to watch for a promotion of `name`."""
    return alias_files.file_of(home(), name)


def _folder(ref: ModelRef) -> Path:
    return home() / "models" / ref.name / ref.version


def _manifest(bundle: Path) -> bytes:
    return (bundle / "manifest.json").read_bytes()


def _opened(bundle: Path) -> "ModelCard":
    from models.bundle.bundle import Bundle  # onnxruntime: only where a bundle is really opened

    return Bundle.open(bundle).card


def _register(bundle: Path, ref: ModelRef, card: "ModelCard") -> None:
    """Let BentoML write the version in a store of its own beside the real one, then rename it into place.

    BentoML copies straight into its store, so that a kill would leave half a model there for ever.
    """
    import bentoml
    from bentoml._internal.models import ModelStore  # the only way to name a store other than the process's own

    _folder(ref).parent.mkdir(parents=True, exist_ok=True)
    staging = home() / f".saving-{ref.name}"  # the caller holds the lock of this name
    shutil.rmtree(staging, ignore_errors=True)  # left there by a process that was killed
    staging.mkdir()
    labels = {"application": "trainserve", "kind": card.kind, "data": card.lineage.fingerprint[:16]}
    metadata = {"accuracy": card.test.accuracy, "classes": len(card.classes), "parameters": card.parameters}
    try:
        with bentoml.models.create(
            f"{ref.name}:{ref.version}", labels=labels, metadata=metadata, _model_store=ModelStore(staging)
        ) as model:
            shutil.copytree(bundle, Path(model.path) / "bundle")
        (staging / ref.name / ref.version).rename(_folder(ref))
        whole.write(_folder(ref).parent / "latest", ref.version.encode())
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stored(ref: ModelRef) -> Stored:
    held = aliases(ref.name)
    read = card(ref)
    return Stored(
        ref=ref,
        roles=tuple(role for role in ROLES if getattr(held, role) == ref),
        created=read.created,
        accuracy=read.test.accuracy,
        bytes=sum(file.stat().st_size for file in path(ref).rglob("*") if file.is_file()),
    )


def _aliases(name: str, file: AliasFile) -> Aliases:
    refs = {role: ModelRef(name=name, version=version) for role in ROLES if (version := getattr(file, role))}
    return Aliases(
        champion=refs.get("champion"),
        challenger=refs.get("challenger"),
        previous=refs.get("previous"),
        trial=file.trial,
        history=file.history,
    )
