"""Weights in files: fetched once and whole, checked, never run, and fitted exactly or refused with one sentence."""

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VisionTransformer

from data.download import Patience
from data.errors import DownloadError, InputError
from data.spec import ImageSpec
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.pretrained import plain_weights
from models.zoo.weights import Tensors, fetch, fitted, read

QUICK = Patience(attempts=2, first_wait_s=0.01, longest_wait_s=0.02, silence_s=1.0)


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [("body", nn.Conv2d(3, 4, 3)), ("norm", nn.BatchNorm2d(4)), ("head", nn.Linear(4, 9))]
    return nn.Sequential(OrderedDict(parts))


def tensors() -> Tensors:
    return network().state_dict()


def content() -> bytes:
    file = io.BytesIO()
    torch.save(tensors(), file)
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Sends `content`, or its beginning before it hangs up."""

    daemon_threads = True
    content, breaks_after, asked = b"", None, 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.breaks_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.content = content()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server: Server, digest: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/tiny-{digest[:8]}.pth"


def test_weights_are_fetched_once_and_kept_under_their_name(server: Server, tmp_path: Path):
    url = address(server, hashlib.sha256(server.content).hexdigest())
    file = fetch(url, folder=tmp_path, patience=QUICK)
    assert file == tmp_path / url.rpartition("/")[2]
    assert read(file).keys() == tensors().keys()
    assert fetch(url, folder=tmp_path, patience=QUICK) == file
    assert server.asked == 1


def test_a_download_that_is_not_what_its_name_promises_is_refused_and_removed(server: Server, tmp_path: Path):
    with pytest.raises(InputError, match=r"its name promises 00000000"):
        fetch(address(server, "0" * 8), folder=tmp_path, patience=QUICK)
    assert not list(tmp_path.glob("*.pth"))


def test_a_broken_connection_leaves_nothing_and_says_which_file_to_put_where(server: Server, tmp_path: Path):
    server.breaks_after = 100
    url = address(server, "0" * 8)
    with pytest.raises(DownloadError) as caught:
        fetch(url, folder=tmp_path, patience=QUICK)
    assert url in str(caught.value)
    assert f"put the file at {tmp_path / 'tiny-00000000.pth'}" in str(caught.value)
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("name", ["published-deadbeef.pth", "published-deadbeef.safetensors"])
def test_a_file_is_checked_by_the_digest_in_its_name(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(content())
    with pytest.raises(InputError, match=r"has sha256 [0-9a-f]{12}\.\.\., and its name promises deadbeef"):
        read(tmp_path / name)


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path: Path):
    class Code:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"body.weight": Code()}, tmp_path / "bomb.pth")
    with pytest.raises(InputError, match=r"bomb\.pth hold more than tensors, which could run code"):
        read(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"not weights", content()[:500]], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, name: str, damage: bytes):
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(InputError, match=rf"{name} are damaged"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights-deadbeef.pth"])
def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path, name: str):
    (tmp_path / name).symlink_to("/proc/self/mem")  # a file whose reading fails, also for root
    with pytest.raises(InputError, match=rf"{name} cannot be read \(Input/output error\); let this user read them"):
        read(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_file_that_this_user_may_not_read_is_a_sentence(tmp_path: Path, kind: str):
    file = tmp_path / f"weights.{kind}"
    file.write_bytes(content())
    file.chmod(0)
    with pytest.raises(InputError, match=rf"weights\.{kind} cannot be read \(Permission denied\)"):
        read(file)


@pytest.mark.parametrize("given", [f"/{'long' * 99}.pth", "~nobody-of-that-name/weights.pth"])
def test_a_name_that_no_file_can_have_is_a_sentence(given: str):
    with pytest.raises(InputError, match=r"cannot be read \(.+\); let this user read them, or give another file"):
        plain_weights(PretrainedConfig(backbone="squeezenet1_1", weights=given), ImageSpec(height=32, width=32), 2)


def test_a_missing_file_and_one_of_other_things_are_refused(tmp_path: Path):
    config = PretrainedConfig(backbone="squeezenet1_1", weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(InputError, match=r"nowhere\.pth is not a file"):
        plain_weights(config, ImageSpec(height=32, width=32), 2)
    config = PretrainedConfig(backbone="squeezenet1_1", weights="imagenet1k_v9")
    with pytest.raises(InputError, match=r"'imagenet1k_v9' is no file, .* did you mean IMAGENET1K_V1\? use one of"):
        plain_weights(config, ImageSpec(height=32, width=32), 2)
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="no mapping of names to tensors"):
        read(tmp_path / "other.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_tensors_are_read_from_either_format_and_from_training_checkpoints(tmp_path: Path, kind: str, wrapper):
    file = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(tensors(), file)
    else:
        torch.save(tensors() if wrapper is None else {wrapper: tensors(), "epoch": 3}, file)
    found = fitted(network(), read(file), head="head", side=8, told="it does not fit")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors().items() if not name.startswith("head"))


def fit_with(change: object) -> None:
    given = tensors()
    change(given)
    fitted(network(), given, head="head", side=8, told="x.pth does not fit model.backbone tiny")


def test_tensors_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"its body.weight is 4 x 3 x 1 x 1, where 4 x 3 x 3 x 3 is needed; give"):
        fit_with(lambda given: given.update({"body.weight": torch.zeros(4, 3, 1, 1)}))
    with pytest.raises(InputError, match=r"it lacks body.bias and 1 more; give"):
        fit_with(lambda given: [given.pop("body.bias"), given.pop("norm.weight")])
    with pytest.raises(InputError, match=r"the backbone has no layer5.weight; give"):
        fit_with(lambda given: given.update({"layer5.weight": torch.zeros(2)}))


def test_the_head_of_other_classes_does_not_matter():
    fit_with(lambda given: given.update({"head.weight": torch.zeros(1000, 4)}))
    fit_with(lambda given: given.pop("head.bias"))


def transformer(side: int) -> VisionTransformer:
    return VisionTransformer(side, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3)


def test_positions_are_interpolated_for_pictures_of_another_size():
    given = transformer(32).state_dict()
    given["encoder.pos_embedding"] = torch.ones(1, 17, 8)
    found = fitted(transformer(16), given, head="heads.head", side=16, told="it does not fit")
    torch.testing.assert_close(found["encoder.pos_embedding"], torch.ones(1, 5, 8))


@pytest.mark.parametrize("shape", [(1, 51, 8), (2, 17, 8), (1, 1, 8), (1, 0, 8), (1, 17, 4), (17, 8)], ids=str)
def test_positions_of_no_square_are_named(shape: tuple[int, ...]):
    given = transformer(32).state_dict()
    given["encoder.pos_embedding"] = torch.ones(shape)
    told = " x ".join(map(str, shape if shape[2:] != (4,) else (1, 5, 4)))
    with pytest.raises(InputError, match=rf"its encoder.pos_embedding is {told}, where 1 x 5 x 8 is needed; give"):
        fitted(transformer(16), given, head="heads.head", side=16, told="it does not fit")
