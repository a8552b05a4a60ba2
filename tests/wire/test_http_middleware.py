"""Middlewares around the ingress, by an import path in the options."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from http_mesh import HttpMesh, Served, serving
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import StreamingResponse

from meshserve.proxy.http_middleware import with_middlewares
from meshserve.proxy.options import HttpOptions


class Marker:
    """Marks requests on their way in, responses on their way out."""

    def __init__(self, app: Any, mark: bytes) -> None:
        self.app = app
        self.mark = mark

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["headers"].append((b"x-marked", self.mark))

        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-passed", self.mark)]
            await send(message)

        await self.app(scope, receive, marked)


def middlewares() -> list[Middleware]:
    return [
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(Marker, mark=b"first"),
        Middleware(Marker, b"second"),
    ]


class TextMarker:
    """Marks requests with a header that is text, where ASGI wants bytes."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["headers"].append((b"x-marked", "text"))
        await self.app(scope, receive, send)


def text_marker() -> list[Middleware]:
    return [Middleware(TextMarker)]


def numbers() -> list[int]:
    return [1, 2, 3]


def broken() -> None:
    raise RuntimeError("the callback is broken")


NO_FUNCTION = 1


class Marks:
    async def __call__(self, request: Any) -> Any:
        marks = ",".join(request.headers.getlist("x-marked"))
        if request.url.path == "/stream":
            return StreamingResponse(iter([marks, "!"]))
        return marks


@pytest.fixture(scope="module")
def marks() -> Iterator[Served]:
    with serving(Marks, http=HttpOptions(middlewares_from=f"{__name__}:middlewares")) as served:
        yield served


@pytest.mark.parametrize(("path", "body"), [("/", "first,second"), ("/stream", "first,second!")])
def test_middlewares_see_requests_and_responses_in_their_order(marks: Served, path: str, body: str) -> None:
    answer = marks.get(path)
    assert (answer.status_code, answer.text) == (200, body)
    assert answer.headers.get_list("x-passed") == ["second", "first"]


@pytest.mark.parametrize("path", ["/", "/stream"])
def test_body_that_nobody_reads_is_not_asked_for_below_middlewares(marks: Served, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    with socket.create_connection(("127.0.0.1", marks.client.base_url.port), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b"\r\nconnection: close" in answer


def test_headers_that_a_middleware_adds_as_text_arrive() -> None:
    with serving(Marks, http=HttpOptions(middlewares_from=f"{__name__}:text_marker")) as served:
        assert served.get("/").text == "text"


def test_middlewares_are_around_what_the_ingress_answers_itself(marks: Served) -> None:
    preflight = marks.options("/x", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "GET"})
    assert preflight.headers["access-control-allow-origin"] == "*"
    health = marks.get("/-/healthz", headers={"Origin": "https://a.example"})
    assert (health.text, health.headers["access-control-allow-origin"]) == ("success", "*")


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("numbers", ValueError, "must return a list of Starlette middlewares"),
        ("broken", RuntimeError, "the callback is broken"),
        ("NO_FUNCTION", TypeError, "is not callable"),
        ("absent", ValueError, "no attribute 'absent'"),
    ],
)
def test_what_gives_no_middlewares_is_refused(name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        with_middlewares(HttpMesh, f"{__name__}:{name}")
