"""Two processes that train together end where one ends, within rounding: real processes, gloo, one thread each."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from data.errors import InputError
from data.loader import Pictures
from data.prepare import Dataset
from data.spec import AugmentConfig
from models.config import Experiment, TrainConfig
from models.device import choose_device, require_devices
from models.training.checkpoint import Checkpoints
from models.training.config import SGDConfig
from models.training.distributed import ALONE, Ranks
from models.training.learn import learner_for, run_fit
from models.training.norms import with_shared_norms
from models.training.pulse import Stopped
from models.training.step import parts_of, train_step
from models.training.trial import fits_memory, try_rates
from models.zoo.attention.clustered import Clustered
from models.zoo.attention.grid import Grid
from models.zoo.config import CNNConfig, ModelConfig
from models.zoo.config_transformer import ClusteredAttention, ViTConfig

forks = pytest.mark.skipif(
    torch.cuda.is_available(), reason="a forked process cannot differentiate where a GPU has threads; test_launch does"
)

# At the first backward pass autograd decides for good whether it has threads, which a forked process would lack. Once
# something was exported it takes some; here, where these tests are collected and none has run, it takes none.
torch.zeros(1, requires_grad=True).sum().backward()

Work = Callable[[Ranks, Path], Any]


def together(work: Work, folder: Path, *, num: int = 2) -> list[Any]:
    """What `work` gives on each rank. Processes are forked, which costs no second import of torch."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=one_of, args=(work, folder, rank, num)) for rank in range(num)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    ended = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert ended == [0] * num, [file.read_text() for file in folder.glob("error-*")]
    return [torch.load(folder / f"answer-{rank}", weights_only=True) for rank in range(num)]


def one_of(work: Work, folder: Path, rank: int, num: int) -> None:
    status = 1
    try:
        torch.set_num_threads(1)  # a forked process must not wait for its parent's threads
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=num)
        torch.save(work(Ranks(rank, num), folder), folder / f"answer-{rank}")
        while sum(1 for _ in folder.glob("*-[0-9]")) < num:  # who goes while another is still connecting ends that one
            time.sleep(0.01)
        dist.destroy_process_group()
        status = 0
    except BaseException:  # noqa: BLE001 - told by the parent
        (folder / f"error-{rank}").write_text(traceback.format_exc())
    os._exit(status)


CNN = CNNConfig(width=8)
CLUSTERED = ViTConfig(patch=4, dim=8, depth=1, heads=2, attention=ClusteredAttention())


def experiment(model: ModelConfig = CNN, **train: object) -> Experiment:
    """Uneven shares: 48 pictures in steps of 15 are 8 and 7, and at last 3, which are 2 and 1."""
    return Experiment(
        model=model,
        optimizer=SGDConfig(lr=0.02),
        augment=AugmentConfig(crop=2, flip=True, mixup=0.2, cutmix=1.0),
        train=TrainConfig(**{"epochs": 2, "batch_size": 15, "precision": "float32"} | train),
    )


def trained(chosen: Experiment, toy: Dataset, ranks: Ranks, *, rows: int | None = None, **more: Any) -> dict[str, Any]:
    learner = learner_for(
        chosen,
        toy.images,
        Pictures(toy.images.pixels),
        train=toy.split.train[:rows],
        val=toy.split.val[:-1],
        seed=0,
        ranks=ranks,
    )
    result = run_fit(chosen, learner, ranks=ranks, **more)
    figures = [(r.train_loss, r.val_loss, r.val_accuracy, r.grad_norm) for r in result.history]
    return {"weights": result.weights, "figures": torch.tensor(figures), "images": result.history[0].step}


def close(one: dict[str, Any], other: dict[str, Any]) -> None:
    torch.testing.assert_close(one["figures"], other["figures"], rtol=1e-4, atol=1e-5)
    assert one["weights"].keys() == other["weights"].keys()
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(tensor, other["weights"][name], rtol=1e-3, atol=1e-5)


@forks
def test_two_processes_end_where_one_ends(toy: Dataset, tmp_path: Path):
    alone = trained(experiment(), toy, ALONE)
    both = together(lambda ranks, _: trained(experiment(), toy, ranks), tmp_path)
    close(both[0], alone)
    for name, tensor in both[0]["weights"].items():
        assert torch.equal(tensor, both[1]["weights"][name]), name
    assert torch.equal(both[0]["figures"], both[1]["figures"])


@pytest.mark.slow
@forks
@pytest.mark.parametrize("model", [CNN, CLUSTERED], ids=lambda model: model.kind)
def test_a_rank_may_have_no_picture_of_a_step(toy: Dataset, tmp_path: Path, model: ModelConfig):
    """Three processes and steps of two pictures."""
    chosen = experiment(model, batch_size=2, epochs=1)
    three = together(lambda ranks, _: trained(chosen, toy, ranks, rows=6), tmp_path, num=3)
    close(three[0], trained(chosen, toy, ALONE, rows=6))
    for name, tensor in three[0]["weights"].items():
        assert torch.equal(tensor, three[2]["weights"][name]), name


@pytest.mark.slow
@forks
def test_centroids_follow_the_members_of_all_processes(tmp_path: Path):
    """Three pictures on one and two on the other, whose own members point elsewhere."""
    torch.manual_seed(0)
    net = nn.Sequential(Clustered(Grid(4, 4), heads=2, width=4)).train()
    net.register_parameter("any", nn.Parameter(torch.zeros(1)))
    q, k, v = torch.randn(3, 5, 2, 16, 4)
    q[3:] += 2
    before = net[0].centroids.clone()

    def work(ranks: Ranks, _: Path) -> torch.Tensor:
        mix, part = with_shared_norms(net)[0], ranks.part(5)
        mix(q[part], k[part], v[part])
        return mix.centroids

    both = together(work, tmp_path)
    net[0](q, k, v)
    assert torch.equal(both[0], both[1])
    assert not torch.allclose(both[0], before, atol=1e-3)
    torch.testing.assert_close(both[0], net[0].centroids)


@forks
@pytest.mark.slow
def test_the_range_test_of_two_is_that_of_one_and_each_computes_its_share(toy: Dataset, tmp_path: Path):
    def work(ranks: Ranks, _: Path) -> dict[str, Any]:
        chosen, pictures = experiment(), Pictures(toy.images.pixels)
        learner = learner_for(
            chosen, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0, ranks=ranks
        )
        sizes: list[int] = []
        learner.net.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        found = try_rates(learner.net, learner.batches, optimizer=SGDConfig(), config=chosen.train, ranks=ranks)
        return {"rates": found.rates, "losses": found.losses, "chosen": found.chosen, "largest": max(sizes)}

    both, alone = together(work, tmp_path), work(ALONE, tmp_path)
    assert [answer.pop("largest") for answer in (*both, alone)] == [8, 7, 15]
    assert both[0] == both[1]
    assert both[0]["losses"][:10] == pytest.approx(alone["losses"][:10], rel=1e-4)
    assert both[0]["chosen"] == pytest.approx(alone["chosen"], rel=0.5)


@pytest.mark.slow
@forks
def test_a_batch_fits_where_every_rank_has_room_for_its_share(tmp_path: Path):
    """Each tries its part alone: one that runs out of memory would leave the others waiting."""

    class Small(nn.Module):
        def __init__(self, most: int) -> None:
            super().__init__()
            self.most, self.layer = most, nn.Linear(3, 2)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if len(pixels) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.layer(pixels.float().mean((1, 2)))

    class Zeros:
        steps_per_epoch, growing = 2, 0.0

        def __init__(self, size: int) -> None:
            self.size = size

        def epoch(self, *_: int, **__: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            yield from [(torch.zeros(self.size, 4, 4, 3), torch.arange(self.size) % 2)] * 2

    def work(ranks: Ranks, _: Path) -> list[bool]:
        net = Small((8, 5)[ranks.rank])
        return [
            fits_memory(net, Zeros(size), optimizer=SGDConfig(), config=TrainConfig(), ranks=ranks)
            for size in (10, 12, 9, 2)
        ]

    assert together(work, tmp_path) == [[True, False, True, True]] * 2


@pytest.mark.slow
@forks
def test_minutes_give_one_plan_and_a_stop_is_everybodys(toy: Dataset, tmp_path: Path):
    def work(ranks: Ranks, folder: Path) -> dict[str, Any]:
        asked = iter([*[False] * 4, False, False, True])  # four steps measure the speed
        checkpoints = Checkpoints(folder / "saved", writes=ranks.writes)
        with pytest.raises(Stopped) as stopped:
            trained(
                experiment(max_minutes=60.0),
                toy,
                ranks,
                checkpoints=checkpoints,
                stop=lambda: ranks.rank == 1 and next(asked),  # one of them gets the signal
            )
        return {"said": str(stopped.value)}

    both = together(work, tmp_path)
    assert both[0] == both[1] == {"said": "after step 3 of 8, in epoch 1 of 2"}
    saved = Checkpoints(tmp_path / "saved").load()
    assert saved is not None
    assert saved["step"] == 3


@pytest.mark.slow
@forks
def test_shared_norms_are_the_norm_of_the_whole_batch(tmp_path: Path):
    torch.manual_seed(0)
    pixels, weight = 3 + 2 * torch.randn(9, 4, 3, 3), torch.randn(9, 4, 3, 3)

    def normed(net: nn.Module, part: slice) -> dict[str, Any]:
        x = pixels[part].clone().requires_grad_()
        y = net(x)
        (y * weight[part]).sum().backward()
        return {"y": y.detach(), "gradient": x.grad, **net.state_dict()}

    def work(ranks: Ranks, _: Path) -> dict[str, Any]:
        return normed(with_shared_norms(nn.Sequential(nn.BatchNorm2d(4))), ranks.part(9))

    alone, both = normed(nn.Sequential(nn.BatchNorm2d(4)), slice(9)), together(work, tmp_path)
    for name in ("y", "gradient"):
        torch.testing.assert_close(torch.cat([rank[name] for rank in both]), alone[name], rtol=1e-4, atol=1e-5)
    for name in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
        torch.testing.assert_close(both[1][name], alone[name])


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: the activation is inside, and has weights here."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_shared_norms_keep_the_activation_that_a_norm_has_inside(tmp_path: Path, training: bool):
    torch.manual_seed(0)
    x, net = torch.randn(6, 4, 3, 3), nn.Sequential(NormAct(4)).train(training)

    def work(ranks: Ranks, _: Path) -> dict[str, Any]:
        own = with_shared_norms(net)
        return {"y": own(x[ranks.part(6)]).detach(), "names": list(own.state_dict())}

    both = together(work, tmp_path)
    names = list(net.state_dict())
    torch.testing.assert_close(torch.cat([rank["y"] for rank in both]), net(x), rtol=1e-4, atol=1e-5)
    assert both[0]["names"] == names


def test_a_norm_with_a_way_of_its_own_cannot_be_shared():
    class Odd(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    with pytest.raises(InputError, match=r"of its own kind, Odd, which cannot be shared .*; use train.devices 1"):
        with_shared_norms(nn.Sequential(Odd(4)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
def test_shared_norms_of_a_gpu_keep_the_activation_that_a_norm_has_inside():
    net = nn.Sequential(NormAct(4)).cuda().eval()
    x = torch.randn(6, 4, 3, 3, device="cuda")
    expected, names = net(x), list(net.state_dict())
    own = with_shared_norms(net)
    assert isinstance(own[0], nn.SyncBatchNorm)
    torch.testing.assert_close(own(x), expected)
    assert list(own.state_dict()) == names


@forks
@pytest.mark.parametrize("train", [{}, {"max_minutes": 60.0}], ids=["planned", "by trying"])
def test_processes_that_find_different_checkpoints_say_so_before_they_try_anything(
    toy: Dataset, tmp_path: Path, train: dict[str, float]
):
    chosen = experiment(**train)
    trained(chosen, toy, ALONE, checkpoints=Checkpoints(tmp_path / "saved-0"))

    def work(ranks: Ranks, folder: Path) -> str:
        try:
            trained(chosen, toy, ranks, checkpoints=Checkpoints(folder / f"saved-{ranks.rank}"))
        except InputError as error:
            return str(error)
        return "went on"

    for told, found in zip(together(work, tmp_path), ("one", "none"), strict=True):
        assert f"found different checkpoints (this one {found})" in told


@pytest.mark.parametrize("num", [1, 2, 3, 8])
@pytest.mark.parametrize("total", [0, 1, 7, 64])
def test_the_shares_of_all_ranks_are_the_whole(num: int, total: int):
    shares = [Ranks(rank, num).part(total) for rank in range(num)]
    assert [row for share in shares for row in range(share.start, share.stop)] == list(range(total))
    assert max(s.stop - s.start for s in shares) - min(s.stop - s.start for s in shares) <= 1


@pytest.mark.parametrize("num", [2, 3])
@pytest.mark.parametrize(("total", "accumulate"), [(15, 1), (15, 4), (3, 2), (2, 1)])
def test_a_rank_knows_beforehand_which_pictures_of_a_batch_it_sends_through_the_network(
    num: int, total: int, accumulate: int
):
    class Sends(nn.Module):
        def __init__(self, ranks: Ranks) -> None:
            super().__init__()
            self.ranks, self.sent, self.weight = ranks, [], nn.Parameter(torch.ones(1))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            self.sent += pixels[self.ranks.part(len(pixels))].tolist()
            return pixels.float()[:, None] * self.weight * torch.ones(2)

    config, everybody = TrainConfig(accumulate=accumulate, precision="float32"), []
    for rank in range(num):
        net = Sends(ranks := Ranks(rank, num))
        targets = torch.zeros(total, dtype=torch.int64)
        train_step(net, torch.optim.SGD(net.parameters()), torch.arange(total), targets, config=config)
        assert ranks.places(total, parts_of(total, config)).tolist() == net.sent
        everybody += net.sent
    assert sorted(everybody) == list(range(total))


def test_more_devices_than_there_are_is_a_sentence():
    with pytest.raises(InputError, match=r"train.devices 1000 asks for more than the \d+ .* here; use at most \d+"):
        require_devices(1000)


def test_a_number_of_devices_is_of_one_kind():
    assert choose_device(1) == choose_device("auto")
    assert choose_device(2).type == ("cuda" if torch.cuda.is_available() else "cpu")
