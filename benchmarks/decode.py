"""Microseconds from the bytes of a JPEG to pixels, by `data.preprocess` and by Pillow alone.

    python -m benchmarks.decode [--data cifar10.tar.gz] [--photos flowers.tar.gz] [--repeats 7]

Pictures of 32 px as they are; photographs at 128 px, decoded in full; and one of 12 megapixels at 128 px, made of the
first photograph, which Pillow decodes scaled down in either case. CPU time, one thread, files in memory. A repetition
goes over all pictures by the one and then by the other, in turns which comes first; ratios are taken within it. All
pixels are compared before anything is measured. Without archives pictures are made up, the photographs 320 px.

The figures go to benchmarks/results/decode.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import machine, pictures
from benchmarks.spread import ratios, spread
from benchmarks.training import RESULTS
from data.preprocess import stored_pixels
from data.spec import ImageSpec

SMALL, LARGE = ImageSpec(height=32, width=32), ImageSpec(height=128, width=128)
PHOTOGRAPH = 320  # pixels, of those made up
MEGAPIXELS_12 = (4000, 3000)
AT_LEAST_S = 0.2  # of either decoder in a repetition


def files_of(archive: Path | None, *, per_class: int, side: int) -> tuple[list[bytes], str]:
    """The training pictures, and where they are from."""
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        source = pictures.folder_of(Path(name), per_class=per_class, side=side, archive=archive)
        return [path.read_bytes() for path in sorted(Path(name, "train").glob("*/*.jpg"))], source


def enlarged(photograph: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(photograph)) as image:
        image.resize(MEGAPIXELS_12, Image.Resampling.BICUBIC).save(file, "JPEG", quality=pictures.QUALITY)
    return file.getvalue()


def timed(files: Sequence[bytes], spec: ImageSpec, *, by_pillow: bool) -> float:
    """CPU microseconds a picture."""
    rounds, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < AT_LEAST_S:
        for file in files:
            stored_pixels(file, spec, by_pillow=by_pillow)
        rounds += 1
    return spent / rounds / len(files) * 1e6


def measured(what: str, files: Sequence[bytes], spec: ImageSpec, *, repeats: int) -> dict[str, Any]:
    for file in files:
        assert np.array_equal(stored_pixels(file, spec), stored_pixels(file, spec, by_pillow=True))
    taken: dict[bool, list[float]] = {False: [], True: []}
    for repeat in range(repeats):
        for by_pillow in (False, True)[:: 1 if repeat % 2 else -1]:
            taken[by_pillow].append(timed(files, spec, by_pillow=by_pillow))
    return {
        "what": what,
        "pictures": len(files),
        "us": spread(taken[False]),
        "pillow_us": spread(taken[True]),
        "of_pillow": ratios(taken[False], taken[True]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="cifar10.tar.gz; by default pictures are made up")
    parser.add_argument("--photos", type=Path, help="archive of CLASS/*.jpg")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--per-class", type=int, default=50, help="pictures of 32 px")
    parser.add_argument("--photos-per-class", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    small, source = files_of(options.data, per_class=options.per_class, side=32)
    photographs, photographs_source = files_of(options.photos, per_class=options.photos_per_class, side=PHOTOGRAPH)
    rows = [
        measured(f"32 px as they are ({source})", small, SMALL, repeats=options.repeats),
        measured(f"photographs at 128 px ({photographs_source})", photographs, LARGE, repeats=options.repeats),
        measured("12 megapixels at 128 px", [enlarged(photographs[0])], LARGE, repeats=options.repeats),
    ]
    figures = {
        "command": machine.command("decode"),
        "repeats": options.repeats,
        "rows": rows,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "decode.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({row["what"]: (row["us"]["median"], row["pillow_us"]["median"]) for row in rows}, indent=1))


if __name__ == "__main__":
    main()
