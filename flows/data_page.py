"""The pictures and what was found in them, as the Prefect UI shows it, as markdown. No Prefect here."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from data.prepare import Dataset
from data.validate import ValidationReport
from flows.pages import MARKS, cell, picture
from models.evaluation.sheets import Group, Thumb

THUMBNAIL_PX = 48
PER_CLASS = 8  # sample pictures
CLASSES_SHOWN = 20
PER_RULE = 12  # pictures of what was found: each artifact stays in the server's database for weeks
FOUND_PX = 96
FOUND_BYTES = 700_000  # of markdown, for all of them together


def data_page(
    report: ValidationReport, samples: Mapping[str, bytes], sheets: Mapping[str, Sequence[Group]] | None = None
) -> str:
    """`samples`: class -> a JPEG strip of its pictures; `sheets`: rule -> pictures of what it found."""
    train, val, test = (sum(getattr(c, part) for c in report.classes) for part in ("train", "val", "test"))
    dropped = {one.rule: f" (dropped: {one.said})" for one in report.dropped}
    lines = [
        f"# {report.name}: {report.num_examples:,} pictures, {len(report.classes)} classes",
        "",
        f"Seen at {report.width} x {report.height} pixels in {'colour' if report.channels == 3 else 'grey'}; "
        f"{train:,} to train on, {val:,} to choose by, {test:,} to test on; "
        f"{report.num_unreadable:,} unreadable. Fingerprint `{report.fingerprint[:16]}`.",
        "",
        *(
            f"- {MARKS[finding.level]} {cell(finding.message)}{dropped.get(finding.rule, '')}"
            for finding in report.findings
        ),
        "",
        "| Class | Train | Validation | Test | Samples |",
        "| :-- | --: | --: | --: | :-- |",
    ]
    for count in report.classes[:CLASSES_SHOWN]:
        strip = picture(samples[count.label], "", kind="jpeg") if count.label in samples else ""
        lines.append(f"| {cell(count.label)} | {count.train:,} | {count.val:,} | {count.test:,} | {strip} |")
    if len(report.classes) > CLASSES_SHOWN:
        lines.append(f"| and {len(report.classes) - CLASSES_SHOWN} more | | | | |")
    return "\n".join([*lines, *found_lines(sheets or {})]) + "\n"


def found_lines(sheets: Mapping[str, Sequence[Group]]) -> list[str]:
    """A table for each rule, a row for each group; pictures until there are too many bytes, and the names of all."""
    lines, left = [], FOUND_BYTES
    for rule, groups in sheets.items():
        lines += ["", f"## {rule}", "", "| | |", "| :-- | :-- |"]
        for group in groups:
            pictures = " ".join(_shown(one) for one in group)
            left -= len(pictures)
            names = " = ".join(cell(one.file) for one in group)
            lines.append(f"| {pictures if left >= 0 else ''} | {names} |")
    return lines


def sample_strips(dataset: Dataset) -> dict[str, bytes]:
    """Class -> its first training pictures side by side, as JPEG."""
    images, rows = dataset.images, dataset.split.train
    labels = images.labels[rows]
    strips = {}
    for index, label in enumerate(images.classes[:CLASSES_SHOWN]):
        chosen = rows[labels == index][:PER_CLASS]
        if len(chosen):
            strips[label] = _strip(images.pixels[chosen])
    return strips


def _shown(one: Thumb) -> str:
    return "cannot be shown" if one.jpeg is None else picture(one.jpeg, "", kind="jpeg")


def _strip(pixels: np.ndarray) -> bytes:
    """pixels u8 (N, H, W, C) -> JPEG, each picture THUMBNAIL_PX high, 2 px apart."""
    n, height, width, channels = pixels.shape
    shown = np.repeat(pixels, 3, axis=3) if channels == 1 else pixels
    side = (max(1, round(THUMBNAIL_PX * width / height)), THUMBNAIL_PX)
    sheet = Image.new("RGB", (n * (side[0] + 2) - 2, side[1]), "white")
    for index in range(n):
        enlarge = height < THUMBNAIL_PX // 2
        tile = Image.fromarray(np.ascontiguousarray(shown[index])).resize(
            side, Image.Resampling.NEAREST if enlarge else Image.Resampling.BILINEAR
        )
        sheet.paste(tile, (index * (side[0] + 2), 0))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=85)
    return out.getvalue()
