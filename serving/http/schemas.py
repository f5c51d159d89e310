"""The answers of the service, as JSON Schema. The card's is its record's own, so that it cannot grow apart from it."""

from typing import Any

from models.records import ModelCard
from serving.served import Refused

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_MODEL: Json = {"type": "string", "description": "name@version"}
_TIME: Json = {"type": "string", "format": "date-time"}


def _object(description: str = "", optional: Json | None = None, **required: Json) -> Json:
    told = {"description": description} if description else {}
    return {
        "type": "object",
        **told,
        "required": list(required),
        "additionalProperties": False,
        "properties": {**required, **(optional or {})},
    }


def _or_null(schema: str) -> Json:
    return {"anyOf": [_ref(schema), {"type": "null"}]}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


_SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_SCORED: Json = {
    "label": _TEXT,
    "probability": _SHARE,
    "scores": {
        "type": "array",
        "minItems": 1,
        "items": _ref("Score"),
        "description": "every class, the most probable first",
    },
}
_JUDGED: Json = {
    "sure": {
        "type": "boolean",
        "description": "whether the probability is above the threshold of the model that answered; only if it has one",
    },
    "unfamiliar": {
        **_SHARE,
        "description": "the share of the test pictures that were no stranger to the model than this one; only if its "
        "graph can tell. A score and no gate: one in twenty of its own pictures has 0.95 or more",
    },
}
_ENVELOPE: Json = {"request_id": _TEXT, "model": _MODEL}


def _card() -> tuple[Json, Json]:
    """What /model answers, and the schemas that it refers to."""
    card = ModelCard.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    parts = card.pop("$defs")
    standing = {
        "model": _MODEL,
        "since": {**_TIME, "description": "in service since"},
        "provider": {
            **_TEXT,
            "description": "what onnxruntime answers with: CPUExecutionProvider, CUDAExecutionProvider",
        },
        "variant": {"enum": ["float", "int8", "fp16"], "description": "which of its graphs answers"},
        "variant_reason": {**_TEXT, "description": "why that one"},
        "refused": {**_or_null("Refused"), "description": "a promoted model that did not get into service"},
        "keeps_pictures": {"type": "boolean", "description": "whether pictures that feedback is about are kept"},
        "trial": {**_or_null("Trial"), "description": "a version on trial beside the champion"},
        "ended": {**_or_null("Ended"), "description": "the trial that was ended last, until something else is decided"},
    }
    return _object("the model card, and how the model stands", **{**card["properties"], **standing}), parts


def schemas() -> Json:
    card, parts = _card()
    refused = Refused.model_json_schema(mode="serialization")
    return {
        **parts,
        "Card": card,
        "Refused": refused,
        "Score": _object(label=_TEXT, probability=_SHARE),
        "Prediction": _object(**_SCORED, optional=_JUDGED),
        "Answer": _object(**_ENVELOPE, **_SCORED, optional=_JUDGED),
        "Answers": _object(**_ENVELOPE, predictions={"type": "array", "minItems": 1, "items": _ref("Prediction")}),
        **_opinions(),
        "Trial": _object(
            "as the worker that answers has counted it",
            model=_MODEL,
            mode={"enum": ["canary", "shadow"]},
            share={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            answers=_COUNT,
            failures=_COUNT,
            compared={**_COUNT, "description": "pictures that both answered"},
            differed={**_COUNT, "description": "of these, those labelled otherwise"},
            model_ms={"type": "number", "description": "of the one on trial, for a picture; 0: too few to say"},
            champion_ms={"type": "number"},
        ),
        "Ended": _object(model=_MODEL, reason=_TEXT, when=_TIME),
        "Sample": _object(url=_TEXT, label=_TEXT, kind=_TEXT),
        "Samples": _object(model=_MODEL, samples={"type": "array", "items": _ref("Sample")}),
        "Status": _object(status=_TEXT),
        "Error": _object(
            error={**_TEXT, "description": "one sentence"},
            request_id=_TEXT,
            optional={"refused": {**_or_null("Refused"), "description": "of /model: what was refused, and why"}},
        ),
    }


def _opinions() -> Json:
    """Of /explain and /feedback."""
    return {
        "Explanation": _object(
            **_ENVELOPE,
            label=_TEXT,
            probability=_SHARE,
            meaning={**_TEXT, "description": "of the numbers in the map"},
            height={**_COUNT, "description": "rows of the map"},
            width={**_COUNT, "description": "columns of the map"},
            map={"type": "array", "items": {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 1}}},
            picture={**_TEXT, "description": "the part that the model sees, in its size; a data: URL, PNG"},
        ),
        "Kept": _object(
            request_id=_TEXT,
            about={**_TEXT, "description": "the request_id of the answer"},
            label=_TEXT,
            answered_by={"type": ["string", "null"], "description": "name@version; null: not remembered"},
            picture_kept={"type": "boolean"},
        ),
    }
