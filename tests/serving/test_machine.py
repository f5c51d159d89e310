"""Workers, threads and GPUs from the machine, as far as the process may use it; what the user sets wins."""

import os
from pathlib import Path

import pytest

from data.errors import InputError
from models.bundle import session
from models.bundle.bundle import Bundle, BundleError
from serving import machine, settings
from serving.machine import Machine, Workers, suited

GIB = 1 << 30
ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cores", "gib", "workers", "threads"),
    [
        (1, 1, 1, 1),
        (2, 8, 2, 1),
        (4, 16, 4, 1),
        (8, 32, 8, 1),
        (16, 64, 8, 2),  # eight are enough for a default, and the cores that have none are shared out
        (64, 256, 8, 8),
        (8, 4, 3, 2),  # a quarter of the memory
        (8, 0.5, 1, 8),  # there is always one
    ],
)
def test_a_worker_for_each_core_as_far_as_memory_goes(cores, gib, workers, threads):
    found = suited(Machine(cores=cores, memory=int(gib * GIB), gpus=0))
    assert found == Workers(workers=workers, threads=threads, decoders=2)


@pytest.mark.parametrize(("cores", "gpus", "decoders"), [(2, 1, 2), (16, 1, 8), (16, 4, 4), (4, 8, 2)])
def test_a_worker_for_each_gpu_and_decoders_to_feed_it(cores, gpus, decoders):
    found = suited(Machine(cores=cores, memory=GIB, gpus=gpus))
    assert found == Workers(workers=gpus, threads=1, decoders=decoders)


def cgroup(root: Path, line: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": line, **{f"sys/fs/cgroup/{key}": one for key, one in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


NOWHERE = {"PATH": ""}


@pytest.mark.parametrize(("quota", "cores"), [("50000", 1), ("100000", 1), ("199000", 1), ("max", ALLOWED)])
def test_a_quota_of_processor_time_is_so_many_cores_rounded_down(tmp_path, quota, cores):
    root = cgroup(tmp_path, "0::/", {"cpu.max": f"{quota} 100000"})
    assert machine.look(root, NOWHERE).cores == cores


def test_what_limits_a_group_around_limits_this_one(tmp_path):
    files = {
        "a/b/memory.max": "max",
        "a/memory.max": str(GIB),
        "memory.max": str(2 * GIB),
        "a/cpu.max": "100000 100000",
    }
    found = machine.look(cgroup(tmp_path, "0::/a/b", files), NOWHERE)
    assert (found.memory, found.cores) == (GIB, 1)


def test_cgroups_of_version_1_limit_too(tmp_path):
    lines = "5:memory:/docker/f00\n4:cpu,cpuacct:/docker/f00\n0::/"
    files = {
        "memory/memory.limit_in_bytes": str(GIB),  # in a container its own group is the outermost one
        "cpu,cpuacct/cpu.cfs_quota_us": "150000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    found = machine.look(cgroup(tmp_path, lines, files), NOWHERE)
    assert (found.memory, found.cores) == (GIB, 1)


def test_a_machine_without_limits_is_used_whole(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
    }
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    whole = Machine(cores=ALLOWED, memory=memory, gpus=0)
    assert machine.look(cgroup(tmp_path, "5:memory:/\n4:cpu:/", files), NOWHERE) == whole
    assert machine.look(tmp_path / "nothing", NOWHERE) == whole


@pytest.mark.parametrize(
    ("visible", "gpus"), [(None, 2), ("0,1", 2), ("1", 1), ("", 0), ("-1", 0), ("0,-1,1", 1), ("0,1,2,3", 2)]
)
def test_gpus_are_those_that_cuda_would_see(tmp_path, visible, gpus):
    for number in range(2):
        (tmp_path / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    seen = NOWHERE if visible is None else {**NOWHERE, "CUDA_VISIBLE_DEVICES": visible}
    assert machine.look(tmp_path, seen, cuda=lambda: True).gpus == gpus
    assert machine.look(tmp_path, seen, cuda=lambda: False).gpus == 0, "onnxruntime for processors alone"


def test_where_the_driver_shows_nothing_its_own_command_is_asked(tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-0)'\necho '  MIG 1g.18gb Device 0: (UUID: MIG-0)'\n"
    )
    command.chmod(0o755)
    assert machine.look(tmp_path, {"PATH": str(tmp_path)}, cuda=lambda: True).gpus == 1


def test_what_the_user_sets_wins_and_what_he_does_not_is_chosen(monkeypatch):
    chosen = suited(machine.here())
    loaded = settings.load()
    assert (loaded.workers, loaded.threads, loaded.decoders) == (chosen.workers, chosen.threads, chosen.decoders)
    monkeypatch.setenv("TRAINSERVE_WORKERS", "7")
    monkeypatch.setenv("TRAINSERVE_THREADS", "3")
    loaded = settings.load(decoders=5)
    assert (loaded.workers, loaded.threads, loaded.decoders) == (7, 3, 5)


def test_gpus_that_are_asked_for_are_counted_on(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_GPUS", "3")
    assert settings.load().workers == 3
    monkeypatch.setenv("TRAINSERVE_GPUS", "many")
    with pytest.raises(InputError, match="TRAINSERVE_GPUS is 'many'"):
        settings.load()


def test_a_gpu_that_cannot_be_used_is_told_and_the_processor_answers(toy_bundle, caplog):
    from serving.served import opened

    if session.has_cuda():
        pytest.skip("this onnxruntime may be able to")
    bundle = opened(toy_bundle, settings.load(), gpu=0)
    assert bundle.provider == "CPUExecutionProvider"
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("toy@v1 answers on the processor: onnxruntime cannot use GPU 0; ")
    caplog.clear()
    assert opened(toy_bundle, settings.load()).provider == "CPUExecutionProvider"
    assert not caplog.records


@pytest.mark.filterwarnings("ignore:Specified provider")  # this onnxruntime is made for processors
def test_why_a_gpu_cannot_be_used_is_told(monkeypatch, caplog):
    monkeypatch.setattr(session, "has_cuda", lambda: True)
    with pytest.raises(BundleError):
        session.connect(b"no graph", gpu=3)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("GPU 3 cannot be used (")
    assert told.endswith("); trying the processor")
    assert len(told) > len("GPU 3 cannot be used (); trying the processor")


@pytest.mark.gpu
def test_a_model_on_a_gpu_answers_its_golden_samples_as_it_was_trained_to(toy_bundle):
    if not session.has_cuda():
        pytest.skip("this onnxruntime is for processors alone")
    assert Bundle.open(toy_bundle, gpu=0).provider == "CUDAExecutionProvider"
