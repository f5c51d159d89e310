"""Bundles in the BentoML model store, and the aliases that say which of them is in service.

`BENTOML_HOME` (default `~/bentoml`) holds BentoML's own `models/<name>/<version>/`, where our bundle is the
sub-folder `bundle/`, and beside it `trainserve/aliases/<name>.json`. A version appears whole or not at all.
What is said of roles is in `serving.roles`, what was found on a version in `serving.verdicts`.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from data import whole
from data.spec import Frozen
from serving import shelf
from serving.refs import ROLES, ModelRef, Role, StoreError
from serving.roles import Aliases, alias_path, aliases, champions, change, earlier, latest_promoted, promote, rollback
from serving.shelf import home, path

if TYPE_CHECKING:
    from models.bundle.signature import Signers
    from models.records import ModelCard

__all__ = [
    "Aliases",
    "ModelRef",
    "Stored",
    "alias_path",
    "aliases",
    "card",
    "champions",
    "change",
    "earlier",
    "export",
    "home",
    "latest_promoted",
    "listing",
    "path",
    "promote",
    "resolve",
    "rollback",
    "save",
    "verify",
]


class Stored(Frozen):
    """One line of `listing`."""

    ref: ModelRef
    roles: tuple[Role, ...]
    tried: bool = False  # beside the champion, on real requests
    created: str  # of the bundle, ISO 8601
    accuracy: float | None  # on its test pictures
    bytes: int


def save(bundle: Path, *, signers: "Signers | None" = None) -> ModelRef:
    """Copy a bundle into the store, after opening it (manifest, with `signers` who signed it, and golden replay).
    Saving it again changes nothing, but that one that was signed since is signed in the store too."""
    card = _opened(bundle, signers)
    ref = ModelRef.checked(card.name, card.version)
    with whole.locked(home() / "trainserve" / "saving" / ref.name):
        if shelf.folder(ref).is_dir():
            if _manifest(path(ref)) != _manifest(bundle):
                raise StoreError(f"{ref} is already stored with other contents; give the new one another version")
            _sign_too(path(ref), bundle)
            return ref
        _register(bundle, ref, card)
    return ref


def resolve(text: str) -> ModelRef:
    """`name@version`, or the beginning of a version that only one has; `name@champion` (or challenger, previous), or
    `name`, which means its champion."""
    name, _, version = text.partition("@")
    version = version or "champion"
    if version not in ROLES:
        ref = shelf.completed(ModelRef.checked(name, version))
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
        where = shelf.folder(ref)
        raise StoreError(f"{file} is damaged or of another version; restore it, or remove {where}") from None


def verify(ref: ModelRef, *, signers: "Signers | None" = None) -> "ModelCard":
    """Open a stored bundle as the service would: manifest, signature and golden replay. Raises `BundleError`."""
    return _opened(path(ref), signers)


def export(ref: ModelRef, to: Path) -> Path:
    """Copy a stored bundle to the folder `to`, whole or not at all."""
    source = path(ref)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StoreError(f"{to} is already there; give the name of a new folder")
    with whole.locked(to), whole.folder(to) as part:
        shutil.copytree(source, part, dirs_exist_ok=True)
    return to


def _sign_too(stored: Path, bundle: Path) -> None:
    """With the signatures of the same manifest that the stored one lacks."""
    from models.bundle import identity, signature  # late, as above

    for name in (signature.NAME, identity.NAME):
        if (bundle / name).is_file() and not (stored / name).exists():
            whole.write(stored / name, (bundle / name).read_bytes())


def _manifest(bundle: Path) -> bytes:
    return (bundle / "manifest.json").read_bytes()


def _opened(bundle: Path, signers: "Signers | None" = None) -> "ModelCard":
    from models.bundle.bundle import Bundle  # onnxruntime: only where a bundle is really opened

    return Bundle.open(bundle, signers=signers).card


def _register(bundle: Path, ref: ModelRef, card: "ModelCard") -> None:
    """Let BentoML write the version in a store of its own beside the real one, then rename it into place.

    BentoML copies straight into its store, so that a kill would leave half a model there for ever.
    """
    import bentoml
    from bentoml._internal.models import ModelStore  # the only way to name a store other than the process's own

    shelf.folder(ref).parent.mkdir(parents=True, exist_ok=True)
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
        (staging / ref.name / ref.version).rename(shelf.folder(ref))
        whole.write(shelf.folder(ref).parent / "latest", ref.version.encode())
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stored(ref: ModelRef) -> Stored:
    held = aliases(ref.name)
    read = card(ref)
    return Stored(
        ref=ref,
        roles=tuple(role for role in ROLES if getattr(held, role) == ref),
        tried=held.tries(ref),
        created=read.created,
        accuracy=read.test.accuracy,
        bytes=sum(file.stat().st_size for file in path(ref).rglob("*") if file.is_file()),
    )
