"""The command that tries settings: what it takes, and where it is done. No work here."""

from typing import Annotated

from cyclopts import Parameter

from flows.cli.models_app import Json
from flows.cli.options import Address, Config, Engine, Help, Settings, Workers, runner_of


def sweep(
    *settings: Settings,
    config: Config = None,
    trials: Annotated[int, Parameter(help="How many in all; more of them go on with the same sweep.")] = 30,
    prune: Annotated[bool, Parameter(help="Give up trials whose curve runs below the others'.")] = True,
    engine: Engine = "plain",
    address: Address = None,
    workers: Workers = None,
    as_json: Json = False,
    help_: Help = False,
) -> None:
    """Try settings, and say which do best on the validation pictures. The same command goes on where it was stopped.

    trainserve sweep [PRESET | -c FILE.yaml] --search.lr 1e-4..1e-2:log --search.model.kind cnn,vit [--trials 30] ...
    """
    if help_:
        from flows.cli import listing
        from flows.cli.app import app

        app.help_print(["sweep"])
        listing.show_settings()
        return
    from flows.cli import sweeping

    runner = runner_of(engine, address, workers)
    sweeping.sweep(settings, config, trials=trials, prune=prune, runner=runner, as_json=as_json)
