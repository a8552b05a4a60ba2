"""One call among those of a batch, and how a batch of them meets the user's function.

A call is unary (`UnaryCall`, a future) or a stream (`StreamCall`, a buffer); `run_unary` and `run_stream` hand the
arguments to the user's function as lists and the results back to the calls, whatever happens in between.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import Context, copy_context
from typing import Any

from meshserve.errors import MeshServeException
from meshserve.user.context import get_multiplexed_model_id

MAX_LAG_ITEMS = 10_000
"""How far a consumer may fall behind its batch. A stream that waited for its slowest consumer would hold up the other
members, and one that buffered without end would fill the memory."""


class BatchCall(ABC):
    """What both kinds have in common: arguments, and the context in which the call was made.

    Args:
        owner: the instance whose method was called, as a tuple; empty for a function.

    Attributes:
        queued_at: on the monotonic clock; set by who queues it.
    """

    __slots__ = ("args", "context", "kwargs", "model_id", "owner", "queued_at")

    def __init__(self, owner: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.owner = owner
        self.args = args
        self.kwargs = kwargs
        self.queued_at = 0.0
        self.model_id = get_multiplexed_model_id()
        self.context: Context = copy_context()

    @property
    def item(self) -> Any:
        """What a function that measures batches gets to see: the first argument."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    @property
    def group(self) -> tuple[object, ...]:
        """Calls of different groups cannot be in one call of the user's function."""
        return (self.model_id, len(self.args), *self.kwargs)

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Ends the call with what the user's function raised."""


class UnaryCall(BatchCall):
    """A call that waits for one result."""

    __slots__ = ("future",)

    def __init__(self, owner: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(owner, args, kwargs)
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def succeed(self, result: Any) -> None:
        """Ends the call with its result, unless its caller is gone."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class StreamCall(BatchCall):
    """A call that reads items until its stream ends."""

    __slots__ = ("_abandoned", "_ended", "_error", "_items", "_waiter")

    def __init__(self, owner: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(owner, args, kwargs)
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None
        self._items: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def push(self, item: Any) -> bool:
        """Adds an item; False when nobody will read further ones."""
        if self._abandoned or self._ended:
            return False
        if len(self._items) >= MAX_LAG_ITEMS:
            self.fail(MeshServeException(f"This stream was read too slowly: its batch is {MAX_LAG_ITEMS} items ahead."))
            return False
        self._items.append(item)
        self._wake()
        return True

    def finish(self) -> None:
        """Ends the stream after the items pushed so far."""
        self._ended = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self.finish()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abandon(self) -> None:
        """Says that the caller reads no more."""
        self._abandoned = True
        self._items.clear()

    def __aiter__(self) -> StreamCall:
        return self

    async def __anext__(self) -> Any:
        """The next item; items before an error come before the error."""
        while not self._items:
            if self._ended:
                raise self._error if self._error is not None else StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.popleft()


async def run_unary(function: Callable[..., Any], calls: Sequence[UnaryCall]) -> None:
    """Runs one batch of calls of one group; every call has its outcome when this returns.

    Raises:
        BaseException: only what is no Exception: a cancelled task, the end of the process.
    """
    try:
        args, kwargs = as_lists(calls)
        results = one_each(await function(*args, **kwargs), len(calls), function)
        for call, result in zip(calls, results, strict=True):
            call.succeed(result)
    except BaseException as error:  # user code: every member gets what it raised
        for call in calls:
            call.fail(error)
        if not isinstance(error, Exception):
            raise


async def run_stream(function: Callable[..., Any], calls: Sequence[StreamCall]) -> None:
    """Runs one batch of streaming calls of one group until all have ended or nobody reads any more.

    Raises:
        BaseException: only what is no Exception: a cancelled task, the end of the process.
    """
    reading = dict(enumerate(calls))
    try:
        args, kwargs = as_lists(calls)
        async with aclosing(function(*args, **kwargs)) as steps:
            async for step in steps:
                items = one_each(step, len(calls), function)
                for index, call in tuple(reading.items()):
                    if _is_end(items[index]):
                        call.finish()
                        del reading[index]
                    elif not call.push(items[index]):
                        del reading[index]
                if not reading:
                    break
        for call in reading.values():
            call.finish()
    except BaseException as error:  # user code: every member that still reads gets what it raised
        for call in reading.values():
            call.fail(error)
        if not isinstance(error, Exception):
            raise


def as_lists(calls: Sequence[BatchCall]) -> tuple[list[Any], dict[str, list[Any]]]:
    """The arguments of calls of one group as the user's function takes them: a list for each, `self` as it is."""
    first = calls[0]
    args = [[call.args[index] for call in calls] for index in range(len(first.args))]
    kwargs = {name: [call.kwargs[name] for call in calls] for name in first.kwargs}
    return [*first.owner, *args], kwargs


def one_each(results: Any, count: int, function: Callable[..., Any]) -> list[Any]:
    """Checks that the user's function gave one result for each call.

    Raises:
        TypeError: it gave no list.
        MeshServeException: it gave another number of them.
    """
    name = getattr(function, "__qualname__", repr(function))
    if isinstance(results, str | bytes | Mapping) or not hasattr(results, "__len__"):
        raise TypeError(f"{name} is batched and must give a list with one result per request, not {type(results)}.")
    if len(results) != count:
        raise MeshServeException(
            f"{name} got a batch of {count} requests and gave {len(results)} results; it must give one for each."
        )
    return list(results)


def _is_end(item: Any) -> bool:
    return item is StopIteration or item is StopAsyncIteration or isinstance(item, StopIteration | StopAsyncIteration)
