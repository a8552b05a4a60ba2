"""`@serve.batch`: called with single items, runs with many.

A decorated function takes single arguments from its callers and hands lists of them to the function that was
decorated. See `core.batch` for when a batch closes and `user.batch_call` for what its members get.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from numbers import Real
from typing import Any, overload

from meshserve.core.batch import BatchLimits
from meshserve.user.batcher import Batcher, BatchSizeFn


@overload
def batch(_function: Callable[..., Any], /) -> Any: ...


@overload
def batch(
    _function: None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: BatchSizeFn | None = None,
) -> Callable[[Callable[..., Any]], Any]: ...


def batch(
    _function: Any = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: BatchSizeFn | None = None,
) -> Any:
    """Makes a function or method that handles lists callable with single items.

    The decorated function must be `async def`, take a list for each argument and return a list with one result for each
    item. An async generator yields such lists instead, one item for each stream in every step; `StopIteration` in the
    place of an item ends that stream early. All members of a batch get what the function raises. Calls for different
    models (`serve.multiplexed`) share a batch but not a call of the function. A call that is cancelled before
    its batch starts is not in it; later the batch runs on.

    Args:
        max_batch_size: the most items of a batch, or its largest size by `batch_size_fn`; at least 1.
        batch_wait_timeout_s: how long the first item waits for others, in seconds; 0 takes what is there.
        max_concurrent_batches: how many batches of this function run at a time in a replica; at least 1.
        batch_size_fn: gets the list of items (the first argument of each call) and returns their size together.

    Raises:
        TypeError: an argument has the wrong type; or, without arguments, the function is no `async def`.
        ValueError: an argument is out of range.
    """
    if _function is not None and not inspect.iscoroutinefunction(_function):
        raise TypeError(
            f"Functions decorated with @serve.batch must be 'async def', which {_function!r} is not. "
            "An async generator takes the form @serve.batch(...), with parentheses."
        )
    limits = BatchLimits(checked_size(max_batch_size), checked_timeout(batch_wait_timeout_s))
    if not _is_whole(max_concurrent_batches) or max_concurrent_batches < 1:
        raise TypeError(f"max_concurrent_batches must be an integer >= 1, got {max_concurrent_batches!r}.")
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn must be a callable or None, got {batch_size_fn!r}.")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        batcher = Batcher(function, limits, int(max_concurrent_batches), batch_size_fn)

        @functools.wraps(function)
        async def unary(*args: Any, **kwargs: Any) -> Any:
            return await batcher.unary(args, kwargs)

        @functools.wraps(function)
        def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            return batcher.stream(args, kwargs)

        return attach(batcher, stream if inspect.isasyncgenfunction(function) else unary)

    return decorate if _function is None else decorate(_function)


def attach(batcher: Batcher, decorated: Callable[..., Any]) -> Callable[..., Any]:
    """Hangs setters and getters on the function that callers see."""

    def set_max_batch_size(max_batch_size: int) -> None:
        batcher.limits = replace(batcher.limits, max_batch_size=checked_size(max_batch_size))

    def set_batch_wait_timeout_s(batch_wait_timeout_s: float) -> None:
        batcher.limits = replace(batcher.limits, batch_wait_timeout_s=checked_timeout(batch_wait_timeout_s))

    for name, value in {
        "set_max_batch_size": set_max_batch_size,
        "set_batch_wait_timeout_s": set_batch_wait_timeout_s,
        "_get_max_batch_size": lambda: batcher.limits.max_batch_size,
        "_get_batch_wait_timeout_s": lambda: batcher.limits.batch_wait_timeout_s,
        "_get_curr_iteration_start_times": batcher.start_times,
        "_is_batching_task_alive": batcher.is_alive,
        "_get_handling_task_stack": batcher.task_stack,
    }.items():
        setattr(decorated, name, value)
    return decorated


def checked_size(max_batch_size: Any) -> int:
    """Reads `max_batch_size`.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 1.
    """
    if not _is_whole(max_batch_size):
        raise TypeError(f"max_batch_size must be an integer >= 1, got {max_batch_size!r}.")
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size must be an integer >= 1, got {max_batch_size!r}.")
    return int(max_batch_size)


def checked_timeout(batch_wait_timeout_s: object) -> float:
    """Reads `batch_wait_timeout_s`.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """
    if isinstance(batch_wait_timeout_s, bool) or not isinstance(batch_wait_timeout_s, Real):
        raise TypeError(f"batch_wait_timeout_s must be a float >= 0, got {batch_wait_timeout_s!r}.")
    timeout_s = float(batch_wait_timeout_s)
    if not timeout_s >= 0:
        raise ValueError(f"batch_wait_timeout_s must be a float >= 0, got {batch_wait_timeout_s!r}.")
    return timeout_s


def _is_whole(number: object) -> bool:
    if isinstance(number, bool):
        return False
    return isinstance(number, int) or (isinstance(number, float) and number.is_integer())
