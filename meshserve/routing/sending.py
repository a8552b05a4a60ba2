"""Starting a handle's call: at once, when the results it needs are there, or while its input is still being made."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any
from uuid import uuid4

from meshserve.errors import UpstreamDiedError
from meshserve.model.call import BorrowedPayload, BroughtPayload, Call, CallKind, Payload, SharedPayload
from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.arguments import EncodedArguments, Upstream
from meshserve.routing.crossing import to_io
from meshserve.routing.directory import process_directory
from meshserve.routing.response import interop
from meshserve.routing.service import ReplyStream, Service, SingleItem
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.lending import in_loop, lend, settled, settled_apart, threads
from meshserve.rpc.segments import segment_pool
from meshserve.settings import INLINE_LIMIT_BYTES, LARGE_ITEM_BYTES
from meshserve.wire.buffers import APART_FROM_BYTES
from meshserve.wire.claims import Claim, decode_claim, encode_claim
from meshserve.wire.failures import exception_of, failure_of
from meshserve.wire.values import encode_value, fill_holes

Connect = Callable[[], Service]


def send(connect: Connect, call: Call, response: Any) -> None:
    """Starts a call whose arguments are complete; on the I/O thread."""
    if response._over:
        return
    try:
        if response._cancel_requested:
            response._cancel_flight()
        elif call.kind is CallKind.UNARY:
            response._started(connect().unary(call))
        else:
            _start_stream(connect, call, response)
    except Exception as error:  # noqa: BLE001 - a fault of ours; the caller must hear of it, not wait for ever
        response._failed(failure_of(error))


def _start_stream(connect: Connect, call: Call, response: Any) -> ReplyStream:
    stream = connect().stream(call)
    response._started(stream if call.kind.streams_out else SingleItem(stream).reply)
    return stream


def claims_usable() -> bool:
    """Whether this process can send and collect large values through Ray: it may leave a cluster and join another."""
    return bool(interop().is_connected()) and not process_directory().is_local


_LOOK_AGAIN_S = 1.0
_looked: tuple[float, bool] = (0.0, False)


def claims_lately_usable() -> bool:
    """As `claims_usable`, up to a second old, at a tenth of the price; for calls that are small themselves."""
    global _looked
    now = time.monotonic()
    if now > _looked[0]:
        _looked = (now + _LOOK_AGAIN_S, claims_usable())
    return _looked[1]


def begin(connect: Connect, call: Call, response: Any, arguments: EncodedArguments) -> None:
    """Starts a call; from its caller's thread.

    Arguments that are lent are copied before this returns, except in a loop that would wait for that.
    """
    if type(arguments.payload) is BorrowedPayload and in_loop():
        if arguments.payload.size_bytes >= APART_FROM_BYTES and arguments.input is None:
            threads.submit(_begin_apart, connect, call, response, arguments)
            return
        arguments.payload = call.payload = settled(arguments.payload)
    _begin(connect, call, response, arguments)


def _begin_apart(connect: Connect, call: Call, response: Any, arguments: EncodedArguments) -> None:
    try:
        _begin(connect, call, response, arguments)
    except Exception as error:  # noqa: BLE001 - nobody waits for this thread; the caller must hear of it
        to_io(response._failed, failure_of(error))


def _begin(connect: Connect, call: Call, response: Any, arguments: EncodedArguments) -> None:
    plain = not arguments.upstream and arguments.input is None
    if arguments.payload.size_bytes > INLINE_LIMIT_BYTES and plain and claims_usable():
        _send_large(connect, call, response, arguments)
        return
    arguments.payload = call.payload = settled(arguments.payload)
    if plain:
        to_io(send, connect, call, response)
    else:
        _send_later(connect, call, response, arguments)


def _send_large(connect: Connect, call: Call, response: Any, arguments: EncodedArguments) -> None:
    """Starts a call whose arguments are too large for a session.

    They are in shared memory, for replicas of this machine, and go through Ray's object store to others. Where there is
    no room they go through the object store at once: what is lent by this thread, the rest by another one, so that
    neither the caller's loop nor the session waits.
    """
    payload = arguments.payload
    if type(payload) is BorrowedPayload:
        payload = segment_pool().store(payload) or payload
    if type(payload) is SharedPayload:
        call.payload, call.on_unshared = payload, partial(_deposit_later, payload)
        to_io(send, connect, call, response)
    elif type(payload) is BorrowedPayload:
        _put(connect, call, response, payload)
    else:
        threads.submit(_put, connect, call, response, payload)


def _put(connect: Connect, call: Call, response: Any, payload: Payload) -> None:
    """Starts a call whose arguments go through the object store; blocks for the time of a copy."""
    key, bridge = uuid4().hex, interop()
    try:
        ref = bridge.put_parcel(payload)
    except Exception as error:  # noqa: BLE001 - the object store may be full
        to_io(response._failed, failure_of(error))
        return
    call.payload = encode_claim(Claim("", key, payload.size_bytes))
    call.on_assigned = partial(bridge.deposit, key, ref)
    to_io(send, connect, call, response)


def _deposit_later(payload: SharedPayload, actor_name: str) -> None:
    """Brings arguments to a replica that cannot read them where they are."""
    bridge, key = interop(), decode_claim(payload.claim).key
    threads.submit(lambda: bridge.deposit(key, bridge.put_parcel(payload), actor_name))


def _send_later(connect: Connect, call: Call, response: Any, arguments: EncodedArguments) -> None:
    """Starts a call that waits for other results, or that streams its input; from the caller's thread."""
    if arguments.input is None:
        to_io(when_complete, connect, call, response, arguments.upstream, send)
        return
    started: Future[ReplyStream] = Future()

    def begin(connect: Connect, call: Call, response: Any) -> None:
        started.set_result(_start_stream(connect, call, response))

    to_io(when_complete, connect, call, response, arguments.upstream, begin)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if isinstance(arguments.input, AsyncIterator):
        if loop is None:
            error = TypeError("An asynchronous generator as an argument needs a running event loop to iterate it.")
            to_io(response._failed, failure_of(error))
            return
        response._pump = loop.create_task(_pump(arguments.input, started, response))
    else:
        threading.Thread(target=_pump_sync, args=(arguments.input, started, response), daemon=True).start()


def when_complete(
    connect: Connect,
    call: Call,
    response: Any,
    upstream: list[Upstream],
    start: Callable[[Connect, Call, Any], None],
) -> None:
    """Starts a call when the results that fill its holes are there; fails it with the first of them that fails."""
    results: list[Payload | None] = [None] * len(upstream)
    missing = len(upstream)

    def arrived(index: int, payload: Payload | None, failure: Failure | None) -> None:
        nonlocal missing
        results[index] = payload
        missing -= 1
        if failure is not None:
            response._failed(_of_downstream(failure, call))
        elif not missing and not response._over:
            call.payload = fill_holes(call.payload, [result for result in results if result is not None])
            start(connect, call, response)

    if not upstream:
        start(connect, call, response)
    for index, wait in enumerate(upstream):
        wait(partial(arrived, index))


def _of_downstream(failure: Failure, call: Call) -> Failure:
    """What the failure of an upstream call is for one that has its response as an argument: itself, but for a death."""
    if failure.kind is not FailureKind.REPLICA_LOST or failure.exception:
        return failure
    message = (
        f"{call.deployment} was not called: a replica died that was to make one of the arguments. {failure.message}"
    )
    return failure_of(UpstreamDiedError(message, exception_of(failure)))


def _store_item(payload: Payload) -> Payload | None:
    """Puts a large item of input where its callee reads it; None where it rides the session. Blocks for a copy.

    As arguments do: in shared memory, and through the object store to others, or at once where there is no room.
    """
    nearby = segment_pool().store(payload)
    if payload.size_bytes < LARGE_ITEM_BYTES or not claims_lately_usable():
        return nearby
    bridge = interop()
    if nearby is not None:
        key, bring = decode_claim(nearby.claim).key, partial(_deposit_later, nearby)
    else:
        key = uuid4().hex
        bring = partial(bridge.deposit, key, bridge.put_parcel(payload))
    claim = encode_claim(Claim("", key, payload.size_bytes))
    return BroughtPayload(claim.body, claim.encoding, (), payload.size_bytes, nearby, bring)


async def _pump(items: AsyncIterator[Any], started: Future[ReplyStream], response: Any) -> None:
    """Sends what an asynchronous generator makes, as the callee has room."""
    stream = await asyncio.wrap_future(started)
    try:
        async for item in items:
            payload = await settled_apart(encode_value(item, lend), _store_item)
            if not await asyncio.wrap_future(io_thread().submit(stream.send(payload))):
                return
        to_io(stream.end_input)
    except Exception as error:  # noqa: BLE001 - the caller's generator may raise anything; the response carries it
        to_io(stream.cancel, failure_of(error))


def _pump_sync(items: Iterator[Any], started: Future[ReplyStream], response: Any) -> None:
    """Sends what a generator makes, as the callee has room; on a thread of its own."""
    stream = started.result()
    try:
        for item in items:
            if not io_thread().submit(stream.send(encode_value(item, _store_item))).result():
                return
        to_io(stream.end_input)
    except Exception as error:  # noqa: BLE001 - the caller's generator may raise anything; the response carries it
        to_io(stream.cancel, failure_of(error))
