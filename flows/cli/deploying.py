"""`trainserve deploy`: the deployments at the Prefect server, and a process that stays."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from data.errors import InputError
from flows import logs, server
from flows.deploy import keep, register
from flows.deploy.definitions import Busy, Definition, anchored, definitions
from flows.deploy.register import Registered
from flows.place import writable_home
from models.config import Experiment
from serving import store


def deploy(
    experiment: Experiment,
    *,
    cron: str | None,
    timezone: str,
    when_busy: Busy,
    notify: Sequence[str],
    cool_down_min: float,
) -> None:
    """Register every flow and run what is asked of it, until a signal. Raises `InputError`."""
    api = chosen_server("a schedule needs one that stays")
    home = writable_home()
    keep.only_one(home)
    os.environ["TRAINSERVE_HOME"] = str(home)  # its runs are processes of their own, started elsewhere
    os.environ["BENTOML_HOME"] = str(store.home())
    wanted = definitions(
        anchored(experiment), cron=cron, timezone=timezone, when_busy=when_busy, cool_down_s=60 * cool_down_min
    )
    registered = register.register(wanted, home=home, places=places(), notify=notify)
    announce(wanted, registered, experiment, api)
    keep.keep(home, looked_after=keep.steps(home))


def chosen_server(why: str) -> str:
    """The API of the server that stays, which answers. Raises `InputError`, which says why there has to be one."""
    api = server.configured()
    if api is None:
        raise InputError(
            f"no Prefect server is chosen, and {why}; "
            "run `prefect server start` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    api = os.environ["PREFECT_API_URL"] = api.rstrip("/")  # it is the beginning of addresses that are shown
    server.quiet_environment()
    server.require_answer(api)
    logs.quiet_terminal()
    return api


def places() -> int:
    """How many trainings at a time: one for each GPU, or one."""
    if shutil.which("nvidia-smi") is None:
        return 1
    count = "import torch; print(torch.cuda.device_count())"  # elsewhere: this process stays, and torch is large
    done = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, timeout=300, check=False)
    return max(1, int(done.stdout.strip() or 1)) if done.returncode == 0 else 1


def announce(wanted: Sequence[Definition], registered: Sequence[Registered], experiment: Experiment, api: str) -> None:
    """What there is now, and how to begin a run."""
    for one, there in zip(wanted, registered, strict=True):
        when = f"at {one.cron!r} ({one.timezone})" if one.cron else "on demand"
        if one.on_event is not None:
            when += f" and on {one.on_event.event}"
        off = "; it is switched off in the Prefect UI, and stays so" if there.off and one.cron else ""
        print(f"{there.full_name:<24} {when}{'' if there.changed else '; as before'}{off}")
    by_hand = next(there.id for there in registered if there.full_name.endswith("/train-by-hand"))
    print(
        f"trains on {experiment.dataset.source}; begin a run with: prefect deployment run pipeline/train-by-hand\n"
        f"or: curl -X POST {api}/deployments/{by_hand}/create_flow_run -H 'content-type: application/json' -d '{{}}'",
        flush=True,
    )
