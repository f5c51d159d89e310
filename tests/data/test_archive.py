"""An archive unpacks whole and inside its folder, or not at all."""

import io
import multiprocessing
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.archive import Limits, extract
from data.errors import SourceError

FILES = {"flowers/rose/1.jpg": b"rose" * 500, "flowers/tulip/2.jpg": b"tulip" * 500}


def tar(path: Path, files: dict[str, bytes], *, mode: str = "w:gz", extra: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra or []:
            archive.addfile(info)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(archive: Path, target: Path, match: str, limits: Limits | None = None) -> None:
    with pytest.raises(SourceError, match=match) as caught:
        extract(archive, target, limits=limits)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert [path.name for path in target.parent.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w"), ("a.zip", "")])
def test_each_kind_unpacks(tmp_path, name, mode):
    archive = tar(tmp_path / name, FILES, mode=mode) if mode else zipped(tmp_path / name, FILES)
    assert content(extract(archive, tmp_path / "out" / "flowers")) == FILES


def test_a_kind_is_known_by_its_bytes_not_its_name(tmp_path):
    assert content(extract(zipped(tmp_path / "a.tar.gz", FILES), tmp_path / "out")) == FILES


@pytest.mark.parametrize(
    "name", ["../out.jpg", "a/../../out.jpg", "/nonexistent/out.jpg", "C:\\out.jpg", "..\\out.jpg", "a/.."]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_out_is_refused(tmp_path, kind, name):
    make = tar if kind == "tar" else zipped
    archive = make(tmp_path / f"a.{kind}", FILES | {name: b"x"})
    refused(archive, tmp_path / "in" / "out", "leads out of the folder")
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("flowers/rose/9.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    refused(tar(tmp_path / "a.tar.gz", FILES, extra=[info]), tmp_path / "out", "a link or a device")


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("rose/9.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", tmp_path / "out", "a link or a device")


def test_what_operating_systems_leave_behind_stays_out(tmp_path):
    junk = dict.fromkeys((".DS_Store", "__MACOSX/rose/._1.jpg", "rose/.hidden.jpg", "rose/.git/x.jpg"), b"junk")
    assert content(extract(zipped(tmp_path / "a.zip", FILES | junk), tmp_path / "out")) == FILES


def test_names_written_on_windows_and_macos_are_understood(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"rosé\\1.jpg": b"x"})
    unflagged = bytearray(archive.read_bytes())  # UTF-8 names without the flag that says so
    for signature, flag in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        unflagged[unflagged.index(signature) + flag] = 0
    archive.write_bytes(unflagged)
    assert content(extract(archive, tmp_path / "out")) == {"rosé/1.jpg": b"x"}


@pytest.mark.slow
def test_a_bomb_stops_at_the_limit_of_bytes(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"rose/1.jpg": bytes(30_000_000)})
    assert archive.stat().st_size < 50_000
    refused(archive, tmp_path / "out", "more than 10,000,000 bytes", Limits(total_bytes=10_000_000))


def test_too_many_files_are_refused(tmp_path):
    archive = tar(tmp_path / "a.tar", {f"rose/{i}.jpg": b"" for i in range(11)})
    refused(archive, tmp_path / "out", "over 10 files", Limits(files=10))


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", FILES)
    marked = bytearray(archive.read_bytes())
    marked[marked.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(marked)
    refused(archive, tmp_path / "out", "without a password")


def test_an_empty_file_and_a_web_page_are_no_archives(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"")
    refused(tmp_path / "a.zip", tmp_path / "out", "is empty")
    (tmp_path / "a.zip").write_bytes(b"<!DOCTYPE html><title>Log in</title>")
    refused(tmp_path / "a.zip", tmp_path / "out", "is no zip or tar archive")


def test_a_tar_cut_between_two_files_is_refused(tmp_path):
    archive = tar(tmp_path / "a.tar", FILES, mode="w")
    first = 512 + 2048  # a header and its content, in whole blocks
    archive.write_bytes(archive.read_bytes()[:first])
    refused(archive, tmp_path / "out", "truncated or damaged")


def test_damage_between_two_files_of_a_tar_is_no_end(tmp_path):
    archive = tar(tmp_path / "a.tar", FILES, mode="w")
    damaged = bytearray(archive.read_bytes())
    damaged[2560:2600] = b"?" * 40  # the second header: tarfile alone would stop there in silence
    archive.write_bytes(damaged)
    refused(archive, tmp_path / "out", "truncated or damaged")


def test_damage_that_hides_a_file_from_the_listing_of_a_zip_is_seen(tmp_path):
    archive = zipped(tmp_path / "a.zip", FILES)
    damaged = bytearray(archive.read_bytes())
    entry = damaged.index(b"PK\x01\x02")
    damaged[entry + 33] ^= 1  # its comment now seems to be 256 bytes longer and swallows the next entry
    archive.write_bytes(damaged)
    refused(archive, tmp_path / "out", "truncated or damaged")


@pytest.mark.slow
@settings(max_examples=60)
@given(kind=st.sampled_from(["tar.gz", "tar", "zip"]), share=st.floats(0.0, 0.97))
def test_an_archive_truncated_anywhere_is_refused(tmp_path_factory, kind, share):
    folder = tmp_path_factory.mktemp("cut")
    make = zipped if kind == "zip" else lambda path, files: tar(path, files, mode="w:gz" if kind == "tar.gz" else "w")
    archive = make(folder / f"a.{kind}", FILES)
    whole = archive.read_bytes()
    end = len(whole) if kind != "tar" else whole.rindex(b"tulip") + 512  # what pads a tar at its end is not content
    archive.write_bytes(whole[: int(share * end)])
    with pytest.raises(SourceError):
        extract(archive, folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.slow
@settings(max_examples=60)
@given(kind=st.sampled_from(["tar.gz", "zip"]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_what_is_unpacked(tmp_path_factory, kind, where, bit):
    folder = tmp_path_factory.mktemp("flip")
    archive = (zipped if kind == "zip" else tar)(folder / f"a.{kind}", FILES)
    flipped = bytearray(archive.read_bytes())
    flipped[int(where * len(flipped))] ^= 1 << bit
    archive.write_bytes(flipped)
    try:
        found = content(extract(archive, folder / "out"))
    except SourceError:
        assert not (folder / "out").exists()
        return
    assert sorted(found.values()) == sorted(FILES.values())  # names in a zip carry no checksum


def test_unpacking_again_is_instant_and_leaves_the_folder(tmp_path):
    archive = tar(tmp_path / "a.tar.gz", FILES)
    target = extract(archive, tmp_path / "out")
    archive.unlink()
    assert extract(archive, target) == target


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    (tmp_path / ".out.part" / "rose").mkdir(parents=True)
    (tmp_path / ".out.part" / "rose" / "half.jpg").write_bytes(b"half")
    assert content(extract(tar(tmp_path / "a.tar.gz", FILES), tmp_path / "out")) == FILES


@pytest.mark.slow
def test_processes_that_unpack_the_same_archive_at_once_do_not_collide(tmp_path):
    files = {f"rose/{i}.jpg": bytes([i % 256]) * 100 for i in range(400)}
    archive = tar(tmp_path / "a.tar.gz", files)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=extract, args=(archive, tmp_path / "out")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert content(tmp_path / "out") == files
