"""Calls from handles: pickled arguments in, pickled values out."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from functools import partial
from types import CoroutineType
from typing import Any

from meshserve.model.call import BorrowedPayload, Call, CallKind, Encoding, Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.kept import ArrivingPayload, Kept
from meshserve.replica.running import Running
from meshserve.replica.user_code import UserCode
from meshserve.routing.response import interop
from meshserve.rpc.attachments import attachments
from meshserve.rpc.lending import decoded_apart, is_fixed, is_of_bytes, lend, references_to, settled, settled_apart
from meshserve.rpc.segments import segment_pool
from meshserve.settings import SHARED_FROM_BYTES
from meshserve.wire.buffers import APART_FROM_BYTES
from meshserve.wire.claims import decode_claim
from meshserve.wire.values import Store, decode_arguments, decode_value, encode_plain_value, encode_value, open_chain

_END = object()


class PythonAdapter:
    """See `replica.adapter.Adapter`.

    Args:
        user: the user's code.
        kept: where large arguments are deposited.
    """

    def __init__(self, user: UserCode, kept: Kept) -> None:
        self._user = user
        self._kept = kept
        self._pending: dict[Running, Any] = {}

    def call_sync(self, running: Running) -> Payload | None:
        """Runs a synchronous method on the current worker thread.

        Returns:
            The encoded result; None when it returned something to await, which `run` then does.
        """
        args, kwargs = decode_arguments(running.call.payload, _reference, self._fetch)
        result = self._user.method(running.call.method)(*args, **kwargs)
        if inspect.isawaitable(result):
            self._pending[running] = result
            return None
        encoded = encode_plain_value(result)
        if encoded is None:
            _refuse_generator(result, running.call)
            encoded = encode_value(result, _store_for(running.call))
        return encoded

    async def run(self, invocation: Invocation) -> Payload | None:
        """See `replica.adapter.Adapter`."""
        call = invocation.call
        if call.kind is CallKind.UNARY:
            result = self._pending.pop(invocation, None) if self._pending else None  # type: ignore[call-overload]
            if result is None:
                payload = call.payload
                if payload.encoding is Encoding.PICKLE:
                    args, kwargs = decode_value(payload)
                else:
                    args, kwargs = await self._arguments(payload)
                result = self._user.method(call.method)(*args, **kwargs)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                result = await result
            encoded = encode_plain_value(result)
            if encoded is None:
                _refuse_generator(result, call)
                references = references_to(result)  # as an argument it would be one more
                encoded = await _encoded_apart(result, references, _store_for(call))
            return encoded
        args, kwargs = await self._arguments(call.payload)
        if call.kind.streams_in:
            args = (_values(invocation), *args)
        function = self._user.method(call.method)
        if self._user.is_sync(call.method):
            result = await self._user.in_thread(function, *args, **kwargs)
        else:
            result = function(*args, **kwargs)
        if inspect.isawaitable(result):
            result = await result
        if not call.kind.streams_out:
            references = references_to(result)
            return await _encoded_apart(result, references, _store_for(call))
        if inspect.isasyncgen(result) or isinstance(result, AsyncIterator):
            await _send_async(invocation, result, self._item_store_for(call))
        elif inspect.isgenerator(result) or isinstance(result, Iterator):
            await self._user.in_thread(_send_sync, invocation, result, self._item_store_for(call))
        else:
            raise TypeError(
                f"Called method {call.method!r} with `handle.options(stream=True)` but it did not return a "
                f"generator: it returned {type(result).__name__}. Call it without stream=True, or make it yield."
            )
        return None

    def _item_store_for(self, call: Call) -> Store | None:
        """Where large items of a stream are put: as `_store_for`, or without room there, where Ray fetches them."""
        nearby = _store_for(call)
        if not call.accepts_claims:
            return nearby
        return lambda item: (nearby(item) if nearby is not None else None) or self._kept.store(item)

    async def _arguments(self, payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decodes arguments on the user's loop; waiting for large ones is left to a thread."""
        if payload.encoding is Encoding.CLAIM:
            payload = attachments().attach(payload) or payload
        if payload.encoding is Encoding.PICKLE:
            arguments: tuple[tuple[Any, ...], dict[str, Any]] = await decoded_apart(payload)
            return arguments
        if payload.encoding is Encoding.CLAIM or _holds_claims(payload):
            return await asyncio.to_thread(decode_arguments, payload, _reference, self._fetch)
        return decode_arguments(payload, _reference)

    def _fetch(self, payload: Payload) -> Payload:
        """The value for a claim; blocks."""
        shared = attachments().attach(payload)
        if shared is not None:
            return shared
        claim = decode_claim(payload)
        if not claim.actor_name:
            if claim.segment is not None:
                raise LookupError("an argument of this call is gone: its caller has ended, or given the call up")
            return self._kept.deposited(claim.key)
        if not claim.size_bytes:  # the call that makes it is not over yet
            return encode_value(interop().collect_value(claim))
        fetched: Payload = interop().collect_parcel_sync(claim)
        return fetched


def _holds_claims(chain: Payload) -> bool:
    arguments, results = open_chain(chain)
    return any(part.encoding is Encoding.CLAIM for part in (arguments, *results))


def _reference(payload: Payload) -> Any:
    """An ObjectRef for a result that was passed inside a container."""
    return interop().make_reference(payload)


def _refuse_generator(result: Any, call: Call) -> None:
    """A unary call has one result."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise _needs_stream(call.method)


async def _encoded_apart(value: Any, references: int, store: Store | None) -> Payload:
    """A result or an item. What takes long to copy, and nobody can change, is copied beside the user's loop."""
    if store is None:
        return encode_value(value)
    lent = encode_value(value, lend)
    if type(lent) is not BorrowedPayload:
        return lent
    if lent.size_bytes - len(lent.body) >= APART_FROM_BYTES and len(lent.body) < SHARED_FROM_BYTES:
        if is_of_bytes(lent):
            return await settled_apart(lent, store)
        del lent  # it refers to what shall be referred to by nobody else
        if is_fixed(value, references):
            return await settled_apart(encode_value(value, lend), store)
        lent = encode_value(value, lend)
    return settled(lent, store)


def _store_for(call: Call) -> Store | None:
    """Where a large result of a call is put, if its caller can read it there."""
    if not call.accepts_segments:
        return None
    return partial(_store_beside, call.payload) if call.payload.encoding is Encoding.CLAIM else segment_pool().store


def _store_beside(arguments: Payload, result: Payload) -> Payload | None:
    """Leaves a result where it is when it is a part of the arguments."""
    pool = segment_pool()
    return attachments().within(arguments, result, pool.actor_name) or pool.store(result)


def _needs_stream(method: str) -> TypeError:
    return TypeError(
        f"Method {method!r} returned a generator. You must use `handle.options(stream=True)` to call generators on a "
        "deployment."
    )


async def _values(invocation: Invocation) -> AsyncIterator[Any]:
    """The decoded input items of a call that streams in."""
    async for item in invocation.inputs():
        yield await decoded_apart(await item.arrived() if isinstance(item, ArrivingPayload) else item)


async def _send_async(invocation: Invocation, items: AsyncIterator[Any], store: Store | None) -> None:
    """Sends what an asynchronous generator yields, as fast as the consumer has room."""
    try:
        count = 0
        async for item in items:
            payload = encode_plain_value(item)
            if payload is None:
                references = references_to(item)
                payload = await _encoded_apart(item, references, store)
            if not invocation.try_send(payload):
                await invocation.send(payload)
            count += 1
            if count % 64 == 0:  # a generator that never awaits must not starve its neighbours
                await asyncio.sleep(0)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


def _send_sync(invocation: Invocation, items: Iterator[Any], store: Store | None) -> None:
    """Pulls a synchronous generator on a worker thread; it is never ahead of its consumer by more than the credits."""
    try:
        while (item := next(items, _END)) is not _END:
            if not invocation.send_from_thread(encode_value(item, store)):
                return
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
