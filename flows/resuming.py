"""Going on with a run by its name, and what to say when the settings, the pictures or the run do not allow it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.errors import InputError
from flows.console import display
from flows.home import VERDICT, run_folder, unfinished
from flows.place import home
from flows.reuse.stages import require_either
from flows.settings import overrides
from models.claims import claim, worked_on
from models.config import Experiment, leaves
from models.run import RunFolder, read_fingerprint, read_key, run_key, runs
from models.training.folds import begun_folds

LATEST = "latest"
MOST_NAMED = 6  # differences, or runs, in one sentence


def choose_folder(
    experiment: Experiment, fingerprint: str, *, resume: str | None, refresh: Collection[str] = ()
) -> RunFolder:
    """The folder that this process works in from now on. Raises `InputError` if it cannot be the one asked for.

    Without `resume`: the unfinished run of the same settings and pictures, or a new one, with a line about others; with
    `refresh`, one that makes these stages itself.
    """
    require_either(resume, refresh)
    if resume is None:
        folder = run_folder(experiment, fingerprint, refresh=refresh)
        announce(folder, fingerprint)
        return folder
    folder = find(resume)
    differing = differences(experiment_of(folder), experiment)
    if differing:
        raise InputError(other_settings(folder, differing))
    if not on_pictures(folder, experiment, fingerprint):
        raise InputError(
            f"the pictures of {experiment.dataset.source} are not those that run {folder.run_id} was started with; "
            "put them back, or leave out --resume to train on what is there now"
        )
    if not claim(folder.path):
        raise InputError(f"run {folder.run_id} is under way in another process; wait for it, or stop that one first")
    return folder


def on_pictures(folder: RunFolder, experiment: Experiment, fingerprint: str) -> bool:
    """Whether the run was started on these. Its key says less: a setting that is new since then is in a key, too."""
    started_on = read_fingerprint(folder)
    if started_on is None:
        return read_key(folder) == run_key(experiment, fingerprint)
    return started_on == fingerprint


def announce(folder: RunFolder, fingerprint: str) -> None:
    """One line, at the start of a run, about those on the same pictures that wait to be gone on with."""
    if (folder.path / "history.jsonl").exists() or begun_folds(folder):
        return  # this is one of them
    others = [o.run_id for o in waiting() if o != folder and read_fingerprint(o) == fingerprint]
    if others:
        names = ", ".join(others[:MOST_NAMED]) + (" and others" if len(others) > MOST_NAMED else "")
        display().note(f"a new run, {folder.run_id}; unfinished on the same pictures: {names} (see --resume)")


def waiting() -> list[RunFolder]:
    """Unfinished runs that nobody works on and that got as far as a checkpoint or a fold, the newest first.

    One without either was refused before its first step, such as for its batch size, and would be again.
    """

    def begun(folder: RunFolder) -> bool:
        return folder.learned or any(folder.checkpoint.glob("*.pt")) or begun_folds(folder)

    return [folder for folder in unfinished(home()) if begun(folder) and not worked_on(folder.path)]


def left_since(began: float) -> list[RunFolder]:
    """Those that wait and have been worked on since then (seconds since 1970)."""

    def touched(folder: RunFolder) -> float:
        return max(path.stat().st_mtime for path in (folder.path, folder.checkpoint) if path.exists())

    return [folder for folder in waiting() if touched(folder) >= began]


def find(name: str) -> RunFolder:
    """The unfinished run of this name; `latest` is the newest one that waits. Raises `InputError`."""
    there = waiting()
    if name == LATEST:
        if not there:
            raise InputError(f"no unfinished run is in {home()}; leave out --resume to start one")
        return there[0]
    found = [folder for folder in runs(home()) if folder.run_id == name]
    if not found:
        known = ", ".join(folder.run_id for folder in there[:MOST_NAMED]) or "none"
        raise InputError(f"there is no run {name!r} in {home()}; unfinished ones: {known}")
    if (found[0].path / VERDICT).exists():
        raise InputError(f"run {name} has got to its verdict and needs no more; leave out --resume to start another")
    return found[0]


def experiment_of(folder: RunFolder) -> Experiment:
    """What it was started with. Raises `InputError` where this version of the program does not understand it."""
    try:
        return folder.experiment()
    except (OSError, ValidationError):
        raise InputError(
            f"the settings of run {folder.run_id} are of another version of this program; "
            "go on with that version, or leave out --resume to start another run"
        ) from None


def asked(folder: RunFolder, settings: Sequence[str], config: Path | None) -> Experiment:
    """The run's own experiment. Raises `InputError` where settings are given that differ from it."""
    was = experiment_of(folder)
    names, chosen = overrides.read_tokens(settings)
    if names or config is not None:
        wanted = overrides.experiment(settings, config=config)
    else:
        wanted = overrides.validated(overrides.merged(was.model_dump(), chosen))
    differing = differences(was, wanted)
    if differing:
        raise InputError(other_settings(folder, differing))
    return was


def other_settings(folder: RunFolder, differing: Sequence[str]) -> str:
    shown = ", ".join(differing[:MOST_NAMED])
    more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
    return (
        f"run {folder.run_id} was started with other settings: {shown}{more}; "
        "leave them out to go on with it, or leave out --resume to start another run"
    )


def differences(was: Experiment, now: Experiment) -> list[str]:
    """Such as `train.epochs 20, now 40`; of a section whose kind differs, the kind alone."""
    before, after = dict(leaves(was.model_dump(mode="json"))), dict(leaves(now.model_dump(mode="json")))
    paths = [path for path in before | after if before.get(path) != after.get(path)]
    kinds = [path for path in paths if path.endswith(".kind")]
    told = [
        path for path in paths if not any(path.startswith(kind.removesuffix("kind")) for kind in kinds if kind != path)
    ]
    return [f"{path} {shown(before.get(path))}, now {shown(after.get(path))}" for path in told]


def shown(value: Any) -> str:
    return "none" if value is None else str(value)
