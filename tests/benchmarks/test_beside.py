"""Processor time of other threads is told apart from that of the one which is looked at, and of the one that looks."""

import threading
import time

from benchmarks.beside import Beside


def computing(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_neither_the_thread_itself_nor_the_one_that_looks_counts_and_the_others_do():
    begun, over = threading.Event(), threading.Event()

    def compute() -> None:
        computing(0.3)
        begun.set()
        over.wait()

    looked_at = threading.Thread(target=compute, name="looked at")
    another = threading.Thread(target=computing, args=(0.2,))
    beside = Beside()
    looked_at.start()
    beside.look("looked at")
    another.start()
    begun.wait()
    another.join()
    computing(0.2)
    beside.look("looked at")
    over.set()
    looked_at.join()
    assert 0.15 < beside.cpu_s < 0.3  # 0.7 with both
    assert beside.seconds > 0


def test_without_such_a_thread_there_is_nothing():
    beside = Beside()
    beside.look("nobody")
    assert (beside.seconds, beside.cpu_s) == (0, 0)
