"""/docs.json: what the service takes and gives, written by hand so that it is true."""

from typing import Any

from serving.feedback import REQUEST_ID
from serving.http import openapi_v2
from serving.http.gate import OPEN
from serving.settings import Settings

Json = dict[str, Any]

_SCORE: Json = {
    "type": "object",
    "required": ["label", "probability"],
    "properties": {"label": {"type": "string"}, "probability": {"type": "number", "minimum": 0, "maximum": 1}},
}
_PREDICTION: Json = {
    "type": "object",
    "required": ["label", "probability", "scores"],
    "properties": {
        **_SCORE["properties"],
        "scores": {"type": "array", "items": _SCORE, "description": "every class, the most probable first"},
    },
}
_ENVELOPE: Json = {"request_id": {"type": "string"}, "model": {"type": "string", "description": "name@version"}}
_SCHEMAS: Json = {
    "Answer": {
        "type": "object",
        "required": ["request_id", "model", "label", "probability", "scores"],
        "properties": {**_ENVELOPE, **_PREDICTION["properties"]},
    },
    "Answers": {
        "type": "object",
        "required": ["request_id", "model", "predictions"],
        "properties": {**_ENVELOPE, "predictions": {"type": "array", "items": _PREDICTION}},
    },
    "Card": {
        "type": "object",
        "description": "the model card, and since when the model is in service",
        "required": ["model", "since", "refused", "name", "version", "classes", "image", "test", "validation"],
        "properties": {
            "model": {"type": "string", "description": "name@version"},
            "since": {"type": "string", "format": "date-time"},
            "refused": {"type": ["object", "null"], "description": "a promoted model that did not get into service"},
            "keeps_pictures": {"type": "boolean", "description": "whether pictures that feedback is about are kept"},
            "classes": {"type": "array", "items": {"type": "string"}},
        },
    },
    "Samples": {
        "type": "object",
        "required": ["model", "samples"],
        "properties": {"model": {"type": "string"}, "samples": {"type": "array", "items": {"type": "object"}}},
    },
    "Explanation": {
        "type": "object",
        "required": ["request_id", "model", "label", "probability", "meaning", "height", "width", "map", "picture"],
        "properties": {
            **_ENVELOPE,
            **_SCORE["properties"],
            "meaning": {"type": "string", "description": "of the numbers in the map"},
            "height": {"type": "integer", "description": "rows of the map"},
            "width": {"type": "integer", "description": "columns of the map"},
            "map": {
                "type": "array",
                "items": {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 1}},
            },
            "picture": {"type": "string", "description": "the part that the model sees, in its size; a data: URL, PNG"},
        },
    },
    "Kept": {
        "type": "object",
        "required": ["request_id", "about", "label", "answered_by", "picture_kept"],
        "properties": {
            "request_id": {"type": "string"},
            "about": {"type": "string", "description": "the request_id of the answer"},
            "label": {"type": "string"},
            "answered_by": {"type": ["string", "null"], "description": "name@version; null: not remembered"},
            "picture_kept": {"type": "boolean"},
        },
    },
    "Status": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
    **openapi_v2.SCHEMAS,
    "Error": {
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {
            "error": {"type": "string", "description": "one sentence"},
            "request_id": {"type": "string"},
        },
    },
}
_MEANING = {
    400: "not a readable picture, or not a readable request",
    401: "no key, or one that is not known",
    404: "nothing there",
    408: "the request took too long to arrive",
    413: "too large, in bytes or in decoded pixels",
    415: "not a picture's content type",
    422: "wrong fields",
    429: "saturated, or more than the key may send; come back after Retry-After seconds",
    503: "no model is in service, or the one that is asked for is refused, or what was sent cannot be kept",
}
_UPLOAD_ERRORS = (400, 408, 413, 415, 422, 429, 503)


def document(settings: Settings) -> Json:
    """OpenAPI 3.1."""
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "trainserve",
            "version": "1",
            "description": "Classifies pictures. Every answer has X-Request-Id, and takes one of the sender's.",
        },
        "paths": {
            "/predict": {"post": _predict(settings)},
            "/predict_batch": {"post": _predict_batch(settings)},
            "/explain": {"post": _explain(settings)},
            "/feedback": {"post": _feedback()},
            "/model": {"get": _get("The model in service: its card", "Card", 503)},
            "/samples": {"get": _get("The pictures the model tests itself with", "Samples", 503)},
            "/samples/{number}": {"get": _sample()},
            "/livez": {"get": _get("Whether the process can work", "Status")},
            "/readyz": {"get": _get("Whether a model is in service", "Status", 503)},
            "/healthz": {"get": _get("As /readyz", "Status", 503)},
            "/metrics": {"get": _plain("Figures for Prometheus", "text/plain")},
            "/ui": {"get": _plain("The page", "text/html")},
            **_v2(settings),
        },
        "components": {"schemas": _SCHEMAS},
    }
    return described if settings.keys is None else _with_keys(described)


def _with_keys(described: Json) -> Json:
    """Where there are keys, all but the open paths want one."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    paths = {
        path: {
            key: _closed(value, open_=path in OPEN) if key in ("get", "post") else value for key, value in item.items()
        }
        for path, item in described["paths"].items()
    }
    components = described["components"] | {"securitySchemes": schemes}
    return described | {"paths": paths, "components": components, "security": [{name: []} for name in schemes]}


def _closed(operation: Json, *, open_: bool) -> Json:
    if open_:
        return {**operation, "security": []}
    return {**operation, "responses": operation["responses"] | _errors((401,))}


def _predict(settings: Settings) -> Json:
    summary = f"Classify a picture of at most {settings.max_upload_bytes} bytes"
    return _operation(summary, "Answer", _UPLOAD_ERRORS) | {"requestBody": _picture()}


def _explain(settings: Settings) -> Json:
    summary = f"Where the model looked, in a picture of at most {settings.max_upload_bytes} bytes: parts are covered"
    asked = {
        "label": "the class to explain; by default the most probable",
        "model": "name or name@version; by default the model in service",
    }
    operation = _operation(summary, "Explanation", (404, *_UPLOAD_ERRORS))
    return operation | {"parameters": _query(asked), "requestBody": _picture()}


def _feedback() -> Json:
    text = {"type": "string"}
    fields = {"request_id": {**text, "pattern": f"^{REQUEST_ID}$", "description": "of the answer"}, "label": text}
    schema = {"type": "object", "required": list(fields), "additionalProperties": False, "properties": fields}
    asked = {"model": "the model that answered, in case the answer is no longer remembered"}
    operation = _operation("What a picture really shows", "Kept", (400, 404, 408, 413, 415, 422, 429, 503))
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation | {"parameters": _query(asked), "requestBody": body}


def _query(asked: dict[str, str]) -> list[Json]:
    text = {"type": "string"}
    return [{"name": name, "in": "query", "schema": text, "description": what} for name, what in asked.items()]


def _picture() -> Json:
    picture = {"type": "string", "contentMediaType": "image/*", "contentEncoding": "base64"}
    form = {"type": "object", "required": ["image"], "properties": {"image": {"type": "string", "format": "binary"}}}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {"image": picture},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    }
    return {"required": True, "content": content}


def _predict_batch(settings: Settings) -> Json:
    images = {"type": "array", "minItems": 1, "maxItems": settings.max_pictures, "items": {"type": "string"}}
    form = {"type": "object", "required": ["images"], "properties": {"images": images}}
    summary = f"Classify up to {settings.max_pictures} pictures, answered in their order by one model"
    body = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return _operation(summary, "Answers", _UPLOAD_ERRORS) | {"requestBody": body}


def _v2(settings: Settings) -> Json:
    """The Open Inference Protocol."""
    server = {
        "/v2": {"get": _get("What the server is", "V2Server")},
        "/v2/health/live": {"get": _get("As /livez", "V2State")},
        "/v2/health/ready": {"get": _get("Whether every name has a model in service", "V2State", 503)},
        "/v2/repository/index": {"post": _get("The names, and what is in service under them", "V2Index")},
    }
    summary = f"Classify up to {settings.max_pictures} pictures, as files or as pixels, in JSON or with binary data"
    infer = _operation(summary, "V2Answer", (404, *_UPLOAD_ERRORS)) | {
        "requestBody": {"required": True, "content": openapi_v2.BODY}
    }
    infer["responses"]["200"]["content"] |= openapi_v2.BINARY
    models: Json = {}
    for path, parameters in openapi_v2.MODELS.items():
        get, ready = (_get(what, schema, 404, 503) for what, schema in openapi_v2.TOLD)
        models[path] = {"parameters": parameters, "get": get}
        models[f"{path}/ready"] = {"parameters": parameters, "get": ready}
        models[f"{path}/infer"] = {
            "parameters": [*parameters, openapi_v2.HEADER],
            "post": infer,
        }
    return {**server, **models}


def _sample() -> Json:
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    content = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    responses = {"200": {"description": "a picture", "content": content}, **_errors((404, 503))}
    return {"summary": "One of these pictures", "parameters": [number], "responses": responses}


def _get(summary: str, schema: str, *errors: int) -> Json:
    return _operation(summary, schema, errors)


def _plain(summary: str, media_type: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}}}
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}}}


def _operation(summary: str, schema: str, errors: tuple[int, ...]) -> Json:
    ok = {"description": summary, "content": _json(schema)}
    return {"summary": summary, "responses": {"200": ok, **_errors(errors)}}


def _errors(statuses: tuple[int, ...]) -> Json:
    return {str(status): {"description": _MEANING[status], "content": _json("Error")} for status in statuses}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
