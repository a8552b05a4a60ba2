"""What a handle gives back: the outcome of one call, awaitable in any loop, readable from any thread."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, Generic, TypeVar

from meshserve.errors import CallTimeoutError, MeshServeException, RequestCancelledError
from meshserve.model.call import Encoding, Payload
from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.crossing import to_io
from meshserve.routing.directory import process_directory
from meshserve.routing.scope import RequestScope
from meshserve.routing.service import CANCELLED, Reply
from meshserve.routing.waiting import Waitable
from meshserve.rpc.lending import decoded_apart
from meshserve.wire.claims import Claim, decode_claim
from meshserve.wire.failures import exception_of
from meshserve.wire.values import ReferenceHole, decode_value

R = TypeVar("R")
_NOTHING: Any = object()


class Pending(Waitable):
    """What a call in flight and its caller share; the base of both kinds of response.

    Fields with a usual value have it on the class, so that making one per call stays cheap.

    Attributes:
        request_id: of the request the call belongs to.
    """

    _cancel_requested = False
    _failure: Failure | None = None
    _flight: Any = None
    _holds: tuple[Any, ...] = ()
    _pump: asyncio.Task[None] | None = None

    def __init__(self, request_id: str, scope: RequestScope | None) -> None:
        self.request_id = request_id
        self._scope = scope
        if scope is not None:
            scope.add(self)

    def cancel(self) -> None:
        """Cancels the call: while it waits, on its way, or in user code. Best effort; may be repeated."""
        self._cancel_requested = True
        to_io(self._cancel_flight)

    def cancelled(self) -> bool:
        """Whether `cancel` was called; not whether it came in time."""
        return self._cancel_requested

    def cancel_with_parent(self) -> None:
        """Cancels the call because the request it was made for is over; see `routing.scope.Child`."""
        to_io(self._cancel_flight)

    def _cancel_flight(self) -> None:
        if self._flight is not None:
            self._flight.cancel()
        else:  # not yet started: its arguments are still awaited
            self._failed(CANCELLED)

    def _failed(self, failure: Failure) -> None:
        """Ends the call before it was sent; on the I/O thread."""

    @property
    def _over(self) -> bool:
        """Whether the outcome is known."""
        return False

    def _forget(self) -> None:
        self._holds = ()
        if self._scope is not None:
            self._scope.discard(self)
            self._scope = None

    def _exception(self, failure: Failure) -> BaseException:
        """What the caller sees of a failure: only its own cancel is a RequestCancelledError."""
        if failure.kind is FailureKind.CANCELLED and not self._cancel_requested and not failure.exception:
            return asyncio.CancelledError(failure.message)
        if failure.kind is FailureKind.CANCELLED and self._cancel_requested:
            return self._cancellation()
        both: BaseException = interop().also_of_ray(exception_of(failure, self.request_id))
        return both

    def _cancellation(self) -> BaseException:
        error: BaseException = interop().also_of_ray(RequestCancelledError(self.request_id))
        return error

    def __reduce__(self) -> Any:
        raise MeshServeException(
            f"`{type(self).__name__}` is not serializable: pass it as an argument of another handle call, or await it "
            "and send its value."
        )


class HeldClaim:
    """A claim on a large result, released when nobody here needs it any more.

    Args:
        claim: the claim.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.size_bytes = claim.size_bytes

    def __del__(self) -> None:
        to_io(interop().release_parcel, self.claim)


class DeploymentResponse(Pending, Generic[R]):
    """The outcome of one unary call.

    Await it in a coroutine, call `result()` in synchronous code, or pass it to another call, where it arrives as its
    value. Made by `DeploymentHandle.remote`.
    """

    _reply: Reply | None = None
    _value: Any = _NOTHING
    _error: BaseException | None = None
    _dependents: list[Callable[[Payload | None, Failure | None], None]] | None = None
    _wishes: list[tuple[str, Callable[[str], None]]] | None = None
    _claim: HeldClaim | None = None

    # -- I/O thread ----------------------------------------------------------------------------------------------

    def _started(self, reply: Reply) -> None:
        """The call is on its way."""
        self._flight = reply
        reply.on_done(self._deliver)
        for key, on_retained in self._wishes or ():
            self._retain(key, on_retained)

    def _retain(self, key: str, on_retained: Callable[[str], None]) -> None:
        """Has the result kept where it is made, as soon as a replica has the call."""
        if self._flight is None:
            self._wishes = [*(self._wishes or ()), (key, on_retained)]
        elif self._flight.retainer is not None:
            self._flight.retainer(key, on_retained)

    def _deliver(self, reply: Reply) -> None:
        if self._reply is None:
            if reply.payload is not None and reply.payload.encoding is Encoding.CLAIM:
                self._claim = HeldClaim(decode_claim(reply.payload))
            self._reply = reply
            self._forget()
            self.wake()
            for callback in self._dependents or ():
                callback(reply.payload, reply.failure)

    def _failed(self, failure: Failure) -> None:
        reply = Reply()
        reply.resolve(None, failure)
        self._deliver(reply)

    def _when_settled(self, callback: Callable[[Payload | None, Failure | None], None]) -> None:
        """Calls back with the undecoded outcome, now or later; for calls that have this response as an argument."""
        if self._reply is not None:
            callback(self._reply.payload, self._reply.failure)
        elif self._dependents is None:
            self._dependents = [callback]
        else:
            self._dependents.append(callback)

    @property
    def _over(self) -> bool:
        return self._reply is not None

    # -- the caller's side ---------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, R]:
        """Waits for the value.

        Raises:
            Exception: what user code raised, with the remote traceback as its cause.
            RequestCancelledError: `cancel` was called on this response.
        """
        while self._reply is None:
            waiter = self.wait_async()
            if self._reply is None:
                yield from waiter
        payload = self._reply.payload
        if payload is not None and (payload.buffers or self._claim is not None) and self._value is _NOTHING:
            if self._claim is not None:
                payload = yield from interop().collect_parcel(self._claim.claim).__await__()
            self._value = yield from decoded_apart(payload).__await__()
        return self._outcome(self._reply)

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> R:
        """Waits for the value in synchronous code.

        Args:
            timeout_s: how long to wait; the call goes on after a timeout and can be waited for again.

        Raises:
            RuntimeError: called inside a running event loop, which it would block.
            TimeoutError: not there in time.
            Exception: what user code raised.
        """
        if not _skip_asyncio_check:
            refuse_in_loop("result()", "await response")
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        while self._reply is None:
            event = self.wait_sync()
            if self._reply is not None:
                break
            left_s = None if deadline is None else deadline - time.monotonic()
            if not event.wait(left_s if left_s is None or left_s > 0 else 0) and self._reply is None:
                raise CallTimeoutError(
                    f"The call did not end within {timeout_s} s; it goes on and can be waited for again."
                )
        if self._claim is not None and self._value is _NOTHING:
            self._value = decode_value(interop().collect_parcel_sync(self._claim.claim))
        try:
            return self._outcome(self._reply)
        except asyncio.CancelledError as error:
            raise self._cancellation() from error

    async def _to_object_ref(self) -> Any:
        """A real `ray.ObjectRef` of the result, before the result exists; waits until a replica has the call.

        Raises:
            RuntimeError: local testing mode, which has no ObjectRefs.
        """
        refuse_without_references()
        return await interop().object_ref_of(self)

    def _to_object_ref_sync(self, _timeout_s: float | None = None, _allow_running_in_asyncio_loop: bool = False) -> Any:
        """As `_to_object_ref`, in synchronous code.

        Raises:
            TimeoutError: no replica had the call in time.
            RuntimeError: called inside a running event loop, or in local testing mode.
        """
        refuse_without_references()
        if not _allow_running_in_asyncio_loop:
            refuse_in_loop("_to_object_ref_sync()", "await response._to_object_ref()")
        return interop().object_ref_of_sync(self, _timeout_s)

    def __reduce__(self) -> Any:
        """Inside the arguments of a call, at any depth: arrives as an ObjectRef of the result."""
        hole = nested_hole(self)
        return super().__reduce__() if hole is None else hole.__reduce__()

    def _outcome(self, reply: Reply) -> R:
        if self._error is not None:
            raise self._error
        if self._value is _NOTHING:
            if reply.failure is not None:
                self._error = self._exception(reply.failure)
                raise self._error
            assert reply.payload is not None
            self._value = decode_value(reply.payload)
        value: R = self._value
        return value

    def __repr__(self) -> str:
        state = "pending" if self._reply is None else "failed" if self._reply.failure else "done"
        return f"<DeploymentResponse {self.request_id} {state}>"


@cache
def interop() -> ModuleType:
    """The bridge to Ray, loaded when it is first needed: a mesh of one process has no Ray."""
    return importlib.import_module("meshserve.routing.interop")


class _Encoding(threading.local):
    """The responses met at depth while arguments are pickled in this thread; None outside of that."""

    nested: list[Any] | None = None
    first: int = 0


_encoding = _Encoding()


@contextmanager
def collecting_nested(first: int) -> Iterator[list[Any]]:
    """While arguments are pickled: collects the responses nested in them, numbering their holes from `first`."""
    _encoding.nested, _encoding.first = [], first
    try:
        yield _encoding.nested
    finally:
        _encoding.nested = None


def nested_hole(response: Any) -> ReferenceHole | None:
    """The hole for a response met while arguments are pickled; None outside of that."""
    if _encoding.nested is None:
        return None
    if response not in _encoding.nested:
        _encoding.nested.append(response)
    return ReferenceHole(_encoding.first + _encoding.nested.index(response))


def refuse_without_references() -> None:
    """Raises RuntimeError where results cannot become ObjectRefs."""
    if process_directory().is_local:
        raise RuntimeError(
            "Converting DeploymentResponses to ObjectRefs is not supported in local testing mode. Await the response."
        )


def refuse_in_loop(what: str, instead: str) -> None:
    """Raises RuntimeError inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"{what} blocks: sync methods should not be called from within an `asyncio` event loop. "
        f"Use `{instead}` instead."
    )
