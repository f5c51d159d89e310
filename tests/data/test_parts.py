"""An archive in parts is the archive, wherever it is cut; what is missing is named."""

import hashlib
import io
import itertools
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.archive import extract
from data.catalog import fetch
from data.errors import SourceError
from data.sources import parts
from data.sources.kinds import Archive, default_name, parse_source
from data.spec import DatasetSpec

FILES = {"flowers/rose/1.jpg": b"rose" * 500, "flowers/tulip/2.jpg": bytes(range(256)) * 20}


def packed(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode="w" if kind == "tar" else "w:gz") as tar:
            for name, content in FILES.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


PACKED = {kind: packed(kind) for kind in ("zip", "tar", "tar.gz")}


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def cut(folder: Path, names: list[str], whole: bytes) -> Path:
    """In pieces of about one length; -> the first."""
    step = -(-len(whole) // len(names))
    for number, name in enumerate(names):
        (folder / name).write_bytes(whole[number * step : (number + 1) * step])
    return folder / names[0]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(PACKED)),
    cuts=st.lists(st.floats(0, 1), max_size=12),
    style=st.sampled_from(["aa", "000", "part1", "part-01", "001"]),
    named=st.integers(0, 13),
)
def test_any_split_into_parts_unpacks_the_same(tmp_path_factory, kind, cuts, style, named):
    folder, whole = tmp_path_factory.mktemp("split"), PACKED[kind]
    edges = [0, *sorted(int(share * len(whole)) for share in cuts), len(whole)]  # parts may be empty
    names = numbered(style, len(edges) - 1)
    for name, (begin, end) in zip(names, itertools.pairwise(edges), strict=True):
        (folder / f"flowers.{kind}.{name}").write_bytes(whole[begin:end])
    choice = [*(f"flowers.{kind}.{name}" for name in names), f"flowers.{kind}"][named % (len(names) + 1)]
    found = fetch(DatasetSpec(source=str(folder / choice), sha256=hashlib.sha256(whole).hexdigest()), folder / "home")
    assert content(found.root) == FILES
    assert found.name == "flowers"


def numbered(style: str, num: int) -> list[str]:
    if style == "aa":
        return [f"a{chr(ord('a') + i)}" for i in range(num)]
    mark, digits = style.rstrip("0123456789"), style.lstrip("part-")
    return [f"{mark}{int(digits) + i:0{len(digits)}d}" for i in range(num)]


def test_an_archive_in_parts_unpacks_to_where_the_whole_one_does(tmp_path):
    (tmp_path / "flowers.zip").write_bytes(PACKED["zip"])
    whole = fetch(DatasetSpec(source=str(tmp_path / "flowers.zip")), tmp_path / "home").root
    first = cut(tmp_path, ["flowers.zip.001", "flowers.zip.002"], PACKED["zip"])
    assert fetch(DatasetSpec(source=str(first)), tmp_path / "home").root == whole


def test_parts_that_change_are_another_archive(tmp_path):
    names = ["flowers.tar.aa", "flowers.tar.ab"]
    source = DatasetSpec(source=str(cut(tmp_path, names, PACKED["tar"])))
    before = fetch(source, tmp_path / "home").root
    cut(tmp_path, names, PACKED["tar"].replace(b"rose" * 500, b"ROSE" * 500))
    after = fetch(source, tmp_path / "home").root
    assert after != before
    assert content(after)["flowers/rose/1.jpg"] == b"ROSE" * 500


@pytest.mark.parametrize(
    ("there", "named", "sentence"),
    [
        (["000", "001", "003"], "000", "f.tar.gz.002 is missing between f.tar.gz.001 and f.tar.gz.003"),
        (["aa", "ab", "ad", "ae"], "ab", "f.tar.gz.ac is missing between f.tar.gz.ab and f.tar.gz.ad"),
        (["part1", "part2", "part10"], "part1", "f.tar.gz.part3 is missing between f.tar.gz.part2 and"),
        (["ab", "ac"], "ab", "f.tar.gz.aa is missing before f.tar.gz.ab"),
        (["002", "003"], "002", "f.tar.gz.001 is missing before f.tar.gz.002"),
        (["1", "2", "02"], "1", "are the same part; leave one of the two"),
    ],
)
def test_a_gap_is_named(tmp_path, there, named, sentence):
    for number in there:
        (tmp_path / f"f.tar.gz.{number}").write_bytes(b"x")
    with pytest.raises(SourceError) as caught:
        parse_source(str(tmp_path / f"f.tar.gz.{named}"))
    assert sentence in str(caught.value)


def test_parts_of_two_kinds_are_not_mixed(tmp_path):
    cut(tmp_path, ["f.zip.aa", "f.zip.ab"], PACKED["zip"])
    cut(tmp_path, ["f.zip.000", "f.zip.001", "f.zip.002"], PACKED["zip"])
    with pytest.raises(SourceError, match="several kinds; name the first"):
        parse_source(str(tmp_path / "f.zip"))
    assert content(extract(tmp_path / "f.zip.001", tmp_path / "out")) == FILES


def test_the_last_part_missing_is_told_as_a_possibility(tmp_path):
    cut(tmp_path, ["f.zip.001", "f.zip.002", "f.zip.003"], PACKED["zip"])
    (tmp_path / "f.zip.003").unlink()
    with pytest.raises(SourceError, match="truncated or damaged, or its last parts are missing; fetch"):
        fetch(DatasetSpec(source=str(tmp_path / "f.zip.001")), tmp_path / "home")


@pytest.mark.parametrize("named", ["flowers.z01", "flowers.zip"])
def test_spans_of_zip_are_refused_with_the_remedy(tmp_path, named):
    for name in ("flowers.z01", "flowers.z02", "flowers.zip"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"run `zip -s 0 flowers.zip --out flowers-whole.zip` and name that"):
        parse_source(str(tmp_path / named))


@pytest.mark.parametrize("name", ["f.tar.xz", "f.zip.asc", "f.tar.md", "f.rar", "f.part1.rar", "f.jpg.001"])
def test_what_only_looks_like_a_part_is_none(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match="is neither a folder nor an archive"):
        parse_source(str(tmp_path / name))


def test_a_signature_beside_the_parts_is_no_gap(tmp_path):
    first = cut(tmp_path, ["f.tar.aa", "f.tar.ab"], PACKED["tar"])
    (tmp_path / "f.tar.asc").write_bytes(b"PGP")
    (tmp_path / "f.tar.xz").write_bytes(b"another")
    assert [file.name for file in parts.of(first)] == ["f.tar.aa", "f.tar.ab"]


@pytest.mark.parametrize("options", [["-d"], []])
def test_parts_are_followed_as_split_itself_numbers_them(tmp_path, options):
    """Which after 90 numbers (-d), or 650 letters, goes on with two more places."""
    whole = tmp_path / "f.tar"
    whole.write_bytes(bytes(800))
    subprocess.run(["split", "-b", "1", *options, whole, f"{whole}."], check=True)
    assert len(list(tmp_path.glob("f.tar.*"))) == 800
    assert len(parts.of(next(tmp_path.glob("f.tar.[a0][a0]")))) == 800
    sorted(tmp_path.glob("f.tar.*"))[700].unlink()
    with pytest.raises(SourceError, match="is missing between"):
        parts.of(next(tmp_path.glob("f.tar.[a0][a0]")))


def test_what_is_remembered_of_parts_is_not_read_again(tmp_path, monkeypatch):
    first = cut(tmp_path, ["f.zip.001", "f.zip.002"], PACKED["zip"])
    digest = parts.digest(first, tmp_path / "home")
    assert digest == hashlib.sha256(PACKED["zip"]).hexdigest()
    monkeypatch.setattr(parts, "opened", None)
    assert parts.digest(first, tmp_path / "home") == digest


def test_a_part_behind_a_url_is_refused_with_the_remedy():
    with pytest.raises(SourceError, match=r"f.zip.001 is a part of f.zip.* fetch all parts into one folder"):
        parse_source("https://host.org/f.zip.001")


def test_parts_are_called_after_the_whole(tmp_path):
    (tmp_path / "My Flowers.tar.gz.part-00").write_bytes(b"x")
    source = parse_source(str(tmp_path / "My Flowers.tar.gz"))
    assert source == Archive(path=tmp_path / "My Flowers.tar.gz.part-00")
    assert default_name(source) == "my-flowers"
