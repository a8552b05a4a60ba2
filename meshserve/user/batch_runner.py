"""Runs the batches of one decorated function on one event loop: permits, the timer, tasks.

What is in a batch and when it is due is decided by `core.batch`; here is what happens then. Nothing polls: a call that
fills a batch starts it, one timer stands for the first call that waits, and the end of a batch starts the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from meshserve.core.batch import BatchQueue
from meshserve.telemetry.functions import BatchMetrics
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.tracing import active
from meshserve.user.batch_call import BatchCall
from meshserve.user.batch_span import BatchSpan
from meshserve.user.shared_work import detach

C = TypeVar("C", bound=BatchCall)


class BatchRunner(Generic[C]):
    """The queue and the running batches; to be used on one loop only.

    Args:
        queue: what waits.
        run: runs calls of one group; gives every call its outcome.
        max_concurrent_batches: permits.
        function: the name of the user's function, for metrics and traces.
    """

    def __init__(
        self,
        queue: BatchQueue[C],
        run: Callable[[Sequence[C]], Coroutine[Any, Any, None]],
        max_concurrent_batches: int,
        function: str,
    ) -> None:
        self._queue = queue
        self._run = run
        self._permits = max_concurrent_batches
        self._started_at: dict[asyncio.Task[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._function = function
        self._metrics = PROCESS.recorder(BatchMetrics, function)
        self._metrics.runners.add(self)

    @property
    def queued(self) -> int:
        """Calls that wait for a batch."""
        return len(self._queue)

    def submit(self, call: C) -> None:
        """Queues a call; starts a batch at once if it fills one and a permit is free."""
        call.queued_at = now = time.monotonic()
        self._queue.add(call, now)
        if self._permits > 0:
            if self._queue.full:
                self._start_due()
            else:
                self._arm()

    def discard(self, call: C) -> None:
        """Takes a call out whose caller is gone; one that already runs stays with its batch."""
        self._queue.remove(call)

    @property
    def started_at(self) -> dict[asyncio.Task[None], float]:
        """The running tasks, and when each began on the monotonic clock."""
        return dict(self._started_at)

    def _arm(self) -> None:
        """Makes sure that the timer rings when the batch that forms is due.

        A timer that rings too early only looks again, so it stays when the batch it was for was filled: under load
        no timer is made or cancelled.
        """
        due_at = self._queue.due_at
        if due_at is None or (self._timer is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        wait_s = max(0.0, due_at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._start_due()

    def _start_due(self) -> None:
        while self._permits > 0 and (calls := self._queue.take(time.monotonic())):
            self._start(calls)
        if self._permits > 0:
            self._arm()

    def _start(self, calls: Sequence[C]) -> None:
        """Starts a batch: one task for each group of calls, all under one permit."""
        groups: dict[tuple[object, ...], list[C]] = {}
        for call in calls:
            groups.setdefault(call.group, []).append(call)
        self._permits -= 1
        began = time.monotonic()
        self._metrics.started(len(calls), began - calls[0].queued_at)
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        for group in groups.values():
            context = detach(group[0].context)
            span = context.run(BatchSpan.begin, self._function, group) if active() is not None else None
            task = loop.create_task(self._run(group), context=context)
            if span is not None:
                task.add_done_callback(span.ended)
            self._started_at[task] = time.monotonic()
            running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            del self._started_at[task]
            if not running:
                self._metrics.ended(time.monotonic() - began)
                self._permits += 1
                self._start_due()

        for task in tuple(running):
            task.add_done_callback(ended)
