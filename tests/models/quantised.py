"""A toy bundle with graphs in fewer bits, and a clock that says how fast they are."""

from functools import partial
from pathlib import Path

import numpy as np

from data.images import Images
from data.split import Split
from models.bundle import faster
from models.bundle.export import write_bundle
from models.bundle.faster import Clock
from models.bundle.proving import Rehearse
from models.bundle.shown import Sight, sight
from models.config import ExportConfig, ReleaseConfig
from tests.models.bundles import Tiny, toy_result

ANY_CLASS = ReleaseConfig(class_margin=1.0)
LENIENT = ExportConfig(quantize="both", quantize_margin=0.9, minutes=1)


def clock(times_as_fast: float) -> Clock:
    return lambda *_: (1.0, times_as_fast)


def parts(images: Images) -> Split:
    rows = np.arange(len(images.rows))
    return Split(train=rows[::2], val=rows[1::4], test=rows[3::4])


def seen(images: Images) -> Sight:
    return sight(images, parts(images))


def bundle_in_fewer_bits(
    target: Path,
    images: Images,
    *,
    config: ExportConfig = LENIENT,
    fast: float = 2.0,
    rehearse: Rehearse | None = None,
) -> Path:
    make = partial(faster.made, sight=seen(images), config=config, release=ANY_CLASS, clock=clock(fast))
    return write_bundle(
        target,
        network=Tiny().eval(),
        result=toy_result(),
        images=images,
        test=parts(images).test,
        make=make,
        rehearse=rehearse,
    )
