"""A bundle as an OCI image layout, one blob for each file, so that container registries and their tools carry it.

    oci-layout      says that this folder is one
    index.json      names the one artifact
    blobs/sha256/   its manifest, and every file of the bundle, called by their digests

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md, and the same, manifest.md, "Guidelines for
Artifact Usage". Whoever reads one believes nothing: digests, sizes and names are checked before anything is written.
"""

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from models.bundle import manifest
from models.bundle.manifest import BundleError
from models.records import ModelCard

MARK = "oci-layout"
INDEX = "index.json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
FILE_TYPE = "application/octet-stream"
ARTIFACT = "application/vnd.trainserve.bundle.v"  # and its format
TITLE, TAG = "org.opencontainers.image.title", "org.opencontainers.image.ref.name"
EMPTY = b"{}"  # the configuration of what has none
MAX_JSON = 1 << 20  # bytes of an index or manifest
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")  # stays inside the folder

Value = TypeVar("Value", bound=BaseModel)


class Descriptor(BaseModel):
    """What points at a blob; other tools may add fields."""

    mediaType: str  # noqa: N815 - as the specification spells it
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)
    annotations: dict[str, str] = {}


class Index(BaseModel):
    schemaVersion: int  # noqa: N815
    manifests: list[Descriptor]


class Artifact(BaseModel):
    """The manifest of an artifact."""

    schemaVersion: int  # noqa: N815
    artifactType: str = ""  # noqa: N815
    config: Descriptor
    layers: list[Descriptor] = Field(max_length=manifest.MAX_FILES)
    annotations: dict[str, str] = {}


def write(bundle: Path, card: ModelCard, layout: Path) -> None:
    """Fill the empty folder `layout` with a verified bundle; equal bundles give equal bytes."""
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    (layout / "blobs" / "sha256").mkdir(parents=True)
    layers = [_put(layout, FILE_TYPE, (bundle / name).read_bytes(), {TITLE: name}) for name in names]
    told = {
        TITLE: card.name,
        "org.opencontainers.image.version": card.version,
        "org.opencontainers.image.created": card.created,
        **({"org.opencontainers.image.revision": card.lineage.commit} if card.lineage.commit else {}),
    }
    artifact = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": f"{ARTIFACT}{card.format}",
        "config": _put(layout, EMPTY_TYPE, EMPTY, {}),
        "layers": layers,
        "annotations": told,
    }
    entry = _put(layout, MANIFEST_TYPE, _json(artifact), {TAG: card.version})
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    (layout / INDEX).write_bytes(_json(index))
    (layout / MARK).write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def read(layout: Path, bundle: Path) -> Path:
    """The files of the one bundle in a layout, written to the new folder `bundle`: each has the size and digest that
    the layout states. Whether together they are a bundle is for whoever opens it. Raises `BundleError`."""
    index = _parsed(Index, _bytes(layout / INDEX, limit=MAX_JSON), INDEX)
    if len(index.manifests) != 1:
        raise BundleError(f"{layout} holds {len(index.manifests)} artifacts; copy the one that you want by itself")
    artifact = _parsed(Artifact, _blob(layout, index.manifests[0], limit=MAX_JSON), "its manifest")
    if not artifact.artifactType.startswith(ARTIFACT):
        kind = artifact.artifactType[:80] or "unknown"
        raise BundleError(f"{layout} holds an artifact of the type {kind!r}, which is no bundle of this project")
    names = [layer.annotations.get(TITLE, "") for layer in artifact.layers]
    if unsafe := [name for name in names if not SAFE.fullmatch(name)]:
        raise BundleError(f"{layout} holds a file called {unsafe[0][:80]!r}, which no bundle has; refusing it")
    if len(set(names)) != len(names):
        raise BundleError(f"{layout} holds two files of the same name; refusing it")
    bundle.mkdir()
    for name, layer in zip(names, artifact.layers, strict=True):
        content = _blob(layout, layer, limit=manifest.MAX_BYTES.get(name, manifest.MAX_BYTES_OTHER))
        _write(bundle / name, content, layout)
    return bundle


def _put(layout: Path, media_type: str, content: bytes, annotations: dict[str, str]) -> dict[str, object]:
    """Store a blob; returns what points at it."""
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(content)
    described: dict[str, object] = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
    return described | ({"annotations": annotations} if annotations else {})


def _blob(layout: Path, descriptor: Descriptor, *, limit: int) -> bytes:
    digest = descriptor.digest.removeprefix("sha256:")
    content = _bytes(layout / "blobs" / "sha256" / digest, limit=limit)
    if len(content) != descriptor.size or hashlib.sha256(content).hexdigest() != digest:
        raise BundleError(f"the blob {digest[:12]} of {layout} was changed on the way; copy the layout again")
    return content


def _bytes(file: Path, *, limit: int) -> bytes:
    """Of a plain file; no link is followed, no pipe waited for."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
                raise BundleError(f"{file} is no plain file of at most {limit} bytes; refusing it")
            return stream.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({error.strerror}); copy the layout again") from None


def _parsed(model: type[Value], raw: bytes, name: str) -> Value:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:64] for part in first["loc"]) or "the whole file"
    kind, reason = model.__name__.lower(), first["msg"][:200]
    raise BundleError(f"{name} is no OCI {kind} ({where}: {reason}); copy the layout again")


def _write(file: Path, content: bytes, layout: Path) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    except OSError as error:  # as of a file that is also called as a folder
        raise BundleError(f"{layout} cannot be unpacked ({file.name}: {error.strerror}); refusing it") from None


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
