"""What /docs.json says of the Open Inference Protocol."""

from typing import Any

Json = dict[str, Any]


def _object(required: str, **properties: Json) -> Json:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _one_of(*words: str) -> Json:
    return {"type": "string", "enum": list(words)}


_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_SHAPE: Json = _list({"type": "integer"})
_SIZE: Json = _object("", binary_data_size={"type": "integer", "minimum": 0})
_DATA: Json = {"type": "array", "description": "flat, row by row, or nested as the shape; left out for binary data"}
_DESCRIBED: Json = _list(_object("name datatype shape", name=_TEXT, datatype=_TEXT, shape=_SHAPE))

_INPUT = _object(
    "name datatype shape",
    name=_one_of("image", "pixels"),
    datatype={
        **_one_of("BYTES", "UINT8", "FP32"),
        "description": "image: BYTES, the files of pictures, in JSON as base64; pixels: UINT8 or FP32, from 0 to 255",
    },
    shape={**_SHAPE, "description": "image: [n] or [n, 1]; pixels: [n, height, width, channels] of the model"},
    parameters=_SIZE,
    data=_DATA,
)
_CHOSEN = _object(
    "name",
    name=_one_of("probabilities", "label"),
    parameters=_object(
        "",
        binary_data=_FLAG,
        classification={"type": "integer", "minimum": 1, "description": "so many of the most probable, as text"},
    ),
)
_OUTPUT = _object(
    "name datatype shape",
    name=_one_of("probabilities", "label"),
    datatype=_one_of("FP32", "BYTES"),
    shape=_SHAPE,
    parameters=_SIZE,
    data=_DATA,
)
SCHEMAS: Json = {
    "V2Server": _object("name version extensions", name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "V2State": _object("", live=_FLAG, ready=_FLAG),
    "V2Index": _list(
        _object(
            "name version state reason", name=_TEXT, version=_TEXT, state=_one_of("READY", "UNAVAILABLE"), reason=_TEXT
        )
    ),
    "V2Model": _object(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions={**_list(_TEXT), "description": "all that are stored; each can be asked for"},
        platform=_TEXT,
        inputs=_DESCRIBED,
        outputs=_DESCRIBED,
    ),
    "V2Ready": _object("name ready", name=_TEXT, ready=_FLAG),
    "V2Request": _object(
        "inputs",
        id={**_TEXT, "maxLength": 256},
        parameters=_object("", binary_data_output=_FLAG),
        inputs={**_list(_INPUT), "minItems": 1, "maxItems": 1},
        outputs={**_list(_CHOSEN), "description": "left out: all of them"},
    ),
    "V2Answer": _object(
        "model_name model_version outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id={**_TEXT, "description": "that of the request, if it has one"},
        outputs=_list(_OUTPUT),
    ),
}
TOLD = (("What goes in and out of a model, and its versions", "V2Model"), ("Whether it would answer now", "V2Ready"))
_BINARY = "the JSON, as long as Inference-Header-Content-Length says, and binary data behind it"
BINARY: Json = {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "description": _BINARY}}}
BODY: Json = {"application/json": {"schema": {"$ref": "#/components/schemas/V2Request"}}, **BINARY}
HEADER: Json = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "the length of the JSON in bytes, where binary data follows it",
    "schema": {"type": "integer", "minimum": 0},
}
_NAME: Json = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
_VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "one that is stored, or champion, challenger or previous",
    "schema": _TEXT,
}
MODELS: dict[str, list[Json]] = {
    "/v2/models/{name}": [_NAME],
    "/v2/models/{name}/versions/{version}": [_NAME, _VERSION],
}
