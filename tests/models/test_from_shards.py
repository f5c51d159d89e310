"""Training on pictures that stay in their shards."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data.prepare import Dataset, listed, prepare
from data.shards import write
from data.spec import DatasetSpec
from models.config import Experiment
from models.pixels import measure
from models.run import RunFolder, open_run
from models.training.learn import learn
from models.training.pulse import Stopped
from tests.models.conftest import bright_and_dark


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`files`: 96 bright and dark pictures; `shards`: the same."""
    folder = tmp_path_factory.mktemp("from shards")
    for number, (picture, label) in enumerate(zip(*bright_and_dark(96), strict=True)):
        file = folder / f"files/{('dark', 'bright')[label]}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    write.write(listed(DatasetSpec(source=str(folder / "files")), folder / "home"), folder / "shards")
    return folder


@pytest.fixture(scope="module")
def streamed(place) -> Dataset:
    return prepare(DatasetSpec(source=str(place / "shards"), size=16, name="toy"), place / "home")


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.weights_file)


class After:
    """Says so from the n-th question on."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_a_network_learns_from_shards(tiny: Experiment, streamed: Dataset, tmp_path: Path):
    folder = open_run(tmp_path, tiny, streamed.images.snapshot.fingerprint)
    learn(tiny, streamed, folder)
    assert folder.history()[-1].train_loss < folder.history()[0].train_loss
    assert folder.network().statistics == measure(np.asarray(streamed.images.pixels[:]), streamed.split.train)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_a_run_that_was_stopped_within_an_epoch_goes_on_to_the_same_weights(
    tiny: Experiment, streamed: Dataset, tmp_path: Path, steps: int
):
    fingerprint = streamed.images.snapshot.fingerprint
    straight, stopped = (open_run(tmp_path / name, tiny, fingerprint) for name in ("straight", "stopped"))
    learn(tiny, streamed, straight)
    with pytest.raises(Stopped):
        learn(tiny, streamed, stopped, stop=After(steps))
    learn(tiny, streamed, stopped)
    assert all(torch.equal(weights(straight)[name], tensor) for name, tensor in weights(stopped).items())
