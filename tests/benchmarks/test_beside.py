"""Processor time of other threads is told apart from that of the one which is looked at."""

import threading
import time

from benchmarks.beside import Beside


def test_the_thread_itself_does_not_count_and_the_others_do():
    begun, over = threading.Event(), threading.Event()

    def compute() -> None:
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass
        begun.set()
        over.wait()

    thread = threading.Thread(target=compute, name="looked at")
    beside = Beside()
    thread.start()
    beside.look("looked at")
    begun.wait()
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    beside.look("looked at")
    over.set()
    thread.join()
    assert 0.15 < beside.cpu_s < 0.4  # 0.5 with it
    assert beside.seconds > 0


def test_without_such_a_thread_there_is_nothing():
    beside = Beside()
    beside.look("nobody")
    assert (beside.seconds, beside.cpu_s) == (0, 0)
