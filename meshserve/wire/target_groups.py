"""Where load balancers in front of a mesh may send requests, from the wire: its proxies, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshserve.model.process_names import proxy_name
from meshserve.model.status import ProxyState
from meshserve.v1 import controller_pb2


def target_groups(proxies: Iterable[controller_pb2.ProxyStatusInfo]) -> list[dict[str, Any]]:
    """A group for each protocol that is served, of the proxies that are well."""
    well = [one for one in proxies if one.status == ProxyState.HEALTHY]
    served = {
        "HTTP": [_target(one, one.http_address) for one in well],
        "gRPC": [_target(one, one.grpc_address) for one in well],
    }
    return [
        {"targets": there, "route_prefix": "/", "protocol": protocol}
        for protocol, targets in served.items()
        if (there := [one for one in targets if one is not None])
    ]


def _target(proxy: controller_pb2.ProxyStatusInfo, address: str) -> dict[str, Any] | None:
    """One target; None for an address without a port: nothing is served, or at a path of the file system."""
    port = address.rpartition(":")[2]
    if not port.isdigit():
        return None
    return {"ip": proxy.node_ip, "port": int(port), "instance_id": "", "name": proxy_name(proxy.node_id)}
