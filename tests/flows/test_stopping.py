"""Ctrl-C and SIGTERM: what works is asked to stop and waited for, once; real signals to this process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from traceback import walk_stack

import pytest
from lamps import ROOT, Command, environment, wait_for

from flows.stopping import Interrupted, stoppable, terminable


def ignore() -> None: ...


def once_it_waits(number: int, sent: Callable[[], None] = ignore) -> None:
    """A signal for this process, from outside its main thread, as soon as that waits for its work."""
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        while not any(frame.f_code is wait.__code__ for frame, _ in walk_stack(sys._current_frames()[main])):
            time.sleep(0.01)
        os.kill(os.getpid(), number)
        sent()

    threading.Thread(target=send, daemon=True).start()


def test_work_that_is_not_interrupted_gives_its_value_or_its_error():
    assert stoppable(lambda stop: stop(), on_stop=ignore) is False

    def fail(_: Callable[[], bool]) -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        stoppable(fail, on_stop=ignore)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Interrupted)], ids=str
)
def test_an_interruption_waits_until_the_work_has_saved_and_then_goes_on_its_way(number: int, raised):
    saved, told = [], []

    def work(stop: Callable[[], bool]) -> None:
        while not stop():
            time.sleep(0.01)
        time.sleep(0.1)
        saved.append(True)
        raise RuntimeError("stopped, which nobody hears")

    once_it_waits(number)
    with pytest.raises(raised), terminable():
        stoppable(work, on_stop=lambda: told.append(True))
    assert saved == told == [True]


def test_a_second_interruption_does_not_wait():
    over = threading.Event()
    once_it_waits(signal.SIGINT)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), terminable():
        stoppable(lambda _: over.wait(120), on_stop=lambda: once_it_waits(signal.SIGINT))
    assert time.monotonic() - began < 60
    over.set()


def test_a_second_sigterm_is_the_same_request_from_another_side():
    saved, again = [], threading.Event()

    def work(stop: Callable[[], bool]) -> None:
        while not stop():
            time.sleep(0.01)
        assert again.wait(60)
        time.sleep(0.2)  # it is heard
        saved.append(True)

    once_it_waits(signal.SIGTERM)
    with pytest.raises(Interrupted), terminable():
        stoppable(work, on_stop=lambda: once_it_waits(signal.SIGTERM, again.set))
    assert saved == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_once_all_is_saved_the_next_interruption_ends_the_process_whatever_it_waits_for(number: int):
    done = ended(
        "import threading",
        "from flows.stopping import stoppable, terminable",
        f"again = threading.Timer(0.5, os.kill, (os.getpid(), {int(number)}))",
        "def work(stop):",
        f"    threading.Timer(0.5, os.kill, (os.getpid(), {int(number)})).start()",
        "    while not stop(): time.sleep(0.01)",
        "    print('saved', flush=True)",
        "with terminable():",
        "    try: stoppable(work, on_stop=lambda: None)",
        "    except BaseException:",
        "        again.start()",
        "        while True:  # as with a server that has gone: every interruption is told to it",
        "            try: time.sleep(200)",
        "            except BaseException: pass",
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "saved\n", "")


def test_work_sees_the_context_of_its_caller():
    from contextvars import ContextVar

    word: ContextVar[str] = ContextVar("word")
    word.set("here")
    assert stoppable(lambda _: word.get(), on_stop=ignore) == "here"


def test_the_sentence_says_how_to_go_on_and_the_status_which_signal_it_was():
    with pytest.raises(Interrupted) as end, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert end.value.status == 143
    told = Interrupted(signal.SIGINT, "20261121-digits-abcdef")
    assert told.status == 130
    assert str(told) == (
        "interrupted; the same command goes on where it stopped; "
        "so does `trainserve run --resume 20261121-digits-abcdef`"
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.flow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_an_interruption_of_the_start_ends_in_a_sentence_and_takes_the_server_along(
    number: signal.Signals, pictures: Path, tmp_path: Path
):
    process = Command(tmp_path, environment(tmp_path)).start("run", "--dataset.source", pictures)
    log = tmp_path / "trainserve/logs/prefect-server.log"
    wait_for(lambda: log.exists() or process.poll() is not None, timeout_s=120, every_s=0.02)
    server = children(process.pid)
    process.send_signal(number)
    out, said = process.communicate(timeout=180)
    assert process.returncode == 128 + number
    assert said.strip().splitlines()[-1] == "trainserve: interrupted; the same command goes on where it stopped"
    assert "Traceback" not in said
    assert out == ""
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in server), timeout_s=60)
    assert not list((tmp_path / "trainserve").glob("runs/*"))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(*lines: str) -> subprocess.CompletedProcess[str]:
    code = "\n".join(["import atexit, os, signal, sys, time", "from flows.stopping import soon_over", *lines])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_a_command_that_is_over_runs_its_exit_functions_and_is_not_taken_apart():
    done = ended(
        "class Slow:",
        "    def __del__(self): print('taken apart')",
        "with soon_over():",
        "    kept = Slow()",
        "    atexit.register(print, 'last words')",
        "    sys.exit(3)",
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "last words\n", "")


def test_ctrl_c_while_a_command_ends_ends_it_at_once():
    done = ended(
        "with soon_over():",
        "    atexit.register(time.sleep, 200)",
        "    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))",
        "    sys.exit(130)",
    )
    assert (done.returncode, done.stderr) == (130, "")
