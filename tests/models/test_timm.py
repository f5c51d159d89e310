"""Backbones of timm, an optional extra; without it, the sentence that names it."""

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.errors import InputError
from data.spec import ImageSpec
from models.bundle.graph import calibrated, to_onnx
from models.records import PixelStatistics
from models.training.norms import with_shared_norms
from models.zoo.adapter import adapters, merge
from models.zoo.build import build, load_published, published_statistics
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.pretrained import plain_weights

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


@pytest.fixture(scope="module")
def tiny_vit() -> dict[str, Tensor]:
    import timm

    return timm.create_model("vit_tiny_patch16_224").state_dict()


@pytest.mark.slow
@needs_timm
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("head.weight", ()),
        pytest.param("pos_embed", (), marks=pytest.mark.slow),
        pytest.param("pos_embed", (1, 51, 192), marks=pytest.mark.slow),
        pytest.param("patch_embed.proj.weight", (192, 3, 16, 16, 1), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_tensor_of_any_shape_is_a_sentence(
    tmp_path: Path, tiny_vit: dict[str, Tensor], name: str, shape: tuple[int, ...]
):
    torch.save({**tiny_vit, name: torch.zeros(shape)}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=rf"odd\.pth does not fit model\.backbone {VIT}: .+; give the weights of that"):
        plain_weights(PretrainedConfig(backbone=VIT, weights=str(tmp_path / "odd.pth")), IMAGE, 3)


@pytest.mark.slow
@needs_timm
def test_a_file_may_lack_the_head_and_nothing_else(tmp_path: Path, tiny_vit: dict[str, Tensor]):
    config = PretrainedConfig(backbone=VIT, weights=str(tmp_path / "body.pth"))
    body = {name: tensor for name, tensor in tiny_vit.items() if not name.startswith("head.")}
    torch.save(body, tmp_path / "body.pth")
    found = plain_weights(config, IMAGE, 3)
    assert torch.equal(found["blocks.11.mlp.fc2.weight"], body["blocks.11.mlp.fc2.weight"])
    del body["norm.bias"]
    torch.save(body, tmp_path / "body.pth")
    with pytest.raises(InputError, match=r"body\.pth does not fit .*Missing key.*norm\.bias"):
        plain_weights(config, IMAGE, 3)


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head"), [("swin_tiny_patch4_window7_224", "head."), ("deit_tiny_distilled_patch16_224", "head")]
)
def test_files_of_other_families_may_lack_their_heads_too(tmp_path: Path, name: str, head: str):
    import timm

    net, config = timm.create_model(name), PretrainedConfig(backbone=f"timm/{name}", weights=str(tmp_path / "body.pth"))
    body = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(head)}
    torch.save(body, tmp_path / "body.pth")
    found = plain_weights(config, ImageSpec(height=224, width=224), 3)
    assert [name for name, tensor in body.items() if not torch.equal(found[name], tensor)] == []


class HangsUp(BaseHTTPRequestHandler):
    """A hub that says how large the file is, and then hangs up."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "1000000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HangsUp)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


FETCHES = """
from data.spec import ImageSpec
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.pretrained import plain_weights
try:
    plain_weights(PretrainedConfig(backbone="timm/resnet10t"), ImageSpec(height=64, width=64), 3)
except Exception as error:
    print(type(error).__name__, error)
"""


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("reachable", [False, True], ids=["offline", "hangs up"])
def test_weights_that_do_not_arrive_are_a_sentence_with_the_file_to_fetch(hub: str, tmp_path: Path, reachable: bool):
    """In a process of its own: the hub's client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": hub} if reachable else {"HF_HUB_OFFLINE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", FETCHES],
        env={**os.environ, "HF_HOME": str(tmp_path), **settings},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert said.startswith("InputError timm could not load the weights of timm/resnet10t (")
    page = "https://huggingface.co/timm/resnet10t.c3_in1k/resolve/main/model.safetensors"
    assert said.endswith(
        f"; check the network and run again, or fetch {page} elsewhere and give the file with --model.weights"
    )


@pytest.mark.slow
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
