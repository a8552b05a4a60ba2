"""The mesh's own transport against other implementations: it is gRPC over HTTP/2, at either end."""

import asyncio
import socket
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from raw_http2 import UNARY, OneWay, answered_pings, exchange, framed
from rpcs.v1.shapes_pb2 import Note
from rpcs.v1.shapes_pb2_grpc import (
    ShapesServiceServicer,
    ShapesServiceStub,
    add_ShapesServiceServicer_to_server,
)

from meshserve.transport.client import connect
from meshserve.transport.connection import UNREAD_ANSWERS
from meshserve.transport.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    settings_frame,
)
from meshserve.transport.headers import Status, block_of, request_headers
from meshserve.transport.limits import TRUSTED, Limits
from meshserve.transport.server import Server, nothing_to_check

pytestmark = pytest.mark.asyncio

BIG = 3 << 20


class Shapes(ShapesServiceServicer):
    """Methods of every kind, as servicers write them."""

    def __init__(self):
        self.cancelled = asyncio.Event()
        self.written = 0
        self.server = None

    async def Unary(self, request, context):
        match request.text:
            case "abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "100 % nö\n", (("why-bin", b"\0\xff"), ("why", "so")))
            case "bad metadata":
                context.set_trailing_metadata((("Why", "so"),))
            case "bad words":
                await context.abort(grpc.StatusCode.NOT_FOUND, "\ud800")
            case "raise":
                raise ValueError("of a method")
            case "metadata":
                return Note(text=repr(dict(context.invocation_metadata()).get(f"note{'-bin' * request.number}")))
            case "wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.set()
        return Note(text=request.text[::-1], number=request.number)

    async def Down(self, request, context):
        for number in range(request.number):
            yield Note(text=request.text, number=number)
            self.written += 1

    async def Up(self, requests, context):
        return Note(number=sum([request.number async for request in requests]))

    async def Both(self, requests, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(Note(text=request.text, number=request.number * 2))


@asynccontextmanager
async def serving(server, bind):
    """Shapes at this server; gives them and its address."""
    shapes = Shapes()
    shapes.server = server
    add_ShapesServiceServicer_to_server(shapes, server)
    port = bind()
    await server.start()
    try:
        yield shapes, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def ours(check=nothing_to_check, limits=TRUSTED):
    """Our server."""
    server = Server(check, limits)
    return serving(server, lambda: server.bind("127.0.0.1", 0))


def theirs():
    """The same on grpc.aio."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    return serving(server, lambda: server.add_insecure_port("127.0.0.1:0"))


@asynccontextmanager
async def stub_to(address, **options):
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_receive_message_length", -1), *options.items()]
    ) as channel:
        yield ShapesServiceStub(channel)


async def notes():
    for number in range(5):
        yield Note(text="x", number=number)


async def status_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


# -- our server, their client ------------------------------------------------------------------------------------------


async def test_all_four_kinds_are_served_to_a_client_of_grpc():
    async with ours() as (_, address), stub_to(address) as stub:
        assert await stub.Unary(Note(text="abc", number=7)) == Note(text="cba", number=7)
        assert [note.number async for note in stub.Down(Note(number=3))] == [0, 1, 2]
        assert await stub.Up(notes()) == Note(number=10)
        assert [note.number async for note in stub.Both(notes())] == [0, 2, 4, 6, 8]


async def test_messages_of_megabytes_and_of_nothing_pass_both_ways():
    async with ours() as (_, address), stub_to(address) as stub:
        assert await stub.Unary(Note(text="a" * BIG)) == Note(text="a" * BIG)
        assert [note.text async for note in stub.Both(iter([Note(text="b" * BIG), Note(), Note(text="c")]))] == [
            "b" * BIG,
            "",
            "c",
        ]


async def test_statuses_and_metadata_arrive_as_they_were_given():
    async with ours() as (_, address), stub_to(address) as stub:
        refused = await status_of(stub.Unary(Note(text="abort")))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.NOT_FOUND, "100 % nö\n")
        assert tuple(refused.trailing_metadata()) == (("why-bin", b"\0\xff"), ("why", "so"))
        metadata = (("note", "text"), ("note-bin", b"\x01\xfe"))
        assert (await stub.Unary(Note(text="metadata"), metadata=metadata)).text == "'text'"
        assert (await stub.Unary(Note(text="metadata", number=1), metadata=metadata)).text == repr(b"\x01\xfe")
        long = (("note", "x" * 7000),)
        for _ in range(3):  # more than one frame of headers, and more than their table remembers
            assert len((await stub.Unary(Note(text="metadata"), metadata=long)).text) == 7002


async def test_what_no_header_can_carry_ends_the_call_all_the_same():
    async with ours() as (_, address), stub_to(address) as stub:
        refused = await status_of(stub.Unary(Note(text="bad metadata"), timeout=10))
        assert refused.code() is grpc.StatusCode.INTERNAL and "'Why'" in refused.details()
        refused = await status_of(stub.Unary(Note(text="bad words"), timeout=10))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.NOT_FOUND, "?")


async def test_a_method_that_raises_is_unknown_and_one_that_is_not_there_unimplemented():
    async with ours() as (_, address), stub_to(address) as stub:
        failed = await status_of(stub.Unary(Note(text="raise")))
        assert failed.code() is grpc.StatusCode.UNKNOWN and "of a method" in failed.details()
        async with grpc.aio.insecure_channel(address) as channel:
            missing = await status_of(channel.unary_unary("/no.Service/Method")(b""))
        assert missing.code() is grpc.StatusCode.UNIMPLEMENTED and "/no.Service/Method" in missing.details()


async def test_a_deadline_and_a_cancellation_reach_the_method():
    async with ours() as (shapes, address), stub_to(address) as stub:
        late = await status_of(stub.Unary(Note(text="wait"), timeout=0.05))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(shapes.cancelled.wait(), 10)
        shapes.cancelled.clear()
        call = stub.Unary(Note(text="wait"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait_for(shapes.cancelled.wait(), 10)


async def test_the_check_refuses_before_anything_is_read():
    def check(metadata):
        return None if ("key", "right") in metadata else Status(grpc.StatusCode.UNAUTHENTICATED, "no")

    async with ours(check) as (_, address), stub_to(address) as stub:
        assert (await status_of(stub.Unary(Note()))).code() is grpc.StatusCode.UNAUTHENTICATED
        assert await stub.Unary(Note(text="ab"), metadata=(("key", "right"),)) == Note(text="ba")


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_read(compression):
    async with ours() as (_, address), stub_to(address) as stub:
        note = Note(text="a" * 1000)
        assert await stub.Unary(note, compression=compression) == note


async def test_a_client_that_does_not_read_holds_its_server_up_and_nobody_else():
    async with ours() as (shapes, address), stub_to(address) as stub:
        slow = stub.Down(Note(text="a" * 10_000, number=10_000))
        assert (await slow.read()).number == 0
        assert await stub.Unary(Note(text="ab")) == Note(text="ba")
        seen = -1
        while seen != shapes.written:
            seen = shapes.written
            await asyncio.sleep(0.1)
        assert seen < 5_000, "what waits is bounded by the client's window"
        assert await stub.Unary(Note(text="ab")) == Note(text="ba")
        assert [(await slow.read()).number for _ in range(9_999)] == list(range(1, 10_000))


async def test_calls_under_way_end_within_the_grace_of_a_stopping_server():
    async with ours() as (shapes, address), stub_to(address) as stub:
        both = stub.Both()
        await both.write(Note(number=1))
        assert (await both.read()).number == 2
        stopping = asyncio.create_task(shapes.server.stop(30))
        await asyncio.sleep(0)
        await both.write(Note(number=2))
        assert (await both.read()).number == 4
        await both.done_writing()
        assert await both.read() is grpc.aio.EOF and await both.code() is grpc.StatusCode.OK
        await stopping


async def test_a_stopping_server_takes_no_more_calls_of_our_client_and_ends_those_it_has():
    async with ours() as (shapes, address):
        channel = await connect(address)
        call = ShapesServiceStub(channel).Both()
        await call.write(Note(number=1))
        assert (await call.read()).number == 2
        stopping = asyncio.create_task(shapes.server.stop(30))
        await asyncio.sleep(0)
        refused = await asyncio.wait_for(ShapesServiceStub(channel).Both().status(), 10)
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        await call.write(Note(number=2))
        assert (await call.read()).number == 4
        call.end_input()
        assert (await call.status()).code is grpc.StatusCode.OK
        await stopping
        channel.close()


async def test_a_client_that_sends_nothing_hears_of_its_refusal_all_the_same():
    async with ours(lambda metadata: Status(grpc.StatusCode.UNAUTHENTICATED, "no")) as (_, address):
        channel = await connect(address)
        status = await asyncio.wait_for(ShapesServiceStub(channel).Both().status(), 10)
        assert (status.code, status.details) == (grpc.StatusCode.UNAUTHENTICATED, "no")
        channel.close()


async def test_a_port_in_use_is_said():
    async with ours() as (_, address):
        host, _, port = address.rpartition(":")
        with pytest.raises(OSError, match="in use"):
            Server().bind(host, int(port))


# -- our client, their server ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [ours, theirs])
async def test_our_client_calls_and_reads_the_status(server):
    async with server() as (_, address):
        channel = await connect(address)
        stub = ShapesServiceStub(channel)
        call = stub.Both()
        for text in ("x", "a" * BIG, ""):
            await call.write(Note(text=text, number=4))
            assert await call.read() == Note(text=text, number=8)
        call.end_input()
        assert await call.read() is grpc.aio.EOF
        assert await call.status() == Status(grpc.StatusCode.OK)
        call = stub.Unary((("note-bin", b"\1\xff"),))
        call.send(Note(text="abort"))
        status = await call.status()
        assert (status.code, status.details) == (grpc.StatusCode.NOT_FOUND, "100 % nö\n")
        assert ("why-bin", b"\0\xff") in status.trailers
        channel.close()


@pytest.mark.parametrize("server", [ours, theirs])
async def test_delivered_messages_come_in_order_and_what_came_before_first(server):
    async with server() as (_, address):
        channel = await connect(address)
        call = ShapesServiceStub(channel).Down()
        call.send(Note(number=1000))
        call.end_input()
        first, rest = await call.read(), []
        call.deliver(lambda note: rest.append(note.number))
        assert (await call.status()).code is grpc.StatusCode.OK
        assert (first.number, rest) == (0, list(range(1, 1000)))
        channel.close()


@pytest.mark.parametrize("server", [ours, theirs])
async def test_a_receiver_that_raises_ends_the_call_with_its_error(server):
    async with server() as (_, address):
        channel = await connect(address)
        call = ShapesServiceStub(channel).Down()
        call.deliver(lambda note: 1 / 0)
        call.send(Note(number=3))
        status = await call.status()
        assert status.code is grpc.StatusCode.INTERNAL and "ZeroDivisionError" in status.details
        channel.close()


async def test_a_server_that_ends_and_one_that_is_not_there():
    async with theirs() as (_, address):
        channel = await connect(address)
        call = ShapesServiceStub(channel).Both()
        await call.write(Note())
        await call.read()
    assert (await call.status()).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    with pytest.raises(OSError, match=r"refused|failed"):
        await connect(address)
    late = ShapesServiceStub(channel).Both()
    assert (await late.status()).code is grpc.StatusCode.UNAVAILABLE
    channel.close()


async def test_small_messages_leave_at_once_whatever_the_loop_is():
    async with ours() as (shapes, address):  # a loop of asyncio here, of uvloop in a process of the mesh
        channel = await connect(address)
        call = ShapesServiceStub(channel).Both()
        await call.write(Note())
        await call.read()
        served = next(iter(shapes.server.connections))
        for connection in (channel, served):
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        channel.close()


async def test_closing_cancels_what_is_under_way():
    async with ours() as (shapes, address):
        channel = await connect(address)
        call = ShapesServiceStub(channel).Unary()
        call.send(Note(text="wait"))
        call.end_input()
        await asyncio.sleep(0.05)
        channel.close()
        assert (await call.status()).code is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(shapes.cancelled.wait(), 10)


# -- clients that no library is ----------------------------------------------------------------------------------------


async def in_thread(work, *args, **kwargs):
    return await asyncio.to_thread(work, *args, **kwargs)


BAD_REQUESTS = {
    "no message": (None, {}, grpc.StatusCode.INTERNAL),
    "a part of a message": (framed(b"\x0a\x01x")[:-1], {}, grpc.StatusCode.INTERNAL),
    "a length without end": (framed(b"", size=(1 << 32) - 1), {}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "a flag without an encoding": (framed(b"\x0a\x01x", flag=1), {}, grpc.StatusCode.INTERNAL),
    "another content type": (framed(b""), {"content_type": "text/plain"}, grpc.StatusCode.INVALID_ARGUMENT),
    "no method": (framed(b""), {"path": "/nothing"}, grpc.StatusCode.UNIMPLEMENTED),
    "no timeout": (framed(b""), {"grpc_timeout": "soon"}, grpc.StatusCode.INTERNAL),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_bad_request_has_an_exact_status(name):
    body, options, wanted = BAD_REQUESTS[name]
    async with ours() as (_, address):
        answer = await in_thread(exchange, address, body, **options)
        assert answer.status == wanted.value[0], answer


async def test_a_client_that_reads_nothing_keeps_nobody_waiting():
    async with ours() as (_, address):
        with OneWay(address, window_bytes=100) as client:
            client.open(framed(Note(text="a" * 16_000).SerializeToString()))
            client.send()
            assert (await in_thread(exchange, address, framed(b""))).status == 0


async def test_a_client_that_sends_more_than_its_window_is_sent_away():
    def send():
        head = block_of(request_headers(UNARY, address, ()))
        wanted = framed(Note(text="wait").SerializeToString())
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(PREFACE + settings_frame({}) + frame(HEADERS, END_HEADERS, 1, head))
            client.sendall(frame(DATA, 0, 1, wanted) + frame(DATA, 0, 1, framed(bytes(60_000))) * 2)
            answer = b""
            while data := client.recv(65536):
                answer += data
            return answer

    async with ours(limits=Limits(window_bytes=100_000)) as (_, address):
        assert b"more was sent than the window" in await in_thread(send)


def opened(address, text, number=0):
    """What a client sends that greets and begins a call of `Down`."""
    head = block_of(request_headers("/meshserve.tests.v1.ShapesService/Down", address, ()))
    wanted = framed(Note(text=text, number=number).SerializeToString())
    return PREFACE + settings_frame({}) + frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, wanted)


def widened(stream_id, by):
    return frame(WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))


def broken_off(code):
    return frame(RST_STREAM, 0, 1, code.to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("by", "code"), [(LARGEST_WINDOW, ErrorCode.FLOW_CONTROL_ERROR), (0, ErrorCode.PROTOCOL_ERROR)]
)
async def test_a_call_whose_window_is_made_too_wide_or_no_wider_is_broken_off_and_its_connection_goes_on(by, code):
    def send():
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            # More than the windows take is under way, so the call is there when its window is widened.
            client.sendall(opened(address, "a" * 1000, 1000) + widened(1, by) + frame(PING, 0, 0, b"12345678"))
            answer = b""
            while frame(PING, ACK, 0, b"12345678") not in answer:
                answer += client.recv(65536)
            return answer

    async with ours() as (_, address):
        assert broken_off(code) in await in_thread(send)


async def test_settings_that_make_the_window_of_a_call_too_wide_end_the_connection():
    def send():
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            too_wide = settings_frame({INITIAL_WINDOW_SIZE: LARGEST_WINDOW})
            client.sendall(opened(address, "a" * 1000, 1000) + widened(1, 100_000) + too_wide)
            answer = b""
            while data := client.recv(65536):
                answer += data
            return answer

    async with ours() as (_, address):
        assert b"settings make a window too wide" in await in_thread(send)


async def test_a_client_that_asks_a_thousand_times_and_reads_no_answer_is_cut_off():
    async with ours() as (shapes, address):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(opened(address, "a" * 60_000, 100_000) + widened(0, 1 << 30) + widened(1, 1 << 30))
            async with asyncio.timeout(20):
                while not [one for one in shapes.server.connections if one.paused]:
                    await asyncio.sleep(0.01)
            await in_thread(client.sendall, frame(PING, 0, 0, b"12345678") * (UNREAD_ANSWERS + 1))
            async with asyncio.timeout(20):
                while shapes.server.connections:
                    await asyncio.sleep(0.01)
        assert (await in_thread(exchange, address, framed(b""))).status == 0


@pytest.mark.parametrize("said", [b"", PREFACE[:10]], ids=["nothing", "half a greeting"])
async def test_a_client_that_never_says_what_it_is_is_hung_up_on(said):
    def send():
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(said)
            while client.recv(65536):
                pass

    async with ours(limits=Limits(greeting_s=0.05)) as (shapes, address):
        await in_thread(send)
        assert not shapes.server.connections


async def test_pings_are_answered():
    async with ours() as (_, address):
        assert await in_thread(answered_pings, address, 5) == 5


# No more than is read before the connection ends: what is left unread would take the goodbye with it.
ENOUGH = 4 * Limits().header_bytes // 16_000 + 1

BROKEN = {
    "not HTTP/2": b"GET / HTTP/1.1\r\n\r\n",
    "headers that nothing ends": PREFACE + frame(HEADERS, 0, 1, b"") + frame(DATA, 0, 1, b""),
    "headers that nothing began": PREFACE + frame(CONTINUATION, 0, 1, b""),
    "headers that cannot be read": PREFACE + frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"),
    "headers without an end": PREFACE + frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(16_000)) * ENOUGH,
    "a stream of the server": PREFACE + frame(HEADERS, 4, 2, b""),
    "a frame that is too large": PREFACE + b"\xff\xff\xff\0\0\0\0\0\1",
    "half a setting": PREFACE + frame(SETTINGS, 0, 0, b"abc"),
    "a window without bounds": PREFACE + settings_frame({4: 1 << 31}),
    "a window too wide": PREFACE + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
    "a window not wider": PREFACE + frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "no number": PREFACE + frame(WINDOW_UPDATE, 0, 0, b""),
    "a push": PREFACE + frame(PUSH_PROMISE, 4, 1, b""),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_client_that_does_not_speak_http2_is_sent_away_and_others_are_served(name):
    def send():
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(BROKEN[name])
            answer = b""
            while data := client.recv(65536):
                answer += data
            return answer

    async with ours() as (_, address):
        answer = await in_thread(send)
        if name != "not HTTP/2":
            assert bytes([GOAWAY]) in answer and ErrorCode.NO_ERROR.to_bytes(4, "big") in answer
        async with stub_to(address) as stub:
            assert await stub.Unary(Note(text="ab")) == Note(text="ba")


async def test_frames_without_meaning_here_are_passed_over():
    def send():
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as client:
            odd = (
                frame(2, 0, 1, bytes(5)) + frame(99, 255, 7, b"?") + frame(3, 0, 1, bytes(4)) + frame(DATA, 8, 9, b"\0")
            )
            client.sendall(PREFACE + frame(SETTINGS, ACK, 0) + odd + frame(PING, 0, 0, b"12345678"))
            answer = b""
            while frame(PING, ACK, 0, b"12345678") not in answer:
                answer += client.recv(65536)

    async with ours() as (_, address):
        await asyncio.wait_for(in_thread(send), 10)


async def test_a_thousand_calls_begun_and_broken_off_leave_nothing():
    async with ours() as (_, address):
        with OneWay(address) as client:
            for _ in range(1000):
                client.reset(client.open(framed(Note(text="wait").SerializeToString()), end=False))
            client.send()
            assert (await in_thread(exchange, address, framed(b""))).status == 0
        async with asyncio.timeout(10):
            while [task for task in asyncio.all_tasks() if "serve" in repr(task.get_coro())]:
                await asyncio.sleep(0.01)
