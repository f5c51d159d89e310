"""Groups: what belongs together is in one part and in one fold, however the data set grows."""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.errors import DataRefused, SourceError
from data.images import Images
from data.prepare import Dataset, inspect, prepare
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec, Part
from data.split import Split, assign, folds

Rows = list[tuple[int, str, str | None, Part | None]]  # label, content, group, part

SPEC = DatasetSpec()


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def images(rows: Rows) -> Images:
    """A listing without files: splitting looks at labels, digests, groups and parts only."""
    rows = sorted(rows, key=lambda row: row[:2])
    snapshot = Snapshot(
        name="patients",
        root=Path("/nowhere"),
        classes=tuple(str(i) for i in range(max(row[0] for row in rows) + 1)),
        files=tuple(f"{i}.png" for i in range(len(rows))),
        labels=np.array([row[0] for row in rows], dtype=np.int64),
        digests=tuple(sha256(row[1]) for row in rows),
        sizes=np.ones(len(rows), dtype=np.int64),
        parts=tuple(row[3] for row in rows),
        mirror=True,
        groups=tuple(row[2] for row in rows),
    )
    pixels = np.zeros((len(rows), 1, 1, 1), np.uint8)
    return Images(snapshot, ImageSpec(height=1, width=1, channels=1), np.arange(len(rows)), pixels, ())


def patients(sizes: list[list[int]], prefix: str = "p", part: Part | None = None) -> Rows:
    """Pictures of each class, by patient."""
    return [
        (label, f"{prefix}{patient}-{label}-{i}", f"{prefix}{patient}", part)
        for patient, counts in enumerate(sizes)
        for label, n in enumerate(counts)
        for i in range(n)
    ]


def contents(found: Images, split: Split) -> dict[str, Part]:
    return {found.digest(row): part for part in Part for row in getattr(split, part)}


def parts_of_groups(found: Images, split: Split) -> dict[str, set[Part]]:
    parts: dict[str, set[Part]] = defaultdict(set)
    for part in Part:
        for row in getattr(split, part):
            if (group := found.group(row)) is not None:
                parts[group].add(part)
    return parts


def names(dataset: Dataset, rows: np.ndarray) -> set[str]:
    return {dataset.images.snapshot.files[dataset.images.rows[row]] for row in rows}


SIZES = st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=8, max_size=30)
ROW = st.tuples(st.integers(0, 2), st.integers(0, 25).map(str), st.sampled_from([None, *"abcdefghij"]), st.just(None))


@settings(max_examples=60)
@given(rows=st.lists(ROW, min_size=1, max_size=90), seed=st.integers(0, 3))
def test_no_group_and_no_content_is_in_two_parts(tmp_path_factory, rows, seed):
    found = images(rows + patients([[2, 2, 2]] * 4))
    split = assign(found, DatasetSpec(split_seed=seed), tmp_path_factory.mktemp("home"))
    assert all(len(parts) == 1 for parts in parts_of_groups(found, split).values())
    seen = [{found.digest(row) for row in getattr(split, part)} for part in Part]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert set.union(*seen) == set(found.snapshot.digests)  # of each content one is used


@pytest.mark.slow
@settings(max_examples=60)
@given(
    sizes=st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=3), min_size=8, max_size=40),
    seed=st.integers(0, 3),
)
@example(sizes=[[1, 1, 1]] * 30, seed=0)
def test_the_parts_are_as_large_as_asked_to_within_about_the_largest_group(tmp_path_factory, sizes, seed):
    rows = patients(sizes)
    found = images(rows)
    split = assign(found, DatasetSpec(split_seed=seed), tmp_path_factory.mktemp("home"))
    largest = max(Counter(group for _, _, group, _ in rows).values())
    for part, fraction in ((split.val, SPEC.val_fraction), (split.test, SPEC.test_fraction)):
        assert len(part) > 0
        assert abs(len(part) - fraction * len(rows)) <= 2 * largest
    assert sorted(np.concatenate([split.train, split.val, split.test]).tolist()) == list(range(len(rows)))


@pytest.mark.slow
@settings(max_examples=40)
@given(groups=st.lists(st.integers(3, 9), min_size=2, max_size=5), size=st.integers(1, 30))
def test_a_class_of_three_groups_is_trained_on_chosen_by_and_tested_on(tmp_path_factory, groups, size):
    rows = [
        (label, f"{label}-{group}-{i}", f"{label}-{group}", None)
        for label, n in enumerate(groups)
        for group in range(n)
        for i in range(size)
    ]
    found = images(rows)
    split = assign(found, SPEC, tmp_path_factory.mktemp("home"))
    for part in Part:
        assert set(found.labels[getattr(split, part)].tolist()) == set(range(len(groups)))


@pytest.mark.slow
@settings(max_examples=60)
@given(before=SIZES, more=SIZES, joined=st.lists(st.integers(0, 7), max_size=8))
def test_a_growing_data_set_keeps_its_parts_and_a_known_group_takes_its_new_pictures_along(
    tmp_path_factory, before, more, joined
):
    home = tmp_path_factory.mktemp("home")
    first = patients([[1, 1, 1]] * 3 + before)
    small = images(first)
    split = assign(small, SPEC, home)
    known, groups = contents(small, split), parts_of_groups(small, split)
    added = [(0, f"new-{i}", f"p{patient}", None) for i, patient in enumerate(joined)]
    added = [row for row in added if row[2] in groups]
    grown = images(first + added + patients([[1, 1, 1], *more], prefix="q"))
    later = assign(grown, SPEC, home)
    after = contents(grown, later)
    assert {digest: after[digest] for digest in known} == known
    for _, content, group, _ in added:
        assert {after[sha256(content)]} == groups[group]


def test_a_group_under_another_name_keeps_its_part(tmp_path):
    rows = patients([[4, 4]] * 12)
    first = images(rows)
    before = contents(first, assign(first, SPEC, tmp_path))
    other = images([(label, digest, f"patient {group}", part) for label, digest, group, part in rows])
    assert contents(other, assign(other, SPEC, tmp_path)) == before


def test_the_split_depends_on_groups_and_seed_and_not_on_home(tmp_path):
    found = images(patients([[3, 3]] * 20))
    first = contents(found, assign(found, SPEC, tmp_path / "a"))
    assert contents(found, assign(found, SPEC, tmp_path / "b")) == first
    assert contents(found, assign(found, DatasetSpec(split_seed=1), tmp_path / "a")) != first


def test_a_copy_in_a_group_of_another_part_is_in_none(tmp_path):
    rows = patients([[4, 4]] * 12)
    found = images(rows)
    split = assign(found, SPEC, tmp_path)
    groups = parts_of_groups(found, split)
    tested = next(group for group, parts in groups.items() if parts == {Part.TEST})
    trained = next(group for group, parts in groups.items() if parts == {Part.TRAIN})
    copied = next(digest for _, digest, group, _ in rows if group == tested)
    more = images([*rows, (0, copied, trained, None)])
    after = assign(more, SPEC, tmp_path)
    assert len(after.train) + len(after.val) + len(after.test) == len(rows)
    assert contents(more, after) == contents(found, split)


def test_names_of_groups_are_not_written_down(tmp_path):
    found = images([(label, d, f"Anna {group}", part) for label, d, group, part in patients([[3, 3]] * 6)])
    assign(found, SPEC, tmp_path)
    (file,) = (tmp_path / "datasets/splits").glob("*.json")
    assert file.name == "patients-seed0-val0.1-test0.15-group.json"
    assert "Anna" not in file.read_text()
    assert sum(key.startswith("group:") for key in json.loads(file.read_text())) == 6


def test_fewer_groups_than_parts_are_refused(tmp_path):
    found = images(patients([[9, 9]] * 2))
    with pytest.raises(DataRefused, match=r"needs at least 3 groups for train, test, val, and there are 2; add groups"):
        assign(found, SPEC, tmp_path)
    assert len(assign(found, DatasetSpec(split_by="content"), tmp_path).test) > 0


def test_groups_are_needed_where_they_are_asked_for(tmp_path):
    found = images(patients([[9, 9]] * 2))
    bare = replace(found, snapshot=replace(found.snapshot, groups=()))
    with pytest.raises(DataRefused, match=r"dataset.split_by is group, and no picture has one; give the listing"):
        assign(bare, DatasetSpec(split_by="group"), tmp_path)


def test_what_the_source_leaves_open_of_a_group_follows_the_part_that_it_states(tmp_path):
    rows = [*patients([[3, 3]] * 6), *patients([[3, 3]] * 2, prefix="t", part=Part.TEST)]
    rows += [(0, f"open-{i}", "t0", None) for i in range(5)]
    found = images(rows)
    split = assign(found, SPEC, tmp_path)
    assert {contents(found, split)[sha256(f"open-{i}")] for i in range(5)} == {Part.TEST}
    assert parts_of_groups(found, split)["t0"] == {Part.TEST}


@pytest.mark.slow
@settings(max_examples=40)
@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=2), min_size=6, max_size=20), k=st.integers(2, 5)
)
def test_folds_partition_the_pictures_and_no_group_is_in_two(sizes, k):
    rows = patients(sizes)
    found = images([*rows, (0, rows[0][1], "p1", None)])  # a picture of two patients holds both together
    made = folds(found, np.arange(len(found.rows)), k=k, seed=0)
    assert sorted(np.concatenate([fold.val for fold in made]).tolist()) == list(range(len(found.rows)))
    for fold in made:
        assert len(fold.val) > 0
        assert sorted([*fold.train, *fold.val]) == list(range(len(found.rows)))
        assert not {found.group(row) for row in fold.train} & {found.group(row) for row in fold.val}
        assert not {found.digest(row) for row in fold.train} & {found.digest(row) for row in fold.val}


def test_more_folds_than_groups_of_a_class_are_refused_unless_folds_are_by_content():
    found = images([*patients([[3, 3]] * 4), *patients([[3, 0]] * 4, prefix="q")])
    every = np.arange(len(found.rows))
    with pytest.raises(DataRefused, match=r"crossval.folds 5 needs 5 groups of each class .* '1' has 4; use fewer"):
        folds(found, every, k=5, seed=0)
    assert len(folds(found, every, k=5, seed=0, by_group=False)) == 5


def flowers(write, path: str, n: int = 48, **settings: object) -> DatasetSpec:
    """Pictures of a dozen cameras."""
    files = {path.format(label=name, camera=i % 12, i=i): None for name in ("rose", "tulip") for i in range(n)}
    return DatasetSpec.model_validate({"source": str(write(files)), "name": "flowers", "size": 8} | settings)


def test_a_regular_expression_finds_the_group_in_the_path(write, home):
    spec = flowers(write, "{label}/cam{camera}_{i}.png", group=r"/(cam\d+)_")
    dataset = prepare(spec, home)
    assert dataset.report.findings == ()
    assert set(dataset.images.snapshot.groups) == {f"cam{i}" for i in range(12)}
    assert all(len(parts) == 1 for parts in parts_of_groups(dataset.images, dataset.split).values())
    assert all(len(getattr(dataset.split, part)) > 0 for part in Part)


def test_a_listing_has_a_column_of_groups(write, home):
    files = [(f"{i}.png", ("rose", "tulip")[i % 2], f"camera {i % 7}") for i in range(84)]
    root = write({file: None for file, _, _ in files})
    text = "path,label,group\n" + "".join(f"{file},{label},{group}\n" for file, label, group in files)
    (root / "flowers.csv").write_text(text)
    dataset = prepare(DatasetSpec(source=str(root / "flowers.csv"), size=8), home)
    assert len(set(dataset.images.snapshot.groups)) == 7
    assert all(len(parts) == 1 for parts in parts_of_groups(dataset.images, dataset.split).values())


@pytest.mark.slow
def test_groups_are_in_the_fingerprint_and_it_is_as_ever_without_any(write, home):
    def snapshot(**settings: object) -> Snapshot:
        return prepare(flowers(write, "{label}/cam{camera}_{i}.png", **settings), home).images.snapshot

    plain, grouped, otherwise = snapshot(), snapshot(group=r"/(cam\d+)_"), snapshot(group=r"/(cam\d)")
    assert len({one.fingerprint for one in (plain, grouped, otherwise)}) == 3
    rows = sorted(zip(plain.labels.tolist(), plain.digests, [""] * len(plain.files), strict=True))
    as_before = hashlib.sha256(json.dumps([plain.classes, rows]).encode()).hexdigest()
    assert plain.fingerprint == as_before
    assert snapshot(split_by="content", group=r"/(cam\d+)_").fingerprint == grouped.fingerprint


def test_pictures_in_no_group_are_told(write, home):
    spec = flowers(write, "{label}/cam{camera}_{i}.png", group=r"/(cam[1-9]\d?)_")
    (finding,) = prepare(spec, home).report.findings
    assert (finding.rule, finding.level, finding.count) == ("ungrouped", "warn", 8)
    with pytest.raises(SourceError, match=r"'\(patient\)' is found in none of 96 paths, such as 'rose/cam0_0.png'"):
        prepare(spec.model_copy(update={"group": "(patient)"}), home)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("cam(", "'cam(' is no regular expression: missing )"),
        ("cam", "'cam' has 0 brackets; put one around what names the group"),
        (r"(\w+)/(\w+)_", "has 2 brackets"),
    ],
)
def test_a_pattern_needs_one_bracket(pattern, sentence):
    with pytest.raises(ValueError, match="Value error") as caught:
        DatasetSpec(group=pattern)
    assert sentence in str(caught.value)


def leaking(write, level: str | None = None) -> DatasetSpec:
    """Cameras 0 and 1 are in train and in test."""
    files = {f"train/{name}/cam{i % 10}_{i}.png": None for name in ("rose", "tulip") for i in range(60)}
    files |= {
        f"test/{name}/cam{i % 5 + 10 * (i % 5 > 1)}_{i}.png": None for name in ("rose", "tulip") for i in range(20)
    }
    gate = {} if level is None else {"gate": {"group_leakage": {"level": level}}}
    source = {"source": str(write(files)), "name": "flowers", "size": 8, "group": r"/(cam\d+)_"}
    return DatasetSpec.model_validate(source | gate)


def test_a_group_in_two_stated_parts_stops_the_run(write, home):
    sentence = r"2 groups in more than one of train, val and test \(cam0, cam1\); keep each in one part, or set"
    with pytest.raises(DataRefused, match=sentence):
        prepare(leaking(write), home)
    finding = next(one for one in inspect(leaking(write), home).findings if one.rule == "group_leakage")
    assert (finding.level, finding.count, len(finding.groups)) == ("stop", 24, 2)
    assert all(file.startswith("train/") for file in finding.files)


@pytest.mark.slow
def test_it_can_be_dropped_and_then_test_keeps_what_it_has(write, home):
    spec = leaking(write, "drop")
    dataset = prepare(spec, home)
    assert all(len(parts) == 1 for parts in parts_of_groups(dataset.images, dataset.split).values())
    assert len(dataset.split.test) == 40
    assert not {name for name in names(dataset, dataset.split.development) if "/cam0_" in name or "/cam1_" in name}
    (dropped,) = dataset.report.dropped
    assert (dropped.rule, dropped.train + dropped.val, dropped.test, dropped.stay) == ("group_leakage", 24, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["warn", "ignore"])
def test_or_left_as_the_source_has_it(write, home, level):
    dataset = prepare(leaking(write, level), home)
    assert len(dataset.split.development) == 120
    assert {one.rule for one in dataset.report.findings} == ({"group_leakage"} if level == "warn" else set())


def test_a_copy_between_groups_is_told(write, home):
    spec = flowers(write, "{label}/cam{camera}_{i}.png", group=r"/(cam\d+)_")
    before = prepare(spec, home)
    tested = next(name for name in sorted(names(before, before.split.test)) if name.startswith("rose"))
    trained = next(name for name in sorted(names(before, before.split.train)) if name.startswith("rose"))
    root = Path(spec.source)
    copy = root / f"{trained.partition('_')[0]}_copy.png"
    copy.write_bytes((root / tested).read_bytes())
    dataset = prepare(spec, home)
    found = {one.rule: one for one in dataset.report.findings}
    assert found["between_groups"].files == (copy.relative_to(root).as_posix(),)
    assert names(dataset, dataset.split.test) == names(before, before.split.test)
