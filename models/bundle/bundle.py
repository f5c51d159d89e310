"""A trained model as a folder: verified, replayed, asked. The only thing that passes from training to serving.

    model.onnx      uint8 pixels (N, H, W, C) -> calibrated probabilities (N, K), energies (N,); mean and deviation are
                    inside
    model.int8.onnx, model.fp16.onnx   the same in fewer bits, where they were asked for and found good
    card.json       ModelCard: classes, geometry, figures, lineage
    README.md       the same for readers, as hubs of models want it; not in bundles of before
    golden/         pictures with the pixels and answers they must give; int8.json, fp16.json: the variants' answers
    manifest.json   size and sha256 of every other file

No torch here: importing this module is all that a service needs.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
import PIL

from data.preprocess import to_pixels
from data.spec import Frozen
from models.bundle import golden as goldens
from models.bundle import manifest, session, variants
from models.bundle.golden import Golden, Sample
from models.bundle.manifest import BundleError
from models.bundle.session import PixelError
from models.bundle.signature import Signers
from models.records import ModelCard
from models.strangeness import unfamiliar

__all__ = [
    "Bundle",
    "BundleError",
    "Golden",
    "PixelError",
    "Prediction",
    "Sample",
    "Score",
    "predict_files",
    "read_card",
]

MODEL = "model.onnx"
CARD = "card.json"

logger = logging.getLogger("trainserve.bundle")


class Score(Frozen):
    label: str
    probability: float


class Prediction(Frozen):
    """What a model says of one picture."""

    label: str
    probability: float
    scores: tuple[Score, ...]  # every class, the most probable first
    sure: bool | None = None  # None: the model has no threshold for it
    unfamiliar: float | None = None  # share of the test pictures that were no stranger to it; None: it cannot tell


@dataclass(frozen=True)
class Bundle:
    """A model that has proved, on this machine, that it answers as the trained network did."""

    folder: Path
    card: ModelCard
    golden: Golden  # with the answers of the graph that answers
    _session: ort.InferenceSession = field(repr=False)
    variant: variants.Name = "float"  # which graph that is: model.onnx, or one in fewer bits
    why: str = ""  # it is that one

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        threads: int = 1,
        gpu: int | None = None,
        signers: Signers | None = None,
        variant: variants.Wanted = "auto",
    ) -> Self:
        """Verify the manifest and, with `signers`, who signed it; read the card, load the graph, replay the golden
        samples. On the CPU, or where it can be on the GPU of this number. Raises `BundleError`.

        variant: the graph that is to answer; auto: on a processor the int8 one, if there is one, however fast it is
        here; where a GPU is asked for that cannot be used, the one that would answer there, for it was judged. Where
        the one that is wanted does not answer as it should, model.onnx does.
        """
        contents = manifest.verified(folder, signers=signers)
        for name in (CARD, MODEL):
            if name not in contents:
                raise BundleError(f"{folder} has no {name}, so it is no bundle; export the run again")
        card = manifest.parse(ModelCard, contents[CARD], CARD)
        if len(set(card.classes)) != len(card.classes) or len(card.classes) < 2:
            raise BundleError(f"card.json has {len(card.classes)} classes, some of them twice or too few of them")
        golden = goldens.load(contents, image=card.image, classes=card.classes)
        connect = partial(session.connect, threads=threads, gpu=gpu)
        graph = connect(contents[MODEL])
        session.check_signature(graph, image=card.image, num_classes=len(card.classes))
        bundle = cls(folder=folder, card=card, golden=golden, _session=graph)
        bundle.replay()
        asked = session.CPU if gpu is None else session.CUDA
        return bundle._or_variant(variants.suited(card, asked, variant), variant, contents, connect)

    def _or_variant(
        self,
        suited: tuple[variants.Name, str],
        wanted: variants.Wanted,
        contents: Mapping[str, bytes],
        connect: Callable[[bytes], ort.InferenceSession],
    ) -> Self:
        """Itself, or with another graph that answers in its place."""
        name, why = suited
        if name == "float":
            return replace(self, why=why)
        file = variants.FILES[name]
        try:
            if file not in contents:
                raise BundleError(f"{MODEL} is not there; export the run again")
            graph = connect(contents[file])
            session.check_signature(graph, image=self.card.image, num_classes=len(self.card.classes))
            answers = goldens.of_variant(self.golden, name, contents)
            other = replace(self, variant=name, why="as asked for", golden=answers, _session=graph)
            other.replay()
            gain = variants.times_as_fast(other.predict, self.predict, self.golden.pixels) if wanted == "auto" else None
        except Exception as error:  # noqa: BLE001 - onnxruntime's share no base class; there is one that answers
            reason = str(error).strip().partition("\n")[0].partition(";")[0][:200].replace(MODEL, file)
            logger.warning("%s@%s: its %s graph is not used: %s", self.card.name, self.card.version, name, reason)
            return replace(self, why=f"the {name} graph is not used: {reason}")
        return other if gain is None else other._told(gain)

    def _told(self, gain: float) -> Self:
        """With how many times as fast it is here as the exported graph, which decides nothing."""
        if gain >= 1:
            return replace(self, why=f"{gain:.1f} times as fast here as the graph it was made of")
        why = f"it was the faster one where it was made; here it is slower, {gain:.2f} times as fast"
        called = f"{self.card.name}@{self.card.version}"
        logger.warning(
            "%s answers with its %s graph: %s; TRAINSERVE_VARIANT=float takes the other", called, self.variant, why
        )
        return replace(self, why=why)

    def replay(self, *, decode: goldens.Decode = to_pixels) -> None:
        """Raises `BundleError` unless the golden samples give training's pixels and answers here and now."""
        trained = self.card.versions.get("pillow", "an unknown version")
        made_with = f"Pillow {trained} there, {PIL.__version__} here"
        goldens.replay(self.golden, image=self.card.image, decode=decode, predict=self.predict, made_with=made_with)

    @property
    def provider(self) -> str:
        """Of onnxruntime's: CPUExecutionProvider, or CUDAExecutionProvider."""
        return session.provider(self._session)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """pixels u8 (N, H, W, C) in the card's geometry -> probabilities (N, K) float32.

        Any number of threads may call it at once. Raises `PixelError`.
        """
        session.check_pixels(pixels, self.card.image)
        if not len(pixels):
            return np.empty((0, len(self.card.classes)), dtype=np.float32)
        return session.answer(self._session, pixels)

    @property
    def has_energy(self) -> bool:
        """Whether it can say how strange a picture is to it."""
        return self.card.outliers is not None and session.has_energy(self._session)

    def predict_with_energy(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `predict`, with (N,) float32, of a bundle that `has_energy`. N >= 1."""
        session.check_pixels(pixels, self.card.image)
        return session.answer_with_energy(self._session, pixels)

    def decode(self, file: bytes | Path) -> np.ndarray:
        """A picture's bytes -> u8 (H, W, C), one row for `predict`. Raises `UnreadableImage`."""
        return to_pixels(file, self.card.image)

    def prediction(self, probabilities: np.ndarray, energy: float | None = None) -> Prediction:
        """One row (K,) of `predict`, with its energy where there is one -> labels with their probabilities. Equal ones
        stay in the card's order."""
        order = np.argsort(-probabilities, kind="stable")
        scores = tuple(Score(label=self.card.classes[k], probability=float(probabilities[k])) for k in order)
        limit, surest = self.card.threshold, scores[0]
        sure = None if limit is None else surest.probability > limit
        known = self.card.outliers
        strange = None if known is None or energy is None else unfamiliar(known.quantiles, energy)
        return Prediction(
            label=surest.label, probability=surest.probability, scores=scores, sure=sure, unfamiliar=strange
        )

    def classify(self, file: bytes | Path) -> Prediction:
        """A picture's bytes -> what the model says of it. Raises `UnreadableImage`."""
        pixels = self.decode(file)[None]
        if not self.has_energy:
            return self.prediction(self.predict(pixels)[0])
        answers, energies = self.predict_with_energy(pixels)
        return self.prediction(answers[0], float(energies[0]))


def read_card(folder: Path) -> ModelCard:
    """What a bundle says of itself, unverified: for one that was made or opened here."""
    return ModelCard.model_validate_json((folder / CARD).read_bytes())


def predict_files(bundle: Bundle, paths: Iterable[Path], *, chunk: int = 64) -> np.ndarray:
    """Probabilities (N, K) float32 in the order of `paths`; `chunk` pictures are in memory at a time."""
    pending = iter(paths)
    rows = [np.empty((0, len(bundle.card.classes)), dtype=np.float32)]
    while group := list(islice(pending, chunk)):
        rows.append(bundle.predict(np.stack([bundle.decode(path) for path in group])))
    return np.concatenate(rows)
