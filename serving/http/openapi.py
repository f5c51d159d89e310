"""/docs.json: what the service takes and gives, written by hand so that it is true.

`tests/serving/test_openapi.py` has schemathesis ask the service all that this allows, and what it forbids.
"""

from typing import Any

from models.bundle import golden
from serving.feedback import REQUEST_ID
from serving.http import openapi_v2
from serving.http.gate import OPEN
from serving.http.schemas import schemas
from serving.refs import ROLES, WORD
from serving.settings import Settings

Json = dict[str, Any]

_MEANING = {
    400: "not a readable picture, or not a readable request",
    401: "no key, or one that is not known",
    404: "nothing there: no such model, version or sample",
    408: "the request took too long to arrive",
    413: "too large, in bytes or in decoded pixels",
    415: "not a picture's content type",
    422: "wrong fields",
    429: "saturated, or more than the key may send; come back after Retry-After seconds",
    500: "the service failed; its log says why, under the request id",
    503: "no model is in service, the one asked for is refused, or what was sent cannot be kept; Retry-After says when",
}
_UPLOAD_ERRORS = (400, 404, 408, 413, 415, 422, 429, 500, 503)
_MODEL_ERRORS = (404, 500, 503)
_FURTHER_HEADERS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_HEADERS: Json = {
    "X-Request-Id": {
        "description": "the sender's, or one made up here; also in the service's log",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "WWW-Authenticate": {"description": "how to send a key", "required": True, "schema": {"type": "string"}},
    "Retry-After": {
        "description": "seconds to wait before asking again",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}
_PARAMETERS: Json = {
    "model": {
        "name": "model",
        "in": "query",
        "description": f"NAME, NAME@VERSION or NAME@ROLE ({', '.join(ROLES)}), of those that this service has. "
        "A name alone is answered by its champion, or by the version on trial where that is due; a version always by "
        "itself. Left out: the first name.",
        "schema": {"type": "string", "pattern": f"^{WORD}(@{WORD})?$"},
    },
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "at most 128 letters, digits and `._:-`; anything else is replaced",
        "schema": {"type": "string"},
    },
    "traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context: its trace id is in the service's log, and the service's spans, where it "
        "records any, join that trace. A malformed one is ignored.",
        "schema": {"type": "string"},
    },
}
_PICTURE: Json = {"type": "string", "format": "binary"}
_AS_PICTURE: Json = {"contentType": "image/*, application/octet-stream"}


def document(settings: Settings) -> Json:
    """OpenAPI 3.1."""
    described = {
        "openapi": "3.1.0",
        "info": {"title": "trainserve", "version": "1", "description": "Classifies pictures."},
        "paths": {
            "/predict": {"post": _predict(settings)},
            "/predict_batch": {"post": _predict_batch(settings)},
            "/explain": {"post": _explain(settings)},
            "/feedback": {"post": _feedback()},
            "/model": {"get": _of_model("The model in service: its card, and how it stands", "Card")},
            "/samples": {"get": _of_model("The pictures the model tests itself with", "Samples")},
            "/samples/{number}": {"get": _sample()},
            "/livez": {"get": _operation("Whether the process can work", _json("Status"), (500, 503))},
            "/readyz": {"get": _operation("Whether every model is in service", _json("Status"), (500, 503))},
            "/healthz": {"get": _operation("As /readyz", _json("Status"), (500, 503))},
            "/metrics": {"get": _operation("Figures for Prometheus", _text("text/plain"))},
            "/docs.json": {"get": _operation("This document", {"application/json": {"schema": {"type": "object"}}})},
            "/": {"get": _operation("The page", _text("text/html"))},
            "/ui": {"get": _operation("The page", _text("text/html"))},
            **_v2(settings),
        },
        "components": {
            "schemas": {**schemas(), **openapi_v2.SCHEMAS},
            "headers": _HEADERS,
            "parameters": _PARAMETERS,
        },
    }
    return described if settings.keys is None else _with_keys(described)


def _with_keys(described: Json) -> Json:
    """Where there are keys, all but the open paths want one, and a key may have a rate."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, item in described["paths"].items():
        for method in item.keys() & {"get", "post"}:
            if path in OPEN:
                item[method]["security"] = []
            else:
                item[method]["responses"] |= _errors((401, 429))
    described["components"]["securitySchemes"] = schemes
    return described | {"security": [{name: []} for name in schemes]}


def _predict(settings: Settings) -> Json:
    return _upload(f"Classify a picture of at most {settings.max_upload_bytes} bytes", "Answer", _one_picture())


def _explain(settings: Settings) -> Json:
    summary = f"Where the model looked, in a picture of at most {settings.max_upload_bytes} bytes: parts are covered"
    operation = _upload(summary, "Explanation", _one_picture())
    label = {"description": "the class to explain; by default the most probable", "schema": {"type": "string"}}
    return {**operation, "parameters": [{"name": "label", "in": "query", **label}, *operation["parameters"]]}


def _feedback() -> Json:
    text = {"type": "string"}
    fields = {"request_id": {**text, "pattern": f"^{REQUEST_ID}$", "description": "of the answer"}, "label": text}
    schema = {"type": "object", "required": list(fields), "additionalProperties": False, "properties": fields}
    return _upload("What a picture really shows", "Kept", {"application/json": {"schema": schema}})


def _one_picture() -> Json:
    encoded = {
        "type": "string",
        "format": "byte",
        "contentMediaType": "image/*",
        "contentEncoding": "base64",
        "description": "the picture in base64; a data: address is taken too",
    }
    return {
        "multipart/form-data": {"schema": _only("image", _PICTURE), "encoding": {"image": _AS_PICTURE}},
        "application/json": {"schema": _only("image", encoded)},
        "image/*": {"schema": _PICTURE},
        "application/octet-stream": {"schema": _PICTURE},
    }


def _predict_batch(settings: Settings) -> Json:
    images = {"type": "array", "minItems": 1, "maxItems": settings.max_pictures, "items": _PICTURE}
    content = {"multipart/form-data": {"schema": _only("images", images), "encoding": {"images": _AS_PICTURE}}}
    summary = f"Classify up to {settings.max_pictures} pictures, answered in their order by one model"
    return _upload(summary, "Answers", content)


def _upload(summary: str, schema: str, content: Json) -> Json:
    operation = _operation(summary, _json(schema), _UPLOAD_ERRORS, _parameter("model"))
    return {**operation, "requestBody": {"required": True, "content": content}}


def _v2(settings: Settings) -> Json:
    """The Open Inference Protocol."""
    server = {
        "/v2": {"get": _operation("What the server is", _json("V2Server"))},
        "/v2/health/live": {"get": _v2_state("As /livez", "V2State", (500, 503))},
        "/v2/health/ready": {"get": _v2_state("Whether every name has a model in service", "V2State", (500, 503))},
        "/v2/repository/index": {"post": _operation("The names, and what is in service under them", _json("V2Index"))},
    }
    summary = f"Classify up to {settings.max_pictures} pictures, as files or as pixels, in JSON or with binary data"
    models: Json = {}
    for path, parameters in openapi_v2.MODELS.items():
        about, ready = openapi_v2.TOLD
        infer = _operation(summary, _json("V2Answer") | openapi_v2.BINARY, _UPLOAD_ERRORS, openapi_v2.HEADER)
        body = {"requestBody": {"required": True, "content": openapi_v2.BODY}}
        models[path] = {"parameters": parameters, "get": _operation(about[0], _json(about[1]), _MODEL_ERRORS)}
        models[f"{path}/ready"] = {"parameters": parameters, "get": _v2_state(*ready, _MODEL_ERRORS)}
        models[f"{path}/infer"] = {"parameters": parameters, "post": infer | body}
    return {**server, **models}


def _v2_state(summary: str, schema: str, errors: tuple[int, ...]) -> Json:
    """It answers with 503 and the state where a thread of the worker has ended."""
    operation = _operation(summary, _json(schema), errors)
    either = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in (schema, "Error")]}
    operation["responses"]["503"] = {
        "description": _MEANING[503],
        "headers": _headers("X-Request-Id"),
        "content": {"application/json": {"schema": either}},
    }
    return operation


def _of_model(summary: str, schema: str) -> Json:
    return _operation(summary, _json(schema), _MODEL_ERRORS, _parameter("model"))


def _sample() -> Json:
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    content = {media_type: {"schema": _PICTURE} for media_type in golden.MEDIA_TYPES.values()}
    return _operation("One of these pictures", content, _MODEL_ERRORS, number, _parameter("model"))


def _operation(summary: str, content: Json, errors: tuple[int, ...] = (500,), *parameters: Json) -> Json:
    ok = {"description": summary, "headers": _headers("X-Request-Id"), "content": content}
    taken = [*parameters, _parameter("X-Request-Id"), _parameter("traceparent")]
    return {"summary": summary, "parameters": taken, "responses": {"200": ok, **_errors(errors)}}


def _errors(statuses: tuple[int, ...]) -> Json:
    return {
        str(status): {
            "description": _MEANING[status],
            "headers": _headers("X-Request-Id", *_FURTHER_HEADERS.get(status, ())),
            "content": _json("Error"),
        }
        for status in statuses
    }


def _only(field: str, schema: Json) -> Json:
    return {"type": "object", "required": [field], "additionalProperties": False, "properties": {field: schema}}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _text(media_type: str) -> Json:
    return {media_type: {"schema": {"type": "string"}}}


def _parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
