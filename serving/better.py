"""Which champion was the last that was chosen for being better, and not for being hardly worse. No torch here."""

from collections.abc import Sequence

from serving.aliases import Change
from serving.refs import ModelRef


def last_better(ref: ModelRef, history: Sequence[Change]) -> ModelRef:
    """`ref` itself where it was proved better than the champion of then, was the first one, or was put into service by
    a person who said why; otherwise the same of the champion whose place it took, as that one had come to it by then.
    It need not be stored any more."""
    at, before = ref.version, len(history)
    while (found := _promotion(at, history[:before])) is not None:
        change, before = history[found], found  # only further back: two models may have taken turns
        if change.replaced is None or _chosen(ref.name, change):
            break
        at = change.replaced
    return ModelRef(name=ref.name, version=at)


def _promotion(version: str, history: Sequence[Change]) -> int | None:
    """Where the last one stands that made it the champion in place of another: a rollback proves nothing of either."""
    for place in range(len(history) - 1, -1, -1):
        change = history[place]
        if change.what == "promote" and change.version == version and change.replaced != version:
            return place
    return None


def _chosen(name: str, change: Change) -> bool:
    from serving import verdicts  # the settings of a whole run are in it

    if change.because is not None or change.verdict in ("refused", "none"):
        return True  # by a person
    relation = change.relation or verdicts.relation(ModelRef(name=name, version=change.version))
    return relation in ("better", "first")
