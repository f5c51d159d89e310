"""`trainserve data diff`: what it takes, and where it is done. No work here."""

from flows.cli.models_app import Json
from flows.cli.options import Settings


def diff(a: str, b: str, /, *settings: Settings, as_json: Json = False) -> None:
    """Say which pictures B has that A has not, and which have another class, part or name; nothing is trained.

    trainserve data diff flowers@3 flowers/

    A and B are each a source, as `data inspect` takes it; the id of a run; NAME@VERSION of a model; or 8 or more digits
    of a fingerprint. Exit status 0 whether or not there are differences. A source alone says no
    part of a picture that a run splits off: that is not compared. It is read as a run would with the same settings,
    such as --dataset.name flowers, whose decisions then hold, --dataset.more south/ or --dataset.rename daisies=daisy.
    """
    from flows.cli import differing

    differing.show(a, b, settings, as_json=as_json)
