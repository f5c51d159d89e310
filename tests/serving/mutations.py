"""Valid requests, and what becomes of them when a few bytes are changed; each is made of its number alone."""

import base64
import json
import random
from dataclasses import dataclass
from urllib.parse import quote

import toy

SEED = 20261122
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SIZE = (9, 7)
EDGES = (
    *(b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"-1", b"1e999", b"NaN", b"null"),
    *(b"\r\n", b"\r\n\r\n", b"--x", b'"', b"{", b"[[[[[[[[", b"\\ud800", b"%00", b"../../etc/passwd", b"9" * 400),
)


@dataclass(frozen=True)
class Post:
    """One request."""

    path: str
    media_type: str
    body: bytes

    @property
    def head(self) -> bytes:
        media_type = f"Content-Type: {self.media_type}\r\nContent-Length: {len(self.body)}\r\n"
        return f"POST {self.path} HTTP/1.1\r\nHost: a\r\n{media_type}".encode("latin-1")


def _form(name: str, *files: bytes) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\nContent-Type: image/png\r\n\r\n'
    return b"".join(head.encode() + file + b"\r\n" for file in files) + b"--x--\r\n"


def _v2(**tensor: object) -> Post:
    return Post("/v2/models/toy/infer", "application/json", json.dumps({"id": "1", "inputs": [tensor]}).encode())


def valid() -> list[Post]:
    """One of each kind that there is, but for /explain: its picture in base64 may spell anything."""
    pictures = [toy.picture(200, size=SIZE, format=format) for format in FORMATS]
    raw = [Post("/predict", "image/png", file) for file in pictures]
    forms = [Post("/predict", "multipart/form-data; boundary=x", _form("image", file)) for file in pictures[:2]]
    texts = [json.dumps({"image": base64.b64encode(file).decode()}).encode() for file in pictures[:2]]
    jsons = [Post("/predict", "application/json", text) for text in texts]
    batch = Post("/predict_batch", "multipart/form-data; boundary=x", _form("images", *pictures))
    version = Post("/predict?model=toy@v1", "image/png", pictures[0])
    files = _v2(name="image", datatype="BYTES", shape=[1], data=[base64.b64encode(pictures[0]).decode()])
    pixels = [_v2(name="pixels", datatype=kind, shape=[1, 16, 16, 3], data=[200] * 768) for kind in ("UINT8", "FP32")]
    feedback = Post("/feedback", "application/json", b'{"request_id": "one", "label": "bright"}')
    return [*raw, *forms, *jsons, batch, version, files, *pixels, feedback]


def mutant(number: int, posts: list[Post]) -> Post:
    """With another body, mostly; sometimes with another media type or query."""
    chance = random.Random(f"{SEED}-{number}")
    post = chance.choice(posts)
    media_type, path = post.media_type, post.path
    if chance.random() < 0.15:
        media_type = _printable(_changed(media_type.encode(), chance, b"image/png"))
    if chance.random() < 0.1:
        query = _changed(b"model=toy@v1", chance, b"%00%ff")
        path = f"{path.partition('?')[0]}?{quote(_printable(query), safe='%=@&?/')}"
    body = post.body if chance.random() < 0.1 else _changed(post.body, chance, chance.choice(posts).body)
    return Post(path, media_type, body)


def raw_mutant(number: int, posts: list[Post]) -> bytes:
    """Bytes of a request, changed anywhere."""
    chance = random.Random(f"{SEED}-raw-{number}")
    post = chance.choice(posts)
    head = _changed(post.head + b"Connection: close\r\n\r\n", chance, post.head)
    return head + (post.body if chance.random() < 0.5 else _changed(post.body, chance, post.body))


def _printable(text: bytes) -> str:
    """What may stand in a header."""
    return "".join(chr(byte) for byte in text if 32 <= byte < 127 or byte >= 160).strip()


def _changed(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """A few changes, one after the other."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice((1, 2, 4, 16, 100)))
        match chance.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at:end] = chance.randbytes(end - at)
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end] * chance.choice((1, 2, 50))
            case 4:
                edge = chance.choice(EDGES)
                changed[at : at + chance.choice((0, len(edge)))] = edge
            case 5:
                begin = chance.randrange(len(other) + 1)
                changed[at:at] = other[begin : begin + 64]
            case _:
                del changed[at:]
    return bytes(changed)
