"""Which pictures a person means: those of a source now, or those that a run, a model or a fingerprint stands for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import catalog, snapshot
from data.errors import InputError, SourceError
from data.gate import quarantine
from data.history import records
from data.history.records import Record
from data.progress import Progress
from data.sources import gathered
from data.spec import DatasetSpec
from models.run import RunFolder, read_fingerprint
from serving import store

SETTINGS = ("val_fraction", "test_fraction", "split_seed", "split_by")  # of the split, which a record is called by
SPOKEN = re.compile(r"[0-9a-f]{8,64}(-seed.*)?")  # a fingerprint


def pictures(text: str, home: Path, *, asked: DatasetSpec, progress: Progress) -> Record:
    """What is there decides: a run, NAME@VERSION, a fingerprint, otherwise a source, which is read as `asked` says but
    for its own. Raises `InputError`."""
    if not text.strip():
        raise InputError(f"{text!r} names no pictures; write a source, a run, NAME@VERSION, or digits of a fingerprint")
    if "/" not in text:
        if "@" in text:
            return of_model(text, home)
        if (home / "runs" / text / "experiment.json").is_file():
            return of_run(RunFolder(home / "runs" / text), home)
        if (file := records.find(text, home)) is not None:
            return records.load(file)
    try:
        spec = DatasetSpec.model_validate(asked.model_dump() | {"source": text})
        fetched = catalog.fetch_all(spec, home, progress=progress)
    except SourceError as error:
        raise InputError(not_found(text, str(error), home)) from None
    taken = snapshot.take(
        fetched[0].root,
        fetched[0].name,
        home=home,
        listings=gathered.listings(fetched, spec),
        decisions=quarantine.read(quarantine.file_of(home, fetched[0].name)),
        progress=progress,
    )
    if not taken.files:
        raise InputError(f"{text!r} holds no picture in a class folder; put them into one folder per class")
    return records.of_source(taken)


def of_model(text: str, home: Path) -> Record:
    ref = store.resolve(text)
    card = store.card(ref)
    settings = card.experiment.get("dataset")
    known = settings if isinstance(settings, Mapping) else {}
    return kept(f"model {ref}", card.lineage.fingerprint, known, home)


def of_run(run: RunFolder, home: Path) -> Record:
    fingerprint = read_fingerprint(run)
    if fingerprint is None:
        raise InputError(f"run {run.run_id} is of a version that kept no fingerprint; name its source, or another run")
    return kept(f"run {run.run_id}", fingerprint, run.experiment().dataset.model_dump(), home)


def kept(whose: str, fingerprint: str, settings: Mapping[str, Any], home: Path) -> Record:
    """Of the split that was asked for, or of another one of the same pictures, where that is all there is."""
    spec = DatasetSpec.model_validate({name: settings[name] for name in SETTINGS if name in settings})
    file = records.find(records.name_of(fingerprint, spec), home) or records.find(fingerprint, home)
    if file is None:
        raise InputError(
            f"which pictures {whose} saw (fingerprint {fingerprint[: records.SHOWN]}) is not kept in "
            f"{records.folder(home)}; name their source, or a run whose record is there"
        )
    return records.load(file)


def not_found(text: str, no_source: str, home: Path) -> str:
    """With what else was looked for, where that can have been meant."""
    if "/" in text:
        return no_source
    if SPOKEN.fullmatch(text):
        return (
            f"no record in {records.folder(home)} begins with {text!r}, which is no source either; write the "
            "fingerprint of a run on this machine, or name the source"
        )
    return f"{no_source}; nor is it a run, NAME@VERSION of a model, or 8 or more digits of a fingerprint"
