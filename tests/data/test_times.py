"""A split by time: the newest pictures are the test, and the days on which the parts begin stay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataRefused
from data.images import Images
from data.prepare import prepare
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec, Part
from data.split import assign
from data.times import at
from models.config import Experiment

BY_TIME = DatasetSpec(split_by="time")


def images(days: list[int], *, start: int = 0, parts: tuple[Part | None, ...] | None = None) -> Images:
    """A picture of two classes in turn for each day."""
    num = len(days)
    snapshot = Snapshot(
        name="film",
        root=Path("/nowhere"),
        classes=("a", "b"),
        files=tuple(f"{i}.png" for i in range(num)),
        labels=np.arange(num) % 2,
        digests=tuple(map(digest, range(start, start + num))),
        sizes=np.ones(num, dtype=np.int64),
        parts=parts or (None,) * num,
        mirror=True,
        times=tuple(day(one) for one in days),
    )
    pixels = np.zeros((num, 1, 1, 1), np.uint8)
    return Images(snapshot, ImageSpec(height=1, width=1, channels=1), np.arange(num), pixels, ())


def digest(number: int) -> str:
    return f"{number:064x}"


def day(number: int) -> str:
    return at(f"{2000 + number // 336}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}")


def contents(found: Images, spec: DatasetSpec, home: Path) -> dict[str, Part]:
    split = assign(found, spec, home)
    return {found.digest(row): part for part in Part for row in getattr(split, part)}


@pytest.mark.slow
@settings(max_examples=60)
@given(days=st.lists(st.integers(0, 60), min_size=3, max_size=80).filter(lambda days: len(set(days)) > 2))
def test_every_test_picture_is_newer_than_all_others_and_validation_lies_between(tmp_path_factory, days):
    found = images(days)
    parts = contents(found, BY_TIME, tmp_path_factory.mktemp("home"))
    assert len(parts) == len(days)
    taken = {part: {days[int(one_of, 16)] for one_of, one in parts.items() if one is part} for part in Part}
    assert max(taken[Part.TRAIN]) < min(taken[Part.VAL])
    assert max(taken[Part.VAL]) < min(taken[Part.TEST])


def test_the_parts_are_as_large_as_asked_where_each_picture_has_a_time_of_its_own(tmp_path):
    parts = list(contents(images(list(range(200))), BY_TIME, tmp_path).values())
    assert [parts.count(part) for part in Part] == [150, 20, 30]


@pytest.mark.slow
@settings(max_examples=40)
@given(more=st.lists(st.integers(0, 100), max_size=40))
def test_a_growing_data_set_keeps_its_parts_and_what_is_newer_is_test(tmp_path_factory, more):
    home, days = tmp_path_factory.mktemp("home"), list(range(60))
    before = contents(images(days), BY_TIME, home)
    after = contents(images(days + more), BY_TIME, home)
    assert {one: after[one] for one in before} == before
    for i, one in enumerate(more):
        assert after[digest(60 + i)] == before[digest(min(one, 59))]
    anew = contents(images(days + [70] * 30), DatasetSpec(split_by="time", split_seed=1), home)
    assert list(anew.values()).count(Part.TEST) == 30


def test_a_copy_of_an_old_picture_is_not_new(tmp_path):
    found = images([*range(40), 50])
    copied = replace(found, snapshot=replace(found.snapshot, digests=(*found.snapshot.digests[:-1], digest(0))))
    assert contents(copied, BY_TIME, tmp_path)[digest(0)] is Part.TRAIN


def test_parts_that_the_source_states_stay(tmp_path):
    stated = (*[None] * 40, *[Part.TEST] * 10)
    parts = contents(images(list(range(50)), parts=stated), BY_TIME, tmp_path)
    assert {one for one, part in parts.items() if part is Part.TEST} == set(map(digest, range(40, 50)))
    assert {one for one, part in parts.items() if part is Part.VAL} == set(map(digest, range(36, 40)))


def test_pictures_without_a_time_and_too_few_times_are_refused(tmp_path):
    found = images([1, 2, 3, 4])
    some = replace(found, snapshot=replace(found.snapshot, times=(None, *found.snapshot.times[1:])))
    with pytest.raises(DataRefused, match=r"dataset.split_by is time, and 1 picture without one; give each line"):
        assign(some, BY_TIME, tmp_path)
    none = replace(found, snapshot=replace(found.snapshot, times=()))
    with pytest.raises(
        DataRefused, match=r"dataset.split_by is time, and no picture has one; give the listing a column"
    ):
        assign(none, BY_TIME, tmp_path)
    with pytest.raises(DataRefused, match="needs pictures of at least 3 times, and there are 2; add later ones"):
        assign(images([1, 1, 2]), BY_TIME, tmp_path)


def test_where_all_that_is_trained_on_is_gone_it_is_said_how_to_choose_the_days_anew(tmp_path):
    assign(images(list(range(40))), BY_TIME, tmp_path)
    later = images(list(range(38, 78)), start=100)
    with pytest.raises(
        DataRefused, match=r"all 40 pictures to be split by time are from .*; set another dataset.split"
    ):
        assign(later, BY_TIME, tmp_path)
    parts = list(contents(later, DatasetSpec(split_by="time", split_seed=1), tmp_path).values())
    assert parts.count(Part.TRAIN) == 30


def test_damaged_days_are_not_silently_made_anew(tmp_path):
    assign(images([1, 2, 3, 4]), BY_TIME, tmp_path)
    (file,) = (tmp_path / "datasets/splits").glob("*.json")
    assert file.name == "film-seed0-val0.1-test0.15-time.json"
    for damage in ('{"test": "yest', '{"test": "yesterday", "val": "2000-01-01"}', '{"test": 1}', "[]"):
        file.write_text(damage)
        with pytest.raises(DataRefused, match="is damaged"):
            assign(images([1, 2, 3, 4]), BY_TIME, tmp_path)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-03-01", "2026-03-01T00:00:00"),
        ("2026-03-01 14:30", "2026-03-01T14:30:00Z"),
        ("2026-03-01T14:30:00+02:00", "2026-03-01T12:30:00"),
        ("20260301", "2026-03-01"),
    ],
)
def test_spellings_of_a_time_are_one(text, same):
    assert at(text) == at(same)


@pytest.mark.parametrize("text", ["yesterday", "01.03.2026", "2026-13-01", "1700000000", "0001-01-01T00:00:00+10:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is no date or time; write such as 2026-03-01 or 2026-03-01T14:30:00"):
        at(text)


def test_folds_would_learn_from_the_future():
    with pytest.raises(ValueError, match=r"crossval.folds 3 would train on newer pictures than it asks about"):
        Experiment.model_validate({"dataset": {"split_by": "time"}, "crossval": {"folds": 3}})


def test_a_listing_has_a_column_of_times_which_are_in_the_fingerprint(write, home):
    root = write({f"{i}.png": None for i in range(60)})
    lines = [f"{i}.png,{('rose', 'tulip')[i % 2]},2026-01-{i // 2 + 1:02}" for i in range(60)]
    (root / "film.csv").write_text("\n".join(["path,label,time", *lines]))
    spec = DatasetSpec(source=str(root / "film.csv"), size=8, split_by="time")
    dataset = prepare(spec, home)
    split, snapshot = dataset.split, dataset.images.snapshot
    assert [len(rows) for rows in (split.train, split.val, split.test)] == [46, 6, 8]
    assert {dataset.images.time(row) for row in split.test} == {at(f"2026-01-{number}") for number in range(27, 31)}
    (finding,) = dataset.report.findings
    assert finding.level == "note"
    assert "validation from 2026-01-24T00:00, test from 2026-01-27T00:00 on (UTC); newer" in finding.message
    assert snapshot.fingerprint != replace(snapshot, times=()).fingerprint
    (root / "film.csv").write_text("\n".join(["path,label,time", *lines[:-1], "59.png,tulip,gestern"]))
    with pytest.raises(ValueError, match=r"film.csv, line 61: 'gestern' is no date or time"):
        prepare(spec, home)
