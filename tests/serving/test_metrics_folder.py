"""Workers that come and go leave each other their figures."""

import os
from pathlib import Path

import pytest

from serving import metrics
from serving.metrics_folder import MetricsFolder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "figures"


def test_one_that_goes_leaves_the_others_theirs_and_the_last_takes_the_folder_along(path):
    first, second = MetricsFolder(path), MetricsFolder(path)
    (path / "counter_1.db").touch()
    first.leave()
    assert (path / "counter_1.db").exists()
    third = MetricsFolder(path)
    assert (path / "counter_1.db").exists()
    second.leave()
    assert path.exists()
    third.leave()
    assert not path.exists()


def test_what_a_killed_service_has_left_is_not_counted_by_a_new_one_of_the_same_process_id(path):
    path.mkdir()
    (path / "gauge_livesum_8.db").touch()
    folder = MetricsFolder(path)
    assert list(path.iterdir()) == []
    folder.leave()


def test_a_link_or_a_folder_of_somebody_else_is_not_taken_for_ours(path, tmp_path, monkeypatch):
    path.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(OSError, match="figures"):
        MetricsFolder(path)
    path.unlink()
    path.mkdir()
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to another user; remove it"):
        MetricsFolder(path)


def test_figures_of_a_dead_worker_are_forgotten_also_where_somebody_else_has_its_number(tmp_path, monkeypatch):
    def kill(process: int, signal: int) -> None:
        raise PermissionError(process, signal)

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(os, "kill", kill)
    (tmp_path / "gauge_livesum_4242.db").touch()
    metrics.text()
    assert list(tmp_path.iterdir()) == []
