"""What the shipped examples answer: for each module of `meshserve.examples` one check with real clients.

The mesh tests run an example and call its check with the addresses of the two ingresses. A check
knows nothing of the mesh: it sends what a user would send and compares whole answers.
"""

import io
import json
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import grpc
import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont
from websockets.sync.client import connect

from meshserve.examples.v1.ocr_pb2 import RecognizeRequest
from meshserve.examples.v1.ocr_pb2_grpc import OcrServiceStub
from meshserve.examples.v1.streaming_pb2 import GenerateRequest
from meshserve.examples.v1.streaming_pb2_grpc import TokenServiceStub

APPLICATION = (("application", "default"),)
"""Names the application to the gRPC ingress; needed only where several run."""

TIMEOUT_S = 60.0


def check_quickstart(http_base: str, grpc_target: str) -> None:
    spanish = {"name": "Ana", "text": "Hola, me llamo Ana"}
    french = {"name": "Zoé", "text": "Bonjour, je cherche la gare"}
    neither = {"name": "Jim", "text": "Hello there"}

    assert post(http_base, spanish) == (
        200,
        {"language": "spanish", "greeting": "¡Hola, Ana! Encantado de conocerte."},
    )
    assert post(http_base, french) == (
        200,
        {"language": "french", "greeting": "Bonjour, Zoé ! Enchanté de vous connaître."},
    )
    assert post(http_base, neither) == (422, {"error": "neither Spanish nor French"})
    assert post(http_base, ["nonsense"])[0] == post(http_base, {"name": "Ana"})[0] == 400
    assert httpx.post(http_base, content=b"nonsense").status_code == 400


def check_ensemble(http_base: str, grpc_target: str) -> None:
    assert post(http_base, {"area_m2": 80, "rooms": 3}) == (
        200,
        {"prices": [250_000.0, 270_000.0], "average": 260_000.0},
    )


def check_chat(http_base: str, grpc_target: str) -> None:
    page = httpx.get(http_base, timeout=TIMEOUT_S)
    assert page.headers["content-type"].startswith("text/html") and '<base href="/">' in page.text
    events = httpx.get(f"{http_base}tokens", params={"prompt": "good morning"}, timeout=TIMEOUT_S).text.split("\n\n")
    tokens = [json.loads(event.removeprefix("data: "))["token"] for event in events if event.startswith("data: ")]
    assert ("".join(tokens), events[-2:]) == ("You said: good morning ", ["event: done\ndata: {}", ""])
    with (
        connect(http_base.replace("http", "ws") + "ws") as first,
        connect(http_base.replace("http", "ws") + "ws") as other,
    ):
        present = [json.loads(first.recv()) for _ in range(2)]
        assert present == [{"present": 1}, {"present": 2}] and json.loads(other.recv()) == {"present": 2}
        first.send("hello")
        said = [json.loads(first.recv()) for _ in range(4)]
        assert said == [{"token": "You "}, {"token": "said: "}, {"token": "hello "}, {"done": True}]


def check_conditional(http_base: str, grpc_target: str) -> None:
    text = "It rained. Rain fed the river. The river fed the sea."

    assert post(http_base, {"text": text}) == (200, {"model": "fast", "summary": "It rained."})
    assert post(http_base, {"text": text, "quality": "best"}) == (
        200,
        {"model": "slow", "summary": "The river fed the sea."},
    )


def check_chain(http_base: str, grpc_target: str) -> None:
    assert post(http_base, {"number": 4}) == (200, {"result": 18})
    assert post(http_base, {"number": -2}) == (200, {"result": 0})


def check_streaming(http_base: str, grpc_target: str) -> None:
    words = [f"word{n} " for n in range(30)]
    prompt = "".join(words)
    tokens = [{"index": n, "token": word} for n, word in enumerate(words)]

    events = read_events(http_base, {"prompt": prompt})
    assert [(event.name, event.data) for event in events] == [
        *(("message", token) for token in tokens),
        ("done", {"tokens": len(tokens)}),
    ]
    assert_spread_over_time([event.at for event in events])

    limited = read_events(http_base, {"prompt": prompt, "max_tokens": "2"})
    assert [(event.name, event.data) for event in limited] == [
        ("message", tokens[0]),
        ("message", tokens[1]),
        ("done", {"tokens": 2}),
    ]

    with grpc.insecure_channel(grpc_target) as channel:
        generate = partial(TokenServiceStub(channel).Generate, metadata=APPLICATION)
        replies, arrivals = [], []
        for reply in generate(GenerateRequest(prompt=prompt), timeout=TIMEOUT_S):
            replies.append({"index": reply.index, "token": reply.token})
            arrivals.append(time.monotonic())
        assert replies == tokens
        assert_spread_over_time(arrivals)

        short = generate(GenerateRequest(prompt=prompt, max_tokens=2), timeout=TIMEOUT_S)
        assert [reply.token for reply in short] == words[:2]
        assert list(generate(GenerateRequest(prompt=""), timeout=TIMEOUT_S)) == []


def check_ocr(http_base: str, grpc_target: str) -> None:
    on_white, drawn = draw_page(paper="white")
    on_nothing, _ = draw_page(paper="transparent")
    unreadable = (
        "not an image that can be read: BMP, GIF, JPEG, PNG, TIFF, WEBP, "
        "at most 50000000 pixels, at most 100 times as long as wide"
    )

    def upload(image: bytes) -> tuple[int, dict[str, Any]]:
        reply = httpx.post(http_base, content=image, timeout=TIMEOUT_S)
        return reply.status_code, reply.json()

    status, answer = upload(on_white)
    assert status == 200
    assert_found(
        [FoundLine(line["text"], line["confidence"], [(x, y) for x, y in line["box"]]) for line in answer["lines"]],
        drawn,
    )
    assert upload(encode_blank(200, 200)) == (200, {"lines": []})
    assert upload(encode_blank(3000, 5)) == (400, {"error": unreadable})
    assert upload(b"not an image") == (400, {"error": unreadable})
    assert upload(on_white[: len(on_white) // 2]) == (400, {"error": unreadable})

    with grpc.insecure_channel(grpc_target) as channel:
        recognize = partial(OcrServiceStub(channel).Recognize, metadata=APPLICATION)
        found = recognize(RecognizeRequest(image=on_nothing), timeout=TIMEOUT_S)
        assert_found(
            [FoundLine(line.text, line.confidence, [(point.x, point.y) for point in line.box]) for line in found.lines],
            drawn,
        )
        with pytest.raises(grpc.RpcError) as refused:
            recognize(RecognizeRequest(image=b"not an image"), timeout=TIMEOUT_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == unreadable


def post(url: str, body: object) -> tuple[int, object]:
    reply = httpx.post(url, json=body, timeout=TIMEOUT_S)
    assert reply.headers["content-type"] == "application/json", reply.text
    return reply.status_code, reply.json()


@dataclass(frozen=True)
class Event:
    """A server-sent event, and when it arrived."""

    name: str
    data: object
    at: float


def read_events(url: str, query: dict[str, str]) -> list[Event]:
    events = []
    name = "message"
    with httpx.stream("GET", url, params=query, timeout=TIMEOUT_S) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                events.append(Event(name, json.loads(value), time.monotonic()))
            else:
                name = "message"
    return events


def assert_spread_over_time(arrivals: list[float]) -> None:
    """Thirty tokens at 50 ms take 1.5 s; collected before they were sent, they would come all at once."""
    assert arrivals[-1] - arrivals[0] > 0.5


@dataclass(frozen=True)
class DrawnLine:
    """A line drawn on the test page, and the rectangle that its ink covers."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class FoundLine:
    """A line that the example found, with its four corners."""

    text: str
    confidence: float
    box: list[tuple[float, float]]


def draw_page(paper: Literal["white", "transparent"]) -> tuple[bytes, list[DrawnLine]]:
    """A page as PNG, and its lines in reading order: of several sizes, two of them side by side."""
    page = Image.new("RGBA", (900, 420), "white" if paper == "white" else (0, 0, 0, 0))
    pen = ImageDraw.Draw(page)
    drawn = []
    for text, size, x, y in [
        ("Invoice 20417", 48, 60, 40),
        ("Payment is due in 30 days", 36, 60, 150),
        ("Order 7731", 36, 620, 150),
        ("Total: 1,284.50 EUR", 40, 380, 290),
    ]:
        font = ImageFont.load_default(size=size)
        pen.text((x, y), text, font=font, fill="black")
        drawn.append(DrawnLine(text, *pen.textbbox((x, y), text, font=font)))
    return encode_png(page), drawn


def encode_blank(width: int, height: int) -> bytes:
    return encode_png(Image.new("RGB", (width, height), "white"))


def encode_png(page: Image.Image) -> bytes:
    file = io.BytesIO()
    page.save(file, format="PNG")
    return file.getvalue()


def assert_found(found: list[FoundLine], drawn: list[DrawnLine]) -> None:
    """Every drawn line was found, in reading order, each corner within half a line of the ink's."""
    assert [line.text for line in found] == [line.text for line in drawn]
    for line, ink in zip(found, drawn, strict=True):
        assert 0.9 < line.confidence <= 1.0
        near = (ink.bottom - ink.top) / 2
        corners = [(ink.left, ink.top), (ink.right, ink.top), (ink.right, ink.bottom), (ink.left, ink.bottom)]
        for (x, y), (ink_x, ink_y) in zip(line.box, corners, strict=True):
            assert abs(x - ink_x) <= near and abs(y - ink_y) <= near, (line, ink)
