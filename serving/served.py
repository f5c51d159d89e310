"""One model, ready to answer: verified, opened, replayed and warmed, or refused in one sentence."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.spec import Frozen, ImageSpec
from models.bundle import session
from models.bundle.bundle import Bundle
from models.cards import Outliers
from serving import store, trust, writers
from serving.pace import REACH, Pace
from serving.refs import ModelRef
from serving.settings import Settings

Open = Callable[[Path, Settings], Bundle]

logger = logging.getLogger("trainserve.served")


@dataclass(frozen=True, eq=False)
class Served:
    """Whoever holds it may use it; it is freed when nobody does."""

    ref: ModelRef
    name: str  # str(ref), asked for in every request
    bundle: Bundle
    since: str  # ISO 8601, UTC
    pace: Pace
    strange: Outliers | None = None  # what is known of energies; None: it is not asked for them

    def ask(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """pixels u8 (N, H, W, C) -> (N, K), and the energies (N,) where they say something."""
        if self.strange is None:
            return self.bundle.predict(pixels), None
        return self.bundle.predict_with_energy(pixels)


class Refused(Frozen):
    """A model that did not get into service."""

    model: str
    reason: str  # one sentence, without paths
    when: str


class RefusedError(InputError):
    """It cannot answer. The message is the reason, without paths."""


def opened(folder: Path, settings: Settings, *, gpu: int | None = None) -> Bundle:
    known = trust.signers(settings)
    bundle = Bundle.open(folder, threads=settings.threads, gpu=gpu, signers=known, variant=settings.variant)
    if bundle.card.variants:
        logger.info("%s@%s answers with %s: %s", bundle.card.name, bundle.card.version, bundle.variant, bundle.why)
    if gpu is not None and bundle.provider != session.CUDA:
        logger.error(
            "%s@%s answers on the processor: onnxruntime cannot use GPU %d; install an onnxruntime-gpu that fits its "
            "driver, CUDA and cuDNN, or set TRAINSERVE_GPUS=0",
            *(bundle.card.name, bundle.card.version, gpu),
        )
    return bundle


def serve(ref: ModelRef, settings: Settings, *, open_: Open = opened) -> Served:
    """Seconds of work, in the thread that asks. Raises `RefusedError`."""
    folder = store.home() / "models" / ref.name / ref.version / "bundle"
    try:
        _require_ours(ref, settings)
        _require_size(store.path(ref), settings.max_model_bytes)
        bundle = open_(store.path(ref), settings)
        _require_identity(bundle, ref)
        pace = _warmed(bundle, settings.max_batch)
        _require_speed(bundle, settings.max_answer_s)
    except Exception as error:  # noqa: BLE001 - a candidate may fail in any way; the one in service goes on
        raise RefusedError(_reason(error).replace(str(folder), "the bundle")) from None
    strange = bundle.card.outliers if bundle.has_energy else None
    return Served(ref=ref, name=str(ref), bundle=bundle, since=now(), pace=pace, strange=strange)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _require_ours(ref: ModelRef, settings: Settings) -> None:
    """A graph is a program: only who may run one as this user may have written it, or chosen it.

    Up to the store's own folder; what somebody puts in the place of that belongs to him, and is refused for it.
    """
    trusted = writers.trusted(settings.writers)
    if trusted is None:
        return
    home, bundle = store.home(), store.path(ref)
    alias = store.alias_path(ref.name)
    stored = [*bundle.rglob("*"), *writers.upwards(bundle, home), *writers.upwards(alias, home)]
    believed = {path: f"{path.relative_to(home)} in the store" for path in stored} | {home: "the store's folder"}
    if settings.signers is not None:
        believed[settings.signers] = f"the signers' file {settings.signers.name}"
    if settings.sigstore_root is not None:
        believed[settings.sigstore_root] = f"sigstore's root of trust {settings.sigstore_root.name}"
    for path, called in believed.items():
        if path.exists() and (how := writers.stranger(path.stat(), trusted)):
            raise InputError(
                f"{called} {how}; `chown` or `chmod -R go-w` it, or name who may write it in TRAINSERVE_WRITERS"
            )


def _require_identity(bundle: Bundle, ref: ModelRef) -> None:
    if (bundle.card.name, bundle.card.version) != (ref.name, ref.version):
        raise InputError(f"its card says {bundle.card.name}@{bundle.card.version}; store the bundle again")


def _warmed(bundle: Bundle, max_batch: int) -> Pace:
    """The first batch of a size is slower; let it not be a request's. The second tells its pace.

    Those that would not be used are left out: on a processor they take seconds.
    """
    pace = Pace(max_batch)
    for size in pace.sizes:
        pixels = _blank(size, bundle.card.image)
        if not np.isfinite(bundle.predict(pixels)).all():
            raise InputError("it answers with numbers that are not finite; train it again")
        begun = time.perf_counter()
        bundle.predict(pixels)
        pace.note(size, time.perf_counter() - begun)
        if size >= REACH * pace.best:
            break
    return pace


def _require_size(folder: Path, most: int) -> None:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > most:
        raise InputError(
            f"it has {size:,} bytes, more than TRAINSERVE_MAX_MODEL_BYTES={most}; raise that, or shrink it"
        )


def _require_speed(bundle: Bundle, most_s: float) -> None:
    """Once warm."""
    begun = time.perf_counter()
    bundle.predict(_blank(1, bundle.card.image))
    took = time.perf_counter() - begun
    if took > most_s:
        raise InputError(
            f"it takes {took:.1f} s for one picture, more than TRAINSERVE_MAX_ANSWER_S={most_s:g}; "
            "raise that, or train a smaller network"
        )


def _blank(pictures: int, image: ImageSpec) -> np.ndarray:
    return np.zeros((pictures, image.height, image.width, image.channels), dtype=np.uint8)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"it cannot be opened ({type(error).__name__})"
