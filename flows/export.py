"""The stage that makes the bundle and proves that it answers as the trained network does."""

import time
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, proof
from flows.console import display
from flows.prepare import Prepared, left, opened
from flows.reuse.stage import reused
from flows.reuse.states import valued
from models.run import RunFolder


@valued
@task(name="export", task_run_name="export", cache_policy=NO_CACHE, persist_result=False)
def export(prepared: Prepared, folder: Path) -> Path:
    """The bundle's folder. A bundle that another run made of the same is taken over, under its own name and version,
    and is not rehearsed anew."""
    from models.bundle.bundle import read_card
    from models.evaluation import exported

    run = RunFolder(folder)
    with display().stage("export"), reused("export", folder, prepared, settle=opens) as found:
        if found.origin is None:
            made(run, prepared)
        card = read_card(run.bundle)
        size = sum(file.stat().st_size for file in run.bundle.rglob("*") if file.is_file())
        for variant in card.variants:
            display().note(f"{variant.name} {variant.said}")
        display().say(found.told(f"{run.bundle.name}, {size / 1e6:.1f} MB; {proof.told(card)}"))
        exported.conclude(run.report_file, card)
        artifacts.show_parity(card)
    return found.returned(run.bundle, "the bundle")


def made(run: RunFolder, prepared: Prepared) -> None:
    from flows.rehearsal import rehearsed
    from flows.service import variant_here
    from models.bundle import export as bundles  # torch: seconds

    with artifacts.progress("export-progress") as bar:
        began = 0.0

        def moved(what: str, done: int, total: int) -> None:
            nonlocal began
            began = began if done else time.monotonic()
            words = f"{what} {done:,} of {total:,}{left(time.monotonic() - began, done, total)}" if total else what
            display().moved(words, done, total)
            bar.moved(done / total if total else 0.0, words)

        rehearse = rehearsed if run.experiment().release.rehearse else None
        bundles.export(run, opened(prepared), rehearse=rehearse, variant=variant_here(), progress=moved)
        bar.moved(1.0, "done")


def opens(run: RunFolder) -> None:
    """Raises `BundleError` unless the bundle answers on this machine, of these libraries, as it should, and no service
    on it ever failed: that may have been the machine's fault, so it is tried again."""
    from models.bundle.bundle import Bundle, BundleError

    rehearsal = Bundle.open(run.bundle).card.rehearsal
    if rehearsal is not None and rehearsal.fault is not None:
        raise BundleError(f"the service on it {rehearsal.fault}")
