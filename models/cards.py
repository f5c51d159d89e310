"""What a bundle says of itself: card.json, and what it is made of. No torch here."""

from typing import Literal

from pydantic import JsonValue

from data.spec import Frozen, ImageSpec
from models.evaluation.metrics import Interval, Metrics


class PixelStatistics(Frozen):
    """Mean and standard deviation per channel, on the 0..1 scale: of the training rows, or published with weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class FoldResult(Frozen):
    fold: int
    accuracy: float
    n: int
    epochs_run: int
    seconds: float


class CVResult(Frozen):
    """Stratified k-fold cross-validation on the development rows."""

    folds: tuple[FoldResult, ...]
    mean: float
    std: float  # sample standard deviation over folds


class Calibration(Frozen):
    """One temperature, fitted on validation data: https://arxiv.org/abs/1706.04599."""

    temperature: float
    ece_before: float
    ece_after: float


class Sure(Frozen):
    """What a threshold does to test pictures; the intervals are Wilson's, 95 %."""

    n: int
    answered: int  # those answered with a probability above it
    wrong: int  # of these
    coverage: Interval  # of the share answered
    error: Interval | None  # of the share wrong among those; None: there are none


class Selective(Frozen):
    """When an answer counts as sure, and what that costs: `models.evaluation.selective`."""

    risk: float  # of sure answers, at most so many are wrong
    confidence: float  # that they are
    threshold: float | None  # the probability of a sure answer is above it; None: none was found
    n: int  # validation pictures that it was chosen on
    test: Sure | None  # None: there is no threshold
    said: str  # all of it, in words


class Stranger(Frozen):
    """Pictures that show no class, made up or borrowed: `models.evaluation.strangers`."""

    name: str
    n: int
    auroc: float  # that one of them is stranger than a test picture; 0.5 is chance
    above: float  # share that is stranger than 95 % of the test pictures


class Outliers(Frozen):
    """How strange pictures are to a model, by the energy that its graph gives: `models.evaluation.outliers`."""

    n: int  # test pictures
    quantiles: tuple[float, ...]  # 101, of their energies, the lowest first
    threshold: float  # that 95 % of them are below
    strangers: tuple[Stranger, ...]
    said: str  # how it tells strangers, in words


TITLES = {
    "trained": "the trained network, as evaluated",
    "onnx": "the exported graph",
    "int8": "its int8 variant",
    "fp16": "its fp16 variant",
    "http": "a service on it, over HTTP",
}


class ClassParity(Frozen):
    """Test pictures of one class."""

    label: str
    n: int
    largest_difference: float  # of any probability
    changed_answers: int


class Way(Frozen):
    """One way to ask the model, against the trained network on a CPU in float32, which is given the same files; where a
    variant answers, the service is held against that."""

    # As evaluated, on its device; the exported graph; variants of it; a service on the bundle.
    name: Literal["trained", "onnx", "int8", "fp16", "http"]
    n: int
    largest_difference: float  # of any probability
    changed_answers: int
    per_class: tuple[ClassParity, ...]  # of those that have pictures

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def worst(self) -> str:
        """The class with the largest difference; "" where there is none."""
        worst = max(self.per_class, key=lambda one: one.largest_difference)
        return worst.label if worst.largest_difference else ""


class Parity(Frozen):
    """Exported graph against trained network, over the files of the whole test split."""

    n: int
    largest_difference: float  # of any probability
    changed_answers: int
    ways: tuple[Way, ...] = ()  # the graph among them; not in cards of format 1, which were made from cached pixels


class Recipe(Frozen):
    """How a graph was quantized: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"""

    method: Literal["minmax", "percentile", "entropy"]  # range of an activation, from what calibration pictures gave
    per_channel: bool  # weights have one scale a channel, not one in all
    symmetric: bool  # ranges of activations are symmetric about zero
    excluded: tuple[str, ...] = ()  # nodes that stay as they are


class Variant(Frozen):
    """A graph in fewer bits that was made of the exported one, and what came of it."""

    name: Literal["int8", "fp16"]
    provider: str  # of onnxruntime's: which one it is meant for
    kept: bool  # in the bundle; a service then chooses between the two
    said: str  # one sentence, why
    bytes: int | None = None  # None: there is none
    n: int | None = None  # test pictures; None: it was refused before it was shown any
    accuracy: float | None = None  # on them
    float_accuracy: float | None = None  # of the exported graph
    low: float | None = None  # one-sided lower limit of the difference, by pairs
    p50_ms: float | None = None  # one picture, one thread, where it was made; None: not measured there
    float_p50_ms: float | None = None
    batch_ms: float | None = None  # the same for 32 pictures
    float_batch_ms: float | None = None
    recipe: Recipe | None = None


class Rehearsal(Frozen):
    """The real service on the bundle, before anybody depends on it. None: it did not get so far."""

    fault: str | None  # what went wrong first, as a sentence goes on after "the service on it"; None: nothing
    started_s: float | None = None  # from its first process until it answered
    golden_difference: float | None = None  # of any probability, of the golden samples over HTTP
    requests: int | None = None  # of one picture each, one after the other, behind the two figures below
    p50_ms: float | None = None
    p95_ms: float | None = None
    overload: dict[str, int] | None = None  # HTTP status, or "failed", -> answers while more was asked than it can take
    stopped_s: float | None = None  # from SIGTERM until it had ended


class Lineage(Frozen):
    run_id: str
    fingerprint: str  # of the data
    commit: str | None
    dirty: bool | None = None  # its code differed from that commit; None: not known, as in cards from before
    flow_run_url: str | None = None
    reason: str | None = None  # why it was asked for
    data_since: str | None = None  # what changed since the pictures of the model that was in service then, in words


class ModelCard(Frozen):
    """card.json: all that serving needs to know of a model, and where it comes from."""

    format: Literal[1, 2] = 2
    name: str
    version: str
    created: str  # ISO 8601, UTC
    classes: tuple[str, ...]
    image: ImageSpec
    statistics: PixelStatistics  # for the reader; the numbers that count are in the graph
    kind: str
    parameters: int
    flops: int | None = None  # of one picture's way forward; None in cards from before it was counted
    validation: Metrics
    test: Metrics
    crossval: CVResult | None
    calibration: Calibration
    selective: Selective | None = None  # that `answer.risk` asked for
    outliers: Outliers | None = None  # not in cards of graphs without the energy
    parity: Parity
    rehearsal: Rehearsal | None = None  # where `release.rehearse` asked for one
    variants: tuple[Variant, ...] = ()  # that `export.quantize` asked for, kept or not
    slimmed: str | None = None  # what onnxslim changed, or why nothing; None: it was not asked to
    lineage: Lineage
    # For the reader; not `Experiment`, so that old cards outlive its changes. Files and folders by their last part.
    experiment: dict[str, JsonValue]
    versions: dict[str, str]

    @property
    def threshold(self) -> float | None:
        """An answer is sure if its probability is above; None: nothing is said of that."""
        return None if self.selective is None else self.selective.threshold
