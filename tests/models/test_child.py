"""What a process that trains for another one makes of the run folder."""

import io
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from PIL import Image

from data.errors import DataRefused
from data.prepare import prepare
from data.spec import DatasetSpec
from models.config import Experiment
from models.run import open_run
from models.training import child


def put(url: str, names: list[str]) -> None:
    store = fsspec.filesystem("memory")
    for name in names:
        file = io.BytesIO()
        seed = int.from_bytes(name.encode(), "big")
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)).save(file, "PNG")
        store.pipe_file(f"{url}/{name}", file.getvalue())


def test_a_picture_that_comes_into_the_bucket_meanwhile_is_for_the_next_run(tmp_path: Path):
    url = f"memory://{uuid4().hex}"
    put(url, [f"{label}/{i}.png" for label in "ab" for i in range(9)])
    experiment = Experiment(dataset=DatasetSpec(source=url, size=8))
    before = prepare(experiment.pictures, tmp_path)
    folder = open_run(tmp_path, experiment, before.images.snapshot.fingerprint)
    put(url, ["b/new.png"])
    _, dataset = child.opened(folder)
    assert dataset.images.snapshot.fingerprint == before.images.snapshot.fingerprint
    np.testing.assert_array_equal(dataset.split.test, before.split.test)
    assert len(prepare(experiment.pictures, tmp_path).images.snapshot.files) == 19
    with pytest.raises(DataRefused, match=r"are not those that run .* was started with"):
        child.opened(folder)  # of another run by now
