"""A run folder -> the evidence for its diagnosis. No torch here."""

from collections.abc import Sequence

from pydantic import ValidationError

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
    """Finished runs on pictures of the same fingerprint, the newest first; those that cannot be read are left out."""
    found = []
    for other in list(reversed(runs(folder.path.parent.parent)))[: MOST_PEERS + 1]:
        if other.path == folder.path or not other.finished:
            continue
        try:
            theirs = other.result()
        except (OSError, ValidationError):
            continue  # of another version
        if theirs.lineage.fingerprint == result.lineage.fingerprint and theirs.checks is not None:
            found.append(
                Peer(
                    run_id=theirs.run_id,
                    kind=theirs.experiment.model.kind,
                    parameters=theirs.fit.parameters,
                    training=theirs.checks.training,
                )
            )
    return tuple(found)
