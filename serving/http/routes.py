"""What answers at which path."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from data import place
from models.strangeness import unfamiliar
from serving import metrics
from serving.batching import Answer
from serving.errors import EndedError, NoModelError, NotFoundError
from serving.feedback import Feedback
from serving.http import bodies, openapi, opinions, page, pictures, v2
from serving.http.bodies import Held
from serving.inference import Inference
from serving.live import Live
from serving.served import Served
from serving.trying import Trials

SCORE_BYTES = 50  # of a label with its probability in an answer, roughly


def routes(inference: Inference) -> list[Route]:
    trials, held = Trials(inference), Held(inference.settings.max_held_bytes)
    feedback = Feedback(place.home() / "feedback", inference.settings)
    chosen = partial(_chosen, inference=inference)
    answering = [*_answering(inference, trials, held, feedback), *opinions.routes(inference, chosen, held, feedback)]
    answering += v2.routes(inference, trials, held)
    return [*answering, *_telling(inference), *_watching(inference), *_showing(inference)]


def _answering(inference: Inference, trials: Trials, held: Held, feedback: Feedback) -> list[Route]:
    settings = inference.settings

    async def predict(request: Request) -> Response:
        limit = settings.max_upload_bytes
        served = await _chosen(request, inference)  # before the body is read: there may be none
        async with bodies.of(request, limit=limit, timeout_s=settings.upload_timeout_s, held=held) as body:
            content_type = request.headers.get("content-type", "")
            file = await bodies.off_the_loop(len(body), lambda: pictures.one(body, content_type))
            answer = await _answer(request, inference, trials, served, [file])
        said = _prediction(answer, 0)
        feedback.answered(request.state.request_id, answer.served, said["label"], said["probability"], file)
        return _answered(request, answer.served, said)

    async def predict_batch(request: Request) -> Response:
        limit = settings.max_batch_upload_bytes
        served = await _chosen(request, inference)
        async with bodies.of(request, limit=limit, timeout_s=settings.upload_timeout_s, held=held) as body:
            content_type, most = request.headers.get("content-type", ""), settings.max_pictures
            files = await bodies.off_the_loop(len(body), lambda: pictures.many(body, content_type, most=most))
            answer = await _answer(request, inference, trials, served, files)

        def answered() -> Response:
            predictions = [_prediction(answer, row) for row in range(len(answer.probabilities))]
            return _answered(request, answer.served, {"predictions": predictions})

        return await bodies.off_the_loop(answer.probabilities.size * SCORE_BYTES, answered)

    return [Route("/predict", predict, methods=["POST"]), Route("/predict_batch", predict_batch, methods=["POST"])]


def _telling(inference: Inference) -> list[Route]:
    async def model(request: Request) -> Response:
        """The card of the model in service, and where it stands."""
        live = inference.repository.live(_asked(request)[0])
        refused = live.refused.model_dump() if live.refused else None
        try:
            served = await _chosen(request, inference)
        except NoModelError as error:
            error.details = {"refused": refused}
            raise
        card = served.bundle.card.model_dump(mode="json")
        standing = {"refused": refused, "trial": live.trying.told() if live.trying else None, "ended": _ended(live)}
        kept = {"keeps_pictures": inference.settings.keep_pictures}
        return JSONResponse({**_who(served), **kept, **standing, **card})

    async def samples(request: Request) -> Response:
        """The pictures the model was tested with when it was opened."""
        served = await _chosen(request, inference)
        asked = f"?{request.url.query}" if request.url.query else ""
        listing = [
            {"url": f"/samples/{i}{asked}", "label": sample.label, "kind": sample.kind}
            for i, sample in enumerate(served.bundle.golden.samples)
        ]
        return JSONResponse({"model": served.name, "samples": listing})

    async def sample(request: Request) -> Response:
        golden = (await _chosen(request, inference)).bundle.golden
        by_number = {str(i): i for i in range(len(golden.files))}  # Python refuses to read a number of 5000 digits
        i = by_number.get(request.path_params["number"])
        if i is None:
            raise NotFoundError(f"there is no such sample; the model has {len(golden.files)}, from 0 on")
        headers = {"Cache-Control": "private, no-cache"}
        return Response(golden.files[i], media_type=golden.samples[i].media_type, headers=headers)

    return [
        Route("/model", model),
        Route("/samples", samples),
        Route("/samples/{number}", sample),
    ]


def _watching(inference: Inference) -> list[Route]:
    async def livez(_: Request) -> Response:
        """Whether this process can do its work at all; a restart is due if not."""
        _require_alive(inference)
        return _health("alive")

    async def readyz(_: Request) -> Response:
        """Whether a picture sent now would be answered."""
        served = [inference.repository.champion(live.name).name for live in inference.repository.lives]
        _require_alive(inference)
        return _health(f"serving {', '.join(served)}")

    async def figures(_: Request) -> Response:
        return Response(metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/healthz", readyz),
        Route("/metrics", figures),
    ]


def _showing(inference: Inference) -> list[Route]:
    content = page.load(Path(__file__).parent.parent / "static" / "index.html")
    document = openapi.document(inference.settings)

    async def ui(_: Request) -> Response:
        return Response(content.html, media_type="text/html", headers=content.headers)

    async def docs(_: Request) -> Response:
        return JSONResponse(document)

    async def favicon(_: Request) -> Response:
        return Response(status_code=204)

    return [Route("/", ui), Route("/ui", ui), Route("/docs.json", docs), Route("/favicon.ico", favicon)]


def _who(served: Served) -> dict[str, str]:
    """Which model it is, and what answers."""
    bundle = served.bundle
    how = {"provider": bundle.provider, "variant": bundle.variant, "variant_reason": bundle.why}
    return {"model": served.name, "since": served.since, **how}


def _ended(live: Live) -> dict[str, str] | None:
    """The trial that was ended last, unless something was decided since."""
    last = live.held.history[-1] if live.held and live.held.history else None
    if last is None or last.what != "withdraw":
        return None
    return {"model": f"{live.name}@{last.version}", "reason": last.reason, "when": last.when}


async def _chosen(request: Request, inference: Inference) -> Served:
    """The model in service, or the one of `?model=name` or `?model=name@version`."""
    if not request.scope["query_string"]:
        served = inference.repository.champion()
    else:
        served = await inference.repository.open(*_asked(request))
    request.state.ref = served.ref  # for the figures; whoever answers is noted afterwards
    return served


async def _answer(
    request: Request, inference: Inference, trials: Trials, served: Served, files: Sequence[bytes]
) -> Answer:
    """By whoever is on duty under the name, or by the version that the request names."""
    name, version = _asked(request)
    if version is not None:
        return await inference.answer(files, served)
    return await trials.answer(inference.repository.live(name), files)


def _asked(request: Request) -> tuple[str | None, str | None]:
    if not request.scope["query_string"]:
        return None, None
    asked = request.query_params.get("model")
    if asked is None:
        return None, None
    name, at, version = asked.partition("@")
    return name, version if at else None


def _prediction(answer: Answer, row: int) -> dict[str, Any]:
    """Every class, the most probable first, as `Bundle.prediction`, in plain values; before it what the model says of
    its answer, where it can: whether it is sure, and how strange the picture is to it.

    Sorted by Python: numpy lets go of the interpreter for so small a sort, and under load waits to get it back.
    """
    served, card = answer.served, answer.served.bundle.card
    values = answer.probabilities[row].tolist()
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)  # equal ones stay in the card's order
    scores = [{"label": card.classes[k], "probability": values[k]} for k in order]
    said: dict[str, Any] = {**scores[0]}
    limit = card.threshold
    if limit is not None:
        said["sure"] = values[order[0]] > limit
        if not said["sure"]:
            metrics.UNSURE.labels(served.ref.name, served.ref.version).inc()
    if answer.energies is not None and served.strange is not None:
        said["unfamiliar"] = unfamiliar(served.strange.quantiles, answer.energies.item(row))
    said["scores"] = scores
    return said


def _answered(request: Request, served: Served, content: dict[str, Any]) -> Response:
    request.state.ref = served.ref
    return JSONResponse({"request_id": request.state.request_id, "model": served.name, **content})


def _require_alive(inference: Inference) -> None:
    if not inference.alive:
        raise EndedError("a thread of this worker has ended or hangs; restart the service")


def _health(status: str) -> Response:
    return JSONResponse({"status": status}, headers={"Cache-Control": "no-store"})
