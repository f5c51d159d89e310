"""Requests by wrk, and the processor time that whatever answers them takes meanwhile.

wrk: https://github.com/wg/wrk, `apt-get install wrk`. Its own processor time is not counted against the service. What
was refused is no answer: it counts as failed, and not in the rate.
"""

import base64
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

BOUNDARY = "----trainserve-benchmark"
LOOK_S = 0.3  # seconds over which a service's processor time is looked at
PATIENCE_S = 60  # wrk's own two seconds are what 64 clients of a slow model wait for
# Pauses of random length, the same ones in every run: with equal ones all clients that once were answered together, as
# those of one batch are, would ask together ever after.
PAUSES = "function delay() return math.floor(0.5 - {mean_ms} * math.log(1 - math.random())) end"
SCRIPT = """
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
wrk.method = "POST"
wrk.headers["Content-Type"] = "{media_type}"
{delay}
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.timeout, summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""

Figures = dict[str, float]


@dataclass(frozen=True)
class Body:
    """What is posted."""

    file: Path
    media_type: str


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk, the load generator, is missing; `apt-get install wrk` brings it")


def bodies(picture: Path, folder: Path, *, field: str = "image") -> dict[str, Body]:
    """The same JPEG three ways: by itself, in a form, in base64."""
    data = picture.read_bytes()
    form = folder / f"{picture.stem}-{field}.form"
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n'
    part = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + data
    form.write_bytes(part + f"\r\n--{BOUNDARY}--\r\n".encode())
    text = folder / f"{picture.stem}.json"
    text.write_bytes(b'{"image": "' + base64.b64encode(data) + b'"}')
    return {
        "raw": Body(picture.resolve(), "image/jpeg"),
        "multipart": Body(form, f"multipart/form-data; boundary={BOUNDARY}"),
        "json": Body(text, "application/json"),
    }


def asked(url: str, body: Body, *, clients: int, seconds: float, per_s: float | None = None) -> Figures:
    """By so many clients, each at once again; or, with pauses, nearly at this rate of all together. A pause begins with
    an answer, so the rate is a little less, by what an answer takes of a pause: little where clients are many."""
    delay = "" if per_s is None else PAUSES.format(mean_ms=1000 * clients / per_s)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(body=body.file, media_type=body.media_type, delay=delay))
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", f"{PATIENCE_S}s", "--latency"]
        text = subprocess.run([*command, "-s", script.name, url], capture_output=True, text=True, check=True).stdout
    return told(text)


def told(text: str) -> Figures:
    """What wrk printed -> figures."""
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    if not found:
        raise SystemExit(f"wrk printed no result: {text}")
    responses, micros, p50, p99, status, timeouts, broken = map(int, found.groups())
    answered = responses - status
    return {
        "requests": answered,
        "requests_per_s": answered / (micros / 1e6),
        "p50_ms": p50 / 1000,
        "p99_ms": p99 / 1000,
        "failed": status + timeouts + broken,
    }


def cpu_of(pid: int) -> float:
    """Processor seconds of a process and all below it, the ended ones that were waited for with them."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def wait_until_idle(pid: int, *, patience_s: float = 10) -> bool:
    """Until it takes less than a tenth of a processor; False for one that still computes after `patience_s`."""
    until = time.monotonic() + patience_s
    before = cpu_of(pid)
    while time.monotonic() < until:
        time.sleep(LOOK_S)
        now = cpu_of(pid)
        if now - before < 0.1 * LOOK_S:
            return True
        before = now
    return False


def memory_of(pid: int) -> int:
    """Bytes held by a process and all below it, shared pages counted once for each."""
    root = psutil.Process(pid)
    return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])
