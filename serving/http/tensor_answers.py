"""What a model answered -> outputs of the Open Inference Protocol: JSON alone, or with their bytes behind it."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.batching import Answer
from serving.errors import WrongFieldsError

PROBABILITIES, LABEL = "probabilities", "label"
OUTPUTS = (PROBABILITIES, LABEL)
Json = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """One output that a request wants."""

    name: str
    binary: bool
    classes: int | None = None  # the classification extension: so many of the most probable, as text


@dataclass(frozen=True)
class Output:
    """Values in row-major order, numbers as an array and text as a list."""

    datatype: str
    shape: list[int]
    values: np.ndarray | list[str]

    def plain(self) -> list[Any]:
        return self.values if isinstance(self.values, list) else self.values.ravel().tolist()

    def binary(self) -> bytes:
        if not isinstance(self.values, list):
            return self.values.astype("<f4").tobytes()
        texts = [text.encode() for text in self.values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def wanted(head: Json) -> tuple[Wanted, ...]:
    """All outputs, where a request does not choose. Raises `WrongFieldsError`."""
    binary = _flag(parameters(head), "binary_data_output", otherwise=False)
    given = head.get("outputs")
    if given is None or given == []:
        return tuple(Wanted(name, binary) for name in OUTPUTS)
    if not isinstance(given, list) or len(given) > len(OUTPUTS) or not all(isinstance(one, dict) for one in given):
        raise WrongFieldsError(f"'outputs' must be a list of objects that name {' or '.join(OUTPUTS)}, each once")
    chosen = tuple(_wanted(one, binary) for one in given)
    if len({one.name for one in chosen}) < len(chosen):
        raise WrongFieldsError(f"the output {chosen[0].name!r} is asked for twice")
    return chosen


def encoded(answer: Answer, wanted: tuple[Wanted, ...], id: str | None) -> tuple[bytes, int | None]:
    """The body, and the length of the JSON it begins with where bytes follow."""
    described: list[Json] = []
    behind: list[bytes] = []
    for one in wanted:
        output = _output(answer, one)
        told: Json = {"name": one.name, "datatype": output.datatype, "shape": output.shape}
        if one.binary:
            behind.append(output.binary())
            described.append({**told, "parameters": {"binary_data_size": len(behind[-1])}})
        else:
            described.append({**told, "data": output.plain()})
    ref = answer.served.ref
    content: Json = {"model_name": ref.name, "model_version": ref.version, "outputs": described}
    if id is not None:
        content["id"] = id
    head = json.dumps(content, separators=(",", ":")).encode()  # ASCII, so that any id goes back as it came
    return (b"".join([head, *behind]), len(head)) if behind else (head, None)


def parameters(holder: Json) -> Json:
    """Those of a request, an input or an output; where there are none, nothing. Raises `WrongFieldsError`."""
    given = holder.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise WrongFieldsError("'parameters' must be an object")
    return given


def _wanted(given: Json, binary: bool) -> Wanted:
    name, options = given.get("name"), parameters(given)
    if name not in OUTPUTS:
        raise WrongFieldsError(f"there is no output of that name; there are {' and '.join(OUTPUTS)}")
    classes = options.get("classification")
    if classes is not None and (name != PROBABILITIES or type(classes) is not int or classes < 1):
        raise WrongFieldsError(f"'classification' must be a whole number from 1 on, and belongs to {PROBABILITIES!r}")
    return Wanted(name, _flag(options, "binary_data", otherwise=binary), classes)


def _flag(options: Json, name: str, *, otherwise: bool) -> bool:
    given = options.get(name)
    if given is None:
        return otherwise
    if not isinstance(given, bool):
        raise WrongFieldsError(f"the parameter {name!r} must be true or false")
    return given


def _output(answer: Answer, one: Wanted) -> Output:
    rows, labels = answer.probabilities, answer.served.bundle.card.classes
    if one.name == LABEL:
        return Output("BYTES", [len(rows)], [labels[k] for k in np.argmax(rows, axis=1)])
    if one.classes is None:
        return Output("FP32", list(rows.shape), rows)
    most = min(one.classes, rows.shape[1])
    order = np.argsort(-rows, axis=1, kind="stable")[:, :most]  # equal ones stay in the card's order
    texts = [f"{row[k]:f}:{k}:{labels[k]}" for row, best in zip(rows, order, strict=True) for k in best]
    return Output("BYTES", [len(rows), most], texts)
