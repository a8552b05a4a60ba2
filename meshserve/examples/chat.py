"""Chat: a page for browsers, with tokens by server-sent events and a conversation over a WebSocket.

The ingress is a FastAPI application: `/` is the page (`chat.html`, which works under any route prefix), `/tokens`
streams one answer, `/ws` holds a conversation. Everybody who is connected hears at once when somebody comes or goes,
also while they say nothing themselves. A browser that goes away in the middle of an answer ends the model's work on it.

    meshserve run meshserve.examples.chat:app

Open `http://localhost:8000` in a browser, or:

    curl -N 'localhost:8000/tokens?prompt=Tell+me+about+the+sea'
    data: {"token": "You "}

    data: {"token": "said: "}
    ...
    event: done
    data: {}

    from websockets.sync.client import connect

    with connect("ws://localhost:8000/ws") as socket:
        socket.send("Tell me about the sea")
        while '"done"' not in (message := socket.recv()):
            print(message)
"""

import asyncio
import json
from collections.abc import AsyncIterator
from html import escape
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, StreamingResponse

import meshserve as serve
from meshserve.handle import DeploymentHandle

SECONDS_PER_TOKEN = 0.05
PAGE = Path(__file__).with_name("chat.html")

web = FastAPI(title="Chat")


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Parrot:
    """Stands in for a language model: repeats what it is told, a word at a time, at the pace of one."""

    async def answer(self, prompt: str) -> AsyncIterator[str]:
        """The tokens of an answer, each with the space that follows it."""
        for word in f"You said: {prompt}".split():
            await asyncio.sleep(SECONDS_PER_TOKEN)
            yield f"{word} "


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(web)
class Chat:
    """The page and what it talks to."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model.options(stream=True)
        self._present: set[WebSocket] = set()

    @web.get("/", response_class=HTMLResponse)
    async def page(self, request: Request) -> str:
        """The page; its links are relative to the prefix under which it is served."""
        return PAGE.read_text().replace("{{base}}", escape(request.scope["root_path"] + "/"))

    @web.get("/tokens")
    async def tokens(self, prompt: str) -> StreamingResponse:
        """One answer, as `text/event-stream`."""
        return StreamingResponse(self._events(prompt), media_type="text/event-stream")

    async def _events(self, prompt: str) -> AsyncIterator[str]:
        async for token in self._model.answer.remote(prompt):
            yield f"data: {json.dumps({'token': token})}\n\n"
        yield "event: done\ndata: {}\n\n"

    @web.websocket("/ws")
    async def converse(self, socket: WebSocket) -> None:
        """A conversation: text in, JSON out: `present`, `token` and `done`."""
        await socket.accept()
        self._present.add(socket)
        try:
            await self._tell_everybody()
            while True:
                async for token in self._model.answer.remote(await socket.receive_text()):
                    await socket.send_json({"token": token})
                await socket.send_json({"done": True})
        except WebSocketDisconnect:
            pass  # whoever was here has closed the page
        finally:
            self._present.discard(socket)
            await self._tell_everybody()

    async def _tell_everybody(self) -> None:
        """Says how many are connected; who has just gone is told by its own conversation's end."""
        news = {"present": len(self._present)}
        await asyncio.gather(*(socket.send_json(news) for socket in self._present), return_exceptions=True)


app = Chat.bind(Parrot.bind())
