"""Bodies that stream: item by item, both ways at once, in bounded memory, with trailers, with slow clients."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
from http_mesh import eventually, serving, settled
from starlette.requests import Request
from starlette.responses import StreamingResponse

from meshserve.user.ingress import ingress


class Steps:
    """Yields when the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Queue[str]()
        self.closed = 0

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"x-early": "yes"})

    async def _events(self) -> AsyncIterator[str]:
        try:
            while (word := await self.go.get()) != "end":
                yield f"data: {word}\n\n"
        finally:
            self.closed += 1


def tell(served: Any, word: str) -> None:
    loop = served.mesh.meshes["app"].replicas[0].user.loop
    loop.call_soon_threadsafe(served.mesh.user().go.put_nowait, word)


def test_headers_and_items_arrive_as_they_are_made() -> None:
    with serving(Steps) as served, served.stream("GET", "/") as response:
        assert response.headers["x-early"] == "yes", "the start does not wait for the first item"
        chunks = response.iter_text()
        for word in ("one", "two"):
            tell(served, word)
            assert next(chunks) == f"data: {word}\n\n"
        tell(served, "end")
        assert list(chunks) == []


def test_client_that_leaves_closes_the_generator() -> None:
    with serving(Steps) as served:
        with served.stream("GET", "/") as response:
            tell(served, "one")
            next(response.iter_text())
        eventually(lambda: served.mesh.user().closed == 1)
        eventually(lambda: served.mesh.meshes["app"].replicas[0].admission.ongoing == 0)


class Faucet:
    """A long response, and how far it has come."""

    def __init__(self) -> None:
        self.sent = 0
        self.cancelled = False

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._chunks(int(request.query_params["megabytes"])))

    async def _chunks(self, megabytes: int) -> AsyncIterator[bytes]:
        piece = b"x" * (1 << 20)
        try:
            for _ in range(megabytes):
                yield piece
                self.sent += 1
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled = True
            raise


def test_slow_client_holds_the_application_back() -> None:
    with serving(Faucet) as served, served.stream("GET", "/", params={"megabytes": 200}) as response:
        chunks = response.iter_raw()
        next(chunks)
        assert settled(lambda: int(served.mesh.user().sent)) < 40
        total = sum(map(len, chunks))
        assert total > 150 << 20


def test_upload_and_download_run_in_bounded_memory() -> None:
    async def digest(request: Request) -> str:
        sha = hashlib.sha256()
        async for chunk in request.stream():
            sha.update(chunk)
        return sha.hexdigest()

    size, piece = 200, b"y" * (1 << 20)
    with serving(digest) as served:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = served.post("/", content=iter([piece] * size)).text
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert seen == hashlib.sha256(piece * size).hexdigest()
    assert grown_mb < 100, f"{size} MiB went through, and the process grew by {grown_mb:.0f} MiB"


class Upper:
    """Answers while it is still being asked."""

    async def __call__(self, request: Request) -> StreamingResponse:
        async def replies() -> AsyncIterator[bytes]:
            async for chunk in request.stream():
                if chunk:
                    yield chunk.upper()

        return StreamingResponse(replies())


def test_request_body_streams_while_the_response_does() -> None:
    with serving(Upper) as served, socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        received = b""
        for word in (b"one", b"two"):
            connection.sendall(b"3\r\n" + word + b"\r\n")
            while word.upper() not in received:
                received += connection.recv(1000)
        connection.sendall(b"0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(1000)
        assert received.startswith(b"HTTP/1.1 200")


def test_clients_see_the_chunks_that_the_application_made() -> None:
    async def numbers(request: Request) -> StreamingResponse:
        return StreamingResponse(f"number {n}" for n in range(200))

    with serving(numbers) as served, served.stream("GET", "/") as response:
        assert list(response.iter_text()) == [f"number {n}" for n in range(200)]


def test_many_small_chunks_keep_their_content_and_order() -> None:
    async def count(request: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for i in range(20_000):
                yield f"{i}\n"

        return StreamingResponse(lines())

    with serving(count) as served:
        assert served.get("/").text == "".join(f"{i}\n" for i in range(20_000))


OPEN = threading.Event()


def held(request: Request) -> Any:
    """Streams its second half once somebody has opened it."""
    if request.url.path == "/open":
        OPEN.set()
        return "opened"
    return StreamingResponse(halves())


def halves() -> Iterator[str]:
    yield "first "
    OPEN.wait(10)
    yield "second"


def test_synchronous_generator_streams_without_blocking_the_replica() -> None:
    OPEN.clear()
    with serving(held) as served, served.mesh.client() as other, served.stream("GET", "/") as response:
        chunks = response.iter_text()
        assert next(chunks) == "first "
        assert other.get("/open").text == "opened"
        assert "".join(chunks) == "second"


async def with_trailers(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    assert "http.response.trailers" in scope["extensions"]
    headers = [(b"trailer", b"x-checksum")]
    if scope["path"] == "/sized":
        headers.append((b"content-length", b"4"))
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await send({"type": "http.response.body", "body": b"bo", "more_body": True})
    await send({"type": "http.response.body", "body": b"dy", "more_body": False})
    await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"42")], "more_trailers": False})


def test_trailers_follow_a_chunked_body() -> None:
    @ingress(with_trailers)
    class App:
        pass

    with serving(App) as served, socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
        connection.settimeout(10)
        for _ in range(2):  # the connection is good for another request
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nte: trailers\r\n\r\n")
            answer = b""
            while not answer.endswith(b"42\r\n\r\n"):
                answer += connection.recv(1000)
            assert answer.endswith(b"0\r\nx-checksum: 42\r\n\r\n") and b"body" in answer.replace(b"\r\n2\r\n", b"")
        assert httpx.get(served.mesh.url + "/sized").content == b"body"


class Slow:
    """Reads its body only when told to."""

    def __init__(self) -> None:
        self.read = asyncio.Event()

    async def __call__(self, request: Request) -> str:
        await self.read.wait()
        return str(sum([len(chunk) async for chunk in request.stream()]))


def test_application_that_does_not_read_holds_the_client_back() -> None:
    with serving(Slow) as served:
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(100):
                yield b"z" * (1 << 20)
                sent += 1

        outcome: list[str] = []
        thread = threading.Thread(target=lambda: outcome.append(served.post("/", content=pieces()).text))
        thread.start()
        eventually(lambda: sent >= 4)
        assert settled(lambda: sent) < 40
        served.mesh.meshes["app"].replicas[0].user.loop.call_soon_threadsafe(served.mesh.user().read.set)
        thread.join(30)
        assert outcome == [str(100 << 20)]
