"""Memory that one step has freed serves the next."""

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys, threading
from models.training.allocation import keep_freed_memory
PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # or 64 MB are some thirty faults, where huge pages are usual
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        b"x" * (64 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
b"x" * (64 << 20)
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


def faults(form: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, form], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
def test_large_memory_is_faulted_in_once_also_by_a_thread():
    assert faults("kept") < 500 < faults("plain")
