"""What a card that goes anywhere tells of the machine that it was made on: no folder of it."""

from pathlib import Path

import pytest

from data.spec import DatasetSpec
from models.bundle.bundle import read_card
from models.bundle.carried import carried, name_of
from models.bundle.export import write_bundle
from models.config import Experiment
from models.zoo.config_pretrained import PretrainedConfig
from tests.models.bundles import Tiny, toy_images, toy_result


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("digits", "digits"),
        ("/home/me/secret project/flowers", "flowers"),
        ("/home/me/flowers/", "flowers"),
        ("~/flowers.tar.gz", "flowers.tar.gz"),
        ("../flowers", "flowers"),
        (".", "."),
        ("/", "/"),
        ("shards:/home/me/many", "shards:many"),
        ("shards:s3://bucket/many", "shards:s3://bucket/many"),
        ("hub:owner/name", "hub:owner/name"),
        ("https://example.com/a/flowers.zip?download=1", "https://example.com/a/flowers.zip?download=1"),
        ("https://me:word@example.com/flowers.zip", "https://example.com/flowers.zip"),
        ("s3://bucket/flowers.zip?X-Amz-Signature=abc", "s3://bucket/flowers.zip"),
        ("IMAGENET1K_V1", "IMAGENET1K_V1"),
    ],
)
def test_a_path_is_told_by_its_last_part_and_an_address_without_its_secrets(given: str, told: str):
    assert name_of(given) == told


def test_every_place_in_the_settings_is_told_so_and_all_else_as_it_was_chosen():
    chosen = Experiment(
        dataset=DatasetSpec(
            source="/home/me/flowers", more=("/mnt/more", "hub:a/b"), val_fraction=0.2, group=r"/(\w+)_"
        ),
        model=PretrainedConfig(weights="/home/me/resnet18.pth"),
    ).model_dump(mode="json")
    told = carried(chosen)
    assert "/home" in str(chosen)
    assert "/home" not in str(told)
    assert (told["dataset"]["source"], told["dataset"]["more"]) == ("flowers", ["more", "hub:a/b"])
    assert told["model"]["weights"] == "resnet18.pth"
    for section, names in {"dataset": ("source", "more"), "model": ("weights",)}.items():
        for name in names:
            chosen[section][name] = told[section][name]
    assert told == chosen


def test_the_card_of_a_bundle_has_them_so_and_the_run_as_they_were_given(tmp_path: Path):
    images, result = toy_images(tmp_path / "pictures"), toy_result()
    there = str(tmp_path / "pictures")
    dataset = DatasetSpec(source=there)
    result = result.model_copy(update={"experiment": result.experiment.model_copy(update={"dataset": dataset})})
    folder = write_bundle(
        tmp_path / "bundle", network=Tiny().eval(), result=result, images=images, test=images.rows[::2]
    )
    card = read_card(folder)
    assert card.experiment["dataset"] == {**dataset.model_dump(mode="json"), "source": "pictures"}
    assert Experiment.model_validate(card.experiment).dataset.source == "pictures"
    assert str(tmp_path).encode() not in b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert result.experiment.dataset.source == there
