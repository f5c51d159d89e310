"""LitServe with batches, as its documents show it.

python -m benchmarks.services.litserve_batched BUNDLE PORT
"""

import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found]  # in an environment of its own
import numpy as np
from fastapi import Request

from models.bundle.bundle import Bundle


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: Path) -> None:
        super().__init__(max_batch_size=32, batch_timeout=0.001)
        self.folder = folder

    def setup(self, _: Any) -> None:
        self.bundle = Bundle.open(self.folder)

    def decode_request(self, request: Request) -> np.ndarray:
        form: Any = request  # its fields, once it has arrived
        return self.bundle.decode(form["image"].file.read())

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return self.bundle.predict(pixels)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return self.bundle.prediction(output).model_dump()


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(Path(sys.argv[1])), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
