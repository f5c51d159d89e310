"""The Open Inference Protocol, version 2, over REST: /v2 and what is below it."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.batching import Answer
from serving.errors import WrongTypeError
from serving.http import bodies, tensor_answers, tensors
from serving.http.bodies import Held
from serving.inference import Inference
from serving.live import Live
from serving.served import Served
from serving.trying import Trials

HEADER_LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ["binary_tensor_data", "classification"]


def routes(inference: Inference, trials: Trials, held: Held) -> list[Route]:
    return [*_server(inference), *_models(inference), *_infer(inference, trials, held)]


def _server(inference: Inference) -> list[Route]:
    about = {"name": "trainserve", "version": _version(), "extensions": EXTENSIONS}

    async def v2_server(_: Request) -> Response:
        return JSONResponse(about)

    async def v2_live(_: Request) -> Response:
        return _state("live", inference.alive)

    async def v2_ready(_: Request) -> Response:
        """Whether every name has a model in service."""
        for live in inference.repository.lives:
            inference.repository.champion(live.name)
        return _state("ready", inference.alive)

    async def v2_index(_: Request) -> Response:
        """Of Triton's repository extension the part that asks: the names, and what is in service under them."""
        return JSONResponse([_standing(live) for live in inference.repository.lives if live.name])

    return [
        Route("/v2", v2_server),
        Route("/v2/health/live", v2_live),
        Route("/v2/health/ready", v2_ready),
        Route("/v2/repository/index", v2_index, methods=["POST"]),
    ]


def _models(inference: Inference) -> list[Route]:
    async def v2_model(request: Request) -> Response:
        """What goes in and out. The versions are those that are stored: each can be asked for."""
        served = await _chosen(request, inference)
        versions = await asyncio.to_thread(inference.repository.versions, served.ref.name)
        return JSONResponse(_metadata(served, versions))

    async def v2_model_ready(request: Request) -> Response:
        """Whether a picture sent now would be answered; a version that is not open is opened to find out."""
        served = await _chosen(request, inference)
        return _state("ready", inference.alive, name=served.ref.name)

    return [*_at("", v2_model), *_at("/ready", v2_model_ready)]


def _infer(inference: Inference, trials: Trials, held: Held) -> list[Route]:
    settings = inference.settings

    async def answer(request: Request, served: Served, given: list[bytes] | np.ndarray) -> Answer:
        """Pictures for a name go to whoever is on duty, a challenger on trial too. Pixels are made for the geometry
        of one model, and are answered by that one."""
        if isinstance(given, np.ndarray):
            return await inference.answer_pixels(given, served)
        if "version" in request.path_params:
            return await inference.answer(given, served)
        return await trials.answer(inference.repository.live(served.ref.name), given)

    async def v2_infer(request: Request) -> Response:
        served = await _chosen(request, inference)  # before the body is read: there may be none
        _require_plain(request)
        limit, timeout_s = settings.max_batch_upload_bytes, settings.upload_timeout_s
        async with bodies.of(request, limit=limit, timeout_s=timeout_s, held=held) as body:
            header = request.headers.get(HEADER_LENGTH)
            asked = await bodies.off_the_loop(
                len(body),
                lambda: tensors.read(
                    body,
                    header,
                    image=served.bundle.card.image,
                    most_pictures=settings.max_pictures,
                    most_json_bytes=settings.max_upload_bytes,
                ),
            )
            answered = await answer(request, served, asked.given)
        request.state.ref = answered.served.ref
        content, length = await bodies.off_the_loop(
            answered.probabilities.nbytes, lambda: tensor_answers.encoded(answered, asked.wanted, asked.id)
        )
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(length)})

    return _at("/infer", v2_infer, method="POST")


def _at(what: str, endpoint: Callable[[Request], Awaitable[Response]], *, method: str = "GET") -> list[Route]:
    """For the model in service under a name, and for one of its versions or whoever has a role."""
    paths = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    return [Route(path + what, endpoint, methods=[method]) for path in paths]


async def _chosen(request: Request, inference: Inference) -> Served:
    served = await inference.repository.open(request.path_params["name"], request.path_params.get("version"))
    request.state.ref = served.ref
    return served


def _require_plain(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise WrongTypeError("the body is compressed; send it as it is")


def _metadata(served: Served, versions: tuple[str, ...]) -> dict[str, Any]:
    """-1 stands for any number of pictures."""
    image, classes = served.bundle.card.image, served.bundle.card.classes
    pixels = [-1, image.height, image.width, image.channels]
    return {
        "name": served.ref.name,
        "versions": versions,
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": tensors.IMAGE, "datatype": "BYTES", "shape": [-1]},
            {"name": tensors.PIXELS, "datatype": "UINT8", "shape": pixels},
        ],
        "outputs": [
            {"name": tensor_answers.PROBABILITIES, "datatype": "FP32", "shape": [-1, len(classes)]},
            {"name": tensor_answers.LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
    }


def _standing(live: Live) -> dict[str, Any]:
    if live.current is not None:
        return {"name": live.name, "version": live.current.ref.version, "state": "READY", "reason": ""}
    reason = live.refused.reason if live.refused else "no version has been promoted yet"
    return {"name": live.name, "version": "", "state": "UNAVAILABLE", "reason": reason}


def _state(what: str, well: bool, **of: str) -> Response:
    return JSONResponse({**of, what: well}, 200 if well else 503, {"Cache-Control": "no-store"})


def _version() -> str:
    try:
        return version("trainserve")
    except PackageNotFoundError:  # run from a folder of sources
        return "unknown"
