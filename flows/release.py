"""The stage that puts a bundle into the store and decides whether it goes into service."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts
from flows.console import display
from flows.home import write_verdict
from flows.prepare import Prepared, opened
from models.config import ReleaseConfig
from models.evaluation.conclusion import conclude
from models.records import Verdict
from models.run import RunFolder
from serving import store


@task(name="release", task_run_name="release", cache_policy=NO_CACHE, persist_result=False)
def release(prepared: Prepared, folder: Path, bundle: Path, config: ReleaseConfig) -> tuple[str, Verdict]:
    """Store, try, compare, promote or say why not. Returns (name@version, verdict)."""
    from flows.judge import judge, try_as_service  # onnxruntime, which training does without

    run = RunFolder(folder)
    with display().stage("release"):
        ref = store.save(bundle)
        store.challenge(ref, reason=f"run {run.run_id}")
        try_as_service(store.path(ref))
        verdict = judge(run, opened(prepared), ref, config)
        if verdict.promoted:
            store.promote(ref, reason=verdict.reason)
        conclude(run.report_file, verdict, str(ref))
        write_verdict(run, verdict)
        artifacts.show_verdict(verdict, str(ref))
        display().say(f"{ref} {f'is now the champion of {ref.name}' if verdict.promoted else 'was not promoted'}")
        get_run_logger().info("%s: %s", ref, verdict.reason)
    return str(ref), verdict
