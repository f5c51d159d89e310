"""Versions that might replace the champion: noted, and tried beside it on real requests."""

from serving import store
from serving.aliases import AliasFile, Trial, What, entry
from serving.refs import ModelRef, StoreError
from serving.store import Aliases


def challenge(ref: ModelRef, *, reason: str) -> Aliases:
    """Note `ref` as the model that might replace the champion."""

    def edit(old: AliasFile) -> AliasFile:
        store.path(ref)  # under the lock: retention takes nothing away any more
        change = entry("challenge", ref.version, old.challenger, reason)
        return old.model_copy(update={"challenger": ref.version, "history": (*old.history, change)})

    return store.change(ref.name, edit)


def try_out(ref: ModelRef, *, share: float, shadow: bool, reason: str, because: str | None = None) -> Aliases:
    """Let `ref` answer this share of the requests, or only be compared on it (`shadow`), beside the champion."""
    from serving import verdicts

    trial = Trial(version=ref.version, share=share, shadow=shadow)

    def edit(old: AliasFile) -> AliasFile:
        store.path(ref)
        if old.champion is None:
            raise StoreError(f"model {ref.name!r} has no champion to try {ref} beside; promote it without a share")
        if old.champion == ref.version:
            raise StoreError(f"{ref} is the champion already; name a version to try beside it")
        what: What = "shadow" if shadow else "canary"
        change = entry(what, ref.version, old.champion, reason, because=because, verdict=verdicts.word(ref))
        return old.model_copy(update={"challenger": ref.version, "trial": trial, "history": (*old.history, change)})

    return store.change(ref.name, edit)


def withdraw(ref: ModelRef, *, reason: str) -> Aliases:
    """End the trial of `ref`, if it is the one that is tried: the champion answers everything again."""

    def edit(old: AliasFile) -> AliasFile:
        if old.trial is None or old.trial.version != ref.version:
            return old
        change = entry("withdraw", ref.version, old.champion, reason)
        return old.model_copy(update={"trial": None, "history": (*old.history, change)})

    return store.change(ref.name, edit)
