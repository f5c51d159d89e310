"""Pictures inside tables, as the Hugging Face Hub and `datasets.save_to_disk` store them: Parquet or Arrow files.

Read by pyarrow alone. The bytes of the pictures come untouched, and no code of a data set is run.
"""

import json
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from data.archive import is_hidden
from data.errors import SourceError
from data.layout import PICTURES
from data.sources import choosing, parquet
from data.sources.endings import suffix_of

SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}.*|(?P<number>\d{4,})")
ROWS = 64  # at once: as many pictures are in memory
POINTER = b"version https://git-lfs"
DEPTH = 4  # folders


@dataclass(frozen=True)
class Shard:
    """One file of a table."""

    file: str  # relative to the root, posix
    split: str  # as it is called there
    config: str  # "" where there is but one


@dataclass(frozen=True)
class Columns:
    """Where pictures and classes stand; names where classes are numbers."""

    image: str
    label: str
    names: tuple[str, ...] | None


def shards(root: Path, address: str) -> list[Shard]:
    """The tables with pictures in a folder, of which a user knows the `address`; nothing where it holds other things.

    Raises `SourceError`.
    """
    found = saved(root) or [_named(file) for file in parquet_files(root) if _has_pictures(root / file)]
    configs = sorted({shard.config for shard in found})
    if len(configs) > 1:
        raise SourceError(
            f"{address} holds {len(configs)} configurations, {', '.join(configs)}; name one, such as "
            f"{address.rstrip('/')}/{configs[0]}"
        )
    return sorted(found, key=lambda shard: (shard.split, shard.file))


def unwrapped(root: Path) -> Path:
    """Below the folders around everything, as archives have them."""
    while True:
        try:
            seen = [entry for entry in islice(os.scandir(root), 10) if not is_hidden(entry.name)]
        except OSError:  # whoever lists it says why
            return root
        if len(seen) != 1 or not seen[0].is_dir() or seen[0].is_symlink():
            return root
        root = Path(seen[0].path)


def columns_of(schema: Any, where: str, label: str | None) -> Columns:
    """By their types, as Hugging Face's note in the file, or else Arrow, has them. Raises `SourceError`."""
    features = _features(schema)
    kinds = {name: _kind(schema.field(name).type, features.get(name)) for name in schema.names}
    image = choosing.column("image", [name for name, kind in kinds.items() if kind == "image"], where)
    if image is None:
        raise SourceError(f"{where} has no column of images, but {', '.join(schema.names)}; name another data set")
    classes = [name for name, kind in kinds.items() if kind == "classes"]
    plain = [name for name, kind in kinds.items() if kind == "plain"]
    chosen = choosing.column("label", [*classes, *plain] if label or not classes else classes, where, asked=label)
    if chosen is None:
        raise SourceError(f"{where} has no column of classes beside {image!r}; name another data set")
    names = features.get(chosen, {}).get("names") if chosen in classes else None
    return Columns(image, chosen, tuple(names) if names else None)


def rows(root: Path, shard: Shard, label: str | None) -> Iterator[tuple[bytes | None, str, str | None]]:
    """(bytes, the file name that is known of them, class) of each picture; None for a class that is not told."""
    where = str(root / shard.file)
    with _batches(root / shard.file) as (schema, batches):
        columns = columns_of(schema, where, label)
        for batch in batches(columns):
            pictures, labels = (batch.column(name).to_pylist() for name in (columns.image, columns.label))
            for picture, said in zip(pictures, labels, strict=True):
                content, path = _content(picture)
                if content is None and path:
                    raise SourceError(
                        f"{where} has paths instead of pictures, such as {path[-80:]!r}, which are not followed; "
                        "save it with the pictures in it"
                    )
                yield content, path, _class(said, columns.names)


def saved(root: Path) -> list[Shard]:
    """What `save_to_disk` wrote, of one split or of several."""
    if (root / "dataset_dict.json").is_file():
        splits = [str(split) for split in _json(root / "dataset_dict.json").get("splits", [])]
        if wrong := [split for split in splits if split in ("", "..") or "/" in split]:
            raise SourceError(f"{root} has a split {wrong[0]!r}, which is no folder in it; save the data set again")
        return [shard for split in splits for shard in _saved_split(root, f"{split}/", split)]
    if (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        return _saved_split(root, "", str(_json(root / "state.json").get("_split") or ""))
    return []


def _saved_split(root: Path, below: str, split: str) -> list[Shard]:
    state = _json(root / below / "state.json")
    if state.get("_indices_data_files"):
        raise SourceError(f"{root / below} was saved by a version of datasets that is too old; save it again")
    files = [str(one.get("filename", "")) for one in state.get("_data_files", []) if isinstance(one, dict)]
    for file in files:
        if posixpath.basename(file) != file or not file.endswith(".arrow"):
            raise SourceError(f"{root / below}state.json names {file!r}, which is no file beside it; save it again")
    return [Shard(below + file, split, "") for file in files]


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise SourceError(f"{file} is missing or damaged; save the data set again")
    return found


def parquet_files(root: Path) -> list[str]:
    """Those of a folder; below folders of pictures, of which there may be many, there are none."""
    found = []
    for place, folders, files in os.walk(root):
        below = Path(place).relative_to(root).as_posix()
        folders[:] = sorted(one for one in folders if not is_hidden(one) and below.count("/") < DEPTH - 1)
        found += [posixpath.join(below, file) for file in sorted(files) if file.lower().endswith(".parquet")]
        if any(file.lower().endswith(PICTURES) for file in islice(files, 100)) and below != ".":
            folders.clear()
    return [posixpath.normpath(file) for file in found]


def _named(file: str) -> Shard:
    """data/train-00000-of-00003.parquet, CONFIG/test/0000.parquet, train.parquet."""
    folders, stem = file.split("/")[:-1], posixpath.splitext(posixpath.basename(file))[0]
    said = SHARD.fullmatch(stem)
    split = stem if said is None else said["split"]
    if split is None:
        split = folders.pop().removeprefix("partial-") if folders else ""
    return Shard(file, split, "/".join(one for one in folders if one != "data"))


def _has_pictures(file: Path) -> bool:
    """A listing that lies among pictures is no table with pictures in it."""
    if find_spec("pyarrow") is None and SHARD.fullmatch(file.stem) is None:
        return False
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise SourceError(f"{file} is a pointer of Git LFS instead of the file; run `git lfs pull` there")
    with parquet.opened(file) as table:
        schema = table.schema_arrow
        features = _features(schema)
        return any(_is_of_pictures(table, name, features.get(name)) for name in schema.names)


def _is_of_pictures(table: Any, name: str, noted: Any) -> bool:
    """Where nobody says so, the first cell does: a vector is bytes, too."""
    column = table.schema_arrow.field(name).type
    if _kind(column, noted) != "image":
        return False
    if noted or column.num_fields:  # with a path beside the bytes
        return True
    batches = table.iter_batches(batch_size=ROWS, columns=[name])
    first = next((cell for batch in batches for cell in batch.column(0).to_pylist() if cell is not None), b"")
    return bool(suffix_of(first, ""))


@contextmanager
def _batches(file: Path) -> Iterator[tuple[Any, Any]]:
    """The schema, and what gives batches of the chosen columns."""
    if file.suffix == ".parquet":
        with parquet.opened(file) as table:
            yield (
                table.schema_arrow,
                lambda chosen: table.iter_batches(batch_size=ROWS, columns=[chosen.image, chosen.label]),
            )
        return
    try:
        import pyarrow as pa
    except ImportError:
        raise SourceError(f"{file} needs pyarrow, which is not installed; pip install 'trainserve[hub]'") from None
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            yield stream.schema, lambda _: (part.slice(i, ROWS) for part in stream for i in range(0, len(part), ROWS))
    except SourceError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{file} is damaged ({reason}); save the data set again") from None


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` noted of the columns; nothing where another program wrote the file."""
    try:
        return dict(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}


def _kind(column: Any, feature: Any) -> str:
    """image, classes, plain (texts and whole numbers), or other."""
    import pyarrow.types as types

    noted = feature.get("_type") if isinstance(feature, dict) else None
    if noted in ("Image", "ClassLabel"):
        return "image" if noted == "Image" else "classes"
    if types.is_dictionary(column):
        column = column.value_type
    if types.is_binary(column) or types.is_large_binary(column):
        return "image"
    if types.is_struct(column) and {column.field(i).name for i in range(column.num_fields)} == {"bytes", "path"}:
        return "other" if noted else "image"  # an Audio has the same
    return (
        "plain" if any(is_a(column) for is_a in (types.is_string, types.is_large_string, types.is_integer)) else "other"
    )


def _content(picture: Any) -> tuple[bytes | None, str]:
    if isinstance(picture, dict):
        return picture.get("bytes"), str(picture.get("path") or "")
    return picture, ""


def _class(said: Any, names: tuple[str, ...] | None) -> str | None:
    if said is None or names is None:
        return parquet.text(said) or None
    return names[said] if 0 <= said < len(names) else None  # -1 where test sets keep theirs to themselves
