"""The settings that a card carries: without the folders of the machine that it was made on, which are nobody's business
where it goes. `experiment.json` in the run's folder has them as they were given. No torch here."""

from pathlib import PurePath
from typing import Any

from data.address import secret_in, shown
from data.sources.kinds import SHARDS

HUB = "hub:"


def carried(settings: dict[str, Any]) -> dict[str, Any]:
    """Of an experiment, as JSON: sources of pictures and a file of weights by their names."""
    dataset, model = settings["dataset"], settings["model"]
    told = {"source": name_of(dataset["source"]), "more": [name_of(one) for one in dataset["more"]]}
    weights = {"weights": name_of(model["weights"])} if model.get("weights") else {}
    return {**settings, "dataset": {**dataset, **told}, "model": {**model, **weights}}


def name_of(text: str) -> str:
    """The last part of a path; an address as it is, without what looks like a secret in it."""
    if "://" in text:
        return text if secret_in(text) is None else shown(text)
    if text.startswith(HUB):
        return text
    kind = SHARDS if text.startswith(SHARDS) else ""
    path = text.removeprefix(kind)
    return f"{kind}{PurePath(path).name or path}"
