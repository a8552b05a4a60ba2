"""What the client sees when something goes wrong: failures, timeouts, disconnects, limits, hostile bytes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from http_mesh import HttpMesh, Served, eventually, serving
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from meshserve.errors import BackPressureError, CallTimeoutError, DeploymentUnavailableError, RequestCancelledError
from meshserve.model.options import BackpressureOptions, DeploymentOptions
from meshserve.proxy.http_answers import answer_to
from meshserve.proxy.options import HttpOptions
from meshserve.wire.failures import failure_from_proto, failure_of, failure_to_proto

ERRORS: dict[str, Exception] = {
    "user": KeyError("a secret"),
    "busy": BackPressureError(3, 2, status_code=429, retry_after_s=1.2),
    "busy without advice": BackPressureError(3, 2),
    "unavailable": DeploymentUnavailableError("app#child", "it failed to deploy"),
    "child timed out": CallTimeoutError("the child took too long"),
    "child was cancelled": RequestCancelledError("r"),
}


async def failing(request: Request) -> Any:
    raise ERRORS[request.query_params["how"]]


@pytest.fixture(scope="module")
def errors() -> Iterator[Served]:
    with serving(failing) as served:
        yield served


@pytest.mark.parametrize("how", ["user", "child timed out", "child was cancelled"])
def test_what_user_code_raises_is_a_500_that_tells_nothing(errors: Served, how: str) -> None:
    response = errors.get("/", params={"how": how})
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_traceback_is_in_the_log_of_the_replica(errors: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        errors.get("/", params={"how": "user"})
        eventually(lambda: "a secret" in caplog.text)
    assert caplog.text.count("Request failed.\nTraceback") == 1


def test_full_queue_of_a_child_is_passed_on(errors: Served) -> None:
    response = errors.get("/", params={"how": "busy"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert response.text == ERRORS["busy"].message  # type: ignore[attr-defined]
    response = errors.get("/", params={"how": "busy without advice"})
    assert response.status_code == 503 and "retry-after" not in response.headers


def test_unavailable_child_is_passed_on_as_503(errors: Served) -> None:
    response = errors.get("/", params={"how": "unavailable"})
    assert (response.status_code, response.text) == (503, "Deployment app#child is unavailable: it failed to deploy.")


class Gate:
    """Requests wait here until the test opens it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.open = asyncio.Event()

    async def __call__(self, request: Request) -> str:
        self.waiting += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return "through"


def release(served: Served) -> None:
    replica = served.mesh.meshes["app"].replicas[0]
    replica.user.loop.call_soon_threadsafe(served.mesh.user().open.set)


def test_full_queue_answers_with_the_status_of_the_deployment() -> None:
    options = DeploymentOptions(
        max_ongoing_requests=1,
        max_queued_requests=0,
        backpressure_config=BackpressureOptions(status_code=429, retry_after_s=0.3),
    )
    with serving(Gate, options=options) as served, served.mesh.client() as other:
        slow = socket.create_connection(("127.0.0.1", served.client.base_url.port))
        slow.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: served.mesh.user().waiting == 1)
        response = other.get("/")
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert "max_queued_requests is 0" in response.text
        release(served)
        assert slow.recv(1000).startswith(b"HTTP/1.1 200 OK")
        slow.close()


def test_advice_to_try_again_at_once_is_told() -> None:
    answer = answer_to(failure_of(BackPressureError(3, 2, retry_after_s=0)), "r1", None)
    assert answer.headers()[-2:] == [b"retry-after", b"0"]
    assert b"retry-after" not in answer_to(failure_of(BackPressureError(3, 2)), "r1", None).headers()
    sent = failure_from_proto(failure_to_proto(failure_of(BackPressureError(3, 2, retry_after_s=0))))
    assert sent.retry_after_s == 0


def test_deployment_that_failed_or_is_gone_is_503_at_once() -> None:
    with serving(Gate) as served:
        served.mesh.soon(lambda: served.mesh.meshes["app"].publish(unavailable="its constructor raised", replicas=()))
        response = served.get("/")
        assert response.status_code == 503 and "its constructor raised" in response.text


def test_replica_that_dies_under_a_request_is_a_500() -> None:
    with serving(Gate) as served:
        replica = served.mesh.meshes["app"].replicas[0]
        slow = socket.create_connection(("127.0.0.1", served.client.base_url.port))
        slow.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: served.mesh.user().waiting == 1)
        HttpMesh.on_io(replica.stop())
        assert slow.recv(1000).startswith(b"HTTP/1.1 500")
        slow.close()


# -- timeouts --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gate() -> Iterator[Served]:
    with serving(Gate, http=HttpOptions(request_timeout_s=0.2)) as served:
        yield served


def test_timeout_is_408_and_cancels_user_code(gate: Served) -> None:
    before = gate.mesh.user().cancelled
    response = gate.get("/", headers={"x-request-id": "r1"})
    assert (response.status_code, response.text) == (408, "Request r1 timed out after 0.2s.")
    eventually(lambda: gate.mesh.user().cancelled == before + 1)


@pytest.mark.parametrize(("header", "seconds"), [("0.05", "0.05"), ("nonsense", "0.2"), ("nan", "0.2")])
def test_client_sets_its_own_timeout(gate: Served, header: str, seconds: str) -> None:
    response = gate.get("/", headers={"x-request-id": "r", "X-Request-Timeout-Seconds": header})
    assert (response.status_code, response.text) == (408, f"Request r timed out after {seconds}s.")


@pytest.mark.parametrize("header", ["0", "-1", "inf"])
def test_client_lifts_the_timeout(header: str) -> None:
    with serving(Gate, http=HttpOptions(request_timeout_s=0.05)) as served:
        with served.mesh.client() as client, pytest.raises(httpx.ReadTimeout):
            client.get("/", headers={"x-request-timeout-seconds": header}, timeout=0.5)
        release(served)


@pytest.mark.parametrize("option", [None, 0, -1])
def test_no_timeout_by_these_options(option: float | None) -> None:
    with serving(Gate, http=HttpOptions(request_timeout_s=option)) as served, pytest.raises(httpx.ReadTimeout):
        served.get("/", timeout=0.2)


def test_timeout_covers_the_time_in_the_queue() -> None:
    http = HttpOptions(request_timeout_s=0.2)
    with serving(Gate, http=http) as served:
        served.mesh.soon(lambda: served.mesh.meshes["app"].publish(replicas=()))
        assert served.get("/").status_code == 408


def test_timeout_covers_a_body_that_does_not_come(gate: Served) -> None:
    with socket.create_connection(("127.0.0.1", gate.client.base_url.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


# -- disconnects -----------------------------------------------------------------------------------------------------


def raw_request(served: Served, extra: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.client.base_url.port))
    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + extra + b"\r\n")
    return connection


def test_disconnect_cancels_user_code_and_frees_the_slot() -> None:
    with serving(Gate) as served:
        connection = raw_request(served)
        eventually(lambda: served.mesh.user().waiting == 1)
        assert served.mesh.in_flight.count == 1
        connection.close()
        eventually(lambda: served.mesh.user().cancelled == 1)
        eventually(lambda: served.mesh.in_flight.count == 0)
        eventually(lambda: served.mesh.meshes["app"].replicas[0].admission.ongoing == 0)


def test_disconnect_of_a_queued_request_never_reaches_user_code() -> None:
    with serving(Gate, options=DeploymentOptions(max_ongoing_requests=1)) as served:
        first = raw_request(served)
        eventually(lambda: served.mesh.user().waiting == 1)
        second = raw_request(served)
        eventually(lambda: served.mesh.meshes["app"].router.queued == 1)
        second.close()
        eventually(lambda: served.mesh.meshes["app"].router.queued == 0)
        release(served)
        assert first.recv(1000).startswith(b"HTTP/1.1 200")
        assert served.mesh.user().cancelled == 0
        first.close()


def test_disconnect_is_not_watched_when_the_client_says_so() -> None:
    with serving(Gate) as served:
        connection = raw_request(served, b"x-request-disconnect-disabled: ?1\r\n")
        eventually(lambda: served.mesh.user().waiting == 1)
        connection.close()
        second = raw_request(served)
        eventually(lambda: served.mesh.user().waiting == 2)
        second.close()
        eventually(lambda: served.mesh.user().cancelled == 1)
        assert served.mesh.user().waiting == 1
        release(served)
        eventually(lambda: served.mesh.in_flight.count == 0)


class Polite:
    """Asks now and then whether the client is still there."""

    def __init__(self) -> None:
        self.waiting = 0

    async def __call__(self, request: Request) -> dict[str, Any]:
        size = len(await request.body())
        self.waiting += 1
        return {"gone": [await request.is_disconnected() for _ in range(3)], "size": size}


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_application_may_ask_whether_the_client_is_there(size: int) -> None:
    with serving(Polite) as served:
        assert served.post("/", content=b"x" * size).json() == {"gone": [False] * 3, "size": size}


# -- after the response has begun ------------------------------------------------------------------------------------


class Breaks:
    async def __call__(self, request: Request) -> Response:
        async def chunks() -> Any:
            yield b"some"
            if request.query_params.get("how") == "wait":
                await asyncio.sleep(60)
            raise KeyError("in the middle")

        return StreamingResponse(chunks())


def test_failure_in_the_middle_of_a_response_breaks_the_connection_off() -> None:
    with serving(Breaks) as served, pytest.raises(httpx.RemoteProtocolError), served.stream("GET", "/") as response:
        assert response.status_code == 200
        response.read()


def test_timeout_in_the_middle_of_a_response_breaks_the_connection_off() -> None:
    http, broken_off = HttpOptions(request_timeout_s=0.3), pytest.raises(httpx.RemoteProtocolError)
    with serving(Breaks, http=http) as served, broken_off, served.stream("GET", "/?how=wait") as response:
        response.read()


class Wrong:
    """Responses that HTTP has no bytes for."""

    async def __call__(self, request: Request) -> Response:
        how = request.query_params["how"]
        if how == "length":
            return PlainTextResponse("abc", headers={"content-length": "2"})
        if how == "header":
            response = PlainTextResponse("abc")
            response.raw_headers.append((b"x-evil", b"a\r\nset-cookie: b"))
            return response
        if how == "name":
            return PlainTextResponse("abc", headers={"two words": "x"})
        if how == "status":
            return PlainTextResponse("abc", status_code=99)
        return PlainTextResponse("abc", headers={"Transfer-Encoding": "chunked"})


@pytest.mark.parametrize("how", ["length", "header", "name", "status"])
def test_response_that_cannot_be_sent_is_a_500(how: str) -> None:
    with serving(Wrong) as served:
        response = served.get("/", params={"how": how})
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert "set-cookie" not in response.headers


def test_response_that_asks_to_be_chunked_is() -> None:
    with serving(Wrong) as served:
        response = served.get("/", params={"how": "chunked"})
        assert (response.text, response.headers["transfer-encoding"]) == ("abc", "chunked")


# -- limits ----------------------------------------------------------------------------------------------------------


async def size_of(request: Request) -> str:
    return str(sum([len(chunk) async for chunk in request.stream()]))


@pytest.fixture(scope="module")
def limited() -> Iterator[Served]:
    http = HttpOptions(max_body_bytes=100_000, max_header_bytes=8_000, receive_timeout_s=0.4)
    with serving(size_of, http=http) as served:
        yield served


def test_body_up_to_the_limit_passes(limited: Served) -> None:
    assert limited.post("/", content=b"x" * 100_000).text == "100000"


def test_announced_body_above_the_limit_is_413_before_user_code(limited: Served) -> None:
    response = limited.post("/", content=b"x" * 100_001)
    assert (response.status_code, response.text) == (413, "The request's body is larger than 100000 bytes.")


def test_chunked_body_above_the_limit_is_413(limited: Served) -> None:
    response = limited.post("/", content=iter([b"x" * 60_000, b"x" * 60_000]))
    assert response.status_code == 413


def exchange(served: Served, data: bytes) -> bytes:
    """Sends bytes and reads to the end of the connection."""
    with socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
        connection.settimeout(10)
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(1_500)) + b"\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-endless: " + b"a" * 300_000,
    ],
    ids=["one long header", "many headers", "long path", "header without end"],
)
def test_head_above_the_limit_is_431(limited: Served, head: bytes) -> None:
    answer = exchange(limited, head)
    assert answer.startswith(b"HTTP/1.1 431") and b"larger than 8000 bytes" in answer


@pytest.mark.parametrize(
    "trailers",
    [b"x-long: " + b"a" * 300_000, b"".join(b"x-%d: y\r\n" % i for i in range(30_000))],
    ids=["one without end", "many"],
)
def test_trailers_above_the_limit_of_a_head_are_431(trailers: bytes) -> None:
    async def reader(request: Request) -> str:
        return f"{len(await request.body())}"

    with serving(reader, http=HttpOptions(max_header_bytes=8000)) as served:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
        with socket.create_connection(("127.0.0.1", served.client.base_url.port), 10) as connection:
            connection.sendall(head)
            connection.sendall(b"0\r\n" + trailers)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert b"HTTP/1.1 431" in answer


def test_trailers_of_a_request_are_no_headers_of_it() -> None:
    async def names(request: Request) -> str:
        await request.body()
        return " ".join(request.headers.keys())

    with serving(names) as served:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        answer = exchange(served, head + b"5\r\nhello\r\n0\r\nx-user: admin\r\n\r\n")
    assert answer.endswith(b"host connection transfer-encoding")


def test_large_body_before_a_pipelined_head_is_not_taken_for_one(limited: Served) -> None:
    body = b"x" * 50_000
    first = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50000\r\n\r\n" + body
    second = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", limited.client.base_url.port)) as connection:
        connection.sendall(first + second[:20])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(second[20:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered_in_order(limited: Served) -> None:
    requests = b"".join(
        b"POST / HTTP/1.1\r\nhost: x\r\nx-request-id: r%d\r\ncontent-length: %d\r\n\r\n" % (i, i) + b"x" * i
        for i in range(1, 6)
    )
    answer = exchange(limited, requests + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert [line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id: r")] == [
        b"x-request-id: r%d" % i for i in range(1, 6)
    ]
    assert answer.count(b"HTTP/1.1 200 OK") == 6


@pytest.mark.parametrize(
    "bytes_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ],
)
def test_malformed_request_is_400(limited: Served, bytes_: bytes) -> None:
    assert exchange(limited, bytes_).startswith(b"HTTP/1.1 400")


def test_ambiguous_body_size_is_400(limited: Served) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    assert exchange(limited, head + b"0\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_client_that_never_finishes_its_head_is_let_go(limited: Served) -> None:
    assert exchange(limited, b"GET / HTTP/1.1\r\nhost: x\r\n").startswith(b"HTTP/1.1 408")
    assert exchange(limited, b"") == b""


def test_client_that_falls_silent_within_its_body_is_let_go(limited: Served) -> None:
    small = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc"
    assert exchange(limited, small).startswith(b"HTTP/1.1 408")
    large = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\nabc"
    assert exchange(limited, large).startswith(b"HTTP/1.1 408")
    eventually(lambda: limited.mesh.in_flight.count == 0)
    eventually(lambda: limited.mesh.meshes["app"].replicas[0].admission.ongoing == 0)


def test_slow_clients_do_not_keep_others_waiting(limited: Served) -> None:
    port = limited.client.base_url.port
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
    assert limited.mesh.meshes["app"].replicas[0].admission.ongoing == 0
    assert limited.post("/", content=b"abc").text == "3"
    for connection in slow:
        connection.close()
    eventually(lambda: limited.mesh.in_flight.count == 0)


async def early(request: Request) -> Response:
    return PlainTextResponse("no thanks", 403)


def test_response_before_the_end_of_the_body_reaches_the_client_and_the_connection_lives_on() -> None:
    with serving(early) as served:
        for _ in range(3):
            response = served.post("/", content=b"x" * 2_000_000)
            assert (response.status_code, response.text) == (403, "no thanks")


def test_expect_continue_is_answered() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    with serving(size_of) as served, socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"abc")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def ask_with_head(served: Served, head: bytes) -> bytes:
    """All that comes back for a request whose body the client would send only if it were asked."""
    with socket.create_connection(("127.0.0.1", served.client.base_url.port), timeout=20) as connection:
        connection.sendall(head + b"host: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(1000), b""))


@pytest.mark.parametrize("how", ["whole", "streamed"])
def test_body_that_nobody_reads_is_not_asked_for_and_the_connection_ends(how: str) -> None:
    async def deaf(request: Request) -> Response:
        return PlainTextResponse("no") if how == "whole" else StreamingResponse(iter(["n", "o"]))

    with serving(deaf) as served:
        answer = ask_with_head(served, b"POST / HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b"100 Continue" not in answer and b"\r\nconnection: close" in answer


def test_body_that_is_too_large_is_not_asked_for() -> None:
    with serving(size_of, http=HttpOptions(max_body_bytes=2)) as served:
        answer = ask_with_head(served, b"POST / HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 413") and b"\r\nconnection: close" in answer


def test_who_waits_to_be_asked_for_a_body_that_is_empty_keeps_the_connection() -> None:
    ask = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 0\r\n"
    with serving(size_of) as served:
        answer = exchange(served, ask + b"\r\n" + ask + b"connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 2


def test_http_1_0_client_is_not_asked_for_its_body() -> None:
    head = b"POST / HTTP/1.0\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc"
    with serving(size_of) as served:
        answer = exchange(served, head)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"3")


@pytest.mark.parametrize(("method", "status"), [(b"OPTIONS", b"200"), (b"GET", b"400"), (b"POST", b"400")])
@pytest.mark.parametrize("root_path", ["", "/behind"])
def test_only_options_may_ask_about_the_server_as_a_whole(method: bytes, status: bytes, root_path: str) -> None:
    with serving(size_of, http=HttpOptions(root_path=root_path)) as served:
        answer = exchange(served, method + b" * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_http_1_0_closes_the_connection() -> None:
    with serving(size_of) as served:
        answer = exchange(served, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer and answer.endswith(b"0")
