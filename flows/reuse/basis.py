"""What a run's results depend on beside its settings, looked at: pixels, parts, device, libraries, code."""

import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data import digests
from data.images import cache_key
from data.prepare import Dataset
from data.shards.stream import Streamed
from flows.reuse import code
from flows.reuse.keys import Basis
from models.config import Experiment
from models.training.nodes import several_nodes
from models.zoo.config_pretrained import PretrainedConfig


def basis_of(experiment: Experiment, dataset: Dataset, home: Path) -> Basis:
    from flows.service import variant_here  # onnxruntime
    from models.device import choose_device, multiplies_bfloat16  # torch: seconds

    device, precision = choose_device(experiment.train.devices), experiment.train.precision
    return Basis(
        pictures=digest_of(dataset),
        name=dataset.images.snapshot.name,
        device=device.type,
        bfloat16=precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device)),
        torch=".".join(version("torch").split(".")[:2]),
        code=code.digests(),
        timm=timm_for(experiment),
        nodes=os.environ.get("PET_NNODES", "") if several_nodes() else None,
        weights=weights_of(experiment, home),
        variant=variant_here(),
    )


def digest_of(dataset: Dataset) -> str:
    """sha256 (hex) of all that stages see of the pictures. The parts are in it, because a home remembers them: a
    picture keeps its part when a data set grows, so the same pictures may be split otherwise elsewhere."""
    images, split = dataset.images, dataset.split
    said = [cache_key(images.snapshot, images.spec), images.snapshot.fingerprint, images.snapshot.mirror]
    digest = hashlib.sha256(json.dumps(said).encode())
    if isinstance(images.pixels, Streamed):  # which order they are trained in depends on where they lie
        digest.update(images.pixels.shards.astype("<i8").tobytes())
    for rows in (images.rows, split.train, split.val, split.test):
        digest.update(f"{len(rows)};".encode())
        digest.update(rows.astype("<i8").tobytes())
    return digest.hexdigest()


def timm_for(experiment: Experiment) -> str | None:
    """Its version, where it is needed. torchvision's goes with torch's."""
    if not (isinstance(experiment.model, PretrainedConfig) and experiment.model.backbone.startswith("timm/")):
        return None
    try:
        return version("timm")
    except PackageNotFoundError:  # refused where the network is built
        return None


def weights_of(experiment: Experiment, home: Path) -> str | None:
    """Of a file that the user names; the libraries' own have fixed contents."""
    given = experiment.model.weights if isinstance(experiment.model, PretrainedConfig) else None
    file = Path(given).expanduser() if given is not None else None
    return digests.of_file(file, home) if file is not None and file.is_file() else None
