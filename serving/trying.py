"""Answers while a challenger is on trial: who answers, who is only asked, and what is noted of both.

What is noted never delays or fails a request: a canary that fails is answered by the champion, and the second opinion
is asked for in the background and only while nobody waits.
"""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np

from data.errors import InputError
from serving.batching import Answer
from serving.inference import Inference
from serving.live import Live, withdraw
from serving.served import Served
from serving.trial import Side, Trying

MOST_BEHIND = 4  # second opinions at a time

logger = logging.getLogger("trainserve.trial")


class Trials:
    """Of one worker; belongs to its event loop."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._behind: set[asyncio.Task[None]] = set()

    async def answer(self, live: Live, files: Sequence[bytes]) -> Answer:
        """By the champion of this name, or by its challenger where that is due. Raises as `Inference.answer`."""
        trying, champion = live.trying, self._inference.repository.champion(live.name)
        if trying is None:
            return await self._inference.answer(files, champion)
        due = trying.is_due()
        if due and not trying.trial.shadow:
            answer = await self._by_challenger(live, trying, files)
            if answer is not None:
                self._ask_behind(live, trying, files, answer, champion, trying.champion)
                return answer
        answer = await self._inference.answer(files, champion)
        _note(trying, trying.champion, answer)
        if due and trying.trial.shadow:
            self._ask_behind(live, trying, files, answer, trying.served, trying.challenger)
        return answer

    async def _by_challenger(self, live: Live, trying: Trying, files: Sequence[bytes]) -> Answer | None:
        """None: it failed, for a reason of its own and not of the sender's."""
        try:
            answer = await self._inference.answer(files, trying.served)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - a model may fail in any way
            logger.warning("%s failed to answer: %s: %s", trying.served.name, type(error).__name__, error)
            trying.failed()
            await self._judge(live, trying)
            return None
        _note(trying, trying.challenger, answer)
        return answer

    def _ask_behind(
        self, live: Live, trying: Trying, files: Sequence[bytes], answer: Answer, other: Served, side: Side
    ) -> None:
        """What the other one says of the same pictures; left out where it would keep somebody waiting. The trial is
        judged all the same: it may be the reason why they wait."""
        if len(self._behind) >= MOST_BEHIND:
            return
        if self._inference.batcher.waiting:
            work = self._judge(live, trying)
        else:
            work = self._compare(live, trying, list(files), answer, other, side)
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def _compare(
        self, live: Live, trying: Trying, files: Sequence[bytes], answer: Answer, other: Served, side: Side
    ) -> None:
        try:
            second = await self._inference.answer(files, other)
        except InputError:  # too busy
            return
        except Exception as error:  # noqa: BLE001 - a model may fail in any way
            if other is trying.served:
                logger.warning("%s failed to answer: %s: %s", other.name, type(error).__name__, error)
                trying.failed()
        else:
            _note(trying, side, second)
            trying.agreed(len(files), _differing(answer, second))
        await self._judge(live, trying)

    async def _judge(self, live: Live, trying: Trying) -> None:
        """End the trial where it has crossed a limit."""
        reason = trying.failing(self._inference.settings)
        if reason is None or live.trying is not trying:
            return
        live.end_trial(reason)  # in this worker at once
        await asyncio.to_thread(withdraw, trying.served.ref, reason)  # in all of them


def _note(trying: Trying, side: Side, answer: Answer) -> None:
    trying.answered(side, answer.timing.pictures, answer.timing.inference_s)


def _differing(one: Answer, other: Answer) -> int:
    """Pictures about which the two say different labels."""
    mine, others = _labels(one), _labels(other)
    return sum(a != b for a, b in zip(mine, others, strict=True))


def _labels(answer: Answer) -> list[str]:
    classes = answer.served.bundle.card.classes
    return [classes[k] for k in np.argmax(answer.probabilities, axis=1)]
