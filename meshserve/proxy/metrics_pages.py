"""What this proxy answers to Prometheus: `/metrics` for its node, `/-/metrics/targets` for the mesh."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from meshserve.proxy.discovery import Discovery
from meshserve.proxy.http_answers import Answer, Page
from meshserve.telemetry.exposition import CONTENT_TYPE, process_text


class NodeText(Protocol):
    """Where the metrics of a node come from: `proxy.metrics.NodeMetrics`, `proxy.workers.FirstProcess`."""

    async def text(self) -> bytes:
        """All metrics of this node."""

    async def close(self) -> None:
        """Ends all connections."""


class MetricsPages:
    """See the module.

    Args:
        node: the metrics of the node; None for those of this process alone.
        discovery: knows the proxies; None for none.
        scheme: under which proxies serve, "http" or "https".
        port: at which they serve this; None for that of HTTP.

    Attributes:
        pages: by path.
    """

    def __init__(
        self,
        node: NodeText | None = None,
        discovery: Discovery | None = None,
        scheme: str = "http",
        port: int | None = None,
    ) -> None:
        self._node = node
        self._discovery = discovery
        self._scheme = scheme
        self._port = port
        self.pages: Mapping[str, Page] = {"/metrics": self.metrics, "/-/metrics/targets": self.targets}

    async def metrics(self) -> Answer:
        """All metrics of this node, as Prometheus text."""
        text = await self._node.text() if self._node is not None else process_text()
        return Answer(200, text, CONTENT_TYPE.encode())

    async def targets(self) -> Answer:
        """Every proxy, for Prometheus's HTTP service discovery."""
        targets = await self._discovery.targets(self._scheme, self._port) if self._discovery is not None else []
        return Answer(200, json.dumps(targets).encode(), b"application/json")
