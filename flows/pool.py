"""Prefect's pool of processes, which ends even if one of them was killed while it told something."""

from typing import Self

from prefect.task_runners import ProcessPoolTaskRunner


class Pool(ProcessPoolTaskRunner):
    """A process that is killed in the middle of a message keeps the right to send for ever. Whoever waits until all is
    sent then, as the interpreter does at its end, waits for ever too: here nobody does."""

    def __enter__(self) -> Self:
        entered = super().__enter__()
        messages = getattr(self, "_subprocess_message_queue", None)  # of Prefect's inside
        if messages is not None:
            messages.cancel_join_thread()
        return entered
