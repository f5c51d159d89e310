"""What was measured of every picture, kept in the folder of the decoded pictures, so that it is measured once."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from data import whole
from data.gate.found import Subject
from data.images import folder_of

Arrays = dict[str, np.ndarray]


def remembered(
    subject: Subject, file: str, of: str, wanted: Sequence[str], measure: Callable[[Sequence[str]], Arrays]
) -> Arrays:
    """The arrays `wanted`, by name: from `images/<key>/<file>.npz`, to which those that it lacks are added.

    measure: names -> these arrays. of: what the values depend on beside contents and geometry, such as the version of
    a library; values of another one are forgotten.
    """
    images = subject.pictures
    folder = folder_of(images.snapshot, images.spec, subject.home)
    path, mark = folder / f"{file}.npz", f"{of}, {len(images.rows)} pictures"
    if images.unreadable:  # else all are there
        mark += f", {hashlib.sha256(images.rows.astype('<i8').tobytes()).hexdigest()[:12]}"
    known = _read(path, mark)
    missing = [name for name in wanted if name not in known]
    if missing:
        known |= measure(missing)
        if folder.is_dir():
            with whole.file(path) as out:
                np.savez(out, of=np.array(mark), **known)  # type: ignore[arg-type]
    return {name: known[name] for name in wanted}


def _read(path: Path, mark: str) -> Arrays:
    """Nothing where nothing is remembered, or nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            known = dict(arrays)
    except (OSError, ValueError, EOFError, BadZipFile):
        return {}
    return known if str(known.pop("of", "")) == mark else {}
