"""What a run comes to: the return value of the flow, and with `--json` what the command prints."""

from pathlib import Path

from data.spec import Frozen
from models.evaluation.metrics import Metrics
from models.records import CVResult, RunResult, Verdict
from models.run import RunFolder


class Figures(Frozen):
    validation: Metrics
    test: Metrics
    crossval: CVResult | None


class Outcome(Frozen):
    run_id: str
    run_folder: Path
    bundle: Path
    model: str  # name@version
    metrics: Figures
    verdict: Verdict
    seconds: dict[str, float]  # stage -> wall time
    reused: dict[str, str]  # stage -> the run that had made it: another one, or this one before an interruption
    flow_run_url: str | None


def outcome_of(
    folder: RunFolder,
    result: RunResult,
    *,
    model: str,
    verdict: Verdict,
    seconds: dict[str, float],
    reused: dict[str, str],
    url: str | None,
) -> Outcome:
    return Outcome(
        run_id=folder.run_id,
        run_folder=folder.path,
        bundle=folder.bundle,
        model=model,
        metrics=Figures(validation=result.validation, test=result.test, crossval=result.crossval),
        verdict=verdict,
        seconds={stage: round(took, 3) for stage, took in seconds.items()},
        reused=dict(reused),
        flow_run_url=url,
    )
