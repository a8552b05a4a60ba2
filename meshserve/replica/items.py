"""What a streaming handler returns -> items of the call, at the pace of its consumer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from meshserve.model.call import Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.user_code import UserCode

Encode = Callable[[Any], Payload]
Head = Callable[[], Payload | None]

_END = object()
_ITEMS_BETWEEN_PAUSES = 64
"""A generator that never awaits lets its neighbours run after so many items."""


def is_stream(result: object) -> bool:
    """Whether a handler returned something to iterate item by item."""
    return isinstance(result, AsyncIterator | Iterator)


async def call_handler(user: UserCode, function: Callable[..., Any], sync: bool, *args: Any, **kwargs: Any) -> Any:
    """Calls a handler of either colour and awaits what it returns, unless that is a stream.

    Args:
        sync: whether the function blocks its thread.
    """
    if sync and not inspect.isgeneratorfunction(function):
        result = await user.in_thread(function, *args, **kwargs)
    else:
        result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def send_items(
    user: UserCode, invocation: Invocation, items: AsyncIterator[Any] | Iterator[Any], encode: Encode, head: Head
) -> None:
    """Sends what a generator yields, and closes it.

    Args:
        encode: an item to its payload; runs where the generator runs.
        head: what goes before the first item, asked for when that is there.
    """
    if isinstance(items, AsyncIterator):
        await _send_async(invocation, items, encode, head)
    else:
        await user.in_thread(_send_sync, invocation, items, encode, head)


async def _send_async(invocation: Invocation, items: AsyncIterator[Any], encode: Encode, head: Head) -> None:
    try:
        count = 0
        async for item in items:
            if not count and (first := head()) is not None:
                await invocation.send(first)
            payload = encode(item)
            if not invocation.try_send(payload):
                await invocation.send(payload)
            count += 1
            if count % _ITEMS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


def _send_sync(invocation: Invocation, items: Iterator[Any], encode: Encode, head: Head) -> None:
    """Pulls a synchronous generator on a worker thread; it is never ahead of its consumer by more than the credits."""
    try:
        item = next(items, _END)
        if item is not _END and (first := head()) is not None:
            invocation.send_from_thread(first)
        while item is not _END and invocation.send_from_thread(encode(item)):
            item = next(items, _END)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
