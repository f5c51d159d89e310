"""Options that several commands have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from flows.engines import RunnerConfig

Settings = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Config = Annotated[Path | None, Parameter(name=["--config", "-c"], help="YAML file of settings.")]
Help = Annotated[bool, Parameter(name=["--help", "-h"], negative="", help="Show this and every setting.")]
Engine = Annotated[
    str, Parameter(help="Where folds and trials are computed: plain (in turn), threads, processes, dask or ray.")
]
Address = Annotated[str | None, Parameter(help="Of a Dask or Ray cluster, such as tcp://10.0.0.1:8786.")]
Workers = Annotated[int | None, Parameter(help="How many folds or trials are computed at a time.")]


def runner_of(engine: str, address: str | None, workers: int | None) -> "RunnerConfig":
    """Raises `InputError`."""
    from typing import get_args

    from pydantic import ValidationError

    from data.errors import InputError
    from flows.engines import Kind, RunnerConfig

    if engine not in get_args(Kind):
        raise InputError(f"--engine {engine!r} is not known; use one of {', '.join(get_args(Kind))}")
    try:
        return RunnerConfig.model_validate({"kind": engine, "address": address, "workers": workers})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":
            raise InputError(str(first["ctx"]["error"])) from None
        raise InputError(
            f"--{first['loc'][0]} is {first['input']!r}; it {first['msg'].removeprefix('Input ')}"
        ) from None
