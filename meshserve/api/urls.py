"""Where applications answer, as text for people."""

from __future__ import annotations

from meshserve.model.overview import MeshOverview, ProxyOverview
from meshserve.model.status import ProxyState

_ANY_ADDRESS = ("0.0.0.0", "::", "[::]", "")


def http_url(mesh: MeshOverview, route_prefix: str | None, scheme: str = "http") -> str:
    """The URL of an application, on the first proxy that serves HTTP; empty when it has none."""
    if route_prefix is None:
        return ""
    address = next((one.http_address for one in _serving(mesh) if one.http_address), "")
    return f"{scheme}://{_reachable(address)}{route_prefix}" if address else ""


def grpc_address(mesh: MeshOverview) -> str:
    """Where gRPC is served, on the first proxy that does; empty when none does."""
    address = next((one.grpc_address for one in _serving(mesh) if one.grpc_address), "")
    return _reachable(address) if address else ""


def _serving(mesh: MeshOverview) -> list[ProxyOverview]:
    return [proxy for proxy in mesh.proxies.values() if proxy.status == ProxyState.HEALTHY]


def _reachable(address: str) -> str:
    """An address that can be connected to: one that listens everywhere listens on this machine."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in _ANY_ADDRESS else address
