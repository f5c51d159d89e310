"""Near duplicates: what is found, what is not, and that nothing is compared with everything."""

import io

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.gate import near, within
from data.gate.near import Hashes

SIDE = 48
BITS = 8


def photograph(seed: int, side: int = SIDE) -> Image.Image:
    """Soft blots over fine grain; another seed, another scene."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 200, (7, 7, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)
    return Image.fromarray((soft + random.normal(0, 4, soft.shape)).clip(0, 255).astype(np.uint8))


def saved_again(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file)


CHANGES = {
    "saved again": saved_again,
    "brighter": lambda image: image.point(lambda value: value * 1.1),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def stacked(*images: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def found(pixels: np.ndarray, **options: bool) -> near.Pairs:
    return near.pairs(pixels, near.hashes(pixels), bits=BITS, **options).least(0.9)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_near_to_its_original_and_to_nothing_else(change):
    originals = [photograph(seed) for seed in range(40)]
    near_ones = found(stacked(*originals, CHANGES[change](originals[7])))
    assert near_ones.rows.tolist() == [[7, 40]]
    assert near_ones.mirrored.tolist() == [change == "mirrored"]


@pytest.mark.parametrize(("left", "top", "kept"), near.CUTS)
def test_what_was_cut_is_still_alike(left, top, kept):
    whole = photograph(0)
    part = whole.resize((SIDE, SIDE), box=tuple(SIDE * edge for edge in (left, top, left + kept, top + kept)))
    other = near.likeness(stacked(whole, photograph(1)), np.array([[0, 1]]), np.array([False]))
    alike = near.likeness(stacked(whole, part), np.array([[0, 1]]), np.array([False]))
    assert alike > 0.95 > 0.8 > other
    mirrored = stacked(whole, part)[:, :, ::-1]
    assert near.likeness(np.stack([stacked(whole)[0], mirrored[1]]), np.array([[0, 1]]), np.array([True])) > 0.95


def test_the_more_pictures_the_nearer_their_hashes_must_be():
    assert near.bits_for(4_000) > near.bits_for(60_000) > near.bits_for(1_000_000) > 0


def test_a_mirrored_copy_is_not_looked_for_where_mirroring_changes_the_class():
    one = photograph(0)
    assert not len(found(stacked(one, CHANGES["mirrored"](one)), mirror=False).rows)


def test_flat_pictures_are_near_to_nothing_whatever_their_colour():
    flat = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 0, 128, 255)]
    noise = [128 + np.random.default_rng(seed).integers(0, 2, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(3)]
    assert not len(found(np.stack(flat + noise)).rows)


def test_grey_pictures_have_near_copies_too():
    grey = np.asarray(photograph(0).convert("L"))[..., None]
    other = np.asarray(photograph(1).convert("L"))[..., None]
    assert found(np.stack([grey, other, grey])).rows.tolist() == [[0, 2]]


def test_below_32_pixels_there_is_no_telling():
    small = np.stack([np.asarray(photograph(0, side=near.SMALLEST - 1))] * 2)
    assert not len(found(small).rows)


def test_a_symmetric_picture_is_not_near_to_itself():
    half = np.asarray(photograph(0))[:, : SIDE // 2]
    assert not len(found(np.concatenate([half, half[:, ::-1]], axis=1)[None]).rows)


def test_a_pair_is_told_once_though_it_is_found_as_it_is_and_mirrored():
    half = np.asarray(photograph(0))[:, : SIDE // 2]
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)
    near_ones = found(np.stack([symmetric, symmetric]))
    assert near_ones.rows.tolist() == [[0, 1]]
    assert not near_ones.mirrored.any()


def test_the_hash_is_that_of_imagehash():
    image = photograph(3)
    hashed = near.hashes(stacked(image))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for mine, theirs in ((hashed.plain, image), (hashed.mirrored, mirrored)):
        bits = np.unpackbits(mine.view(np.uint8)).astype(bool)
        assert bits.tolist() == imagehash.phash(theirs).hash.ravel().tolist()


def test_light_contrast_and_tint_do_not_make_pictures_unlike():
    one = np.asarray(photograph(0), float)
    other = one * [0.5, 0.6, 0.7] + [30, 20, 10]
    pixels = np.stack([one, other]).astype(np.uint8)
    alike = near.likeness(pixels, np.array([[0, 1]]), np.array([False]))
    assert alike[0] > 0.98


def test_nothing_is_near_where_there_is_nothing():
    nothing = np.zeros((0, SIDE, SIDE, 3), np.uint8)
    assert not len(found(nothing).rows)
    assert near.groups(np.zeros((0, 2), np.int64), 0) == []


def test_groups_join_what_is_near_to_the_same_picture_the_largest_first():
    rows = np.array([[5, 6], [0, 3], [3, 8]])
    assert [group.tolist() for group in near.groups(rows, 9)] == [[0, 3, 8], [5, 6]]


@pytest.mark.slow
@settings(max_examples=60)
@given(rows=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_the_connected_components_of_the_pairs(rows: list[tuple[int, int]]):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.array(rows, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(20, 20))
    label = connected_components(graph, directed=False)[1]
    components = {tuple(np.flatnonzero(label == one).tolist()) for one in set(label.tolist())}
    found_ones = [tuple(group.tolist()) for group in near.groups(pairs, 20)]
    assert set(found_ones) == {group for group in components if len(group) > 1}
    assert len(set(found_ones)) == len(found_ones)


def hamming(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    centres=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    flips=st.lists(st.lists(st.integers(0, 63), max_size=9), min_size=2, max_size=25),
    bits=st.integers(0, 6),
)
def test_every_pair_within_the_distance_is_found_and_no_other(centres, flips, bits):
    values = []
    for number, flipped in enumerate(flips):
        value = centres[number % len(centres)]
        for bit in flipped:
            value ^= 1 << bit
        values.append(value)
    values = list(dict.fromkeys(values))  # equal ones have a test of their own
    pairs, complete = within.pairs_within(np.array(values, np.uint64), bits)
    wanted = {
        (i, j) for i in range(len(values)) for j in range(i + 1, len(values)) if hamming(values[i], values[j]) <= bits
    }
    assert complete
    assert sorted(map(tuple, pairs.tolist())) == sorted(wanted)


def test_many_equal_hashes_are_chained_and_not_each_paired_with_each():
    pairs, complete = within.pairs_within(np.array([9] * 1000 + [8], np.uint64), bits=4)
    assert complete
    assert len(pairs) == 1000
    assert len(near.groups(pairs, 1001)[0]) == 1001


def test_a_film_of_one_scene_is_told_to_be_more_than_was_kept():
    hashes = np.arange(512, dtype=np.uint64) << np.uint64(20)  # nine bits in which all differ: 130,816 pairs
    pairs, complete = within.pairs_within(hashes, bits=9, most=1000)
    assert not complete
    assert len(pairs) == 1000


@pytest.mark.slow
def test_a_hundred_thousand_hashes_are_not_compared_each_with_each():
    """It would take 5,000 million comparisons, a minute or so; the test's time limit is the assertion."""
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[77_777] = hashes[11] ^ np.uint64(0b1001_0110)
    pairs, _ = within.pairs_within(hashes, bits=4)
    assert pairs.tolist() == [[11, 77_777]]


def test_hashes_say_which_pictures_are_flat():
    hashed = near.hashes(np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), np.asarray(photograph(0))]))
    assert isinstance(hashed, Hashes)
    assert hashed.flat.tolist() == [True, False]
