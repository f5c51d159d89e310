"""Losses too small to be refused add up: so a model that is merely not worse is also held against the last one that was
better. No Prefect here."""

import numpy as np
from pydantic import JsonValue

from data.spec import DatasetSpec
from flows.measured import Measuring
from flows.service import variant_here
from models.bundle.bundle import Bundle, BundleError, predict_files
from models.evaluation.checks import not_since, since
from models.evaluation.compare import align, relation_of
from models.evaluation.pairs import paired
from models.verdict import Check
from serving import store
from serving.better import last_better
from serving.refs import ModelRef, StoreError

SPLIT = {
    "val_fraction",
    "test_fraction",
    "split_seed",
    "split_by",
    "group",
}  # settings that decide who is in which part


def drifted(
    ours: np.ndarray,
    theirs: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    baseline: ModelRef,
    spec: DatasetSpec,
    measuring: Measuring,
) -> tuple[Check, ...]:
    """Both (N, K) probabilities, the candidate's and the champion's, of the test pictures `rows`. Nothing where the
    champion, or the candidate, is itself the last that was better, or where it is refused without this."""
    config, classes = measuring.config, measuring.images.classes
    relation = relation_of(ours, theirs, labels, config)
    earlier = last_better(baseline, store.aliases(baseline.name).history)
    if relation not in ("better", "not worse") or earlier == baseline:
        return ()
    try:
        bundle = Bundle.open(store.path(earlier), variant=variant_here())
    except StoreError:
        return (not_since(str(earlier), "it is no longer stored"),)
    except BundleError as error:
        return (not_since(str(earlier), f"it does not open ({error})"),)
    if bundle.folder == measuring.candidate.folder:  # it is judged again, after others took its place
        return ()
    if split := other_split(bundle.card.experiment, spec):
        return (not_since(str(earlier), split.replace("mind that the champion", "it")),)
    known = np.isin(labels, [k for k, label in enumerate(classes) if label in bundle.card.classes])
    if not known.any():
        return (not_since(str(earlier), "it knows no class of these test pictures"),)
    measuring.progress(f"the answers of {earlier}", 0, 0)
    paths = [measuring.images.path(int(row)) for row in rows[known]]
    then = align(predict_files(bundle, paths), classes=bundle.card.classes, onto=classes)
    right_new, right_then = (one.argmax(axis=1) == labels[known] for one in (ours[known], then))
    pairs = paired(right_new, right_then, confidence=config.confidence)
    return (since(pairs, config, name=str(earlier), decides=relation == "not worse"),)


def other_split(old: dict[str, JsonValue], new: DatasetSpec) -> str:
    """ "" where both were split alike, so that neither was trained on the other's test pictures. `old`: settings from a
    card; one of before has not all of them, and was split as is the default now."""
    before = old.get("dataset")
    if not isinstance(before, dict):
        return ""
    then, now = DatasetSpec().model_dump(include=SPLIT) | before, new.model_dump(include=SPLIT)
    changed = [f"{name} {then[name]}, now {value}" for name, value in now.items() if then[name] != value]
    if not changed:
        return ""
    return f"mind that the champion was split otherwise ({'; '.join(changed)}) and may have learned from these pictures"
