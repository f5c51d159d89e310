"""A request of the Open Inference Protocol -> pictures or pixels: JSON alone, or with the tensor's bytes behind it.

Nothing is allocated by what a shape claims: it is compared with the values that are there.
"""

import json
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from data.spec import ImageSpec
from serving.errors import RequestError, TooLargeError, WrongFieldsError
from serving.http import pictures, tensor_answers
from serving.http.tensor_answers import Wanted, parameters

IMAGE, PIXELS = "image", "pixels"
TAKES = "'image' (BYTES, picture files) or 'pixels' (UINT8 or FP32)"
MOST_ID = 256
MOST_VALUES = 1_000_000  # in JSON, with names and lists: reading it is one long step, for which everyone else waits
Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a request wants."""

    id: str | None
    given: list[bytes] | np.ndarray  # picture files, or pixels u8 (n, H, W, C)
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Tensor:
    """The one input, as it came: whether its data is of its shape and type is found out when it is read."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | memoryview  # of JSON, flat or nested; or the bytes

    def values(self, dtype: np.dtype[Any]) -> np.ndarray:
        """Numbers (n, H, W, C). Raises `WrongFieldsError`."""
        if isinstance(self.data, memoryview):
            if len(self.data) != prod(self.shape) * dtype.itemsize:
                raise WrongFieldsError(
                    f"{self.datatype} of shape {self.shape} has {prod(self.shape) * dtype.itemsize:,} bytes, "
                    f"and {len(self.data):,} came"
                )
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        flat = _flat(self.data, self.shape)
        kinds = set(map(type, flat))
        if not kinds <= ({int} if dtype == np.uint8 else {int, float}):
            raise WrongFieldsError(f"the data must be numbers, as {self.datatype} is")
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is refused as such
                values = np.frombuffer(bytes(flat), dtype) if dtype == np.uint8 else np.array(flat, dtype)
        except (ValueError, OverflowError):  # an integer that is negative or too large
            raise WrongFieldsError("the values must be from 0 to 255") from None
        return values.reshape(self.shape)

    def elements(self) -> list[bytes]:
        """Of a BYTES tensor: four bytes with the length before each, or in JSON base64. Raises `WrongFieldsError`."""
        if isinstance(self.data, memoryview):
            return _cut(self.data, prod(self.shape))
        flat = _flat(self.data, self.shape)
        if set(map(type, flat)) != {str}:
            raise WrongFieldsError("the data of BYTES in JSON must be strings: each picture in base64")
        return [pictures.from_base64(text, _which(i, len(flat))) for i, text in enumerate(flat)]


def read(
    body: bytes, header_length: str | None, *, image: ImageSpec, most_pictures: int, most_json_bytes: int
) -> Asked:
    """`header_length` is the header Inference-Header-Content-Length. Raises `RequestError` and its kinds."""
    size = _json_size(body, header_length)
    _require_light(body, size, most_json_bytes)
    try:
        head = json.loads(body[:size])
    except (ValueError, RecursionError):
        raise RequestError("the body is not valid JSON, or Inference-Header-Content-Length is not its length") from None
    if not isinstance(head, dict):
        raise WrongFieldsError("the JSON must be an object with 'inputs'")
    wanted = tensor_answers.wanted(head)
    tensor = _only_input(head, memoryview(body)[size:], most_pictures)
    return Asked(_id(head), _files(tensor) if tensor.name == IMAGE else _pixels(tensor, image), wanted)


def _json_size(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) <= 20):
        raise RequestError("Inference-Header-Content-Length is not a number; it is the length of the JSON in bytes")
    if int(header_length) > len(body):
        raise RequestError(f"Inference-Header-Content-Length is more than the {len(body):,} bytes of the body")
    return int(header_length)


def _require_light(body: bytes, size: int, most_bytes: int) -> None:
    values = sum(body.count(mark, 0, size) for mark in (b",", b":", b"["))
    for count, most, what in ((size, most_bytes, "bytes"), (values, MOST_VALUES, "values")):
        if count > most:
            raise TooLargeError(
                f"the JSON has more than the {most:,} {what} this service takes; send tensors as binary data"
            )


def _id(head: Json) -> str | None:
    given = head.get("id")
    if given is not None and not (isinstance(given, str) and len(given) <= MOST_ID):
        raise WrongFieldsError(f"'id' must be a string of at most {MOST_ID} characters")
    return given


def _only_input(head: Json, behind: memoryview, most_pictures: int) -> Tensor:
    inputs = head.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise WrongFieldsError(f"'inputs' must be a list of one object: {TAKES}")
    given = inputs[0]
    name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
    if name not in (IMAGE, PIXELS):
        raise WrongFieldsError(f"there is no input of that name; send {TAKES}")
    if not isinstance(datatype, str):
        raise WrongFieldsError("'datatype' must be a string, one of BYTES, UINT8 and FP32")
    if not isinstance(shape, list) or not shape or set(map(type, shape)) != {int}:
        raise WrongFieldsError("'shape' must be a list of whole numbers")
    if not 1 <= shape[0] <= most_pictures:
        raise WrongFieldsError(f"the first number of 'shape' must be from 1 to {most_pictures}, the pictures at a time")
    return Tensor(name, datatype, shape, _data(given, behind))


def _data(given: Json, behind: memoryview) -> list[Any] | memoryview:
    """The input's own values, or the bytes that came behind the JSON."""
    data, size = given.get("data"), parameters(given).get("binary_data_size")
    if size is None:
        if not isinstance(data, list):
            raise WrongFieldsError("the input needs 'data', a list, or the parameter binary_data_size")
        if behind:
            raise RequestError(f"{len(behind):,} bytes came behind the JSON, and the input has no binary_data_size")
        return data
    if data is not None:
        raise WrongFieldsError("the input has both 'data' and binary_data_size; send one of them")
    if type(size) is not int or size != len(behind):
        raise RequestError(f"binary_data_size is not the number of bytes behind the JSON, which is {len(behind):,}")
    return behind


def _files(tensor: Tensor) -> list[bytes]:
    if tensor.datatype != "BYTES":
        raise WrongFieldsError("the input 'image' must have datatype BYTES; pixels go into the input 'pixels'")
    if tensor.shape[1:] not in ([], [1]):
        raise WrongFieldsError("the input 'image' must have shape [n] or [n, 1], with n pictures")
    return tensor.elements()


def _pixels(tensor: Tensor, image: ImageSpec) -> np.ndarray:
    """u8 (n, H, W, C)."""
    if tensor.shape[1:] != [image.height, image.width, image.channels]:
        raise WrongFieldsError(
            f"the input 'pixels' must have shape [n, {image.height}, {image.width}, {image.channels}]; "
            "pictures of other sizes go into the input 'image' as files"
        )
    match tensor.datatype:
        case "UINT8":
            return tensor.values(np.dtype(np.uint8))
        case "FP32":
            return _whole(tensor.values(np.dtype("<f4")))
        case _:
            raise WrongFieldsError("the input 'pixels' must have datatype UINT8 or FP32")


def _whole(values: np.ndarray) -> np.ndarray:
    """float -> u8, halves to the even neighbour."""
    if not ((values >= 0) & (values <= 255)).all():  # nor is NaN
        raise WrongFieldsError("the values must be from 0 to 255")
    rounded = np.rint(values)
    if values.max() <= 1 and not np.array_equal(values, rounded):
        raise WrongFieldsError("the values look scaled to 0..1; send them from 0 to 255, this model scales them itself")
    pixels: np.ndarray = rounded.astype(np.uint8)
    return pixels


def _flat(data: list[Any], shape: list[int]) -> list[Any]:
    """Values that are nested as the shape says, or flat already."""
    wrong = WrongFieldsError(f"'data' does not have shape {shape}; send {prod(shape):,} values, flat or nested so")
    if len(shape) > 1 and isinstance(data[0] if data else None, list):
        if len(data) != shape[0]:
            raise wrong
        for size in shape[1:]:
            if set(map(type, data)) != {list} or set(map(len, data)) != {size}:
                raise wrong
            data = list(chain.from_iterable(data))
    if len(data) != prod(shape):
        raise wrong
    return data


def _cut(data: memoryview, count: int) -> list[bytes]:
    """Four bytes with the length, little-endian, before each element."""
    elements, at = [], 0
    for i in range(count):
        length = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + length > len(data):
            raise WrongFieldsError(f"{_which(i, count)} ends after the end of the data")
        elements.append(pictures.filled(bytes(data[at + 4 : at + 4 + length]), _which(i, count)))
        at += 4 + length
    if at != len(data):
        raise WrongFieldsError(f"the data goes on for {len(data) - at:,} bytes behind the last of {count} elements")
    return elements


def _which(index: int, count: int) -> str:
    return f"picture {index + 1} of {count}"
