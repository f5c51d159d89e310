"""One trial: a training in a folder of its own, told to stop where it is not worth its time."""

import shutil
from pathlib import Path
from typing import cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from data import whole
from flows.child_place import gpus_of_a_place
from flows.console import display
from flows.fan import lost
from flows.orders import heeding
from flows.prepare import Prepared, opened
from flows.reuse import code
from flows.slots import num_places, place_for
from models.config import Experiment
from models.records import EpochRecord, FitSummary
from models.run import RunFolder, read_key, run_key
from models.training import apart
from models.training.told import Stopped

FOLDER = "trials"  # beside `runs` in the home folder
CODE = "code"  # a file: digest of the code that it was begun with
STOP = "stop"  # a file that the flow leaves in the folder of a trial that it gives up


@task(
    name="trial",
    task_run_name="trial {number}",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=lost,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def trial(
    number: int,  # noqa: ARG001 - of the name in the UI
    folder: Path,
    cwd: Path,
    orders: Path,
    prepared: Prepared,
    threads: int,
    kind: str,
    apart_: bool,
) -> FitSummary:
    """Trained to its end, or given up: counted from 1 here. One that was killed or stopped goes on from its checkpoint.
    `cwd`: the flow's."""
    told, given_up, log = heeding(orders), folder / STOP, get_run_logger()
    run = RunFolder(folder)
    experiment = run.experiment()

    def stop() -> bool:
        return told() or given_up.exists()

    try:
        if apart_:
            with gpus_of_a_place(kind, num_places(experiment), stop=stop) as gpus:
                return apart.training(run, threads=threads, cwd=cwd, gpus=gpus, on_trouble=log.warning, stop=stop)
        from models.training import launch  # torch: seconds

        pictures = opened(prepared.model_copy(update={"dataset": experiment.pictures}))
        with place_for(experiment, on_wait=tell, stop=stop):
            return launch.train(
                experiment,
                pictures,
                run,
                on_progress=lambda update: apart.leave_progress(folder, vars(update)),
                on_trouble=log.warning,
                stop=stop,
            )
    except Stopped as stopped:
        why = "given up" if given_up.exists() else "stopped"
        return cast("FitSummary", Cancelled(message=f"{why} {stopped}"))


def tell(said: str) -> None:
    display().note(said)
    get_run_logger().info("%s", said)


def folder_of(home: Path, sweep: str, number: int) -> RunFolder:
    """Of trial `number`, from 0; two levels below the home folder, as all that trains."""
    return RunFolder(home / FOLDER / f"{sweep}-{number + 1:03}")


def made(run: RunFolder, experiment: Experiment, fingerprint: str) -> RunFolder:
    """With what is to be trained in it; what an earlier process left there of the same stays. Something else is there
    where the journal was cleared away without the trials."""
    key = run_key(experiment, fingerprint)
    if read_key(run) != key:
        shutil.rmtree(run.path, ignore_errors=True)
        run.write_experiment(experiment)
        whole.write(run.path / "fingerprint", fingerprint.encode())
        whole.write(run.path / CODE, code.digests()["train"].encode())
        whole.write(run.path / "key", key.encode())
    return run


def curve(run: RunFolder, monitor: str) -> dict[int, float]:
    """By epoch, from 0."""
    return {record.epoch: figure(record, monitor) for record in run.history()}


def figure(record: EpochRecord, monitor: str) -> float:
    """By which trials are compared: of the validation pictures."""
    return record.val_loss if monitor == "val_loss" else record.val_accuracy


def offer(run: RunFolder, prepared: Prepared) -> None:
    """So that a run of the same settings here takes the weights over; not those of a device that is not here, nor those
    that another version of this program began to train."""
    from flows.reuse.basis import basis_of
    from flows.reuse.keys import keys
    from flows.reuse.records import write_down
    from models.device import choose_device

    experiment = run.experiment()
    if (run.path / CODE).read_text() != code.digests()["train"]:
        return
    if (choose_device(experiment.train.devices).type == "cpu") == ("cpu" in run.fit().device):
        dataset = opened(prepared.model_copy(update={"dataset": experiment.pictures}))
        write_down(
            "train", run, keys(experiment, basis_of(experiment, dataset, prepared.home))["train"], made_by=run.run_id
        )


def thin(run: RunFolder, *, weights: bool) -> None:
    """What nobody needs of a trial that has ended; its settings and its curve stay."""
    shutil.rmtree(run.checkpoint, ignore_errors=True)
    for name in (STOP, apart.PROGRESS):
        (run.path / name).unlink(missing_ok=True)
    if not weights:
        run.weights_file.unlink(missing_ok=True)
