"""Who is champion, challenger or previous of a name, and who made it so: read, promoted, rolled back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from data import whole
from data.spec import Frozen
from serving import aliases as alias_files
from serving import better, shelf
from serving.aliases import AliasFile, Change, Trial
from serving.refs import ROLES, ModelRef, StoreError


class Aliases(Frozen):
    """Which versions of a model have a role, and how that came about."""

    champion: ModelRef | None
    challenger: ModelRef | None
    previous: ModelRef | None
    trial: Trial | None
    history: tuple[Change, ...]  # oldest first

    def tries(self, ref: ModelRef) -> bool:
        """Whether requests go to `ref` beside the champion."""
        return self.trial is not None and self.trial.version == ref.version

    def holds(self, ref: ModelRef) -> bool:
        """Whether it must stay."""
        return ref in (self.champion, self.challenger, self.previous, self.last_better) or self.tries(ref)

    @property
    def last_better(self) -> ModelRef | None:
        """The champion, or the earlier one that it is hardly worse than, with which new models are compared too."""
        return None if self.champion is None else better.last_better(self.champion, self.history)


def aliases(name: str) -> Aliases:
    """Who has which role; nobody where nothing was ever promoted."""
    ModelRef.checked(name, "0")
    return _aliases(name, alias_files.read(shelf.home(), name))


def promote(ref: ModelRef, *, reason: str, because: str | None = None) -> Aliases:
    """Make `ref` the champion; a running service follows within two seconds.

    `because`: the words of a person who decided it; the history has them beside the last verdict on `ref`.
    """
    shelf.path(ref)

    def edit(old: AliasFile) -> AliasFile:
        shelf.path(ref)  # again, under the lock: retention takes nothing away any more
        change = alias_files.entry("promote", ref.version, old.champion, reason, because=because, **_verdict(ref))
        return old.model_copy(
            update={
                "champion": ref.version,
                "previous": old.previous if old.champion == ref.version else old.champion,
                "challenger": None if old.challenger == ref.version else old.challenger,
                "trial": None,  # the champion that it was compared with is gone
                "history": (*old.history, change),
            }
        )

    return change(ref.name, edit)


def rollback(name: str, *, reason: str, to: str | None = None, because: str | None = None) -> ModelRef:
    """Make the previous champion the champion again, or with `to` the version that once was it; what is left becomes
    the previous one, so that rolling back twice comes back. Raises `StoreError` where there is nothing to go back to.
    """
    ModelRef.checked(name, "0")

    def edit(old: AliasFile) -> AliasFile:
        back = _earlier(name, old, to)
        shelf.path(back)
        change = alias_files.entry("rollback", back.version, old.champion, reason, because=because, **_verdict(back))
        return old.model_copy(
            update={
                "champion": back.version,
                "previous": old.champion,
                "challenger": None if old.challenger == back.version else old.challenger,
                "trial": None,
                "history": (*old.history, change),
            }
        )

    champion = change(name, edit).champion
    assert champion is not None
    return champion


def earlier(name: str, to: str | None = None) -> ModelRef:
    """The stored version that a rollback would put into service. Raises `StoreError` where there is none."""
    ModelRef.checked(name, "0")
    ref = _earlier(name, alias_files.read(shelf.home(), name), to)
    shelf.path(ref)
    return ref


def change(name: str, edit: Callable[[AliasFile], AliasFile]) -> Aliases:
    """Replace the roles of a name, under its lock."""
    return _aliases(name, alias_files.change(shelf.home(), name, edit))


@contextmanager
def still(name: str) -> Iterator[Aliases]:
    """Who has which role; inside the block nobody is given another one."""
    with whole.locked(alias_path(name)):
        yield aliases(name)


def latest_promoted() -> str | None:
    """Name of the model whose champion was decided last."""
    decided = [
        (change.when, name)
        for name in alias_files.names(shelf.home())
        for change in alias_files.read(shelf.home(), name).history
        if change.what in alias_files.DECISIONS
    ]
    return max(decided)[1] if decided else None


def champions() -> tuple[ModelRef, ...]:
    """Of every name that has one, in the order of names."""
    held = (aliases(name).champion for name in alias_files.names(shelf.home()))
    return tuple(ref for ref in held if ref is not None)


def alias_path(name: str) -> Path:
    """The file to watch for a promotion of `name`."""
    return alias_files.file_of(shelf.home(), name)


def _earlier(name: str, held: AliasFile, to: str | None) -> ModelRef:
    if to is None:
        if held.previous is None:
            known = ", ".join(alias_files.names(shelf.home())) or "none"
            there = "promote a version" if held.champion else f"models in service: {known}"
            raise StoreError(f"model {name!r} has no previous champion to go back to; {there}")
        return ModelRef(name=name, version=held.previous)
    ref = shelf.completed(ModelRef.checked(name, to))
    if held.champion == ref.version:
        raise StoreError(f"{ref} is the champion already; `trainserve models history {name}` shows who was before")
    if ref.version not in held.champions:
        raise StoreError(
            f"{ref} was never the champion of {name}, so there is no way back to it; "
            f"`trainserve models history {name}` shows who was, and `trainserve models promote {ref}` puts a version "
            "into service for the first time"
        )
    return ref


class _Found(TypedDict):
    """What the last verdict was, for the history."""

    verdict: alias_files.Word | None
    relation: str | None


def _verdict(ref: ModelRef) -> _Found:
    from serving import verdicts  # the settings of a whole run are in it: only where a champion is chosen

    word = verdicts.word(ref)
    return {"verdict": word, "relation": verdicts.relation(ref) if word == "promoted" else None}


def _aliases(name: str, file: AliasFile) -> Aliases:
    refs = {role: ModelRef(name=name, version=version) for role in ROLES if (version := getattr(file, role))}
    return Aliases(
        champion=refs.get("champion"),
        challenger=refs.get("challenger"),
        previous=refs.get("previous"),
        trial=file.trial,
        history=file.history,
    )
