"""Nights in a row, each a day older than the next: what is left of them stays within what is to be kept."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aging import a_day_passes, bytes_used, rows
from deployed import Deployed
from lamps import TINY, wait_for
from servers import QUICK, PrefectServer

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900)]

NIGHTS, STEADY = 7, 5  # after the fifth nothing may grow: three nights are kept
KEEP = {
    "runs_days": 2.5,
    "runs_at_least": 2,
    "light_days": 2.5,
    "folders_days": 2.5,
    "folders_at_least": 2,
    "versions": 2,
    "logs_days": 2.5,
}
EVENTS = {
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2DT12H",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "2",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("week-server"), more={**QUICK, **EVENTS}) as server:
        yield server


def test_nights_leave_no_growth_beyond_what_is_kept(server: PrefectServer, pictures: Path, tmp_path: Path):
    database = server.home / "prefect" / "prefect.db"
    homes = [tmp_path / "trainserve" / name for name in ("runs", "images", "logs")]
    seen: list[dict[str, int]] = []
    with Deployed(tmp_path, server.api, "--dataset.source", pictures, *TINY) as deployed:
        for night in range(NIGHTS):
            trained = deployed.server.begin("train", changes=[f"train.seed={night}"])
            deployed.server.wait_until(trained, "Completed")
            tidied = deployed.server.begin("maintain", keep=KEEP)
            deployed.server.wait_until(tidied, "Completed")
            a_day_passes(database, homes)
            wait_for(lambda: not events_beyond(database), timeout_s=60)
            seen.append(rows(database) | {"database MB": bytes_used(database) // 10**6} | on_disk(tmp_path))
    nights = {name: [counts.get(name, 0) for counts in seen] for name in seen[-1]}
    grown = {name: counts for name, counts in nights.items() if counts[-1] > 1.1 * max(counts[:STEADY]) + 3}
    assert not grown
    kept = seen[-1]
    assert kept["flow_run"] == 3 * 2 + 3  # a training and its upkeep each; and those of upkeep that are still to come
    assert 3 <= kept["run folders"] <= 5  # those of the champion and of the one before it stay, however old


def events_beyond(database: Path) -> int:
    """Those that the server is still to delete."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        before = datetime.now(UTC) - timedelta(days=2.5)
        chosen = "SELECT count(*) FROM events WHERE occurred < ?"
        return int(connection.execute(chosen, (str(before.replace(tzinfo=None)),)).fetchone()[0])


def on_disk(home: Path) -> dict[str, int]:
    """How many of each."""
    ours, theirs = home / "trainserve", home / "bentoml" / "models" / "lamps"
    return {
        "run folders": len(list((ours / "runs").glob("[0-9]*"))),
        "hidden in runs": len(list((ours / "runs").glob(".*"))),
        "caches": len(list((ours / "images").glob("*"))),
        "logs": len(list((ours / "logs").glob("*"))),
        "models": len([path for path in theirs.glob("*") if path.is_dir()]),
        "files": sum(1 for path in home.rglob("*") if path.is_file() and "prefect" not in path.parts),
    }
