"""Weights in files: fetched once, checked by the sha256 in their name, read without running code, fitted exactly."""

import hashlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from data.download import Patience, download
from data.errors import DownloadError, InputError

Tensors = OrderedDict[str, Tensor]
"""In files of torch it carries the versions of the modules, as `_metadata`."""

DIGEST = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")  # torchvision's names end so: resnet18-f37072fd.pth
WRAPPERS = ("state_dict", "model")  # under which training scripts put the weights
SIDE_HEADS = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception: used in their training alone
REFUSED = ("GLOBAL ", "Trying to")  # how torch begins to say that a file asks for more than tensors


def fetch(url: str, *, folder: Path | None = None, patience: Patience | None = None) -> Path:
    """The file behind `url`, in torch's own cache unless told otherwise. Raises `InputError`."""
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / Path(urlsplit(url).path).name
    if target.exists():
        return target  # `read` checks it
    try:
        download(url, target, patience=patience)
    except OSError as error:
        raise DownloadError(
            f"the weights cannot be kept in {folder} ({error.strerror}); set TORCH_HOME to a folder you own"
        ) from None
    try:
        check_digest(target)
    except InputError:
        target.unlink()  # the next try fetches it anew
        raise
    return target


def check_digest(file: Path) -> None:
    """A name with a digest promises its content. Raises `InputError`."""
    promised = DIGEST.search(file.name)
    if promised is None:
        return
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not digest.startswith(promised[1]):
        raise InputError(
            f"{file} has sha256 {digest[:12]}..., and its name promises {promised[1]}...; "
            "it is damaged or another file: remove it and fetch it again"
        )


def read(file: Path) -> Tensors:
    """Name -> tensor, on the CPU. Raises `InputError` for what is not there or not to be read, damaged, or more than
    tensors."""
    try:
        if not file.is_file():
            raise InputError(f"model.weights {file} is not a file; give a .safetensors or .pth file, or none")
        with file.open("rb") as opened:
            opened.read(1)  # of a file that it may not read, safetensors says that there is none
        check_digest(file)
        if file.suffix == ".safetensors":
            content: Any = OrderedDict(load_file(file))
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(words in str(error) for words in REFUSED):
            raise InputError(
                f"the weights {file} hold more than tensors, which could run code, and were not loaded; "
                "use a .safetensors file"
            ) from None
        raise InputError(f"the weights {file} are damaged, or no weights; fetch them again") from None
    except OSError as error:
        raise unreadable(file, error) from None
    except InputError:
        raise
    except Exception:  # noqa: BLE001 - a hostile file may break a parser anywhere
        raise InputError(f"the weights {file} are damaged, or no weights; fetch them again") from None
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"the weights {file} are no mapping of names to tensors; give a backbone's state_dict")
    return content if isinstance(content, OrderedDict) else OrderedDict(content)


def unreadable(file: Path | str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"the weights {file} cannot be read ({reason}); let this user read them, or give another file")


def fitted(twin: nn.Module, tensors: Tensors, *, head: str, side: int, told: str) -> dict[str, Tensor]:
    """A torchvision network's weights from `tensors`, all but the head's, under the names of today.

    twin: a network without adapters, which is used up. told: how messages begin.
    Raises `InputError` that names the first tensor that is missing, too many, or of another shape.
    """
    tensors = _modern(twin, tensors, side=side)
    for name in [name for name in tensors if name.startswith(f"{head}.")]:
        del tensors[name]
    for name, own in twin.state_dict().items():
        if name in tensors and tensors[name].shape != own.shape:
            raise _unfit(told, f"its {name} is {shape(tensors[name])}, where {shape(own)} is needed")
    try:
        result = twin.load_state_dict(tensors, strict=False, assign=True)
    except (RuntimeError, ValueError) as error:
        raise _unfit(told, str(error).strip().splitlines()[-1].strip().rstrip(".")) from None
    missing = [n for n in result.missing_keys if not n.startswith(f"{head}.") and not n.endswith("num_batches_tracked")]
    if missing:
        raise _unfit(told, f"it lacks {missing[0]}{_more(missing)}")
    surplus = [name for name in result.unexpected_keys if not name.startswith(SIDE_HEADS)]
    if surplus:
        raise _unfit(told, f"the backbone has no {surplus[0]}{_more(surplus)}")
    return {name: tensor for name, tensor in twin.state_dict().items() if not name.startswith(f"{head}.")}


def _modern(twin: nn.Module, tensors: Tensors, *, side: int) -> Tensors:
    """What torchvision does to its own files: DenseNet's old names, and positions for pictures of another size."""
    renamed: Tensors = OrderedDict()
    old = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
    for name, tensor in tensors.items():
        renamed[old.sub(r"\1\2", name)] = tensor
    versions = getattr(tensors, "_metadata", None)
    if versions is None and type(twin).__name__ == "MNASNet":  # which alone refuses tensors without a version
        versions = getattr(twin.state_dict(), "_metadata", None)
    positions = renamed.get("encoder.pos_embedding")
    if positions is not None and positions.ndim == 3 and hasattr(twin, "patch_size"):
        from torchvision.models.vision_transformer import interpolate_embeddings

        with suppress(ValueError, RuntimeError):  # those that are no square stay as they are, which is refused
            renamed = interpolate_embeddings(side, twin.patch_size, renamed)
    if versions is not None:
        renamed._metadata = versions  # type: ignore[attr-defined]
    return renamed


def shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _more(names: Iterable[str]) -> str:
    others = len(list(names)) - 1
    return f" and {others} more" if others else ""


def _unfit(told: str, what: str) -> InputError:
    return InputError(f"{told}: {what}; give the weights of that backbone, or name the backbone they are of")
