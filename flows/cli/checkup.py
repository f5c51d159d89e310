"""`trainserve doctor`: what is wrong with this installation, and the remedy; with --fix, what could be mended is."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.errors import InputError
from flows import server
from flows.api import Api, Away, why
from flows.console import stdout_console
from flows.health import checks_machine, checks_store
from flows.health.checked import Checked, Checks
from flows.place import home

STYLES = {"ok": "green", "note": "dim", "wrong": "red"}
SHORT_S = 2.0  # for an answer of the server: a doctor that is slow is not asked
MENDING_S = 20.0  # for a busy one to take what mends it

Check = Callable[[], Checks]


def run(*, as_json: bool, fix: bool = False) -> None:
    """Exit status 1 if something is wrong, with `fix` if something still is."""
    found = examined(busy_s=MENDING_S if fix else SHORT_S)
    mended = mend(found) if fix else []
    if mended:
        found = examined()
    if as_json:
        checks = [{"what": one.what, "level": one.level, "message": one.message} for one in found]
        sys.stdout.write(json.dumps({"checks": checks, **({"fixed": mended} if fix else {})}) + "\n")
    else:
        show(found, mended, stdout_console(), fix=fix)
    if any(one.level == "wrong" for one in found):
        sys.exit(1)


def examined(*, busy_s: float = SHORT_S) -> list[Checked]:
    """Every check; one that fails is a finding, and the others go on."""
    machine = (checks_machine.versions, checks_machine.home_folder, checks_machine.disk, checks_machine.ports)
    server_checks = partial(of_the_server, busy_s=busy_s)
    return collect((*machine, *asked_for(server_checks), *of_the_store(), checks_machine.gpu))


def asked_for(checks: Callable[[], tuple[Check, ...]]) -> tuple[Check, ...]:
    """Or the reason why there are none, such as a profile of Prefect's that cannot be read."""
    try:
        return checks()
    except Exception as error:  # noqa: BLE001 - as below
        said = " ".join(str(error).split())[:300]
        return (partial(one, Checked("Prefect", "wrong", f"could not be asked: {type(error).__name__}: {said}")),)


def collect(checks: Sequence[Check]) -> list[Checked]:
    found: list[Checked] = []
    for check in checks:
        try:
            found += check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next check may say more
            name = getattr(check, "func", check).__name__.replace("_", " ")
            found.append(Checked(name, "wrong", f"could not be checked: {said(error)}"))
    return found


def said(error: Exception) -> str:
    if isinstance(error, Away):
        return f"the Prefect server does not tell, {why(error)}"
    return f"{type(error).__name__}: {error}"


def of_the_store() -> tuple[Check, ...]:
    return checks_store.models, checks_store.roles, checks_store.half_saved


def of_the_server(*, busy_s: float = SHORT_S) -> tuple[Check, ...]:
    """What can be asked of a Prefect server, if one is chosen and answers."""
    if find_spec("prefect") is None:
        return ()
    url = server.configured()
    if url is None:
        from flows.health import checks_work

        message = "no server chosen: each run brings its own; a schedule needs `prefect server start`"
        return partial(one, Checked("Prefect", "note", message)), partial(checks_work.old_things, home(), None)
    os.environ["PREFECT_API_URL"] = url
    try:
        server.require_answer(url, timeout_s=10)
    except InputError as error:
        return (partial(one, Checked("Prefect", "wrong", str(error))),)
    return partial(one, Checked("Prefect", "ok", f"{url} answers")), *asked_of(url, busy_s=busy_s)


def asked_of(url: str, *, busy_s: float) -> tuple[Check, ...]:
    """In the order in which one thing is the cause of the next."""
    from flows.health import checks_database, checks_server, checks_work

    api, now = Api(url, timeout_s=SHORT_S, busy_s=busy_s), datetime.now(UTC)
    return (
        partial(checks_server.server_version, api, version("prefect")),
        partial(checks_server.clock, api),
        partial(checks_database.database, api, url),
        partial(checks_database.events, api),
        partial(checks_server.workers, api, now),
        partial(checks_server.schedules, api, now),
        partial(checks_server.automation, api, now),
        partial(checks_work.dead_runs, api, home(), now),
        partial(checks_work.missed_runs, api, now),
        partial(checks_work.places, api),
        partial(checks_work.upkeep, api, now),
        partial(checks_work.old_things, home(), api),
    )


def one(found: Checked) -> Checks:
    yield found


def mend(found: Sequence[Checked]) -> list[str]:
    """What was done, a sentence each."""
    done = []
    for checked in found:
        if checked.fix is not None:
            try:
                done.append(checked.fix())
            except Exception as error:  # noqa: BLE001 - the others may be mended all the same
                done.append(f"{checked.what} could not be mended: {said(error)}")
    return done


def show(found: Sequence[Checked], mended: Sequence[str], console: Console, *, fix: bool) -> None:
    for sentence in mended:
        console.print(Text.assemble(("fixed", "green"), f"  {sentence}"))
    if fix and not mended:
        console.print("nothing to mend", style="dim")
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for checked in found:
        table.add_row(Text(checked.level, style=STYLES[checked.level]), checked.what, Text(checked.message))
    console.print(table)
    mendable = sum(checked.fix is not None for checked in found)
    if mendable and not fix:
        console.print(f"{mendable} of these can be mended: trainserve doctor --fix", highlight=False)
