"""The stage that makes the bundle and proves that it answers as the trained network does."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.console import display
from flows.prepare import Prepared, opened
from models.run import RunFolder


@task(name="export", task_run_name="export", cache_policy=NO_CACHE, persist_result=False)
def export(prepared: Prepared, folder: Path) -> Path:
    """The bundle's folder."""
    from models.bundle import export as bundles  # torch: seconds

    with display().stage("export"):
        bundle = bundles.export(RunFolder(folder), opened(prepared))
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        display().say(f"{bundle.name}, {size / 1e6:.1f} MB")
    return bundle
