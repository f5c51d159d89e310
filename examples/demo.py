"""The whole chain on scikit-learn's 1,797 handwritten digits, through the commands a user would type.

    make demo

Trains, checks, exports and promotes (`trainserve run`), starts the service (`trainserve serve`), sends it a test
picture over HTTP, prints the answer beside the true label, and stops what it started.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.prepare import prepare
from models.records import RunResult
from serving.client import Client

HOST, PORT = "127.0.0.1", 3000
URL = f"http://{HOST}:{PORT}"
HOME = Path(os.environ.get("TRAINSERVE_HOME", ".trainserve")).absolute()
TRAINSERVE = str(Path(sys.executable).with_name("trainserve"))
QUIET = {"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


class DemoError(Exception):
    """One sentence for the user."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which only this process got."""


def main() -> int:
    signal.signal(signal.SIGTERM, _terminated)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # also where it is a file or a pipe
    try:
        demo()
    except DemoError as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing of the demo is left running.", file=sys.stderr)
        return 130
    return 0


def demo() -> None:
    require_free_port()
    heading("1  Train on handwritten digits, check, export, promote:  trainserve run --dataset.source digits")
    result = train()
    describe(result)
    model = result["model"].partition("@")[0]
    heading(f"2  Serve the champion:  trainserve serve --port {PORT}")
    with served(model):
        print(f"{URL}/ui shows the page, {URL}/docs.json the routes")
        path, label = test_picture(Path(result["run_folder"]))
        shown = os.path.relpath(path)
        heading(f"3  Ask it:  curl -F image=@{shown} {URL}/predict")
        show(path)
        ask(path, label)
    heading("The service is stopped. Next: trainserve serve, or trainserve run --dataset.source FOLDER_OF_PICTURES")
    print(f"Both are in .venv/bin. The report of this run: {os.path.relpath(result['run_folder'])}/report.html")


def heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def require_free_port() -> None:
    """Asked before the training: a minute later would be rude."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PORT))
        except OSError:
            raise DemoError(f"port {PORT} is in use and the demo wants to serve there; stop what uses it") from None


def train() -> dict[str, Any]:
    """`trainserve run --json`: its progress goes to the terminal, its result is one JSON object."""
    command = [TRAINSERVE, "run", "--dataset.source", "digits", "--refresh", "train", "--json"]  # a second demo, too
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | QUIET) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Terminated):
                process.terminate()  # a Ctrl-C has reached it as well
            process.wait(timeout=30)
            raise
    if process.returncode:
        raise DemoError(f"trainserve run ended with status {process.returncode}; its last lines say why")
    result: dict[str, Any] = json.loads(output)
    return result


def describe(result: dict[str, Any]) -> None:
    test, verdict = result["metrics"]["test"], result["verdict"]
    low, high = test["interval"]["low"], test["interval"]["high"]
    print(f"test accuracy  {test['accuracy']:.2%}  (95 % interval {low:.2%} to {high:.2%}, {test['n']} pictures)")
    print(f"verdict        {'promoted' if verdict['promoted'] else 'not promoted'}: {verdict['reason']}")
    print(f"model          {result['model']}")


@contextmanager
def served(model: str) -> Iterator[None]:
    """`trainserve serve`, ready to answer; gone afterwards, with its workers."""
    log = HOME / "demo-service.log"
    # One worker: it is asked about one picture.
    environment = os.environ | QUIET | {"TRAINSERVE_MODEL": model, "TRAINSERVE_WORKERS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [TRAINSERVE, "serve", "--host", HOST, "--port", str(PORT)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # its own process group: Ctrl-C comes to us, and we stop all of it
        )
    try:
        wait_until_ready(process, log)
        yield
    finally:
        stop(process)


def wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    begun = time.monotonic()
    with Client(URL) as client:
        while not client.ready():
            if process.poll() is not None:
                raise DemoError(f"the service ended with status {process.returncode}; {log} says why")
            if time.monotonic() > begun + 60:
                raise DemoError(f"the service was not ready within a minute; {log} says why")
            time.sleep(0.1)
    print(f"ready after {time.monotonic() - begun:.1f} s")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the service and its workers, and SIGKILL to what is left of them after ten seconds."""
    for kind, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        try:
            os.killpg(process.pid, kind)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def test_picture(run_folder: Path) -> tuple[Path, str]:
    """Any picture of the test split, which the model has not been trained on, and its true label."""
    run = RunResult.model_validate_json((run_folder / "run.json").read_text(encoding="utf-8"))
    dataset = prepare(run.experiment.dataset, HOME)
    row = int(random.choice(dataset.split.test))
    return dataset.images.path(row), dataset.images.classes[dataset.images.labels[row]]


def show(path: Path) -> None:
    """The picture in characters, two to a pixel."""
    shades = " .:-=+*#%@"
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"))  # (H, W) uint8
    for row in grey:
        print("   " + "".join(2 * shades[int(value) * len(shades) // 256] for value in row))


def ask(path: Path, label: str) -> None:
    with Client(URL) as client:
        answer = client.predict(path)
    print(f"answer {answer.label} ({answer.probability:.1%}), true label {label}", end="")
    print("" if answer.label == label else "  (wrong, as a few in a hundred are)")


def _terminated(*_: object) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
