"""What people see of labels that look wrong: in the report and in the Prefect UI, with pictures, and no stranger's text
that is more than text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.spec import Part
from flows.labels_page import labels_page
from models.evaluation import report
from models.evaluation.doubtful import Doubtful, doubtful
from models.evaluation.labels import Suspects
from tests.models.test_report import EVIL, data_report, dataset_in, run_result, seen

ONE = Doubtful(EVIL, Part.TEST, "a|b", "<i>", 0.0123, b"jpeg")
GONE = Doubtful("rose/2.png", Part.TRAIN, "rose", "tulip", 0.2, None)


def found(num: int, *, left_out: int = 0) -> Suspects:
    numbers = range(num)
    return Suspects(
        rows=tuple(numbers),
        sha256=tuple(f"{row:064x}" for row in numbers),
        file=tuple(f"picture {row}.jpg" for row in numbers),
        part=(Part.VAL,) * num,
        given=("daisy",) * num,
        likelier=("rose",) * num,
        quality=(0.05,) * num,
        looked_at=1437,
        right=1400,
        left_out=left_out,
    )


@pytest.mark.slow
def test_the_report_shows_the_pictures_with_both_labels_and_says_where_the_list_is():
    labels = {"told": "12 of 1,437 labels look wrong", "pictures": [ONE, GONE]}
    html = report.render(run_result(), history=[], data=data_report(), labels=labels)
    section = html.partition("<h2>Labels to look at</h2>")[2].partition("</section>")[0]
    text = seen(section)
    assert "12 of 1,437 labels look wrong." in text
    assert "is rose (20 % likely) likelier tulip rose/2.png" in text
    assert "labels.csv" in text
    assert "cannot be shown" in text
    assert ", test picture" in text
    assert "data:image/jpeg;base64,anBlZw==" in section
    assert EVIL not in section
    assert "<i>" not in section


def test_the_pictures_are_those_of_the_first_of_the_list(tmp_path: Path):
    dataset = dataset_in(tmp_path)
    files = dataset.images.snapshot.files
    Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(tmp_path / files[0])
    (tmp_path / files[1]).unlink(missing_ok=True)
    shown = doubtful(found(5), dataset, limit=2)
    assert [one.file for one in shown] == ["picture 0.jpg", "picture 1.jpg"]
    assert shown[0].jpeg is not None
    assert shown[0].jpeg.startswith(b"\xff\xd8")
    assert shown[1].jpeg is None


def test_the_page_in_prefect_has_a_row_for_each_and_cannot_be_broken_by_a_name():
    text = labels_page(found(12), [ONE, GONE], Path("/runs/1/labels.csv"))
    first, second = text.splitlines()[-2:]
    assert text.startswith("# Labels to look at: 12 of 1,437 labels look wrong\n")
    assert "`/runs/1/labels.csv`" in text
    assert first.startswith("| ![](data:image/jpeg;base64,anBlZw==) | a\\|b | &lt;i> | 1.2 % | test | &lt;img ")
    assert second == "| cannot be shown | rose | tulip | 20.0 % | train | rose/2.png |"


@pytest.mark.parametrize("left_out", [0, 4000])
def test_the_page_in_prefect_says_so_where_nothing_was_found(left_out: int):
    text = labels_page(found(0, left_out=left_out), [], Path("labels.csv"))
    assert "none of 1,437 labels looks wrong" in text
    assert ("crossval.folds 3" in text) == (left_out > 0)
    assert "|" not in text
