"""What no gRPC library would send: every one has an exact status, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import pytest
from conditions import until
from grpc_app import Shapes, Waiting
from grpc_mesh import GrpcMesh
from raw_http2 import UNARY, OneWay, exchange, framed
from replicas import on_io
from rpcs.v1.shapes_pb2 import Note

OK, INVALID, NOT_FOUND, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 5, 8, 12, 13
DOWN = UNARY.replace("Unary", "Down")
NOTE = Note(text="hi").SerializeToString()


async def send(mesh, body, **kwargs):
    answer = await asyncio.to_thread(exchange, mesh.address, body, **kwargs)
    await until(lambda: mesh.in_flight.count == 0 and mesh.ongoing("one") == 0)
    return answer


def test_the_raw_client_can_do_it_right():
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            answer = await send(mesh, framed(NOTE))
            assert (answer.headers[":status"], answer.status) == ("200", OK)
            assert answer.body == framed(Note(text="HI").SerializeToString())
            assert answer.headers["request_id"]

    check()


@pytest.mark.parametrize("path", [UNARY, DOWN, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"])
@pytest.mark.parametrize("body", [None, b"", b"\0\0", framed(b"abc", size=100)])
def test_a_call_without_a_whole_request_is_an_internal_error_instead_of_a_wait(path, body):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            answer = await send(mesh, body, path=path)
            assert answer.status == INTERNAL
            assert "without a whole request" in answer.headers["grpc-message"]
            assert "grpc-status-details-bin" in answer.headers
            assert answer.headers["request_id"]

    check()


@pytest.mark.parametrize("path", [UNARY, DOWN, UNARY.replace("Unary", "Up"), "/grpc.health.v1.Health/Check"])
def test_bytes_that_are_not_the_message_are_an_internal_error(path):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            answer = await send(mesh, framed(b"\xff\xff\xff"), path=path)
            assert answer.status == INTERNAL
            assert (
                "not a valid meshserve.tests.v1.Note" in answer.headers["grpc-message"]
                or "not the message" in (answer.headers["grpc-message"])
            )
            assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"

    check()


@pytest.mark.parametrize("path", ["/no.such.Service/Method", "/meshserve.tests.v1.ShapesService/No", "/nonsense", "/"])
def test_unknown_services_and_methods_are_unimplemented_whatever_is_sent(path):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            for body in (None, framed(NOTE), b"garbage"):
                assert (await send(mesh, body, path=path)).status == UNIMPLEMENTED

    check()


@on_io
async def test_a_size_above_the_limit_is_refused_before_the_bytes_come():
    async with GrpcMesh({"one": Shapes}, max_receive_message_bytes=1000) as mesh:
        answer = await send(mesh, framed(b"x", size=1 << 30))
        assert answer.status == EXHAUSTED
        assert "larger than max" in answer.headers["grpc-message"]


@on_io
async def test_a_compressed_message_without_an_encoding_is_an_internal_error():
    async with GrpcMesh({"one": Shapes}) as mesh:
        assert (await send(mesh, framed(NOTE, flag=1))).status == INTERNAL


@on_io
async def test_what_is_not_a_post_is_reset():
    async with GrpcMesh({"one": Shapes}) as mesh:
        answer = await send(mesh, None, **{":method": "GET"})
        assert answer.reset or answer.status > 0
        assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"


@on_io
async def test_an_expired_grpc_timeout_is_a_deadline_exceeded():
    async with GrpcMesh({"one": Shapes}) as mesh:
        answer = await send(mesh, framed(NOTE), grpc_timeout="1n")
        assert answer.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


@on_io
async def test_http_1_gets_no_answer_and_does_no_harm():
    async with GrpcMesh({"one": Shapes}) as mesh:
        host, _, port = mesh.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while await reader.read(1024):
                pass
        writer.close()
        assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"grpc_timeout": "abc"}, INTERNAL, "grpc-timeout"),
        ({"grpc_timeout": "-1S"}, INTERNAL, "grpc-timeout"),
        ({"grpc_encoding": "br"}, UNIMPLEMENTED, "grpc-encoding"),
        ({"thing_bin": "!!!"}, INTERNAL, "thing-bin"),
        ({":scheme": "ftp"}, INTERNAL, ":scheme"),
        ({"application": "café"}, NOT_FOUND, "'caf%C3%A9' not found"),
    ],
)
def test_headers_that_mean_nothing_are_an_error_that_names_them(headers, status, message):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            answer = await send(mesh, framed(NOTE), **headers)
            assert (answer.headers[":status"], answer.status) == ("200", status)
            assert message in answer.headers["grpc-message"]
            assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"

    check()


@pytest.mark.parametrize(
    ("headers", "http", "status"),
    [
        ({"te": None}, "400", INTERNAL),
        ({":method": "PUT"}, "405", INTERNAL),
        ({"content_type": None}, "415", INVALID),
        ({"content_type": "text/plain"}, "415", INVALID),
        ({"content_type": "application/json"}, "415", INVALID),
        ({"content_type": "application/grpcish"}, "415", INVALID),
    ],
)
def test_headers_that_no_grpc_client_sends_are_an_error_of_http_as_well(headers, http, status):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            answer = await send(mesh, framed(NOTE), **headers)
            assert (answer.headers[":status"], answer.status, answer.body) == (http, status, b"")
            assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"

    check()


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc+json", "application/grpc;v=1"])
def test_a_content_type_may_say_more_than_grpc(content_type):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            answer = await send(mesh, framed(NOTE), content_type=content_type)
            assert (answer.headers["content-type"], answer.status) == ("application/grpc", OK)
            assert answer.body == framed(Note(text="HI").SerializeToString())

    check()


@on_io
async def test_metadata_above_the_limit_are_refused_from_a_client_that_acknowledged_no_settings():
    async with GrpcMesh({"one": Shapes}, max_metadata_bytes=4096) as mesh:
        answer = await send(mesh, framed(NOTE), big="x" * 5000)
        assert (answer.status, answer.body) == (EXHAUSTED, b"")
        assert "more than max_metadata_bytes, which is 4096" in answer.headers["grpc-message"]
        assert "grpc-status-details-bin" in answer.headers
        assert (await send(mesh, framed(NOTE), big="x" * 2000)).status == OK


@on_io
async def test_a_message_that_cannot_be_decompressed_is_an_internal_error():
    async with GrpcMesh({"one": Shapes}) as mesh:
        answer = await send(mesh, framed(b"no gzip", flag=1), grpc_encoding="gzip")
        assert answer.status == INTERNAL
        assert answer.headers["grpc-message"].startswith("a message is not gzip")


@pytest.mark.parametrize("sent", [b"\0" * 4096, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\x7f" * 512])
def test_what_is_not_http_2_is_hung_up_on(sent):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            host, _, port = mesh.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            async with asyncio.timeout(10):
                with suppress(ConnectionResetError):
                    while await reader.read(1024):
                        pass
            writer.close()
            assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"

    check()


@on_io
async def test_a_client_that_never_reads_stops_its_own_call_and_no_other():
    async with GrpcMesh({"one": Waiting}) as mesh:
        wanted = framed(Note(text="fast", number=1_000_000).SerializeToString())
        with OneWay(mesh.address, window_bytes=0) as client:
            client.open(wanted, path=DOWN)
            await asyncio.to_thread(client.send)
            user = mesh.user("one")
            await until(lambda: user.sent > 0)
            for _ in range(20):
                assert [note.text async for note in mesh.shapes.Down(Note(text="fast", number=1))] == ["x" * 4096]
            assert user.sent < 10_000
        await until(lambda: mesh.in_flight.count == 0 and mesh.ongoing("one") == 0)


@on_io
async def test_a_thousand_requests_that_never_end_do_no_harm_and_go_with_their_connection():
    async with GrpcMesh({"one": Shapes}) as mesh:
        tasks = len(asyncio.all_tasks())
        with OneWay(mesh.address) as client:
            for number in range(1000):
                client.open(framed(NOTE, size=100) if number % 2 else b"", end=False)
            await asyncio.to_thread(client.send)
            await until(lambda: len(asyncio.all_tasks()) >= tasks + 1000)
            assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 10 and mesh.in_flight.count == 0)


@on_io
async def test_a_thousand_calls_that_are_reset_at_once_leave_nothing_behind():
    async with GrpcMesh({"one": Waiting}) as mesh:
        with OneWay(mesh.address) as client:
            for _ in range(1000):
                client.reset(client.open(framed(NOTE)))
            await asyncio.to_thread(client.send)
            assert (await mesh.blocking(lambda stub: stub.Up(iter(())))) == Note()
            await until(lambda: mesh.in_flight.count == 0 and mesh.ongoing("one") == 0)
        user = mesh.user("one")
        await until(lambda: len(user.ends) == user.started)


@on_io
async def test_responses_are_compressed_when_the_options_say_so():
    async with GrpcMesh({"one": Shapes}, compression="gzip") as mesh:
        long = framed(Note(text="x" * 10_000).SerializeToString())
        answer = await send(mesh, long, grpc_accept_encoding="identity,gzip")
        assert answer.headers["grpc-encoding"] == "gzip"
        assert len(answer.body) < 1000
