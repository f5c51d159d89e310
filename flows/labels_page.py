"""Labels that look wrong, as the Prefect UI shows them. No Prefect here."""

from collections.abc import Sequence
from pathlib import Path

from flows.pages import cell, picture
from models.evaluation.doubtful import Doubtful
from models.evaluation.labels import Suspects, told
from models.evaluation.percent import percent


def labels_page(found: Suspects, pictures: Sequence[Doubtful], file: Path) -> str:
    """`pictures`: the first of what was found; `file`: where all of it is."""
    lines = [f"# Labels to look at: {told(found)}", ""]
    if not pictures:
        return "\n".join(lines)
    lines += [
        f"All of them are in `{file.resolve()}`, on the machine that ran it. Nothing was changed or left out by it.",
        "",
        "| | Is | Likelier | Quality | Part | File |",
        "| :-- | :-- | :-- | --: | :-- | :-- |",
    ]
    for one in pictures:
        shown = "cannot be shown" if one.jpeg is None else picture(one.jpeg, "", kind="jpeg")
        words = f"{cell(one.given)} | {cell(one.likelier)} | {percent(one.quality)} | {one.part} | {cell(one.file)}"
        lines.append(f"| {shown} | {words} |")
    return "\n".join(lines) + "\n"
