"""A new bundle asked as a service here would ask it: with the graph in fewer bits that would answer, and where that one
fails, without it. What was made beside the exported graph never costs the run."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from data.progress import Progress, ignore
from models.bundle import parity
from models.bundle.bundle import Bundle
from models.bundle.graphs import Graphs
from models.bundle.parity import Ask, ServedOtherwiseError
from models.bundle.variants import Wanted
from models.cards import Parity, Rehearsal


class Service(Protocol):
    """A service on a bundle, which ends with the block that it is started for."""

    @property
    def ask(self) -> Ask: ...

    def rehearse(self) -> Rehearsal:
        """How it stands up to requests; it is stopped then."""


Rehearse = Callable[[Bundle, Progress], AbstractContextManager[Service]]
"""From outside, since a service is no part of a model."""


@dataclass(frozen=True)
class Proof:
    graphs: Graphs  # without the one that failed
    parity: Parity
    rehearsal: Rehearsal | None


def proved(
    graphs: Graphs,
    write: Callable[[Graphs], Bundle],
    compared: Callable[..., Parity],
    *,
    variant: Wanted,
    rehearse: Rehearse | None = None,
    progress: Progress = ignore,
) -> Proof:
    """write: the bundle of these graphs, opened with the exported one. compared: `parity.over_files` for its pictures.
    variant: what services here are told to answer with. Raises `ExportError` where the exported graph fails, or a
    service with it."""
    bundle = write(graphs)
    answering = Bundle.open(bundle.folder, variant=variant) if graphs.kept else bundle
    try:
        proof = _asked(graphs, bundle, answering, compared, rehearse, progress)
    except ServedOtherwiseError as error:
        if answering.variant == "float":
            raise
        fault = str(error).removesuffix(f"; {parity.REMEDY}")
    else:
        if answering.variant == "float" or proof.rehearsal is None or proof.rehearsal.fault is None:
            return proof
        fault = f"the service on it {proof.rehearsal.fault}"
    progress(f"once more, without the {answering.variant} graph", 0, 0)
    others = graphs.without(answering.variant, fault)
    return proved(others, write, compared, variant="float", rehearse=rehearse, progress=progress)


def _asked(
    graphs: Graphs,
    bundle: Bundle,
    answering: Bundle,
    compared: Callable[..., Parity],
    rehearse: Rehearse | None,
    progress: Progress,
) -> Proof:
    with rehearse(answering, progress) if rehearse else nullcontext() as service:
        over_all = partial(compared, exported=bundle.predict, variants=graphs.answers, progress=progress)
        found = over_all(served=service.ask, by=answering.variant) if service else over_all()
        return Proof(graphs, found, service.rehearse() if service else None)
