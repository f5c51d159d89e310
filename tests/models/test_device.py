"""How a device is called in the records."""

import pytest
import torch

from models.device import describe


@pytest.mark.parametrize(("num", "said"), [(1, "1 thread)"), (2, "2 threads)")])
def test_threads_are_counted_as_people_count(num: int, said: str):
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        assert describe(torch.device("cpu")).endswith(said)
    finally:
        torch.set_num_threads(before)
