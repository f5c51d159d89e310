"""The schema that forms are drawn from."""

from collections.abc import Iterator
from typing import Any

from models.config import Experiment

SCHEMA = Experiment.model_json_schema()


def tables(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from tables(value)


def variants(path: str) -> dict[str, dict[str, Any]]:
    """By their titles."""
    found = SCHEMA
    for name in path.split("."):
        found = SCHEMA["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found
        found = found["properties"][name]
    return {d["title"]: d for d in (SCHEMA["$defs"][ref["$ref"].rpartition("/")[2]] for ref in found["anyOf"])}


def test_choices_are_of_the_kind_that_forms_know():
    assert not [table for table in tables(SCHEMA) if "oneOf" in table or "discriminator" in table]


def test_a_variant_is_called_by_its_kind_and_offers_no_other():
    for path in ("model", "optimizer", "schedule"):
        for title, variant in variants(path).items():
            assert variant["properties"]["kind"]["enum"] == [title]
    assert {"cnn", "vit", "whitened", "pretrained"} <= variants("model").keys()


def test_every_field_has_a_title_a_person_can_read_and_a_description():
    bare = {
        f"{table['title']}.{name}"
        for table in tables(SCHEMA)
        if table.get("type") == "object" and "title" in table
        for name, field in table.get("properties", {}).items()
        if name != "kind" and "title" not in field and "$ref" not in field and "anyOf" not in field
    }
    assert not bare
