"""Where else to look: what answers on this machine, or is said to elsewhere by a variable."""

import os

from serving import store
from serving.refs import StoreError
from serving.settings import Settings

ANSWER_S = 2.0


def service() -> str | None:
    """The address of a service that answers: `TRAINSERVE_URL`, or the one that `trainserve serve` has here."""
    import httpx

    url = os.environ.get("TRAINSERVE_URL", "").rstrip("/") or f"http://127.0.0.1:{Settings().port}"
    try:
        return url if httpx.get(f"{url}/livez", timeout=ANSWER_S).is_success else None
    except httpx.HTTPError:
        return None


def tensorboard() -> str | None:
    """`TRAINSERVE_TENSORBOARD_URL`, if somebody keeps one running."""
    return os.environ.get("TRAINSERVE_TENSORBOARD_URL", "").rstrip("/") or None


def run_of(model: str | None) -> str | None:
    """The page of the flow run that made a stored model."""
    if model is None:
        return None
    try:
        return store.card(store.resolve(model)).lineage.flow_run_url
    except (StoreError, OSError, ValueError):
        return None
