"""What a promotion by hand changes: which model the service on this machine answers with, and how to serve this one."""

import time

import httpx

from data.errors import InputError
from serving import settings
from serving.client import authorization
from serving.refs import ModelRef

FOLLOWS_S = 3.0  # within which a running service has taken a new champion, or refused it


def told(ref: ModelRef) -> str:
    """A sentence for whoever promoted `ref`: the service that `trainserve serve` would be, asked."""
    return f"{ref} is now the champion of {ref.name}; {reached(ref, address())}"


def address() -> str:
    """Of the service that `trainserve serve` would be, from this machine."""
    chosen = settings.load()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(chosen.host, chosen.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{chosen.port}"


def reached(ref: ModelRef, url: str) -> str:
    """Waits for a service that follows this name until it has taken the model."""
    try:
        return _reached(ref, url)
    except InputError as error:  # what was promoted is promoted all the same
        return f"the service at {url} does not say what it answers with: {error}"


def _reached(ref: ModelRef, url: str) -> str:
    served = answering(url, ref.name)
    if served is None:
        return f"no service answers at {url}: `trainserve serve --model {ref.name}` starts one with it"
    if served.partition("@")[0] != ref.name:
        return (
            f"the service at {url} goes on answering with {served}: "
            f"stop it and start `trainserve serve --model {ref.name}`, or give that another --port"
        )
    until = time.monotonic() + FOLLOWS_S
    while served != str(ref) and time.monotonic() < until:
        time.sleep(0.1)
        served = answering(url, ref.name)
    if served == str(ref):
        return f"the service at {url} answers with it"
    return f"the service at {url} answers with {served or 'nothing'} still: {url}/model says why"


def answering(url: str, name: str) -> str | None:
    """`name@version` of the model in service at `url` under this name, or else the one that answers there by default;
    None where there is no service of ours, or no model in it. Raises `InputError` where it wants a key."""
    headers = authorization()
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=1.0, trust_env=False) as service:
            answer = service.get("/model", params={"model": name})
            if answer.status_code == httpx.codes.NOT_FOUND:
                answer = service.get("/model")
        card = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise InputError("it wants a key that it knows, in TRAINSERVE_KEY")
    model = card.get("model") if isinstance(card, dict) else None
    return model if isinstance(model, str) else None
