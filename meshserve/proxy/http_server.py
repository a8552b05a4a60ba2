"""uvicorn's protocol on sockets of our own, on the loop of the I/O thread.

uvicorn's `Server` brings its own main loop, which polls ten times a second and handles signals; a proxy has no
use for either. What is left of it is here: sockets, the date header, closing in good order.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TypeAlias

import uvicorn

from meshserve.proxy.http_exchange import Receive, Send
from meshserve.proxy.http_middleware import with_middlewares
from meshserve.proxy.http_protocol import Begin, Dated, IngressProtocol
from meshserve.proxy.http_tls import server_context
from meshserve.proxy.options import HttpOptions
from meshserve.wire.http import Scope

Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 2048

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Why an address of a host may be left out: this machine does not have it (IPv6 is often switched off)."""


class HttpServer:
    """The HTTP server of one proxy process.

    Args:
        app: the ingress.
        options: of the ingress; `host` is set.
        begin: serves complete requests in callbacks where it can; not asked when there are middlewares.

    Raises:
        Exception: the middlewares cannot be had; see `with_middlewares`.
    """

    def __init__(self, app: Asgi, options: HttpOptions, begin: Begin | None = None) -> None:
        self._options = options
        self._config = uvicorn.Config(
            with_middlewares(app, options.middlewares_from) if options.middlewares_from else app,
            http="httptools",
            ws="websockets-sansio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=options.keep_alive_timeout_s,
            ws_max_size=options.max_websocket_message_bytes,
        )
        self._begin = None if options.middlewares_from else begin
        self._state = Dated()
        self._servers: list[asyncio.AbstractServer] = []
        self._clock: asyncio.TimerHandle | None = None

    async def start(self) -> str:
        """Binds and listens.

        Returns:
            Where it serves, `host:port`.

        Raises:
            OSError: the port cannot be bound; says which and why.
            ValueError: the certificate cannot be used; see `server_context`.
        """
        self._config.load()
        tls = server_context(self._options)
        host, shared = self._options.host or "", self._options.workers > 1
        if shared and not self._options.joins:
            for probe in bind(host, self._options.port):  # a shared port would be given to us, whoever has it
                probe.close()
        sockets = bind(host, self._options.port, shared=shared)
        loop = asyncio.get_running_loop()
        self._tick()
        for listener in sockets:
            server = await loop.create_server(self._protocol, sock=listener, ssl=tls, backlog=BACKLOG)
            self._servers.append(server)
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{sockets[0].getsockname()[1]}"

    def _protocol(self) -> IngressProtocol:
        return IngressProtocol(self._config, self._state, self._options, self._begin)

    def _tick(self) -> None:
        """Renews the date header, once a second."""
        self._state.show([(b"date", formatdate(usegmt=True).encode())])
        self._clock = asyncio.get_running_loop().call_later(1.0, self._tick)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stops listening; lets requests in hand end for so long, then breaks them off."""
        for server in self._servers:
            server.close()
        if self._clock is not None:
            self._clock.cancel()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        deadline = time.monotonic() + grace_s
        if tasks := tuple(self._state.tasks):
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        # A response that is complete may still be on its way to a slow client.
        while self._state.connections and time.monotonic() < deadline:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.02)
        for connection in tuple(self._state.connections):
            connection.transport.abort()


def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Binds every address of a host to one port.

    Args:
        port: 0 for any free one, the same for all addresses.
        shared: other processes of this user may listen there too.

    Raises:
        OSError: an address in use, or none that could be bound; says which and why.
    """
    sockets: list[socket.socket] = []
    refused: OSError = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sockets.append(_bound(family, kind, protocol, (address[0], port, *address[2:]), shared))
                port = sockets[0].getsockname()[1]
            except OSError as error:
                refused = error
                if error.errno not in _ABSENT:
                    raise
        if not sockets:
            raise refused
    except OSError as error:  # socket.gaierror is one
        for listener in sockets:
            listener.close()
        of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "Free the port, or choose another one" if of_port else "Give an address of this machine as host"
        raise OSError(
            error.errno, f"Cannot serve HTTP on {host}:{port}: {error.strerror}. {advice} in http_options."
        ) from error
    return sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], shared: bool) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setblocking(False)
        # Taking over a port whose last owner's connections still linger is always meant; sharing one is not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
