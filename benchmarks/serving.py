"""Requests per second and latency of the running service, beside the same bundle called in a plain loop.

    python -m benchmarks.serving --data ../shared/data [--seconds 10]

Trains the default CNN on CIFAR-10 for a minute (its accuracy does not matter here), starts `trainserve serve`, and
asks it about one 32 x 32 JPEG.

The load generator is wrk (`apt-get install wrk`), one raw-body POST /predict a request, at 1, 8 and 64
clients. The plain loop decodes the same file and runs the same ONNX graph in this process, one thread,
one picture at a time: what a user would get without any service. On a machine with few cores the load
generator competes with the service, so the share of the plain loop is a lower bound.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from benchmarks import machine

if TYPE_CHECKING:
    from models.bundle.bundle import Bundle

RESULTS = Path(__file__).parent / "results"
TRAINSERVE = str(Path(sys.executable).with_name("trainserve"))  # of this environment
CLIENTS = (1, 8, 64)
SCRIPT = """
local file = io.open("{image}", "rb")
wrk.body = file:read("*a")
wrk.method = "POST"
wrk.headers["Content-Type"] = "image/{kind}"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.timeout, summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


def load(url: str, image: Path, clients: int, seconds: int) -> dict[str, float]:
    kind = {"jpg": "jpeg"}.get(image.suffix.lstrip(".").lower(), image.suffix.lstrip(".").lower())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(image=image.resolve(), kind=kind))
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "-s", script.name, f"{url}/predict"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    if not found:
        raise SystemExit(f"wrk printed no result: {text}")
    requests, micros, p50, p99, status, timeouts, broken = map(int, found.groups())
    return {
        "clients": clients,
        "requests_per_s": requests / (micros / 1e6),
        "p50_ms": p50 / 1000,
        "p99_ms": p99 / 1000,
        "not_2xx": status,
        "timeouts": timeouts,
        "broken": broken,
    }


def plain_loop(bundle: "Bundle", data: bytes, seconds: float) -> dict[str, float]:
    """Decode and classify, one after the other, in this process."""
    for _ in range(20):
        bundle.classify(data)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        bundle.classify(data)
        times.append(time.perf_counter() - start)
    cuts = statistics.quantiles(times, n=100)
    return {"requests_per_s": len(times) / sum(times), "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """A model, promoted and served; the service's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [TRAINSERVE, "run", "--dataset.source", str(data / "cifar10.tar.gz"), "--train.max_minutes", "1"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    service = subprocess.Popen([TRAINSERVE, "serve", "--port", str(port)], start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz").is_success:
                    break
            time.sleep(0.2)
        yield url
    finally:
        service.terminate()
        service.wait(30)


def main() -> None:
    if shutil.which("wrk") is None:  # before anything is trained
        raise SystemExit("wrk, the load generator, is missing; `apt-get install wrk` brings it")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.gz")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        home = Path(folder)
        os.environ |= {
            "TRAINSERVE_HOME": folder,
            "BENTOML_HOME": f"{folder}/bentoml",
            "PREFECT_HOME": f"{folder}/prefect",
        }
        from models.bundle.bundle import Bundle  # after the home folders are set
        from serving import store

        with serving(options.data.resolve()) as url:
            name, version = httpx.get(f"{url}/model").json()["model"].split("@")
            bundle = Bundle.open(store.path(store.ModelRef(name=name, version=version)))
            image = next((home / "datasets").glob("*/test/*/*.jpg"))
            figures = {
                "command": f"python -m benchmarks.serving --data ../shared/data --seconds {options.seconds}",
                "model": f"{name}, {bundle.card.kind}, {bundle.card.parameters:,} parameters, "
                f"{bundle.card.image.height} x {bundle.card.image.width}",
                "picture_bytes": image.stat().st_size,
                "plain": plain_loop(bundle, image.read_bytes(), options.seconds / 2),
                "service": [load(url, image, clients, options.seconds) for clients in CLIENTS],
                "runs": 1,
                "machine": machine.describe(),
            }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"serving-{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
