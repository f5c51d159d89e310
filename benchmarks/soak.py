"""An hour under a steady load: what each process of the service holds, from the first minutes to the last.

    python -m benchmarks.soak [--minutes 60] [--per-second 50] [--workers N] [--bundle BUNDLE] [--warm-up 5]

`trainserve serve` on a store of one model, by default `tests/golden/bundle-v1`, with pictures kept for feedback.
Requests are sent when they are due, by this process: mostly one picture (raw, as a form, in JSON), some by /v2, some
with several, now and then an explanation, feedback, the card, the figures, and what is refused: no picture, no JSON, a
wrong type, no such model. Every tenth comes with a connection of its own, so that all workers get some.

Each ten seconds the resident memory of the supervisor and of every worker is taken. The first sample after the warm-up
is what growth is counted from; the goal is less than 50 MB in an hour. A request fails that has no answer, or one that
its kind should not have.

The figures go to benchmarks/results/soak.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from benchmarks import machine, serving
from benchmarks.cold_start import GOLDEN

RESULTS = Path(__file__).parent / "results"
EVERY_S = 10.0
GOAL_MB = 50.0


class Kind(NamedTuple):
    """Of a request."""

    path: str
    answer: int  # its status
    times: int  # in a thousand
    asked: dict[str, Any]  # httpx's arguments; without any it is a GET


def kinds(bundle: Path) -> dict[str, Kind]:
    card = json.loads((bundle / "card.json").read_text())
    file = sorted((bundle / "golden").glob("*.png"))[0].read_bytes()
    text = base64.b64encode(file).decode()
    png = {"Content-Type": "image/png"}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    opinion = {"request_id": "soak", "label": card["classes"][0]}
    return {
        "raw": Kind("/predict", 200, 400, {"content": file, "headers": png}),
        "form": Kind("/predict", 200, 200, {"files": {"image": ("a.png", file, "image/png")}}),
        "json": Kind("/predict", 200, 200, {"json": {"image": text}}),
        "batch": Kind("/predict_batch", 200, 20, {"files": [("images", ("a.png", file, "image/png"))] * 8}),
        "v2": Kind(f"/v2/models/{card['name']}/infer", 200, 100, {"json": {"inputs": [tensor]}}),
        "explain": Kind("/explain", 200, 2, {"content": file, "headers": png}),
        "feedback": Kind("/feedback", 200, 8, {"json": opinion}),
        "card": Kind("/model", 200, 10, {}),
        "figures": Kind("/metrics", 200, 10, {}),
        "no picture": Kind("/predict", 400, 20, {"content": b"\x89PNG" + file[:200], "headers": png}),
        "no JSON": Kind(
            "/predict", 400, 10, {"content": b'{"image":', "headers": {"Content-Type": "application/json"}}
        ),
        "wrong type": Kind("/predict", 415, 10, {"content": file, "headers": {"Content-Type": "video/mp4"}}),
        "no such model": Kind("/predict?model=nobody", 404, 10, {"content": file, "headers": png}),
    }


def order(kinds: dict[str, Kind]) -> list[str]:
    """A thousand requests in which each kind is spread evenly."""
    due = [((index + 0.5) / kind.times, name) for name, kind in kinds.items() for index in range(kind.times)]
    return [name for _, name in sorted(due)]


class Sender:
    """Sends each request when it is due, whatever became of those before it."""

    def __init__(self, url: str, kinds: dict[str, Kind]) -> None:
        self._url, self._kinds, self._order = url, kinds, order(kinds)
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()  # by kind and what came instead
        self.took_s: list[float] = []  # of those of one picture, since they were due
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float, per_second: float) -> None:
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=16)
        async with httpx.AsyncClient(base_url=self._url, timeout=60, limits=limits, trust_env=False) as client:
            begun = time.monotonic()
            for number in range(int(seconds * per_second)):
                due = begun + number / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._one(client, number, due))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            await asyncio.gather(*self._under_way)

    async def _one(self, client: httpx.AsyncClient, number: int, due: float) -> None:
        name = self._order[number % len(self._order)]
        kind = self._kinds[name]
        asked = dict(kind.asked)
        if number % 10 == 0:
            asked["headers"] = {**asked.get("headers", {}), "Connection": "close"}
        self.sent[name] += 1
        try:
            response = await client.request("POST" if kind.asked else "GET", kind.path, **asked)
        except httpx.TransportError as error:
            self.failed[f"{name}: {type(error).__name__}"] += 1
            return
        if response.status_code != kind.answer:
            self.failed[f"{name}: {response.status_code}"] += 1
        elif kind.path == "/predict":
            self.took_s.append(time.monotonic() - due)


class Watch:
    """Resident memory of the service's processes."""

    def __init__(self, pid: int) -> None:
        self._supervisor = psutil.Process(pid)
        self.samples: list[dict[str, Any]] = []

    async def run(self) -> None:
        begun = time.monotonic()
        while True:
            with suppress(psutil.NoSuchProcess):  # a worker that has just ended
                workers = {str(one.pid): one.memory_info().rss for one in self._supervisor.children()}
                own = self._supervisor.memory_info().rss
                self.samples.append({"at_s": time.monotonic() - begun, "supervisor": own, "workers": workers})
            await asyncio.sleep(EVERY_S - (time.monotonic() - begun) % EVERY_S)

    def proportional(self) -> list[float]:
        """MB of each worker, pages that it shares with others divided among them."""
        return [one.memory_full_info().pss / 1e6 for one in self._supervisor.children()]


def growth(samples: list[dict[str, Any]], warm_up_s: float) -> dict[str, dict[str, float]]:
    """MB of each process that lived from the warm-up to the end."""
    warm = [one for one in samples if one["at_s"] >= warm_up_s] or samples[-1:]
    held = {"supervisor": [one["supervisor"] / 1e6 for one in warm]}
    lasting = set(warm[0]["workers"]).intersection(*(one["workers"] for one in warm))
    for number, pid in enumerate(sorted(lasting, key=int), start=1):
        held[f"worker {number}"] = [one["workers"][pid] / 1e6 for one in warm]
    return {
        name: {"first": told[0], "last": told[-1], "largest": max(told), "growth": told[-1] - told[0]}
        for name, told in held.items()
    }


async def soaked(url: str, pid: int, bundle: Path, options: argparse.Namespace) -> dict[str, Any]:
    sender, watch = Sender(url, kinds(bundle)), Watch(pid)
    watching = asyncio.create_task(watch.run())
    await sender.run(60 * options.minutes, options.per_second)
    proportional = watch.proportional()
    watching.cancel()
    cuts = statistics.quantiles([1000 * took_s for took_s in sender.took_s], n=100)
    pids = {pid for one in watch.samples for pid in one["workers"]}
    return {
        "minutes": options.minutes,
        "beside": options.beside,
        "per_second": options.per_second,
        "warm_up_min": options.warm_up,
        "workers": len(watch.samples[-1]["workers"]),
        "ended_workers": len(pids) - len(watch.samples[-1]["workers"]),
        "sent": dict(sender.sent),
        "failed": dict(sender.failed),
        "p50_ms": cuts[49],
        "p99_ms": cuts[98],
        "goal_growth_mb": GOAL_MB,
        "memory_mb": growth(watch.samples, 60 * options.warm_up),
        "worker_proportional_mb": proportional,
        "samples": watch.samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--per-second", type=float, default=50)
    parser.add_argument("--warm-up", type=float, default=5, help="minutes")
    parser.add_argument("--workers", type=int, help="by default as many as the service chooses")
    parser.add_argument("--bundle", type=Path, default=GOLDEN)
    parser.add_argument("--beside", default="", help="what else the machine did meanwhile, told with the figures")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        os.environ |= {"TRAINSERVE_HOME": name, "BENTOML_HOME": f"{name}/bentoml", "TRAINSERVE_KEEP_PICTURES": "true"}
        from serving import store  # after the home folders are set

        store.promote(store.save(bundle), reason="soak")
        chosen = ("--workers", str(options.workers)) if options.workers else ()
        service = serving.Contender((serving.TRAINSERVE, "serve", "--port", "PORT", *chosen), ())
        with serving.running(service, bundle, Path(name) / "service.log") as (url, pid):
            figures = asyncio.run(soaked(url.removesuffix("/predict"), pid, bundle, options))
    card = json.loads((bundle / "card.json").read_text())
    figures |= {
        "command": machine.command("soak"),
        "model": f"{card['kind']}, {card['parameters']:,} parameters",
        "machine": machine.describe(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({key: value for key, value in figures.items() if key != "samples"}, indent=1))
    if figures["failed"]:
        print("some requests failed", file=sys.stderr)


if __name__ == "__main__":
    main()
