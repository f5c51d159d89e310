import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import render_gpu
from benchmarks.gpu_share import computed, covered, share
from benchmarks.render import table

ROOT = Path(__file__).parents[2]


def test_kernels_that_overlap_count_once():
    assert covered([(4.0, 5.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6)]) == 4.0
    assert covered([]) == 0.0


def test_the_share_is_of_the_time_from_the_first_kernel_to_the_last():
    assert share([(10.0, 11.0), (13.0, 14.0)]) == 0.5
    assert share([]) == 0.0


def test_the_raw_records_are_those_that_the_profiler_tells_but_for_what_was_marked_by_name():
    with profile(activities=[ProfilerActivity.CPU]) as profiled, record_function("marked"):
        torch.rand(8, 8) @ torch.rand(8, 8)
    found = computed(profiled, on=DeviceType.CPU)
    told = [event for event in profiled.events() if not event.is_user_annotation]
    assert len(found) == len(told) == len(profiled.events()) - 1
    lengths = sorted((end - start) / 1000 for start, end in found)
    assert lengths == pytest.approx(sorted(event.time_range.elapsed_us() for event in told), abs=0.01)
    assert computed(profiled) == [], "no GPU was asked for"


def test_what_was_not_measured_has_no_section():
    assert render_gpu.sections(lambda _: [], table) == ["", "", ""]


@pytest.mark.slow
def test_the_share_without_a_gpu_is_refused_in_a_sentence(tmp_path: Path):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    command = [sys.executable, "-m", "benchmarks.gpu_share", "--data", str(tmp_path / "none.tar.gz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (1, "no GPU is here: this measures one")


@pytest.mark.slow
def test_one_device_and_two_are_measured_side_by_side(tmp_path: Path):
    small = ["--data", "digits", "--devices", "1", "2", "--kind", "softmax", "--epochs", "1", "--batch-size", "64"]
    command = [sys.executable, "-m", "benchmarks.scaling", *small, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / "scaling.json").read_text())
    assert [row["devices"] for row in figures["rows"]] == [1, 2]
    assert figures["rows"][1]["gain"] > 0
    assert "| 2 | 2 x cpu" in render_gpu.scaling(lambda _: [figures], table)
