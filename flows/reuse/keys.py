"""What decides the result of a stage, as one digest each: pictures, settings that the stage reads, machine, code."""

import hashlib
import json
from typing import Any

from data.spec import Frozen
from flows.reuse.stages import Stage
from models.config import Experiment

LEARNING = ("model", "optimizer", "schedule", "augment", "train")
READS: dict[Stage, tuple[str, ...]] = {
    "prepare": ("dataset",),
    "cross-validate": (*LEARNING, "answer.mirror", "crossval"),
    "train": LEARNING,
    "evaluate": ("answer", "crossval", "diagnose"),
    "export": ("release.parity", "release.rehearse", "release.license", "export"),
    "release": ("release",),  # never taken over: what is in service changes from night to night
}
"""Sections and fields of an experiment, beside those of the stages that it rests on."""

CHOOSE_VARIANTS = ("confidence", "class_margin", "min_accuracy", "min_recall", "max_ece")
"""Fields of `release` that decide whether a graph in fewer bits is kept."""

DECIDE_NOTHING = (
    "name",
    "dataset.source",  # the digest of the pictures says it: a folder that was moved has the same ones
    "dataset.more",
    "dataset.name",  # the name that came of it is part of the basis
    "dataset.sha256",
    "dataset.max_unreadable",
    "dataset.label",
    "dataset.rename",  # which classes and groups came of these is in the digest of the pictures
    "dataset.group",
    "dataset.gate",  # what it drops is in the digest of the pictures
    "train.checkpoint_every",
)


class Basis(Frozen):
    """What a result depends on beside the settings."""

    pictures: str  # digest of pixels, labels and who is in which part
    name: str  # of the data set, and so of the model
    device: str  # cpu, cuda or mps: where a training would take place
    bfloat16: bool
    torch: str  # such as 2.15
    code: dict[Stage, str]  # digests of the files that make it
    timm: str | None = None  # where a backbone of timm's is tuned: networks and weights are as this version has them
    nodes: str | None = None  # as torchrun's variable has it; None for one machine
    weights: str | None = None  # digest of the file that a backbone starts from
    variant: str = "int8"  # which of a model's graphs services here answer with


def keys(experiment: Experiment, basis: Basis) -> dict[Stage, str]:
    """sha256 (hex) for every stage whose result can be taken over."""
    return keys_of(experiment.model_dump(mode="json"), basis)


def keys_of(settings: dict[str, Any], basis: Basis) -> dict[Stage, str]:
    machine = basis.model_dump(exclude={"pictures", "name", "code", "variant"})

    def key(stage: Stage, *rests_on: Any) -> str:
        said = [stage, basis.code.get(stage), rests_on, [_read(settings, path) for path in READS[stage]]]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    pictures = key("prepare", basis.pictures)
    near = settings["dataset"]["gate"]["near_leakage"]  # what is kept in one fold
    folds = key("cross-validate", pictures, machine, None if near["level"] == "ignore" else near["threshold"])
    weights = key("train", pictures, machine)
    figures = key("evaluate", weights, folds if settings["crossval"]["folds"] else None, basis.name)
    # Only where graphs in fewer bits are made is one of them chosen by tests, and one of them rehearsed.
    made = settings["export"]["quantize"] != "none"
    variants = ([settings["release"][name] for name in CHOOSE_VARIANTS], basis.variant) if made else ()
    return {
        "prepare": pictures,
        "cross-validate": folds,
        "train": weights,
        "evaluate": figures,
        "export": key("export", figures, *variants),
    }


def _read(settings: dict[str, Any], path: str) -> Any:
    section, _, field = path.partition(".")
    if field:
        return settings[section][field]
    idle = {name.partition(".")[2] for name in DECIDE_NOTHING if name.startswith(f"{section}.")}
    return {name: value for name, value in settings[section].items() if name not in idle}
