"""The list that a person edits: what is decided counts, by content, and no line of a person's is ever lost."""

import csv
import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataRefused
from data.gate.quarantine import COLUMNS, Suspect, counts, file_of, read, update
from data.prepare import Dataset, inspect, prepare
from data.spec import DatasetSpec

A, B, C = (hashlib.sha256(text).hexdigest() for text in (b"a", b"b", b"c"))


@pytest.fixture
def flowers(write):
    def spec(
        files: dict[str, bytes | None] | None = None, *, plain: bool = True, **gate: dict[str, str]
    ) -> DatasetSpec:
        some: dict[str, bytes | None] = {f"{name}/{i}.png": None for name in ("rose", "tulip") for i in range(20)}
        source = str(write((some if plain else {}) | (files or {})))
        return DatasetSpec.model_validate({"source": source, "name": "flowers", "size": 8, "gate": gate})

    return spec


@pytest.fixture
def decide(home):
    """decide({content: decision}) writes the list, as a person would."""

    def write_list(said: dict[bytes, str]) -> Path:
        file = file_of(home, "flowers")
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{hashlib.sha256(content).hexdigest()},{what}" for content, what in said.items()]
        file.write_text("\n".join(["sha256,decision", *lines]) + "\n")
        return file

    return write_list


def lines(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))


def rules(dataset: Dataset) -> set[str]:
    return {finding.rule for finding in dataset.report.findings}


def test_what_was_spotted_is_listed_by_content_with_what_to_do(flowers, home, png):
    inspect(flowers({"rose/odd.png": png(900), "tulip/odd.png": png(900), "rose/copy.png": png(0)}), home)
    listed = {line["rule"]: line for line in lines(file_of(home, "flowers"))}
    assert listed.keys() == {"contradictions", "copies"}
    assert listed["contradictions"]["sha256"] == hashlib.sha256(png(900)).hexdigest()
    assert listed["contradictions"]["file"] == "rose/odd.png | tulip/odd.png"
    assert listed["contradictions"]["advice"] == "drop, or label=rose or label=tulip"
    assert {line["decision"] + line["note"] for line in listed.values()} == {""}


def test_a_data_set_without_suspects_has_no_list(flowers, home):
    prepare(flowers(), home)
    assert not (home / "datasets/quarantine").exists()


def test_a_refusal_leaves_the_list_to_decide_in(flowers, home, png):
    with pytest.raises(DataRefused):
        prepare(flowers({"rose/copy.png": png(0)}, copies={"level": "stop"}), home)
    assert len(lines(file_of(home, "flowers"))) == 1


def test_keep_silences_what_is_found_about_a_picture(flowers, home, png, decide):
    spec = flowers({"rose/copy.png": png(0), "tulip/copy.png": png(20)}, copies={"level": "stop"})
    decide({png(0): "keep"})
    with pytest.raises(DataRefused, match="1 copied file"):
        prepare(spec, home)
    decide({png(0): "keep", png(20): "keep"})
    dataset = prepare(spec, home)
    assert rules(dataset) == set()
    assert sum(count.train + count.val + count.test for count in dataset.report.classes) == 42


def test_what_leaked_is_told_and_counted_though_a_person_would_keep_it(flowers, home, png, decide):
    """Be it kept, the copy in train is not trained on."""
    parts = {f"{part}/{name}/{i}.png": png(100 * k + 10 * n + i) for k, part in enumerate(("train", "test"))
             for n, name in enumerate(("rose", "tulip")) for i in range(8)}  # fmt: skip
    spec = flowers(parts | {"train/rose/leak.png": parts["test/rose/0.png"]}, plain=False)
    before = prepare(spec, home)
    (line,) = lines(file_of(home, "flowers"))
    assert line["advice"] == "remove the files outside test, or drop"
    decide({parts["test/rose/0.png"]: "keep"})
    after = prepare(spec, home)
    assert rules(after) == rules(before) >= {"leakage"}
    assert after.report.dropped == before.report.dropped


def test_drop_takes_a_picture_out_of_every_part_test_included(flowers, home, decide):
    before = prepare(flowers(), home)
    tested = before.images.path(int(before.split.test[0])).read_bytes()
    decide({tested: "drop"})
    after = prepare(flowers(), home)
    assert len(after.split.test) == len(before.split.test) - 1
    assert [one.model_dump() for one in after.report.dropped] == [
        {"rule": "quarantine", "train": 0, "val": 0, "test": 1, "stay": 0}
    ]
    told = {finding.rule: finding for finding in after.report.findings}["quarantine"]
    assert (told.level, told.message) == (
        "note", "1 picture left out by your decision in datasets/quarantine/flowers.csv")  # fmt: skip
    assert after.images.snapshot.fingerprint != before.images.snapshot.fingerprint


def test_a_person_may_drop_more_than_a_rule_may(flowers, home, png, decide):
    decide({png(number): "drop" for number in range(12)})
    assert prepare(flowers(), home).report.ok
    decide({png(number): "drop" for number in range(18)})
    with pytest.raises(DataRefused, match="at least 3 different readable pictures: 'rose' has 2"):
        prepare(flowers(), home)


def test_a_label_puts_a_picture_into_that_class(flowers, home, png, decide):
    before = prepare(flowers(), home)
    decide({png(0): "label=tulip"})
    after = prepare(flowers(), home)
    labels = {after.images.digest(row): after.images.classes[label] for row, label in enumerate(after.images.labels)}
    assert labels[hashlib.sha256(png(0)).hexdigest()] == "tulip"
    assert after.report.relabelled == 1
    assert after.images.snapshot.fingerprint != before.images.snapshot.fingerprint
    assert "1 picture given another class by your decision" in after.report.findings[0].message


def test_a_label_ends_a_contradiction(flowers, home, png, decide):
    spec = flowers({"rose/odd.png": png(900), "tulip/odd.png": png(900)})
    assert rules(prepare(spec, home)) == {"contradictions"}
    decide({png(900): "label=rose"})
    assert rules(prepare(spec, home)) == {"quarantine", "copies", "changed"}


def test_relabelled_is_the_same_as_moved(flowers, home, tmp_path, png, decide):
    decide({png(0): "label=tulip"})
    decided = prepare(flowers(), home)
    (tmp_path / "pictures/rose/0.png").rename(tmp_path / "pictures/tulip/moved.png")
    moved = prepare(DatasetSpec(source=str(tmp_path / "pictures"), name="other", size=8), home)
    assert moved.images.snapshot.fingerprint == decided.images.snapshot.fingerprint


def test_a_renamed_file_keeps_its_decision(flowers, home, tmp_path, decide):
    spec = flowers()
    decide({(tmp_path / "pictures/rose/3.png").read_bytes(): "drop"})
    (tmp_path / "pictures/rose/3.png").rename(tmp_path / "pictures/rose/another.png")
    assert prepare(spec, home).report.findings[0].files == ("rose/another.png",)


def test_a_class_that_is_none_is_refused_with_the_line_and_the_nearest(flowers, home, png, decide):
    decide({png(1): "keep", png(0): "label=tulipe"})
    with pytest.raises(DataRefused, match=r"line 3 of .*flowers.csv says label=tulipe, .* such as tulip$"):
        prepare(flowers(), home)


def test_a_decision_on_a_picture_that_is_not_there_says_nothing(flowers, home, decide):
    decide({b"gone": "label=oak", b"gone too": "drop"})
    assert rules(prepare(flowers(), home)) == set()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"sha256,decision\n{A},\n{B},dorp\n", "line 3 of {} says 'dorp'; write keep, drop or label=NAME, or nothing"),
        (f"sha256,decision\n\n{A},label=\n", "line 3 of {} says 'label='; write keep"),
        (f"sha256,decision\n{A},=label\n", "line 2 of {} says '=label'"),
        (f"sha256,decision\n{A[:-1]},drop\n", "line 2 of {} has '" + A[:-1] + "' where a picture's sha256 should be"),
        (f"sha256,decision\n{A},drop\n{A},keep\n", "line 3 of {} decides otherwise than line 2"),
        (f"sha256,who,decision\n{A},me,drop\n", "the column 'who' is unknown"),
        (f"sha256,note\n{A},drop\n", "the column 'decision' is missing"),
        (f"{A},drop\n", "line 1 of {} should name the columns"),
        ("sha256,decision,decision\n", "one is there twice"),
        (f"sha256,decision\n{A},drop,too,many\n", "line 2 of {} has 4 cells, and the file 2 columns"),
        (f'sha256,decision,note\n{A},drop,"no end\n{B},drop,\n', "line 2 of {} is no CSV (unexpected end of data)"),
        (f'sha256,file,decision\n{A},"a\nb.png",keep\n{B},c.png,kep\n', "line 4 of {} says 'kep'"),
    ],
)
def test_a_line_that_is_not_understood_is_named(tmp_path: Path, text: str, sentence: str):
    file = tmp_path / "flowers.csv"
    file.write_text(text)
    with pytest.raises(DataRefused) as refusal:
        read(file)
    assert sentence.format(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataRefused):
        update(file, [])
    assert file.read_text() == text


def test_a_list_that_cannot_be_read_is_said(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(f"sha256,decision,note\n{A},drop,schön\n".encode("cp1252"))
    with pytest.raises(DataRefused, match="is not UTF-8; save it as CSV UTF-8"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataRefused, match="cannot be read"):
        read(tmp_path / "b.csv")
    assert read(tmp_path / "none.csv").by_digest == {}


@pytest.mark.parametrize(
    "saved",
    [
        f"\ufeffsha256,file,decision,note\r\n{A},Rose Nr. 1.png,keep,schön\r\n{B},b.png,label=Löwenzahn,\r\n",
        f"sha256;file;decision;note\r\n{A};a,b.png;keep;schön\r\n{B};b.png;label=Löwenzahn;\r\n",
        f"SHA256, Decision ,note,,\n{A.upper()}, KEEP ,schön,,\n,,,,\n{B},Label = Löwenzahn,,,\n",
        f'"sha256","decision","note"\r"{A}","keep","schön"\r"{B}","label=Lo\u0308wenzahn",""\r',
    ],
    ids=["Excel", "Excel where the comma is for numbers", "padded", "old Mac, other Unicode form"],
)
def test_it_is_read_as_spreadsheets_save_it(tmp_path: Path, saved: str):
    file = tmp_path / "flowers.csv"
    file.write_bytes(saved.encode())
    found = read(file).by_digest
    assert (found[A].what, found[B].what, found[B].label) == ("keep", "label", "Löwenzahn")
    update(file, [Suspect(C, "c.png", "copies", None, "")])
    assert (read(file).by_digest[A].what, read(file).by_digest[B].label) == ("keep", "Löwenzahn")
    assert "schön" in file.read_text("utf-8-sig")


def test_no_cell_is_a_formula(tmp_path: Path):
    file = tmp_path / "flowers.csv"
    file.write_text(f"sha256,decision,note\n{A},keep,=1+1\n")
    update(file, [Suspect(B, '=HYPERLINK("http://x","y").png', "copies", -0.5, "@sum")])
    update(file, [Suspect(C, "+cmd.png", "copies", None, "")])
    cells = [cell for row in csv.reader(io.StringIO(file.read_text("utf-8-sig"))) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert {"'=1+1", "'+cmd.png"} <= set(cells)


def test_lines_of_nobodys_are_replaced_by_what_was_found_last(tmp_path: Path):
    file = tmp_path / "flowers.csv"
    assert update(file, []) is None
    assert not file.exists()
    update(file, [Suspect(A, "a.png", "copies", 0.25, "keep"), Suspect(B, "b.png", "copies", None, "")])
    assert [line["score"] for line in lines(file)] == ["0.25", ""]
    written = file.stat().st_mtime_ns
    update(file, [Suspect(A, "a.png", "copies", 0.25, "keep"), Suspect(B, "b.png", "copies", None, "")])
    assert file.stat().st_mtime_ns == written
    update(file, [Suspect(B, "b.png", "copies", None, "")])
    assert [line["sha256"] for line in lines(file)] == [B]
    assert counts(file) == ({"copies": 1}, {"keep": 0, "drop": 0, "label": 0})
    update(file, [])
    assert lines(file) == []


def test_what_networks_doubt_and_what_is_found_before_leave_each_others_lines(tmp_path: Path):
    file = tmp_path / "flowers.csv"
    update(file, [Suspect(A, "a.png", "copies", 0.25, "keep")])
    update(file, [Suspect(B, "b.png", "labels", 0.1, "label=rose")], rule="labels")
    update(file, [Suspect(C, "c.png", "copies", None, "")])
    assert [(line["file"], line["rule"]) for line in lines(file)] == [("b.png", "labels"), ("c.png", "copies")]
    update(file, [], rule="labels")
    assert [line["file"] for line in lines(file)] == ["c.png"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
DIGEST = st.integers(0, 5).map(lambda i: hashlib.sha256(bytes([i])).hexdigest())
MINE = st.tuples(DIGEST, TEXT, st.sampled_from(["copies", "few", ""]), st.sampled_from(["keep", ""]), TEXT)
THEIRS = st.builds(Suspect, DIGEST, TEXT, st.sampled_from(["copies", "few"]), st.none() | st.floats(0, 1), TEXT)


@pytest.mark.slow
@settings(max_examples=60)
@given(mine=st.lists(MINE, max_size=8), found=st.lists(st.lists(THEIRS, max_size=6), min_size=1, max_size=3))
def test_whatever_is_found_a_persons_lines_stay(tmp_path_factory, mine, found):
    file = tmp_path_factory.mktemp("list") / "flowers.csv"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([digest, name, rule, "", "", decision, note] for digest, name, rule, decision, note in mine)
    file.write_bytes(text.getvalue().encode())
    before = read(file).by_digest
    said = [(name.lstrip("'"), rule, what, note.lstrip("'")) for _, name, rule, what, note in mine
            if what or note.strip()]  # fmt: skip
    for suspects in found:
        update(file, suspects)
        assert {digest: one.what for digest, one in read(file).by_digest.items()} == {
            digest: one.what for digest, one in before.items()
        }
        listed = lines(file)
        kept = [(line["file"].lstrip("'"), line["rule"], line["decision"], line["note"].lstrip("'")) for line in listed
                if line["decision"] or line["note"].strip()]  # fmt: skip
        assert kept == said
        keys = [(line["sha256"], line["rule"]) for line in listed if not (line["decision"] or line["note"].strip())]
        assert len(keys) == len(set(keys))
