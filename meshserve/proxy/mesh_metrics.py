"""The metrics of all nodes, for the page: each node's proxy shows those of its node.

Prometheus scrapes the proxies one by one; only who looks at the page of one proxy wants the whole mesh from it.
"""

from __future__ import annotations

import asyncio

from meshserve.proxy.discovery import Discovery
from meshserve.proxy.metrics_pages import NodeText
from meshserve.proxy.workers import FirstProcess
from meshserve.telemetry.merging import merge


class MeshMetrics:
    """See the module. Lives on the I/O thread.

    Args:
        own: the metrics of this node.
        discovery: knows the proxies.
        token: of the mesh.
        node_id: of this proxy.
    """

    def __init__(self, own: NodeText, discovery: Discovery, token: str, node_id: str) -> None:
        self._own = own
        self._discovery = discovery
        self._token = token
        self._node_id = node_id
        self._others: dict[str, FirstProcess] = {}

    async def text(self) -> tuple[bytes, list[str]]:
        """The metrics, and the nodes that they are of: a proxy that does not answer is left out."""
        addresses = await self._discovery.elsewhere()
        await self._follow(set(addresses.values()))
        own, *others = await asyncio.gather(self._own.text(), *(self._others[one].text() for one in addresses.values()))
        answered = [node_id for node_id, text in zip(addresses, others, strict=True) if text]
        if not answered:
            return own, [self._node_id]
        return await asyncio.to_thread(merge, [own, *others]), [self._node_id, *answered]

    async def _follow(self, addresses: set[str]) -> None:
        """Has connections to these proxies and no others."""
        for address in self._others.keys() - addresses:
            await self._others.pop(address).close()
        for address in addresses - self._others.keys():
            self._others[address] = FirstProcess(address, self._token)

    async def close(self) -> None:
        """Ends all connections."""
        await self._follow(set())
