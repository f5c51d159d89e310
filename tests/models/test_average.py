"""The moving average of the weights: to the bit what its formula says, over whichever tensors the networks hold."""

import torch
from torch import Tensor, nn

from models.training.state import Averaging, copy_for_average

DECAY = 0.9


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def trained_a_little(net: nn.Module) -> None:
    """Weights, norm statistics and the norm's counter change."""
    net.train()
    net(torch.randn(8, 3, 3, 3)).square().mean().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def expected(average: dict[str, Tensor], net: nn.Module, *, step: int) -> dict[str, Tensor]:
    share = 1 - min(DECAY, (1 + step) / (10 + step))
    return {
        name: average[name].lerp(tensor, share) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in net.state_dict().items()
    }


def same(average: nn.Module, wanted: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, wanted[name]) for name, tensor in average.state_dict().items())


def test_the_average_follows_weights_and_statistics_to_the_bit_and_counters_are_copied():
    net = network()
    average = copy_for_average(net)
    averaging = Averaging(average, net, decay=DECAY)
    wanted = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    for step in (0, 1, 2, 500):
        trained_a_little(net)
        wanted = expected(wanted, net, step=step)
        averaging.update(step=step)
        assert same(average, wanted)
    assert int(average[1].num_batches_tracked) == 4


def test_what_was_restored_is_followed_too():
    net, other = network(), network()
    average = copy_for_average(net)
    averaging = Averaging(average, net, decay=DECAY)
    trained_a_little(other)
    net.load_state_dict(other.state_dict())
    average.load_state_dict(other.state_dict())
    trained_a_little(net)
    averaging.update(step=3)
    assert same(average, expected(other.state_dict(), net, step=3))


def test_a_network_without_counters_is_averaged():
    net = nn.Linear(2, 2)
    average = copy_for_average(net)
    with torch.no_grad():
        net.weight.add_(1)
    Averaging(average, net, decay=DECAY).update(step=10**6)
    torch.testing.assert_close(net.weight - average.weight, torch.full((2, 2), DECAY))
    assert not average.weight.requires_grad
