"""The commands about stored models: what each takes, and where it is done. No work here."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON object on standard output.")]
Because = Annotated[
    str | None, Parameter(name=("--because", "--reason"), help="Why, for whoever reads the history later.")
]
Format = Literal["bundle", "triton", "oci-layout"]

models_app = App(name="models", help="The models in the store, and which of them is in service.")


@models_app.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Every stored model, its roles and its accuracy."""
    from flows.cli import stored

    stored.show_all(as_json=as_json)


@models_app.command
def show(model: str, /, *, as_json: Json = False) -> None:
    """All that is known of NAME@VERSION: figures, data, settings, lineage, verdict, and how it came to its role.

    NAME alone is its champion; NAME@VERSION is what every answer of the service has as `model`.
    """
    from flows.cli import showing

    showing.show_one(model, as_json=as_json)


@models_app.command
def promote(model: str, /, *, canary: str | None = None, shadow: str | None = None, because: Because = None) -> None:
    """Put NAME@VERSION into service; with a share, only on trial beside the champion.

    trainserve models promote flowers@3
    trainserve models promote flowers@3 --because "the old one does not know tulips"
    trainserve models promote flowers@3 --canary 10% --because "too few test pictures to tell"
    trainserve models promote flowers@3 --shadow 100%

    A version that its run refused, or that no run compared, answers requests only with --because.

    A running service ends a trial by itself where the challenger fails, is slow, or disagrees too often (the
    TRAINSERVE_TRIAL_... settings of docs/serving.md); `trainserve models rollback NAME` ends it at once.

    Parameters
    ----------
    canary
        Share of the requests that it answers: 10% or 0.1.
    shadow
        Share of the requests that it answers as well, only to be compared: the champion's answer is sent.
    """
    from flows.cli import promoting

    promoting.promote(model, canary=canary, shadow=shadow, because=because)


@models_app.command
def rollback(name: str, /, *, to: str | None = None, because: Because = None) -> None:
    """End a trial of NAME; where there is none, or with --to, put an earlier champion into service again.

    Parameters
    ----------
    to
        A version that was the champion once, as `trainserve models history NAME` shows it; by default the previous one.
    """
    from flows.cli import promoting

    promoting.rollback(name, to=to, because=because)


@models_app.command
def history(name: str, /, *, as_json: Json = False) -> None:
    """Who promoted, tried or took back which version of NAME, when, why, and what its verdict was."""
    from flows.cli import promoting

    promoting.history(name, as_json=as_json)


@models_app.command
def verify(model: str, /) -> None:
    """Check the files of NAME@VERSION, or of a bundle folder, and replay its golden samples."""
    from flows.cli import stored

    stored.verify(model)


@models_app.command
def sign(
    model: str,
    /,
    *,
    key: Annotated[Path | None, Parameter(env_var="TRAINSERVE_SIGNING_KEY")] = None,
    sigstore: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Vouch for NAME@VERSION, or a bundle folder, with a key that `sign-key` made, or with sigstore.

    A service that was told of signers (TRAINSERVE_SIGNERS=FILE) takes only models that one of them has signed. With
    TRAINSERVE_SIGNING_KEY=FILE in its environment, a run signs what it makes.

    Parameters
    ----------
    sigstore
        Sign as who is logged in, in a browser or a CI job, instead of with a key; needs the network. A service that
        was told of TRAINSERVE_SIGSTORE="IDENTITY ISSUER" takes only models that are signed so.
    """
    from flows.cli import signing

    signing.sign(model, key, sigstore=sigstore)


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
def export(
    model: str,
    /,
    to: Annotated[Path, Parameter(name="--to")],
    *,
    format_: Annotated[Format, Parameter(name="--format")] = "bundle",
) -> None:
    """Write NAME@VERSION into the new folder TO, with a page about it, for another machine or another server.

    trainserve models export flowers@3 to/
    trainserve models export flowers@3 --to repository/ --format triton

    Parameters
    ----------
    to
        A folder that is not there yet.
    format_
        bundle: as it is, and what `import` takes; triton: a model repository for NVIDIA Triton; oci-layout: an OCI
        image layout, which oras and skopeo carry into a container registry, and `import` takes as well.
    """
    from flows.cli import carrying

    carrying.export(model, to, format_)


@models_app.command(name="import")
def import_(path: Path, /) -> None:
    """Store the bundle at PATH: a folder, a .tar, .tar.gz or .zip of one, or an OCI layout; put nothing into service.

    Its digests are compared and its golden samples replayed; with TRAINSERVE_SIGNERS, one of these must have signed it.
    """
    from flows.cli import carrying

    carrying.import_(path)
