"""What stands behind a function decorated with `@serve.batch`: its options and its queues.

There is one queue for each decorated function and event loop: instances of a class share it, and a replica has one
loop for user code.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from meshserve.core.batch import BatchLimits, BatchQueue
from meshserve.user.batch_call import BatchCall, StreamCall, UnaryCall, run_stream, run_unary
from meshserve.user.batch_runner import BatchRunner
from meshserve.user.context import current_replica
from meshserve.user.methods import MethodOwner

log = logging.getLogger(__name__)

BatchSizeFn: TypeAlias = Callable[[list[Any]], int]


@dataclass
class StartTimes:
    """When batches began, in seconds since the epoch."""

    start_times: list[float]

    @property
    def min_start_time(self) -> float | None:
        """The earliest."""
        return min(self.start_times, default=None)

    @property
    def mean_start_time(self) -> float | None:
        """Their mean."""
        return sum(self.start_times) / len(self.start_times) if self.start_times else None

    @property
    def max_start_time(self) -> float | None:
        """The latest."""
        return max(self.start_times, default=None)

    @property
    def num_requests(self) -> int:
        """How many batches run."""
        return len(self.start_times)


class Batcher:
    """Calls of one decorated function. Pickles as what it was made of, without anything that waits.

    Args:
        function: the user's, taking lists.
        limits: when a batch is due.
        max_concurrent_batches: how many may run at a time.
        batch_size_fn: measures the items of a batch together; None to count them.

    Attributes:
        limits: in force from the next batch on; replaced, from any thread, to change them.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        limits: BatchLimits,
        max_concurrent_batches: int,
        batch_size_fn: BatchSizeFn | None,
    ) -> None:
        self._function = function
        self.limits = limits
        self._max_concurrent_batches = max_concurrent_batches
        self._batch_size_fn = batch_size_fn
        self._owner = MethodOwner(function)
        self._run = run_stream if inspect.isasyncgenfunction(function) else run_unary
        self._runners: WeakKeyDictionary[asyncio.AbstractEventLoop, BatchRunner[Any]] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return Batcher, (self._function, self.limits, self._max_concurrent_batches, self._batch_size_fn)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def unary(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Makes one call and waits for its result.

        Raises:
            RuntimeError: the item alone is larger than a batch may be.
            Exception: what the user's function or `batch_size_fn` raised.
        """
        owner, rest = self._owner.split(args)
        call = UnaryCall(owner, rest, kwargs)
        runner = self._submit(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            runner.discard(call)
            raise

    def stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Makes one streaming call. It is queued now or, on a thread without a loop, with the first read."""
        owner, rest = self._owner.split(args)
        call = StreamCall(owner, rest, kwargs)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._read(call, None)
        return self._read(call, self._submit(call))

    async def _read(self, call: StreamCall, runner: BatchRunner[Any] | None) -> AsyncIterator[Any]:
        runner = runner or self._submit(call)
        try:
            async for item in call:
                yield item
        finally:
            call.abandon()
            runner.discard(call)

    def _submit(self, call: BatchCall) -> BatchRunner[Any]:
        runner = self._runner()
        try:
            self._check_size(call)
        except Exception as error:  # noqa: BLE001 - batch_size_fn is user code; its caller gets what it raised
            call.fail(error)
        else:
            runner.submit(call)
        return runner

    def _runner(self) -> BatchRunner[Any]:
        loop = asyncio.get_running_loop()
        runner = self._runners.get(loop)
        if runner is None:
            queue: BatchQueue[Any] = BatchQueue(lambda: self.limits, self._measure if self._batch_size_fn else len)
            run = functools.partial(self._run, self._function)
            runner = BatchRunner(queue, run, self._max_concurrent_batches, _name(self._function))
            self._runners[loop] = runner
            self._warn_if_never_full()
        return runner

    def _warn_if_never_full(self) -> None:
        replica = current_replica()
        accepted = replica.max_ongoing_requests if replica is not None else None
        wanted = self.limits.max_batch_size * self._max_concurrent_batches
        if accepted is not None and accepted < wanted and self._batch_size_fn is None:
            log.warning(
                "batches of %s cannot all be full: max_batch_size x max_concurrent_batches is %d and the deployment's "
                "max_ongoing_requests is %d; raise it",
                _name(self._function),
                wanted,
                accepted,
            )

    # -- sizes -------------------------------------------------------------------------------------------------------

    def _check_size(self, call: BatchCall) -> None:
        if self._batch_size_fn is None:
            return
        size = self._batch_size_fn([call.item])
        if size > self.limits.max_batch_size:
            raise RuntimeError(
                f"One item has size {size} by batch_size_fn and max_batch_size is {self.limits.max_batch_size}. "
                "Raise max_batch_size or split the item."
            )

    def _measure(self, calls: Collection[BatchCall]) -> float:
        assert self._batch_size_fn is not None
        try:
            return self._batch_size_fn([call.item for call in calls])
        except Exception:  # user code; items that cannot be measured together are not put together
            log.exception("batch_size_fn failed for %d items; the last one gets into another batch", len(calls))
            return math.inf

    # -- debugging ---------------------------------------------------------------------------------------------------

    def start_times(self) -> StartTimes:
        """When the batches began that run on this loop now."""
        offset_s = time.time() - time.monotonic()
        return StartTimes([at + offset_s for at in self._runner().started_at.values()])

    async def is_alive(self) -> bool:
        """Whether batches are formed on this loop: from the first look on, for as long as it runs."""
        return self._runner() is not None

    async def task_stack(self) -> str:
        """The stacks of the tasks that run batches on this loop; empty when none runs."""
        return "\n".join(line for task in self._runner().started_at for line in _stack(task))


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function)).rpartition("<locals>.")[2]


def _stack(task: asyncio.Task[None]) -> Iterator[str]:
    """Where a task waits, outermost first; `Task.get_stack` of one that waits has the outermost frame only."""
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_qualname} at {frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = awaited.cr_await
