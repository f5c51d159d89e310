"""The commands: what each takes, and where it is done. No work here."""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from data.errors import InputError, RunFailed
from flows import stopping

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON object on standard output.")]
Reason = Annotated[str, Parameter(name="--reason", help="Why, for whoever reads the history later.")]
Settings = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Config = Annotated[Path | None, Parameter(name=["--config", "-c"], help="YAML file of settings.")]

TRAINING = ("torch", "torchvision", "prefect", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib", "jinja2")
"""Packages of the extra `train`; the service does without."""

app = App(
    name="trainserve",
    help="Keep an image classifier in service.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
data_app = App(name="data", help="Look at pictures before anything is trained.")
models_app = App(name="models", help="The models in the store, and which of them is in service.")
app.command(data_app)
app.command(models_app)


@app.command(help_flags=[])
def run(
    *settings: Settings,
    config: Config = None,
    as_json: Json = False,
    resume: Annotated[str | None, Parameter(help="Go on with this unfinished run, or with the `latest`.")] = None,
    help_: Annotated[bool, Parameter(name=["--help", "-h"], negative="", help="Show this and every setting.")] = False,
) -> None:
    """Train, test, export, compare, release.

    trainserve run [PRESET | -c FILE.yaml] [--dataset.source flowers/] [--model.kind vit] [--train.epochs 20] ...
    """
    if help_:
        from flows.cli import listing

        app.help_print(["run"])
        listing.show_settings()
        return
    from flows.cli import overrides, starting

    if resume is None:
        starting.run(overrides.experiment(settings, config=config), as_json=as_json)
        return
    from flows import resuming

    folder = resuming.find(resume)
    starting.run(resuming.asked(folder, settings, config), as_json=as_json, resume=folder.run_id)


@data_app.command
def inspect(source: str, /, *settings: Settings, as_json: Json = False) -> None:
    """Check the pictures of SOURCE and train nothing; exit status 2 if they would be refused.

    SOURCE is the name of a known data set, a folder, an archive, or the URL of one.
    """
    from flows.cli import inspection

    inspection.inspect(source, settings, as_json=as_json)


@app.command
def serve(
    *,
    port: int | None = None,
    host: str | None = None,
    model: str | None = None,
    workers: int | None = None,
    access_log: Annotated[bool | None, Parameter(negative="")] = None,
) -> None:
    """Answer over HTTP with the champion, and follow it when another model is promoted.

    Parameters
    ----------
    port
        By default 3000, or TRAINSERVE_PORT.
    host
        Address to listen on; 0.0.0.0 for every interface.
    model
        Name of the model; by default the one promoted last.
    workers
        Processes, each with its own copy of the model.
    access_log
        One line for every request.
    """
    from serving import start

    start.serve(host=host, port=port, model=model, workers=workers, access_log=access_log)


@app.command
def predict(
    *images: Path,
    url: str = "http://127.0.0.1:3000",
    bundle: str | None = None,
    as_json: Json = False,
) -> None:
    """Ask the running service about pictures; with --bundle, ask a model without a service.

    Parameters
    ----------
    url
        Of the service.
    bundle
        A bundle's folder, or NAME@VERSION, or NAME for the champion of that name.
    """
    from flows.cli import asking

    asking.predict(images, url=url, bundle=bundle, as_json=as_json)


@models_app.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Every stored model, its roles and its accuracy."""
    from flows.cli import stored

    stored.show_all(as_json=as_json)


@models_app.command
def show(model: str, /, *, as_json: Json = False) -> None:
    """The card of NAME or NAME@VERSION: figures, data, lineage, and how it came to its role."""
    from flows.cli import stored

    stored.show_one(model, as_json=as_json)


@models_app.command
def promote(model: str, /, *, reason: Reason = "by hand") -> None:
    """Put NAME@VERSION into service."""
    from flows.cli import stored

    stored.promote(model, reason=reason)


@models_app.command
def rollback(name: str, /, *, reason: Reason = "by hand") -> None:
    """Put the previous champion of NAME into service again."""
    from flows.cli import stored

    stored.rollback(name, reason=reason)


@models_app.command
def verify(model: str, /) -> None:
    """Check the files of NAME@VERSION, or of a bundle folder, and replay its golden samples."""
    from flows.cli import stored

    stored.verify(model)


@models_app.command
def export(model: str, to: Path, /) -> None:
    """Copy the bundle of NAME@VERSION to the new folder TO."""
    from flows.cli import stored

    stored.export(model, to)


@app.command
def deploy(
    *settings: Settings,
    config: Config = None,
    cron: str | None = None,
    timezone: str = "UTC",
) -> None:
    """Register the pipeline with the Prefect server and keep serving its runs, until Ctrl-C.

    trainserve deploy [PRESET | -c FILE.yaml] [--dataset.source flowers/] ... [--cron "0 3 * * *"]

    Parameters
    ----------
    cron
        When to run by itself, such as "0 3 * * *"; without it, only on demand.
    timezone
        Of --cron, such as Europe/Berlin.
    """
    from flows.cli import overrides
    from flows.deployments import serve_pipeline

    serve_pipeline(overrides.experiment(settings, config=config), cron=cron, timezone=timezone)


@app.command
def doctor(*, as_json: Json = False) -> None:
    """Say what is wrong with this installation, and the remedy; exit status 1 if something is."""
    from flows.cli import checkup

    checkup.run(as_json=as_json)


def main(tokens: Sequence[str] | None = None) -> None:
    """Every way out of a command, and its exit status."""
    leave = partial(_leave, as_json="--json" in (sys.argv[1:] if tokens is None else tokens))
    try:
        app(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        leave(2, _missing(error) or " ".join(str(error).split()))
    except InputError as error:
        leave(2, str(error))
    except RunFailed as error:
        leave(1, str(error))
    except stopping.Interrupted as end:
        leave(end.status, str(end))
    except KeyboardInterrupt:
        leave(130, "interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a sentence and the log a trace
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in TRAINING:
            leave(2, f"{error.name} is not installed and training needs it; pip install 'trainserve[train]'")
        from flows.cli import running

        leave(1, running.unexpected(error))


def _missing(error: CycloptsError) -> str | None:
    """What to type, where a word was left out; None for every other mistake."""
    word = error.argument.name if error.argument is not None else "-"
    if not isinstance(error, MissingArgumentError) or word.startswith("-"):
        return None
    command = " ".join(("trainserve", *(error.command_chain or ())))
    known = "; `trainserve models list` shows them" if command.startswith("trainserve models ") else ""
    return f"{word} is missing; write {command} {word}{known}"


def _leave(status: int, sentence: str, *, as_json: bool) -> None:
    print(f"trainserve: {sentence}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": sentence}), flush=True)
    stopping.leave(status)
