"""Start the service in the foreground: `trainserve serve`."""

import errno
import ipaddress
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from data import place
from data.errors import InputError
from serving import keys, store, writers
from serving import settings as service_settings
from serving.refs import StoreError
from serving.settings import MIB, Settings

ROOT = Path(__file__).resolve().parent.parent


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    model: str | None = None,
    workers: int | None = None,
    access_log: bool | None = None,
) -> NoReturn:
    """Become the service, until SIGTERM or Ctrl-C. What is None comes from TRAINSERVE_... or the default.

    Raises `InputError` with one sentence for a bad setting or a port in use. This process is replaced by the
    supervisor, so that signals reach it directly and nothing is left between it and its workers.
    """
    settings = chosen(service_settings.load(host=host, port=port, model=model, workers=workers, access_log=access_log))
    address = numeric(settings.host)
    require_free(address, settings.port)
    if settings.keys is not None:
        keys.read(settings.keys, writers.trusted(settings.writers))  # one sentence now, instead of a 401 for everybody
    if settings.signers is not None and not settings.signers.is_file():
        raise InputError(f"there is no signers' file {settings.signers}; `trainserve models sign-key` prints its lines")
    if settings.sigstore is not None and find_spec("sigstore") is None:
        raise InputError("TRAINSERVE_SIGSTORE needs the package sigstore; pip install 'trainserve[sigstore]'")
    if settings.sigstore_root is not None and not settings.sigstore_root.is_file():
        raise InputError(f"there is no root of trust {settings.sigstore_root}; leave TRAINSERVE_SIGSTORE_ROOT out")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command(settings, address), environment(settings))


def chosen(settings: Settings) -> Settings:
    """With the names that all workers will follow, and a line about the others there are."""
    try:
        there = [ref.name for ref in store.champions()]
        latest = store.latest_promoted()
    except StoreError:  # a damaged alias file: the workers say so, and take the model once it is mended
        return settings
    names = settings.names or ((latest,) if latest else ())
    others = [other for other in there if other not in names]
    for name in names:
        if name not in there:
            print(f"no model {name!r} has been promoted yet{_named(others)}", file=sys.stderr)
    if others and not settings.names:
        print(f"taking {latest}, the model promoted last{_named(others)}", file=sys.stderr)
    return settings.model_copy(update={"model": ",".join(names) or None})


def _named(others: list[str]) -> str:
    return f"; also there: {', '.join(others)} (`trainserve serve --model {others[0]}`)" if others else ""


def command(settings: Settings, address: str) -> list[str]:
    """The supervisor's command line."""
    # -P: a folder called `data` or `models` where the user happens to stand is not taken for ours.
    numbers = map(str, (settings.port, settings.workers, settings.shutdown_s))
    return [sys.executable, "-P", "-m", "serving.supervisor", address, *numbers]


def environment(settings: Settings) -> dict[str, str]:
    """What the supervisor and its workers inherit: our settings as they were resolved here, and silence."""
    chosen = {
        f"TRAINSERVE_{name}".upper(): str(value) for name, value in settings.model_dump().items() if value is not None
    }
    untracked = {"BENTOML_DO_NOT_TRACK": "True"}
    quiet = {"BENTOML_QUIET": "True", "BENTOML_VERBOSITY": "-1"}  # as `bentoml serve --quiet` has it
    # glibc keeps what a large picture took, in each thread, unless told to give blocks of this size back at once.
    given_back = {"MALLOC_MMAP_THRESHOLD_": str(MIB)}
    one_thread = {"OMP_NUM_THREADS": str(settings.threads)}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Absolute, because workers stand elsewhere.
    homes = {"BENTOML_HOME": str(store.home()), "TRAINSERVE_HOME": str(place.home())}
    return {**untracked, **given_back, **os.environ, **quiet, **chosen, **homes, **one_thread, "PYTHONPATH": paths}


def numeric(host: str) -> str:
    """BentoML wants an address; names are looked up here. Raises `InputError`."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError:
        raise InputError(f"host {host!r} is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all") from None
    return str(found[0][4][0])


def require_free(address: str, port: int) -> None:
    """Raises `InputError` with the remedy, where the supervisor would print a stack trace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InputError(_why_not(error, address, port)) from None


def _why_not(error: OSError, address: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {address} is in use; stop what uses it, or choose another port"
        case errno.EACCES:
            return f"port {port} needs more rights than this user has; choose one from 1024 on"
        case _:
            return f"cannot listen on {address} ({error.strerror}); use 127.0.0.1, or 0.0.0.0 for every interface"


if __name__ == "__main__":
    try:
        serve()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
