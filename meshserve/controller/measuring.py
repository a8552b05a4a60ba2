"""Asks replicas for what their code measures of itself, each at its own pace (`core.measuring`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from meshserve.controller.tasks import Tasks
from meshserve.core.measuring import Due, Question, Subject, plan_questions
from meshserve.core.seen import Seen
from meshserve.model.ids import ReplicaId

PERIOD_S = 0.25
"""Between looks at who is to be asked."""

IDLE_PERIOD_S = 2.0
"""... while nobody has anything to tell."""


class Measuring:
    """Lives on the I/O thread.

    Args:
        seen: what is known of the mesh now.
        ask: puts one question and tells the answer to whom it concerns.
        clock: the monotonic clock.
    """

    def __init__(
        self, seen: Callable[[], Seen], ask: Callable[[Question], Awaitable[None]], clock: Callable[[], float]
    ) -> None:
        self._seen = seen
        self._ask = ask
        self._clock = clock
        self._due: Due = {}
        self._asking: set[tuple[ReplicaId, Subject]] = set()
        self._tasks = Tasks()

    async def run(self) -> None:
        """Asks until it is cancelled; then its work ends too."""
        try:
            while True:
                questions, self._due = plan_questions(self._seen(), self._due, self._clock())
                for question in questions:
                    if (question.replica, question.subject) not in self._asking:
                        self._tasks.spawn(question.replica, self._put(question))
                await asyncio.sleep(PERIOD_S if self._due else IDLE_PERIOD_S)
        finally:
            await self._tasks.close()

    async def _put(self, question: Question) -> None:
        """One question at a time: user code that is slower than its period is not asked over and over."""
        key = question.replica, question.subject
        self._asking.add(key)
        try:
            await self._ask(question)
        finally:
            self._asking.discard(key)
