"""The real service for a while, on a bundle that nobody depends on yet. No Prefect here.

On a store of its own, in processes of its own, at a port of its own. It ends with whoever started it, however that one
ends: because `service_on` leaves its block, or because the supervisor watches its parent.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from models.bundle import session, variants
from models.bundle.bundle import Bundle
from models.bundle.parity import AT_ONCE
from serving import aliases, machine, start
from serving.parent import KEEPER

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
STOP_S = 20.0  # twice what running requests get
GIB = 1 << 30

# What decides whether, and how, a service takes a model is as here. Where it listens, who may ask, whose signature it
# wants, what it keeps is not: nobody else is to reach this one, and what it is shown is signed when it is released.
KEPT = ("TRAINSERVE_MAX_ANSWER_S", "TRAINSERVE_MAX_MODEL_BYTES", "TRAINSERVE_MAX_BATCH", "TRAINSERVE_THREADS")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class Running:
    """A service that was started here."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def last_words(self) -> str:
        """Of its log, without paths: they go into the card, which the service shows to anybody."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return re.sub(r"\S*/\S*", "...", lines[-1])[:300] if lines else "it said nothing"


@contextmanager
def service_on(bundle: Bundle) -> Iterator[Running]:
    """`python -m serving.start` with the bundle as the champion of a store beside it, which goes with the service."""
    home = bundle.folder.parent / ".rehearsal"
    shutil.rmtree(home, ignore_errors=True)  # left by a run that was killed
    home.mkdir(mode=0o700)
    card, running = bundle.card, None
    try:
        shutil.copytree(bundle.folder, home / "models" / card.name / card.version / "bundle")
        aliases.change(home, card.name, lambda file: file.model_copy(update={"champion": card.version}))
        running = _started(home, bundle)
        yield running
    finally:
        if running is not None:
            _end(running.process)
        shutil.rmtree(home, ignore_errors=True)


def _started(home: Path, bundle: Bundle) -> Running:
    port, log = free_port(), home / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "serving.start"],
            env=environment(home, port, bundle.card.name, bundle.variant),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the run, which ends it
            umask=0o077,
        )
    return Running(process, port, log)


def variant_here() -> variants.Name:
    """Which of a model's graphs services of this environment answer with, where it is in the bundle: what is judged and
    rehearsed is asked for by this name. A setting that is none stops the service, which says so, and no training."""
    match os.environ.get("TRAINSERVE_VARIANT"):
        case "float" | "int8" | "fp16" as wanted:
            return wanted
        case _:
            return variants.automatic(session.CUDA if _gpus_here() else session.CPU)


def _gpus_here() -> bool:
    told = os.environ.get("TRAINSERVE_GPUS", "")
    return (int(told) if told.isdecimal() else machine.here().gpus) > 0


def free_port() -> int:
    """Drawn from below those that the kernel gives to whoever asks for any, so that none of them takes it meanwhile."""
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with suppress(InputError):
            start.require_free(HOST, port)
            return port


def environment(home: Path, port: int, model: str, variant: str = "float") -> dict[str, str]:
    """Of a service on this one model, which answers with the graph that is to be tried."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("TRAINSERVE_") or name in KEPT) and name.lower() not in PROXIES
    }
    settings = {
        "host": HOST,
        "port": port,
        "model": model,
        "variant": variant,
        "workers": 1,
        "gpus": 0,  # the trained network is asked on the processor, too
        "max_pictures": AT_ONCE,
        "max_queue": AT_ONCE,  # soon full, and soon empty again
        "max_upload_bytes": GIB,  # a test picture may have any size
        "max_batch_upload_bytes": GIB,
        "max_held_bytes": GIB,
        "shutdown_s": int(STOP_S / 2),
        "writers": "*",  # who could write into the folder is this user alone
        "home": home / "kept",
    }
    ours = {f"TRAINSERVE_{name}".upper(): str(value) for name, value in settings.items()}
    paths = os.pathsep.join(filter(None, [str(start.ROOT), os.environ.get("PYTHONPATH")]))
    own = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": paths, KEEPER: str(os.getpid())}
    return {**kept, **ours, **own}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """At once where it does not end by itself; its workers then see that it is gone."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
