"""Which of a bundle's graphs answers here: model.onnx, or one in fewer bits that was made of it. No torch here.

What the bundle holds and what onnxruntime is to compute on decide, never a clock, and not whether a GPU had room just
then: processes that open the same bundle on one machine answer with the same graph, and so do those that judge it and
those that serve it.
"""

from typing import Literal

import numpy as np

from models.bundle import session
from models.bundle.timing import Predict, in_turns
from models.cards import ModelCard

Name = Literal["float", "int8", "fp16"]
Wanted = Literal["auto", "float", "int8", "fp16"]
FILES = {"int8": "model.int8.onnx", "fp16": "model.fp16.onnx"}
PROVIDERS = {"int8": session.CPU, "fp16": session.CUDA}
# fp16 is not among them: no clock has seen it where it was made, and no verdict, unless that was told to.
AUTOMATIC: dict[str, Name] = {session.CPU: "int8"}
ON_REQUEST = "its fp16 graph, which was not timed where it was made, answers where TRAINSERVE_VARIANT=fp16 asks for it"

BATCH = 8  # golden pictures that are timed, at most
ROUNDS, WITHIN_S = 5, 0.1  # a model is opened while others answer


def automatic(provider: str) -> Name:
    """What answers on a provider of onnxruntime's where it is in the bundle and nobody asked for another."""
    return AUTOMATIC.get(provider, "float")


def suited(card: ModelCard, provider: str, wanted: Wanted) -> tuple[Name, str]:
    """The one to try where `provider` of onnxruntime's is to answer, and why if it is `float`."""
    kept = [variant.name for variant in card.variants if variant.kept]
    name = automatic(provider) if wanted == "auto" else wanted
    if name in kept:
        return name, ""
    if wanted == "float":
        return "float", "as asked for"
    if wanted != "auto":
        return "float", f"the bundle has no {wanted} graph"
    if provider == PROVIDERS["fp16"] and "fp16" in kept:
        return "float", ON_REQUEST
    return "float", f"the bundle has no other graph for {provider}" if kept else "the bundle has no other graph"


def times_as_fast(variant: Predict, original: Predict, pixels: np.ndarray) -> float:
    """How many times, by the fastest answer of each to a few pictures: one round that does not count and one that does,
    however long they take, and others as long as a tenth of a second lasts."""
    taken = in_turns([variant, original], pixels[:BATCH], rounds=ROUNDS, within_s=WITHIN_S).min(axis=0)
    return float(taken[1] / taken[0])
