"""A stored model, judged again: by another rule, or after its champion has gone."""

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from data.errors import InputError
from flows import logs
from flows.place import home, writable_home
from flows.prepare import prepare
from flows.release import release
from models.claims import claim
from models.config import ReleaseConfig
from models.records import Verdict
from models.run import RunFolder, read_fingerprint, runs
from serving import store
from serving.refs import ModelRef


def run_name() -> str:
    return f"release {flow_run.parameters.get('model')}"


@flow(name="release", flow_run_name=run_name, persist_result=False, validate_parameters=True)
def release_stored(model: str, rules: ReleaseConfig | None = None) -> Verdict:
    """Compare a stored model with the champion once more, and promote it or say why not.

    Args:
        model: The stored model: NAME@VERSION, or NAME@challenger for the one that was refused last.
        rules: When it may replace the champion; by default what its own run was started with.
    """
    ref = store.resolve(model)
    run = folder_of(ref, home())
    experiment = run.experiment()
    prepared = prepare(experiment.pictures, writable_home())
    if read_fingerprint(run) not in (None, prepared.fingerprint):
        raise InputError(
            f"the pictures of {experiment.dataset.source} are not those that {ref} was trained on, so its answers to "
            "the test pictures say nothing about these; train anew, or promote it by hand with "
            f'`trainserve models promote {ref} --because "..."`'
        )
    if not claim(run.path):
        raise InputError(f"run {run.run_id} is under way in another process; wait until it has ended")
    with logs.kept_in(run.path / "run.log"):
        _, verdict = release(prepared, run.path, store.path(ref), rules or experiment.release)
    return verdict


def folder_of(ref: ModelRef, at: Path) -> RunFolder:
    """Where its answers to the test pictures are. Raises `InputError` if that is gone."""
    run_id = store.card(ref).lineage.run_id
    for folder in runs(at):
        if folder.run_id == run_id:
            return folder
    raise InputError(
        f"the run folder {run_id} of {ref} is not in {at}, and with it are gone its answers to the test pictures; "
        f'promote it by hand with `trainserve models promote {ref} --because "..."`'
    )
