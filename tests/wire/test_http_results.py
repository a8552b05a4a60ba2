"""What a plain deployment returns, and what the client sees of it."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from http_mesh import Served, eventually, serving
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse


class Point(BaseModel):
    x: int
    y: int


@dataclass
class Pair:
    left: int
    right: str


async def words() -> AsyncIterator[str]:
    yield "one "
    yield "two"


def numbers() -> Iterator[Any]:
    yield b"bytes\n"
    yield {"n": 1}
    yield 2


class WithHeaders(PlainTextResponse):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers["x-own"] = scope["method"]
        await super().__call__(scope, receive, send)


RESULTS: dict[str, Any] = {
    "none": None,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "memoryview": memoryview(b"cd"),
    "str": "héllo",
    "empty": "",
    "int": 7,
    "float": 1.5,
    "bool": True,
    "list": [1, "zwei", None],
    "dict": {"ä": {"b": [1.5]}, 1: 2},
    "tuple": (1, 2),
    "model": Point(x=1, y=2),
    "models": [Point(x=1, y=2)],
    "dataclass": Pair(1, "r"),
    "date": {"at": datetime.date(2024, 2, 29)},
    "exception": {"error": ValueError("no luck")},
    "array": np.arange(4).reshape(2, 2),
    "scalars": {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)},
    "no numbers": {"loss": float("nan"), "best": np.float64("-inf")},
    "opaque": object,
    "response": PlainTextResponse("teapot", 418, {"x-a": "b"}),
    "json": JSONResponse({"a": 1}, 201),
    "redirect": RedirectResponse("/elsewhere"),
    "own class": WithHeaders("own"),
}


class Plain:
    async def __call__(self, request: Request) -> Any:
        return RESULTS[request.query_params["what"]]


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    with serving(Plain) as served:
        yield served


@pytest.mark.parametrize(
    ("what", "content_type", "body"),
    [
        ("none", "text/plain", b""),
        ("bytes", "text/plain", b"\x00\xff"),
        ("bytearray", "text/plain", b"ab"),
        ("memoryview", "text/plain", b"cd"),
        ("str", "text/plain; charset=utf-8", "héllo".encode()),
        ("empty", "text/plain; charset=utf-8", b""),
        ("int", "application/json", b"7"),
        ("float", "application/json", b"1.5"),
        ("bool", "application/json", b"true"),
        ("list", "application/json", b'[1,"zwei",null]'),
        ("dict", "application/json", '{"ä":{"b":[1.5]},"1":2}'.encode()),
        ("tuple", "application/json", b"[1,2]"),
        ("model", "application/json", b'{"x":1,"y":2}'),
        ("models", "application/json", b'[{"x":1,"y":2}]'),
        ("dataclass", "application/json", b'{"left":1,"right":"r"}'),
        ("date", "application/json", b'{"at":"2024-02-29"}'),
        ("exception", "application/json", b'{"error":"no luck"}'),
        ("array", "application/json", b"[[0,1],[2,3]]"),
        ("scalars", "application/json", b'{"f":0.5,"i":3,"b":true}'),
        ("no numbers", "application/json", b'{"loss":NaN,"best":-Infinity}'),
    ],
)
def test_result_becomes_a_response(plain: Served, what: str, content_type: str, body: bytes) -> None:
    response = plain.get("/", params={"what": what})
    assert (response.status_code, response.headers["content-type"], response.content) == (200, content_type, body)
    assert response.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("what", ["opaque", "missing"])
def test_what_cannot_be_encoded_or_raises_is_a_500_that_tells_nothing(plain: Served, what: str) -> None:
    response = plain.get("/", params={"what": what})
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert response.headers["content-type"].startswith("text/plain")


def test_response_objects_are_sent_as_they_are(plain: Served) -> None:
    response = plain.get("/", params={"what": "response"})
    assert (response.status_code, response.text, response.headers["x-a"]) == (418, "teapot", "b")
    response = plain.get("/", params={"what": "json"})
    assert (response.status_code, response.json()) == (201, {"a": 1})
    response = plain.get("/", params={"what": "redirect"})
    assert (response.status_code, response.headers["location"]) == (307, "/elsewhere")
    response = plain.get("/", params={"what": "own class"})
    assert (response.text, response.headers["x-own"]) == ("own", "GET")


def test_head_gets_the_headers_without_the_body(plain: Served) -> None:
    response = plain.head("/", params={"what": "str"})
    assert (response.content, response.headers["content-length"]) == (b"", "6")


def test_data_frame_becomes_records() -> None:
    pandas = pytest.importorskip("pandas")

    async def frame() -> Any:
        return {"frame": pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}), "series": pandas.Series([1, 2])}

    with serving(frame) as served:
        assert served.get("/").json() == {"frame": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "series": [1, 2]}


class Streams:
    async def __call__(self, request: Request) -> Any:
        what = request.query_params["what"]
        if what == "async generator":
            return words()
        if what == "generator":
            return numbers()
        if what == "sse":
            return StreamingResponse((f"data: {i}\n\n" for i in range(3)), media_type="text/event-stream")
        return FileResponse(__file__)


@pytest.fixture(scope="module")
def streams() -> Iterator[Served]:
    with serving(Streams) as served:
        yield served


def test_generators_stream(streams: Served) -> None:
    response = streams.get("/", params={"what": "async generator"})
    assert (response.text, response.headers["content-type"]) == ("one two", "text/plain; charset=utf-8")
    assert response.headers["transfer-encoding"] == "chunked"
    assert streams.get("/", params={"what": "generator"}).text == 'bytes\n{"n":1}\n2\n'


def test_streaming_and_file_responses(streams: Served) -> None:
    response = streams.get("/", params={"what": "sse"})
    assert (response.text, response.headers["content-type"]) == (
        "data: 0\n\ndata: 1\n\ndata: 2\n\n",
        "text/event-stream; charset=utf-8",
    )
    with open(__file__, "rb") as file:
        assert streams.get("/", params={"what": "file"}).content == file.read()
    response = streams.get("/", params={"what": "file"}, headers={"range": "bytes=0-9"})
    assert (response.status_code, len(response.content)) == (206, 10)


async def generating(request: Request) -> AsyncIterator[str]:
    for word in request.query_params["words"].split():
        yield word + "."


def generating_sync(request: Request) -> Iterator[str]:
    yield from request.query_params["words"]


@pytest.mark.parametrize("function", [generating, generating_sync])
def test_generator_function_is_a_streaming_deployment(function: Any) -> None:
    with serving(function) as served:
        expected = "a.b." if function is generating else "a b"
        assert served.get("/", params={"words": "a b"}).text == expected


class NoParameter:
    def __call__(self) -> str:
        return "nothing asked"


async def no_parameter() -> dict[str, int]:
    return {"a": 1}


@pytest.mark.parametrize("target", [NoParameter, no_parameter])
def test_callable_without_parameters_gets_no_request(target: Any) -> None:
    with serving(target) as served:
        assert served.post("/", content=b"ignored").status_code == 200


def synchronous(request: Request) -> dict[str, str]:
    return {"method": request.method, "path": request.url.path}


def test_synchronous_function_serves_requests() -> None:
    with serving(synchronous) as served:
        assert served.delete("/x/y").json() == {"method": "DELETE", "path": "/x/y"}


class Silent:
    """Has nothing that HTTP could call."""

    def method(self) -> int:
        return 1


def test_class_without_call_answers_500() -> None:
    with serving(Silent) as served:
        assert served.get("/").status_code == 500


DONE: list[str] = []


async def with_background(request: Request) -> Any:
    return PlainTextResponse("now", background=BackgroundTask(DONE.append, "later"))


def test_background_task_runs_behind_the_response() -> None:
    DONE.clear()
    with serving(with_background) as served:
        assert served.get("/").text == "now"
        eventually(lambda: DONE == ["later"])


class Bodies:
    async def __call__(self, request: Request) -> Any:
        how = request.query_params["how"]
        if how == "body":
            return await request.body()
        if how == "json":
            return {"got": await request.json()}
        if how == "form":
            form = await request.form()
            upload: Any = form["file"]
            return {"name": form["name"], "file": (await upload.read()).decode(), "filename": upload.filename}
        sizes = [len(chunk) async for chunk in request.stream()]
        return {"total": sum(sizes), "empty at the end": sizes[-1] == 0}


@pytest.fixture(scope="module")
def bodies() -> Iterator[Served]:
    with serving(Bodies) as served:
        yield served


@pytest.mark.parametrize("size", [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, 3_000_000])
def test_body_arrives_whole_whatever_its_size(bodies: Served, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    assert bodies.post("/", params={"how": "body"}, content=content).content == content


def test_chunked_body_arrives_whole(bodies: Served) -> None:
    def pieces() -> Iterator[bytes]:
        for i in range(50):
            yield bytes([i]) * 1000

    assert bodies.post("/", params={"how": "body"}, content=pieces()).content == b"".join(pieces())


def test_json_form_and_stream(bodies: Served) -> None:
    assert bodies.post("/", params={"how": "json"}, json={"a": [1]}).json() == {"got": {"a": [1]}}
    response = bodies.post("/", params={"how": "form"}, data={"name": "n"}, files={"file": ("f.txt", b"content")})
    assert response.json() == {"name": "n", "file": "content", "filename": "f.txt"}
    response = bodies.post("/", params={"how": "stream"}, content=b"x" * 200_000)
    assert response.json() == {"total": 200_000, "empty at the end": True}


def test_large_response_arrives_whole() -> None:
    async def large(request: Request) -> bytes:
        return json.loads(request.query_params["size"]) * b"0123456789abcdef"

    with serving(large) as served:
        for size in (16384, 16385, 500_000):
            assert served.get("/", params={"size": size}).content == size * b"0123456789abcdef"
