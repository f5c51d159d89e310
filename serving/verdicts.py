"""What was found on each stored version, kept beside the models: run folders go after weeks, versions and roles stay.

`BENTOML_HOME/trainserve/verdicts/<name>/<version>.json` holds every verdict on a version, the last one last.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from data import whole
from data.spec import Frozen
from models.records import Verdict
from serving import shelf
from serving.aliases import Word
from serving.refs import ModelRef, StoreError


class Given(Frozen):
    """A verdict and when it was given."""

    when: str  # ISO 8601, UTC
    verdict: Verdict


class VerdictFile(Frozen):
    format: Literal[1] = 1
    given: tuple[Given, ...] = ()  # oldest first


def keep(ref: ModelRef, verdict: Verdict) -> None:
    """Append it; the file is whole at every instant. Raises `StoreError` where the earlier ones cannot be read."""
    file = file_of(ref)
    with whole.locked(file.parent):
        one = Given(when=datetime.now(UTC).isoformat(timespec="microseconds"), verdict=verdict)
        kept = VerdictFile(given=(*given(ref), one))
        whole.write(file, kept.model_dump_json(indent=1).encode() + b"\n")


def given(ref: ModelRef) -> tuple[Given, ...]:
    """Oldest first; none for a version that no run compared, or that is from before verdicts were kept.

    Raises `StoreError` for a file that someone damaged, or that cannot be read.
    """
    file = file_of(ref)
    try:
        return VerdictFile.model_validate_json(file.read_bytes()).given
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror}); make it readable, or remove it") from None
    except ValidationError:
        raise StoreError(f"{file} is damaged or of a newer version; restore it, or remove it") from None


def word(ref: ModelRef) -> Word | None:
    """Of the last verdict; None where it cannot be read, which is no reason not to go back to a good model."""
    try:
        known = given(ref)
    except StoreError:
        return None
    if not known:
        return "none"
    return "promoted" if known[-1].verdict.promoted else "refused"


def objection(ref: ModelRef) -> str | None:
    """What speaks against putting `ref` into service, without its full stop; None: its last verdict promoted it."""
    try:
        known = given(ref)
    except StoreError as error:
        return f"the verdict on {ref} cannot be read ({error})"
    if not known:
        return f"{ref} has no verdict: no run has compared it with the champion here"
    last = known[-1].verdict
    return None if last.promoted else f"{ref} was refused ({last.reason.rstrip('.')})"


def forget(ref: ModelRef) -> None:
    """With the version that they are about."""
    file_of(ref).unlink(missing_ok=True)


def file_of(ref: ModelRef) -> Path:
    ModelRef.checked(ref.name, ref.version)
    return shelf.home() / "trainserve" / "verdicts" / ref.name / f"{ref.version}.json"
