"""A .zip or .tar(.gz) -> a folder: nothing escapes it, nothing is half there, nothing fills the disk."""

import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from data import progress as progress_
from data import whole
from data.errors import SourceError
from data.progress import Progress
from data.sources import parts

SUFFIXES = parts.SUFFIXES
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")  # beside everything whose name begins with a dot
CHUNK = 1 << 20  # bytes
ZIP_END = 22  # bytes of the end record of a zip, without its comment
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    UnicodeError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may become; real picture collections stay far below."""

    total_bytes: int = 200 * 2**30
    files: int = 5_000_000


@dataclass(frozen=True)
class Member:
    """One entry of an archive, whatever its format."""

    name: str
    kind: Literal["file", "folder", "other"]
    size: int  # bytes, as the archive states it
    open: Callable[[], IO[bytes]]


def is_hidden(name: str) -> bool:
    """Files and folders that operating systems and editors leave behind: no pictures, no classes."""
    return name.startswith(".") or name in JUNK


def extract(
    archive: Path, target: Path, *, limits: Limits | None = None, progress: Progress = progress_.ignore
) -> Path:
    """Unpack into `target`, unless it is there already. Raises `SourceError`; then `target` does not exist.

    Its time of change says when it was last asked for, so that what nobody uses can be cleared away.
    """
    with whole.locked(target):
        if target.exists():
            with suppress(OSError):  # another user's
                os.utime(target)
            return target
        with whole.folder(target) as part:
            try:
                _extract(archive, part, limits or Limits(), progress)
            except DAMAGED as error:
                raise SourceError(_damaged(archive, error)) from None
    return target


def _extract(archive: Path, part: Path, limits: Limits, progress: Progress) -> None:
    read, num_files = 0, 0
    for member in _members(archive):
        name = _safe_name(archive, member.name)
        if name is None:
            continue
        if member.kind == "other":
            raise SourceError(f"{archive} holds {member.name!r}, a link or a device; pack it again with plain files")
        path = part / name
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            continue
        num_files += 1
        if num_files > limits.files:
            raise SourceError(f"{archive} holds over {limits.files:,} files; unpack it yourself and name the folder")
        with member.open() as source, _created(path) as file:
            while chunk := source.read(CHUNK):
                read += len(chunk)
                if read > limits.total_bytes:
                    raise SourceError(
                        f"{archive} unpacks to more than {limits.total_bytes:,} bytes; "
                        "unpack it yourself and name the folder"
                    )
                file.write(chunk)
        if num_files % 256 == 0:
            progress("unpacking", num_files, 0)
    progress("unpacking", num_files, num_files)


def _created(path: Path) -> IO[bytes]:
    """Opened for writing; most archives name a folder before its files, some never do."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _safe_name(archive: Path, name: str) -> str | None:
    """Where an entry goes inside the target; None for what is left out. Raises `SourceError` if outside."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        raise SourceError(f"{archive} holds {name!r}, which leads out of the folder; pack it again with relative names")
    parts = [part for part in parts if part not in ("", ".")]
    if not parts or any(is_hidden(part) for part in parts):
        return None
    return "/".join(parts)


def _members(archive: Path) -> Iterator[Member]:
    with parts.opened(archive) as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(archive)
    if head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar":
        return _tar_members(archive)
    if not head:
        raise SourceError(f"{archive} is empty; fetch or pack it again")
    raise SourceError(f"{archive} begins with {head[:12]!r} and is no zip or tar archive; use {' '.join(SUFFIXES)}")


def _zip_members(archive: Path) -> Iterator[Member]:
    with parts.opened(archive) as raw, zipfile.ZipFile(raw) as file:
        _check_zip_count(archive, file)
        for info in file.infolist():
            if info.flag_bits & 1:
                raise SourceError(f"{archive} is encrypted ({info.filename!r}); pack it again without a password")
            mode = info.external_attr >> 16
            plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
            kind: Literal["file", "folder", "other"] = "folder" if info.is_dir() else "file"
            yield Member(_zip_name(info), kind if plain else "other", info.file_size, partial(file.open, info))


def _check_zip_count(archive: Path, file: zipfile.ZipFile) -> None:
    """zipfile never compares what it found with the number that the archive's end record states."""
    with parts.opened(archive) as raw:
        raw.seek(-ZIP_END - len(file.comment), 2)
        end = raw.read(ZIP_END)
    stated = int.from_bytes(end[10:12], "little")  # modulo 65,536, or 65,535 for "see the 64-bit record"
    if stated not in (len(file.infolist()) % 65_536, 65_535):
        raise zipfile.BadZipFile(f"{stated} entries stated, {len(file.infolist())} found")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """macOS writes UTF-8 names without saying so; zipfile then reads them as code page 437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _tar_members(archive: Path) -> Iterator[Member]:
    with parts.opened(archive) as raw, tarfile.open(fileobj=raw) as file:
        for info in file:
            kind: Literal["file", "folder", "other"] = "folder" if info.isdir() else "file" if info.isreg() else "other"
            yield Member(info.name, kind, info.size, partial(_tar_open, file, info))
        _check_tar_end(file)


def _tar_open(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    source = file.extractfile(info)
    assert source is not None  # only called for regular files
    return source


def _check_tar_end(file: tarfile.TarFile) -> None:
    """tarfile takes damage between two members, or a missing end, for the end; and never reads gzip's checksum."""
    assert file.fileobj is not None
    file.fileobj.seek(file.offset)
    if file.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("no end mark")
    while file.fileobj.read(CHUNK):
        pass


def _damaged(archive: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"{archive} cannot be unpacked: {error.strerror}; make room or rights for it, or name another archive"
    if isinstance(error, NotImplementedError):
        return f"{archive} is compressed in a way that is not supported; pack it again as .zip or .tar.gz"
    cut = ", or its last parts are missing" if parts.part_of(archive.name) else ""
    return f"{archive} is truncated or damaged{cut}; fetch or pack it again"
