"""The stage that makes the bundle and proves that it answers as the trained network does."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.console import display
from flows.prepare import Prepared, opened
from flows.reuse.stage import reused
from flows.reuse.states import valued
from models.run import RunFolder


@valued
@task(name="export", task_run_name="export", cache_policy=NO_CACHE, persist_result=False)
def export(prepared: Prepared, folder: Path) -> Path:
    """The bundle's folder. A bundle that another run made of the same is taken over, under its own name and version."""
    from models.bundle import export as bundles  # torch: seconds

    run = RunFolder(folder)
    with display().stage("export"), reused("export", folder, prepared, settle=opens) as found:
        bundle = bundles.export(run, opened(prepared)) if found.origin is None else run.bundle
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        display().say(found.told(f"{bundle.name}, {size / 1e6:.1f} MB"))
    return found.returned(bundle, "the bundle")


def opens(run: RunFolder) -> None:
    """Raises `BundleError` unless the bundle answers on this machine, of these libraries, as it should."""
    from models.bundle.bundle import Bundle

    Bundle.open(run.bundle)
