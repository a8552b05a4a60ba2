"""WebSockets through proxy and replica, with a FastAPI ingress and with bare ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from socket import SHUT_RDWR
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from http_mesh import HttpMesh, Served, eventually, serving
from starlette.responses import PlainTextResponse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from meshserve.proxy.options import HttpOptions
from meshserve.user.ingress import ingress

api = FastAPI()


@ingress(api)
class Sockets:
    """Every way to treat a WebSocket."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.connected = 0
        self.cancelled = 0

    @api.websocket("/echo")
    async def echo(self, socket: WebSocket) -> None:
        await socket.accept(headers=[(b"x-own", b"1")])
        self.connected += 1
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    self.seen.append((message["code"], message.get("reason")))
                    return
                if message.get("text") is not None:
                    await socket.send_text(message["text"].upper())
                else:
                    await socket.send_bytes(message["bytes"][::-1])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.connected -= 1

    @api.websocket("/protocol")
    async def protocol(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol=socket.scope["subprotocols"][1])
        await socket.send_json(
            {"scheme": socket.scope["scheme"], "path": socket.url.path, "q": socket.query_params["q"]}
        )
        await socket.close(4001, "done")

    @api.websocket("/refuse")
    async def refuse(self, socket: WebSocket) -> None:
        await socket.close()

    @api.websocket("/deny")
    async def deny(self, socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse("not today", 451))

    @api.websocket("/typed/{number}")
    async def typed(self, socket: WebSocket, number: int) -> None:
        await socket.accept()
        await socket.close(4000, "ä" * 100 * number)

    @api.websocket("/push")
    async def push(self, socket: WebSocket) -> None:
        await socket.accept()
        number = 0
        try:
            while True:
                await socket.send_text(str(number))
                number += 1
                await asyncio.sleep(0.001)
        except WebSocketDisconnect as gone:
            self.seen.append(("push", gone.code))

    @api.websocket("/leave")
    async def leave(self, socket: WebSocket) -> None:
        await socket.accept()

    @api.websocket("/fail")
    async def fail(self, socket: WebSocket) -> None:
        await socket.accept()
        raise KeyError("a secret")

    @api.websocket("/fail-early")
    async def fail_early(self, socket: WebSocket) -> None:
        raise KeyError("a secret")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(Sockets, prefix="/ws") as served:
        yield served


def open_socket(served: Served, path: str, **options: Any) -> ClientConnection:
    return connect(served.mesh.url.replace("http", "ws") + path, open_timeout=10, max_size=None, **options)


def test_text_and_bytes_both_ways(served: Served) -> None:
    with open_socket(served, "/ws/echo") as socket:
        socket.send("héllo")
        assert socket.recv(10) == "HÉLLO"
        socket.send(b"\x00\x01")
        assert socket.recv(10) == b"\x01\x00"
        socket.send("")
        assert socket.recv(10) == ""


@pytest.mark.parametrize("message", ["ä" * 300_000, bytes(range(256)) * 4_000], ids=["text", "bytes"])
def test_long_messages_travel_in_pieces_and_arrive_whole(served: Served, message: Any) -> None:
    with open_socket(served, "/ws/echo") as socket:
        socket.send(message)
        assert socket.recv(10) == (message.upper() if isinstance(message, str) else message[::-1])


def test_handshake_carries_headers_and_the_request_id(served: Served) -> None:
    with open_socket(served, "/ws/echo", additional_headers={"x-request-id": "r7"}) as socket:
        assert socket.response is not None
        assert (socket.response.headers["x-own"], socket.response.headers["x-request-id"]) == ("1", "r7")


def test_subprotocol_scheme_path_and_close_code_of_the_application(served: Served) -> None:
    with open_socket(served, "/ws/protocol?q=5", subprotocols=["a", "b"]) as socket:
        assert socket.subprotocol == "b"
        assert socket.recv(10) == '{"scheme":"ws","path":"/ws/protocol","q":"5"}'
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert (socket.close_code, socket.close_reason) == (4001, "done")


def test_close_code_of_the_client_reaches_the_application_and_nothing_is_cancelled(served: Served) -> None:
    user = served.mesh.user()
    with open_socket(served, "/ws/echo") as socket:
        eventually(lambda: user.connected == 1)
        socket.close(4002, "bye")
    eventually(lambda: user.connected == 0)
    assert user.seen[-1] == (4002, "bye") and user.cancelled == 0


def test_lost_connection_is_a_disconnect(served: Served) -> None:
    user = served.mesh.user()
    with open_socket(served, "/ws/echo") as socket:
        eventually(lambda: user.connected == 1)
        socket.socket.shutdown(SHUT_RDWR)
        eventually(lambda: user.connected == 0)
    assert user.seen[-1][0] in (1005, 1006)
    eventually(lambda: served.mesh.in_flight.count == 0)


def test_server_pushes_while_the_client_is_silent_and_learns_that_it_left(served: Served) -> None:
    user = served.mesh.user()
    with open_socket(served, "/ws/push") as socket:
        assert [socket.recv(10) for _ in range(50)] == [str(number) for number in range(50)]
    eventually(lambda: bool(user.seen) and user.seen[-1][0] == "push")
    eventually(lambda: served.mesh.in_flight.count == 0)


def test_refused_handshake_is_403(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/ws/refuse")
    assert refused.value.response.status_code == 403


def test_denial_response_is_sent_instead_of_the_handshake(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/ws/deny")
    response = refused.value.response
    assert (response.status_code, response.body) == (451, b"not today")


def test_unknown_path_is_404_and_unknown_route_403(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/elsewhere")
    assert refused.value.response.status_code == 404
    assert b"/-/routes" in (refused.value.response.body or b"")
    with pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/ws/nothing")
    assert refused.value.response.status_code == 403


def test_handshake_with_wrong_parameters_is_refused_as_fastapi_does(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/ws/typed/one")
    assert refused.value.response.status_code == 403


def test_reason_too_long_for_a_close_frame_is_cut(served: Served) -> None:
    with open_socket(served, "/ws/typed/1") as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert (socket.close_code, socket.close_reason) == (4000, "ä" * 61)


def test_application_that_returns_without_closing_closes_with_1000(served: Served) -> None:
    with open_socket(served, "/ws/leave") as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert socket.close_code == 1000


def test_failure_after_the_handshake_closes_with_1011_and_tells_nothing(served: Served) -> None:
    with open_socket(served, "/ws/fail") as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert socket.close_code == 1011 and "secret" not in (socket.close_reason or "")


def test_replica_that_dies_closes_with_1012_so_that_its_client_comes_back() -> None:
    with serving(Sockets, prefix="/ws") as served, open_socket(served, "/ws/echo") as socket:
        socket.send("hello")
        assert socket.recv(10) == "HELLO"
        HttpMesh.on_io(served.mesh.meshes["app"].replicas[0].stop())
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert socket.close_code == 1012


def test_failure_before_the_handshake_is_a_500(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/ws/fail-early")
    assert refused.value.response.status_code == 500


def test_plain_deployment_refuses_web_sockets() -> None:
    async def plain() -> str:
        return "only HTTP"

    with serving(plain) as served, pytest.raises(InvalidStatus) as refused:
        open_socket(served, "/")
    assert refused.value.response.status_code == 403


def test_many_messages_keep_their_order(served: Served) -> None:
    with open_socket(served, "/ws/echo") as socket:
        for number in range(500):
            socket.send(str(number))
        assert [socket.recv(10) for _ in range(500)] == [str(number) for number in range(500)]


def test_unavailable_deployment_refuses_the_handshake_with_503() -> None:
    with serving(Sockets) as served:
        served.mesh.soon(lambda: served.mesh.meshes["app"].publish(unavailable="it failed", replicas=()))
        with pytest.raises(InvalidStatus) as refused:
            open_socket(served, "/echo")
        assert refused.value.response.status_code == 503


def test_message_above_the_limit_closes_with_1009_both_ways() -> None:
    with serving(Sockets, http=HttpOptions(max_websocket_message_bytes=1000)) as served:
        address = served.mesh.url.replace("http", "ws") + "/echo"
        with connect(address) as socket:
            socket.send("x" * 1000)
            assert socket.recv() == "X" * 1000
            socket.send("x" * 1001)
            with pytest.raises(ConnectionClosed) as caught:
                socket.recv()
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009
        eventually(lambda: [code for code, _ in served.mesh.user().seen] == [1009])


async def test_call_of_an_application_that_never_notices_the_disconnect_is_cancelled_in_the_end() -> None:
    from collections import deque

    from meshserve.proxy.http_request import facts_of
    from meshserve.proxy.http_websocket import WebSocketTunnel
    from meshserve.routing.service import ReplyStream
    from meshserve.wire.http import Message, accept_item, message_items

    from_client: deque[Message] = deque([{"type": "websocket.disconnect", "code": 1001}])
    stream = ReplyStream()
    failures: list[Any] = []

    def cancel(failure: Any) -> None:
        failures.append(failure)
        stream.finished(failure)

    stream.canceller = cancel
    accepted = asyncio.Event()

    async def receive() -> Message:
        await accepted.wait()
        return from_client.popleft()

    async def send(message: Message) -> None:
        accepted.set()

    tunnel = WebSocketTunnel(facts_of([], None), receive, send, unheard_s=0.0)
    serving_it = asyncio.ensure_future(tunnel.run(stream))
    stream.push([accept_item({})])
    while from_client:
        await asyncio.sleep(0)
    while not failures:
        stream.push(list(message_items({"text": "still here?"})))
        await asyncio.sleep(0)
    await serving_it
