"""Which engine is chosen, what is refused, and how a flow's orders reach its tasks."""

import sys
from pathlib import Path

import pytest
from lamps import wait_for

from data.errors import InputError
from flows import engines
from flows.cli.options import runner_of
from flows.cli.starting import require_work_for
from flows.engines import RunnerConfig, at_a_time
from flows.orders import Orders, heeding
from models.config import CrossvalConfig, Experiment


@pytest.mark.parametrize(
    ("engine", "address", "workers", "says"),
    [
        ("spark", None, None, "--engine 'spark' is not known; use one of plain, threads, processes, dask, ray"),
        ("threads", "tcp://127.0.0.1:8786", None, "use engine dask or ray, or leave it out"),
        ("plain", None, 4, "engine plain computes one after the other, not 4 at a time"),
        ("threads", None, 0, "--workers is 0; it should be greater than or equal to 1"),
    ],
)
def test_an_engine_that_cannot_be_is_refused_in_a_sentence(
    engine: str, address: str | None, workers: int | None, says: str
):
    with pytest.raises(InputError) as refused:
        runner_of(engine, address, workers)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://127.0.0.1:1", "nothing answers at tcp://127.0.0.1:1 (Connection refused); start the cluster"),
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
        ("somewhere", "address 'somewhere' names no host and port"),
        ("auto", "address 'auto' names no host and port"),  # of Ray alone
    ],
)
def test_a_cluster_that_does_not_answer_is_told_before_anything_is_started(address: str, says: str):
    with pytest.raises(InputError) as refused:
        engines.require(RunnerConfig(kind="dask", address=address))
    assert says in str(refused.value)


@pytest.mark.parametrize(("kind", "package"), [("dask", "prefect_dask"), ("ray", "prefect_ray"), ("ray", "ray")])
def test_a_package_that_is_missing_is_named_by_its_extra(kind: str, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"engine {kind} needs a package more; pip install 'trainserve\[{kind}\]'"):
        engines.require(RunnerConfig.model_validate({"kind": kind}))


def test_an_engine_with_no_folds_to_share_out_is_refused():
    with pytest.raises(InputError, match=r"crossval\.folds is 0; add --crossval.folds 5, or leave --engine out"):
        require_work_for(RunnerConfig(kind="threads"), Experiment())
    require_work_for(RunnerConfig(kind="threads"), Experiment(crossval=CrossvalConfig(folds=2)))
    require_work_for(RunnerConfig(), Experiment())


def test_one_is_computed_at_a_time_for_each_gpu_unless_another_number_is_given():
    assert at_a_time(RunnerConfig(kind="threads"), gpus=4) == 4
    assert at_a_time(RunnerConfig(kind="threads", workers=3), gpus=4) == 3
    assert at_a_time(RunnerConfig(kind="processes"), gpus=0) >= 2
    assert at_a_time(RunnerConfig(kind="dask", address="tcp://10.0.0.1:8786", workers=20), gpus=4) == 20
    assert at_a_time(RunnerConfig(), gpus=4) == 1


def test_a_task_goes_on_while_the_flow_does_and_stops_when_it_says_so_or_has_ended(tmp_path: Path):
    orders = Orders(tmp_path / "folds" / "orders")
    with orders.given():
        stop, another = heeding(orders.file), heeding(orders.file)
        assert not stop()
        orders.stop()
        assert another()
    assert not orders.file.exists()
    assert heeding(orders.file)()


def test_a_word_that_the_disk_did_not_take_is_said_with_the_next_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flows.orders.BEAT_S", 0.05)
    orders = Orders(tmp_path / "folds" / "orders")
    with orders.given():
        away = (tmp_path / "folds").rename(tmp_path / "away")
        orders.stop()
        away.rename(tmp_path / "folds")
        wait_for(lambda: orders.file.read_text() == "stop", timeout_s=60, every_s=0.02)


def test_a_task_whose_flow_says_nothing_more_stops(tmp_path: Path):
    """As after `kill -9`: the file stays, and what it says stays the same."""
    file = tmp_path / "orders"
    file.write_text("7")
    stop = heeding(file, silent_s=0.6)
    assert not stop()
    wait_for(stop, timeout_s=60, every_s=0.05)
