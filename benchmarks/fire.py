"""The service under fire, with its figures: swaps under load, saturation, a worker killed, bodies without end.

    python -m benchmarks.fire [--seconds 20]

The scenes are those of tests/serving/test_fire*.py, on the toy model whose right answers are known: its time is nearly
nothing, so what is measured is the service. The sender competes with it for the same cores.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "serving"))  # the scenes' models and senders; the tests are no package

import candidates  # noqa: E402
import mutations  # noqa: E402
import toy  # noqa: E402
from candidates import GREY  # noqa: E402
from conftest import Running, home_is, running  # noqa: E402
from load import Answer, Load  # noqa: E402

from serving import store  # noqa: E402

RESULTS = Path(__file__).parent / "results"
MIB = 1024 * 1024
LARGE = toy.picture(200, size=(1500, 1500))


@contextmanager
def serving(**settings: str) -> Iterator[tuple[Running, Path]]:
    """A service with toy@g0 in it, and a folder beside it."""
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        folder = Path(name)
        with home_is(folder / "bentoml"):
            store.promote(candidates.good(folder, 0), reason="first")
            with running(folder / "bentoml", **settings) as service:
                service.wait("/readyz")
                yield service, folder


def milliseconds(answers: list[Answer]) -> dict[str, float]:
    """Since each was due."""
    cuts = statistics.quantiles([1000 * answer.took_s for answer in answers], n=100, method="inclusive")
    return {"n": len(answers), "p50_ms": cuts[49], "p99_ms": cuts[98]}


def resident(service: Running) -> float:
    """MiB of the workers."""
    return service.memory / MIB


def swaps(rate: float, seconds: float) -> dict[str, Any]:
    with serving() as (service, folder):
        good = [candidates.good(folder, number) for number in range(1, 21)]
        bad = [candidates.bad(folder, number) for number in range(5)]
        with Load(service.port, GREY, rate=rate) as quiet:
            quiet.wait_for(int(rate * seconds))
        before = resident(service)
        with Load(service.port, GREY, rate=rate) as load:
            load.wait_for(10)
            for number, ref in enumerate(good):
                store.promote(ref, reason="")
                load.wait(lambda ref=ref: load.answers[-1].model == str(ref))
                if number % 4 == 3:
                    store.promote(bad[number // 4], reason="")
                    load.wait_for(int(rate))
        answered = [answer for answer in load.answers if answer.status == 200]
        return {
            "rate": rate,
            "swaps": len({answer.model for answer in answered}) - 1,
            "bad": len(bad),
            "failed": len(load.answers) - len(answered),
            "wrong": sum(not candidates.is_right(answer.json) for answer in answered),
            "without": milliseconds(quiet.answers),
            "during": milliseconds(load.answers),
            "before_mib": before,
            "after_mib": resident(service),
        }


def saturation(seconds: float) -> dict[str, Any]:
    with serving(decoders="1", max_queue="4", max_pictures="4") as (service, _):
        with Load(service.port, LARGE, rate=1000, senders=2) as alone:
            alone.wait_for(10)
            begin, num_before = time.monotonic(), len(alone.answers)
            alone.wait_for(50)
            capacity = (len(alone.answers) - num_before) / (time.monotonic() - begin)
        with Load(service.port, LARGE, rate=capacity * 0.5, senders=8) as half:
            half.wait_for(max(20, int(capacity * seconds / 2)))
        with Load(service.port, LARGE, rate=capacity * 10, senders=64) as load:
            load.wait_for(max(100, int(capacity * 10 * seconds)))
        with Load(service.port, GREY, rate=20) as after:
            after.wait_for(20)
        refused = [answer for answer in load.answers if answer.status == 429]
        accepted = [answer for answer in load.answers if answer.status == 200]
        return {
            "capacity_per_s": capacity,
            "queue": 4,
            "half": milliseconds(half.answers),
            "accepted": milliseconds(accepted),
            "refused": milliseconds(refused),
            "refused_within_50_ms": sum(answer.took_s < 0.05 for answer in refused) / len(refused),
            "other": len(load.answers) - len(refused) - len(accepted),
            "refused_afterwards": sum(answer.status != 200 for answer in after.answers),
            "first_afterwards_ms": 1000 * after.answers[0].took_s,
        }


def killed(rate: float) -> dict[str, Any]:
    with serving(workers="2") as (service, _), Load(service.port, GREY, rate=rate, keep=False) as load:
        load.wait(lambda: 'trainserve_ready{name="toy"} 2.0' in service.get("/metrics").text)
        supervisor = psutil.Process(service.process.pid)
        begin, victim = time.monotonic(), supervisor.children()[0]
        victim.kill()
        load.wait(lambda: victim.pid not in [one.pid for one in supervisor.children()])
        load.wait(lambda: len(supervisor.children()) == 2)
        load.wait(lambda: 'trainserve_ready{name="toy"} 2.0' in service.get("/metrics").text)
        back_s = time.monotonic() - begin
        load.wait_for(20)
        answers = [answer for answer in load.answers if answer.sent > begin - 1]
        failed = [answer for answer in answers if answer.status != 200]
        return {"rate": rate, "requests": len(answers), "failed": len(failed), "back_s": back_s}


def mutated(count: int) -> dict[str, Any]:
    """Bodies, media types and queries; one sender."""
    import httpx

    posts = mutations.valid()
    with serving() as (service, _), httpx.Client(base_url=service.url, timeout=60) as client:
        statuses: dict[str, int] = {}
        before = 0.0
        for number in range(count):
            post = mutations.mutant(number, posts)
            media_type = post.media_type.encode("latin-1")
            answer = client.post(post.path, content=post.body, headers={b"Content-Type": media_type})
            statuses[str(answer.status_code)] = statuses.get(str(answer.status_code), 0) + 1
            if number == count // 3:
                before = resident(service)
        return {"requests": count, "statuses": statuses, "before_mib": before, "after_mib": resident(service)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--mutations", type=int, default=10_000)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures = {
        "command": machine.command("fire"),
        "swaps": swaps(100, options.seconds),
        "saturation": saturation(options.seconds),
        "killed": killed(50),
        "mutated": mutated(options.mutations),
        "machine": machine.describe(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fire.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
