"""The service's figures: summed over repetitions, beside the plain loop of the same one; what is posted; memory."""

import base64
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import cold_start, load, render_serving, serving, soak
from benchmarks.render import table
from benchmarks.spread import spread

PLAIN = [{"requests_per_s": 90.0, "requests_per_cpu_s": 100.0, "p50_ms": 9.0, "p99_ms": 10.0}] * 2
STARTED = ("ready_s", "all_ready_s", "cpu_s", "supervisor_mb", "worker_mb", "worker_proportional_mb")


def asked(per_cpu_s: float, p99_ms: float, failed: int = 0) -> dict[str, object]:
    figures = {"requests_per_s": 80.0, "requests_per_cpu_s": per_cpu_s, "p50_ms": 9.0, "p99_ms": p99_ms}
    return {"body": "raw", "clients": "64", "memory_mb": 200.0, "failed": failed, **figures}


def test_ratios_are_taken_within_a_repetition():
    slower = [PLAIN[0], PLAIN[0] | {"requests_per_cpu_s": 50.0}]
    (row,) = serving.summed("ours", [[asked(80, 15)], [asked(45, 30, failed=2)]], slower)
    assert row["requests_per_cpu_s_of_plain"] == spread([0.8, 0.9])
    assert row["p99_ms_of_plain"] == spread([1.5, 3.0])
    assert row["failed"] == 2


def test_what_was_refused_or_cut_off_is_no_answer():
    found = load.told("Running...\nRESULT 1000 2000000 4000 9000 150 3 2\n")
    assert (found["requests"], found["requests_per_s"], found["failed"]) == (850, 425, 155)
    assert (found["p50_ms"], found["p99_ms"]) == (4, 9)


def test_whoever_outlives_the_service_is_ended_with_it():
    child = "import time; print('on', flush=True); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    serving.ended(process)
    assert process.stdout.read() == b"", "nobody holds it any more"
    process.stdout.close()


def test_every_contender_begins_once():
    orders = [serving.in_turns(["a", "b", "c"], number) for number in range(3)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_the_page_has_a_row_for_each_way_of_asking():
    rows = serving.summed("ours", [[asked(80, 15)], [asked(90, 20)]], PLAIN)
    on = {"processor": "a processor", "cores": 2, "python": "3.11", "torch": "2.11", "commit": "abc", "litserve": ""}
    figures = {
        "command": "python -m benchmarks.serving",
        "model": "cnn",
        "picture_bytes": 900,
        "plain": {key: spread([one[key] for one in PLAIN]) for key in PLAIN[0]},
        "services": rows,
        "goals": {"requests_per_cpu_s_of_plain": 0.85, "p99_ms_of_plain": 1.5, "p99_ms_of_plain_at_half": 3},
        "runs": 2,
        "machine": on,
    }
    (page,) = render_serving.sections(lambda _: [figures], table)
    assert "| ours | raw | 64 | 80 (80 to 80) | 85 (80 to 90) | **0.85 (0.80 to 0.90)** |" in page
    assert render_serving.sections(lambda _: [{"service": []}], table) == []


def test_the_same_picture_is_posted_three_ways(tmp_path: Path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"\xff\xd8picture")
    bodies = load.bodies(picture, tmp_path, field="images")
    assert bodies["raw"].file.read_bytes() == picture.read_bytes()
    assert base64.b64decode(json.loads(bodies["json"].file.read_bytes())["image"]) == picture.read_bytes()
    form = bodies["multipart"].file.read_bytes()
    assert form.startswith(f"--{load.BOUNDARY}".encode())
    assert form.endswith(f"--{load.BOUNDARY}--\r\n".encode())
    assert b'name="images"' in form
    assert picture.read_bytes() in form


def sample(at_s: float, supervisor: float, **workers: float) -> dict[str, object]:
    held = {pid.removeprefix("p"): int(mb * 1e6) for pid, mb in workers.items()}
    return {"at_s": at_s, "supervisor": int(supervisor * 1e6), "workers": held}


def test_growth_is_counted_from_the_warm_up_for_those_that_lasted():
    samples = [
        sample(0, 60, p7=100, p8=100),
        sample(60, 70, p7=150, p8=160),
        sample(70, 70, p7=170, p8=160),
        sample(80, 71, p7=155, p9=90),
    ]
    told = soak.growth(samples, 60)
    assert told["supervisor"] == {"first": 70, "last": 71, "largest": 71, "growth": 1}
    assert told["worker 1"] == {"first": 150, "last": 155, "largest": 170, "growth": 5}
    assert list(told) == ["supervisor", "worker 1"]


def test_a_thousand_requests_are_of_every_kind_in_its_share():
    kinds = soak.kinds(cold_start.GOLDEN)
    assert sum(kind.times for kind in kinds.values()) == 1000
    order = soak.order(kinds)
    assert {name: order.count(name) for name in kinds} == {name: kind.times for name, kind in kinds.items()}
    assert order[0] == "raw"
    assert [place // 100 for place, name in enumerate(order) if name == "explain"] == [2, 7]


def test_the_page_has_the_start_and_the_hour():
    on = {"processor": "a processor", "cores": 2, "python": "3.11", "torch": "2.11", "commit": "abc"}
    row = {"workers": 1, **{key: spread([1.0]) for key in STARTED}}
    imported = [{"package": "bentoml", "own_s": 0.25, "modules": 9}]
    case = {"model": "cnn", "import_onnxruntime_s": spread([0.2]), "starts": [row], "imports": imported}
    begun = {"command": "python -m benchmarks.cold_start", "repeats": 5, "goal_s": 3.0, "cases": [case], "machine": on}
    held = {"first": 150.0, "last": 152.0, "largest": 155.0, "growth": 2.0}
    hour = {"minutes": 60, "per_second": 50, "warm_up_min": 5, "goal_growth_mb": 50, "memory_mb": {"worker 1": held}}
    hour |= {"sent": {"raw": 1000}, "failed": {}, "ended_workers": 0, "worker_proportional_mb": [120.0]}
    hour |= {"p50_ms": 3.0, "p99_ms": 9.0, "model": "cnn", "command": "python -m benchmarks.soak", "machine": on}
    found = {"cold_start.json": [begun], "soak.json": [hour]}
    start, soaked = render_serving.sections(lambda pattern: found.get(pattern, []), table)
    assert "| cnn | 1 | **1.00 (1.00 to 1.00)** |" in start
    assert "bentoml 0.25" in start
    assert "| worker 1 | 150.0 | 152.0 | 155.0 | **2.0** |" in soaked
    assert "1,000 requests (raw 1,000), 0 failed" in soaked
