"""The built-in data set: scikit-learn's 1,797 handwritten digits, 8 x 8 grey, written once as PNG files."""

from pathlib import Path

from PIL import Image

from data import progress as progress_
from data import whole
from data.progress import Progress


def write(target: Path, *, progress: Progress = progress_.ignore) -> Path:
    """`target/<digit>/<number>.png`, unless it is there. The values 0..16 are spread over 0..255. No network."""
    with whole.locked(target):
        if target.exists():
            return target
        from sklearn.datasets import load_digits  # late: a second to import

        digits = load_digits()
        pixels = (digits.images * (255 / 16)).round().astype("uint8")  # (1797, 8, 8)
        with whole.folder(target) as part:
            for digit in range(10):
                (part / str(digit)).mkdir()
            for i, (picture, digit) in enumerate(zip(pixels, digits.target, strict=True)):
                Image.fromarray(picture).save(part / str(digit) / f"{i:04d}.png")
            progress("writing", len(pixels), len(pixels))
    return target
