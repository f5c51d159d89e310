"""What `trainserve deploy` does once the deployments are registered: a worker kept alive, and things looked after.

Ctrl-C takes no further run and waits for the one under way; once more has it save its step and stop. SIGTERM, as at the
end of a machine, puts it off: it saves its step, and goes on by itself when this runs again.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from data.errors import InputError
from flows import resuming
from flows.api import Away, why
from flows.deploy.definitions import ROOT, worker_name
from flows.health.rounds import Rounds, say
from models.claims import claim

LOOK_EVERY_S = 30.0
POLL_S = "2"  # between the worker's questions for runs: half of it is what a run by hand waits
PAUSES_S = (1.0, 5.0, 10.0, 20.0, 40.0, 60.0)  # before a worker that ended is started again
SIGNAL_S = 0.2  # until a signal is acted on
SAME_S = 5.0  # the end of a session or of a machine sends SIGTERM, SIGHUP, or both, and some of them twice
STEADY_S = 300.0  # a worker that lasted as long begins with the first pause again

FINISH, STOP, LEAVE = 1, 2, 3

Step = Callable[[], object]


def steps(home: Path) -> tuple[Step, ...]:
    """What is looked after at the start and every `LOOK_EVERY_S`, in this order. A line for each."""
    rounds = Rounds(home)
    return rounds.the_look_for_dead_runs, rounds.the_look_for_missed_runs, rounds.the_look_for_idle_places


def keep(home: Path, *, looked_after: Sequence[Step]) -> None:
    """Until a signal ends it."""
    log_file(home).parent.mkdir(parents=True, exist_ok=True)
    log_file(home).write_text("")
    ending, began = Ending(), time.time()
    with ending.heard(), looking(looked_after, _look_every_s()):
        _keep_worker(home, ending)
    tell_unfinished(began)


class Ending:
    """How far the signals want it: 0 go on, then `FINISH`, `STOP` and `LEAVE`."""

    def __init__(self) -> None:
        self.level = 0
        self.by_person = True  # who does not want what is stopped to begin again by itself
        self._told_at = float("-inf")  # by something else than a person

    @property
    def word(self) -> str:
        """For the worker."""
        if self.level == FINISH:
            return "finish"
        return "stop" if self.by_person else "put off"

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal handlers are called
        self.by_person = number == signal.SIGINT
        if not self.by_person:
            before, self._told_at = self._told_at, time.monotonic()
            if self._told_at - before < SAME_S:
                return
        self.level = max(self.level + 1, FINISH if self.by_person else STOP)
        if self.level >= LEAVE:
            os._exit(128 + number)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """SIGINT and SIGTERM come here, and the end of the terminal, unless it is to be outlived (nohup)."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float) -> None:
        """At most so long; less if a signal comes."""
        level, until = self.level, time.monotonic() + seconds
        while self.level == level and time.monotonic() < until:
            time.sleep(min(SIGNAL_S, seconds))


def _keep_worker(home: Path, ending: Ending) -> None:
    failures = 0
    while not ending.level:
        began = time.monotonic()
        with started_worker(home) as worker:
            _accompany(worker, ending)
        if ending.level:
            return
        failures = 1 if time.monotonic() - began > STEADY_S else failures + 1
        pause = PAUSES_S[min(failures, len(PAUSES_S)) - 1]
        _say(f"the worker ended with status {worker.returncode} (see {log_file(home)}); another one in {pause:.0f} s")
        ending.wait(pause)


@contextmanager
def started_worker(home: Path) -> Iterator["subprocess.Popen[str]"]:
    """In a session of its own: Ctrl-C at the terminal is for this process alone."""
    env = {"PREFECT_WORKER_QUERY_SECONDS": POLL_S, **os.environ}
    with log_file(home).open("a") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "flows.deploy.worker", worker_name(home)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        with suppress(OSError):
            assert worker.stdin is not None
            worker.stdin.close()  # it leaves, if it has not
        worker.wait()


def _accompany(worker: "subprocess.Popen[str]", ending: Ending) -> None:
    """Until the worker ends. Passes on what the signals want."""
    assert worker.stdin is not None
    told, told_at, said = 0, 0.0, False
    while worker.poll() is None:
        if ending.level > told:
            told, told_at = ending.level, time.monotonic()
            with suppress(OSError):
                worker.stdin.write(f"{ending.word}\n")
                worker.stdin.flush()
        if told == FINISH and not said and time.monotonic() - told_at > 2:
            said = True
            _say("no further run is started; the one under way is waited for, and Ctrl-C again has it save and stop")
        ending.wait(SIGNAL_S)


@contextmanager
def looking(looked_after: Sequence[Step], every_s: float) -> Iterator[None]:
    """The steps, one after the other, again and again, in a thread; what one of them raises is said and no more."""
    over = threading.Event()

    def look() -> None:
        last: dict[Step, str] = {}
        while not over.is_set():
            for step in looked_after:
                failed = _guarded(step)
                if failed and last.get(step) != failed:
                    _say(failed)
                last[step] = failed
            over.wait(every_s)

    thread = threading.Thread(target=look, name="looking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def _guarded(step: Step) -> str:
    """What went wrong, in one line; "" where nothing did."""
    name = getattr(step, "__name__", "a look").replace("_", " ")
    try:
        step()
    except Away as error:  # the next look is soon
        return f"{name} did not get through to the Prefect server: {why(error)}"
    except Exception as error:  # noqa: BLE001 - nor does any other end those that follow
        return f"{name} did not get through: {type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def tell_unfinished(began: float) -> None:
    """What is left of the runs since then, and how to go on."""
    for folder in resuming.left_since(began):
        _say(
            f"run {folder.run_id} is unfinished; `trainserve run --resume {folder.run_id}` goes on with it, "
            "and so does the next run of this deployment"
        )


def log_file(home: Path) -> Path:
    """Of the worker."""
    return home / "logs" / "worker.log"


def only_one(home: Path) -> None:
    """Two would be one worker to the server, and take each other's runs for their own. Raises `InputError`."""
    folder = home / "deploy"
    folder.mkdir(parents=True, exist_ok=True)
    if not claim(folder):
        raise InputError(
            f"another `trainserve deploy` works in {home} already; end that one first, or set TRAINSERVE_HOME"
        )


def _look_every_s() -> float:
    return float(os.environ.get("TRAINSERVE_LOOK_SECONDS") or LOOK_EVERY_S)


def _say(sentence: str) -> None:
    say([sentence])
