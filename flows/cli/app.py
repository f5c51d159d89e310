"""The commands: what each takes, and where it is done. No work here."""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, validators

from data.errors import InputError, RunFailed
from flows import stopping
from flows.cli import data_diff
from flows.cli.keys_app import keys_app
from flows.cli.models_app import Json, models_app
from flows.cli.options import Address, Config, Engine, Help, Settings, Workers, runner_of
from flows.cli.sweep_app import sweep
from flows.reuse.stages import Refresh, require_either

TRAINING = ("torch", "torchvision", "prefect", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib", "jinja2")
"""Packages of the extra `train`; the service does without."""

app = App(
    name="trainserve",
    help="Keep an image classifier in service.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
data_app = App(name="data", help="Look at pictures before anything is trained.")
data_app.command(data_diff.diff)
for commands in (data_app, models_app, keys_app):
    app.command(commands)
app.command(sweep, help_flags=[])


@app.command(help_flags=[])
def run(
    *settings: Settings,
    config: Config = None,
    as_json: Json = False,
    resume: Annotated[str | None, Parameter(help="Go on with this unfinished run, or with the `latest`.")] = None,
    refresh: Annotated[
        tuple[Refresh, ...],
        Parameter(negative="", help="Make this stage, and what rests on it, anew; may be repeated."),
    ] = (),
    engine: Engine = "plain",
    address: Address = None,
    workers: Workers = None,
    help_: Help = False,
) -> None:
    """Train, test, export, compare, release.

    trainserve run [PRESET | -c FILE.yaml] [--dataset.source flowers/] [--model.kind vit] [--train.epochs 20] ...
    """
    if help_:
        from flows.cli import listing

        app.help_print(["run"])
        listing.show_settings()
        return
    from flows.cli import starting
    from flows.settings import overrides

    runner = runner_of(engine, address, workers)
    require_either(resume, refresh)
    if resume is None:
        starting.run(overrides.experiment(settings, config=config), as_json=as_json, refresh=refresh, runner=runner)
        return
    from flows import resuming

    folder = resuming.find(resume)
    starting.run(resuming.asked(folder, settings, config), as_json=as_json, resume=folder.run_id, runner=runner)


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
        Names of the models, with commas between them; the first answers requests that name none. By default the one
        promoted last.
    workers
        Processes, each with its own copy of the model; by default as many as suit the machine.
    access_log
        One line for every request.
    """
    from serving import start

    start.serve(host=host, port=port, model=model, workers=workers, access_log=access_log)


@app.command
def predict(
    *images: Path,
    url: str | None = None,
    bundle: str | None = None,
    model: str | None = None,
    as_json: Json = False,
) -> None:
    """Ask the running service about pictures, with the key in TRAINSERVE_KEY; with --bundle, a model without a service.

    Parameters
    ----------
    url
        Of the service; by default http://127.0.0.1:3000, or as TRAINSERVE_HOST and TRAINSERVE_PORT say.
    bundle
        A bundle's folder, or NAME@VERSION, or NAME for the champion of that name.
    model
        NAME or NAME@VERSION, of those that the service has.
    """
    from flows.cli import asking

    asking.predict(images, url=url, bundle=bundle, model=model, as_json=as_json)


@app.command
def deploy(
    *settings: Settings,
    config: Config = None,
    cron: str | None = None,
    timezone: str = "UTC",
    when_busy: Literal["wait", "skip"] = "wait",
    notify: Annotated[list[str] | None, Parameter(negative="")] = None,
    cool_down: Annotated[float, Parameter(validator=validators.Number(gte=0))] = 30,
) -> None:
    """Register every flow with the Prefect server and run what is asked of it, until Ctrl-C.

    trainserve deploy [PRESET | -c FILE.yaml] [--dataset.source flowers/] ... [--cron "0 3 * * *"]

    Parameters
    ----------
    cron
        When to run by itself, such as "0 3 * * *"; without it, only on demand.
    timezone
        Of --cron, such as Europe/Berlin.
    when_busy
        What a run by the clock does that comes due while another one trains: wait for it, or be skipped.
    notify
        A block of the Prefect server, such as slack-webhook/team, that failures, refusals and promotions go to.
    cool_down
        Minutes in which `trainserve retrain` begins one run at most.
    """
    from flows.cli import deploying
    from flows.settings import overrides

    deploying.deploy(
        overrides.experiment(settings, config=config),
        cron=cron,
        timezone=timezone,
        when_busy=when_busy,
        notify=notify or (),
        cool_down_min=cool_down,
    )


@app.command
def retrain(*, reason: str) -> None:
    """Ask the server for a training; what `trainserve deploy` keeps going carries it out, once in a while at most.

    Parameters
    ----------
    reason
        Why, for whoever reads the history later.
    """
    from flows.cli import retraining

    retraining.retrain(reason)


@app.command
def doctor(*, fix: Annotated[bool, Parameter(negative="")] = False, as_json: Json = False) -> None:
    """Say what is wrong with this installation, and the remedy; exit status 1 if something is.

    Parameters
    ----------
    fix
        Mend what can be mended, then look again. No model is touched.
    """
    from flows.cli import checkup

    checkup.run(as_json=as_json, fix=fix)


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
