"""Backbones of timm, an optional extra; without it, the sentence that names it."""

import importlib.util
from pathlib import Path

import pytest
import torch

from data.errors import InputError
from data.spec import ImageSpec
from models.bundle.graph import calibrated, to_onnx
from models.records import PixelStatistics
from models.training.norms import with_shared_norms
from models.zoo.adapter import adapters, merge
from models.zoo.build import build, load_published, published_statistics
from models.zoo.config_pretrained import PretrainedConfig

installed = importlib.util.find_spec("timm") is not None
needs_timm = pytest.mark.skipif(not installed, reason="timm is an optional extra")
IMAGE = ImageSpec(height=64, width=64)
HALF = PixelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
VIT = "timm/vit_tiny_patch16_224"


@pytest.mark.skipif(installed, reason="timm is installed")
def test_without_timm_the_extra_is_named():
    with pytest.raises(InputError, match=r"needs the package timm.*pip install 'trainserve\[timm\]'"):
        published_statistics(PretrainedConfig(backbone=VIT))


@needs_timm
def test_the_statistics_are_those_of_the_weights():
    assert published_statistics(PretrainedConfig(backbone=VIT)) == HALF


@needs_timm
@pytest.mark.parametrize("name", ["timm/resnet81", "timm/resnet18.nobody"])
def test_an_unknown_name_or_tag_names_the_nearest(name: str):
    with pytest.raises(InputError, match=r"is not known; did you mean .*timm/resnet18"):
        published_statistics(PretrainedConfig(backbone=name))


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("tune", ["head", "adapter"])
def test_a_transformer_takes_its_weights_at_another_size_and_exports(tmp_path: Path, tune: str):
    import timm

    torch.manual_seed(7)
    file = tmp_path / "vit.pth"
    theirs = timm.create_model("vit_tiny_patch16_224")
    torch.save(theirs.state_dict(), file)
    net = build(PretrainedConfig(backbone=VIT, weights=str(file), tune=tune), IMAGE, HALF, 3)
    load_published(net)
    own = merge(net).state_dict()
    assert torch.equal(own["1.net.blocks.3.attn.qkv.weight"], theirs.state_dict()["blocks.3.attn.qkv.weight"])
    assert own["1.net.pos_embed"].shape[1] == 4 * 4 + 1
    assert not list(adapters(net))
    to_onnx(calibrated(net, 1.0), IMAGE, tolerance=1e-4)


@needs_timm
def test_a_file_of_another_network_is_refused(tmp_path: Path):
    torch.save({"stem.weight": torch.zeros(3)}, tmp_path / "other.pth")
    net = build(PretrainedConfig(backbone="timm/resnet10t", weights=str(tmp_path / "other.pth")), IMAGE, HALF, 3)
    with pytest.raises(InputError, match=r"other\.pth does not fit model\.backbone timm/resnet10t"):
        load_published(net)


@needs_timm
def test_several_processes_share_its_norms_with_their_activations():
    """In evaluation, which needs no others: the network must answer as before."""
    torch.manual_seed(0)
    net = build(PretrainedConfig(backbone="timm/densenet121"), IMAGE, HALF, 3).eval()
    pixels = torch.randint(0, 256, (2, 64, 64, 3)).byte()
    torch.nn.init.normal_(net[1].head.weight)
    with torch.no_grad():
        expected = net(pixels)
        names = list(net.state_dict())
        torch.testing.assert_close(with_shared_norms(net)(pixels), expected, rtol=1e-4, atol=1e-4)
    assert list(net.state_dict()) == names
