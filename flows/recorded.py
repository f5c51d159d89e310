"""Which pictures a run or a stored model saw, as they were recorded then: no source is looked at. No Prefect here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.history import records
from data.history.records import Record
from data.spec import DatasetSpec
from models.run import RunFolder, read_fingerprint
from serving import store

SETTINGS = ("val_fraction", "test_fraction", "split_seed", "split_by")  # of the split, which a record is called by


def of_model(text: str, home: Path) -> Record:
    """Raises `InputError` where nothing is kept of them, or there is no such model."""
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
