"""Columns of a snapshot that take a few bytes a picture, and are read like tuples."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import snapshot
from data.compact import Coded, Digests, Texts
from data.images import Images
from data.layout import Listed, Pictures
from data.parting import kept
from data.parting.kept import Kept
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec, Part
from data.split import assign

NAMES = st.one_of(st.text(max_size=8), st.sampled_from(["\udcff.png", "\ud800", ""]))
BYTES = st.binary(max_size=2)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@settings(max_examples=50)
@given(texts=st.lists(st.one_of(NAMES, st.none())), rows=st.data())
def test_texts_are_read_like_a_tuple(texts, rows):
    found = Texts.of(texts)
    assert found == tuple(texts)
    assert tuple(texts) == found
    assert found != (*texts, "one more")
    assert [found[place] for place in range(-len(texts), len(texts))] == texts + texts
    assert found[1:3] == tuple(texts[1:3])
    assert Texts.joined([found, found]) == tuple(texts + texts)
    with pytest.raises(IndexError):
        found[len(texts)]
    chosen = rows.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9)) if texts else []
    assert found.taken(np.array(chosen, np.int64)) == [texts[row] for row in chosen]


@settings(max_examples=50)
@given(values=st.lists(st.sampled_from([None, *Part])))
def test_coded_values_are_read_like_a_tuple(values):
    found = Coded.of(values)
    assert found == tuple(values)
    assert found.distinct == set(values)
    assert Coded.joined([found, Coded.of([Part.TEST]), found]) == [*values, Part.TEST, *values]
    assert found.where(None).tolist() == [one is None for one in values]
    assert found.replaced(lambda part: part or Part.TRAIN) == [one or Part.TRAIN for one in values]
    assert found.codes.itemsize == 1


@settings(max_examples=50)
@given(contents=st.lists(BYTES))
def test_digests_of_one_content_have_one_number_in_the_order_of_the_digests(contents):
    texts = [sha256(one) for one in contents]
    found = Digests.of(texts)
    assert found == tuple(texts)
    assert found.numbers.tolist() == [sorted(set(texts)).index(text) for text in texts]


def test_contents_whose_digests_begin_alike_are_told_apart():
    """Nobody has found such files yet by chance; 64 bits can be searched for."""
    texts = ["ab" * 8 + digit * 48 for digit in "2101"]
    assert Digests.of(texts).numbers.tolist() == [2, 1, 0, 1]


def test_what_is_no_sha256_is_no_digest():
    with pytest.raises(ValueError, match="hexadecimal"):
        Digests.of(["no digest"])


def test_pictures_are_read_like_a_tuple():
    rows = [Listed("a/1.png", "a", None), Listed("b/2.png", "b", Part.TEST, "camera 1", "2026-03-01T00:00:00+00:00")]
    found = Pictures.of(iter(rows))
    assert found == tuple(rows)
    assert found[1] == rows[1]
    assert found.below("x/")[0].file == "x/a/1.png"
    assert Pictures.joined([found, found]) == rows + rows


ROWS = st.lists(st.tuples(st.integers(0, 2), BYTES, st.sampled_from([None, *Part]), st.sampled_from([None, "g", "h"])))


@settings(max_examples=60)
@given(rows=ROWS, dropped=st.booleans(), compact=st.booleans())
def test_the_fingerprint_is_that_of_all_rows_as_json(rows, dropped, compact):
    """As it was first defined, and as stored models have it."""
    digests, parts, groups = [sha256(row[1]) for row in rows], [row[2] for row in rows], [row[3] for row in rows]
    gone = tuple(sorted(digests)[:2]) if dropped else ()
    found = Snapshot(
        name="flowers",
        root=Path(),
        classes=("a", "b", "ü"),
        files=tuple(map(str, range(len(rows)))),
        labels=np.array([row[0] for row in rows], np.int64),
        digests=Digests.of(digests) if compact else tuple(digests),
        sizes=np.ones(len(rows)),
        parts=Coded.of(parts) if compact else tuple(parts),
        mirror=True,
        dropped=gone,
        groups=tuple(groups) if any(groups) else (),
    )
    said = [("a", "b", "ü"), sorted((row[0], digest, row[2] or "") for row, digest in zip(rows, digests, strict=True))]
    said += [gone] if gone else []
    said += (
        [{"groups": sorted((d, group or "") for d, group in zip(digests, groups, strict=True))}] if any(groups) else []
    )
    assert found.fingerprint == hashlib.sha256(json.dumps(said).encode()).hexdigest()


@settings(max_examples=40)
@given(before=st.dictionaries(BYTES, st.sampled_from(Part)), after=st.dictionaries(BYTES, st.sampled_from(Part)))
def test_kept_parts_are_the_json_that_they_always_were(tmp_path_factory, before, after):
    file = tmp_path_factory.mktemp("splits") / "flowers.json"
    said = {sha256(content): part for content, part in before.items()}
    file.write_text(json.dumps(said, indent=0, sort_keys=True))
    changed = {sha256(content): part for content, part in after.items()}
    known = kept.read(file)
    assert known.of(Digests.of(said)).tolist() == kept.coded(said.values()).tolist()
    kept.write(file, known.updated(Digests.of(changed), kept.coded(changed.values())))
    assert file.read_text() == json.dumps(said | changed, indent=0, sort_keys=True)
    assert isinstance(kept.read(file), Kept)


def test_kept_parts_that_another_hand_wrote_are_read_as_well(tmp_path):
    file, digest = tmp_path / "flowers.json", sha256(b"")
    file.write_text(json.dumps({digest: "test"}, indent=4))
    assert kept.read(file).of(Digests.of([digest, sha256(b"x")])).tolist() == [0, -1]


@pytest.mark.slow
def test_a_picture_that_is_listed_hashed_and_split_costs_a_few_hundred_bytes_of_memory(tmp_path):
    """Nothing is decoded. It were 1,500 with a Python object for each; `benchmarks.size` measures all of it."""

    def peak(num: int) -> int:
        root = tmp_path / str(num)
        for number in range(num):
            file = root / f"class{number % 5}" / f"{number:09}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(number.to_bytes(4, "big"))
        tracemalloc.start()
        try:
            for _ in range(2):  # the second time all is remembered
                taken = snapshot.take(root, str(num), home=tmp_path)
                images = Images(taken, ImageSpec(height=1, width=1), np.arange(num), np.zeros((num, 1, 1, 1)), ())
                assert len(assign(images, DatasetSpec(), tmp_path).test)
                assert taken.fingerprint
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # imports
    assert (peak(20_000) - peak(5_000)) / 15_000 < 500
