"""The pictures in a run: fetched by its first stage, read by all others as they are."""

import re
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from lamps import draw
from prefect.utilities.callables import parameter_schema

from data import prepare
from data.errors import DataRefused, InputError
from data.spec import DatasetSpec
from flows.cli.running import refuse_early
from flows.pipeline import pipeline
from flows.prepare import Prepared, opened
from models.config import Experiment

SECRET = "s3://AKIA:sword/swordfish@garden/flowers"


def test_the_pictures_that_come_in_meanwhile_stop_no_run(tmp_path: Path):
    folder, url, store = Path(draw(tmp_path / "lamps")), f"memory://{uuid4().hex}", fsspec.filesystem("memory")
    store.put(f"{folder}/", url, recursive=True)
    spec = DatasetSpec(source=url, size=12)
    before = prepare.prepare(spec, tmp_path).images.snapshot
    prepared = Prepared(dataset=spec, home=tmp_path, fingerprint=before.fingerprint)
    first = next(name for name in store.find(url) if name.endswith(".png"))
    store.rm_file(first)
    assert opened(prepared).images.snapshot.files == before.files
    fewer = prepare.prepare(spec, tmp_path).images.snapshot
    assert len(fewer.files) == len(before.files) - 1
    with pytest.raises(DataRefused, match="changed while the run was under way; run it again"):
        opened(prepared.model_copy(update={"dataset": spec.model_copy(update={"split_seed": 1})}))


def test_a_secret_in_any_source_is_refused_before_a_run_is_kept_with_it():
    spec = DatasetSpec(source="https://example.org/flowers.zip", more=(SECRET,))
    with pytest.raises(InputError, match=r"source s3://garden/flowers has a user or a password in it") as caught:
        refuse_early(Experiment(dataset=spec))
    assert "swordfish" not in str(caught.value)


def test_a_secret_in_a_change_is_refused_by_the_form():
    pattern = parameter_schema(pipeline).model_dump()["properties"]["changes"]["items"]["pattern"]
    assert re.search(pattern, "train.epochs=3")
    assert re.search(pattern, "dataset.source=s3://garden/flowers")
    assert not re.search(pattern, f"dataset.source={SECRET}")
    assert not re.search(pattern, "dataset.source=https://host.org/a.zip?token=swordfish")
