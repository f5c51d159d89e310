"""Starts the workers and watches over them: `python -P -m serving.supervisor ADDRESS PORT WORKERS SHUTDOWN_S`.

What `bentoml serve serving.service:Classifier` does, by the same circus (BentoML's own, the package kantoku) and with
BentoML's own worker; but BentoML's command first imports all that its cloud and containers need, which takes longer
than a worker's start.
"""

import ipaddress
import logging
import os
import shlex
import socket
import sys
import tempfile
from pathlib import Path

from circus.arbiter import Arbiter  # type: ignore[import-untyped]
from circus.sockets import CircusSocket  # type: ignore[import-untyped]
from circus.watcher import Watcher  # type: ignore[import-untyped]

from serving import parent

SERVICE = "serving.service:Classifier"
ROOT = str(Path(__file__).resolve().parent.parent)
BACKLOG = 2048
LOOK_EVERY_S = 1.0  # for workers that have ended; BentoML's command: ten seconds
# Longer than proxies keep an idle connection (nginx 60 s, AWS' 60 s): one that the service ends first is a 502 there.
# And who says within it what a picture really shows meets the worker that answered.
KEEP_ALIVE_S = 75
A_DAY_S = 86_400  # circus' own patience with a worker that stops; how long that takes the worker knows best


def supervise(address: str, port: int, workers: int, shutdown_s: int) -> None:
    """Until SIGTERM or SIGINT, which the workers are told."""
    logging.getLogger("circus").setLevel(logging.ERROR)
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    listening = CircusSocket(name="http", host=address, port=port, family=family, backlog=BACKLOG)
    with tempfile.TemporaryDirectory(prefix="trainserve-") as private:
        Arbiter(
            [_watcher(workers, shutdown_s)],
            sockets=[listening],
            # Whoever may send commands to circus may start programs: nobody else can reach this folder.
            endpoint=f"ipc://{private}/commands",
            pubsub_endpoint=f"ipc://{private}/events",
            check_delay=LOOK_EVERY_S,
        ).start().result()


def _watcher(workers: int, shutdown_s: int) -> Watcher:
    listening = ["--fd", "$(circus.sockets.http)", "--backlog", str(BACKLOG), "--worker-id", "$(CIRCUS.WID)"]
    patience = ["--timeout-keep-alive", str(KEEP_ALIVE_S), "--timeout-graceful-shutdown", str(shutdown_s)]
    return Watcher(
        name="service",
        cmd=shlex.quote(sys.executable),
        args=["-m", "_bentoml_impl.worker.service", SERVICE, *listening, *patience],
        numprocesses=workers,
        working_dir=ROOT,
        copy_env=True,
        env={parent.SUPERVISOR: str(os.getpid())},
        use_sockets=True,
        close_child_stdin=True,
        stop_children=True,
        graceful_timeout=A_DAY_S,
    )


if __name__ == "__main__":
    parent.end_with_keeper()
    try:
        supervise(sys.argv[1], *map(int, sys.argv[2:]))
    except KeyboardInterrupt:  # before circus has taken over the signals
        sys.exit(130)
