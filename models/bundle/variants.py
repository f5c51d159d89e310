"""Which of a bundle's graphs answers here: model.onnx, or one in fewer bits that was made of it. No torch here."""

from typing import Literal

import numpy as np

from models.bundle import session
from models.bundle.timing import Predict, in_turns
from models.cards import ModelCard

Name = Literal["float", "int8", "fp16"]
Wanted = Literal["auto", "float", "int8", "fp16"]
FILES = {"int8": "model.int8.onnx", "fp16": "model.fp16.onnx"}
PROVIDERS = {"int8": session.CPU, "fp16": session.CUDA}

BATCH = 8  # golden pictures that are timed, at most
ROUNDS, WITHIN_S = 5, 0.1  # a model is opened while others answer


def suited(card: ModelCard, provider: str, wanted: Wanted) -> tuple[Name, str]:
    """The one to try where `provider` of onnxruntime's answers, and why if it is `float`."""
    kept = [variant.name for variant in card.variants if variant.kept]
    if wanted == "float":
        return "float", "as asked for"
    if wanted != "auto":
        return (wanted, "") if wanted in kept else ("float", f"the bundle has no {wanted} graph")
    for name in kept:
        if PROVIDERS[name] == provider:
            return name, ""
    return "float", f"the bundle has no other graph for {provider}" if kept else "the bundle has no other graph"


def times_as_fast(variant: Predict, original: Predict, pixels: np.ndarray) -> float:
    """How many times, by the fastest answer of each to a few pictures: one round that does not count and one that does,
    however long they take, and others as long as a tenth of a second lasts."""
    taken = in_turns([variant, original], pixels[:BATCH], rounds=ROUNDS, within_s=WITHIN_S).min(axis=0)
    return float(taken[1] / taken[0])
