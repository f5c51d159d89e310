"""The running service, beside a plain loop over the same bundle and beside other services of it.

    python -m benchmarks.serving --data ../shared/data [--case cifar10 flowers] [--seconds 8] [--repeats 3]
                                 [--peers-env ~/peers] [--clients 1 8 64]

cifar10: the default CNN on a 32 x 32 JPEG; flowers: a ResNet-18 at 224 on a photo. Each is trained for a minute, whose
accuracy does not matter here. The plain loop decodes the file and runs the graph, one picture at a time in one thread:
what a user would get without any service. Ours is `trainserve serve`, asked by a raw body, a form and JSON, and again
as it starts by default, with a worker for each core. The others (benchmarks/services/) are FastAPI with uvicorn,
LitServe, and BentoML as its documents show it. All have the same bundle, one worker and one thread of onnxruntime; all
have the same decoder but BentoML, which hands pictures over as Pillow made them.

Told are requests per processor second of the service with all its processes; the load generator's own (wrk) do not
count. On a machine with few cores it still competes with the service for them, so the latencies are upper bounds. In
each repetition every contender is started anew, another one first; ratios to the plain loop are taken within a
repetition. Half of saturation is half of the most that this contender answered, asked for by 64 clients that pause.

The figures go to benchmarks/results/serving-<case>.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from benchmarks import load, machine
from benchmarks.spread import spread

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TRAINSERVE = str(Path(sys.executable).with_name("trainserve"))  # of this environment
LITSERVE = "0.2.19"
WARM_S = 2.0
START_S = 120.0


class Case(NamedTuple):
    archive: str
    settings: tuple[str, ...]


CASES = {
    "cifar10": Case("cifar10.tar.gz", ()),
    "flowers": Case("flowers.tar.gz", ("--model.kind", "resnet", "--dataset.size", "224")),
}


class Contender(NamedTuple):
    command: Sequence[str]  # PORT and BUNDLE are replaced
    asked: tuple[str, ...]  # the bodies it takes
    field: str = "image"


def contenders(peers: str | None) -> dict[str, Contender]:
    """`peers`: the interpreter that has LitServe, and with it the uvloop and httptools of `fastapi[standard]`."""
    module = (sys.executable, "-m")
    fastapi = (peers or sys.executable, "-m", "benchmarks.services.plain_fastapi", "BUNDLE", "PORT")
    found = {
        "trainserve": Contender(
            (TRAINSERVE, "serve", "--port", "PORT", "--workers", "1"), ("raw", "multipart", "json")
        ),
        "trainserve, defaults": Contender((TRAINSERVE, "serve", "--port", "PORT"), ("raw",)),
        "FastAPI": Contender(fastapi, ("raw", "multipart")),
        "BentoML, documented": Contender(
            (*module, "bentoml", "serve", "-q", "benchmarks.services.bentoml_documented:Documented", "--port", "PORT"),
            ("multipart",),
            "images",
        ),
    }
    if peers is not None:
        command = (peers, "-m", "benchmarks.services.litserve_batched", "BUNDLE", "PORT")
        found["LitServe"] = Contender(command, ("multipart",))
    return found


def litserve_in(folder: Path) -> str:
    """The interpreter of an environment of its own, with what we have of the same versions: the decoder, too."""
    python = folder / "litserve" / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    ours = ("onnxruntime", "numpy", "pillow", "simplejpeg", "pydantic", "httpx", "psutil", "fastapi", "uvicorn")
    same = [f"{name}=={machine.version(name)}" for name in ours if machine.version(name)]
    if not python.exists():
        subprocess.run([*uv, "venv", "--python", sys.executable, str(folder / "litserve")], check=True)
    wanted = [f"litserve=={LITSERVE}", "python-multipart", *same]
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *wanted], check=True)
    return str(python)


def trained(case: Case, data: Path) -> str:
    """A model in the store of this process's environment: `name@version`."""
    command = [TRAINSERVE, "run", "--dataset.source", str(data / case.archive), "--train.max_minutes", "1", "--json"]
    done = subprocess.run([*command, *case.settings], check=True, stdout=subprocess.PIPE)
    told: dict[str, Any] = json.loads(done.stdout)
    subprocess.run([TRAINSERVE, "models", "promote", told["model"]], check=True, stdout=sys.stderr)
    return str(told["model"])


@contextmanager
def running(contender: Contender, bundle: Path, log: Path) -> Iterator[tuple[str, int]]:
    """The address it answers at, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = {"PORT": str(port), "BUNDLE": str(bundle)}
    command = [words.get(word, word) for word in contender.command]
    same = {"OMP_NUM_THREADS": "1", "TRAINSERVE_THREADS": "1"}
    env = os.environ | same | {"BUNDLE": str(bundle), "PYTHONPATH": str(ROOT)}
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out)
    try:
        until = time.monotonic() + START_S
        while not _answers(port):
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/predict", process.pid
    finally:
        ended(process)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """With all below it: what outlives its parent, as LitServe's workers do, would compute beside the next one."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    process.wait(30)
    for one in below:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _answers(port: int) -> bool:
    """Whatever it says to a path that it may not have."""
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code != httpx.codes.SERVICE_UNAVAILABLE
    return False


def measured(contender: Contender, bundle: Path, picture: Path, folder: Path, options: Any) -> list[load.Figures]:
    bodies = load.bodies(picture, folder, field=contender.field)
    told = []
    with running(contender, bundle, folder / "service.log") as (url, pid):
        for kind in contender.asked:
            load.asked(url, bodies[kind], clients=8, seconds=WARM_S)
            best = 0.0
            for clients in options.clients:
                told.append(_one(url, pid, bodies[kind], kind, clients=clients, seconds=options.seconds))
                best = max(best, told[-1]["requests_per_s"])
            told.append(_one(url, pid, bodies[kind], kind, clients=64, seconds=options.seconds, per_s=best / 2))
    return told


def _one(url: str, pid: int, body: load.Body, kind: str, **how: Any) -> Any:
    if not load.wait_until_idle(pid):  # the last one's clients left while the service still worked for them
        print("the service never rests; what it does meanwhile counts as used", file=sys.stderr, flush=True)
    used = load.cpu_of(pid)
    figures = load.asked(url, body, **how)
    used = load.cpu_of(pid) - used
    rest = {"requests_per_cpu_s": figures["requests"] / used, "memory_mb": load.memory_of(pid) / 1e6}
    at = "half of saturation" if "per_s" in how else str(how["clients"])
    return {"body": kind, "clients": at, **figures, **rest}


def plain_loop(bundle: Path, picture: Path, seconds: float) -> load.Figures:
    command = [sys.executable, "-m", "benchmarks.services.plain_loop", str(bundle), str(picture), str(seconds)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    told: load.Figures = json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    return told


def summed(name: str, repeats: list[list[Any]], plain: list[load.Figures]) -> list[dict[str, Any]]:
    """Of one contender, over the repetitions: median, lowest and highest; and beside the plain loop."""
    rows = []
    for same in zip(*repeats, strict=True):
        row = {"contender": name, "body": same[0]["body"], "clients": same[0]["clients"]}
        for key in ("requests_per_s", "requests_per_cpu_s", "p50_ms", "p99_ms", "memory_mb"):
            row[key] = spread([one[key] for one in same])
        for key in ("requests_per_cpu_s", "p99_ms"):
            row[f"{key}_of_plain"] = spread([one[key] / loop[key] for one, loop in zip(same, plain, strict=True)])
        rows.append(row | {"failed": sum(one["failed"] for one in same)})
    return rows


def in_turns(names: list[str], number: int) -> list[str]:
    """Another one begins each time, so that none is always measured on a machine that has just rested."""
    first = number % len(names)
    return names[first:] + names[:first]


def compared(case: str, folder: Path, options: Any) -> dict[str, Any]:
    from serving import store  # after the home folders are set

    model = trained(CASES[case], options.data.resolve())
    bundle = store.path(store.resolve(model))
    picture = next((folder / "datasets").glob("*/**/*.jpg"))
    found = contenders(litserve_in(options.peers_env.expanduser()) if options.peers_env else None)
    repeats: dict[str, list[list[Any]]] = {name: [] for name in found}
    plain = []
    for number in range(options.repeats):
        plain.append(plain_loop(bundle, picture, options.seconds))
        for name in in_turns(list(found), number):
            repeats[name].append(measured(found[name], bundle, picture, folder, options))
            print(name, repeats[name][-1], file=sys.stderr, flush=True)
    card = json.loads((bundle / "card.json").read_text())
    image = card["image"]
    return {
        "command": machine.command("serving"),
        "model": f"{card['kind']}, {card['parameters']:,} parameters, {image['height']} x {image['width']}",
        "picture_bytes": picture.stat().st_size,
        "plain": {key: spread([one[key] for one in plain]) for key in plain[0]},
        "services": [row for name in found for row in summed(name, repeats[name], plain)],
        "goals": {
            "requests_per_cpu_s_of_plain": 0.95 if case == "flowers" else 0.85,
            "p99_ms_of_plain": 1.5,
            "p99_ms_of_plain_at_half": 3,
        },
        "runs": options.repeats,
        "machine": machine.describe() | {"litserve": LITSERVE if "LitServe" in found else ""},
    }


def main() -> None:
    load.require_wrk()  # before anything is trained
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.gz and flowers.tar.gz")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--peers-env", type=Path, help="folder for LitServe's environment; left out without it")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for case in options.case:
        with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
            homes = {"TRAINSERVE_HOME": name, "BENTOML_HOME": f"{name}/bentoml", "PREFECT_HOME": f"{name}/prefect"}
            os.environ |= homes
            figures = compared(case, Path(name), options)
        (RESULTS / f"serving-{case}.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
