import numpy as np
import pytest
from torch import nn

from data.augment import resolve
from data.loader import Pictures, TrainBatches, smaller
from data.spec import AugmentConfig, ImageSpec
from models.records import EpochRecord, FitSummary, PixelStatistics
from models.training.utilisation import PASSES, mostly_frozen, peak_flops, utilisation, with_utilisation
from models.zoo.build import build
from models.zoo.config import CNNConfig, WhitenedConfig
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.cost import cost

STATISTICS = PixelStatistics(mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.mark.parametrize(
    ("device", "tera"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 4090", 165.2),
    ],
)
def test_the_peak_of_a_gpu_is_known_by_its_name(device: str, tera: float):
    assert peak_flops(device) == pytest.approx(1e12 * tera)


@pytest.mark.parametrize(
    "device",
    [
        "cpu (x86_64, 2 threads)",
        "mps",
        "Tesla T4",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
    ],
)
def test_nothing_is_said_of_a_device_whose_peak_is_not_known(device: str):
    assert peak_flops(device) is None


def test_utilisation_is_the_arithmetic_needed_over_the_time_it_took():
    # One epoch of 100 pictures of 1 FLOP in 1 s, one of 100 pictures of 4 FLOPs in 4 s: 3 * 500 FLOPs in 5 s.
    assert utilisation([(100.0, 1), (25.0, 4)], peak=600.0) == pytest.approx(0.5)


@pytest.mark.parametrize("grow", [0.0, 0.5])
def test_epochs_on_smaller_pictures_count_what_they_cost(grow: float):
    image = ImageSpec(height=24, width=24)
    net, batches = network(image), batches_of(image, grow)
    history = [record(epoch) for epoch in range(4)]
    found = with_utilisation(summary("NVIDIA H200"), history, net, batches, image)
    height, width = smaller(image)
    full, small = cost(net, image).flops, cost(net, ImageSpec(height=height, width=width)).flops
    expected = PASSES * 1000 * ((full + small) / 2 if grow else full) / 989.4e12
    assert small < full
    assert found.utilisation == pytest.approx(expected)


def test_a_run_on_a_cpu_has_no_utilisation():
    image = ImageSpec(height=24, width=24)
    cpu = summary("cpu (x86_64, 2 threads)")
    assert with_utilisation(cpu, [record(0)], network(image), batches_of(image, 0.0), image) == cpu


def test_several_gpus_are_measured_by_what_all_of_them_could_do():
    image = ImageSpec(height=24, width=24)
    net, batches = network(image), batches_of(image, 0.0)
    one, four = (
        with_utilisation(summary("NVIDIA H200"), [record(0)], net, batches, image, devices=devices).utilisation
        for devices in (1, 4)
    )
    assert one is not None
    assert four == pytest.approx(one / 4)


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["head", "adapter"])
def test_nothing_is_said_of_a_frozen_backbone(tune: str):
    """Three passes would be counted for weights that need fewer."""
    image = ImageSpec(height=32, width=32)
    net = build(PretrainedConfig(tune=tune), image, STATISTICS, 2)
    found = with_utilisation(summary("NVIDIA H200"), [record(0)], net, batches_of(image, 0.0), image)
    assert found.utilisation is None


def test_a_few_frozen_weights_change_nothing():
    assert not mostly_frozen(build(WhitenedConfig(width=8), ImageSpec(height=24, width=24), STATISTICS, 2))


def network(image: ImageSpec) -> nn.Module:
    return build(CNNConfig(width=8), image, STATISTICS, 2)


def batches_of(image: ImageSpec, grow: float) -> TrainBatches:
    pixels, rows = np.zeros((8, image.height, image.width, 3), np.uint8), np.arange(8)
    config = resolve(AugmentConfig(grow=grow), image, mirror=True, any_size=True)
    return TrainBatches(
        Pictures(pixels), rows % 2, rows, batch_size=4, seed=0, image=image, config=config, num_classes=2
    )


def record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=2 * (epoch + 1),
        lr=0.1,
        train_loss=1.0,
        val_loss=1.0,
        val_accuracy=0.5,
        grad_norm=1.0,
        seconds=1.0,
        images_per_s=1000.0,
    )


def summary(device: str) -> FitSummary:
    return FitSummary(
        epochs_planned=4,
        epochs_run=4,
        best_epoch=3,
        stopped_early=False,
        seconds=4.0,
        images_per_s=1000.0,
        parameters=1,
        device=device,
    )
