"""Large values in shared memory: one copy, read in place by other processes, used again when nobody reads."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import wraps
from unittest import mock

import numpy as np
import pytest
from conditions import until
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import BroughtPayload, CallKind, Encoding, Payload, SharedPayload
from meshserve.model.options import DeploymentOptions
from meshserve.replica.kept import DEPOSIT_TIMEOUT_S, Kept
from meshserve.routing.service import CallFailed, ReplyStream
from meshserve.rpc.attachments import Attachments, can_read, memory_probe
from meshserve.rpc.segments import IDLE_S, PROMISE_S, SegmentPool, segment_pool
from meshserve.telemetry.caller import SessionMetrics
from meshserve.telemetry.catalogue import SESSION_SENT
from meshserve.wire.claims import Claim, decode_claim, encode_claim
from meshserve.wire.values import (
    Hole,
    decode_arguments,
    decode_value,
    encode_arguments,
    encode_value,
    fill_holes,
)

MB = 1 << 20

READER = """
import pickle, sys
from meshserve.rpc.attachments import Attachments, can_read
from meshserve.wire.values import decode_value

attachments, value = Attachments(), None
for line in sys.stdin.buffer:
    command, argument = pickle.loads(bytes.fromhex(line.decode()))
    if command == "attach":
        payload = attachments.attach(argument)
        value = None if payload is None else decode_value(payload)
        del payload
        answer = None if value is None else (int(value.sum()), bool(value.flags.writeable))
    elif command == "sum":
        answer = int(value.sum())
    elif command == "forget":
        value = answer = None
    else:
        answer = can_read(argument)
    print(pickle.dumps(answer).hex(), flush=True)
"""


class Reader:
    """Another process that reads this one's shared memory."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, command: str, argument: object = None) -> object:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(pickle.dumps((command, argument)).hex(), file=self._process.stdin, flush=True)
        return pickle.loads(bytes.fromhex(self._process.stdout.readline()))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.kill()


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ones(count: int) -> np.ndarray:
    return np.ones(count, dtype=np.uint8)


def stored(pool: SegmentPool, value: object) -> SharedPayload:
    payload = encode_value(value, pool.store)
    assert type(payload) is SharedPayload
    return payload


def file_of(payload: SharedPayload) -> int:
    segment = decode_claim(payload.claim).segment
    assert segment is not None
    return segment.fd


def test_another_process_reads_a_value_in_place_and_cannot_write_it(reader: Reader) -> None:
    pool = SegmentPool(100 * MB)
    payload = stored(pool, ones(3 * MB))
    assert reader.do("attach", payload.claim) == (3 * MB, False)
    assert reader.do("can read", memory_probe()) is True


def test_what_the_sender_changes_after_sending_is_not_seen(reader: Reader) -> None:
    pool, value = SegmentPool(100 * MB), ones(MB)
    payload = stored(pool, value)
    value[:] = 7
    assert reader.do("attach", payload.claim) == (MB, False)


def test_a_segment_is_used_again_only_when_nobody_reads_it_in_any_process(reader: Reader) -> None:
    pool = SegmentPool(100 * MB)
    first = stored(pool, ones(MB))
    number, claim = file_of(first), first.claim
    reader.do("attach", claim)
    del first
    second = stored(pool, np.zeros(MB, dtype=np.uint8))
    assert file_of(second) != number, "the other process reads the first value still"
    assert reader.do("sum") == MB
    reader.do("forget")
    third = stored(pool, ones(MB))
    assert file_of(third) == number
    assert reader.do("attach", claim) is None, "what the claim was on is gone"
    assert reader.do("attach", third.claim) == (MB, False), "though it is in the same place"


def test_the_owner_counts_as_a_reader_while_it_refers_to_any_part() -> None:
    pool = SegmentPool(100 * MB)
    payload = stored(pool, ones(MB))
    part, number = decode_value(payload)[:10], file_of(payload)
    del payload
    other = stored(pool, np.zeros(MB, dtype=np.uint8))
    assert file_of(other) != number and part.sum() == 10
    del part
    assert file_of(stored(pool, ones(MB))) == number


def test_values_without_buffers_keep_their_memory_as_long_as_their_payload_does() -> None:
    pool, texts = SegmentPool(100 * MB), [letter * MB for letter in "abc"]
    payloads = [stored(pool, text) for text in texts]
    read = [Attachments().attach(payload.claim) for payload in payloads]
    assert [decode_value(payload) for payload in read if payload] == texts
    claim = payloads[0].claim
    del payloads
    stored(pool, "d" * MB)
    again = Attachments().attach(claim)
    assert again is not None and decode_value(again) == texts[0], "it is passed on by who has read it"


def test_a_reader_that_dies_gives_the_segment_back(reader: Reader) -> None:
    pool = SegmentPool(100 * MB)
    payload = stored(pool, ones(MB))
    number = file_of(payload)
    reader.do("attach", payload.claim)
    del payload
    reader.kill()
    assert file_of(stored(pool, ones(MB))) == number


def test_a_child_that_forgets_a_value_does_not_unlock_it_for_its_parent() -> None:
    pool = SegmentPool(100 * MB)
    payload = stored(pool, ones(MB))
    number, value = file_of(payload), decode_value(Attachments().attach(payload.claim) or payload)
    del payload
    child = os.fork()
    if child == 0:
        del value  # no more: a child that collected what its parent had of gRPC would wait for threads it has not got
        os._exit(0)
    os.waitpid(child, 0)
    assert file_of(stored(pool, np.zeros(MB, dtype=np.uint8))) != number
    assert value.sum() == MB


def test_a_promised_value_waits_for_its_reader_and_not_for_ever(reader: Reader) -> None:
    clock = Clock()
    pool = SegmentPool(100 * MB, clock)
    payload = stored(pool, ones(MB))
    number, claim = file_of(payload), payload.claim
    pool.promise(decode_claim(claim).key)
    del payload
    waiting = stored(pool, ones(MB))
    assert file_of(waiting) != number
    assert reader.do("attach", claim) == (MB, False)
    reader.do("forget")
    again = stored(pool, ones(MB))
    assert file_of(again) == number, "it was read"
    pool.promise(decode_claim(again.claim).key)
    del again
    clock.now += PROMISE_S + 1
    assert file_of(stored(pool, ones(MB))) == number, "nobody came"


def test_memory_has_a_limit_and_idle_memory_is_given_back() -> None:
    clock = Clock()
    pool = SegmentPool(8 * MB, clock)
    values = [stored(pool, ones(3 * MB)), stored(pool, ones(3 * MB))]
    assert pool.store(Payload(b"x" * MB, Encoding.PICKLE)) is None, "there is no room, so it goes another way"
    assert type(encode_value(ones(MB), pool.store)) is Payload
    values.clear()
    stored(pool, ones(MB))
    for _ in range(2):  # found to be free, and idle since
        clock.now += IDLE_S + 1
        pool._sweep()
    assert pool.size_bytes == 0


def test_nothing_is_stored_where_shared_memory_is_turned_off() -> None:
    assert type(encode_value(ones(MB), SegmentPool(0).store)) is Payload


def test_unreadable_claims_are_none_and_unreadable_probes_false() -> None:
    pool = SegmentPool(100 * MB)
    payload = stored(pool, ones(MB))
    claim = decode_claim(payload.claim)
    gone = Payload(payload.claim.body.replace(claim.key.encode(), b"0" * len(claim.key)), Encoding.CLAIM)
    assert Attachments().attach(gone) is None
    for probe in ("", "nonsense", "1:2", "1:2:3:4", f"{os.getpid()}:999999:{'0' * 32}", f"{os.getpid()}:0:{'0' * 32}"):
        assert not can_read(probe)


def test_a_value_is_found_by_its_key_as_long_as_it_is_there() -> None:
    pool = SegmentPool(100 * MB)
    payload = stored(pool, ones(MB))
    key = decode_claim(payload.claim).key
    found = pool.find(key)
    assert found is not None and decode_value(found).sum() == MB
    del payload
    stored(pool, np.zeros(MB, dtype=np.uint8))
    assert pool.find(key) is None


@pytest.mark.parametrize(
    "value",
    [b"x" * (2 * MB), bytearray(b"y" * (2 * MB)), "z" * (2 * MB), [b"x" * MB, "y"], {"a": b"x" * MB}, (b"", b"x" * MB)],
    ids=lambda value: type(value).__name__,
)
def test_large_values_of_builtin_types_keep_their_type(value: object) -> None:
    pool = SegmentPool(100 * MB)
    assert decode_value(encode_value(value, pool.store)) == value
    assert type(decode_value(encode_value(value, pool.store))) is type(value)
    assert decode_value(encode_arguments((value,), {"k": value}, pool.store)) == ((value,), {"k": value})
    assert decode_value(encode_value(value)) == value


def test_large_arguments_that_wait_for_a_result_can_be_read_in_place_and_sent_whole() -> None:
    arguments = encode_arguments((Hole(0), ones(MB)), {}, SegmentPool(100 * MB).store)
    filled = fill_holes(arguments, [encode_value(7)])
    assert type(filled) is SharedPayload and filled.claim.size_bytes < 10_000
    for payload in (filled, filled.claim):
        (seven, array), _ = decode_arguments(payload, fetch=lambda claim: Attachments().attach(claim) or claim)
        assert seven == 7 and array.sum() == MB


# -- on a session --------------------------------------------------------------------------------------------------


class Model:
    """Remembers what it was given, if it is told to."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    async def echo(self, value: np.ndarray) -> np.ndarray:
        return value

    def second_half(self, value: np.ndarray) -> np.ndarray:
        return value[len(value) // 2 :]

    async def with_another(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return value, value + 1

    async def kept_first(self, value: np.ndarray) -> np.ndarray:
        return self.kept[0]

    def total(self, value: np.ndarray) -> int:
        return int(value.sum())

    async def keep(self, value: np.ndarray) -> None:
        self.kept.append(value)

    async def totals(self) -> list[int]:
        return [int(value.sum()) for value in self.kept]

    async def parts(self, value: np.ndarray, count: int) -> AsyncIterator[np.ndarray]:
        for number in range(count):
            yield value + number

    def sync_parts(self, value: np.ndarray, count: int) -> Iterator[np.ndarray]:
        for number in range(count):
            yield value + number

    async def sums(self, values: AsyncIterator[np.ndarray]) -> AsyncIterator[tuple[int, bool]]:
        async for value in values:
            yield int(value.sum()), bool(value.flags.writeable)

    def slow_ones(self, count: int) -> np.ndarray:
        time.sleep(0.05)  # synchronous code is not interrupted: it has a result though its call was cancelled
        return ones(count)

    async def slow(self, value: np.ndarray) -> int:
        await asyncio.sleep(60)
        return 0


def large_call(method: str, *args: object) -> object:
    """A call as handles make it."""
    made = call(method)
    made.payload = encode_arguments(args, {}, segment_pool().store)
    made.accepts_segments = True
    return made


def sum_counted(metrics: SessionMetrics) -> float:
    """Bytes that were written to sessions."""
    return sum(value for metric, _, value in metrics.read() if metric is SESSION_SENT)


def sum_sent(replica: LocalReplica) -> float:
    """Bytes that the replica has written to sessions."""
    return sum_counted(replica.door.sending)


@on_io
async def test_large_arguments_and_results_do_not_ride_the_session() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        before = sum_sent(replica)
        payload = await mesh.router.unary(large_call("echo", ones(5 * MB)))
        assert decode_value(payload).sum() == 5 * MB
        assert decode_value(await mesh.router.unary(large_call("total", ones(5 * MB)))) == 5 * MB
        assert sum_sent(replica) - before < 10_000, "only claims were sent"


def without_shared_memory(test: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Runs a test as if the two processes were on different machines."""

    @wraps(test)
    async def run() -> None:
        cannot_read = mock.patch("meshserve.replica.session_end.can_read", return_value=False)
        with cannot_read, mock.patch.object(Attachments, "attach", return_value=None):
            await test()

    return run


@on_io
@without_shared_memory
async def test_a_replica_of_another_machine_gets_the_arguments_themselves() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        assert decode_value(await mesh.router.unary(large_call("total", ones(5 * MB)))) == 5 * MB
        assert replica.admission.ongoing == 0


@on_io
@without_shared_memory
async def test_a_replica_of_another_machine_waits_for_arguments_that_go_another_way() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        made, told = large_call("total", ones(5 * MB)), []
        made.on_unshared = told.append
        reply = mesh.router.unary(made)
        await until(lambda: told and replica.admission.ongoing == 1)
        assert told == [replica.target.actor_name]
        arrived = pickle.loads(pickle.dumps(decode_value(made.payload)))
        replica.runner._python._kept.deposit(decode_claim(made.payload.claim).key, encode_value(arrived))
        assert decode_value(await reply) == 5 * MB


def test_arguments_that_nobody_came_for_are_dropped() -> None:
    clock = Clock()
    kept = Kept(clock)
    kept.deposit("refused", encode_value(1))
    kept.deposit("taken", encode_value(2))
    assert decode_value(kept.deposited("taken")) == 2
    clock.now += DEPOSIT_TIMEOUT_S + 1
    kept.deposit("new", encode_value(3))
    assert kept.drop_old(), "the new one waits still"
    assert decode_value(kept.deposited("new")) == 3
    assert not kept.drop_old()
    with pytest.raises(TimeoutError):
        kept.deposited("refused", timeout_s=0)


@on_io
async def test_a_call_whose_arguments_are_gone_fails_at_once() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        made = large_call("total", ones(5 * MB))
        claim = decode_claim(made.payload.claim)
        made.payload = encode_claim(replace(claim, key="0" * len(claim.key)))
        with pytest.raises(CallFailed, match="its caller has ended, or given the call up"):
            await mesh.router.unary(made)
        assert replica.admission.ongoing == 0


@on_io
async def test_arguments_that_user_code_keeps_stay_as_they_are() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        for number in range(1, 6):
            await mesh.router.unary(large_call("keep", np.full(MB, number, dtype=np.uint8)))
        totals = decode_value(await mesh.router.unary(large_call("totals")))
        assert totals == [number * MB for number in range(1, 6)]


async def taken_all(stream: ReplyStream) -> list[Payload]:
    items: list[Payload] = []
    while part := await stream.take():
        items += part
    return items


@on_io
async def test_large_items_of_a_stream_do_not_ride_the_session() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        for method in ("parts", "sync_parts"):
            made = large_call(method, ones(5 * MB), 4)
            made.kind = CallKind.SERVER_STREAM
            before = sum_sent(replica)
            items = await taken_all(mesh.router.stream(made))
            assert sum_sent(replica) - before < 10_000, "only claims were sent"
            assert [int(decode_value(item).mean()) for item in items] == [1, 2, 3, 4]
            assert all(type(item) is SharedPayload for item in items)


@on_io
async def test_large_items_of_input_do_not_ride_the_session() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        made = large_call("sums")
        made.kind = CallKind.BIDI_STREAM
        stream = mesh.router.stream(made)
        metrics = mesh.router.replicas[0].session.metrics
        before = sum_counted(metrics)
        for number in range(3):
            assert await stream.send(encode_value(np.full(MB, number, dtype=np.uint8), segment_pool().store))
        stream.end_input()
        items = await taken_all(stream)
        assert [decode_value(item) for item in items] == [(0, False), (MB, False), (2 * MB, False)]
        assert sum_counted(metrics) - before < 10_000


@on_io
@without_shared_memory
async def test_large_items_reach_another_machine_in_the_session() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        made = call("parts", ones(2 * MB), 2)
        made.kind, made.accepts_segments = CallKind.SERVER_STREAM, True
        assert [int(decode_value(item).mean()) for item in await taken_all(mesh.router.stream(made))] == [1, 2]
        made = call("sums")
        made.kind, made.accepts_segments = CallKind.BIDI_STREAM, True
        stream = mesh.router.stream(made)
        assert await stream.send(encode_value(ones(MB), segment_pool().store))
        stream.end_input()
        assert [decode_value(item)[0] for item in await taken_all(stream)] == [MB]


def brought(value: np.ndarray, told: list[str], nearby: SharedPayload | None = None) -> BroughtPayload:
    """An item of input that Ray would bring; the replica that is to have it is told instead."""
    claim = encode_claim(Claim("", "the-key", value.nbytes))
    return BroughtPayload(claim.body, claim.encoding, (), value.nbytes, nearby, told.append)


@on_io
@without_shared_memory
async def test_input_that_is_brought_in_another_way_keeps_its_place_among_the_items() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        made, told = call("sums", kind=CallKind.BIDI_STREAM), []
        stream = mesh.router.stream(made)
        assert await stream.send(encode_value(ones(10)))
        assert await stream.send(brought(ones(8 * MB), told, stored(SegmentPool(100 * MB), ones(8 * MB))))
        replica.door.kept.deposit("the-key", encode_value(ones(8 * MB)))
        assert await stream.send(encode_value(ones(20)))
        stream.end_input()
        assert [decode_value(item)[0] for item in await taken_all(stream)] == [10, 8 * MB, 20]
        assert told == [replica.target.actor_name]
        assert not replica.door.kept.drop_old(), "what was taken is not held"


@on_io
async def test_a_replica_waits_for_input_that_is_brought_later_unless_it_can_read_it_nearby() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        told: list[str] = []
        stream = mesh.router.stream(call("sums", kind=CallKind.BIDI_STREAM))
        assert await stream.send(brought(ones(8 * MB), told, stored(segment_pool(), ones(8 * MB))))
        (first,) = await stream.take()
        assert decode_value(first)[0] == 8 * MB and not told
        assert await stream.send(brought(ones(9 * MB), told))
        await until(lambda: told == [replica.target.actor_name])
        replica.door.kept.deposit("the-key", encode_value(ones(9 * MB)))
        (second,) = await stream.take()
        assert decode_value(second)[0] == 9 * MB
        stream.end_input()
        assert not await taken_all(stream)


@on_io
async def test_input_is_brought_to_the_replica_that_took_the_call_after_another_had_refused() -> None:
    full = LocalReplica("full", Model, options=DeploymentOptions(max_ongoing_requests=1))
    async with LocalMesh(full) as mesh:
        full.admission.admit()
        told: list[str] = []
        stream = mesh.router.stream(call("sums", kind=CallKind.BIDI_STREAM))
        assert await stream.send(brought(ones(8 * MB), told))
        stream.end_input()
        await until(lambda: len(told) == 1)
        full.door.kept.deposit("the-key", encode_value(ones(8 * MB)))
        full.admission.release()
        await until(lambda: len(told) == 2)
        full.door.kept.deposit("the-key", encode_value(ones(8 * MB)))
        assert [decode_value(item)[0] for item in await taken_all(stream)] == [8 * MB]


@on_io
async def test_results_that_nobody_waits_for_any_more_free_their_memory() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        before = segment_pool().size_bytes
        for _ in range(20):
            reply = mesh.router.unary(large_call("slow_ones", 8 * MB))
            await until(lambda: replica.admission.ongoing == 1)
            reply.cancel()
            await until(lambda: replica.admission.ongoing == 0)
        assert segment_pool().size_bytes - before < 80 * MB, "20 results of 8 MiB were made"


def place_of(payload: object) -> tuple[int, tuple[int, ...]]:
    """The file a value is in, and where its buffers begin, if not where a value's first buffer does."""
    assert type(payload) is SharedPayload
    segment = decode_claim(payload.claim).segment
    assert segment is not None
    return segment.fd, tuple(segment.offsets)


@on_io
async def test_a_result_that_is_a_part_of_the_arguments_stays_where_it_is() -> None:
    value = np.arange(5 * MB, dtype=np.uint32)
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        whole, half = large_call("echo", value), large_call("second_half", value)
        (first, *_), (second, *_) = (place_of(made.payload) for made in (whole, half))
        echoed = await mesh.router.unary(whole)
        assert place_of(echoed)[0] == first
        halved = await mesh.router.unary(half)
        assert place_of(halved)[0] == second
        assert place_of(halved)[1][0] - place_of(echoed)[1][0] == 10 * MB
        del whole, half
        gc.collect()
        await mesh.router.unary(large_call("echo", np.zeros_like(value)))
        assert (decode_value(echoed) == value).all(), "in use here, though the call is over"
        assert (decode_value(halved) == value[5 * MB // 2 :]).all()


@on_io
async def test_a_result_that_is_more_than_its_arguments_is_copied() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        made = large_call("with_another", ones(MB))
        result = await mesh.router.unary(made)
        assert place_of(result)[0] != place_of(made.payload)[0]
        assert [int(part.sum()) for part in decode_value(result)] == [MB, 2 * MB]


@on_io
async def test_a_result_from_the_arguments_of_another_call_is_copied() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        earlier, later = large_call("keep", np.full(MB, 7, dtype=np.uint8)), large_call("kept_first", ones(MB))
        await mesh.router.unary(earlier)
        result = await mesh.router.unary(later)
        assert place_of(result)[0] not in {place_of(earlier.payload)[0], place_of(later.payload)[0]}
        assert decode_value(result).sum() == 7 * MB


@on_io
async def test_a_result_within_arguments_is_found_by_those_who_cannot_read_it_in_place() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        result = await mesh.router.unary(large_call("second_half", ones(4 * MB)))
        assert type(result) is SharedPayload
        found = replica.runner._python._kept.parcel(decode_claim(result.claim).key)
        assert decode_value(found).sum() == 2 * MB


@on_io
async def test_a_thousand_large_calls_leave_no_more_memory_than_ten() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        value = ones(MB)

        async def calls(count: int) -> int:
            for _ in range(count):
                await mesh.router.unary(large_call("echo", value))
            return segment_pool().size_bytes

        before = await calls(10)
        assert await calls(1000) <= before + 4 * MB


@on_io
async def test_the_arguments_of_a_cancelled_call_are_given_up() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        made = large_call("slow", ones(MB))
        number = file_of(made.payload)
        reply = mesh.router.unary(made)
        await until(lambda: replica.admission.ongoing == 1)
        reply.cancel()
        await until(lambda: replica.admission.ongoing == 0)
        del made, reply

        def again() -> bool:
            gc.collect()  # the frame of the cancelled coroutine is in its exception's traceback
            return file_of(stored(segment_pool(), ones(MB))) == number

        await until(again)


def test_a_process_that_may_make_no_large_files_does_without_and_leaks_no_descriptor() -> None:
    pool, before = SegmentPool(100 * MB), len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, hard))
    try:
        assert type(encode_value(ones(3 * MB), pool.store)) is Payload
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert pool.size_bytes == 0 and len(os.listdir("/proc/self/fd")) == before
    assert type(encode_value(ones(3 * MB), pool.store)) is SharedPayload


def test_memory_that_runs_out_while_a_value_is_copied_is_used_for_another() -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    pool = SegmentPool(100 * MB)
    with mock.patch("meshserve.rpc.segments.write_at", full):
        assert type(encode_value(ones(3 * MB), pool.store)) is Payload
    size = pool.size_bytes
    assert decode_value(stored(pool, ones(3 * MB))).sum() == 3 * MB
    assert pool.size_bytes == size


def test_values_in_use_leave_file_descriptors_for_others(reader: Reader) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pool, here = SegmentPool(100 * MB), Attachments()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        before = len(os.listdir("/proc/self/fd"))
        payloads = [encode_value(np.full(MB >> 2, number, dtype=np.uint8), pool.store) for number in range(200)]
        shared = [payload for payload in payloads if type(payload) is SharedPayload]
        assert len(shared) == 125, "the rest goes another way"
        attached = [here.attach(payload.claim) for payload in shared * 2]
        assert [decode_value(payload)[0] for payload in attached if payload] == [*range(125), *range(125)]
        assert len(os.listdir("/proc/self/fd")) == before + 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_that_reads_as_much_as_it_may_gets_copies() -> None:
    pool, here = SegmentPool(100 * MB), Attachments()
    first, second = stored(pool, ones(MB)), stored(pool, np.full(MB, 7, dtype=np.uint8))
    with mock.patch("meshserve.rpc.attachments.most_segments", return_value=1):
        before = len(os.listdir("/proc/self/fd"))
        in_place, copied = here.attach(first.claim), here.attach(second.claim)
        assert type(in_place) is SharedPayload and type(copied) is Payload
        assert decode_value(copied).sum() == 7 * MB
        assert len(os.listdir("/proc/self/fd")) == before + 2
        del in_place
        assert type(here.attach(second.claim)) is SharedPayload, "what is idle makes room"


def test_a_full_pool_is_not_searched_for_every_value() -> None:
    class Slow(Clock):
        def __call__(self) -> float:
            self.now += 0.01  # so long does a search take, for it looks before and after
            return self.now

    pool = SegmentPool(4 * MB, Slow())
    values = [stored(pool, ones(MB)) for _ in range(3)]
    with mock.patch.object(pool, "_close_idle", side_effect=pool._close_idle) as closing:
        for _ in range(100):
            assert pool.store(Payload(b"x" * 2 * MB, Encoding.PICKLE)) is None
    assert 1 <= closing.call_count < 50
    assert len(values) == 3
