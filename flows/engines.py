"""Where folds and trials are computed: one after the other here, or as tasks on threads, processes, Dask or Ray.
Prefect and the clusters' packages are imported only once they are asked for."""

import multiprocessing
import os
import socket
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from data.errors import InputError
from data.spec import Frozen

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

Kind = Literal["plain", "threads", "processes", "dask", "ray"]
PACKAGES: dict[str, str] = {"dask": "prefect_dask", "ray": "prefect_ray"}
CLUSTERS = tuple(PACKAGES)
ANSWERS_S = 5.0
LITTLE = 100 * 2**20  # bytes, of Ray's shared memory: what passes through it is names of folders
ON_CLUSTER = 8  # given out at a time where nobody says how many workers a cluster has


class RunnerConfig(Frozen):
    """Where folds and trials are computed. Not part of an experiment: the results do not depend on it."""

    kind: Kind = Field(
        "plain",
        title="Engine",
        description="plain: one after the other; threads, processes: beside each other on this machine; dask, ray: on "
        "a cluster, whose machines share this one's disk",
    )
    address: str | None = Field(
        None,
        title="Address",
        description="of the cluster, such as tcp://10.0.0.1:8786 (Dask) or ray://10.0.0.1:10001 (Ray); without it one "
        "is started on this machine, and ends with the run",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        title="Workers",
        description="how many are computed at a time; by default one per GPU of this machine, or without one per "
        "two processor cores and at least two; 8 where the cluster has an address",
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.address is not None and self.kind not in CLUSTERS:
            raise ValueError(
                f"an address {self.address} is for an engine that has one; use engine dask or ray, or leave it out"
            )
        if self.workers is not None and self.kind == "plain":
            raise ValueError(
                f"engine plain computes one after the other, not {self.workers} at a time; use threads or processes"
            )
        return self


def require(config: RunnerConfig) -> None:
    """Before anything is started: the package is there, and the cluster answers. Raises `InputError`."""
    package = PACKAGES.get(config.kind)
    if package is not None and (find_spec(package) is None or find_spec(config.kind) is None):
        raise InputError(f"engine {config.kind} needs a package more; pip install 'trainserve[{config.kind}]'")
    if config.address is None or (config.address == "auto" and config.kind == "ray"):
        return
    where = urlsplit(config.address if "://" in config.address else f"//{config.address}")
    try:
        host, port = where.hostname, where.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise InputError(f"address {config.address!r} names no host and port; write such as tcp://10.0.0.1:8786")
    try:
        socket.create_connection((host, port), timeout=ANSWERS_S).close()
    except OSError as error:
        raise InputError(
            f"nothing answers at {config.address} ({error.strerror or error}); start the cluster, or correct --address"
        ) from None


def at_a_time(config: RunnerConfig, *, gpus: int) -> int:
    """How many are given out at once; what a cluster has no worker for yet waits there."""
    if config.kind == "plain":
        return 1
    if config.address is not None:
        return config.workers or ON_CLUSTER
    return config.workers or gpus or max(2, (os.cpu_count() or 1) // 2)


def task_runner(config: RunnerConfig, *, at_once: int) -> "TaskRunner[Any]":
    """Not entered yet. Raises `InputError` where the package is missing."""
    require(config)
    match config.kind:
        case "plain":
            from prefect.task_runners import ThreadPoolTaskRunner

            return ThreadPoolTaskRunner(max_workers=1)
        case "threads":
            from prefect.task_runners import ThreadPoolTaskRunner

            return ThreadPoolTaskRunner(max_workers=at_once)
        case "processes":
            from flows.pool import Pool

            return Pool(max_workers=at_once, initializer=leave_with_parent)
        case "dask":
            return _on_dask(config, at_once)
        case "ray":
            return _on_ray(config, at_once)


def _on_dask(config: RunnerConfig, at_once: int) -> "TaskRunner[Any]":
    from prefect_dask.task_runners import DaskTaskRunner

    if config.address is not None:
        return DaskTaskRunner(address=config.address)
    cluster = {"n_workers": at_once, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    return DaskTaskRunner(cluster_kwargs=cluster)


def _on_ray(config: RunnerConfig, at_once: int) -> "TaskRunner[Any]":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or its workers see no GPU: places are our part
    from prefect_ray.task_runners import RayTaskRunner

    settings: dict[str, Any] = {"log_to_driver": False}
    if config.address is None:
        settings |= {"num_cpus": at_once, "include_dashboard": False, "object_store_memory": LITTLE}
    elif "ray://" in config.address:
        settings = {}
    runner: TaskRunner[Any] = RayTaskRunner(address=config.address, init_kwargs=settings)
    return runner


def leave_with_parent() -> None:
    """In each process of the pool: a parent that is killed leaves none of them behind."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
