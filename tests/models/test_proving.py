"""A graph in fewer bits that fails as a service costs itself, not the run: the bundle goes on with the exported one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from data.images import Images
from data.progress import Progress
from models.bundle.bundle import Bundle
from models.bundle.parity import ExportError
from models.cards import ModelCard, Rehearsal
from tests.models.bundles import toy_images
from tests.models.quantised import bundle_in_fewer_bits


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return toy_images(tmp_path_factory.mktemp("pictures"))


class Services:
    """As `flows.rehearsal`, without processes; each answers as its bundle does, unless it is told to err."""

    def __init__(self, *, wrong: Sequence[str] = (), faults: dict[str, str] | None = None) -> None:
        self._wrong, self._faults = wrong, faults or {}
        self.started: list[str] = []

    @contextmanager
    def __call__(self, bundle: Bundle, progress: Progress) -> Iterator["Answering"]:
        progress("starting a service on the bundle", 0, 0)
        self.started.append(bundle.variant)
        shift = 1 if bundle.variant in self._wrong else 0
        yield Answering(bundle, shift, self._faults.get(bundle.variant))


class Answering:
    def __init__(self, bundle: Bundle, shift: int, fault: str | None) -> None:
        self._bundle, self._shift, self._fault = bundle, shift, fault

    def ask(self, files: Sequence[bytes]) -> np.ndarray:
        answers = self._bundle.predict(np.stack([self._bundle.decode(file) for file in files]))
        return np.roll(answers, self._shift, axis=1)

    def rehearse(self) -> Rehearsal:
        return Rehearsal(fault=self._fault)


Made = Callable[..., ModelCard]


@pytest.fixture
def made(images: Images, tmp_path: Path) -> Made:
    def make(services: Services) -> ModelCard:
        bundle_in_fewer_bits(tmp_path / "bundle", images, rehearse=services)
        return Bundle.open(tmp_path / "bundle").card

    return make


def kept(card: ModelCard) -> dict[str, bool]:
    return {one.name: one.kept for one in card.variants}


def test_one_that_a_service_answers_well_with_is_kept_and_rehearsed_once(made: Made):
    services = Services()
    card = made(services)
    assert services.started == ["int8"]
    assert kept(card) == {"int8": True, "fp16": True}
    assert [way.name for way in card.parity.ways] == ["onnx", "int8", "fp16", "http"]


@pytest.mark.parametrize(
    ("services", "said"),
    [
        (
            Services(wrong=["int8"]),
            "not kept: a service on it does not answer as the int8 graph does: over 6 pictures probabilities differ",
        ),
        (
            Services(faults={"int8": "answers with its float graph, not with the int8 one that is to be tried"}),
            "not kept: the service on it answers with its float graph, not with the int8 one that is to be tried",
        ),
    ],
    ids=["other answers over HTTP", "another label, so that the service leaves it out"],
)
def test_one_that_fails_in_the_service_is_left_out_with_a_sentence_and_the_exported_graph_goes_on(
    made: Made, services: Services, said: str, tmp_path: Path
):
    card = made(services)
    assert services.started == ["int8", "float"]
    assert kept(card) == {"int8": False, "fp16": True}
    assert card.variants[0].said.startswith(said)
    assert "release.parity" not in card.variants[0].said  # which is not what would mend it
    assert card.rehearsal == Rehearsal(fault=None)
    assert [way.name for way in card.parity.ways] == ["onnx", "fp16", "http"]
    assert not list((tmp_path / "bundle").rglob("*int8*"))


def test_where_the_exported_graph_fails_too_nothing_is_written(made: Made, tmp_path: Path):
    services = Services(wrong=["int8", "float"])
    with pytest.raises(ExportError, match="a service on the exported model does not answer as the trained network"):
        made(services)
    assert services.started == ["int8", "float"]
    assert not (tmp_path / "bundle").exists()


def test_a_fault_of_the_service_that_is_not_the_graphs_is_in_the_card(made: Made):
    card = made(Services(faults={"int8": "was ill", "float": "was ill"}))
    assert card.rehearsal == Rehearsal(fault="was ill")
