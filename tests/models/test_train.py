import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.spec import ImageSpec
from models.config import TrainConfig
from models.evaluation.inference import validate
from models.records import EpochRecord, PixelStatistics
from models.training.checkpoint import Checkpoints
from models.training.config import AdamWConfig, CosineConfig, SGDConfig
from models.training.fit import FitResult, Validation, fit
from models.training.pulse import Diverged, ProgressUpdate
from models.training.step import dropout_seed, train_step
from models.zoo.build import build
from models.zoo.config import CNNConfig, ModelConfig
from models.zoo.config_transformer import ConvViTConfig, ViTConfig

IMAGE = ImageSpec(height=16, width=16)
STATISTICS = PixelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)
RATE = AdamWConfig(lr=3e-3)


def pictures(num: int, num_classes: int = 2) -> tuple[Tensor, Tensor]:
    """Noise with labels that it does not tell: they can only be learnt by heart."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num, 16, 16, 3), generator=generator).byte()
    return pixels, torch.arange(num) % num_classes


class Shuffled:
    """The least that `fit` asks of batches, and a memory of what was handed out."""

    growing = 0.0

    def __init__(self, pixels: Tensor, targets: Tensor, *, size: int = 16, seed: int = 0) -> None:
        self.pixels, self.targets, self.size, self.seed = pixels, targets, size, seed
        self.handed_out: list[tuple[int, int]] = []

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.targets) // self.size)

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ARG002
        order = torch.from_numpy(np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.targets)))
        for step, rows in list(enumerate(order.to(self.pixels.device).split(self.size)))[start_step:]:
            self.handed_out.append((epoch, step))
            yield self.pixels[rows], self.targets[rows]


def network(config: ModelConfig = CNNConfig(width=8), *, seed: int = 0, num_classes: int = 2) -> nn.Module:  # noqa: B008
    torch.manual_seed(seed)
    return build(config, IMAGE, STATISTICS, num_classes)


def on(pixels: Tensor, labels: Tensor):
    return lambda net: validate(net, [(pixels, labels)], precision="float32")


def run(
    net: nn.Module | None = None, *, seed: int = 0, batches: Shuffled | None = None, **settings: object
) -> FitResult:
    pixels, labels = pictures(40)
    config = TrainConfig(**{"epochs": 2, "batch_size": 16, "seed": seed} | settings)
    return fit(
        network(seed=seed) if net is None else net,
        batches or Shuffled(pixels, labels, seed=seed),
        on(pixels, labels),
        optimizer=RATE,
        schedule=CosineConfig(),
        config=config,
    )


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Script:
    """A validation whose figures are known beforehand; remembers the weights it was shown."""

    def __init__(self, *losses: float) -> None:
        self.losses, self.seen = losses, []

    def __call__(self, net: nn.Module) -> Validation:
        self.seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        return Validation(loss=self.losses[len(self.seen) - 1], accuracy=0.5)


def scripted(script: Script, **settings: object) -> FitResult:
    pixels, labels = pictures(20)
    config = TrainConfig(**{"epochs": len(script.losses), "monitor": "val_loss"} | settings)
    return fit(network(), Shuffled(pixels, labels), script, optimizer=RATE, schedule=CosineConfig(), config=config)


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(width=8),
        pytest.param(ViTConfig(patch=4, dim=32, depth=2, heads=2), marks=pytest.mark.slow),
        pytest.param(
            ConvViTConfig(dim=32, depth=1, heads=2, convolutions=2, channels=16, stochastic_depth=0),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda config: config.kind,
)
def test_each_architecture_learns_32_pictures_by_heart(config: ModelConfig):
    pixels, labels = pictures(32, num_classes=4)
    result = fit(
        network(config, num_classes=4),
        Shuffled(pixels, labels, size=32),
        on(pixels, labels),
        optimizer=AdamWConfig(lr=5e-3, weight_decay=0),
        schedule=CosineConfig(),
        config=TrainConfig(epochs=40, label_smoothing=0, batch_size=32),
    )
    assert result.history[0].train_loss == pytest.approx(math.log(4), rel=0.1)
    assert result.history[result.summary.best_epoch].val_accuracy == 1.0


def test_the_best_weights_are_the_ones_returned():
    script = Script(3.0, 1.0, 2.0)
    result = scripted(script)
    assert result.summary.best_epoch == 1
    assert same(result.weights, script.seen[1])
    assert not same(result.weights, script.seen[2])


def test_training_stops_when_patience_is_spent():
    result = scripted(Script(1.0, 2.0, 2.0, 0.5), patience=2)
    assert result.summary.epochs_run == 3
    assert result.summary.stopped_early
    assert result.summary.best_epoch == 0


def test_equal_accuracies_are_told_apart_by_the_loss():
    assert scripted(Script(3.0, 1.0, 2.0), monitor="val_accuracy").summary.best_epoch == 1


def test_the_same_seed_gives_the_same_weights():
    assert same(run(seed=3).weights, run(seed=3).weights)


@pytest.mark.slow
def test_another_seed_gives_other_weights():
    assert not same(run(seed=3).weights, run(seed=4).weights)


@pytest.mark.slow
def test_dropout_is_decided_by_the_seed_alone():
    dropout = CNNConfig(width=8, dropout=0.5)
    weights = []
    for disturbance in (1, 2):
        net = network(dropout)
        torch.manual_seed(disturbance)
        weights.append(run(net).weights)
    assert same(*weights)


def test_dropout_differs_between_steps_epochs_and_seeds():
    assert len({dropout_seed(seed, epoch, step) for seed in (0, 1) for epoch in (0, 1) for step in (0, 1)}) == 8


@pytest.mark.slow
def test_every_epoch_is_recorded_and_told():
    told: list[EpochRecord] = []
    updates: list[ProgressUpdate] = []
    pixels, labels = pictures(40)
    result = fit(
        network(),
        Shuffled(pixels, labels),
        on(pixels, labels),
        optimizer=RATE,
        schedule=CosineConfig(),
        config=TrainConfig(epochs=3),
        on_epoch=told.append,
        on_progress=updates.append,
    )
    assert result.history == tuple(told)
    assert [(record.epoch, record.step) for record in told] == [(0, 3), (1, 6), (2, 9)]
    assert told[-1].lr == pytest.approx(RATE.lr * CosineConfig().final)
    assert all(record.grad_norm > 0 and record.images_per_s > 0 for record in told)
    assert updates[0].total_steps == 9
    assert updates[0].seconds_left > 0


def test_a_last_batch_of_one_picture_is_no_problem():
    pixels, labels = pictures(17)
    result = run(batches=Shuffled(pixels, labels))
    assert all(tensor.isfinite().all() for tensor in result.weights.values())


@pytest.mark.slow
def test_soft_targets_are_learnt_as_hard_ones():
    pixels, labels = pictures(32)
    hard = run(batches=Shuffled(pixels, labels))
    soft = run(batches=Shuffled(pixels, nn.functional.one_hot(labels, 2).float()))
    assert soft.history[-1].train_loss == pytest.approx(hard.history[-1].train_loss, rel=1e-4)


def test_the_gradient_is_clipped_to_its_norm():
    net, (pixels, labels) = network(), pictures(16)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    _, norm, *_ = train_step(net, optimizer, pixels, labels, config=TrainConfig(clip_norm=0.01)).tolist()
    moved = math.sqrt(sum((p - b).square().sum().item() for p, b in zip(net.parameters(), before, strict=True)))
    assert norm > 0.02
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_a_moving_average_is_what_is_validated_and_kept():
    script = Script(1.0, 0.5)
    net = network()
    pixels, labels = pictures(40)
    result = fit(
        net,
        Shuffled(pixels, labels),
        script,
        optimizer=RATE,
        schedule=CosineConfig(),
        config=TrainConfig(epochs=2, ema=0.9, monitor="val_loss"),
    )
    assert same(result.weights, script.seen[1])
    assert not same(result.weights, net.state_dict())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("optimizer", [SGDConfig(lr=1e12), AdamWConfig(lr=1e12)], ids=lambda config: config.kind)
def test_a_loss_that_is_no_number_ends_training_with_a_remedy(optimizer: SGDConfig | AdamWConfig):
    pixels, labels = pictures(40)
    net = network(ViTConfig(patch=4, dim=16, depth=1, heads=1))
    with pytest.raises(
        Diverged, match=r"no longer finite in epoch 1.* optimizer\.lr 1e\+12; use a lower one, such as 1e\+11"
    ):
        fit(
            net,
            Shuffled(pixels, labels),
            on(pixels, labels),
            optimizer=optimizer,
            schedule=CosineConfig(warmup=0),
            config=TrainConfig(epochs=4, clip_norm=None),
        )


def test_a_diverged_run_is_not_saved(tmp_path):
    pixels, labels = pictures(40)
    checkpoints = Checkpoints(tmp_path, every_s=0)
    with pytest.raises(Diverged):
        fit(
            network(),
            Shuffled(pixels.float() * math.nan, labels),
            on(pixels, labels),
            optimizer=RATE,
            schedule=CosineConfig(),
            config=TrainConfig(epochs=2),
            checkpoints=checkpoints,
        )
    saved = checkpoints.load()
    assert saved is not None
    assert saved["step"] == 0


def test_a_validation_that_is_no_number_ends_training():
    with pytest.raises(Diverged):
        scripted(Script(1.0, math.nan, 0.5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
def test_a_gpu_learns_in_bfloat16_and_keeps_float32_weights(tmp_path):
    pixels, labels = (tensor.cuda() for tensor in pictures(32))
    result = fit(
        network().cuda(),
        Shuffled(pixels, labels),
        lambda net: validate(net, [(pixels, labels)], precision="auto"),
        optimizer=RATE,
        schedule=CosineConfig(),
        config=TrainConfig(epochs=20, batch_size=16),
        checkpoints=Checkpoints(tmp_path, every_s=0),
    )
    assert result.summary.device == torch.cuda.get_device_name()
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert {tensor.dtype for tensor in result.weights.values()} == {torch.float32, torch.int64}
    assert {tensor.device.type for tensor in result.weights.values()} == {"cpu"}
