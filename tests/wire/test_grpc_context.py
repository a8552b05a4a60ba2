"""The context and the stream of requests that handlers of gRPC methods receive, by themselves."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time

import grpc
import pytest

from meshserve.grpc_util import MeshServegRPCContext, Metadatum, RayServegRPCContext, gRPCInputStream
from meshserve.model.call import CallContext, Encoding, GrpcCallInfo, Payload
from meshserve.rpc.io_thread import io_thread


def context(deadline=None, **fields):
    info = GrpcCallInfo("ipv4:10.0.0.1:5", "/p.S/M", (("k", "v"), ("k-bin", b"\1")), **fields)
    return MeshServegRPCContext(CallContext("r-1", "one", grpc=info), deadline)


def test_the_context_has_the_name_that_users_know():
    assert RayServegRPCContext is MeshServegRPCContext


def test_nothing_set_is_nothing_to_say():
    assert context().finish() is None
    assert context().take_head() is None


def test_a_context_survives_pickling_with_what_was_set():
    original = context(time.monotonic() + 60)
    original.set_code(grpc.StatusCode.ABORTED)
    original.set_details("why")
    original.set_trailing_metadata([("a", "b")])
    copy = pickle.loads(pickle.dumps(original))
    assert copy.code() is grpc.StatusCode.ABORTED
    assert copy.details() == "why"
    assert copy.finish() == original.finish()
    assert copy.invocation_metadata() == (Metadatum("k", "v"), Metadatum("k-bin", b"\1"))
    assert copy.request_id() == "r-1"
    assert 50 < copy.time_remaining() <= 60


def test_codes_are_enums_or_numbers_that_grpc_has():
    told = context()
    told.set_code(5)
    assert told.code() is grpc.StatusCode.NOT_FOUND
    for wrong in (99, "NOT_FOUND", None):
        with pytest.raises(ValueError, match="is not a gRPC status code"):
            told.set_code(wrong)


def test_the_request_id_stays_among_the_trailers():
    told = context()
    told.set_trailing_metadata([("request_id", "mine"), ("a", "b")])
    assert told.trailing_metadata() == (("request_id", "r-1"), ("a", "b"))
    assert told.finish().trailers == (("a", "b"),)


@pytest.mark.parametrize(
    "entry",
    [("Upper", "x"), ("", "x"), ("with space", "x"), ("grpc-status", "0"), ("a", "line\nbreak"), ("a", "é"), ("a", 1)],
)
def test_metadata_that_grpc_cannot_send_is_refused_where_it_is_set(entry):
    for set_metadata in (context().set_trailing_metadata, context().send_initial_metadata):
        with pytest.raises(ValueError, match="metadata"):
            set_metadata([entry])


def test_metadata_that_grpc_can_send_is_kept():
    told = context()
    told.set_trailing_metadata([("a.b_c-1", "x"), ("b-bin", b"\0"), ("c", b"text"), ("grpc-status-details-bin", b"x")])
    assert told.finish().trailers == (
        ("a.b_c-1", "x"),
        ("b-bin", b"\0"),
        ("c", "text"),
        ("grpc-status-details-bin", b"x"),
    )


def test_identities_come_with_tls_only():
    assert context().peer_identities() is None
    assert context().peer_identity_key() is None
    assert context().auth_context() == {}
    known = context(
        peer_identity_key="cn", peer_identities=(b"me",), auth_context=(("cn", b"me"), ("alt", b"1"), ("alt", b"2"))
    )
    assert known.peer_identities() == (b"me",)
    assert known.auth_context() == {"cn": [b"me"], "alt": [b"1", b"2"]}


def test_time_remaining_is_never_negative_and_none_without_a_deadline():
    assert context().time_remaining() is None
    assert context(time.monotonic() - 5).time_remaining() == 0


async def payloads(*bodies, then=None):
    for body in bodies:
        yield Payload(body, Encoding.PROTOBUF)
    if then is not None:
        await then.wait()


async def test_requests_are_parsed_one_by_one_until_the_last():
    stream = gRPCInputStream(payloads(b"1", b"2"), int, asyncio.get_running_loop())
    assert await anext(stream) == 1
    assert not stream.is_exhausted
    assert [number async for number in stream] == [2]
    assert stream.is_exhausted
    assert not stream.is_cancelled()
    assert [number async for number in stream] == []


async def test_a_cancelled_stream_has_ended():
    stream = gRPCInputStream(payloads(b"1", b"2"), int, asyncio.get_running_loop())
    assert await anext(stream) == 1
    stream.cancel()
    assert stream.is_cancelled()
    assert [number async for number in stream] == []


async def test_a_request_that_cannot_be_parsed_is_raised_in_the_handler():
    stream = gRPCInputStream(payloads(b"x"), int, asyncio.get_running_loop())
    with pytest.raises(ValueError, match="invalid literal"):
        await anext(stream)


def test_a_worker_thread_takes_requests_and_is_freed_by_cancel():
    never = asyncio.Event()
    stream = gRPCInputStream(payloads(b"1", b"2", then=never), int, io_thread().loop)
    taken = []
    waits = threading.Event()

    def work():
        for number in stream:
            taken.append(number)
            if number == 2:
                waits.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert waits.wait(10)
    stream.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert taken == [1, 2]
