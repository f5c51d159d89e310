"""Training on pictures that stay in their shards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data.prepare import Dataset, listed, prepare
from data.shards import write
from data.shards.stream import Streamed
from data.spec import AugmentConfig, DatasetSpec
from models.config import Experiment
from models.pixels import measure
from models.run import RunFolder, open_run
from models.training import learn as learn_
from models.training.distributed import Ranks
from models.training.learn import learn
from models.training.pulse import Stopped
from tests.models.conftest import bright_and_dark
from tests.models.test_distributed import experiment, forks, together, trained


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


@forks
def test_two_processes_that_each_decode_their_part_learn_what_they_learn_from_all_of_it(
    streamed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """To the bit; in steps of 15, in two parts each, so that no share is like another."""
    changed = AugmentConfig(crop=2, flip=True, erase=0.3, policy="trivial")
    chosen = experiment(accumulate=2).model_copy(update={"augment": changed})
    pieces, decoded, train = Streamed._pieces, [], streamed.split.train
    monkeypatch.setattr(Streamed, "_pieces", lambda self, rows: decoded.extend(rows.tolist()) or pieces(self, rows))

    def work(ranks: Ranks, _: Path) -> dict[str, Any]:
        """In a process of its own, which has its own list."""
        return trained(chosen, streamed, ranks) | {"decoded": torch.tensor(np.isin(decoded, train).sum() / len(train))}

    parts = together(work, placed(tmp_path / "their part"))
    monkeypatch.setattr(learn_, "for_rank", lambda batches, *_: batches)
    wholes = together(work, placed(tmp_path / "all"))
    for part, whole in zip(parts, wholes, strict=True):
        assert torch.equal(part["figures"], whole["figures"])
        assert all(torch.equal(part["weights"][name], tensor) for name, tensor in whole["weights"].items())
        assert whole["decoded"] - part["decoded"] == pytest.approx(1, abs=0.1), "half of each of two epochs"


def placed(folder: Path) -> Path:
    folder.mkdir()
    return folder
