"""What a proxy shows to whoever operates the mesh: metrics, targets for Prometheus, the page.

They are served beside the applications, or at a port of their own, which can be kept from strangers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from meshserve.proxy.dashboard import Dashboard
from meshserve.proxy.discovery import Discovery
from meshserve.proxy.http_answers import Answer, Page
from meshserve.proxy.http_exchange import Receive, Send
from meshserve.proxy.http_server import HttpServer
from meshserve.proxy.mesh_metrics import MeshMetrics
from meshserve.proxy.metrics_pages import MetricsPages, NodeText
from meshserve.proxy.notice_board import NoticeBoard
from meshserve.proxy.options import HttpOptions
from meshserve.wire.http import Scope

LOOPBACK = "127.0.0.1"
"""Where the port is when HTTP is served nowhere."""


class Operations:
    """See the module. Lives on the I/O thread.

    Args:
        discovery: knows the controller and the other processes.
        metrics: of the node.
        token: of the mesh.
        node_id: of this proxy.
    """

    def __init__(self, discovery: Discovery, metrics: NodeText, token: str, node_id: str) -> None:
        self._node_id = node_id
        self._discovery = discovery
        self._metrics = metrics
        self._everywhere = MeshMetrics(metrics, discovery, token, node_id)
        self._notices = NoticeBoard(discovery, token)
        self._server: HttpServer | None = None

    def beside(self, options: HttpOptions) -> Mapping[str, Page]:
        """What is served beside the applications."""
        return self._pages(options) if options.metrics_port is None else {}

    async def serve(self, options: HttpOptions) -> None:
        """Opens the port of its own, if there is to be one.

        Raises:
            OSError: it cannot be bound; says why.
        """
        port = options.metrics_port
        if port is None:
            return
        own = replace(options, host=options.host or LOOPBACK, port=port, workers=1, root_path="", middlewares_from="")
        server = HttpServer(_Pages(self._pages(options)), own)
        await server.start()
        self._server = server

    def _pages(self, options: HttpOptions) -> Mapping[str, Page]:
        scheme = "https" if options.ssl_certfile else "http"
        pages = dict(MetricsPages(self._metrics, self._discovery, scheme, options.metrics_port).pages)
        if options.dashboard:
            pages |= Dashboard(self._discovery, self._everywhere, self._notices, self._node_id).pages
        return pages

    async def close(self) -> None:
        """Ends everything at once."""
        if self._server is not None:
            await self._server.stop()
        await self._everywhere.close()
        await self._notices.close()


class _Pages:
    """Pages as an ASGI application.

    Args:
        pages: by path.
    """

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self._else = Answer(404, f"There is {', '.join(pages)}.".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        page = self._pages.get(scope["path"])
        answer = self._else if page is None else await page()
        headers = [*answer.headers(), b"content-length", b"%d" % len(answer.body)]
        pairs = list(zip(headers[::2], headers[1::2], strict=True))
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
