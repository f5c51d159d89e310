"""Where runs live: `$TRAINSERVE_HOME/runs/<run_id>/`."""

from pathlib import Path

from data import whole
from flows.place import home, writable_home
from models.config import Experiment
from models.records import Verdict
from models.run import RunFolder, claim, open_run, read_key, run_key, runs

VERDICT = "verdict.json"  # the last file of a run: without it the run did not get to its end


def unfinished(home: Path) -> list[RunFolder]:
    """Runs that did not get to their verdict, the newest first; some of them may be under way."""
    return [folder for folder in reversed(runs(home)) if not (folder.path / VERDICT).exists()]


def run_folder(experiment: Experiment, fingerprint: str) -> RunFolder:
    """The folder of a run of the same settings on the same pictures that did not get to its verdict, or a new one."""
    key = run_key(experiment, fingerprint)
    for folder in unfinished(writable_home()):
        if folder.finished and read_key(folder) == key and claim(folder.path):
            return folder
    return open_run(home(), experiment, fingerprint)


def write_verdict(folder: RunFolder, verdict: Verdict) -> None:
    whole.write(folder.path / VERDICT, (verdict.model_dump_json(indent=2) + "\n").encode())
