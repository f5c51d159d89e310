"""Which variables ask for several nodes, and what is said where nobody says how many processes each has."""

import pytest

from data.errors import InputError
from data.prepare import Dataset
from models.config import Experiment, TrainConfig
from models.run import RunFolder
from models.training import launch
from models.training.nodes import MEETING, require_number, several_nodes


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MEETING:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("devices", ["auto", "cpu", "cuda"])
def test_several_nodes_want_a_number_of_devices(devices: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PET_NNODES", "2")
    with pytest.raises(InputError, match=rf"^train\.devices {devices} .* PET_NNODES=2 .* give train\.devices"):
        require_number(TrainConfig(devices=devices))
    require_number(TrainConfig(devices=1))


def test_a_training_is_refused_before_it_begins_on_one_node_of_several(
    tiny: Experiment, toy: Dataset, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PET_MASTER_ADDR", "10.0.0.1")
    with pytest.raises(InputError, match=r"PET_MASTER_ADDR=10\.0\.0\.1"):
        launch.train(tiny, toy, RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


def test_one_node_is_not_several(monkeypatch: pytest.MonkeyPatch):
    """As some clusters say it of every job."""
    assert not several_nodes()
    monkeypatch.setenv("PET_MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("PET_NNODES", "1")
    assert not several_nodes()
    monkeypatch.setenv("PET_NNODES", "1:4")
    assert several_nodes()
