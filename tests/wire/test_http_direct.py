"""Requests that are served in callbacks, and those that begin so and need more."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from http_mesh import Served, eventually, serving
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from meshserve.model.options import DeploymentOptions


async def many_ways(request: Request) -> Response:
    """Answers as the path says."""
    match request.url.path:
        case "/stream":
            response = StreamingResponse(iter(["one ", "two"]))
            response.raw_headers.append((b"X-Request-ID", b"its own"))
            return response
        case "/large":
            return PlainTextResponse("x" * 400_000)
        case "/lie":
            return PlainTextResponse("four", headers={"content-length": "5"})
    return PlainTextResponse(await request.body())


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(many_ways, options=DeploymentOptions(max_ongoing_requests=100)) as served:
        yield served


def answers(served: Served, *requests: bytes) -> bytes:
    """Sends requests at once, and one more that closes the connection; reads to its end."""
    with socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"".join(requests) + b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_response_that_streams_or_is_large_comes_whole_whatever_waits_behind_it(served: Served) -> None:
    get = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = answers(served, get % b"/stream", get % b"/large", get % b"/stream")
    assert answer.count(b"HTTP/1.1 200") == 4
    assert answer.count(b"4\r\none \r\n") == answer.count(b"3\r\ntwo\r\n0\r\n\r\n") == 2
    assert answer.lower().count(b"x-request-id: its own") == 2 and answer.lower().count(b"x-request-id") == 4
    assert answer.count(b"x" * 400_000) == 1
    assert answer.index(b"one ") < answer.index(b"x" * 400_000) < answer.rindex(b"one ")


def test_responses_with_the_same_head_have_their_own_bodies_and_names(served: Served) -> None:
    for word in ("first", "other", "third"):
        response = served.post("/", content=word, headers={"x-request-id": f"r-{word}"})
        assert (response.text, response.headers["x-request-id"]) == (word, f"r-{word}")
    response = served.head("/large")
    assert (response.headers["content-length"], response.content) == ("400000", b"")


def test_response_that_lies_about_its_length_is_a_500(served: Served) -> None:
    assert served.get("/lie").status_code == 500
    assert served.post("/", content="well").text == "well", "the connection lives on"


def test_body_that_comes_later_than_its_head_is_waited_for(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nfour")
        eventually(lambda: served.mesh.in_flight.count == 1)
        connection.sendall(b"more")
        assert connection.recv(65536).endswith(b"\r\n\r\nfourmore")
    eventually(lambda: served.mesh.in_flight.count == 0)


def test_ordinary_requests_are_served_in_callbacks(served: Served) -> None:
    before = served.mesh.direct
    assert served.get("/").status_code == served.post("/", content="word").status_code == 200
    assert served.mesh.direct == before + 2
    assert served.get("/-/healthz").status_code == 200
    assert served.get("/", headers={"x-forwarded-for": "10.1.2.3"}).status_code == 200
    assert served.mesh.direct == before + 2
