"""BentoML as its documents show it: a batchable function of pictures.

BUNDLE=... bentoml serve benchmarks.services.bentoml_documented:Documented --port PORT
"""

import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from models.bundle.bundle import Bundle


@bentoml.service(workers=1)
class Documented:
    def __init__(self) -> None:
        self.bundle = Bundle.open(Path(os.environ["BUNDLE"]))

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def predict(self, images: list[Image]) -> list[dict[str, Any]]:
        side = self.bundle.card.image
        size = (side.width, side.height)
        pixels = np.stack([np.asarray(image.convert("RGB").resize(size)) for image in images])
        return [self.bundle.prediction(row).model_dump() for row in self.bundle.predict(pixels)]
