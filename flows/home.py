"""Where runs live: `$TRAINSERVE_HOME/runs/<run_id>/`."""

from collections.abc import Collection
from pathlib import Path

from data import whole
from flows.place import home, writable_home
from models.claims import claim
from models.config import Experiment
from models.records import Verdict
from models.run import RunFolder, open_run, read_key, refreshes, run_key, runs

VERDICT = "verdict.json"  # the last file of a run: without it the run did not get to its end


def unfinished(home: Path) -> list[RunFolder]:
    """Runs that did not get to their verdict, the newest first; some of them may be under way."""
    return [folder for folder in reversed(runs(home)) if not (folder.path / VERDICT).exists()]


def run_folder(experiment: Experiment, fingerprint: str, *, refresh: Collection[str] = ()) -> RunFolder:
    """The folder of a run of the same settings on the same pictures that did not get to its verdict, or a new one;
    with `refresh`, one that makes these stages itself."""
    key = run_key(experiment, fingerprint)
    for folder in unfinished(writable_home()):
        if folder.finished and read_key(folder) == key and refreshes(folder, refresh) and claim(folder.path):
            return folder
    return open_run(home(), experiment, fingerprint, refresh=refresh)


def write_verdict(folder: RunFolder, verdict: Verdict) -> None:
    whole.write(folder.path / VERDICT, (verdict.model_dump_json(indent=2) + "\n").encode())
