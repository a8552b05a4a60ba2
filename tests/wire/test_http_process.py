"""The proxy process as the controller sees it: where it serves, why it does not, how it drains; HTTPS; stopping."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from fastapi import FastAPI, WebSocket
from http_mesh import FakeServices, HttpMesh, Served, eventually, serving
from replicas import TOKEN
from websockets.sync.client import connect

from meshserve.proxy import process as process_module
from meshserve.proxy.http_server import bind
from meshserve.proxy.http_tls import server_context
from meshserve.proxy.options import HttpOptions
from meshserve.proxy.process import ProxyProcess
from meshserve.proxy.workers import Workers
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.token import token_metadata
from meshserve.testing.fakes import FakeLauncher
from meshserve.user.ingress import ingress
from meshserve.v1 import proxy_control_pb2 as pb
from meshserve.v1 import proxy_control_pb2_grpc


class FakeDirectory(FakeServices):
    async def close(self) -> None: ...


def boot(grpc_json: str = '{"port": -1}', **http: Any) -> dict[str, Any]:
    options = pb.ProxyOptions(http_json=json.dumps({"host": "127.0.0.1", "port": 0} | http), grpc_json=grpc_json)
    return {"token": TOKEN, "host": "127.0.0.1", "node_id": "n", "options": options.SerializeToString()}


@asynccontextmanager
async def started(
    directory: FakeDirectory, *, grpc_retry_s: float = 10.0, **http: Any
) -> AsyncIterator[tuple[ProxyProcess, Any]]:
    """A proxy process and a stub of its control service; on the I/O thread."""
    process = await process_module.start(
        boot(**http),
        io_thread(),
        directory,  # type: ignore[arg-type]  # a fake
        FakeLauncher(),
        grpc_retry_s=grpc_retry_s,
    )
    channel = internal_channel(process.address)
    try:
        yield process, proxy_control_pb2_grpc.ProxyControlServiceStub(channel)
    finally:
        await channel.close()
        await process.close()


METADATA = token_metadata(TOKEN)


def has_ipv6() -> bool:
    try:
        bind("::1", 0)[0].close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_address_is_told_as_urls_have_it() -> None:
    async def answer() -> str:
        async with started(FakeDirectory(), host="::1") as (process, _stub), httpx.AsyncClient() as client:
            return (await client.get(f"http://{process.http_address}/-/healthz")).text

    assert io_thread().run(answer(), timeout_s=30) == "Route table is not populated yet."


def test_host_that_is_not_of_this_machine_is_told_by_name() -> None:
    with pytest.raises(
        OSError, match=r"Cannot serve HTTP on 192\.0\.2\.77:0: .*Give an address of this machine as host"
    ):
        bind("192.0.2.77", 0)


def test_check_says_where_it_serves_and_by_which_routes() -> None:
    async def test() -> None:
        directory = FakeDirectory()
        async with started(directory) as (process, stub):
            response = await stub.Check(pb.CheckRequest(), metadata=METADATA)
            assert response.failure == "" and response.pid > 0
            assert response.http_address == process.http_address and response.http_address.startswith("127.0.0.1:")
            assert (response.routes_epoch, response.routes_version, response.draining) == (0, 0, False)
            from meshserve.model.targets import RouteTable

            directory.watchers[0](RouteTable((3, 7)))
            response = await stub.Check(pb.CheckRequest(), metadata=METADATA)
            assert (response.routes_epoch, response.routes_version) == (3, 7)

    HttpMesh.on_io(test())


def test_port_in_use_is_told_to_the_controller_and_does_not_end_the_process() -> None:
    (taken,) = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]

    async def test() -> None:
        async with started(FakeDirectory(), port=port) as (_, stub):
            response = await stub.Check(pb.CheckRequest(), metadata=METADATA)
            assert f"Cannot serve HTTP on 127.0.0.1:{port}: Address already in use." in response.failure
            assert response.http_address == ""

    HttpMesh.on_io(test())
    taken.close()


def test_port_of_grpc_that_nobody_asked_for_may_be_taken() -> None:
    with socket.create_server(("127.0.0.9", 9000)):  # an address of its own, which stands in nobody's way

        async def check(**http: Any) -> pb.CheckResponse:
            async with started(FakeDirectory(), grpc_json='{"host": "127.0.0.9"}', **http) as (_, stub):
                found: pb.CheckResponse = await stub.Check(pb.CheckRequest(), metadata=METADATA)
                return found

        for workers in (1, 2):
            response = HttpMesh.on_io(check(workers=workers))
            assert (response.failure, response.grpc_address) == ("", "")
            assert "gRPC is not served: cannot listen for gRPC on 127.0.0.9:9000" in response.remark


def test_port_of_grpc_is_served_as_soon_as_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        taken = socket.create_server(("127.0.0.8", 9000))  # an address of its own, which stands in nobody's way
        async with started(FakeDirectory(), grpc_retry_s=0.01, grpc_json='{"host": "127.0.0.8"}') as (process, _):
            assert "gRPC is not served" in process.remark
            taken.close()
            async with asyncio.timeout(20):
                while process.remark:
                    await asyncio.sleep(0.01)
            async with grpc.aio.insecure_channel(process.grpc_address) as channel:
                await asyncio.wait_for(channel.channel_ready(), 20)

    with caplog.at_level("INFO"):
        HttpMesh.on_io(test())
    assert "gRPC is served on 127.0.0.8:9000: the port has become free." in caplog.messages


def test_port_of_grpc_that_was_asked_for_and_is_taken_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        grpc_json = json.dumps({"host": "127.0.0.1", "port": taken.getsockname()[1]})

        async def check() -> pb.CheckResponse:
            async with started(FakeDirectory(), grpc_json=grpc_json) as (_, stub):
                found: pb.CheckResponse = await stub.Check(pb.CheckRequest(), metadata=METADATA)
                return found

        response = HttpMesh.on_io(check())
    assert f"cannot listen for gRPC on 127.0.0.1:{json.loads(grpc_json)['port']}" in response.failure


def test_certificate_that_cannot_be_read_is_told_to_the_controller() -> None:
    async def test() -> None:
        async with started(FakeDirectory(), ssl_certfile="/nowhere.pem", ssl_keyfile="/nowhere.key") as (_, stub):
            response = await stub.Check(pb.CheckRequest(), metadata=METADATA)
            assert "Cannot serve HTTPS with ssl_certfile '/nowhere.pem'" in response.failure

    HttpMesh.on_io(test())


def test_no_host_means_no_http() -> None:
    async def test() -> None:
        async with started(FakeDirectory(), host=None) as (_, stub):
            response = await stub.Check(pb.CheckRequest(), metadata=METADATA)
            assert (response.failure, response.http_address) == ("", "")

    HttpMesh.on_io(test())


def test_control_needs_the_token() -> None:
    async def test() -> None:
        async with started(FakeDirectory()) as (_, stub):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Check(pb.CheckRequest())
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    HttpMesh.on_io(test())


def test_drain_turns_unhealthy_and_can_be_taken_back() -> None:
    async def test() -> None:
        async with started(FakeDirectory()) as (_, stub):
            await stub.DrainProxy(pb.DrainProxyRequest(draining=True), metadata=METADATA)
            assert (await stub.Check(pb.CheckRequest(), metadata=METADATA)).draining
            await stub.DrainProxy(pb.DrainProxyRequest(draining=False), metadata=METADATA)
            assert not (await stub.Check(pb.CheckRequest(), metadata=METADATA)).draining

    HttpMesh.on_io(test())


class Gate:
    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()

    async def __call__(self) -> str:
        self.waiting += 1
        await self.open.wait()
        return "through"


@pytest.fixture
def gate() -> Iterator[Served]:
    with serving(Gate) as served:
        yield served


def waiting_request(gate: Served, outcome: list[Any]) -> threading.Thread:
    def get() -> None:
        try:
            outcome.append(gate.get("/").text)
        except httpx.HTTPError as error:
            outcome.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    eventually(lambda: gate.mesh.user().waiting == 1)
    return thread


def release(gate: Served) -> None:
    gate.mesh.meshes["app"].replicas[0].user.loop.call_soon_threadsafe(gate.mesh.user().open.set)


def test_drain_waits_for_requests_in_hand_and_new_ones_are_served(gate: Served) -> None:
    from meshserve.proxy.control import ProxyControl

    workers = Workers(FakeLauncher(), TOKEN)
    control = ProxyControl(gate.mesh.applications, gate.mesh.in_flight, None, workers, None)  # type: ignore[arg-type]  # not asked
    outcome: list[Any] = []
    thread = waiting_request(gate, outcome)
    impatient = HttpMesh.on_io(control.DrainProxy(pb.DrainProxyRequest(draining=True, timeout_s=0.05), None))
    assert impatient.ongoing == 1
    draining = io_thread().submit(control.DrainProxy(pb.DrainProxyRequest(draining=True, timeout_s=20), None))
    with gate.mesh.client() as other:
        assert other.get("/-/healthz").status_code == 503
        release(gate)
        assert draining.result(10).ongoing == 0
        assert other.get("/").text == "through"
    thread.join(10)
    assert outcome == ["through"]


def test_stop_lets_requests_in_hand_end_within_its_grace(gate: Served) -> None:
    outcome: list[Any] = []
    thread = waiting_request(gate, outcome)
    stopping = io_thread().submit(gate.mesh.server.stop(grace_s=20))
    with pytest.raises(httpx.ConnectError):
        eventually(lambda: httpx.get(gate.mesh.url, timeout=1) is None)
    release(gate)
    stopping.result(10)
    thread.join(10)
    assert outcome == ["through"]


def test_stop_without_grace_breaks_requests_off(gate: Served) -> None:
    outcome: list[Any] = []
    thread = waiting_request(gate, outcome)
    HttpMesh.on_io(gate.mesh.server.stop())
    thread.join(10)
    assert isinstance(outcome[0], httpx.HTTPError) or "Internal Server Error" in outcome[0]
    eventually(lambda: gate.mesh.meshes["app"].replicas[0].admission.ongoing == 0)


async def scheme(request: Any) -> str:
    return f"{request.url.scheme} {request.client.host}"


web = FastAPI()


@ingress(web)
class Echo:
    @web.websocket("/ws")
    async def echo(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(f"{socket.url.scheme} {await socket.receive_text()}")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def test_https(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    http = HttpOptions(ssl_keyfile=str(key), ssl_certfile=str(cert), receive_timeout_s=2)
    with serving(scheme, http=http) as served:
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trusting, base_url=served.mesh.url) as client:
            assert client.get("/").text == "https 127.0.0.1"
            assert client.post("/", content=b"x" * 500_000).text == "https 127.0.0.1"
        plain = served.mesh.url.replace("https", "http")
        with pytest.raises(httpx.HTTPError):
            httpx.get(plain)


def test_web_socket_over_tls_whose_client_offers_more_than_there_is(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    with serving(Echo, http=HttpOptions(ssl_keyfile=str(key), ssl_certfile=str(cert))) as served:
        trusting = ssl.create_default_context(cafile=str(cert))
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        with connect(served.mesh.url.replace("https", "wss") + "/ws", ssl=trusting) as socket:
            assert isinstance(socket.socket, ssl.SSLSocket)
            assert socket.socket.selected_alpn_protocol() == "http/1.1"
            socket.send("hello")
            assert socket.recv() == "wss hello"


def test_certificate_that_cannot_be_used_is_refused_by_name(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    key, cert = certificate
    locked, empty = tmp_path / "locked.pem", tmp_path / "empty.pem"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", str(key), "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    empty.write_text("nothing")

    def refusal(key: Path, cert: Path, **more: str) -> str:
        with pytest.raises(ValueError, match="Cannot serve HTTPS with") as refused:
            server_context(HttpOptions(ssl_keyfile=str(key), ssl_certfile=str(cert), **more))  # type: ignore[arg-type]
        return str(refused.value)

    assert f"ssl_keyfile '{tmp_path}/none.pem': No such file" in refusal(tmp_path / "none.pem", cert)
    assert "the first has no certificate in PEM format" in refusal(key, empty)
    assert "the second has no private key in PEM format" in refusal(empty, cert)
    assert "the key is encrypted: give ssl_keyfile_password" in refusal(locked, cert)
    assert "the key is encrypted: ssl_keyfile_password is not its password" in refusal(
        locked, cert, ssl_keyfile_password="wrong"
    )
    assert f"ssl_ca_certs '{empty}': it has no certificates" in refusal(key, cert, ssl_ca_certs=str(empty))
    opened = HttpOptions(ssl_keyfile=str(locked), ssl_certfile=str(cert), ssl_keyfile_password="secret")
    assert server_context(opened) is not None


def test_clients_need_a_certificate_of_the_named_authorities(certificate: tuple[Path, Path]) -> None:
    key, cert = str(certificate[0]), str(certificate[1])
    http = HttpOptions(ssl_keyfile=key, ssl_certfile=cert, ssl_ca_certs=cert)
    with serving(scheme, http=http) as served:
        trusting = ssl.create_default_context(cafile=cert)
        with httpx.Client(verify=trusting) as stranger, pytest.raises(httpx.TransportError):
            stranger.get(served.mesh.url)
        trusting.load_cert_chain(cert, key)
        with httpx.Client(verify=trusting) as known:
            assert known.get(served.mesh.url).text == "https 127.0.0.1"


def test_idle_connection_is_closed_after_the_keep_alive_timeout() -> None:
    with (
        serving(scheme, http=HttpOptions(keep_alive_timeout_s=1)) as served,
        socket.create_connection(("127.0.0.1", served.client.base_url.port), timeout=10) as idle,
    ):
        idle.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert idle.recv(1000) == b""
        assert time.monotonic() - began > 0.5


def test_each_request_gives_the_connection_its_whole_time_again() -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    with serving(scheme, http=HttpOptions(keep_alive_timeout_s=1)) as served:
        for _ in range(20):  # until the machine lets this test ask again in time
            with socket.create_connection(("127.0.0.1", served.client.base_url.port), timeout=10) as connection:
                connection.sendall(request)
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
                time.sleep(0.4)
                connection.sendall(request)
                if connection.recv(1000):
                    began = time.monotonic()
                    assert connection.recv(1000) == b""
                    assert time.monotonic() - began > 0.8
                    return
        raise AssertionError("no connection lived for 0.4 s")
