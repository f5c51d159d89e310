"""What is asked about an answer: where the model looked, and what a person says instead."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.errors import WrongFieldsError, WrongTypeError
from serving.explain import Explainer, Explanation, png
from serving.feedback import Feedback, read
from serving.http import bodies, pictures
from serving.http.bodies import Held
from serving.inference import Inference
from serving.served import Served

FEEDBACK_BYTES = 4096
MEANING = "the probability of the label, minus what is left of it when this part of the picture is covered"


def routes(
    inference: Inference, chosen: Callable[[Request], Awaitable[Served]], held: Held, opinions: Feedback
) -> list[Route]:
    """`chosen`: the model that a request is about."""
    settings = inference.settings
    explainer = Explainer(inference)

    async def explain(request: Request) -> Response:
        """Of the champion, or of the version that the request names; never of one that is on trial."""
        served, limit = await chosen(request), settings.max_upload_bytes
        async with bodies.of(request, limit=limit, timeout_s=settings.upload_timeout_s, held=held) as body:
            content_type = request.headers.get("content-type", "")
            file = await bodies.off_the_loop(len(body), lambda: pictures.one(body, content_type))
            found = await explainer.explain(served, file, request.query_params.get("label"))
        request.state.ref = served.ref
        told = await asyncio.to_thread(_told, found)
        return JSONResponse({"request_id": request.state.request_id, "model": served.name, **told})

    async def feedback(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Forms and plain text are what another site's page could make a visitor's browser send unasked.
            raise WrongTypeError("send application/json")
        timeout_s = settings.upload_timeout_s
        async with bodies.of(request, limit=FEEDBACK_BYTES, timeout_s=timeout_s, held=held) as body:
            said = read(body)
        about = opinions.known(said.request_id) or (await chosen(request)).bundle.card
        if said.label not in about.classes:
            raise WrongFieldsError(f"model {about.name} has no class {said.label[:64]!r}; see the classes in /model")
        line = await asyncio.to_thread(opinions.keep, said, about)
        told = {"about": line.request_id, "label": line.label, "answered_by": line.model}
        return JSONResponse({"request_id": request.state.request_id, **told, "picture_kept": line.picture is not None})

    return [Route("/explain", explain, methods=["POST"]), Route("/feedback", feedback, methods=["POST"])]


def _told(found: Explanation) -> dict[str, Any]:
    rows, columns = found.falls.shape
    return {
        "label": found.label,
        "probability": found.probability,
        "meaning": MEANING,
        "height": rows,
        "width": columns,
        "map": [[round(fall, 6) for fall in row] for row in found.falls.astype(float).tolist()],
        "picture": png(found.seen),
    }
