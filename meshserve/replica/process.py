"""The replica process: one server, one door, one user object."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from meshserve.launch.locator import locate
from meshserve.model.call import Payload
from meshserve.model.ids import DeploymentId
from meshserve.replica.admission import Admission
from meshserve.replica.control import ReplicaControl
from meshserve.replica.door import Door
from meshserve.replica.runner import Runner
from meshserve.replica.running import IoMail, Running
from meshserve.replica.user_code import UserCode
from meshserve.routing.directory import Directory, set_process_directory
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.rpc.mailbox import Mailbox
from meshserve.rpc.segments import segment_pool
from meshserve.rpc.server import start_internal_server
from meshserve.settings import Settings
from meshserve.telemetry.current import ask_for_request
from meshserve.telemetry.log_options import Identity
from meshserve.telemetry.logs import start_process
from meshserve.telemetry.loop_lag import watch_loop
from meshserve.telemetry.tracing import start_tracing
from meshserve.telemetry.tracing_options import TracingOptions
from meshserve.transport.server import Server
from meshserve.user.context import get_request_context
from meshserve.user.multiplex import ModelRegistry
from meshserve.v1 import replica_control_pb2_grpc, replica_pb2_grpc


def main(boot: Mapping[str, Any]) -> ReplicaProcess:
    """Starts the replica's server; the controller does the rest through it.

    Args:
        boot: token, host, node_id, app, deployment, replica_tag, actor_name; `log_dir` of the Ray session.
    """
    io = io_thread()
    _tell_who(boot)
    watch_loop("io", io.loop)
    set_process_directory(Directory(locate, "replica", str(boot["node_id"]), io, Random()))
    return io.run(_start(boot, io))


def _tell_who(boot: Mapping[str, Any]) -> None:
    """Says to metrics, logs and traces who this is, and where they find the request that code serves."""
    who = Identity.of_replica(boot["app"], boot["deployment"], boot["replica_tag"], str(boot["node_id"]))
    who = replace(who, process=boot.get("process", {}))
    log_dir = boot.get("log_dir", "")
    start_process(who, log_dir)
    ask_for_request(get_request_context)
    default = TracingOptions.from_settings(Settings.from_environment())
    start_tracing(TracingOptions.from_json(boot.get("tracing_json", ""), default), who, log_dir)


async def _start(boot: Mapping[str, Any], io: LoopThread) -> ReplicaProcess:
    process = ReplicaProcess(boot, io)
    process.server, process.address = await start_internal_server(
        boot["token"],
        boot["host"],
        [
            lambda server: replica_pb2_grpc.add_ReplicaServiceServicer_to_server(process.door, server),
            lambda server: replica_control_pb2_grpc.add_ReplicaControlServiceServicer_to_server(
                process.control, server
            ),
        ],
    )
    return process


class ReplicaProcess:
    """Everything of one replica; see `launch.launcher.Hosted`."""

    def __init__(self, boot: Mapping[str, Any], io: LoopThread) -> None:
        self.address = ""
        self.server: Server | None = None
        self._io = io
        self._runner: Runner | None = None
        admission = Admission(limit=0)
        admission.draining = False
        mailbox: Mailbox[IoMail] = Mailbox(io.loop, _apply)
        deployment = DeploymentId(boot["app"], boot["deployment"])
        self.door = Door(deployment, boot["replica_tag"], admission, self._begin, mailbox, self._models)
        self.door.actor_name = segment_pool().actor_name = boot["actor_name"]
        self.control = ReplicaControl(self.door, self._install)
        ModelRegistry.on_change(lambda: mailbox.post((self.door.announce,)))

    def _install(self, user: UserCode) -> None:
        self._runner = Runner(user, self.door.kept)
        self.door.user_loop = user.loop

    def _begin(self, running: Running) -> None:
        assert self._runner is not None  # the limit is 0 until there is one
        self._runner.start(running)

    def _models(self) -> tuple[str, ...]:
        return ModelRegistry.current_models()

    async def collect(self, key: str) -> Any:
        """Gives away a kept result; see `launch.ray_host`."""
        return await self.door.kept.collect(key)

    def parcel(self, key: str) -> Payload:
        """A large result; see `launch.ray_host`."""
        return self.door.kept.parcel(key)

    def release(self, key: str) -> None:
        """Drops a large result."""
        self.door.kept.release(key)

    def deposit(self, key: str, payload: Payload) -> None:
        """Large arguments for a call to come."""
        self.door.kept.deposit(key, payload)

    def stop(self) -> None:
        """Ends the server at once."""
        if self.server is not None:
            asyncio.run_coroutine_threadsafe(self.server.stop(0), self._io.loop).result(5)


def _apply(mail: IoMail) -> None:
    mail[0](*mail[1:])
