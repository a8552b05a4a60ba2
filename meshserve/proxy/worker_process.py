"""What another process of a proxy is started with: the same options, on the ports that the first one has.

Ports are shared only within one proxy: its first process makes sure that nobody else has them, because the kernel lets
every process of one user join.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from meshserve.launch.launcher import ProcessSpec
from meshserve.model.process_names import proxy_worker_name
from meshserve.proxy.grpc_options import GrpcOptions, PortTakenError
from meshserve.proxy.http_server import bind
from meshserve.proxy.options import HttpOptions
from meshserve.v1 import proxy_control_pb2


def worker_boot(boot: Mapping[str, Any], first: str, http_address: str, grpc_address: str) -> dict[str, Any]:
    """What the other processes of a proxy are started with.

    Args:
        boot: of the first one.
        first: the address of its internal server.
        http_address: where it serves HTTP; empty for nowhere.
        grpc_address: where it serves gRPC; empty for nowhere.
    """
    options = proxy_control_pb2.ProxyOptions.FromString(boot["options"])
    http: dict[str, Any] = json.loads(options.http_json)
    http["joins"] = True
    if http_address:
        http["port"] = _port_of(http_address)
    grpc = json.loads(options.grpc_json) if options.grpc_json else {}
    # A socket of the file system has no way to be shared.
    grpc["port"] = _port_of(grpc_address) if grpc_address and not grpc_address.startswith("unix:") else -1
    options.http_json, options.grpc_json = json.dumps(http), json.dumps(grpc)
    return {**boot, "first": first, "options": options.SerializeToString()}


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def worker_process(boot: Mapping[str, Any], number: int) -> ProcessSpec:
    """The process with a number, from 1; it ends with the one that starts it."""
    node_id = str(boot["node_id"])
    return ProcessSpec(
        name=proxy_worker_name(node_id, number),
        entry="meshserve.proxy.process:main",
        boot={**boot, "worker": str(number)},
        actor_options={"num_cpus": 0},
        node_id=node_id,
        spread=False,
        owned=True,
    )


def shared_grpc(grpc_json: str, http: HttpOptions) -> str:
    """The gRPC options of a process whose proxy has several.

    Raises:
        PortTakenError: somebody else has the port.
        ValueError: an option is unknown or its value makes no sense.
    """
    options = GrpcOptions.from_json(grpc_json)
    if options.port > 0 and not options.host.startswith("unix:") and not http.joins:
        try:
            probes = bind(options.host.strip("[]"), options.port)
        except OSError as error:
            raise PortTakenError(options, str(error)) from error
        for probe in probes:
            probe.close()
    return json.dumps({**(json.loads(grpc_json) if grpc_json else {}), "reuse_port": True})
