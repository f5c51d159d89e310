"""What an operator may set: environment variables that begin with TRAINSERVE_."""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from data.errors import InputError
from serving import machine, writers

MIB = 1024 * 1024
_NAME = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_IDENTITY = r"\S+ https://\S+"
_ORIGIN = r"https?://([A-Za-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?"


class Settings(BaseSettings):
    """How the service behaves; `TRAINSERVE_PORT=8080` and so on. Read once, at start."""

    model_config = SettingsConfigDict(env_prefix="TRAINSERVE_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(3000, ge=1, le=65_535, description="port to listen on")
    gpus: int = Field(
        default_factory=lambda: machine.here().gpus,
        ge=0,
        le=256,
        description="NVIDIA GPUs that answer, the workers in turn; by default those that onnxruntime can use; 0: the "
        "processor",
    )
    workers: int = Field(
        default_factory=lambda given: _suited(given).workers,
        ge=1,
        le=256,
        description="processes, each with its own copy of the model; by default one for each GPU, else one for each "
        "core, at most 8 and as many as fit into a quarter of the memory",
    )
    threads: int = Field(
        default_factory=lambda given: _threads(given),
        ge=1,
        le=256,
        description="threads onnxruntime uses in a worker; by default 1, or its share of cores that have no worker",
    )
    decoders: int = Field(
        default_factory=lambda given: _suited(given).decoders,
        ge=1,
        le=256,
        description="threads in a worker that decode pictures; by default 2, and more to feed a GPU",
    )
    model: str | None = Field(
        None,
        pattern=rf"^{_NAME}(,{_NAME})*$",
        description="names of the models to serve, with commas between them; the first answers requests that name "
        "none; by default the one promoted last when the service starts",
    )
    variant: Literal["auto", "float", "int8", "fp16"] = Field(
        "auto",
        description="which graph of a model answers; auto: on a processor the int8 one, if the model has one, else the "
        "exported one, which also answers where the wanted one does not prove itself",
    )
    versions: int = Field(2, ge=0, le=64, description="versions not in service that a worker keeps open once asked for")
    signers: Path | None = Field(
        None, description="file of the public keys of those who may sign; a model that none of them signed is refused"
    )
    sigstore: str | None = Field(
        None,
        description="IDENTITY ISSUER, such as `me@example.com https://accounts.google.com`: a model that was not "
        "signed so, by sigstore, is refused; where signers are named too, both have to have signed",
    )
    sigstore_root: Path | None = Field(
        None, description="trusted_root.json that sigstore's signatures rest on; by default the package's own"
    )
    poll_s: float = Field(0.25, gt=0, le=60, description="seconds between looks at the alias file")
    max_upload_bytes: int = Field(10 * MIB, ge=1, description="largest picture, or largest JSON or multipart request")
    max_batch_upload_bytes: int = Field(64 * MIB, ge=1, description="largest /predict_batch or /v2 request")
    max_held_bytes: int = Field(
        256 * MIB, ge=1, description="uploads held in memory at a time, all requests to a worker together"
    )
    max_pixels: int | None = Field(
        None, ge=1, description="largest decoded picture, in pixels; by default the limit of data.preprocess"
    )
    max_pictures: int = Field(128, ge=1, le=10_000, description="most pictures in a /predict_batch or /v2 request")
    max_batch: int = Field(
        32,
        ge=1,
        le=4096,
        description="most pictures the model is given at a time; fewer where each of them then takes no longer",
    )
    max_model_bytes: int = Field(2048 * MIB, ge=1, description="largest model that is opened, all its files")
    max_answer_s: float = Field(5.0, gt=0, description="a model that takes longer for one picture is refused")
    hang_s: float = Field(
        60.0,
        gt=0,
        description="a batch may take this long and max_answer_s for each of its pictures; then /livez answers 503",
    )
    trial_answers: int = Field(
        50, ge=1, description="answers of a challenger on trial before it is judged, by a worker"
    )
    trial_errors: float = Field(0.01, ge=0, le=1, description="share of failures above which a trial is ended")
    trial_disagreement: float = Field(
        0.5, ge=0, le=1, description="share of pictures it labels otherwise than the champion above which it is ended"
    )
    trial_slowdown: float = Field(
        2.0, ge=1, description="times the champion's time for a picture above which it is ended"
    )
    max_queue: int = Field(
        512, ge=1, le=100_000, description="most pictures waiting in a worker; beyond it requests get 429"
    )
    feedback_a_day: int = Field(10_000, ge=0, description="lines of feedback kept a day, by a worker")
    keep_pictures: bool = Field(False, description="keep the pictures that feedback is about; off: the words alone")
    feedback_bytes_a_day: int = Field(1024 * MIB, ge=0, description="of such pictures, kept a day by a worker")
    upload_timeout_s: float = Field(30.0, gt=0, description="seconds a request may take to arrive")
    shutdown_s: int = Field(10, ge=1, le=3600, description="seconds that running requests get when the service stops")
    keys: Path | None = Field(None, description="file of the API keys; without one, who reaches the port may ask")
    cors: str | None = Field(
        None,
        pattern=rf"^(\*|{_ORIGIN}(,{_ORIGIN})*)$",
        description="origins whose pages may ask, such as https://app.example.com, with commas between them; or *",
    )
    writers: str | None = Field(
        None,
        pattern=r"^(\*|[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*)$",
        description="users, beside its own and root, who may be able to write the models and the keys file: names or "
        "numbers, with commas between them; or * for anyone",
    )
    access_log: bool = Field(False, description="one line for every request")
    tracing: bool = Field(False, description="OpenTelemetry spans, exported as BentoML's configuration says")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models to serve, each once; none: the one promoted last."""
        return tuple(dict.fromkeys(self.model.split(","))) if self.model else ()

    @field_validator("keys", "signers", "sigstore_root")
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        """Workers stand elsewhere than whoever started them."""
        return file.expanduser().absolute() if file else None

    @field_validator("sigstore")
    @classmethod
    def _somebody(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(_IDENTITY, given):
            raise ValueError("names nobody; write IDENTITY ISSUER, as `me@example.com https://accounts.google.com`")
        return given

    @model_validator(mode="after")
    def _a_root_is_used(self) -> Self:
        if self.sigstore_root is not None and self.sigstore is None:
            raise ValueError(
                f"TRAINSERVE_SIGSTORE_ROOT {self.sigstore_root} alone verifies nothing; say in TRAINSERVE_SIGSTORE who "
                "has to have signed, or leave it out"
            )
        return self

    @field_validator("writers")
    @classmethod
    def _users(cls, named: str | None) -> str | None:
        writers.trusted(named)
        return named

    @model_validator(mode="after")
    def _a_full_request_fits(self) -> Self:
        if self.max_pictures > self.max_queue:
            raise ValueError(
                f"max_pictures {self.max_pictures} can never fit into max_queue {self.max_queue}; "
                f"use at most {self.max_queue}"
            )
        return self


def load(**overrides: object) -> Settings:
    """Settings from the environment; `overrides` that are not None win. Raises `InputError` with one sentence."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError(_sentence(error)) from None


def _suited(given: dict[str, Any]) -> machine.Workers:
    """To this machine, with as many of its GPUs as were asked for."""
    return machine.suited(machine.here().model_copy(update={"gpus": given.get("gpus", 0)}))


def _threads(given: dict[str, Any]) -> int:
    """Never more than there are cores for all workers that were asked for."""
    workers: int = given.get("workers", 1)
    return min(_suited(given).threads, max(1, machine.here().cores // workers))


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"TRAINSERVE settings: {message}"
    name = f"TRAINSERVE_{first['loc'][0]}".upper()
    return f"{name} is {first['input']!r}: {message[0].lower()}{message[1:]}; change it or leave it out"
