"""How Prefect's own client asks again where a run reports: soon, and for minutes.

By itself it doubles its pauses, up to minutes. But a server that is busy takes what it refused a moment ago, if it is
asked a few times more (flows.api.BUSY), and one that was started again is to be told at once what has happened.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_S = 5.0
RETRIES = 100  # of one request: some eight minutes
WATCHED_RETRIES = 30  # some two and a half, where a person waits for the end
TOLD_AT = 4  # failures


def soon_again(*, on_wait: Callable[[str], None] = lambda _: None, longest_s: float = LONGEST_S) -> None:
    """For this process, in which Prefect has been imported. `on_wait` hears it where the main thread waits for long."""
    from prefect.client import base

    jittered = base.clamped_poisson_interval  # type: ignore[attr-defined]

    def pause(average_interval: float, clamping_factor: float = 0.3) -> float:
        if average_interval == 2**TOLD_AT and threading.current_thread() is threading.main_thread():
            on_wait("the Prefect server is busy or away: waiting for it")
        return jittered(min(average_interval, longest_s), clamping_factor)

    base.clamped_poisson_interval = pause  # type: ignore[attr-defined]


@contextmanager
def at_most(times: int) -> Iterator[None]:
    """So often it asks again within the block. Prefect's `temporary_settings` reads all of them anew, 27 ms; a copy
    does."""
    from prefect.context import SettingsContext, get_settings_context

    now = get_settings_context()
    client = now.settings.client.model_copy(update={"max_retries": min(times, now.settings.client.max_retries)})
    with SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": client})):
        yield
