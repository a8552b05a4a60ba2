"""HTTP applications: nothing, one handle hop, the published FastAPI benchmark, and server-sent events."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import StreamingResponse

from bench.apps.leaf import Leaf
from bench.apps.serving import deployed, serve

CHUNKS_PER_STREAM = 50

api = FastAPI()


class Noop:
    """Answers without looking."""

    async def __call__(self, request: Request) -> str:
        return "ok"


class Hop:
    """Asks the leaf, then answers."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf

    async def __call__(self, request: Request) -> str:
        reply: bytes = await self._leaf.noop.remote()
        return reply.decode()


class Echo:
    """The child of the peer's published benchmark: a sync method, so it passes through a thread pool."""

    def echo(self, message: str) -> str:
        """Returns the message with a prefix."""
        return "Echo: " + message


@serve.ingress(api)
class Front:
    """The ingress of the peer's published benchmark."""

    def __init__(self, child: Any) -> None:
        self._child = child

    @api.get("/echo")
    async def echo(self, message: str) -> str:
        """Passes the message to the child."""
        reply: str = await self._child.echo.remote(message)
        return reply


class Events:
    """Server-sent events whose items come out of a streaming handle call."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf.options(stream=True)

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        async for index in self._leaf.items.remote(CHUNKS_PER_STREAM):
            yield f"data: {index}\n\n"


def build_noop() -> Any:
    """Noop."""
    return deployed(Noop).bind()


def build_hop() -> Any:
    """Hop -> Leaf."""
    return deployed(Hop).bind(deployed(Leaf).bind())


def build_front() -> Any:
    """FastAPI -> sync Echo."""
    return deployed(Front).bind(deployed(Echo).bind())


def build_events() -> Any:
    """SSE -> Leaf."""
    return deployed(Events).bind(deployed(Leaf).bind())
