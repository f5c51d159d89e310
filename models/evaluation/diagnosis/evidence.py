"""A run folder -> the evidence for its diagnosis. No torch here."""

from collections.abc import Sequence

from pydantic import ValidationError

from data.spec import ImageSpec
from models.evaluation.diagnosis.remark import Evidence, Peer
from models.records import EpochRecord, RunResult
from models.run import RunFolder, runs

MOST_PEERS = 50  # the newest


def evidence(folder: RunFolder) -> Evidence:
    """Of a finished run, with the others in the same home as peers."""
    result = folder.result()
    return evidence_of(result, folder.history(), peers=peers_of(folder, result))


def evidence_of(result: RunResult, history: Sequence[EpochRecord], *, peers: Sequence[Peer] = ()) -> Evidence:
    return Evidence(
        history=history,
        fit=result.fit,
        validation=result.validation,
        test=result.test,
        calibration=result.calibration,
        checks=result.checks,
        peers=peers,
        loss=result.experiment.train.loss,
    )


def peers_of(folder: RunFolder, result: RunResult) -> tuple[Peer, ...]:
    """Finished runs that saw the same pictures in the same size, the newest first; those that cannot be read are left
    out, and so is what was trained elsewhere before, which proves nothing about a training from scratch."""
    found = []
    for other in list(reversed(runs(folder.path.parent.parent)))[: MOST_PEERS + 1]:
        if other.path == folder.path or not other.finished:
            continue
        try:
            theirs = other.result()
        except (OSError, ValidationError):
            continue  # of another version
        if comparable(theirs, result) and theirs.checks is not None:
            found.append(
                Peer(
                    run_id=theirs.run_id,
                    kind=theirs.experiment.model.kind,
                    parameters=theirs.fit.parameters,
                    training=theirs.checks.training,
                )
            )
    return tuple(found)


def comparable(theirs: RunResult, ours: RunResult) -> bool:
    if theirs.lineage.fingerprint != ours.lineage.fingerprint or seen(theirs.image) != seen(ours.image):
        return False
    return theirs.experiment.model.kind != "pretrained" or ours.experiment.model.kind == "pretrained"


def seen(image: ImageSpec) -> ImageSpec:
    """What a network gets to see: the margin is cut off."""
    return image.model_copy(update={"margin": 0})
