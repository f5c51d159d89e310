"""The commands about stored models: what each takes, and where it is done. No work here."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON object on standard output.")]
Reason = Annotated[str, Parameter(name="--reason", help="Why, for whoever reads the history later.")]

models_app = App(name="models", help="The models in the store, and which of them is in service.")


@models_app.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Every stored model, its roles and its accuracy."""
    from flows.cli import stored

    stored.show_all(as_json=as_json)


@models_app.command
def show(model: str, /, *, as_json: Json = False) -> None:
    """The card of NAME or NAME@VERSION: figures, data, lineage, and how it came to its role."""
    from flows.cli import stored

    stored.show_one(model, as_json=as_json)


@models_app.command
def promote(model: str, /, *, canary: str | None = None, shadow: str | None = None, reason: Reason = "by hand") -> None:
    """Put NAME@VERSION into service; with a share, only on trial beside the champion.

    trainserve models promote flowers@3
    trainserve models promote flowers@3 --canary 10%
    trainserve models promote flowers@3 --shadow 100%

    A running service ends a trial by itself where the challenger fails, is slow, or disagrees too often (the
    TRAINSERVE_TRIAL_... settings of docs/serving.md); `trainserve models rollback NAME` ends it at once.

    Parameters
    ----------
    canary
        Share of the requests that it answers: 10% or 0.1.
    shadow
        Share of the requests that it answers as well, only to be compared: the champion's answer is sent.
    """
    from flows.cli import stored

    stored.promote(model, canary=canary, shadow=shadow, reason=reason)


@models_app.command
def rollback(name: str, /, *, reason: Reason = "by hand") -> None:
    """End a trial of NAME; where there is none, put its previous champion into service again."""
    from flows.cli import stored

    stored.rollback(name, reason=reason)


@models_app.command
def verify(model: str, /) -> None:
    """Check the files of NAME@VERSION, or of a bundle folder, and replay its golden samples."""
    from flows.cli import stored

    stored.verify(model)


@models_app.command
def sign(model: str, /, *, key: Annotated[Path, Parameter(env_var="TRAINSERVE_SIGNING_KEY")]) -> None:
    """Vouch for NAME@VERSION, or a bundle folder, with a key that `sign-key` made.

    A service that was told of signers (TRAINSERVE_SIGNERS=FILE) takes only models that one of them has signed. With
    TRAINSERVE_SIGNING_KEY=FILE in its environment, a run signs what it makes.
    """
    from flows.cli import signing

    signing.sign(model, key)


@models_app.command
def sign_key(file: Path, /, *, name: str) -> None:
    """Make a signing key: the private one into the new FILE, the public one printed, as a line of a signers' file.

    Parameters
    ----------
    name
        Of whoever signs with it.
    """
    from flows.cli import signing

    signing.make_key(file, name)


@models_app.command
def export(model: str, to: Path, /) -> None:
    """Copy the bundle of NAME@VERSION to the new folder TO."""
    from flows.cli import stored

    stored.export(model, to)
