"""Which setting changes the result of which stage: every field of an experiment, one by one."""

import ast
import shutil
from collections.abc import Iterator
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lamps import draw

from data.gate.quarantine import file_of
from data.prepare import Dataset, listed, prepare
from data.shards.write import write
from data.spec import DatasetSpec
from flows.reuse import code
from flows.reuse.basis import digest_of, timm_for, weights_of
from flows.reuse.keys import DECIDE_NOTHING, READS, Basis, keys, keys_of
from flows.reuse.stages import RESTS_ON, Stage, made_anew
from flows.settings.fields import settings
from models.config import Experiment
from models.zoo.config_pretrained import PretrainedConfig

CODE = dict.fromkeys(code.DECIDE, "d" * 64)
BASIS = Basis(pictures="a" * 64, name="flowers", device="cpu", bfloat16=False, torch="2.15", code=CODE)

NOTHING: set[str] = set()
BUNDLE = {"export"}
FIGURES = {"evaluate", *BUNDLE}
FOLDS = {"cross-validate", *FIGURES}
WEIGHTS = {"train", *FOLDS}
ALL = {"prepare", *WEIGHTS}

# The longest path that fits counts. A new section, and a field that is to decide nothing, have to be entered here.
CHANGES = {
    "name": NOTHING,
    "dataset": ALL,
    "dataset.source": NOTHING,
    "dataset.more": NOTHING,
    "dataset.name": NOTHING,  # the name that came of it is in the basis
    "dataset.sha256": NOTHING,
    "dataset.max_unreadable": NOTHING,
    "dataset.label": NOTHING,
    "dataset.rename": NOTHING,  # which classes and groups came of these is in the digest of the pictures
    "dataset.group": NOTHING,
    "dataset.gate": NOTHING,  # what it drops is in the digest of the pictures
    "dataset.gate.near_leakage.threshold": {"cross-validate"},  # what is kept in one fold
    "model": WEIGHTS,
    "optimizer": WEIGHTS,
    "schedule": WEIGHTS,
    "augment": WEIGHTS,
    "train": WEIGHTS,
    "train.checkpoint_every": NOTHING,
    "answer": FIGURES,
    "answer.mirror": FOLDS,
    "crossval": FOLDS,
    "diagnose": FIGURES,
    "export": BUNDLE,
    "release": NOTHING,
    "release.parity": BUNDLE,
    "release.rehearse": BUNDLE,
    "release.license": BUNDLE,
}


def expected(path: str) -> set[str]:
    parts = path.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(CHANGES[prefix] for prefix in prefixes if prefix in CHANGES)


def changed(path: str) -> dict[str, Any]:
    """The settings with another value there, allowed or not; also where only another kind has the field."""
    tree = deepcopy(Experiment().model_dump(mode="json"))
    *sections, name = path.split(".")
    inner = tree
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = "another"
    return tree


@pytest.mark.parametrize("path", sorted({setting.path for setting in settings()}))
def test_a_setting_changes_the_stages_that_read_it_and_those_that_rest_on_them(path: str):
    before, after = keys(Experiment(), BASIS), keys_of(changed(path), BASIS)
    assert {stage for stage in before if before[stage] != after[stage]} == expected(path)


def test_folds_are_others_where_nobody_asks_what_is_nearly_the_same():
    plain = Experiment().model_dump(mode="json")
    for level, stages in (("ignore", {"cross-validate"}), ("drop", NOTHING)):
        after = deepcopy(plain)
        after["dataset"]["gate"]["near_leakage"]["level"] = level
        before, changed_ = keys_of(plain, BASIS), keys_of(after, BASIS)
        assert {stage for stage in before if before[stage] != changed_[stage]} == stages


def test_every_section_of_an_experiment_is_read_by_some_stage_or_decides_nothing():
    placed = {path.partition(".")[0] for paths in (*READS.values(), DECIDE_NOTHING) for path in paths}
    assert placed == set(Experiment.model_fields)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"pictures": "b" * 64}, ALL),
        ({"name": "petals"}, FIGURES),
        ({"device": "cuda"}, WEIGHTS),
        ({"bfloat16": True}, WEIGHTS),
        ({"torch": "2.16"}, WEIGHTS),
        ({"nodes": "2"}, WEIGHTS),
        ({"weights": "c" * 64}, WEIGHTS),
        ({"timm": "1.0.31"}, WEIGHTS),
        ({"code": {**CODE, "cross-validate": "e" * 64}}, {"cross-validate"}),
        ({"code": {**CODE, "train": "e" * 64}}, {"train", *FIGURES}),
        ({"code": {**CODE, "evaluate": "e" * 64}}, FIGURES),
        ({"code": {**CODE, "export": "e" * 64}}, BUNDLE),
        ({"variant": "float"}, NOTHING),  # there is none
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_so_do_the_pictures_and_the_machine(change: dict[str, Any], stages: set[str]):
    before, after = keys(Experiment(), BASIS), keys(Experiment(), Basis(**{**BASIS.model_dump(), **change}))
    assert {stage for stage in before if before[stage] != after[stage]} == stages
    assert change.keys() <= Basis.model_fields.keys()


@pytest.mark.parametrize("setting", ["confidence", "class_margin", "min_accuracy", "min_recall", "max_ece"])
def test_where_variants_are_made_what_they_are_kept_by_counts_for_the_bundle(setting: str):
    made = in_fewer_bits()
    stricter = keys_of({**made, "release": {**made["release"], setting: 0.99}}, BASIS)
    assert differing(keys_of(made, BASIS), stricter) == BUNDLE


def test_where_variants_are_made_the_one_that_is_rehearsed_counts_for_the_bundle():
    made = in_fewer_bits()
    other = keys_of(made, Basis(**{**BASIS.model_dump(), "variant": "float"}))
    assert differing(keys_of(made, BASIS), other) == BUNDLE


def in_fewer_bits() -> dict[str, Any]:
    plain = Experiment().model_dump(mode="json")
    return {**plain, "export": {**plain["export"], "quantize": "int8"}}


def differing(before: dict[Stage, str], after: dict[Stage, str]) -> set[str]:
    return {stage for stage in before if before[stage] != after[stage]}


def test_everything_that_a_stage_depends_on_is_tried_above():
    assert set(Basis.model_fields) == {
        "pictures",
        "name",
        "device",
        "bfloat16",
        "torch",
        "nodes",
        "weights",
        "timm",
        "code",
        "variant",
    }


@pytest.mark.parametrize(
    ("asked", "anew"),
    [
        ((), NOTHING),
        (("release",), {"release"}),
        (("export",), {"export", "release"}),
        (("cross-validate",), {"cross-validate", "evaluate", "export", "release"}),
        (("train",), {"train", "evaluate", "export", "release"}),
        (("export", "cross-validate"), {"cross-validate", "evaluate", "export", "release"}),
        (("prepare",), set(RESTS_ON)),
        (("all",), set(RESTS_ON)),
    ],
    ids=lambda stages: " ".join(sorted(stages)) or "nothing",
)
def test_a_stage_that_is_refreshed_takes_along_what_rests_on_it(asked: Any, anew: set[str]):
    assert made_anew(asked) == anew


@pytest.fixture(scope="module")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("first") / "lamps", per_class=12)


def prepared(folder: Path, home: Path, **settings: Any) -> Dataset:
    return prepare(DatasetSpec(source=str(folder), **settings), home)


def test_the_same_pictures_elsewhere_are_the_same(lamps: Path, tmp_path: Path):
    here = prepared(lamps, tmp_path / "home")
    moved = prepared(draw(tmp_path / "torches", per_class=12), tmp_path / "other")
    assert digest_of(here) == digest_of(moved)


def test_other_pictures_sizes_and_parts_are_not(lamps: Path, tmp_path: Path):
    home = tmp_path / "home"
    digests = [
        digest_of(prepared(lamps, home)),
        digest_of(prepared(lamps, home, size=8)),
        digest_of(prepared(lamps, home, split_seed=1)),
        digest_of(prepared(draw(tmp_path / "more", per_class=13), home)),
    ]
    assert len(set(digests)) == len(digests)


def test_pictures_in_shards_are_not_for_they_are_trained_in_another_order(lamps: Path, tmp_path: Path):
    home = tmp_path / "home"
    write(listed(DatasetSpec(source=str(lamps)), home), tmp_path / "shards")
    assert digest_of(prepared(tmp_path / "shards", home)) != digest_of(prepared(lamps, home))


def test_pictures_that_were_dropped_or_relabelled_are_not(lamps: Path, tmp_path: Path):
    home = tmp_path / "home"
    before = prepared(lamps, home)
    row = int(before.split.train[0])
    digests = [digest_of(before)]
    for decision in ("drop", "label=dark", "keep"):
        quarantine = file_of(home, "lamps")
        quarantine.parent.mkdir(parents=True, exist_ok=True)
        quarantine.write_text(f"sha256,decision\n{before.images.digest(row)},{decision}\n")
        digests.append(digest_of(prepared(lamps, home)))
    assert before.images.classes[before.images.labels[row]] == "bright"
    assert len(set(digests)) == 3
    assert digests[0] == digests[-1]  # to keep a picture changes nothing


def test_pictures_that_a_home_remembers_otherwise_are_not(lamps: Path, tmp_path: Path):
    """A picture keeps its part when a data set grows: the same folder may be split otherwise in an older home."""
    fresh = prepared(lamps, tmp_path / "new")
    smaller = Path(shutil.copytree(lamps, tmp_path / "lamps"))
    missing = [fresh.images.path(int(row)).relative_to(lamps) for row in fresh.split.test]
    for name in missing:
        (smaller / name).unlink()
    prepared(smaller, tmp_path / "old")
    for name in missing:
        shutil.copy(lamps / name, smaller / name)
    grown = prepared(smaller, tmp_path / "old")
    assert grown.images.snapshot.fingerprint == fresh.images.snapshot.fingerprint
    assert not np.array_equal(grown.split.test, fresh.split.test)
    assert digest_of(grown) != digest_of(fresh)


def test_a_file_of_weights_counts_by_its_content(tmp_path: Path):
    file = tmp_path / "resnet18.pth"
    experiment = Experiment(model=PretrainedConfig(weights=str(file)))
    assert weights_of(experiment, tmp_path) is None  # refused where it is read
    file.write_bytes(b"one")
    first = weights_of(experiment, tmp_path)
    file.write_bytes(b"another")
    assert first is not None
    assert first != weights_of(experiment, tmp_path) is not None
    assert weights_of(Experiment(), tmp_path) is None


def test_timms_version_counts_where_one_of_its_backbones_is_tuned():
    assert timm_for(Experiment(model=PretrainedConfig(backbone="timm/convnext_atto"))) == version("timm")
    assert timm_for(Experiment(model=PretrainedConfig())) is timm_for(Experiment()) is None


@pytest.mark.slow
def test_a_network_that_was_changed_is_another_training_and_a_report_is_not(tmp_path: Path):
    def digests(number: int) -> dict[Stage, str]:
        return code.digests(Path(shutil.copytree(tmp_path / "now", tmp_path / str(number))))

    for package in ("data", "models"):
        shutil.copytree(code.ROOT / package, tmp_path / "now" / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = digests(1)
    assert before == code.digests()
    (tmp_path / "now/models/evaluation/report.py").write_text("# another\n")
    (tmp_path / "now/models/evaluation/templates/report.css").unlink()
    after = digests(2)
    assert {stage for stage in before if before[stage] != after[stage]} == {"evaluate"}
    (tmp_path / "now/models/zoo/cnn.py").write_text("# another\n")
    later = digests(3)
    assert {stage for stage in before if after[stage] != later[stage]} == {"cross-validate", "train"}


@pytest.mark.parametrize(
    "stages",
    [
        ("train",),
        pytest.param(("train", "evaluate"), marks=pytest.mark.slow),
        pytest.param(("train", "evaluate", "export"), marks=pytest.mark.slow),
    ],
)
def test_what_the_code_of_a_stage_imports_counts_for_it(stages: tuple[Stage, ...]):
    """Or for those that it rests on. Also where the import stands in a function."""
    counted = {file for stage in stages for file in code.files(stage)}
    for file in counted:
        for module in imports(file):
            path = code.ROOT / module.replace(".", "/")
            assert {path.with_suffix(".py"), path / "__init__.py"} & counted, f"{file} imports {module}"


def imports(file: Path) -> Iterator[str]:
    """Modules of `data` and `models`, as far as they are named in full."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            there = [one for one in inside if (code.ROOT / f"{one.replace('.', '/')}.py").exists()]
            names = there or [node.module]
        yield from (name for name in names if name.partition(".")[0] in ("data", "models"))


def test_pictures_are_decoded_anew_when_asked(lamps: Path, tmp_path: Path):
    def steps(*, anew: bool) -> set[str]:
        heard: set[str] = set()
        prepare(DatasetSpec(source=str(lamps)), tmp_path, anew=anew, progress=lambda what, *_: heard.add(what))
        return heard

    assert "decode" in steps(anew=False)
    assert "decode" not in steps(anew=False)
    assert steps(anew=True) >= {"reading", "decode"}
