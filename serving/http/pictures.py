"""A request's body -> picture bytes: multipart, JSON with base64, or the picture itself."""

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import RequestError, WrongFieldsError, WrongTypeError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MEDIA_TYPES = "multipart/form-data, application/json or image/*"
MOST_MARKS = 64  # commas, colons and brackets of the JSON for one picture, which needs two of them


@dataclass
class Part:
    """One field of a multipart form."""

    name: str = ""
    media_type: str = ""  # empty where the sender did not say
    data: bytearray = field(default_factory=bytearray)


def one(body: bytes, content_type: str) -> bytes:
    """The picture of a /predict request. Raises `WrongTypeError`, `WrongFieldsError`, `RequestError`."""
    media_type, options = _parsed(content_type)
    if media_type == "multipart/form-data":
        parts = multipart(body, options.get(b"boundary", b""), most=8)
        return _only("image", parts)
    if media_type == "application/json":
        return _from_json(body)
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return filled(body, "the request")
    said = f"the content type is {media_type[:64]!r}" if media_type else "the request has no content type"
    raise WrongTypeError(f"{said}; send {MEDIA_TYPES}")


def many(body: bytes, content_type: str, *, most: int) -> list[bytes]:
    """The pictures of a /predict_batch request, in order."""
    media_type, options = _parsed(content_type)
    if media_type != "multipart/form-data":
        raise WrongTypeError("send multipart/form-data with one field 'images' for each picture")
    parts = multipart(body, options.get(b"boundary", b""), most=most)
    if not parts or any(part.name != "images" for part in parts):
        raise WrongFieldsError(
            f"the form has {_named(parts)}; send one or more pictures, each in a field named 'images'"
        )
    return [_file(part) for part in parts]


def multipart(body: bytes, boundary: bytes, *, most: int) -> list[Part]:
    """All parts of a form. Raises `RequestError` for one that is cut off, `WrongFieldsError` for too many parts."""
    if not boundary:
        raise RequestError("the content type names no boundary; let your HTTP library write it")
    if body.count(b"\r\n--" + boundary) > most + 1:  # found out here in one pass, and there byte by byte
        raise _too_many(most)
    reader = _Reader(most)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise RequestError("the multipart form is malformed; let your HTTP library write it") from None
    if not reader.ended:
        raise RequestError("the multipart form is cut off before its closing boundary; send it again")
    return reader.parts


class _Reader:
    """Collects what the parser calls back with."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._most = most
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._field,
            "on_header_value": self._text,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._most:
            raise _too_many(self._most)
        self.parts.append(Part())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _text(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        header, value = bytes(self._header).lower(), bytes(self._value)
        self._header.clear()
        self._value.clear()
        if header == b"content-disposition":
            _, options = parse_options_header(value)
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
        elif header == b"content-type":
            self.parts[-1].media_type = _parsed(value.decode("latin-1"))[0]

    def _end(self) -> None:
        self.ended = True


def _too_many(most: int) -> WrongFieldsError:
    return WrongFieldsError(f"the form has more than {most} parts; send fewer pictures at a time")


def _parsed(content_type: str) -> tuple[str, dict[bytes, bytes]]:
    media_type, options = parse_options_header(content_type.encode("latin-1", "replace"))
    return media_type.decode("latin-1").strip().lower(), options


def _only(name: str, parts: list[Part]) -> bytes:
    if [part.name for part in parts] != [name]:
        raise WrongFieldsError(f"the form has {_named(parts)}; send one picture in a field named {name!r}")
    return _file(parts[0])


def _named(parts: list[Part]) -> str:
    names = [repr(part.name[:32]) for part in parts[:4]]
    if not names:
        return "no fields"
    return f"the field{'s' if len(parts) > 1 else ''} {', '.join(names)}{' and more' if len(parts) > 4 else ''}"


def _file(part: Part) -> bytes:
    if part.media_type and not part.media_type.startswith("image/") and part.media_type != "application/octet-stream":
        raise WrongTypeError(f"the field {part.name!r} holds {part.media_type[:64]!r}; send a picture (image/*)")
    return filled(bytes(part.data), f"the field {part.name!r}")


def filled(data: bytes, where: str) -> bytes:
    """Raises `RequestError` for nothing."""
    if not data:
        raise RequestError(f"{where} is empty; send the bytes of a picture")
    return data


def _from_json(body: bytes) -> bytes:
    if sum(map(body.count, b",:[")) > MOST_MARKS:  # ten megabytes of small values would become hundreds
        raise RequestError('the JSON has more in it than {"image": "<the picture in base64>"}')
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not valid JSON") from None
    if not isinstance(value, dict) or set(value) != {"image"} or not isinstance(value["image"], str):
        raise WrongFieldsError('the JSON must be {"image": "<the picture in base64>"} and nothing else')
    return from_base64(value["image"], "the field 'image'")


def from_base64(text: str, where: str) -> bytes:
    """With or without what a data URL begins with. Raises `WrongFieldsError`, `RequestError` for nothing."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        file = base64.b64decode(text, validate=True)
    except ValueError:
        raise WrongFieldsError(f"{where} is not base64; encode the bytes of the picture with it") from None
    return filled(file, where)
