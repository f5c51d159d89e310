"""What is gone on with after something has changed: it comes to its end, and is no other run's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from lamps import draw

from data.prepare import prepare
from data.spec import DatasetSpec
from flows.prepare import Prepared
from flows.reuse import records
from flows.reuse.stage import Reused, reused
from flows.reuse.stages import Stage
from models.claims import release
from models.config import Experiment
from models.run import RunFolder, new_run
from models.zoo.config_pretrained import PretrainedConfig

LEFT: dict[Stage, tuple[str, ...]] = {
    "train": ("weights.safetensors", "fit.json", "network.json"),
    "evaluate": ("predictions.npz", "run.json"),
}


class Killed(Exception):  # noqa: N818
    pass


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    spec = DatasetSpec(source=str(draw(tmp_path / "lamps", per_class=12)))
    fingerprint = prepare(spec, tmp_path / "home").images.snapshot.fingerprint
    return Prepared(dataset=spec, home=tmp_path / "home", fingerprint=fingerprint)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """That a backbone starts from."""
    file = tmp_path / "resnet18.pth"
    file.write_bytes(b"one")
    return file


def begun(prepared: Prepared, weights: Path) -> RunFolder:
    experiment = Experiment(dataset=prepared.dataset, model=PretrainedConfig(weights=str(weights)))
    run = new_run(prepared.home, experiment, prepared.fingerprint)
    release(run.path)
    return run


@contextmanager
def stage(name: Stage, run: RunFolder, prepared: Prepared) -> Iterator[Reused]:
    with reused(name, run.path, prepared, settle=lambda _: None) as found:
        yield found


def end(name: Stage, run: RunFolder, prepared: Prepared) -> str | None:
    """The run that the stage was taken from; made here, if there is none."""
    with stage(name, run, prepared) as found:
        if found.origin is None:
            for file in LEFT[name]:
                (run.path / file).write_bytes(f"{file} of {run.run_id}".encode())
    return found.origin


def kill_in(name: Stage, run: RunFolder, prepared: Prepared) -> None:
    with suppress(Killed), stage(name, run, prepared):
        run.checkpoint.mkdir()
        (run.checkpoint / "checkpoint-0000000000.pt").touch()
        raise Killed


def test_what_was_killed_and_gone_on_with_is_taken_over(prepared: Prepared, weights: Path):
    first, second = begun(prepared, weights), begun(prepared, weights)
    kill_in("train", first, prepared)
    assert end("train", first, prepared) is None
    assert end("evaluate", first, prepared) is None
    assert [end(name, second, prepared) for name in LEFT] == [first.run_id] * 2


def test_a_training_that_began_from_other_weights_is_gone_on_with_and_taken_over_by_nobody(
    prepared: Prepared, weights: Path
):
    first, second = begun(prepared, weights), begun(prepared, weights)
    kill_in("train", first, prepared)
    weights.write_bytes(b"another")
    assert end("train", first, prepared) is None
    assert end("evaluate", first, prepared) is None
    assert [end(name, second, prepared) for name in LEFT] == [None, None]


def test_figures_of_weights_that_are_not_the_ones_in_the_folder_are_not_taken_over(prepared: Prepared, weights: Path):
    first, second = begun(prepared, weights), begun(prepared, weights)
    assert end("train", first, prepared) is None
    weights.write_bytes(b"another")
    for name in LEFT:
        assert end(name, second, prepared) is None
    assert end("evaluate", first, prepared) is None  # though `second` has figures of the same key
    assert records.read(first.path).keys() == {"train"}
