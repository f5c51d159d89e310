"""Splits and folds: partitions, stratified, by content, and they stay."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.errors import DataRefused
from data.images import Images
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec, Part
from data.split import Split, assign, folds

Rows = list[tuple[int, str, Part | None]]  # label, content, part

SPEC = DatasetSpec()


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def images(rows: Rows, name: str = "flowers") -> Images:
    """A listing without files: splitting looks at labels, digests and parts only."""
    rows = sorted(rows, key=lambda row: row[:2])
    snapshot = Snapshot(
        name=name,
        root=Path("/nowhere"),
        classes=tuple(str(i) for i in range(max(row[0] for row in rows) + 1)),
        files=tuple(f"{i}.png" for i in range(len(rows))),
        labels=np.array([row[0] for row in rows], dtype=np.int64),
        digests=tuple(sha256(row[1]) for row in rows),
        sizes=np.ones(len(rows), dtype=np.int64),
        parts=tuple(row[2] for row in rows),
        mirror=True,
    )
    pixels = np.zeros((len(rows), 1, 1, 1), np.uint8)
    return Images(snapshot, ImageSpec(height=1, width=1, channels=1), np.arange(len(rows)), pixels, ())


def plain(counts: list[int], part: Part | None = None, start: int = 0) -> Rows:
    return [
        (label, f"{label}-{i}-{part or ''}", part) for label, n in enumerate(counts) for i in range(start, start + n)
    ]


def contents(found: Images, split: Split) -> dict[str, Part]:
    return {found.digest(row): part for part in Part for row in getattr(split, part)}


def per_class(found: Images, rows: np.ndarray) -> list[int]:
    return np.bincount(found.labels[rows], minlength=len(found.classes)).tolist()


COUNTS = st.lists(st.integers(3, 60), min_size=2, max_size=8)
FRACTIONS = st.floats(0.02, 0.49)


@settings(max_examples=60)
@given(counts=COUNTS, val=FRACTIONS, test=FRACTIONS, seed=st.integers(0, 9))
@example(counts=[3, 3], val=0.49, test=0.49, seed=0)
@example(counts=[7, 7], val=0.4375, test=0.46875, seed=0)
def test_a_split_is_a_stratified_partition(tmp_path_factory, counts, val, test, seed):
    found = images(plain(counts))
    spec = DatasetSpec(val_fraction=val, test_fraction=test, split_seed=seed)
    split = assign(found, spec, tmp_path_factory.mktemp("home"))
    together = np.concatenate([split.train, split.val, split.test])
    assert sorted(together.tolist()) == list(range(len(found.rows)))
    trained = per_class(found, split.train)
    for rows, fraction in ((split.val, val), (split.test, test)):
        assert rows.tolist() == sorted(rows.tolist())
        for n, got, left in zip(counts, per_class(found, rows), trained, strict=True):
            assert got == 1 or abs(got - fraction * n) < 1 or left == 1  # 1: all that could be split off was
        if all(fraction * n >= 1 and (1 - val - test) * n >= 2 for n in counts):
            assert abs(len(rows) - fraction * sum(counts)) <= 1
    assert min(per_class(found, split.train)) >= 1
    assert min(per_class(found, split.val)) >= 1
    assert min(per_class(found, split.test)) >= 1


@settings(max_examples=40)
@given(counts=COUNTS, more=st.lists(st.integers(0, 60), min_size=8, max_size=8))
def test_a_growing_data_set_keeps_its_parts(tmp_path_factory, counts, more):
    home = tmp_path_factory.mktemp("home")
    small = images(plain(counts))
    before = contents(small, assign(small, SPEC, home))
    grown = images(plain(counts) + plain(more[: len(counts)], start=100))
    split = assign(grown, SPEC, home)
    after = contents(grown, split)
    assert {digest: after[digest] for digest in before} == before
    for n, got in zip(np.add(counts, more[: len(counts)]), per_class(grown, split.test), strict=True):
        assert got == 1 or abs(got - SPEC.test_fraction * n) <= 2


def alike_in(found: Images, groups: list[list[str]]) -> list[list[int]]:
    """Rows of these digests."""
    row_of = {found.digest(row): row for row in range(len(found.rows))}
    return [[row_of[digest] for digest in group] for group in groups]


def of(*contents: str) -> list[str]:
    """Their digests."""
    return [sha256(content) for content in contents]


@pytest.mark.slow
@settings(max_examples=40)
@given(counts=st.lists(st.integers(10, 60), min_size=2, max_size=4), data=st.data())
def test_what_is_nearly_the_same_is_in_one_part_and_no_part_is_empty(tmp_path_factory, counts, data):
    found = images(plain(counts))
    groups, left = [], data.draw(st.permutations([row[1] for row in plain(counts)]))
    while len(left) > 4:
        size = data.draw(st.integers(1, 4))  # of any classes
        groups, left = [*groups, left[:size]], left[size:]
    split = assign(
        found, SPEC, tmp_path_factory.mktemp("home"), alike=alike_in(found, [of(*group) for group in groups])
    )
    parts = contents(found, split)
    for group in groups:
        own = Counter(content.partition("-")[0] for content in group)
        if all(n <= counts[int(label)] / 5 for label, n in own.items()):
            assert len({parts[digest] for digest in of(*group)}) == 1
    assert sorted(parts) == sorted(of(*(row[1] for row in plain(counts))))
    assert min(map(len, (split.train, split.val, split.test))) > 0


def test_where_pairs_lie_within_classes_each_class_comes_into_every_part(tmp_path):
    found = images(plain([20, 40]))
    groups = [of(f"{label}-{i}-", f"{label}-{i + 1}-") for label, n in ((0, 20), (1, 40)) for i in range(0, n, 2)]
    split = assign(found, SPEC, tmp_path, alike=alike_in(found, groups))
    assert per_class(found, split.test) == [2, 6]
    assert per_class(found, split.val) == [2, 4]


def test_a_new_picture_goes_where_those_are_that_it_is_nearly_the_same_as_and_nothing_else_moves(tmp_path):
    small, grown = images(plain([40, 40])), images(plain([40, 40]) + plain([5, 5], start=100))
    before = contents(small, assign(small, SPEC, tmp_path))
    test, val, train, other = (
        next(digest for digest, one in sorted(before.items(), reverse=back) if one is part)
        for part, back in ((Part.TEST, False), (Part.VAL, False), (Part.TRAIN, False), (Part.TRAIN, True))
    )
    new = of("0-100-", "0-101-", "0-102-", "1-100-", "1-101-")
    groups = [[test, new[0]], [val, *new[1:3]], [train, new[3]], [other, new[4]]]
    after = contents(grown, assign(grown, SPEC, tmp_path, alike=alike_in(grown, groups)))
    assert {digest: after[digest] for digest in before} == before
    assert [after[digest] for digest in new] == [Part.TEST, Part.VAL, Part.VAL, Part.TRAIN, Part.TRAIN]


def test_of_a_group_that_spans_parts_already_the_new_ones_go_into_the_strongest(tmp_path):
    small, grown = images(plain([40])), images([*plain([40]), (0, "new", None)])
    before = contents(small, assign(small, SPEC, tmp_path))
    (new,) = of("new")
    group = [next(digest for digest, one in before.items() if one is part) for part in Part]
    after = contents(grown, assign(grown, SPEC, tmp_path, alike=alike_in(grown, [[*group, new]])))
    assert after == before | {new: Part.TEST}


def test_what_is_more_than_a_fifth_of_a_class_is_its_kind_and_no_copy(tmp_path):
    found = images(plain([20, 20]))
    alone = contents(found, assign(found, SPEC, tmp_path / "a"))
    film = of(*(f"0-{i}-" for i in range(5)))
    assert contents(found, assign(found, SPEC, tmp_path / "b", alike=alike_in(found, [film]))) == alone
    parts = contents(found, assign(found, SPEC, tmp_path / "c", alike=alike_in(found, [film[:4]])))
    assert len({parts[digest] for digest in film[:4]}) == 1


def test_a_picture_that_went_and_came_back_has_its_old_part(tmp_path):
    all_of_them, fewer = images(plain([30, 30])), images(plain([10, 10]))
    before = contents(all_of_them, assign(all_of_them, SPEC, tmp_path))
    assign(fewer, SPEC, tmp_path)
    assert contents(all_of_them, assign(all_of_them, SPEC, tmp_path)) == before


def test_the_split_depends_on_content_and_seed_and_not_on_home(tmp_path):
    found = images(plain([40, 40]))
    first = contents(found, assign(found, SPEC, tmp_path / "a"))
    assert contents(found, assign(found, SPEC, tmp_path / "b")) == first
    assert contents(found, assign(found, DatasetSpec(split_seed=1), tmp_path / "a")) != first
    assert contents(found, assign(found, SPEC, tmp_path / "a")) == first


def test_parts_that_the_source_states_are_kept(tmp_path):
    found = images(plain([20, 20], Part.TRAIN) + plain([5, 5], Part.VAL) + plain([7, 7], Part.TEST))
    split = assign(found, SPEC, tmp_path)
    for part in Part:
        rows = getattr(split, part)
        assert {found.snapshot.parts[row] for row in rows} == {part}
    assert not (tmp_path / "datasets/splits").exists()


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ((Part.TRAIN,), ()),
        ((Part.TRAIN, Part.VAL), (Part.VAL,)),
        ((Part.TRAIN, Part.TEST), (Part.TEST,)),
        ((Part.VAL, Part.TEST), (Part.TEST,)),
        ((Part.VAL,), ()),
    ],
)
def test_whatever_is_missing_is_split_off(tmp_path, stated, kept):
    found = images([row for part in stated for row in plain([40, 20], part)])
    split = assign(found, SPEC, tmp_path)
    for part in Part:
        rows = getattr(split, part)
        assert len(rows) > 0
        if part in kept:
            assert len(rows) == 60
            assert {found.snapshot.parts[row] for row in rows} == {part}
    assert len(split.train) + len(split.val) + len(split.test) == len(found.rows)


def test_test_alone_is_refused(tmp_path):
    with pytest.raises(DataRefused, match="nothing to train on; add a train folder"):
        assign(images(plain([9, 9], Part.TEST)), SPEC, tmp_path)


@settings(max_examples=40)
@given(data=st.data())
def test_the_same_content_is_never_in_two_parts(tmp_path_factory, data):
    parts = data.draw(st.sampled_from([(None,), (Part.TRAIN, Part.TEST), tuple(Part), (Part.TRAIN, Part.VAL)]))
    drawn = st.tuples(st.integers(0, 2), st.integers(0, 12).map(str), st.sampled_from(parts))
    rows = data.draw(st.lists(drawn, min_size=30, max_size=80)) + plain([9, 9, 9], parts[0])
    found = images(rows)
    split = assign(found, SPEC, tmp_path_factory.mktemp("home"))
    seen = [{found.digest(row) for row in getattr(split, part)} for part in Part]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert set.union(*seen) == set(found.snapshot.digests)


def test_a_test_picture_that_is_also_in_train_is_not_trained_on(tmp_path):
    found = images([*plain([9, 9], Part.TRAIN), *plain([3, 3], Part.TEST), (0, "x", Part.TRAIN), (0, "x", Part.TEST)])
    split = assign(found, SPEC, tmp_path)
    assert contents(found, split)[sha256("x")] == Part.TEST
    assert len(split.test) == 7
    assert len(split.train) + len(split.val) + len(split.test) == len(found.rows) - 1


def test_a_damaged_split_is_not_silently_made_anew(tmp_path):
    found = images(plain([9, 9]))
    assign(found, SPEC, tmp_path)
    (file,) = (tmp_path / "datasets/splits").glob("*.json")
    assert Counter(json.loads(file.read_text()).values()).keys() == {"train", "val", "test"}
    file.write_text('{"a": "tr')
    with pytest.raises(DataRefused, match="is damaged"):
        assign(found, SPEC, tmp_path)


@pytest.mark.slow
@settings(max_examples=40)
@given(counts=st.lists(st.integers(5, 30), min_size=2, max_size=6), k=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_partition_the_examples(counts, k, seed):
    found = images(plain(counts))
    rows = np.arange(0, len(found.rows))
    made = folds(found, rows, k=k, seed=seed)
    assert len(made) == k
    assert sorted(np.concatenate([fold.val for fold in made]).tolist()) == rows.tolist()
    for fold in made:
        assert sorted([*fold.train, *fold.val]) == rows.tolist()
        assert abs(len(fold.val) - len(rows) / k) < 1
        for n, got in zip(counts, per_class(found, fold.val), strict=True):
            assert abs(got - n / k) < 1


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data())
def test_copies_stay_in_one_fold(data):
    drawn = st.tuples(st.integers(0, 1), st.integers(0, 15).map(str), st.none())
    found = images(data.draw(st.lists(drawn, min_size=10, max_size=60)) + plain([6, 6]))
    for fold in folds(found, np.arange(len(found.rows)), k=3, seed=0):
        assert not {found.digest(row) for row in fold.train} & {found.digest(row) for row in fold.val}


@settings(max_examples=30)
@given(counts=st.lists(st.integers(20, 40), min_size=2, max_size=3), k=st.integers(2, 4), data=st.data())
def test_what_is_nearly_the_same_is_in_one_fold(counts, k, data):
    found = images(plain(counts))
    left, groups = data.draw(st.permutations(range(len(found.rows)))), []
    while len(left) > len(found.rows) - 8:
        size = data.draw(st.integers(1, 4))
        groups, left = [*groups, left[:size]], left[size:]
    rows = np.arange(2, len(found.rows))  # without some of a group
    made = folds(found, rows, k=k, seed=0, alike=groups)
    assert sorted(np.concatenate([fold.val for fold in made]).tolist()) == rows.tolist()
    for fold in made:
        assert sorted([*fold.train, *fold.val]) == rows.tolist()
        for group in groups:
            here = set(group) & set(rows.tolist())
            if len(here) < 4:  # not more than a fifth of any class
                assert not here & set(fold.train.tolist()) or not here & set(fold.val.tolist())


def test_folds_of_which_a_class_has_too_few_that_are_not_nearly_the_same_are_refused():
    found = images(plain([20, 4]))
    groups = [[row, 20 + row] for row in range(4)]  # each of the few is near to one of the many
    assert len(folds(found, np.arange(24), k=4, seed=0)) == 4
    assert len(folds(found, np.arange(24), k=4, seed=0, alike=groups)) == 4  # more than a fifth of a class: its kind
    found = images(plain([60, 6]))
    groups = [[row, 60 + row] for row in range(6)]
    sentence = r"needs 6 pictures that are not nearly the same of each class outside the test part; '1' has \d; use"
    with pytest.raises(DataRefused, match=sentence):
        folds(found, np.arange(66), k=6, seed=0, alike=groups)


def test_folds_see_only_the_rows_they_are_given(tmp_path):
    found = images(plain([40, 40]))
    split = assign(found, SPEC, tmp_path)
    made = folds(found, split.development, k=4, seed=0)
    seen = np.concatenate([np.concatenate([fold.train, fold.val]) for fold in made])
    assert not set(seen.tolist()) & set(split.test.tolist())
    assert set(seen.tolist()) == set(split.development.tolist())


def test_more_folds_than_pictures_are_refused():
    found = images([*plain([9, 4]), (1, "1-0-", None)])
    with pytest.raises(DataRefused, match=r"crossval.folds 5 needs 5 different pictures .* '1' has 4; use fewer folds"):
        folds(found, np.arange(len(found.rows)), k=5, seed=0)
