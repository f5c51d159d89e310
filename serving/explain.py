"""Where a model looked: parts of the picture are covered one at a time, and the fall of the probability is noted.

Occlusion, after Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014,
https://arxiv.org/abs/1311.2901), section 4.2. Departures: the patch has the picture's mean colour, because their grey
would be something new on a dark ground; and patches at an edge lie inside the picture, so that all have one size.
"""

import asyncio
import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from serving.batching import SaturatedError
from serving.errors import WrongFieldsError
from serving.inference import Inference
from serving.served import Served

GRID = 8  # cells a side; fewer on a picture of fewer pixels
LARGER = 1.25  # a patch's side, in cells
CHUNK = 8  # pictures in the queue at a time: other requests wait behind one chunk and not behind the whole grid
MOST_AT_ONCE = 2  # explanations in a worker

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """About one class of one picture."""

    label: str
    probability: float
    falls: np.ndarray  # (rows, columns) float32: how much the probability falls when this part is covered
    seen: np.ndarray  # u8 (H, W, C): the picture as the network saw it


def occluded(pixels: np.ndarray, predict: Predict, k: int, *, chunk: int = CHUNK) -> np.ndarray:
    """pixels u8 (H, W, C) -> (rows, columns) float32: the probability of class k with that part covered."""
    height, width, _ = pixels.shape
    patches = [(rows, columns) for rows in _spans(height) for columns in _spans(width)]
    colour = np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8)
    answers: list[np.ndarray] = []
    for i in range(0, len(patches), chunk):
        part = patches[i : i + chunk]
        covered = np.repeat(pixels[None], len(part), axis=0)
        for picture, (rows, columns) in zip(covered, part, strict=True):
            picture[rows, columns] = colour
        answers.append(predict(covered)[:, k])
    return np.concatenate(answers).reshape(len(_spans(height)), len(_spans(width)))


def _spans(side: int) -> list[slice]:
    """Of the patches, along one side."""
    count = min(GRID, side)
    cell = side / count
    size = min(side, max(1, round(LARGER * cell)))
    starts = [min(max(0, round((i + 0.5) * cell - size / 2)), side - size) for i in range(count)]
    return [slice(start, start + size) for start in starts]


def png(pixels: np.ndarray) -> str:
    """u8 (H, W, C) -> a data: URL."""
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


class Explainer:
    """Of one worker; belongs to its event loop."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._running = 0

    async def explain(self, served: Served, file: bytes, label: str | None) -> Explanation:
        """By default about the most probable class. Raises `WrongFieldsError`, `UnreadableImage`, `SaturatedError`."""
        if label is not None and label not in served.bundle.card.classes:
            raise WrongFieldsError(f"{served.name} has no class {label[:64]!r}; see the classes in /model")
        if self._running == MOST_AT_ONCE:
            raise SaturatedError
        self._running += 1
        try:
            return await asyncio.to_thread(self._explained, served, file, label)
        finally:
            self._running -= 1

    def _explained(self, served: Served, file: bytes, label: str | None) -> Explanation:
        def predict(pixels: np.ndarray) -> np.ndarray:
            return self._inference.batcher.submit(served, pixels).result().probabilities

        pixels = self._inference.pixels(served, file)
        probabilities = predict(pixels[None])[0]
        classes = served.bundle.card.classes
        k = int(np.argmax(probabilities)) if label is None else classes.index(label)
        left = occluded(pixels, predict, k, chunk=min(CHUNK, self._inference.settings.max_batch))
        return Explanation(classes[k], float(probabilities[k]), probabilities[k] - left, pixels)
