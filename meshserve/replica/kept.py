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
from typing import Any
from uuid import uuid4

from meshserve.model.call import Payload, SharedPayload
from meshserve.model.failure import Failure
from meshserve.rpc.attachments import attachments
from meshserve.rpc.segments import segment_pool
from meshserve.settings import LARGE_ITEM_BYTES
from meshserve.wire.claims import Claim, encode_claim
from meshserve.wire.failures import exception_of
from meshserve.wire.values import decode_value, owned

KEEP_S = 600.0
"""A result that nobody came for is dropped after this."""


DEPOSIT_TIMEOUT_S = 60.0
"""How long a call waits for its large arguments; Ray moves a gigabyte between nodes in less."""


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

    def expect(self, key: str, cancel: Callable[[], None]) -> None:
        """A result will be kept; `cancel` ends the call that makes it, should the reference to it be cancelled."""
        self._cancels[key] = cancel

    def keep(self, key: str, payload: Payload | None, failure: Failure | None) -> None:
        """Keeps a result, or why there is none."""
        self._cancels.pop(key, None)
        self._future(key).set_result((payload, failure))
        self._drop_old()

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
        limit = self._now() - KEEP_S
        with self._lock:
            self._parcels[key] = (self._now(), payload)
            for old in [old for old, (since, _) in self._parcels.items() if since < limit]:
                del self._parcels[old]  # its caller has died without a word

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
        """Large arguments have arrived. If their call was refused or has ended, nobody takes them: they go in time."""
        self._deposit(key).set_result(payload)
        limit = self._now() - DEPOSIT_TIMEOUT_S
        with self._lock:
            for old in [old for old, (since, future) in self._deposits.items() if since < limit and future.done()]:
                del self._deposits[old]

    def deposited(self, key: str, timeout_s: float = DEPOSIT_TIMEOUT_S) -> Payload:
        """Waits for large arguments, on a worker thread, and takes them.

        Raises:
            TimeoutError: they did not come.
        """
        try:
            return self._deposit(key).result(timeout_s)
        finally:
            with self._lock:
                self._deposits.pop(key, None)

    def _deposit(self, key: str) -> Future[Payload]:
        with self._lock:
            return self._deposits.setdefault(key, (self._now(), Future()))[1]

    def _future(self, key: str) -> Future[tuple[Payload | None, Failure | None]]:
        with self._lock:
            if key not in self._results:
                self._results[key] = (self._now(), Future())
            return self._results[key][1]

    def _drop_old(self) -> None:
        limit = self._now() - KEEP_S
        with self._lock:
            for key, (since, future) in tuple(self._results.items()):
                if since > limit:
                    break  # in order of age
                if future.done():
                    del self._results[key]
