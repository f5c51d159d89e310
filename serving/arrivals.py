"""Bundles from elsewhere: unpacked out of sight, proved, and only then stored. None is put into service by that."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data import archive, whole
from data.archive import Limits
from data.errors import InputError
from serving import shelf, store
from serving.refs import ModelRef

if TYPE_CHECKING:
    from models.bundle.signature import Signers

STAGING = ".saving-_import"  # beside what is saved: what a kill leaves, `doctor` finds; no model is called so
LIMITS = Limits(total_bytes=8 << 30, files=256)  # far more than a bundle has


def arrive(source: Path, *, signers: "Signers | None" = None) -> ModelRef:
    """Store the bundle that `source` is or holds: a folder, an OCI layout, or a .tar, .tar.gz or .zip of one of these.

    Verified as it is stored: manifest, with `signers` who signed it, and golden replay.

    Raises `InputError` for what is no bundle, `BundleError` for one that must not be served, and `SourceError` for an
    archive that leads out of its folder, is damaged, or larger than any bundle. The store is then as it was.
    """
    if not source.exists():
        raise InputError(f"there is nothing at {source}; give a bundle folder, an archive of one, or an OCI layout")
    with _staging() as staging:
        folder = source
        if not source.is_dir():
            folder = archive.extract(source, staging / "unpacked", limits=LIMITS)
        return store.save(_bundle(folder, source, staging), signers=signers)


def _bundle(folder: Path, source: Path, staging: Path) -> Path:
    """The bundle's folder: `folder` itself, a single one in it, or what the layout that is there holds."""
    from models.bundle import manifest, oci

    for place in (folder, *_single(folder)):
        if (place / manifest.NAME).is_file():
            return place
        if (place / oci.MARK).is_file():
            return oci.read(place, staging / "bundle")
    raise InputError(
        f"{source} holds neither a bundle, having no {manifest.NAME}, nor an OCI layout, having no {oci.MARK}; "
        "`trainserve models export` makes both"
    )


def _single(folder: Path) -> list[Path]:
    """The one folder in a folder that somebody packed from outside; an archive may be of anything."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not archive.is_hidden(path.name)]
    return folders if len(folders) == 1 else []


@contextmanager
def _staging() -> Iterator[Path]:
    """An empty folder of this process's alone, on the disk of the store, gone afterwards."""
    folder = shelf.home() / STAGING
    with whole.locked(shelf.home() / "trainserve" / "saving" / STAGING.removeprefix(".saving-")):
        shutil.rmtree(folder, ignore_errors=True)  # left there by a process that was killed
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
