"""What a stored bundle's answers do not show: its size, its time for a picture, how it bears worse ones. No Prefect."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.images import Images
from data.progress import Progress, ignore
from models.bundle.bundle import Bundle
from models.config import ReleaseConfig
from models.evaluation import checks, pace, robustness
from models.evaluation.compare import align
from models.verdict import Check, Level

TIMED = 16  # pictures that are answered in turns


@dataclass(frozen=True)
class Measured:
    checks: tuple[Check, ...]
    levels: tuple[Level, ...]  # empty where robustness was not asked for


@dataclass(frozen=True)
class Measuring:
    """How a candidate is measured; `latency_ms` was measured over HTTP, None: it is measured here, in process."""

    candidate: Bundle
    images: Images
    config: ReleaseConfig
    latency_ms: float | None = None
    progress: Progress = ignore

    def beside(self, champion: Bundle | None, rows: np.ndarray, labels: np.ndarray) -> Measured:
        """On these test pictures, (N,) rows and labels, together with the champion, if there is one."""
        models = [self.candidate] if champion is None else [self.candidate, champion]
        found = [*self._paces(models, rows), checks.size(size_of(self.candidate), self.config)]
        levels: tuple[Level, ...] = ()
        if self.config.robust_margin is not None:
            levels = self._levels(models, rows, labels)
            margin, confidence = self.config.robust_margin, self.config.confidence
            found.append(robustness.robustness(levels, margin=margin, confidence=confidence))
        return Measured(checks=tuple(found), levels=levels)

    def _paces(self, models: list[Bundle], rows: np.ndarray) -> list[Check]:
        self.progress("answers to one picture at a time", 0, 0)
        some = rows[np.unique(np.linspace(0, len(rows) - 1, TIMED).round().astype(int))]
        files = [self.images.path(int(row)).read_bytes() for row in some]
        seconds = pace.in_turns([model.classify for model in models], files)
        if self.latency_ms is None:
            here = 1000 * float(np.quantile(seconds[:, 0], 0.95))
            found = [checks.latency(here, self.config, where="in process")]
        else:
            found = [checks.latency(self.latency_ms, self.config, where="over HTTP")]
        usual = np.median(seconds, axis=0)
        return found if len(models) == 1 else [*found, checks.slowdown(usual[0], usual[1], self.config)]

    def _levels(self, models: list[Bundle], rows: np.ndarray, labels: np.ndarray) -> tuple[Level, ...]:
        images = self.images
        shown = [
            robustness.Shown(file=images.path(row), digest=images.digest(row), label=int(label))
            for row, label in zip(map(int, rows), labels, strict=True)
        ]
        asked = [asked_of(model, images.classes) for model in models]
        chosen = robustness.choose(shown, asked)
        return robustness.levels(robustness.answered(chosen, asked, progress=self.progress))


def asked_of(bundle: Bundle, classes: tuple[str, ...]) -> robustness.Asked:
    """Its answers in the order of `classes`."""
    card = bundle.card
    ask: Callable[[np.ndarray], np.ndarray] = bundle.predict
    if card.classes != classes:

        def ask(pixels: np.ndarray) -> np.ndarray:
            return align(bundle.predict(pixels), classes=card.classes, onto=classes)

    return robustness.Asked(image=card.image, predict=ask, flops=card.flops)


def size_of(bundle: Bundle) -> int:
    """Bytes of all its files."""
    return sum(file.stat().st_size for file in bundle.folder.rglob("*") if file.is_file())
