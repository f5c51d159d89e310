import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import render_size, size
from benchmarks.render import table

ROOT = Path(__file__).parents[2]


def test_the_pictures_that_are_made_differ_and_can_be_read(tmp_path):
    stock = size.stock_of(None)
    num = 2 * sum(map(len, stock.values()))  # so that each comes again, turned
    size.make(tmp_path, stock, num)
    files = sorted(tmp_path.glob("*/*.jpg"))
    contents = [file.read_bytes() for file in files]
    assert len(set(contents)) == num
    first, again = (np.asarray(Image.open(tmp_path / f"class0/{place:08}.jpg"), int) for place in (0, num // 20))
    assert np.abs(np.rot90(first) - again).mean() < np.abs(first - again).mean() / 2


@pytest.mark.slow
def test_memory_is_measured_by_stage_and_has_its_section(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.size", "--pictures", "150", "300", "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / "size.json").read_text())
    assert [row["pictures"] for row in figures["rows"]["cold"]] == [150, 300]
    assert all(stage["private"] > 10e6 for rows in figures["rows"].values() for row in rows for stage in row["stages"])
    assert "| training steps | " in render_size.sections(lambda _: [figures], table)[0]
