"""`trainserve predict`: pictures -> labels, through the service or in this process."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from data.errors import InputError, UnreadableImage
from flows.console import stdout_console

Answer = dict[str, Any]  # as POST /predict gives it: model, label, probability, scores, sure if it has a threshold


def predict(images: Sequence[Path], *, url: str | None, bundle: str | None, model: str | None, as_json: bool) -> None:
    """Raises `InputError` for the first picture that cannot be answered."""
    if not images:
        raise InputError("no picture was named; write trainserve predict PICTURE...")
    for image in images:
        if not image.is_file():
            raise InputError(f"there is no picture {str(image)!r}; check its spelling")
    if bundle is not None and model is not None:
        raise InputError("--bundle is asked without a service, --model through one; give one of them")
    ask = _through_http(url, model) if bundle is None else _in_process(bundle)
    answers = [{"image": str(image), **ask(image)} for image in images]
    if as_json:
        sys.stdout.write(json.dumps(answers[0] if len(answers) == 1 else {"predictions": answers}) + "\n")
    else:
        show(answers, stdout_console())


def show(answers: Sequence[Answer], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, side in (("picture", "left"), ("answer", "left"), ("probability", "right"), ("then", "left")):
        table.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
    for answer in answers:
        second = ", ".join(f"{s['label']} {100 * s['probability']:.1f} %" for s in answer["scores"][1:3])
        table.add_row(answer["image"], answer["label"], _probability(answer), second)
    console.print(table)
    console.print(f"answered by {answers[0]['model']}", style="dim", highlight=False)


def _probability(answer: Answer) -> str:
    """With a word where the model would rather not say; nothing where it does not judge its answers."""
    return f"{100 * answer['probability']:.1f} %{', not sure' if answer.get('sure') is False else ''}"


def _in_process(text: str) -> Callable[[Path], Answer]:
    from flows.cli import naming
    from models.bundle.bundle import Bundle

    opened = Bundle.open(naming.bundle_folder(text))

    def ask(image: Path) -> Answer:
        try:
            said = opened.classify(image.read_bytes())
        except UnreadableImage as error:
            raise UnreadableImage(f"{image}: {error}") from None
        return {"model": f"{opened.card.name}@{opened.card.version}", **said.model_dump(exclude_none=True)}

    return ask


def _through_http(url: str | None, model: str | None) -> Callable[[Path], Answer]:
    import httpx

    from flows.cli import in_service
    from serving.client import authorization

    address, headers = (url or in_service.address()).rstrip("/"), authorization()
    which = {} if model is None else {"model": model}

    def ask(image: Path) -> Answer:
        try:
            files = {"image": (image.name, image.read_bytes())}
            response = httpx.post(f"{address}/predict", params=which, files=files, headers=headers, timeout=60)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise InputError(f"{address!r} is no address; write one such as http://127.0.0.1:3000") from None
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise InputError(
                f"no service answers at {address} ({reason}); start it with `trainserve serve`, "
                "or ask a model without one with --bundle"
            ) from None
        if response.is_error:
            raise InputError(f"{image}: {_said(response)}")
        answer: Answer = response.json()
        return answer

    return ask


def _said(response: Any) -> str:
    """The service's own sentence."""
    try:
        told = response.json()
    except ValueError:
        return f"the service answers with status {response.status_code}"
    return str(told.get("error") or told.get("detail") or told) if isinstance(told, dict) else str(told)
