"""Values that wait here to be collected through Ray, or were brought here by Ray for a call to come.

A caller that wants a result as a `ray.ObjectRef` asks the executing replica to keep it under a key and calls this
process's actor for that key; the answer of that actor call is the ObjectRef, real before the result exists. Nobody
else has to hold the value.

Large values take the same ways with their encoded form, a `Parcel`: results stay here until their caller has forgotten
them, arguments are deposited here before their call needs them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from meshserve.model.call import Payload, SharedPayload
from meshserve.model.failure import Failure
from meshserve.rpc.attachments import attachments
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.segments import segment_pool
from meshserve.settings import LARGE_ITEM_BYTES
from meshserve.wire.claims import Claim, decode_claim, encode_claim
from meshserve.wire.failures import exception_of
from meshserve.wire.values import decode_value, owned

KEEP_S = 600.0
"""A result that nobody came for is dropped after this."""


DEPOSIT_TIMEOUT_S = 60.0
"""How long a call waits for its large arguments; Ray moves a gigabyte between nodes in less."""

SWEEP_S = 15.0
"""How often what has waited for too long is looked for, while anything waits."""


@dataclass(slots=True)
class ArrivingPayload(Payload):
    """A claim on an item of input that Ray brings here; it costs what its value does.

    Attributes:
        value_bytes: the size of the value.
        arrival: the value, once it is here.
    """

    value_bytes: int = 0
    arrival: Future[Payload] = field(default_factory=Future)

    @property
    def size_bytes(self) -> int:
        """Of the value, not of the claim on it."""
        return self.value_bytes

    async def arrived(self) -> Payload:
        """Waits for the value.

        Raises:
            TimeoutError: it did not come.
        """
        async with asyncio.timeout(DEPOSIT_TIMEOUT_S):
            return await asyncio.shield(asyncio.wrap_future(self.arrival))


class Kept:
    """Values by key; from any thread.

    Args:
        now: the monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._parcels: dict[str, tuple[float, Payload]] = {}
        self._deposits: dict[str, tuple[float, Future[Payload]]] = {}
        self._results: dict[str, tuple[float, Future[tuple[Payload | None, Failure | None]]]] = {}
        self._cancels: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._sweeping = False

    def expect(self, key: str, cancel: Callable[[], None]) -> None:
        """A result will be kept; `cancel` ends the call that makes it, should the reference to it be cancelled."""
        self._cancels[key] = cancel

    def keep(self, key: str, payload: Payload | None, failure: Failure | None) -> None:
        """Keeps a result, or why there is none."""
        self._cancels.pop(key, None)
        self._future(key).set_result((payload, failure))
        self._sweep_in_time()

    async def collect(self, key: str) -> Any:
        """Waits for a result and gives it away; raises what the call raised. Cancelled, it cancels the call."""
        try:
            payload, failure = await asyncio.shield(asyncio.wrap_future(self._future(key)))
        except asyncio.CancelledError:
            cancel = self._cancels.pop(key, None)
            if cancel is not None:
                cancel()
            raise
        with self._lock:
            self._results.pop(key, None)
        if failure is not None:
            raise exception_of(failure)
        return decode_value(payload) if payload is not None else None

    # -- large values --------------------------------------------------------------------------------------------

    def keep_parcel(self, key: str, payload: Payload) -> None:
        """Keeps a large result until it is released."""
        with self._lock:
            self._parcels[key] = (self._now(), payload)
        self._sweep_in_time()

    def store(self, payload: Payload) -> SharedPayload | None:
        """Keeps a copy of a large item of a stream; None where nobody can ask for it. See `wire.values.Store`."""
        actor_name = segment_pool().actor_name
        if not actor_name or payload.size_bytes < LARGE_ITEM_BYTES:
            return None
        kept, claim = owned(payload), Claim(actor_name, uuid4().hex, payload.size_bytes)
        self.keep_parcel(claim.key, kept)
        return SharedPayload(kept.body, kept.encoding, kept.buffers, encode_claim(claim))

    def parcel(self, key: str) -> Payload:
        """A large result.

        Raises:
            LookupError: it was released.
        """
        with self._lock:
            kept = self._parcels.get(key)
        found = kept[1] if kept is not None else attachments().passed_on(key) or segment_pool().find(key)
        if found is None:
            raise LookupError("the value was already released by the call that made it")
        return found

    def release(self, key: str) -> None:
        """Drops a large result."""
        with self._lock:
            self._parcels.pop(key, None)

    def deposit(self, key: str, payload: Payload) -> None:
        """Large arguments, or an item of input, have arrived.

        If their call was refused or has ended, nobody takes them: they go in time.
        """
        self._meet(key).set_result(payload)
        self._sweep_in_time()

    def deposited(self, key: str, timeout_s: float = DEPOSIT_TIMEOUT_S) -> Payload:
        """Waits for large arguments, on a worker thread, and takes them.

        Raises:
            TimeoutError: they did not come.
        """
        try:
            return self._meet(key).result(timeout_s)
        finally:
            with self._lock:
                self._deposits.pop(key, None)

    def arriving(self, claim: Payload) -> ArrivingPayload:
        """An item of input that was or will be deposited; takes it as soon as it is here."""
        named = decode_claim(claim)
        return ArrivingPayload(claim.body, claim.encoding, (), named.size_bytes, self._meet(named.key))

    def _meet(self, key: str) -> Future[Payload]:
        """Where who brings a value and who takes it meet: whoever comes second leaves nothing behind."""
        with self._lock:
            waiting = self._deposits.pop(key, None)
            if waiting is not None:
                return waiting[1]
            future: Future[Payload] = Future()
            self._deposits[key] = (self._now(), future)
            return future

    def _future(self, key: str) -> Future[tuple[Payload | None, Failure | None]]:
        with self._lock:
            if key not in self._results:
                self._results[key] = (self._now(), Future())
            return self._results[key][1]

    # -- what nobody comes for -----------------------------------------------------------------------------------

    def drop_old(self) -> bool:
        """Drops what has waited for too long: its caller has died without a word, or its call has ended.

        Returns:
            Whether anything is left.
        """
        now = self._now()
        with self._lock:
            for key in [key for key, (since, _) in self._parcels.items() if since < now - KEEP_S]:
                del self._parcels[key]
            for key in [key for key, (since, _) in self._deposits.items() if since < now - DEPOSIT_TIMEOUT_S]:
                del self._deposits[key]
            for key, (since, future) in tuple(self._results.items()):
                if since < now - KEEP_S and future.done():
                    del self._results[key]
            return bool(self._parcels or self._deposits or self._results)

    def _sweep_in_time(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            io_thread().call_soon(self._sweep_later)

    def _sweep_later(self) -> None:
        io_thread().loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False  # before the look: what comes after it has the next one
        if self.drop_old():
            self._sweep_in_time()
