"""What the two Transformers share, with every kind of attention in them."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from data.spec import ImageSpec
from models.bundle.graph import calibrated, to_onnx
from models.records import PixelStatistics
from models.zoo.build import build
from models.zoo.config_transformer import (
    AttentionConfig,
    ClusteredAttention,
    ConvViTConfig,
    FullAttention,
    GlobalAttention,
    LinearAttention,
    LinformerAttention,
    LocalAttention,
    SinkhornAttention,
    StridedAttention,
    SynthesizerAttention,
    ViTConfig,
)
from models.zoo.conv_vit import ConvViT, plan
from models.zoo.transformer import SequencePool, Transformer, waves
from models.zoo.vit import ViT

ATTENTIONS: list[AttentionConfig] = [
    FullAttention(),
    LocalAttention(window=3),
    StridedAttention(),
    GlobalAttention(tokens=2),
    ClusteredAttention(),
    SinkhornAttention(),
    LinformerAttention(rank=4),
    LinearAttention(),
    LinearAttention(feature_map="random", features=16),
    SynthesizerAttention(),
    SynthesizerAttention(form="random"),
]
IMAGE = ImageSpec(height=16, width=24, channels=3)
STATISTICS = PixelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)


def name_of(config: object) -> str:
    return "-".join(str(getattr(config, key)) for key in ("kind", "form", "feature_map") if hasattr(config, key))


def vit(**settings: object) -> ViTConfig:
    return ViTConfig(**{"patch": 4, "dim": 16, "depth": 2, "heads": 2} | settings)


def pictures(num: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, IMAGE.height, IMAGE.width, 3), generator=generator).byte()


def network(config: ViTConfig | ConvViTConfig, num_classes: int = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(config, IMAGE, STATISTICS, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTIONS, ids=name_of)
def test_every_attention_learns_32_pictures_by_heart(attention: AttentionConfig):
    net, pixels, labels = network(vit(attention=attention, dim=32)), pictures(32), torch.arange(32) % 4
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=0)
    for step in range(100):
        logits = net(pixels)
        if step == 0:
            assert F.cross_entropy(logits, labels).item() == pytest.approx(1.386, rel=0.1)
        if bool((logits.argmax(1) == labels).all()):
            return
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    pytest.fail(f"{int((logits.argmax(1) == labels).sum())} of 32 after {step} steps")


@pytest.mark.parametrize("attention", ATTENTIONS, ids=name_of)
def test_every_weight_learns(attention: AttentionConfig):
    net = network(vit(attention=attention, pool="sequence"))
    F.cross_entropy(net(pictures(8)), torch.arange(8) % 4).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("attention", ATTENTIONS, ids=name_of)
@pytest.mark.parametrize("pool", ["mean", "token"])
def test_a_picture_is_answered_alike_alone_and_in_a_batch(attention: AttentionConfig, pool: str):
    net, pixels = network(vit(attention=attention, pool=pool)).eval(), pictures(3)
    torch.testing.assert_close(net(pixels)[1:2], net(pixels[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTIONS, ids=name_of)
@pytest.mark.parametrize("pool", ["mean", "token"])
def test_every_attention_is_exported(attention: AttentionConfig, pool: str):
    net = network(vit(attention=attention, pool=pool))
    to_onnx(calibrated(net, 1.0), IMAGE, tolerance=1e-4)  # compares the answers to 1, 3 and 8 pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        vit(position="rotary", pool="sequence"),
        vit(position="sinusoidal", attention=LocalAttention()),
        ConvViTConfig(dim=16, depth=2, heads=2),
        ConvViTConfig(dim=16, depth=2, heads=2, pool="token", position="rotary", attention=StridedAttention()),
    ],
    ids=["rotary", "sinusoidal", "convolutions", "convolutions and a class token"],
)
def test_positions_pools_and_convolutions_are_exported(config: ViTConfig | ConvViTConfig):
    to_onnx(calibrated(network(config), 1.0), IMAGE, tolerance=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("attention", ATTENTIONS, ids=name_of)
def test_a_gpu_learns_in_bfloat16(attention: AttentionConfig):
    net = network(vit(attention=attention)).cuda().train()
    pixels, labels = pictures(32).cuda(), (torch.arange(32) % 4).cuda()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(20):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def shuffled(pixels: Tensor) -> Tensor:
    """Patches of 4 x 4 in another order."""
    tiles = pixels.unfold(1, 4, 4).unfold(2, 4, 4).flatten(1, 2)  # (B, 24, 3, 4, 4)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    rows = tiles[:, order].view(-1, 4, 6, 3, 4, 4)
    return rows.permute(0, 1, 4, 2, 5, 3).reshape(pixels.shape)


@pytest.mark.parametrize("pool", ["mean", "token", "sequence"])
@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "rotary"])
def test_without_positions_the_order_of_patches_does_not_matter(position: str, pool: str):
    net = network(vit(position=position, pool=pool, heads=2)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        alike = torch.allclose(net(pictures(4)), net(shuffled(pictures(4))), atol=1e-4)
    assert alike == (position == "none")


@pytest.mark.parametrize("attention", ATTENTIONS, ids=name_of)
def test_a_batch_may_be_empty(attention: AttentionConfig):
    """As a process's share of a small one."""
    logits = network(vit(attention=attention)).train()(pictures(0))
    assert logits.shape == (0, 4)
    logits.sum().backward()


def test_sinusoidal_positions_are_no_weights():
    assert "positions" in dict(Transformer(vit(), 2, 2, 3).named_parameters())
    assert "positions" not in Transformer(vit(position="sinusoidal"), 2, 2, 3).state_dict()


def test_a_sequence_pool_is_a_mean_that_the_tokens_weigh():
    pool, x = SequencePool(3), torch.randn(2, 5, 3)
    torch.testing.assert_close(pool(x), x.mean(1))
    torch.nn.init.normal_(pool.weigh.weight)
    weights = torch.einsum("bnd,d->bn", x, pool.weigh.weight[0]).softmax(1)
    torch.testing.assert_close(pool(x), torch.einsum("bn,bnd->bd", weights, x))


def test_special_tokens_are_not_in_the_mean():
    net = Transformer(vit(attention=GlobalAttention(tokens=3)), 2, 2, 4).eval()
    x = torch.randn(1, 7, 16)
    torch.testing.assert_close(net.pooled(x), x[:, 3:].mean(1))
    assert Transformer(vit(attention=GlobalAttention(tokens=3), pool="token"), 2, 2, 4).grid.extra == 4


@pytest.mark.parametrize("dim", [8, 16, 30])
def test_no_two_patches_start_at_the_same_position(dim: int):
    positions = waves(Transformer(vit(), 3, 8, 3).grid, dim=dim)
    assert positions.shape == (24, dim)
    assert torch.pdist(positions).min() > 0.1


def test_the_depth_at_which_a_block_stands_decides_how_often_it_is_skipped():
    for depth, expected in ((3, [0.1, 0.2, 0.3]), (1, [0.3])):
        net = ViT(ViTConfig(depth=depth, dim=16, stochastic_depth=0.3), IMAGE, 5)
        assert [block.skip.rate for block in net.transformer.blocks] == pytest.approx(expected)


def test_convolutions_halve_a_picture_until_it_is_small():
    assert plan(8, None) == [(1, False)]
    assert plan(28, None) == [(1, True)]
    assert plan(32, None) == [(1, True), (1, True)]
    assert plan(64, None) == [(2, True), (1, True)]
    assert plan(224, None) == [(2, True), (1, True), (1, True)]
    assert plan(8, 2) == [(1, True), (1, True)]


@pytest.mark.parametrize(
    ("height", "width", "grid"), [(8, 8, (8, 8)), (32, 32, (8, 8)), (33, 47, (9, 12)), (224, 224, (14, 14))]
)
def test_convolutions_leave_as_many_tokens_as_the_transformer_expects(height: int, width: int, grid: tuple[int, int]):
    net = ConvViT(ConvViTConfig(dim=16, depth=1, heads=2), ImageSpec(height=height, width=width, channels=1), 3)
    assert (net.transformer.grid.rows, net.transformer.grid.columns) == grid
    assert net.tokenizer(torch.zeros(1, 1, height, width)).shape == (1, 16, *grid)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"position": "rotary", "dim": 12, "heads": 2},
            "heads 2 gives 6; use a dim that is a multiple of 8",
        ),
        ({"position": "rotary", "attention": LinearAttention()}, "which attention linear does not compare"),
        ({"position": "rotary", "attention": SynthesizerAttention()}, "which attention synthesizer does not compare"),
        ({"attention": {"kind": "local", "window": 6}}, "window 6 has no centre; use 5 or 7"),
        ({"dim": 10, "heads": 4}, "heads 4 does not divide dim 10"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_go_together_is_refused(settings: dict[str, object], sentence: str):
    with pytest.raises(ValidationError, match=sentence):
        ViTConfig(**settings)
