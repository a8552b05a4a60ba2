"""The data plane: a router and real replicas over loopback, in one process."""

from __future__ import annotations

import asyncio
import threading
import time
from unittest import mock

import numpy as np
import pytest
from conditions import until
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import CallKind, Encoding, Payload
from meshserve.model.failure import FailureKind
from meshserve.model.options import BackpressureOptions, DeploymentOptions
from meshserve.routing.service import CallFailed
from meshserve.wire.values import decode_value


class Model:
    def __init__(self, name: str = "m") -> None:
        self.name = name
        self.running = 0
        self.most = 0

    async def echo(self, value):
        return value

    def sync_echo(self, value):
        return value

    async def who(self):
        return self.name

    async def hold(self, seconds):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        return self.most

    async def fail(self, text):
        raise KeyError(text)

    async def count(self, n):
        for i in range(n):
            yield i

    def sync_count(self, n):
        yield from range(n)

    async def total(self, items, start=0):
        return start + sum([item async for item in items])

    async def doubled(self, items):
        async for item in items:
            yield item * 2

    def thread_name(self):
        return threading.current_thread().name


async def value(reply):
    return decode_value(await reply)


@on_io
async def test_unary_calls_return_their_values_from_async_and_sync_methods():
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        assert await value(mesh.router.unary(call("echo", {"x": [1, 2]}))) == {"x": [1, 2]}
        assert await value(mesh.router.unary(call("sync_echo", "y"))) == "y"
        assert (await value(mesh.router.unary(call("thread_name")))).startswith("meshserve-sync")


@on_io
async def test_many_calls_share_messages_and_all_come_back():
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        replies = [mesh.router.unary(call("echo", i)) for i in range(500)]
        assert [await value(reply) for reply in replies] == list(range(500))
        assert mesh.router.running == mesh.router.queued == 0


@on_io
async def test_an_exception_of_user_code_is_a_failure_with_its_traceback():
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        with pytest.raises(CallFailed) as caught:
            await mesh.router.unary(call("fail", "nope"))
        failure = caught.value.failure
        assert failure.kind is FailureKind.USER and failure.exception_type == "KeyError"
        assert "raise KeyError(text)" in failure.traceback


@on_io
async def test_an_unknown_method_names_the_methods_there_are():
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        with pytest.raises(CallFailed, match=r"has no method 'ecko'.*'echo', 'fail'") as caught:
            await mesh.router.unary(call("ecko"))
        assert caught.value.failure.kind is FailureKind.INVALID


@pytest.mark.parametrize("method", ["count", "sync_count"])
def test_streams_arrive_complete_and_in_order(method):
    @on_io
    async def check():
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            stream = mesh.router.stream(call(method, 5000, kind=CallKind.SERVER_STREAM))
            got = []
            while items := await stream.take():
                got += [decode_value(item) for item in items]
            assert got == list(range(5000))
            assert stream.accepted

    check()


@on_io
async def test_a_silent_stream_is_said_to_be_accepted_also_when_it_follows_a_short_one():
    class Waiting:
        async def items(self, forever):
            if forever:
                await asyncio.Event().wait()
            yield 1

    async with LocalMesh(LocalReplica("a", Waiting)) as mesh:
        short = mesh.router.stream(call("items", False, kind=CallKind.SERVER_STREAM))
        while await short.take():
            pass
        # Its acceptance came with its end; the timer that it had set finds that of the next one, which is younger.
        silent = mesh.router.stream(call("items", True, kind=CallKind.SERVER_STREAM))
        await until(lambda: silent.accepted)


@on_io
async def test_a_consumer_that_stops_reading_bounds_what_is_in_flight():
    made = []

    class Endless:
        async def numbers(self):
            i = 0
            while True:
                i += 1
                made.append(i)
                yield i

    # The class goes by value, so look at what arrived here instead of at `made`.
    async with LocalMesh(LocalReplica("a", Endless)) as mesh:
        stream = mesh.router.stream(call("numbers", kind=CallKind.SERVER_STREAM))
        first = await stream.take()
        stalled = -1
        while stalled != (stalled := len(stream._items)):  # until nothing more comes
            await asyncio.sleep(0.1)
        assert len(first) + stalled <= 1024 + len(first) and stalled > 0
        assert await stream.take()
        stream.cancel()
        with pytest.raises(CallFailed):
            while await stream.take():
                pass


@on_io
async def test_input_streams_reach_user_code():
    from meshserve.wire.values import encode_value

    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        stream = mesh.router.stream(call("total", kind=CallKind.CLIENT_STREAM, kwargs={"start": 100}))
        for i in range(3000):
            assert await stream.send(encode_value(i))
        stream.end_input()
        assert [decode_value(item) for item in await stream.take()] == [100 + sum(range(3000))]

        both = mesh.router.stream(call("doubled", kind=CallKind.BIDI_STREAM))
        for i in range(10):
            await both.send(encode_value(i))
            assert [decode_value(item) for item in await both.take()] == [2 * i]
        both.end_input()
        assert await both.take() == []


@on_io
async def test_full_replica_rejects_and_the_call_goes_elsewhere():
    options = DeploymentOptions(max_ongoing_requests=1)
    a, b = LocalReplica("a", Model, "a", options=options), LocalReplica("b", Model, "b", options=options)
    async with LocalMesh(a, b) as mesh:
        a.admission.ongoing += 1  # somebody else holds a's only slot, unknown to this router
        for _ in range(20):
            assert await value(mesh.router.unary(call("who"))) == "b"
        a.admission.release()


@on_io
async def test_limit_on_ongoing_calls_is_never_exceeded():
    options = DeploymentOptions(max_ongoing_requests=3)
    async with LocalMesh(LocalReplica("a", Model, options=options)) as mesh:
        replies = [mesh.router.unary(call("hold", 0.005)) for _ in range(60)]
        assert max([await value(reply) for reply in replies]) == 3


@on_io
async def test_full_replica_announces_room_to_the_caller_it_rejected():
    options = DeploymentOptions(max_ongoing_requests=1)
    a = LocalReplica("a", Model, options=options)
    async with LocalMesh(a) as mesh:
        await value(mesh.router.unary(call("who")))
        a.admission.ongoing += 1
        reply = mesh.router.unary(call("who"))
        while not a.admission._hungry:
            await asyncio.sleep(0.001)
        assert mesh.router.queued == 1 or not reply.done
        since = time.monotonic()
        a.admission.release()
        await reply
        assert time.monotonic() - since < 0.2  # announced, not found by the slow retry


@on_io
async def test_a_full_queue_refuses_with_the_configured_answer():
    options = DeploymentOptions(
        max_ongoing_requests=1,
        max_queued_requests=2,
        backpressure_config=BackpressureOptions(status_code=429, retry_after_s=3),
    )
    async with LocalMesh(LocalReplica("a", Model, options=options)) as mesh:
        replies = [mesh.router.unary(call("hold", 0.2)) for _ in range(4)]
        assert replies[3].failure is not None and replies[3].failure.kind is FailureKind.BACKPRESSURE
        assert (replies[3].failure.status, replies[3].failure.retry_after_s) == (429, 3)
        for reply in replies[:3]:
            await reply


@on_io
async def test_cancel_reaches_user_code_and_frees_the_slot():
    a = LocalReplica("a", Model)
    async with LocalMesh(a) as mesh:
        reply = mesh.router.unary(call("hold", 60))
        while not a.user.callable.running:
            await asyncio.sleep(0.001)
        reply.cancel()
        assert reply.failure.kind is FailureKind.CANCELLED
        while a.user.callable.running or a.admission.ongoing:
            await asyncio.sleep(0.001)
        assert mesh.router.running == 0


@on_io
async def test_cancelled_while_waiting_leaves_the_line_without_disturbing_others():
    options = DeploymentOptions(max_ongoing_requests=1)
    async with LocalMesh(LocalReplica("a", Model, options=options)) as mesh:
        first, second, third = (mesh.router.unary(call("hold", 0.05)) for _ in range(3))
        second.cancel()
        assert mesh.router.queued == 1
        await first
        await third


@on_io
async def test_replica_that_dies_fails_what_it_had_and_the_rest_goes_elsewhere():
    a, b = LocalReplica("a", Model, "a"), LocalReplica("b", Model, "b")
    async with LocalMesh(a, b) as mesh:
        held = [mesh.router.unary(call("hold", 60)) for _ in range(20)]
        while a.user.callable.running + b.user.callable.running < 20:
            await asyncio.sleep(0.001)
        lost = a.user.callable.running
        await a.stop()
        mesh.publish(b)
        while sum(reply.done for reply in held) < lost:
            await asyncio.sleep(0.001)
        assert {reply.failure.kind for reply in held if reply.done} == {FailureKind.REPLICA_LOST}
        for _ in range(20):
            assert await value(mesh.router.unary(call("who"))) == "b"
        for reply in held:
            reply.cancel()


@on_io
async def test_calls_wait_for_a_replica_and_fail_when_the_deployment_is_deleted():
    mesh = LocalMesh(LocalReplica("a", Model))
    waiting = mesh.router.unary(call("who"))
    async with mesh:
        assert await value(waiting) == "m"
        mesh.publish(replicas=(), exists=False)
        refused = mesh.router.unary(call("who"))
        assert refused.failure.kind is FailureKind.UNAVAILABLE


@on_io
async def test_draining_replica_ends_its_sessions_in_good_order_and_loses_nothing():
    a, b = LocalReplica("a", Model, "a"), LocalReplica("b", Model, "b")
    async with LocalMesh(a, b) as mesh:
        replies = [mesh.router.unary(call("hold", 0.02)) for _ in range(50)]
        a.admission.draining = True
        a.door.announce()
        replies += [mesh.router.unary(call("who")) for _ in range(50)]
        for reply in replies:
            await reply
        await a.door.close_sessions()
        assert {await value(mesh.router.unary(call("who"))) for _ in range(20)} == {"b"}


@on_io
async def test_wrong_token_is_refused_before_anything_is_read():
    import grpc

    from meshserve.rpc.channel import internal_channel
    from meshserve.v1 import replica_pb2, replica_pb2_grpc

    a = LocalReplica("a", Model)
    async with LocalMesh(a):
        channel = internal_channel(a.address)
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)
        for metadata in ((), (("meshserve-token", "wrong"),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Call(replica_pb2.CallRequest(), metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await channel.close()


@on_io
async def test_a_call_that_cannot_be_written_fails_and_those_after_it_go_on() -> None:
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        assert decode_value(await mesh.router.unary(call("echo", 1))) == 1
        with pytest.raises(CallFailed, match="could not be written: UnicodeEncodeError"):
            await mesh.router.unary(call("\ud800"))
        assert decode_value(await mesh.router.unary(call("echo", 2))) == 2


@on_io
async def test_a_result_that_cannot_be_written_fails_its_call_which_is_not_run_again() -> None:
    a = LocalReplica("a", Model)
    async with LocalMesh(a) as mesh:
        assert decode_value(await mesh.router.unary(call("echo", 1))) == 1
        entered = mock.Mock(wraps=a.door.enter)
        with (
            mock.patch.object(a.door, "enter", entered),
            mock.patch("meshserve.wire.batches.ResultBatches.add", side_effect=ValueError("no such message")),
            pytest.raises(CallFailed, match="could not be written: ValueError") as caught,
        ):
            await mesh.router.unary(call("echo", 2))
        assert caught.value.failure.kind is FailureKind.REPLICA_LOST and entered.call_count == 1
        assert decode_value(await mesh.router.unary(call("echo", 3))) == 3


@on_io
async def test_what_no_message_can_carry_is_refused_and_disturbs_nobody() -> None:
    too_much = Payload(b"", Encoding.PICKLE, [np.zeros(1 << 31, dtype=np.uint8).data])  # never touched, so no memory
    async with LocalMesh(LocalReplica("a", Model)) as mesh:
        neighbour, made = mesh.router.unary(call("hold", 60)), call("echo", 1)
        made.payload = too_much
        with pytest.raises(CallFailed, match="the arguments of 2,147,483,648 bytes cannot be sent; at most"):
            await mesh.router.unary(made)
        made = call("total")
        made.kind = CallKind.CLIENT_STREAM
        with pytest.raises(ValueError, match="an item of 2,147,483,648 bytes cannot be sent"):
            await mesh.router.stream(made).send(too_much)
        assert decode_value(await mesh.router.unary(call("echo", 2))) == 2
        assert not neighbour.done
