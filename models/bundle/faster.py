"""Graphs in fewer bits, made of an exported one: kept only if they are as right, every class of theirs too, and for
processors, faster."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from data.progress import Progress, ignore
from models.bundle import session
from models.bundle.halve import halved
from models.bundle.quantise import Quantiser
from models.bundle.searching import RECIPES, Tried, search
from models.bundle.shown import Shown, Sight
from models.bundle.timing import Predict, in_turns
from models.bundle.variants import PROVIDERS
from models.cards import Recipe, Variant
from models.evaluation.checks import classes_kept, floors
from models.evaluation.compare import fallen_classes
from models.evaluation.config import ExportConfig, ReleaseConfig
from models.evaluation.pairs import Paired, paired
from models.evaluation.percent import percent
from models.verdict import Check, failed

ASKED: dict[str, tuple[str, ...]] = {"none": (), "int8": ("int8",), "fp16": ("fp16",), "both": ("int8", "fp16")}
FASTER = 0.9  # of the exported graph's time, at most
BATCH = 32
ROUNDS, WITHIN_S = 15, 20.0

Clock = Callable[[Predict, Predict, np.ndarray], tuple[float, float]]
"""Milliseconds that each of two takes for pixels (N, H, W, C)."""


@dataclass(frozen=True)
class Made:
    """What came of one; the graph is there if it is kept."""

    variant: Variant
    graph: bytes | None


Make = Callable[[bytes], tuple[Made, ...]]
"""An exported graph -> graphs in fewer bits."""


def medians(one: Predict, other: Predict, pixels: np.ndarray) -> tuple[float, float]:
    first, second = 1000 * np.median(in_turns([one, other], pixels, rounds=ROUNDS, within_s=WITHIN_S), axis=0)
    return float(first), float(second)


def made(
    graph: bytes,
    *,
    sight: Sight,
    config: ExportConfig,
    release: ReleaseConfig,
    clock: Clock = medians,
    progress: Progress = ignore,
) -> tuple[Made, ...]:
    """All that `config.quantize` asks for. One that cannot be made, or is no better, is told and not kept.

    release: the verdict that it is to meet later."""
    trial = Trial(graph, sight=sight, config=config, release=release, clock=clock, progress=progress)
    return tuple(trial.made(name) for name in ASKED[config.quantize])


class Trial:
    """One exported graph, and what is held against it."""

    def __init__(
        self,
        graph: bytes,
        *,
        sight: Sight,
        config: ExportConfig,
        release: ReleaseConfig,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._graph, self._predict, self._sight = graph, asked(graph), sight
        self._config, self._release, self._clock, self._progress = config, release, clock, progress

    def made(self, name: str) -> Made:
        self._progress(f"making the {name} graph", 0, 0)
        try:
            return self._int8() if name == "int8" else self._fp16()
        except Exception as error:  # noqa: BLE001 - what onnx and onnxruntime throw shares no base class
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            reason = re.sub(r"\S*/\S*", "...", first)[:200]  # without paths: the card is shown to anybody
            return _told(name, kept=False, said=f"not kept: it cannot be made of this network ({reason})")

    def _int8(self) -> Made:
        until = time.monotonic() + 60 * self._config.minutes
        validation = self._sight.validation
        ours = validation.answers(self._predict)
        with TemporaryDirectory(prefix="trainserve-") as folder:
            quantiser = Quantiser(self._graph, self._sight.calibration, Path(folder))
            attempt = partial(_attempt, quantiser, validation, ours)
            first = attempt(RECIPES[0])
            if (refused := self._too_slow(first)) is not None:
                return refused  # leaving nodes out would make it slower still
            found = search(
                attempt,
                partial(_ranked, quantiser, self._sight.calibration, self._predict, until),
                first=first,
                enough=_accuracy(ours, validation),
                until=until,
                progress=self._progress,
            )
        return self._too_slow(found) or self.judged("int8", found.graph, found.recipe)

    def _too_slow(self, tried: Tried) -> Made | None:
        speed = self._speed(asked(tried.graph))
        if speed.enough:
            return None
        said = f"not kept: {speed.said}; {1 / FASTER:.2f} x is the least that counts as faster"
        return _told("int8", kept=False, said=said, figures={"recipe": tried.recipe, **speed.figures})

    def _fp16(self) -> Made:
        return self.judged("fp16", halved(self._graph), None)

    def judged(self, name: str, graph: bytes, recipe: Recipe | None) -> Made:
        """By the test pictures, which nothing was chosen by: the only look at them."""
        test, predict = self._sight.test, asked(graph)
        speed = self._speed(predict) if name == "int8" else None
        theirs, ours = test.answers(predict), test.answers(self._predict)
        right = [answers.argmax(axis=1) == test.labels for answers in (theirs, ours)]
        pairs, margin = paired(right[0], right[1], confidence=self._release.confidence), self._config.quantize_margin
        finite = bool(np.isfinite(theirs).all())
        lost = losses(theirs, ours, test.labels, test.images.classes, self._release) if finite else ()
        kept = finite and as_right(pairs, margin) and not lost
        said = (
            f"{percent(right[0].mean())} of {pairs.n:,} test pictures right, the exported graph "
            f"{percent(right[1].mean())}; a loss of up to {percent(max(0.0, -pairs.difference_low))} cannot be ruled "
            f"out, export.quantize_margin is {percent(margin)}{''.join(f'; {check.said}' for check in lost)}"
        )
        how = f"{speed.said}; " if speed else "its speed shows on a GPU alone; "
        figures = {
            "bytes": len(graph),
            "n": pairs.n,
            "accuracy": float(right[0].mean()),
            "float_accuracy": float(right[1].mean()),
            "low": pairs.difference_low,
            "recipe": recipe,
            **(speed.figures if speed else {}),
        }
        said = f"{'kept' if kept else 'not kept'}: {how}{said}"
        return _told(name, kept=kept, said=said, graph=graph if kept else None, figures=figures)

    def _speed(self, predict: Predict) -> "Speed":
        pixels = next(self._sight.calibration.batches(BATCH))
        pixels = np.resize(pixels, (BATCH, *pixels.shape[1:]))  # again from the first where they are fewer
        one, float_one = self._clock(predict, self._predict, pixels[:1])
        batch, float_batch = self._clock(predict, self._predict, pixels)
        return Speed(p50_ms=one, float_p50_ms=float_one, batch_ms=batch, float_batch_ms=float_batch)


@dataclass(frozen=True)
class Speed:
    """Of a variant and of the graph that it was made of, one thread, here."""

    p50_ms: float
    float_p50_ms: float
    batch_ms: float
    float_batch_ms: float

    @property
    def enough(self) -> bool:
        return self.p50_ms <= FASTER * self.float_p50_ms and self.batch_ms <= FASTER * self.float_batch_ms

    @property
    def said(self) -> str:
        one, batch = self.float_p50_ms / self.p50_ms, self.float_batch_ms / self.batch_ms
        return f"{one:.2f} x as fast for one picture, {batch:.2f} x for {BATCH}"

    @property
    def figures(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in vars(self).items()}


def as_right(pairs: Paired, margin: float) -> bool:
    """Is a loss of more than the margin ruled out, by the limit that the verdict goes by? One of just the margin passes
    no more often than `release.confidence` leaves, with few pictures and where nothing is gained too."""
    return pairs.difference_low >= -margin


def losses(
    theirs: np.ndarray, ours: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], release: ReleaseConfig
) -> tuple[Check, ...]:
    """What the verdict would refuse a graph for and the exported one not: a class that fell, a limit that is no longer
    kept. Both (N, K) probabilities of the same N pictures, all finite; labels (N,)."""
    right_new, right_old = theirs.argmax(axis=1) == labels, ours.argmax(axis=1) == labels
    fallen = fallen_classes(right_new, right_old, labels, classes, release)
    missed = {check.name for check in failed(floors(ours, labels, classes, release))}
    asked_of_any = tuple(check for check in floors(theirs, labels, classes, release) if check.name not in missed)
    return failed((classes_kept(fallen, release), *asked_of_any))


def asked(graph: bytes) -> Predict:
    """uint8 pixels (N, H, W, C) -> probabilities (N, K), by one thread, as a service asks it."""
    return partial(session.answer, session.connect(graph))


def _attempt(quantiser: Quantiser, shown: Shown, ours: np.ndarray, recipe: Recipe) -> Tried:
    graph = quantiser.make(recipe)
    theirs = shown.answers(asked(graph))
    change = float(np.abs(theirs - ours).mean())
    return Tried(recipe=recipe, graph=graph, accuracy=_accuracy(theirs, shown), change=change)


def _ranked(quantiser: Quantiser, shown: Shown, original: Predict, until: float, recipe: Recipe) -> list[str]:
    """Its nodes, the one that changes the answers most, alone in eight bits, first; as many as there is time for."""
    ours, change = shown.answers(original), {}
    for node in quantiser.nodes:
        if time.monotonic() >= until:
            break
        alone = shown.answers(asked(quantiser.make(recipe, only=[node])))
        change[node] = float(np.abs(alone - ours).mean())
    return sorted(change, key=lambda node: -change[node])


def _accuracy(answers: np.ndarray, shown: Shown) -> float:
    return float((answers.argmax(axis=1) == shown.labels).mean())


def _told(
    name: str, *, said: str, kept: bool, graph: bytes | None = None, figures: Mapping[str, object] | None = None
) -> Made:
    told = {"name": name, "provider": PROVIDERS[name], "kept": kept, "said": said, **(figures or {})}
    return Made(variant=Variant.model_validate(told), graph=graph)
