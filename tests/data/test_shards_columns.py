"""What is known of pictures in shards: as it was said, in few bytes."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from data.compact import Texts
from data.errors import SourceError
from data.shards import index
from data.shards.columns import Entries, Numbers
from data.shards.place import Local
from data.shards.sample import Entry
from data.spec import Part

BYTES = 150  # a picture at most, its name among them; ten million are 1.5 GB


def entry(number: int) -> Entry:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return Entry(f"{number:09}.jpg", 512 * number + 512, 500, digest, f"class {number % 100}")


def test_entries_are_read_as_they_were_said():
    said = [
        Entry("ü/1.jpg", 512, 9, "ab" * 32, "rose"),
        Entry("a\u2028b.png", 1 << 40, 1 << 33, "cd" * 32, "tulip", Part.VAL, "north", "2026-03-01T00:00:00Z"),
        entry(3),
    ]
    found = Entries.joined([Entries.of(said[:1]), Entries.of([]), Entries.of(said[1:])])
    assert found == said
    assert found.taken(np.array([2, 0])) == [said[2], said[0]]
    assert (found[1].part, found[0].group, type(found[1].offset)) == (Part.VAL, None, int)


@pytest.mark.parametrize("hashed", [hash, len, lambda _: 7], ids=["hash", "few hashes", "one hash"])
def test_a_text_has_its_own_number_whatever_the_hashes(hashed):
    texts = [f"{'x' * (n % 5)}{n}" for n in range(60)]
    numbers = Numbers(Texts.of(texts), hashed=hashed)
    wanted = [*texts[::-3], texts[4], texts[4]]
    assert [texts[number] for number in numbers.of(wanted)] == wanted
    assert numbers.of([]).tolist() == []
    with pytest.raises(ValueError, match=r"^x1$"):
        Numbers(Texts.of(["a", "x1", "b2", "x1"]), hashed=hashed)


def test_what_is_not_there_has_no_number():
    with pytest.raises(KeyError):
        Numbers(Texts.of(["a", "b"])).of(["a", "c"])
    with pytest.raises(KeyError):
        Numbers(Texts.of([])).of(["a"])


def test_two_pictures_of_one_name_are_refused(tmp_path):
    write_index(tmp_path, [entry(1), entry(2), entry(1)])
    with pytest.raises(SourceError, match=r"^shard 0\.tar holds two files called '0\.tar/000000001\.jpg'; write it"):
        _ = index.opened(Local(tmp_path), tmp_path / "home").listing


def test_a_picture_takes_few_bytes(tmp_path):
    num = 20_000
    write_index(tmp_path, [entry(number) for number in range(num)])
    tracemalloc.start()
    try:
        found = index.opened(Local(tmp_path), tmp_path / "home")
        listing = found.listing
        assert found.numbers([listing.pictures[7].file]).tolist() == [7]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / num < BYTES


def write_index(folder, entries: list[Entry]) -> None:
    """Of a shard whose pictures nobody reads."""
    size = max(one.offset + one.size for one in entries)
    with (folder / "0.tar").open("wb") as out:
        out.truncate(size)
    (folder / "0.tar.index").write_bytes(index.lines(entries, size=size))
    (folder / "index.json").write_text('{"format": 1, "shards": [{"name": "0.tar"}]}')
