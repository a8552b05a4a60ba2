"""Ray and calls: the only file of the data plane that knows Ray.

* An ObjectRef given as an argument arrives as its value.
* A response can be had as a real ObjectRef before its result exists: the executing replica is asked to keep the
  result, and its actor's answer to `collect` is the ObjectRef. References are made by whoever uses them, never
  serialized by us, so Ray's own counting decides how long a value lives. (Those that users put into containers are.)
* Values too large for a session go through Ray's object store: arguments are put there and deposited at the replica
that
  gets the call, results stay at their replica and are collected by whoever needs the value.
"""

from __future__ import annotations

import asyncio
import copyreg
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from functools import lru_cache
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError

from meshserve.launch.parcel import Parcel
from meshserve.launch.ray_errors import also_of_ray as also_of_ray
from meshserve.model.call import Encoding, Payload
from meshserve.model.failure import Failure
from meshserve.routing.crossing import to_io
from meshserve.settings import NAMESPACE
from meshserve.wire.claims import Claim, decode_claim, encode_claim
from meshserve.wire.failures import exception_of, failure_of
from meshserve.wire.values import RaisedResult, decode_value, encode_value

Settled = Callable[[Payload | None, Failure | None], None]


def _sent_out_of_band(ref: Any) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    """How ObjectRefs of the user's are pickled by us, in containers and in results.

    By itself an ObjectRef pickles as a number, and whoever unpickled that would wait for it for ever. Ray's own
    pickle of it says where its object is. Ray cannot count references that it does not carry: it keeps the object
    until this process ends.
    """
    return ray.cloudpickle.loads, (ray.cloudpickle.dumps(ref),)


copyreg.pickle(ray.ObjectRef, _sent_out_of_band)  # Ray's own pickler looks elsewhere first


def is_object_ref(value: object) -> bool:
    """Whether a value is a Ray ObjectRef."""
    return isinstance(value, ray.ObjectRef)


class RefArgument:
    """An ObjectRef among the arguments of a call: fetched by Ray, then sent as a value.

    Args:
        ref: the reference.
    """

    def __init__(self, ref: Any) -> None:
        self._ref = ref

    def when_settled(self, callback: Settled) -> None:
        """Calls back on the I/O thread with the encoded value, or why there is none."""
        self._ref.future().add_done_callback(lambda future: _encode_fetched(future, callback))


def _encode_fetched(future: Future[Any], callback: Settled) -> None:
    """On a thread of Ray's."""
    try:
        payload = encode_value(future.result())
    except Exception as error:  # noqa: BLE001 - whatever the referenced task raised becomes the call's failure
        to_io(callback, None, failure_of(error))
    else:
        to_io(callback, payload, None)


def when_referable(response: Any, callback: Settled) -> None:
    """Calls back with a claim on a response's result once its replica keeps it, or with the result if that comes first.

    On the I/O thread. A failure is given as a payload too: whoever looks at the reference gets it raised.
    """
    key = uuid4().hex
    told = False

    def tell(payload: Payload) -> None:
        nonlocal told
        if not told:
            told = True
            callback(payload, None)

    def settled(payload: Payload | None, failure: Failure | None) -> None:
        tell(
            encode_value(RaisedResult(exception_of(failure))) if failure is not None else payload or encode_value(None)
        )

    response._retain(key, lambda actor_name: tell(encode_claim(Claim(actor_name, key))))
    response._when_settled(settled)


def when_claimable(response: Any, callback: Settled) -> None:
    """Calls back with a claim on a response's result once it will be kept, or with the outcome if that comes first.

    On the I/O thread. For arguments that are to arrive as values: unlike `when_referable`, a failure is one.
    """
    key = uuid4().hex
    told = False

    def tell(payload: Payload | None, failure: Failure | None) -> None:
        nonlocal told
        if not told:
            told = True
            callback(payload, failure)

    response._retain(key, lambda actor_name: tell(encode_claim(Claim(actor_name, key)), None))
    response._when_settled(tell)


def collect_value(claim: Claim) -> Any:
    """The value of a result that was not there when the claim was made; blocks, raises what its call raised."""
    return ray.get(_actor(claim.actor_name).collect.remote(claim.key))


def make_reference(payload: Payload) -> Any:
    """An ObjectRef for a result, or for the claim on it. May block shortly, as `ray.put` does."""
    if payload.encoding is Encoding.CLAIM:
        claim = decode_claim(payload)
        if claim.size_bytes:  # it is there, in its encoded form
            return ray.put(decode_value(collect_parcel_sync(claim)))
        return _actor(claim.actor_name).collect.remote(claim.key)
    value = decode_value(payload)
    if not ray.is_initialized():
        return LocalReference(value)
    return _raising().remote(value.error) if isinstance(value, RaisedResult) else ray.put(value)


class LocalReference:
    """Takes the place of an ObjectRef in a process without Ray (local testing mode): awaited, it gives the result.

    Args:
        result: the value, or a `RaisedResult`.
    """

    def __init__(self, result: Any) -> None:
        self._result = result

    def __await__(self) -> Generator[None, None, Any]:
        if isinstance(self._result, RaisedResult):
            raise self._result.error
        return self._result
        yield  # what makes this a generator

    def _when_settled(self, callback: Settled) -> None:
        """As that of a response: as an argument of a call it arrives as its value."""
        if isinstance(self._result, RaisedResult):
            callback(None, failure_of(self._result.error))
        else:
            callback(encode_value(self._result), None)


def is_connected() -> bool:
    """Whether this process is part of a Ray cluster."""
    return bool(ray.is_initialized())


def put_parcel(payload: Payload) -> Any:
    """Puts a large encoded value into the object store; blocks for the time of a copy."""
    return ray.put(Parcel(payload))


def deposit(key: str, ref: Any, actor_name: str) -> None:
    """Brings a large encoded value to a replica, under a key."""
    _actor(actor_name).deposit.remote(key, ref)


async def collect_parcel(claim: Claim) -> Payload:
    """Collects a large result; on any loop."""
    parcel: Parcel = await _actor(claim.actor_name).parcel.remote(claim.key)
    return parcel.payload()


def collect_parcel_sync(claim: Claim) -> Payload:
    """Collects a large result; blocks."""
    parcel: Parcel = ray.get(_actor(claim.actor_name).parcel.remote(claim.key))
    return parcel.payload()


def release_parcel(claim: Claim) -> None:
    """Says that nobody will ask for a large result any more."""
    try:
        _actor(claim.actor_name).release.remote(claim.key)
    except (ValueError, RayError):
        pass  # its replica is gone, and the value with it


async def object_ref_of(response: Any) -> Any:
    """The ObjectRef of a response, once a replica has the call."""
    payload = await asyncio.wrap_future(_referable(response))
    return await asyncio.to_thread(make_reference, payload)


def object_ref_of_sync(response: Any, timeout_s: float | None) -> Any:
    """The ObjectRef of a response, once a replica has the call; raises TimeoutError."""
    return make_reference(_referable(response).result(timeout_s))


def put_items(items: Iterator[Any]) -> Iterator[Any]:
    """An ObjectRef for each item."""
    for item in items:
        yield ray.put(item) if ray.is_initialized() else LocalReference(item)


async def put(value: Any) -> Any:
    """An ObjectRef for a value."""
    return await asyncio.to_thread(ray.put, value) if ray.is_initialized() else LocalReference(value)


def _referable(response: Any) -> Future[Payload]:
    future: Future[Payload] = Future()

    def told(payload: Payload | None, failure: Failure | None) -> None:
        assert payload is not None
        future.set_result(payload)

    to_io(when_referable, response, told)
    return future


@lru_cache(maxsize=1024)
def _actor(name: str) -> Any:
    return ray.get_actor(name, namespace=NAMESPACE)


@lru_cache(maxsize=1)
def _raising() -> Any:
    """A Ray task that raises, for references to results that were errors."""

    def raise_it(error: BaseException) -> None:
        raise error

    return ray.remote(num_cpus=0)(raise_it)
