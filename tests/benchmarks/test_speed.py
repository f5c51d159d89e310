import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import machine, render_speed, start
from benchmarks.pictures import HELD_OUT, folder_of
from benchmarks.render import table
from benchmarks.spread import ratios, spread
from benchmarks.training import summary

ROOT = Path(__file__).parents[2]


def run(rate: float) -> dict[str, object]:
    return {
        "images_per_cpu_s": rate,
        "images_per_s": rate / 2,
        "kernel_share": 0.01,
        "page_faults_per_image": 300.0,
        "whole": {"wall_s": 10.0, "cpu_s": 9.0},
        "versions": {"torch": "2.15.0"},
        "settings": {"optimizer": "SGD", "precision": "float32"},
    }


def test_ratios_are_taken_within_a_repetition():
    # The second repetition was on a machine half as fast: the medians alone would say 1.
    assert ratios([200.0, 120.0, 60.0], [100.0, 60.0, 30.0]) == {"median": 2.0, "low": 2.0, "high": 2.0, "n": 3}


def test_a_spread_says_the_median_and_the_extremes():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "n": 3}


def test_fit_is_compared_with_the_best_of_the_others_in_each_repetition():
    runs = {
        "bare": [run(100), run(50)],
        "fit": [run(99), run(48)],
        "timm": [run(80), run(30)],
        "timm, channels_last": [run(90), run(30)],
        "fastai": [run(60), run(40)],
        "ultralytics": [run(300), run(300)],  # not one of those that the goal names
    }
    found = summary(runs)
    assert found["contenders"]["fit"]["of_bare"]["low"] == pytest.approx(0.96)
    assert found["over_best"]["fit"] == {"median": pytest.approx((99 / 80 + 48 / 40) / 2), "low": 1.2, "high": 99 / 80,
                                         "n": 2}  # fmt: skip
    assert found["over_best_of_either_layout"]["fit"]["low"] == pytest.approx(99 / 90)


def test_without_the_others_there_is_nothing_to_compare_with():
    assert summary({"bare": [run(100)], "fit": [run(99)]})["over_best"] == {}


def test_what_was_not_measured_has_no_section():
    assert render_speed.sections(lambda _: [], table) == ["", "", "", "", "", ""]


def test_the_section_of_training_has_a_row_for_each_contender():
    figures = {
        **summary({"bare": [run(100)], "fit": [run(99)], "timm": [run(80)]}),
        "command": "python -m benchmarks.training",
        "stem": "small",
        "pictures": {"per_class": 200, "from": "made up, 32 px"},
        "repeats": 1,
        "machine": {"processor": "P", "cores": "2", "python": "3.11", "torch": "2", "commit": "c"},
    }
    page = render_speed.training(lambda _: [figures], table)
    assert "| fit | SGD, float32 | 99.0 (99.0 to 99.0) | 0.99 (0.99 to 0.99) |" in page
    assert "`fit`: **1.24 (1.24 to 1.24)** of the best of timm, lightning, fastai as they are documented" in page


@pytest.mark.slow
def test_decoding_is_measured_beside_pillow_alone_and_has_its_section(tmp_path: Path):
    small = ["--repeats", "1", "--per-class", "2", "--photos-per-class", "1"]
    command = [sys.executable, "-m", "benchmarks.decode", *small, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / "decode.json").read_text())
    assert len(figures["rows"]) == 3
    assert "| 32 px as they are (made up, 32 px) | " in render_speed.decode(lambda _: [figures], table)


@pytest.mark.slow
def test_filling_the_cache_is_measured_beside_decoding_alone_and_has_its_section(tmp_path: Path):
    small = ["--repeats", "1", "--per-class", "2", "--photos-per-class", "2", "--copies", "2", "--photo-copies", "1"]
    command = [sys.executable, "-m", "benchmarks.cache", *small, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / "cache.json").read_text())
    assert [row["goal"] for row in figures["rows"]] == [0.9, 0.9]
    assert "| 32 px as they are (made up, 32 px), 840 | " in render_speed.cache(lambda _: [figures], table)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen programs that import torch
def test_shards_are_measured_beside_imagefolder_and_have_their_section(tmp_path: Path):
    small = ["--repeats", "1", "--epochs", "2", "--per-class", "7", "--photos-per-class", "7"]
    command = [sys.executable, "-m", "benchmarks.shards", *small, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / "shards.json").read_text())
    assert len(figures["rows"]) == 12
    assert {row["goal"] for row in figures["rows"] if row["what"] == "trainserve"} == {2.0}
    assert "| 32 px (made up, 32 px, 470 pictures) | 0 | trainserve | " in render_speed.shards(
        lambda _: [figures], table
    )


def test_own_time_and_module_are_read_from_a_line_of_importtime():
    found = start.IMPORT.search("import time:      1234 |      99999 |     torch.nn.functional")
    assert found is not None
    assert found.groups() == ("1234", "torch.nn.functional")
    assert start.IMPORT.search("import time: self [us] | cumulative | imported package") is None


@pytest.mark.slow
def test_made_up_pictures_fill_train_val_and_test(tmp_path: Path):
    folder_of(tmp_path, per_class=2, side=16)
    assert len(list((tmp_path / "train").glob("*/*.jpg"))) == 20
    assert len(list((tmp_path / "val").glob("class3/*.jpg"))) == HELD_OUT


@pytest.mark.slow
def test_fit_and_the_bare_loop_are_measured_side_by_side(tmp_path: Path):
    small = ["--only", "bare", "fit", "--repeats", "1", "--epochs", "2", "--per-class", "7", "--stem", "published"]
    command = [sys.executable, "-m", "benchmarks.training", *small, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / "training-published.json").read_text())
    assert list(figures["contenders"]) == ["bare", "fit"]
    assert figures["contenders"]["fit"]["of_bare"]["median"] > 0.1


@pytest.mark.slow
def test_the_data_path_is_measured_at_both_sizes(tmp_path: Path):
    small = ["--repeats", "1", "--epochs", "2", "--per-class", "7", "--photos-per-class", "7"]
    command = [sys.executable, "-m", "benchmarks.datapath", *small, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = json.loads((tmp_path / "datapath.json").read_text())["rows"]
    assert {(row["side"], row["what"]) for row in rows} == {
        (32, "trainserve"),
        (32, "torchvision"),
        (128, "trainserve"),
        (128, "torchvision"),
        (128, "trainserve, defaults"),
    }


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this is not Linux")
def test_processor_seconds_are_those_of_the_process_and_of_its_running_children():
    code = "while True: pass"
    others = start.processor_s(os.getpid())[1]  # what earlier tests left running
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        while start.processor_s(os.getpid())[1] < others + 0.05:
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    before = time.process_time()
    own, children = start.processor_s(os.getpid())
    assert before - 0.03 <= own <= time.process_time() + 0.03  # both count in ticks
    assert children == pytest.approx(others, abs=0.02)


def test_what_other_guests_took_is_a_share_of_what_was_wanted(tmp_path: Path):
    def at(text: str) -> machine.Ticks:
        (tmp_path / "stat").write_text(text)
        return machine.ticks(tmp_path / "stat")

    before = at("cpu  100 10 5 1000 7 1 2 40 0 0\ncpu0 50 5 2 500 3 0 1 20 0 0\n")
    after = at("cpu  160 10 15 3000 9 1 2 70 0 0\ncpu0 80 5 7 1500 4 0 1 35 0 0\n")
    assert machine.stolen(before, after) == 0.3
    assert machine.stolen(before, before) == 0
    assert machine.ticks(tmp_path / "nowhere") == (0, 0)
