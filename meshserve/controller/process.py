"""The controller process: one server, one loop, one writer of desired state."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from meshserve.controller.autoscaler import Autoscaler
from meshserve.controller.builds import Builds
from meshserve.controller.callback import call_back
from meshserve.controller.chronicle import Chronicle
from meshserve.controller.declarations import NamedDeclarations
from meshserve.controller.executor import Boot, Executor
from meshserve.controller.ledger import Ledger
from meshserve.controller.loads import Loads
from meshserve.controller.loop import Loop
from meshserve.controller.measuring import Measuring
from meshserve.controller.publisher import Publisher
from meshserve.controller.service import ControllerService
from meshserve.controller.status_board import StatusBoard
from meshserve.controller.watch import WatchService
from meshserve.core.plan import Plan
from meshserve.core.seen_actors import ActorChecks
from meshserve.launch.actor_launcher import ActorLauncher
from meshserve.launch.launcher import Launcher, Store
from meshserve.launch.locator import MESH_KEY
from meshserve.launch.ray_actors import RayActors
from meshserve.launch.ray_launcher import RayLauncher
from meshserve.launch.ray_store import RayStore
from meshserve.model.control import Desired
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.rpc.server import start_internal_server
from meshserve.settings import Settings
from meshserve.telemetry.control import ControlMetrics, OverviewMetrics
from meshserve.telemetry.log_options import Identity
from meshserve.telemetry.logs import configure_log, log_path, start_process
from meshserve.telemetry.loop_lag import watch_loop
from meshserve.telemetry.registry import PROCESS
from meshserve.transport.server import Server
from meshserve.v1 import controller_pb2_grpc, watch_pb2_grpc
from meshserve.wire.status import ControllerIdentity

logger = logging.getLogger("meshserve.controller")


def main(boot: Mapping[str, Any]) -> ControllerProcess:
    """Starts the controller; it goes on with what an earlier one has stored.

    Args:
        boot: token, host, and node_id once the process is placed; `callback`, see `controller.callback`.
    """
    io = io_thread()
    who = replace(Identity.of_controller(str(boot.get("node_id", ""))), process=boot.get("process", {}))
    start_process(who, boot.get("log_dir", ""))
    call_back(boot)
    watch_loop("io", io.loop)
    # A controller that no longer plans must not sit there: Ray starts another one, which recovers.
    launcher = RayLauncher()
    process = ControllerProcess(boot, launcher, RayActors(launcher), RayStore(), io, abandon=lambda: os._exit(1))
    io.run(process.start())
    return process


class ControllerProcess:
    """Everything of a controller; see `launch.launcher.Hosted`.

    Args:
        launcher: starts and ends the mesh's processes.
        actors: makes and ends users' actors.
        store: where desired state survives.
        io: the I/O thread.
        abandon: called when the loop has ended by a fault of this program.
    """

    def __init__(
        self,
        boot: Mapping[str, Any],
        launcher: Launcher,
        actors: ActorLauncher,
        store: Store,
        io: LoopThread,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = ""
        self._abandon = abandon
        self._boot = boot
        self._launcher = launcher
        self._actors = actors
        self._store = store
        self._io = io
        self._server: Server | None = None
        self._executor: Executor | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._builds: Builds | None = None

    async def start(self) -> None:
        """Reads the store, opens the server, tells where it is, and begins to plan; on the I/O thread."""
        ended = asyncio.Event()
        declarations = NamedDeclarations(self._boot["declarations"])

        def announce(desired: Desired) -> None:
            _log_as(desired)
            loop.desire(desired)
            builds.follow(desired)

        ledger = Ledger(self._store, announce)
        await ledger.load()
        _log_as(ledger.desired)
        builds = self._builds = Builds(self._launcher, ledger, declarations)
        publisher, loads = Publisher(lambda: ledger.desired), Loads()
        settings = Settings.from_environment()
        boot = Boot(self._boot["token"], self._boot["host"], not settings.pack_replicas)
        checks = ActorChecks(settings.actor_check_period_s, settings.actor_check_timeout_s, settings.actor_strikes)
        executor = self._executor = Executor(
            self._launcher, self._actors, ledger, boot, time.monotonic, lambda event: loop.post(event), ended.set
        )

        def publish(plan: Plan) -> None:
            publisher.publish(plan)
            board.show(plan)
            chronicle.told(plan)

        slow_s = settings.slow_startup_s
        loop = Loop(ledger.desired, ledger.epoch, time.monotonic, _new_tag, publish, executor.perform, checks, slow_s)
        board, chronicle = StatusBoard(loop.plan), Chronicle(loop.plan)
        identity = ControllerIdentity(
            os.getpid(), self._boot.get("node_id", ""), epoch=ledger.epoch, log_path=log_path()
        )
        service = ControllerService(
            ledger,
            board,
            declarations,
            lambda: replace(identity, address=self.address, health=PROCESS.recorder(ControlMetrics).health()),
            time.monotonic,
            ended,
        )
        watch = WatchService(publisher, loads)
        PROCESS.recorder(OverviewMetrics).overview = service.overview
        self._server, self.address = await start_internal_server(
            boot.token,
            boot.host,
            [
                lambda server: controller_pb2_grpc.add_ControllerServiceServicer_to_server(service, server),
                lambda server: watch_pb2_grpc.add_WatchServiceServicer_to_server(watch, server),
            ],
        )
        found = {"address": self.address, "token": boot.token, "epoch": ledger.epoch}
        await self._store.put(MESH_KEY, json.dumps(found).encode())
        autoscaler = Autoscaler(ledger, loads, lambda: loop.plan.seen, time.monotonic)
        measuring = Measuring(lambda: loop.plan.seen, executor.ask, time.monotonic)
        self._loops = [asyncio.get_running_loop().create_task(one.run()) for one in (loop, autoscaler, measuring)]
        for task in self._loops:
            task.add_done_callback(self._loop_ended)
        builds.follow(ledger.desired)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            logger.critical("A loop of the controller has ended.", exc_info=task.exception())
            self._abandon()

    async def close(self) -> None:
        """Ends the controller and leaves the mesh as it is; on the I/O thread."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._builds is not None:
            await self._builds.close()
        if self._server is not None:
            await self._server.stop(None)
        if self._executor is not None:
            await self._executor.close()

    def stop(self) -> None:
        """See `launch.launcher.Hosted`."""
        self._io.run(self.close())


def _new_tag() -> str:
    return secrets.token_hex(4)


def _log_as(desired: Desired) -> None:
    """Applies the mesh's own `logging_config`, which comes with the options of the proxies."""
    if desired.proxies is not None:
        configure_log(json.loads(desired.proxies.logging_json or "null"))
