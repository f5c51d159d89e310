"""A model card as a page that readers outside understand: Markdown with the YAML head of Hugging Face's model hub.

https://huggingface.co/docs/hub/model-cards, after https://arxiv.org/abs/1810.03993 (what it is for, figures with their
uncertainty, limits). All of it is in card.json, nothing is measured here. It is written as the bundle is made, so what
is found later, the verdict above all, is not in it.
"""

import json
from collections.abc import Iterator, Sequence

import yaml

from data.spec import ImageSpec
from models.bundle.bundle import CARD, MODEL
from models.bundle.page_figures import cell, figures, interval, plain
from models.bundle.session import INPUT, OUTPUT
from models.cards import ModelCard
from models.evaluation.config import NO_LICENSE
from models.evaluation.metrics import ClassMetrics
from models.evaluation.percent import percent

TASK = "image-classification"
MOST_CLASSES = 200  # in the table; the card has them all
FEW = 30  # test pictures of a class: its recall is then known to about ten points at best


def card_page(card: ModelCard, *, files: str = ".") -> str:
    """README.md of a model. `files`: the folder with model.onnx and card.json, from where the page lies."""
    head = yaml.safe_dump(front(card), sort_keys=False, allow_unicode=True, width=1000)
    parts = (_use, _classes, _data, figures, _limits)
    body = "\n\n".join("\n".join(part(card)) for part in parts)
    return f"---\n{head}---\n\n{_title(card)}\n\n{body}\n\n{_run(card.image, files)}\n\n{_lineage(card)}\n"


def front(card: ModelCard) -> dict[str, object]:
    """The head, as the hub reads it; `model-index` has the figures on the test pictures."""
    test = card.test
    metrics = [
        {"type": "accuracy", "value": round(test.accuracy, 6), "name": f"accuracy, {interval(test.interval)}"},
        {"type": "f1", "value": round(test.macro_f1, 6), "name": "macro F1"},
        {"type": "expected_calibration_error", "value": round(test.ece, 6), "name": "expected calibration error"},
    ]
    dataset = {
        "type": card.name,
        "name": f"{card.name}, {test.n:,} test pictures",
        "split": "test",
        "revision": card.lineage.fingerprint,
    }
    result = {"task": {"type": TASK, "name": "image classification"}, "dataset": dataset, "metrics": metrics}
    return {
        "license": license_of(card).lower(),  # the hub's names are those of SPDX in small letters
        "pipeline_tag": TASK,
        "library_name": "onnx",
        "tags": ["onnx", "onnxruntime", TASK, "trainserve", card.kind],
        "model-index": [{"name": f"{card.name}@{card.version}", "results": [result]}],
    }


def license_of(card: ModelCard) -> str:
    """SPDX identifier, or `other`: as in cards from before one could be named."""
    release = card.experiment.get("release")
    return str(release.get("license", NO_LICENSE)) if isinstance(release, dict) else NO_LICENSE


def _title(card: ModelCard) -> str:
    return (
        f"# {card.name}\n\n"
        f"Says which of {len(card.classes)} classes a picture shows. Version `{card.version}`, made on "
        f"{card.created[:10]}: a network of the kind `{card.kind}` with {card.parameters:,} parameters, as an ONNX "
        "graph from pixels to calibrated probabilities."
    )


def _use(card: ModelCard) -> Iterator[str]:
    yield "## Intended use\n"
    yield (
        "For pictures like those that it was trained on, each of which shows one of the classes below. Its "
        "probabilities are meant as such: of the answers given with 0.9 about nine in ten should be right (off by "
        f"{percent(card.calibration.ece_after)} on average). Who decides about people by it, or where a wrong answer "
        "is dear, should measure it on pictures of their own first."
    )


def _classes(card: ModelCard) -> Iterator[str]:
    yield "## Classes\n"
    yield "| class | test pictures | precision | recall | F1 |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for one in card.test.per_class[:MOST_CLASSES]:
        shown = " | ".join(percent(value) for value in (one.precision, one.recall, one.f1))
        yield f"| {cell(one.label)} | {one.support:,} | {shown} |"
    if len(card.classes) > MOST_CLASSES:
        yield f"\nand {len(card.classes) - MOST_CLASSES:,} more, in `card.json`."


def _data(card: ModelCard) -> Iterator[str]:
    image = card.image
    colour = "grey" if image.channels == 1 else "colour"
    fit = {"crop": "cut to this shape about its centre", "pad": "framed in black", "stretch": "stretched"}[image.fit]
    yield "## Data\n"
    yield (
        f"The pictures that it was trained on do not come with it. {card.validation.n:,} others chose the weights that "
        f"were kept and the temperature; {card.test.n:,} were set aside and looked at once, at the end. Fingerprint of "
        f"the data, over every picture's content, label and part: `{card.lineage.fingerprint}`."
    )
    yield (
        f"\nThe network sees {image.width} x {image.height} pixels in {colour}: a picture is turned as its EXIF data "
        f"say, scaled (bilinear, antialiased), and {fit} where its sides have another ratio; transparency shows white."
    )


def _limits(card: ModelCard) -> Iterator[str]:
    yield "## Limits\n"
    yield "- It always answers with one of its classes, also about a picture that shows none of them."
    yield "- Its figures hold for pictures that come about as the test pictures did; of others nothing is known."
    seen = [one for one in card.test.per_class if one.support]
    if seen:
        worst = min(seen, key=lambda one: one.recall)
        found = f"it finds {percent(worst.recall)} of {worst.support:,} test pictures"
        yield f"- It knows {cell(worst.label)} worst: {found}."
    if few := [one for one in card.test.per_class if one.support < FEW]:
        yield f"- Under {FEW} test pictures, so that little is known of them: {_named(few)}."
    if card.test.accuracy <= card.test.majority:
        yield "- It is no better than always answering with the most frequent class."


def _run(image: ImageSpec, files: str) -> str:
    """Ten lines that give the numbers of our own service, for pictures that are not transparent and of 8 bits."""
    width, height, margin = image.stored_width, image.stored_height, image.margin
    mode = "L" if image.channels == 1 else "RGB"
    fit = {
        "crop": f"ImageOps.fit(picture, ({width}, {height}), Image.Resampling.BILINEAR)",
        # Of half a pixel of frame Pillow makes a whole one or none; a hair off the centre is none, as in `preprocess`.
        "pad": f"ImageOps.pad(picture, ({width}, {height}), Image.Resampling.BILINEAR, 0, (0.4999, 0.4999))",
        "stretch": f"picture.resize(({width}, {height}), Image.Resampling.BILINEAR)",
    }[image.fit]
    cut = f".crop(({margin}, {margin}, {margin + image.width}, {margin + image.height}))" if margin else ""
    card, graph = (json.dumps(f"{files}/{name}") for name in (CARD, MODEL))
    shape = f"1, {image.height}, {image.width}, {image.channels}"
    return f"""\
## How to run it

```python
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

classes = json.load(open({card}))["classes"]
picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("{mode}")
picture = {fit}{cut}
pixels = np.asarray(picture, dtype=np.uint8).reshape({shape})
(answer,) = onnxruntime.InferenceSession({graph}).run(["{OUTPUT}"], {{"{INPUT}": pixels}})[0]
print(classes[answer.argmax()], float(answer.max()))
```

Mean and deviation are inside the graph: it takes bytes as they are, any number of pictures at a time. These lines are
for pictures that are opaque and of 8 bits a channel; of a large JPEG, which the service decodes scaled down, pixels may
differ by 2 of 255."""


def _lineage(card: ModelCard) -> str:
    licence, changed = license_of(card), ", with changes that were not committed" if card.lineage.dirty else ""
    rows = {
        "licence": licence if licence != NO_LICENSE else "none was named; ask whoever gave it to you",
        "data": f"`{card.lineage.fingerprint}`",
        "run": f"`{card.lineage.run_id}`",
        "data since": cell(card.lineage.data_since or "not compared with that of an earlier model"),
        "commit": f"`{card.lineage.commit}`{changed}" if card.lineage.commit else "not known",
        "Prefect run": card.lineage.flow_run_url or "not kept",
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(card.versions.items())),
    }
    lines = "\n".join(f"| {name} | {plain(value)} |" for name, value in rows.items())
    later = (
        "Every setting of the run is in `card.json`. This page is as old as the model: what it was compared with, and "
        "whether it was put into service, came later; where it was made, `trainserve models show "
        f"{card.name}@{card.version}` tells the verdict with its table."
    )
    return f"## Where it comes from\n\n| | |\n| --- | --- |\n{lines}\n\n{later}"


def _named(classes: Sequence[ClassMetrics], most: int = 12) -> str:
    named = ", ".join(f"{cell(one.label)} ({one.support})" for one in classes[:most])
    return f"{named} and {len(classes) - most} more" if len(classes) > most else named
