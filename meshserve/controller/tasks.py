"""Tasks that belong together: all work about one process, ended when the process is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("meshserve.controller")


class Tasks:
    """Owns tasks, each about one subject. Lives on one loop."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, set[asyncio.Task[Any]]] = {}

    def spawn(self, subject: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts work about a subject; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.setdefault(subject, set()).add(task)
        task.add_done_callback(lambda done: self._ended(subject, done))
        return task

    def _ended(self, subject: Hashable, task: asyncio.Task[Any]) -> None:
        if (tasks := self._tasks.get(subject)) is not None:
            tasks.discard(task)
            if not tasks:
                del self._tasks[subject]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Work about %s failed.", subject, exc_info=error)

    def cancel(self, subject: Hashable, but: asyncio.Task[Any] | None = None) -> None:
        """Ends all work about a subject, except one task."""
        for task in tuple(self._tasks.get(subject, ())):
            if task is not but:
                task.cancel()

    async def close(self) -> None:
        """Ends everything."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
