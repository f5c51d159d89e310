"""Which ReLUs never fire, however they are written."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.evaluation.diagnosis.units import watched
from models.records import DeadUnits
from models.zoo.attention.grid import Grid
from models.zoo.attention.synthesizer import Dense


class Written(nn.Module):
    """ReLUs as a module, as functions, in place, and twice in one forward pass; some units cannot fire."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)
        nn.init.ones_(self.conv.weight)
        nn.init.ones_(self.head.weight)
        self.conv.bias.data = torch.tensor([0.0, -100.0, 0.0, -100.0])
        self.head.bias.data = torch.tensor([0.0, 0.0, -100.0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x)).mean(dim=(2, 3))
        x = torch.relu(self.head(x))
        return F.relu(x - 100) + x.relu()


def test_every_relu_is_seen_and_its_units_are_counted():
    net = Written()
    with watched(net) as firing, torch.inference_mode():
        net(torch.rand(5, 1, 2, 2))
        net(torch.rand(3, 1, 2, 2))
    assert firing.dead() == (
        DeadUnits(layer="relu", units=4, dead=2),
        DeadUnits(layer="network", units=3, dead=1),
        DeadUnits(layer="network (2)", units=3, dead=3),
        DeadUnits(layer="network (3)", units=3, dead=1),
    )


def test_a_unit_that_fires_once_is_alive():
    net = nn.Sequential(nn.ReLU())
    with watched(net) as firing:
        net(torch.tensor([[-1.0, -1.0]]))
        net(torch.tensor([[-1.0, 1.0]]))
    assert firing.dead() == (DeadUnits(layer="0", units=2, dead=1),)


def test_nothing_is_left_behind():
    net = Written()
    with watched(net) as firing:
        pass
    net(torch.rand(2, 1, 2, 2))
    assert firing.dead() == ()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_where_tokens_are_mixed_every_entry_of_every_head_is_a_unit():
    """Attention that is computed from the token alone has a hidden layer in each head: (B, H, N, d)."""
    mix = Dense(Grid(2, 2), heads=2, width=4)
    hidden = torch.ones(3, 2, 4, 4)
    hidden[:, 0, :, 1] = -1
    with watched(nn.ModuleList([mix])) as firing:
        mix(hidden, torch.ones(3, 2, 4, 4))
    assert [(layer.units, layer.dead) for layer in firing.dead()] == [(8, 1)]
