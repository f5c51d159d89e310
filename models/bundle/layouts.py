"""A bundle as other servers want it: a model repository for NVIDIA Triton. What is told here is in its graph and card.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

import json
from pathlib import Path

from models.bundle.bundle import CARD, MODEL
from models.bundle.session import INPUT, OUTPUT
from models.records import ModelCard

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
MOST = 32  # pictures in one batch of Triton's; the graph takes any number


def triton(bundle: Path, card: ModelCard, repository: Path) -> Path:
    """Write `<name>/config.pbtxt`, `<name>/labels.txt` and `<name>/1/model.onnx` (with the card beside it, which Triton
    does not read) into a repository; returns `<name>/`.

    A server that has it answers pixels (N, H, W, C) uint8, as `data.preprocess` makes them, with probabilities (N, K)
    float32: the numbers of our own service.
    """
    model = repository / card.name
    (model / "1").mkdir(parents=True)
    for name in (MODEL, CARD):
        (model / "1" / name).write_bytes((bundle / name).read_bytes())
    (model / LABELS).write_text("".join(f"{' '.join(label.split())}\n" for label in card.classes), encoding="utf-8")
    (model / CONFIG).write_text(config(card), encoding="utf-8")
    return model


def config(card: ModelCard) -> str:
    """config.pbtxt, in protobuf's text format; the batch is left out of the dims, as `max_batch_size` stands for it."""
    image = card.image
    return f"""\
# {card.name}@{card.version}
name: {quoted(card.name)}
backend: "onnxruntime"
max_batch_size: {MOST}
input [
  {{
    name: {quoted(INPUT)}
    data_type: TYPE_UINT8
    dims: [ {image.height}, {image.width}, {image.channels} ]
  }}
]
output [
  {{
    name: {quoted(OUTPUT)}
    data_type: TYPE_FP32
    dims: [ {len(card.classes)} ]
    label_filename: {quoted(LABELS)}
  }}
]
dynamic_batching {{ }}
parameters {{
  key: "model"
  value {{ string_value: {quoted(f"{card.name}@{card.version}")} }}
}}
"""


def quoted(text: str) -> str:
    """A string of protobuf's text format: JSON's escapes of ASCII are among its own."""
    return json.dumps(text)
