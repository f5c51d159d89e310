"""The last champion that was better: found by walking back over those that took a place for not being worse."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import toy

from flows.health import growth, tidying
from flows.health.retention import Keep, plan
from models.verdict import Relation, Verdict
from serving import store, verdicts
from serving.aliases import Change
from serving.better import last_better
from serving.refs import ModelRef

WHEN = "2026-11-22T03:00:00.000000+00:00"


def ref(version: str) -> ModelRef:
    return ModelRef(name="toy", version=version)


def promoted(version: str, replaced: str | None, relation: Relation | None = "not worse", **told: object) -> Change:
    word = "promoted" if relation else None
    given = {"what": "promote", "reason": "", "verdict": word, "relation": relation}
    return Change.model_validate({"when": WHEN, "version": version, "replaced": replaced, **given, **told})


FIRST = promoted("v1", None, "first")
BETTER = promoted("v2", "v1", "better")
NIGHTS = [promoted(f"v{k}", f"v{k - 1}") for k in (3, 4, 5)]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("history", "champion", "expected"),
    [
        ([FIRST], "v1", "v1"),
        ([FIRST, BETTER], "v2", "v2"),
        ([FIRST, BETTER, *NIGHTS], "v5", "v2"),
        ([FIRST, promoted("v2", "v1"), promoted("v3", "v2")], "v3", "v1"),
        ([FIRST, BETTER, *NIGHTS, promoted("v6", "v5", "better")], "v6", "v6"),
        ([FIRST, BETTER, promoted("v3", "v2", because="it knows tulips"), promoted("v4", "v3")], "v4", "v3"),
        ([FIRST, BETTER, promoted("v3", "v2", None, verdict="refused"), promoted("v4", "v3")], "v4", "v3"),
        # A rollback proves nothing: what counts is how the model came to its place before.
        ([FIRST, BETTER, *NIGHTS, promoted("v3", "v5", None, what="rollback")], "v3", "v2"),
        # What took its own place once more.
        ([FIRST, BETTER, NIGHTS[0], promoted("v3", "v3")], "v3", "v2"),
        # Two that took turns: each step goes further back, to how the first of them came to its place.
        ([FIRST, promoted("v2", "v1"), promoted("v3", "v2"), promoted("v2", "v3")], "v2", "v1"),
        ([FIRST, BETTER, promoted("v3", "v2"), promoted("v2", "v3")], "v2", "v2"),
        # Two that took each other's place, as no history of ours does.
        ([promoted("v1", "v2"), promoted("v2", "v1")], "v2", "v2"),
        # From before it was written down, and the verdicts are gone: as far back as is known.
        ([promoted("v1", None, None), promoted("v2", "v1", None), promoted("v3", "v2", None)], "v3", "v1"),
        ([], "v9", "v9"),
    ],
)
def test_it_is_found(history, champion, expected):
    assert last_better(ref(champion), history) == ref(expected)


def verdict(relation: Relation) -> Verdict:
    return Verdict(promoted=True, relation=relation, reason=relation, n=9, challenger_accuracy=0.9)


@pytest.mark.slow
def test_a_promotion_keeps_how_it_came_about_and_retention_the_last_better_one(home: Path, tmp_path: Path):
    made = [store.save(toy.bundle(tmp_path / name, version=name)) for name in ("v1", "v2", "v3", "v4", "v5")]
    relations: tuple[Relation, ...] = ("first", "better", "not worse", "not worse", "not worse")
    for one, relation in zip(made, relations, strict=True):
        verdicts.keep(one, verdict(relation))
        store.promote(one, reason="")
    held = store.aliases("toy")
    assert [change.relation for change in held.history] == list(relations)
    assert held.last_better == made[1]
    old = plan(datetime.now(UTC) + timedelta(days=999), Keep(versions=0), things=growth.things(home), runs=[])
    tidying.carry_out(home, old, None)
    assert [one.ref.version for one in store.listing()] == ["v2", "v4", "v5"]
    shutil.rmtree(home / "trainserve/verdicts")  # the history says it by itself
    assert store.aliases("toy").last_better == made[1]
