"""The stage that puts a bundle into the store and decides whether it goes into service."""

import os
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts, events
from flows.console import display
from flows.evaluate import moved
from flows.home import write_verdict
from flows.prepare import Prepared, opened
from models.bundle import manifest, signature
from models.bundle.manifest import BundleError
from models.cards import ModelCard
from models.config import ReleaseConfig
from models.evaluation.conclusion import conclude
from models.run import RunFolder
from models.verdict import Check, Verdict
from serving import challengers, settings, store, trust, verdicts
from serving.refs import ModelRef


@task(name="release", task_run_name="release", cache_policy=NO_CACHE, persist_result=False)
def release(prepared: Prepared, folder: Path, bundle: Path, config: ReleaseConfig) -> tuple[str, Verdict]:
    """Store, try, compare, promote or say why not. Returns (name@version, verdict). A bundle that was taken over is in
    the store already, and one that is in service stays there, without a new verdict on it."""
    from flows.judge import judge, settled, try_as_service  # onnxruntime, which training does without

    run = RunFolder(folder)
    with display().stage("release"):
        if key := signing_key():
            signature.sign(bundle / manifest.NAME, key)
        ref = store.save(bundle)
        verdict = settled(ref, run.result().test, run_id=run.run_id)
        if verdict is None:
            if store.aliases(ref.name).challenger != ref:
                challengers.challenge(ref, reason=f"run {run.run_id}")
            try_as_service(store.path(ref))
            card = store.card(ref)
            verdict = judge(run, opened(prepared), ref, config, latency_ms=over_http(card), progress=moved)
            if config.rehearse:
                verdict = held_back(verdict, card)
            verdict = vouched_for(verdict, ref)
            verdicts.keep(ref, verdict)
            if verdict.promoted:
                store.promote(ref, reason=verdict.reason)
        conclude(run.report_file, verdict, str(ref))
        write_verdict(run, verdict)
        artifacts.show_verdict(verdict, str(ref))
        artifacts.show_links(run, str(ref), verdict)
        if verdict.promoted or ref.version == run.run_id:  # a bundle that was taken over is no news
            tell(str(ref), verdict)
        display().say(f"{ref} {outcome(verdict, ref)}")
        get_run_logger().info("%s: %s", ref, verdict.reason)
    return str(ref), verdict


def over_http(card: ModelCard) -> float | None:
    """Milliseconds within which 95 of 100 single requests were answered; None where nobody tried."""
    return card.rehearsal.p95_ms if card.rehearsal else None


def held_back(verdict: Verdict, card: ModelCard) -> Verdict:
    """The verdict with one more check: a model that a service could not be relied on with stays out of service."""
    rehearsal = card.rehearsal
    if rehearsal is None:
        return verdict
    if rehearsal.fault is None:
        said = "a service on it answered as it should, bore to be overloaded, and stopped when told"
        check = Check(name="service", value=None, limit=None, ok=True, said=said)
        return verdict.model_copy(update={"checks": (*verdict.checks, check)})
    return refused(verdict, "service", f"the service on {card.name}@{card.version} {rehearsal.fault}")


def vouched_for(verdict: Verdict, ref: ModelRef) -> Verdict:
    """The verdict with one more check, where the services of this machine take only what somebody named has signed: a
    champion that they refuse would leave them with the one before, and after a restart with none."""
    if (known := trust.signers(settings.load())) is None:
        return verdict
    try:
        store.verify(ref, signers=known)
    except BundleError as error:
        remedy = f"sign it (`trainserve models sign {ref}`) and promote it (`trainserve models promote {ref}`)"
        return refused(verdict, "signature", f"{error}; {remedy}")
    check = Check(name="signature", value=None, limit=None, ok=True, said="signed by whom services here trust")
    return verdict.model_copy(update={"checks": (*verdict.checks, check)})


def refused(verdict: Verdict, check: str, fault: str) -> Verdict:
    """The verdict with a check that failed."""
    failed = Check(name=check, value=None, limit=None, ok=False, said=fault)
    if verdict.promoted:
        kept = f"Kept {verdict.champion}" if verdict.champion else "Not promoted"
        reason = f"{kept}: {fault}."
    else:
        reason = f"{verdict.reason.rstrip('.')}; besides, {fault}."
    return verdict.model_copy(update={"promoted": False, "reason": reason, "checks": (*verdict.checks, failed)})


def signing_key() -> Path | None:
    """With which every run signs what it makes; None: it does not."""
    given = os.environ.get("TRAINSERVE_SIGNING_KEY")
    return Path(given) if given else None


def tell(model: str, verdict: Verdict) -> None:
    """Whoever is to be told by `trainserve deploy --notify`. The same answers once more are no news."""
    if verdict.relation == "same":
        return
    name = model.partition("@")[0]
    event, what = (
        (events.PROMOTED, f"is in service as {name}") if verdict.promoted else (events.REFUSED, "was not promoted")
    )
    events.tell(event, name, subject=f"{model} {what}", body=verdict.reason, model=model)


def outcome(verdict: Verdict, ref: ModelRef) -> str:
    if verdict.promoted:
        return f"is now the champion of {ref.name}"
    return f"stays the champion of {ref.name}" if verdict.champion == str(ref) else "was not promoted"
