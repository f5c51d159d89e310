"""A graph in fewer bits: how it is made, which way is chosen, and when it is not worth keeping."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from data.images import Images
from data.prepare import prepare
from data.progress import ignore
from data.spec import DatasetSpec
from models.bundle import faster, session
from models.bundle.bundle import Bundle
from models.bundle.export import export
from models.bundle.faster import FASTER, Made, Trial, asked
from models.bundle.graph import calibrated, to_onnx
from models.bundle.quantise import Quantiser, in_equal_batches
from models.bundle.searching import EXCLUDED, RECIPES, Tried, search
from models.bundle.shown import Shown, Sight, balanced
from models.bundle.timing import in_turns
from models.cards import Lineage, Recipe
from models.config import Experiment, ExportConfig, ReleaseConfig, TrainConfig
from models.evaluation.evaluate import evaluate
from models.run import open_run
from models.training.learn import learn
from models.zoo.build import build
from models.zoo.config import ViTConfig
from tests.models.bundles import CLASSES, IMAGE, STATISTICS, Tiny, toy_images
from tests.models.quantised import ANY_CLASS, LENIENT, clock, seen

PLAIN = RECIPES[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return toy_images(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def sight(images: Images) -> Sight:
    return seen(images)


@pytest.fixture(scope="module")
def graph() -> bytes:
    return exported(Tiny())


def exported(network: nn.Module) -> bytes:
    return to_onnx(calibrated(network.eval(), 1.5), IMAGE, tolerance=1e-3)


def operators(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph).graph.node}


def trial(
    graph: bytes, sight: Sight, *, config: ExportConfig = LENIENT, release: ReleaseConfig = ANY_CLASS, fast: float = 2.0
) -> Trial:
    return Trial(graph, sight=sight, config=config, release=release, clock=clock(fast), progress=ignore)


# How it is made


@pytest.mark.parametrize(
    "recipe",
    [RECIPES[0], *(pytest.param(recipe, marks=pytest.mark.slow) for recipe in RECIPES[1:])],
    ids=lambda recipe: f"{recipe.method}-{recipe.per_channel:d}{recipe.symmetric:d}",
)
def test_an_int8_graph_takes_the_same_pixels_and_answers_nearly_the_same(
    graph: bytes, sight: Sight, recipe: Recipe, tmp_path: Path
):
    made = Quantiser(graph, sight.calibration, tmp_path).make(recipe)
    session.check_signature(session.connect(made), image=IMAGE, num_classes=len(CLASSES))
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(made)
    gap = np.abs(sight.test.answers(asked(made)) - sight.test.answers(asked(graph))).max()
    assert 0 < gap < 0.3


def test_a_node_that_is_left_out_stays_as_it_is(graph: bytes, sight: Sight, tmp_path: Path):
    quantiser = Quantiser(graph, sight.calibration, tmp_path)
    plain = quantiser.make(PLAIN.model_copy(update={"excluded": quantiser.nodes}))
    alone = quantiser.make(PLAIN, only=quantiser.nodes[:1])
    gaps = [np.abs(sight.test.answers(asked(one)) - sight.test.answers(asked(graph))).max() for one in (plain, alone)]
    assert gaps[0] < 1e-3 < gaps[1]


def test_the_library_prints_nothing_and_adds_no_folder_to_the_path(
    graph: bytes, sight: Sight, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    before = list(sys.path)
    quantiser = Quantiser(graph, sight.calibration, tmp_path)
    for recipe in RECIPES[:3]:
        quantiser.make(recipe)
    faster.halved(graph)
    assert sys.path == before
    assert capfd.readouterr() == ("", "")


def test_what_is_made_says_nothing_of_this_machine(graph: bytes, sight: Sight, tmp_path: Path):
    for made in (Quantiser(graph, sight.calibration, tmp_path).make(PLAIN), faster.halved(graph)):
        assert str(tmp_path).encode() not in made
        assert b"trainserve" not in made
        assert b"location" not in made  # of weights outside the file


@pytest.mark.parametrize(("pictures", "most", "taken"), [(12, 99, 12), (70, 99, 64), (70, 20, 20), (256, 256, 256)])
def test_batches_of_calibration_pictures_are_of_one_size(pictures: int, most: int, taken: int):
    assert in_equal_batches(np.arange(pictures), most) == taken


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_any_number_of_calibration_pictures_will_do(graph: bytes, sight: Sight, tmp_path: Path, method: str):
    many = Shown(sight.test.images, np.resize(sight.calibration.rows, 70))
    (recipe,) = [one for one in RECIPES[:3] if one.method == method]
    assert "QuantizeLinear" in operators(Quantiser(graph, many, tmp_path).make(recipe))


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_weights_have_seven_bits_so_that_no_processor_cuts_off_their_sums(
    graph: bytes, sight: Sight, tmp_path: Path, method: str, per_channel: bool
):
    """Two products add up to 2 * 255 * 64 at most, which 16 bits hold."""
    recipe = PLAIN.model_copy(update={"method": method, "per_channel": per_channel})
    made = onnx.load_from_string(Quantiser(graph, sight.calibration, tmp_path).make(recipe))
    weights = [onnx.numpy_helper.to_array(one) for one in made.graph.initializer]
    eights = [one for one in weights if one.dtype == np.int8 and one.ndim > 1]
    assert eights
    assert max(int(np.abs(one.astype(int)).max()) for one in eights) <= 64


def test_calibration_pictures_are_as_many_of_each_class_and_always_the_same():
    labels = np.repeat([0, 1, 2], [90, 9, 3])
    rows = balanced(labels, np.arange(102), 15)
    assert np.bincount(labels[rows]).tolist() == [6, 6, 3]
    assert np.array_equal(rows, balanced(labels, np.arange(102), 15))
    assert sorted(balanced(labels, np.arange(102), 500)) == list(range(102))


def test_two_ways_are_timed_in_turns_at_least_once():
    order: list[str] = []

    def way(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda pixels: order.append(name) or pixels  # type: ignore[func-returns-value]

    taken = in_turns([way("a"), way("b")], np.zeros(1), rounds=3, within_s=0.0)
    assert order == ["a", "b", "a", "b"]
    assert taken.shape == (1, 2)
    assert in_turns([way("a"), way("b")], np.zeros(1), rounds=3).shape == (3, 2)


# Which way is chosen


def tried(recipe: Recipe, accuracy: float, change: float = 0.1) -> Tried:
    return Tried(recipe=recipe, graph=b"", accuracy=accuracy, change=change)


def found(
    accuracies: dict[Recipe, float], *, enough: float, within_s: float = 60.0, left_out: dict[int, float] | None = None
) -> Recipe:
    def attempt(recipe: Recipe) -> Tried:
        if recipe.excluded:
            return tried(recipe, (left_out or {}).get(len(recipe.excluded), 0.0))
        return tried(recipe, accuracies.get(recipe, 0.5))

    until = time.monotonic() + within_s
    nodes = [f"node-{i}" for i in range(20)]
    return search(attempt, lambda _: nodes, first=attempt(PLAIN), enough=enough, until=until).recipe


def test_the_recipe_that_is_right_most_often_wins():
    assert found({RECIPES[7]: 0.9, PLAIN: 0.8}, enough=0.9) == RECIPES[7]


def test_of_equals_the_one_that_changes_least_wins():
    def attempt(recipe: Recipe) -> Tried:
        return tried(recipe, 0.9, change=0.01 if recipe == RECIPES[4] else 0.02)

    until = time.monotonic() + 60
    assert search(attempt, lambda _: [], first=attempt(PLAIN), enough=0.9, until=until).recipe == RECIPES[4]


def test_as_few_nodes_are_left_out_as_will_do():
    chosen = found({RECIPES[3]: 0.8}, enough=0.9, left_out={1: 0.85, 2: 0.91, 4: 0.95})
    assert chosen == RECIPES[3].model_copy(update={"excluded": ("node-0", "node-1")})


def test_nodes_that_do_not_help_are_not_left_out():
    assert found({RECIPES[3]: 0.8}, enough=0.9, left_out=dict.fromkeys(EXCLUDED, 0.8)) == RECIPES[3]


def test_without_time_the_first_recipe_is_taken():
    assert found({RECIPES[7]: 0.9}, enough=1.0, within_s=0.0) == PLAIN


# When it is kept


@pytest.mark.slow
def test_a_graph_that_is_as_right_and_faster_is_kept_with_its_figures(graph: bytes, sight: Sight):
    made = trial(graph, sight).made("int8")
    variant = made.variant
    assert variant.kept
    assert made.graph is not None
    assert variant.bytes == len(made.graph)
    assert variant.n == len(sight.test.rows)
    assert (variant.p50_ms, variant.float_p50_ms, variant.batch_ms, variant.float_batch_ms) == (1.0, 2.0, 1.0, 2.0)
    assert variant.recipe is not None
    assert variant.said.startswith("kept: 2.00 x as fast for one picture, 2.00 x for 32; ")


@pytest.mark.slow
def test_one_that_is_no_faster_is_not_kept_and_sees_no_test_picture(graph: bytes, sight: Sight):
    made = trial(graph, sight, fast=1.02).made("int8")
    assert (made.variant.kept, made.graph, made.variant.n) == (False, None, None)
    assert made.variant.said.startswith("not kept: 1.02 x as fast")
    assert trial(graph, sight, fast=1 / FASTER + 1e-6).made("int8").variant.kept


@pytest.mark.slow
def test_a_recipe_that_ruins_the_accuracy_is_not_kept(images: Images):
    """Planted: a graph with other weights, on pictures whose labels are the right one's answers."""
    graph, ruined = Tiny(), Tiny()
    torch.nn.init.normal_(ruined.head.weight, std=3.0, generator=torch.Generator().manual_seed(7))
    many = drawn(images, exported(graph), 400)
    judge = trial(exported(graph), Sight(many, many, many), config=ExportConfig(quantize="int8"))
    refused = judge.judged("int8", exported(ruined), PLAIN)
    assert not refused.variant.kept
    assert refused.graph is None
    assert refused.variant.float_accuracy == 1.0
    assert refused.variant.accuracy is not None
    assert refused.variant.accuracy < 0.9
    assert "exported graph 100.0 %" in refused.variant.said
    assert "export.quantize_margin is 1.0 %" in refused.variant.said
    assert judge.judged("int8", exported(graph), PLAIN).variant.kept


def drawn(images: Images, graph: bytes, n: int) -> Shown:
    """Pictures of noise, labelled as the graph answers them."""
    random = np.random.default_rng(0)
    level = random.uniform(0, 255, (n, 1, 1, 3))
    shape = (n, IMAGE.stored_height, IMAGE.stored_width, 3)
    pixels = np.clip(level + random.normal(0, 40, shape), 0, 255).astype(np.uint8)
    unlabelled = Shown(with_pixels(images, pixels, np.zeros(n, dtype=np.int64)), np.arange(n))
    labels = unlabelled.answers(asked(graph)).argmax(axis=1)
    return Shown(with_pixels(images, pixels, labels), np.arange(n))


def with_pixels(images: Images, pixels: np.ndarray, labels: np.ndarray) -> Images:
    snapshot = replace(images.snapshot, labels=labels)
    return replace(images, snapshot=snapshot, rows=np.arange(len(labels)), pixels=pixels)


def test_one_that_never_finds_a_rare_class_is_not_kept_though_the_accuracy_hardly_falls(images: Images):
    """Planted: the same weights, and one class that is never answered."""
    graph, blind = exported(Tiny()), Tiny()
    many = drawn(images, graph, 600)
    rare = int(np.argsort(np.bincount(many.labels, minlength=len(CLASSES)))[-2])
    blind.head.bias.data[rare] -= 1000.0
    rows = np.concatenate([np.flatnonzero(many.labels != rare), np.flatnonzero(many.labels == rare)[:4]])
    few_of_it = Shown(many.images, rows)
    seen_by_it, config = Sight(few_of_it, few_of_it, few_of_it), ExportConfig(quantize="int8", quantize_margin=0.1)
    refused = trial(graph, seen_by_it, config=config, release=ReleaseConfig()).judged("int8", exported(blind), PLAIN)
    assert not refused.variant.kept
    assert f"a class fell by more than 15 points: {CLASSES[rare]} from 4 to 0 of 4" in refused.variant.said
    by_accuracy_alone = trial(graph, seen_by_it, config=config).judged("int8", exported(blind), PLAIN)
    assert by_accuracy_alone.variant.kept


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, ["classes"]),
        ({"min_recall": 0.5}, ["classes", "recall"]),
        ({"min_accuracy": 0.99}, ["classes", "accuracy"]),
        ({"min_accuracy": 1.0, "class_margin": 1.0}, []),  # the exported graph does not reach that either
    ],
)
def test_what_the_verdict_asks_of_any_model_is_asked_of_it_unless_the_exported_graph_fails_it_too(
    settings: dict[str, float], named: list[str]
):
    labels = np.repeat([0, 1], [600, 9])
    ours, theirs = np.eye(2)[labels], np.eye(2)[np.zeros_like(labels)]
    ours[0] = [0.0, 1.0]
    found = faster.losses(theirs, ours, labels, ("many", "few"), ReleaseConfig.model_validate(settings))
    assert [check.name for check in found] == named


def test_few_test_pictures_prove_nothing(graph: bytes, sight: Sight):
    made = trial(graph, sight, config=ExportConfig(quantize="int8")).judged("int8", graph, PLAIN)
    assert not made.variant.kept
    assert made.variant.accuracy == made.variant.float_accuracy
    assert "cannot be ruled out" in made.variant.said


def test_as_many_as_tangos_limit_alone_would_take_prove_nothing_either(graph: bytes, images: Images):
    few, enough = (drawn(images, graph, n) for n in (280, 299))
    config = ExportConfig(quantize="int8")
    assert not trial(graph, Sight(few, few, few), config=config).judged("int8", graph, PLAIN).variant.kept
    assert trial(graph, Sight(enough, enough, enough), config=config).judged("int8", graph, PLAIN).variant.kept


def test_fp16_is_kept_where_its_numbers_are_right_whatever_its_time_here(graph: bytes, sight: Sight):
    made = trial(graph, sight, fast=0.1).made("fp16")
    assert made.variant.kept
    assert made.variant.p50_ms is None
    assert made.graph is not None
    assert len(made.graph) < len(graph) or "Cast" in operators(made.graph)
    halves = [
        one for one in onnx.load_from_string(made.graph).graph.initializer if one.data_type == onnx.TensorProto.FLOAT16
    ]
    assert halves
    assert np.abs(sight.test.answers(asked(made.graph)) - sight.test.answers(asked(graph))).max() < 0.02


def test_one_that_cannot_be_made_is_told_and_the_export_goes_on(graph: bytes, sight: Sight):
    nothing = Shown(sight.test.images, np.empty(0, dtype=np.int64))
    made = trial(graph, Sight(nothing, sight.validation, sight.test)).made("int8")
    assert not made.variant.kept
    assert made.variant.said.startswith("not kept: it cannot be made of this network (")
    assert "/" not in made.variant.said.replace("/ ", "")  # no path


@pytest.mark.slow
def test_both_are_made_in_turn_and_none_where_none_is_asked_for(graph: bytes, sight: Sight):
    def names(asked_for: str) -> list[str]:
        config = LENIENT.model_copy(update={"quantize": asked_for})
        made = faster.made(graph, sight=sight, config=config, release=ANY_CLASS, clock=clock(2.0))
        return [one.variant.name for one in made]

    assert [names(one) for one in ("both", "fp16", "none")] == [["int8", "fp16"], ["fp16"], []]


@pytest.mark.slow
def test_a_vit_gains_nothing_by_eight_bits_is_not_kept_and_says_why(sight: Sight):
    """By the real clock."""
    torch.manual_seed(0)
    graph = exported(build(ViTConfig(patch=4), IMAGE, STATISTICS, len(CLASSES)))
    (made,) = vit(graph, sight)
    assert not made.variant.kept
    assert "x as fast for one picture" in made.variant.said
    assert made.variant.p50_ms is not None


def vit(graph: bytes, sight: Sight) -> tuple[Made, ...]:
    return faster.made(graph, sight=sight, config=LENIENT.model_copy(update={"quantize": "int8"}), release=ANY_CLASS)


@pytest.mark.slow
def test_a_trained_cnn_for_the_digits_is_quantized_or_says_why_not(tmp_path: Path):
    """A whole run and the real clock; where eight bits are not faster, that is what it says."""
    experiment = Experiment(
        name="digits",
        dataset=DatasetSpec(source="digits"),
        train=TrainConfig(epochs=6, devices="cpu"),
        export=ExportConfig(quantize="int8", quantize_margin=0.03),
    )
    dataset = prepare(experiment.dataset, tmp_path)
    fingerprint = dataset.images.snapshot.fingerprint
    folder = open_run(tmp_path, experiment, fingerprint)
    learn(experiment, dataset, folder)
    lineage = Lineage(run_id=folder.run_id, fingerprint=fingerprint, commit=None)
    evaluate(folder, dataset, crossval=None, lineage=lineage)
    bundle = Bundle.open(export(folder, dataset), variant="int8")
    (variant,) = bundle.card.variants
    if not variant.kept:
        assert "x as fast" in variant.said
        return
    assert bundle.variant == "int8"
    assert variant.accuracy is not None
    assert variant.float_accuracy is not None
    assert variant.accuracy >= variant.float_accuracy - 0.03
    assert variant.batch_ms is not None
    assert variant.float_batch_ms is not None
    assert variant.batch_ms <= FASTER * variant.float_batch_ms
    assert (folder.bundle / "model.int8.onnx").stat().st_size < (folder.bundle / "model.onnx").stat().st_size / 2
