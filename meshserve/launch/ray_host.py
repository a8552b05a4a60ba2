"""The one Ray actor class: it hosts any role of the mesh.

The role's `main` opens a gRPC server on the process's I/O thread, and that is where the work arrives. The actor
itself is only how Ray starts, places, restarts and kills the process; no request passes here.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray._private import worker as _worker

from meshserve.launch.launcher import Hosted, KeepsResults, Started
from meshserve.launch.parcel import Parcel

LOOPBACK = "127.0.0.1"
"""Where processes listen in a cluster that will never have a second machine."""


class RayHost:
    """Hosts one process of the mesh.

    Args:
        name: the process's name in the mesh.
        entry: import path `module:function` of the role's main.
        boot: handed to it, completed with what is only known once Ray has placed the process: `node_id`, and `host`,
            the address to listen on; `node_ip`; `log_dir`, where Ray keeps its logs; `process`, its names in logs. A
            `host` of loopback is kept, any other is replaced by the address of the node.
    """

    def __init__(self, name: str, entry: str, boot: Mapping[str, Any]) -> None:
        context = ray.get_runtime_context()
        node_id = context.get_node_id()
        named = {"worker_id": context.get_worker_id(), "actor_id": context.get_actor_id(), "actor_name": name}
        node_ip = ray.util.get_node_ip_address()
        host = boot.get("host") if boot.get("host") == LOOPBACK else node_ip
        placed = {"node_id": node_id, "host": host, "node_ip": node_ip, "log_dir": session_log_dir(), "process": named}
        self._hosted: Hosted = _import_main(entry)({**boot, **placed})
        self._started = Started(name, self._hosted.address, node_id, node_ip, os.getpid())

    async def info(self) -> Started:
        """Where the process is and where it listens; an answer means that it runs."""
        return self._started

    async def collect(self, key: str) -> Any:
        """The result of a call that this process keeps under a key; waits for it, raises what the call raised."""
        assert isinstance(self._hosted, KeepsResults)
        return await self._hosted.collect(key)

    async def parcel(self, key: str) -> Parcel:
        """A large result; Ray puts it into shared memory once, and all who ask on one machine read it there."""
        assert isinstance(self._hosted, KeepsResults)
        return Parcel(self._hosted.parcel(key))

    async def release(self, key: str) -> None:
        """Drops a large result."""
        assert isinstance(self._hosted, KeepsResults)
        self._hosted.release(key)

    async def deposit(self, key: str, parcel: Parcel) -> None:
        """Takes large arguments for a call to come."""
        assert isinstance(self._hosted, KeepsResults)
        self._hosted.deposit(key, parcel.payload())

    async def await_death(self) -> None:
        """Never answers: whoever awaits it learns of the process's death from Ray, at once."""
        await asyncio.Event().wait()


def session_log_dir() -> str:
    """Where Ray keeps the logs of this session on this node."""
    node = _worker._global_node
    return str(node.get_logs_dir_path()) if node is not None else ""


def _import_main(entry: str) -> Callable[[Mapping[str, Any]], Hosted]:
    module, _, function = entry.partition(":")
    main: Callable[[Mapping[str, Any]], Hosted] = getattr(importlib.import_module(module), function)
    return main
