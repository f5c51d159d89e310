"""What was found in the pictures, with the pictures: on a page of its own and in the Prefect UI."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import InputError
from data.gate.judge import Dropped
from data.snapshot import Snapshot
from data.validate import ClassCount, Finding, ValidationReport
from flows.data_page import FOUND_BYTES, data_page
from models.evaluation.data_page import render, write
from models.evaluation.sheets import OF_A_GROUP, Thumb, sheets, small
from tests.models.test_report import EVIL, seen

N = 40


@pytest.fixture
def pictures(tmp_path: Path) -> Snapshot:
    """40 pictures, 60 x 30, the last of which is none, and another one with a name that is markup."""
    files = (*(f"rose/{i:02}.png" for i in range(N)), f"rose/{EVIL}.png")
    (tmp_path / "rose").mkdir()
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / file)
    (tmp_path / files[N - 1]).write_bytes(b"text")
    return Snapshot(
        name="flowers",
        root=tmp_path,
        classes=("rose",),
        files=files,
        labels=np.zeros(len(files), np.int64),
        digests=tuple(f"{row:064x}" for row in range(len(files))),
        sizes=np.ones(len(files), np.int64),
        parts=(None,) * len(files),
        mirror=True,
    )


def finding(rule: str, files: tuple[str, ...] = (), groups: tuple[tuple[str, ...], ...] = ()) -> Finding:
    files = files or tuple(file for group in groups for file in group)
    return Finding(rule=rule, level="warn", message=f"{rule} it is", count=len(files), files=files, groups=groups)


def report(*findings: Finding, dropped: tuple[Dropped, ...] = ()) -> ValidationReport:
    counts = (ClassCount(label="rose", train=30, val=5, test=6),)
    numbers = {"num_examples": 41, "num_unreadable": 0, "height": 8, "width": 8, "channels": 3}
    return ValidationReport(
        name="flowers", fingerprint="0" * 64, classes=counts, findings=findings, dropped=dropped, **numbers
    )


def test_a_sheet_has_at_most_so_many_pictures_and_pairs_beside_each_other(pictures: Snapshot):
    one = finding("dark", pictures.files[:30])
    pairs = finding("near", groups=tuple(zip(pictures.files[0:30:2], pictures.files[1:30:2], strict=True)))
    film = finding("copies", groups=(pictures.files[:20],))
    found = sheets([one, pairs, film], pictures)
    assert [len(found[rule]) for rule in ("dark", "near", "copies")] == [24, 12, 1]
    assert {len(group) for group in found["near"]} == {2}
    assert len(found["copies"][0]) == OF_A_GROUP


def test_a_finding_about_no_picture_has_no_sheet(pictures: Snapshot):
    assert sheets([finding("ignored", ("notes.txt",)), finding("imbalance")], pictures) == {}


def test_a_picture_is_shown_whole_and_turned_as_its_file_says(pictures: Snapshot, tmp_path: Path):
    jpeg = small(pictures.path(0), side=96)
    assert jpeg is not None
    assert Image.open(io.BytesIO(jpeg)).size == (60, 30)
    turned, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(turned, exif=exif)
    jpeg = small(turned, side=100)
    assert jpeg is not None
    assert Image.open(io.BytesIO(jpeg)).size == (50, 100)
    assert small(pictures.path(N - 1), side=96) is None
    assert small(tmp_path / "gone.png", side=96) is None


def test_the_page_has_each_finding_with_its_pictures_and_says_how_to_decide(pictures: Snapshot, tmp_path: Path):
    dropped = Dropped(rule="dark", train=2, val=0, test=0, stay=1)
    told = report(finding("dark", pictures.files[36:40]), finding("few"), dropped=(dropped,))
    (tmp_path / "list.csv").touch()
    html = render(told, pictures, decisions=tmp_path / "list.csv")
    text = seen(html)
    assert "dark warn: dark it is Left out: 2 train, 1 of test stay." in text
    assert html.count("data:image/jpeg;base64,") == 3
    assert "cannot be shown" in text
    assert "<code>list.csv</code>" in html
    assert "trainserve data quarantine flowers" in text
    assert str(tmp_path) not in html  # whoever is handed the page need not know who made it
    assert "rose 30 5 6" in text


def test_strangers_names_are_text_on_the_page_and_it_asks_for_nothing(pictures: Snapshot, tmp_path: Path):
    names = (pictures.files[-1], f"{EVIL}.txt")
    told = report(finding("dark", names[:1]), finding("ignored", names[1:]))
    html = render(told, pictures, decisions=tmp_path / "none.csv")
    assert EVIL not in html
    assert html.count("data:image/jpeg;base64,") == 1
    assert not re.search(r"<script|https?://|src=\"(?!data:)", html)


def test_what_nobody_has_to_look_at_has_a_page_too(pictures: Snapshot, tmp_path: Path):
    assert "Nothing was found" in seen(render(report(), pictures, decisions=tmp_path / "none.csv"))


def test_the_page_is_written_whole_or_a_sentence_says_why_not(pictures: Snapshot, tmp_path: Path):
    file = write(report(), pictures, tmp_path / "new" / "data.html", home=tmp_path)
    assert file.read_text().startswith("<!doctype html>")
    with pytest.raises(InputError, match=r"rose cannot be written .*; name a file"):
        write(report(), pictures, tmp_path / "rose", home=tmp_path)


def test_prefect_shows_pairs_in_one_row_with_their_names_as_text():
    groups = ((Thumb("a|b/1.png", b"jpeg"), Thumb("<i>![x](y)", None)),)
    page = data_page(report(finding("near")), {}, {"near": groups})
    row = page.splitlines()[-1]
    assert row == "| ![](data:image/jpeg;base64,anBlZw==) cannot be shown | a\\|b/1.png = &lt;i>!\\[x](y) |"
    assert "## near" in page


def test_what_prefect_keeps_stays_below_a_megabyte():
    large = tuple((Thumb(f"{number}.png", bytes(60_000)),) for number in range(12))
    page = data_page(report(), {}, dict.fromkeys(("dark", "light", "near"), large))
    assert FOUND_BYTES * 0.8 < len(page) < 1_000_000
    assert "| 11.png |" in page
