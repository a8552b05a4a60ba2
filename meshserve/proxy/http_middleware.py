"""Middlewares around the HTTP ingress: Starlette `Middleware`s that a user's function gives.

The ingress answers by way of the connection's `Client`, which is quicker than ASGI's messages and which middlewares do
not see. So below middlewares there is a client that sends messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.middleware import Middleware

from meshserve.proxy.http_client import EXTENSION, Client
from meshserve.proxy.http_exchange import Receive, Send
from meshserve.rpc.import_path import import_object
from meshserve.wire.http import Scope, pairs


def with_middlewares(app: Any, path: str) -> Any:
    """An application with the middlewares of a function around it, the first one outermost.

    Args:
        app: the ingress.
        path: import path of the function.

    Raises:
        ValueError: it does not give a list of middlewares, or there is no such function.
        ModuleNotFoundError: it cannot be imported.
        Exception: what the function raises.
    """
    function = import_object(path)
    if not callable(function):
        raise TypeError(f"{path!r} is not callable; it must be a function that gives a list of Starlette middlewares.")
    middlewares = function()
    if not isinstance(middlewares, list) or not all(isinstance(one, Middleware) for one in middlewares):
        raise ValueError(f"{path!r} must return a list of Starlette middlewares, not {middlewares!r}.")
    app = BelowMiddlewares(app)
    for cls, args, kwargs in reversed(middlewares):
        app = cls(app, *args, **kwargs)
    return app


class BelowMiddlewares:
    """The ingress, when middlewares are around it.

    Args:
        app: the ingress.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Middlewares may have added headers as text, which ASGI forbids and other servers let pass."""
        scope["headers"] = [(_as_bytes(name), _as_bytes(value)) for name, value in scope["headers"]]
        if scope["type"] == "http":
            extensions = scope["extensions"]
            scope["extensions"] = extensions | {EXTENSION: SendingClient(extensions[EXTENSION], send)}
        await self._app(scope, receive, send)


def _as_bytes(part: bytes | str) -> bytes:
    return part.encode("latin-1") if isinstance(part, str) else part


class SendingClient:
    """A `Client` whose responses are ASGI messages.

    Args:
        client: the connection's own.
        send: of the innermost middleware.
    """

    def __init__(self, client: Client, send: Send) -> None:
        self._client = client
        self._send = send

    def on_lost(self, callback: Callable[[], object] | None) -> None:
        """See `Client`."""
        self._client.on_lost(callback)

    async def respond(self, status: int, headers: Sequence[bytes], body: bytes) -> bool:
        """See `Client`; of a client that is gone the server tells middlewares nothing."""
        self._client.stop_asking()
        await self._send({"type": "http.response.start", "status": status, "headers": pairs(headers)})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return True

    def stop_asking(self) -> None:
        """See `Client`."""
        self._client.stop_asking()

    async def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """See `Client`."""
        for piece in pieces:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def finish_with_trailers(self, headers: Sequence[bytes]) -> None:
        """See `Client`; middlewares do not see trailers."""
        self._client.finish_with_trailers(headers)

    def break_off(self) -> None:
        """See `Client`."""
        self._client.break_off()
