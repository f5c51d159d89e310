"""What Prometheus reads at /metrics. Labels have few values: a path or name from outside is never one of them.

With several workers `serving.service` sets PROMETHEUS_MULTIPROC_DIR before this module is imported,
prometheus_client keeps its numbers in files there, and /metrics adds up those of all workers, whichever answers.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, multiprocess
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_REGISTRY = CollectorRegistry()

REQUESTS = Counter(
    "trainserve_requests",
    "Requests; outcome is answered, refused (what the sender can mend, or wait for) or failed",
    ["route", "status", "name", "version", "outcome"],
    registry=_REGISTRY,
)
REFUSALS = Counter("trainserve_refusals", "Requests refused or failed", ["route", "reason"], registry=_REGISTRY)
LATENCY = Histogram(
    "trainserve_request_seconds", "From the first byte to the answer", ["route"], buckets=_SECONDS, registry=_REGISTRY
)
DECODE = Histogram(
    "trainserve_decode_seconds", "Decoding the pictures of a request", buckets=_SECONDS, registry=_REGISTRY
)
QUEUE = Histogram(
    "trainserve_queue_seconds", "A request, decoded, waiting for the model", buckets=_SECONDS, registry=_REGISTRY
)
INFERENCE = Histogram("trainserve_inference_seconds", "The model, one batch", buckets=_SECONDS, registry=_REGISTRY)
BATCH = Histogram(
    "trainserve_batch_pictures", "Pictures in a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=_REGISTRY
)
UNSURE = Counter(
    "trainserve_unsure_pictures",
    "Pictures of /predict and /predict_batch whose answer the model is not sure of, by its threshold",
    ["name", "version"],
    registry=_REGISTRY,
)
WAITING = Gauge(
    "trainserve_waiting_pictures",
    "Pictures let in and not answered yet",
    multiprocess_mode="livesum",
    registry=_REGISTRY,
)
READY = Gauge(
    "trainserve_ready",
    "Workers that serve a model of this name",
    ["name"],
    multiprocess_mode="livesum",
    registry=_REGISTRY,
)
SWAPS = Counter("trainserve_swaps", "Models taken into service, by a worker", ["name"], registry=_REGISTRY)
REFUSED = Counter("trainserve_refused_models", "Models that were refused, by a worker", ["name"], registry=_REGISTRY)
TRYING = Gauge(
    "trainserve_trials",
    "Workers that have a version of this name on trial",
    ["name"],
    multiprocess_mode="livesum",
    registry=_REGISTRY,
)
TRIED = Counter(
    "trainserve_trial_answers",
    "Requests that a version on trial answered, or failed to",
    ["name", "version", "outcome"],
    registry=_REGISTRY,
)
COMPARED = Counter(
    "trainserve_trial_compared_pictures",
    "Pictures that champion and version on trial both answered",
    ["name", "version"],
    registry=_REGISTRY,
)
DIFFERED = Counter(
    "trainserve_trial_differed_pictures", "Of these, those labelled otherwise", ["name", "version"], registry=_REGISTRY
)
WITHDRAWN = Counter(
    "trainserve_withdrawn_trials", "Trials that the service ended itself, by a worker", ["name"], registry=_REGISTRY
)
KEYS = Counter("trainserve_key_requests", "Requests that came with a key, by its name", ["key"], registry=_REGISTRY)


def text() -> bytes:
    """All workers' figures in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_REGISTRY)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    _forget_dead_workers(folder)
    everyone = CollectorRegistry()
    everyone.register(_Everyone(folder))
    return generate_latest(everyone)


class _Everyone(Collector):
    """prometheus_client's own fails at the empty file that a worker has just made, before it holds its first figure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if _size(file)]
        return multiprocess.MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-any-return,no-untyped-call]


def _size(file: Path) -> int:
    """0 where another worker has just removed it."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _forget_dead_workers(folder: Path) -> None:
    """Their counts stay; what they held when they were killed does not."""
    for file in folder.glob("gauge_live*_*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except OSError:  # there is none of that number, or it is somebody else's by now
            with suppress(FileNotFoundError):  # another worker was asked at the same time
                multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]
