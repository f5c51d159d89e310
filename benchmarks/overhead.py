"""What orchestration costs: the flow, beside the same stages called one after the other without Prefect.

    python -m benchmarks.overhead [--epochs 3 120] [--repeats 5] [--threads 1]

Both train digits with the same settings and seeds, each in a process of its own, in turns, with warm caches, and are
timed from the first stage to the verdict, imports told apart. The flow reports to a Prefect server that stands all the
while, as a deployment's does. Goals: less than 3 s beyond the imports, and less than 1 % of a run of ten minutes. What
is paid once is the difference of the short trainings. What is paid all the while is what the other threads of the
flow's process compute during the long ones: the difference of those is smaller than what arithmetic varies from run to
run. The server's processor time is not among these.

The figures go to benchmarks/results/overhead.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import machine
from benchmarks.beside import watching
from benchmarks.spread import spread

if TYPE_CHECKING:
    from models.config import Experiment

RESULTS = Path(__file__).parent / "results"
TEN_MINUTES = 600.0
THREAD = "training"  # flows.stopping.THREAD, which is not imported before the clock runs
START_S = 180.0

Figures = dict[str, float]


def plain(experiment: "Experiment", home: Path) -> None:
    """The chain, as somebody would write it who needs neither a schedule nor a page to look at."""
    from data.prepare import prepare
    from flows.judge import judge, try_as_service
    from models.bundle.export import export
    from models.evaluation import report
    from models.evaluation.conclusion import conclude
    from models.evaluation.evaluate import evaluate
    from models.records import Lineage
    from models.run import new_run
    from models.training.learn import learn
    from serving import store

    dataset = prepare(experiment.pictures, home)
    fingerprint = dataset.images.snapshot.fingerprint
    run = new_run(home, experiment, fingerprint)
    learn(experiment, dataset, run)
    lineage = Lineage(run_id=run.run_id, fingerprint=fingerprint, commit=None, flow_run_url=None)
    evaluate(run, dataset, crossval=None, lineage=lineage)
    report.write(run, dataset)
    ref = store.save(export(run, dataset))
    try_as_service(store.path(ref))
    verdict = judge(run, dataset, ref, experiment.release)
    if verdict.promoted:
        store.promote(ref, reason=verdict.reason)
    conclude(run.report_file, verdict, str(ref))


def imported_plain() -> None:
    import flows.judge  # noqa: F401
    import models.bundle.export
    import models.evaluation.report
    import models.training.learn  # noqa: F401


def imported_flow() -> None:
    imported_plain()
    import flows.pipeline  # noqa: F401


def flow(experiment: "Experiment", home: Path) -> None:  # noqa: ARG001 - TRAINSERVE_HOME says it, too
    from flows.pipeline import pipeline

    pipeline(experiment, refresh=("cross-validate", "train"))  # each repetition makes all that the plain chain makes


CHAINS: dict[str, tuple[Callable[[], None], Callable[["Experiment", Path], None]]] = {
    "plain": (imported_plain, plain),
    "flow": (imported_flow, flow),
}


def one(kind: str, *, epochs: int, seed: int) -> Figures:
    """In a process of its own: seconds of the imports and of the chain."""
    from flows.importing import uncollected
    from flows.presets import PRESETS
    from models.config import Experiment

    imports, chain = CHAINS[kind]
    began = time.perf_counter()
    with uncollected():  # as `trainserve run` and the deployments import
        imports()
    import_s = time.perf_counter() - began
    tree = PRESETS["digits"].model_dump()
    tree["train"] |= {"epochs": epochs, "seed": seed, "patience": "never", "devices": "cpu"}
    tree["release"] |= {"rehearse": False}  # a service takes its time either way
    experiment = Experiment.model_validate(tree)
    began, used = time.perf_counter(), time.process_time()
    with watching(THREAD) as beside:
        chain(experiment, Path(os.environ["TRAINSERVE_HOME"]))
    told = {"import_s": import_s, "chain_s": time.perf_counter() - began, "chain_cpu_s": time.process_time() - used}
    return told | {"trained_s": beside.seconds, "beside_cpu_s": beside.cpu_s}  # of the flow, which has such a thread


def environment(home: Path, api: str, threads: int) -> dict[str, str]:
    """Nothing of the user's."""
    return {
        **os.environ,
        "TRAINSERVE_HOME": str(home / "trainserve"),
        "TRAINSERVE_PLACES": str(home / "places"),
        "BENTOML_HOME": str(home / "bentoml"),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": api,
        "OMP_NUM_THREADS": str(threads),
    }


@contextmanager
def standing_server(home: Path, port: int) -> Iterator[str]:
    """The address of its API."""
    api = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    env = os.environ | {"PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": api, "PREFECT_UI_API_URL": api}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_S
        while not answers(api):
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit(f"Prefect's server did not start:\n{(home / 'server.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield api
    finally:
        process.terminate()
        process.wait(30)


def answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def measured(kind: str, *, epochs: int, seed: int, env: dict[str, str]) -> Figures:
    command = [sys.executable, "-m", "benchmarks.overhead", "--one", kind, "--epochs", str(epochs), "--seed", str(seed)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    told: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{kind}, {epochs} epochs: {told}", file=sys.stderr, flush=True)
    return told


def compared(epochs: int, repeats: int, env: dict[str, str]) -> dict[str, Any]:
    """Of one length of training."""
    runs: dict[str, list[Figures]] = {kind: [] for kind in CHAINS}
    for repeat in range(repeats):
        for kind in CHAINS:
            runs[kind].append(measured(kind, epochs=epochs, seed=1000 * epochs + repeat, env=env))
    told: dict[str, Any] = {
        kind: {key: spread([figures[key] for figures in done]) for key in done[0]} for kind, done in runs.items()
    }
    for key in ("import_s", "chain_s", "chain_cpu_s"):
        pairs = zip(runs["flow"], runs["plain"], strict=True)
        told[f"added_{key}"] = spread([ours[key] - theirs[key] for ours, theirs in pairs])
    return {"epochs": epochs, **told}


def in_ten_minutes(short: dict[str, Any], long: dict[str, Any]) -> dict[str, float]:
    """What is paid once, what for every second of training (in processor seconds), and the share of 600 s of it."""
    once = short["added_chain_s"]["median"]
    rate = long["flow"]["beside_cpu_s"]["median"] / long["flow"]["trained_s"]["median"]
    return {"once_s": once, "per_second_cpu_s": rate, "share_of_ten_minutes": once / TEN_MINUTES + rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[3, 120], help="the first short, the last long")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=4299, help="of the Prefect server")
    parser.add_argument("--one", choices=CHAINS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, epochs=options.epochs[0], seed=options.seed)))
        return
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        home = Path(name)
        with standing_server(home, options.port) as api:
            env = environment(home, api, options.threads)
            measured("flow", epochs=1, seed=0, env=env)  # caches, byte code, the first champion
            lengths = [compared(epochs, options.repeats, env) for epochs in options.epochs]
    figures = {
        "command": machine.command("overhead"),
        "repeats": options.repeats,
        "threads": options.threads,
        "goals": {"once_s": 3.0, "share_of_ten_minutes": 0.01},
        "lengths": lengths,
        "ten_minutes": in_ten_minutes(lengths[0], lengths[-1]) if len(lengths) > 1 else None,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "overhead.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures["ten_minutes"], indent=1))


if __name__ == "__main__":
    main()
