"""A published backbone: what is frozen stays so to the last bit, and what learns does so at its own rate."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer, get_model

from data.errors import InputError
from data.loader import Pictures
from data.prepare import Dataset
from data.spec import AugmentConfig, DatasetSpec, ImageSpec
from models.bundle.graph import calibrated, to_onnx
from models.config import Experiment, TrainConfig
from models.evaluation.evaluate import load_network
from models.evaluation.inference import validate
from models.records import PixelStatistics
from models.run import RunFolder
from models.training.config import AdamWConfig, MuonConfig
from models.training.fit import begin, ignore, train_epoch, train_step
from models.training.learn import Learner, learn, learner_for, run_fit
from models.training.optim import build_optimizer, set_rate
from models.training.pulse import Stopped
from models.zoo.adapter import SCALE, LowRank, adapt, adapters, merge
from models.zoo.build import build, load_published, published_statistics
from models.zoo.config import CNNConfig
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.pretrained import Pretrained

BACKBONE = "mobilenet_v3_small"
HEAD = "classifier.3."
IMAGENET = PixelStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes them: random weights, and norm statistics that keep the features alive."""
    torch.manual_seed(7)
    file = tmp_path_factory.mktemp("published") / f"{BACKBONE}.pth"
    net = get_model(BACKBONE, weights=None).train()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(32, 3, 16, 16))
    torch.save(net.state_dict(), file)
    return file


def experiment(weights: Path, tune: str, **settings: object) -> Experiment:
    """In float32: pictures of 16 px leave this backbone maps of one pixel, and there oneDNN's gradient of a depthwise
    kernel in bfloat16 and channels_last (torch 2.15, on a CPU) reads memory that nobody has written."""
    return Experiment(
        model=PretrainedConfig(backbone=BACKBONE, weights=str(weights), tune=tune),
        optimizer=settings.pop("optimizer", MuonConfig()),
        train=TrainConfig(epochs=2, batch_size=24, devices="cpu", precision="float32", **settings),
    )


def learner_of(chosen: Experiment, toy: Dataset) -> Learner:
    pictures = Pictures(toy.images.pixels)
    return learner_for(chosen, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0)


def noise(num: int, side: int = 16, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, side, side, channels), generator=generator).byte()


def backbone_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the library's names, without the head."""
    plain = {name.removeprefix("1.net."): tensor for name, tensor in weights.items() if name.startswith("1.net.")}
    return {name: tensor for name, tensor in plain.items() if not name.startswith(HEAD)}


def test_training_the_head_leaves_every_tensor_of_the_backbone_as_published(toy: Dataset, published: Path):
    chosen = experiment(published, "head")
    weights = run_fit(chosen, learner_of(chosen, toy)).weights
    expected = {name: t for name, t in torch.load(published).items() if not name.startswith(HEAD)}
    found = backbone_of(weights)
    assert found.keys() == expected.keys()
    assert any("running_mean" in name for name in found)
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    fresh = learner_of(chosen, toy).net.state_dict()
    assert not torch.equal(weights[f"1.net.{HEAD}weight"], fresh[f"1.net.{HEAD}weight"])


@pytest.mark.parametrize("config", [AdamWConfig(), MuonConfig()], ids=lambda config: config.kind)
def test_what_is_frozen_has_no_gradient_and_is_unknown_to_the_optimiser(toy: Dataset, published: Path, config):
    net = learner_of(experiment(published, "head"), toy).net.train()
    net(noise(4)).sum().backward()
    head = {id(p) for p in net[1].head.parameters()}
    assert {id(p) for p in net.parameters() if p.grad is not None} == head
    assert {id(p) for group in build_optimizer(net, config).param_groups for p in group["params"]} == head


@pytest.mark.slow
def test_full_training_gives_the_backbone_its_share_of_the_rate(toy: Dataset, published: Path):
    chosen = experiment(published, "full")
    learner = learner_of(chosen, toy)
    training = begin(
        learner.net,
        learner.batches,
        learner.validate,
        optimizer=chosen.optimizer,
        schedule=chosen.schedule,
        config=chosen.train,
        checkpoints=None,
    )
    before = learner.net.state_dict()["1.net.features.0.0.weight"].clone()
    train_epoch(
        training,
        learner.batches,
        schedule=chosen.schedule,
        config=chosen.train,
        class_weights=None,
        pulse=lambda: None,
    )
    head = {id(p) for p in learner.net[1].head.parameters()}
    groups = training.optimizer.param_groups
    fast = {group["lr"] for group in groups for p in group["params"] if id(p) in head}
    slow = {group["lr"] for group in groups for p in group["params"] if id(p) not in head}
    assert len(fast) == len(slow) == 1
    assert slow.pop() == pytest.approx(0.05 * fast.pop())
    assert not torch.equal(learner.net.state_dict()["1.net.features.0.0.weight"], before)
    assert not any(group["orthogonal"] for group in groups)  # Muon is for weights that start at random


@pytest.mark.slow
def test_the_rate_that_is_written_down_is_the_full_one(toy: Dataset, published: Path):
    chosen = experiment(published, "full", optimizer=AdamWConfig(lr=1e-3))
    plain = chosen.model_copy(update={"model": CNNConfig(width=8)})
    rates = [[r.lr for r in run_fit(e, learner_of(e, toy)).history] for e in (chosen, plain)]
    assert rates[0] == rates[1]


@pytest.mark.slow
def test_adapters_start_as_the_identity_and_they_and_the_head_alone_learn(toy: Dataset, published: Path):
    bare, adapted = (learner_of(experiment(published, tune), toy).net.eval() for tune in ("head", "adapter"))
    adapted[1].head.load_state_dict(bare[1].head.state_dict())
    assert torch.equal(adapted(noise(4)), bare(noise(4)))
    learning = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len([name for name in learning if name.endswith((".up", ".down"))]) == 2 * len(list(adapters(adapted)))
    rest = [name for name in learning if not name.endswith((".up", ".down"))]
    assert rest == [f"1.net.{HEAD}weight", f"1.net.{HEAD}bias"]
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) < 0.5 * sum(
        p.numel() for p in bare.parameters()
    )


@pytest.mark.slow
def test_a_run_with_adapters_is_built_again_without_the_published_file_and_merges(
    toy: Dataset, published: Path, tmp_path: Path
):
    gone = tmp_path / "gone.pth"
    gone.write_bytes(published.read_bytes())
    folder = RunFolder(tmp_path / "run")
    learn(experiment(gone, "adapter"), toy, folder, on_epoch=ignore)
    gone.unlink()
    net, pixels = load_network(folder), noise(8)
    originals = {n.replace(".parametrizations.weight.original", ".weight"): t for n, t in net.state_dict().items()}
    expected = torch.load(published)
    assert all(torch.equal(t, originals[f"1.net.{n}"]) for n, t in expected.items() if not n.startswith(HEAD))
    assert any(adapter.up.abs().sum() > 0 for adapter in adapters(net))
    before = net(pixels)
    merged = calibrated(net, 1.0)
    assert not list(adapters(merged))
    assert {n.removeprefix("0.1.net.") for n in merged.state_dict() if n.startswith("0.1.net.")} == expected.keys()
    torch.testing.assert_close(merged(pixels), before.softmax(1), atol=1e-6, rtol=1e-5)
    assert torch.equal(net(pixels), before)  # merging a copy leaves the network able to answer


@pytest.mark.slow
def test_a_run_goes_on_without_the_published_file(toy: Dataset, published: Path, tmp_path: Path):
    file, (stopped, undisturbed) = tmp_path / "gone.pth", [RunFolder(tmp_path / name) for name in ("stopped", "whole")]
    file.write_bytes(published.read_bytes())
    asked = iter([False, False, True])
    learn(experiment(file, "full"), toy, undisturbed)
    with pytest.raises(Stopped):
        learn(experiment(file, "full"), toy, stopped, stop=lambda: next(asked))
    file.unlink()
    learn(experiment(file, "full"), toy, stopped)
    assert stopped.weights_file.read_bytes() == undisturbed.weights_file.read_bytes()
    with pytest.raises(InputError, match=r"gone\.pth is not a file"):
        learn(experiment(file, "full"), toy, RunFolder(tmp_path / "new"))


def test_attention_has_adapters_too():
    torch.manual_seed(0)
    net = VisionTransformer(16, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3).eval()
    nn.init.normal_(net.heads.head.weight)
    x = torch.rand(2, 3, 16, 16)
    plain = net(x)
    adapt(net, rank=2, leave_out=net.heads.head)
    torch.testing.assert_close(net(x), plain)
    for adapter in adapters(net):
        nn.init.normal_(adapter.up, std=0.1)
    assert "in_proj_weight" in net.encoder.layers[0].self_attention.parametrizations
    changed = net(x)
    assert not torch.allclose(changed, plain, atol=1e-4)
    torch.testing.assert_close(merge(net)(x), changed, atol=1e-5, rtol=1e-4)


def test_an_adapter_adds_a_product_of_its_rank_and_is_smaller_than_its_matrix():
    weight = torch.randn(6, 2, 3, 3)
    adapter = LowRank(weight, 2)
    nn.init.normal_(adapter.up)
    difference = (adapter(weight) - weight).flatten(1)
    torch.testing.assert_close(difference, SCALE * adapter.up @ adapter.down, atol=1e-5, rtol=1e-5)
    assert torch.linalg.matrix_rank(difference) == 2
    depthwise = nn.Conv2d(4, 4, 3, groups=4)
    adapt(depthwise, rank=64, leave_out=nn.Identity())
    assert next(adapters(depthwise)).down.shape == (2, 9)


@pytest.mark.slow
def test_published_statistics_are_used_and_grey_pictures_are_shown_in_three_channels(toy: Dataset, published: Path):
    chosen = experiment(published, "head")
    assert published_statistics(chosen.model) == learner_of(chosen, toy).statistics == IMAGENET
    assert published_statistics(CNNConfig()) is None
    nets = [build(chosen.model, ImageSpec(height=16, width=16, channels=c), IMAGENET, 2).eval() for c in (1, 3)]
    nets[1].load_state_dict(nets[0].state_dict())
    grey = noise(2, channels=1)
    torch.testing.assert_close(nets[0](grey), nets[1](grey.expand(-1, -1, -1, 3)))


def test_a_pretrained_run_looks_at_larger_pictures_unless_told():
    model = PretrainedConfig()
    assert Experiment(model=model).pictures.max_size == 128
    assert Experiment(model=model, dataset=DatasetSpec(max_size=224)).pictures.max_size == 224
    assert Experiment().pictures == DatasetSpec()


def test_an_unknown_backbone_names_the_nearest_ones():
    with pytest.raises(InputError, match=r"backbone 'resnet81' is not known; did you mean .*resnet18"):
        published_statistics(PretrainedConfig(backbone="resnet81"))


def test_a_picture_too_small_for_the_backbone_is_refused_with_a_size_that_does():
    said = r"squeezenet1_1 cannot look at a 8 x 8 picture \(.+\); use dataset.size 224"
    with pytest.raises(InputError, match=said):
        build(PretrainedConfig(backbone="squeezenet1_1"), ImageSpec(height=8, width=8), IMAGENET, 2)


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_the_head_is_found_and_starts_close_to_uniform(backbone: str):
    torch.manual_seed(0)
    net = build(PretrainedConfig(backbone=backbone), ImageSpec(height=32, width=32), IMAGENET, 5)
    assert isinstance(net[1], Pretrained)
    assert net[1].head.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["head", "full", "adapter"])
def test_every_way_of_tuning_exports_with_any_batch(published: Path, tune: str):
    torch.manual_seed(0)
    image = ImageSpec(height=32, width=32)
    config = PretrainedConfig(backbone=BACKBONE, weights=str(published), tune=tune)
    net = build(config, image, IMAGENET, 3)
    load_published(net)
    for adapter in adapters(net):
        nn.init.normal_(adapter.up, std=0.01)
    nn.init.normal_(net[1].head.weight)
    to_onnx(calibrated(net, 1.0), image, tolerance=1e-4)  # compares batches of 1, 3 and 8


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["densenet121", "mnasnet0_5", "googlenet", "regnet_y_400mf", "swin_t"])
def test_files_of_every_family_load_with_their_old_names_and_side_heads(tmp_path: Path, backbone: str):
    torch.manual_seed(7)
    made = get_model(backbone, weights=None, **({"init_weights": False} if backbone == "googlenet" else {}))
    given = made.state_dict()
    old = {name: re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name) for name in given}
    for name, before in old.items():
        given[before] = given.pop(name)
    torch.save(given, tmp_path / "weights.pth")
    config = PretrainedConfig(backbone=backbone, weights=str(tmp_path / "weights.pth"), tune="adapter")
    net = build(config, ImageSpec(height=64, width=64), IMAGENET, 3)
    load_published(net)
    own = merge(net).state_dict()
    head = net[1].head_name
    loaded = {name.removeprefix("1.net."): t for name, t in own.items() if name.startswith("1.net.")}
    expected = made.state_dict()
    assert [n for n, t in loaded.items() if not n.startswith(f"{head}.") and not torch.equal(t, expected[n])] == []


def backbone(weights: Path, num_classes: int, device: torch.device, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = PretrainedConfig(backbone=BACKBONE, weights=str(weights), **settings)
    net = build(config, ImageSpec(height=32, width=32), IMAGENET, num_classes)
    load_published(net)
    return net.to(device)


@pytest.mark.slow
def test_a_backbone_learns_32_pictures_by_heart(published: Path):
    """Noise with labels that it does not tell, with the optimiser that is used where no other is chosen."""
    net, pixels, labels = backbone(published, 4, torch.device("cpu")), noise(32, 32), torch.arange(32) % 4
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.1  # by its own, 0.01, evaluation follows training after hundreds of steps
    optimizer = build_optimizer(net, Experiment().optimizer)
    set_rate(optimizer, 1.0)
    settings = TrainConfig(label_smoothing=0, precision="float32")
    for step in range(1, 201):
        train_step(net.train(), optimizer, pixels, labels, config=settings)
        if step % 10 == 0 and validate(net, [(pixels, labels)], precision="float32").accuracy == 1:
            return
    pytest.fail("32 pictures are not learnt in 200 steps")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("tune", ["head", "full"])
def test_on_a_gpu_a_backbone_learns_in_bfloat16(published: Path, tune: str):
    """Bright and dark pictures; the weights stay float32."""
    device = torch.device("cuda")
    net, labels = backbone(published, 2, device, tune=tune).train(), (torch.arange(32) % 2).to(device)
    pixels = ((noise(32, 32).to(device).float() + 255 * labels.view(-1, 1, 1, 1)) / 2).byte()
    optimizer = build_optimizer(net, Experiment().optimizer)
    set_rate(optimizer, 1.0)
    settings = TrainConfig(label_smoothing=0, precision="bfloat16")
    losses = [float(train_step(net, optimizer, pixels, labels, config=settings)[0]) for _ in range(40)]
    assert losses[-1] < losses[0] / 2
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(
    "tune", ["head", pytest.param("full", marks=pytest.mark.slow), pytest.param("adapter", marks=pytest.mark.slow)]
)
def test_a_backbone_learns_to_tell_bright_from_dark(toy: Dataset, published: Path, tune: str):
    """Of unchanged pictures, so that the losses of two epochs can be compared."""
    chosen = experiment(published, tune, ema=None)
    chosen = chosen.model_copy(
        update={
            "augment": AugmentConfig(crop=0, zoom=0, flip=False, erase=0, color=0, mixup=0, cutmix=0),
            "train": chosen.train.model_copy(update={"epochs": 8}),
        }
    )
    history = run_fit(chosen, learner_of(chosen, toy)).history
    losses = [record.train_loss for record in history]
    assert max(losses) < 1.05 * losses[0]  # no leap on the way
    assert losses[-1] < 0.9 * losses[0]
    assert history[-1].val_accuracy > 0.9
