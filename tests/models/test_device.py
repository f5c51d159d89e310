"""How a device is called in the records, and what is set for a training on it."""

import pytest
import torch
from torch.backends import cudnn

from models.device import describe, training_device


@pytest.mark.parametrize(("num", "said"), [(1, "1 thread)"), (2, "2 threads)")])
def test_threads_are_counted_as_people_count(num: int, said: str):
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        assert describe(torch.device("cpu")).endswith(said)
    finally:
        torch.set_num_threads(before)


def test_a_training_on_a_processor_leaves_the_settings_of_cudnn_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cudnn, "benchmark", False)
    assert training_device("cpu") == torch.device("cpu")
    assert not cudnn.benchmark


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_keeps_the_fastest_convolutions_unless_bits_were_asked_for(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cudnn, "benchmark", False)
    monkeypatch.setattr(cudnn, "deterministic", deterministic)
    training_device("cuda")
    assert cudnn.benchmark is not deterministic
