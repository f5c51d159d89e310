"""Which champion was the last that was chosen for being better, and not for being hardly worse. No torch here."""

from collections.abc import Sequence

from serving.aliases import Change
from serving.refs import ModelRef


def last_better(ref: ModelRef, history: Sequence[Change]) -> ModelRef:
    """`ref` itself where it was proved better than the champion of then, was the first one, or was put into service by
    a person; otherwise the same of the champion whose place it took. It need not be stored any more."""
    seen: set[str] = set()
    at = ref.version
    while at not in seen:
        seen.add(at)
        change = _promotion(at, history)
        if change is None or change.replaced is None or _chosen(ref.name, change):
            break
        at = change.replaced
    return ModelRef(name=ref.name, version=at)


def _promotion(version: str, history: Sequence[Change]) -> Change | None:
    """The last one that made it the champion in place of another; a rollback proves nothing about either."""
    for change in reversed(history):
        if change.what == "promote" and change.version == version and change.replaced != version:
            return change
    return None


def _chosen(name: str, change: Change) -> bool:
    from serving import verdicts  # the settings of a whole run are in it

    if change.because is not None or change.verdict in ("refused", "none"):
        return True  # by a person
    relation = change.relation or verdicts.relation(ModelRef(name=name, version=change.version))
    return relation in ("better", "first")
