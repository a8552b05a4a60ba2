"""What a program says to the controller. Lives on the I/O thread; the functions of the API call it from any other.

User code that shares the I/O loop (`Settings.user_code_apart`) may call them as well: it waits for a loop beside that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import grpc
import grpc.aio

from meshserve.errors import ControllerUnreachableError, MeshServeException
from meshserve.launch.locator import MeshAddress, controller_exists, locate
from meshserve.model.control import ApplicationSpec, ProxyOptions
from meshserve.model.declared import Change
from meshserve.model.overview import MeshOverview
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.rpc.token import token_metadata
from meshserve.v1 import controller_pb2, controller_pb2_grpc
from meshserve.wire.application import application_to_proto
from meshserve.wire.config_changes import changes_from_proto
from meshserve.wire.control import proxy_options_from_proto, proxy_options_to_proto
from meshserve.wire.details import details_from_proto
from meshserve.wire.overview import overview_from_proto

T = TypeVar("T")

PATIENCE_S = 30.0
"""A controller that was killed is back after a few seconds; a program waits so long for it."""

_PAUSE_S = 0.1

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAUTHENTICATED)
"""The controller is gone, is ending, or is another one by now: it has to be looked for again."""


@dataclass(frozen=True, slots=True)
class ConfigAnswer:
    """What came of a configuration file.

    Attributes:
        generation: of the desired state with it.
        changes: what becomes of each application.
        ignored: options of proxies that count only when the mesh is started, and differ from those in force.
    """

    generation: int
    changes: tuple[Change, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection to the controller."""

    channel: grpc.aio.Channel
    stub: Any
    metadata: tuple[tuple[str, str], ...]


class ControllerClient:
    """Calls the controller, and finds it again when it was restarted; what it calls may be repeated.

    It has a connection for each loop that it is used in.

    Args:
        find: finds the controller.
        patience_s: how long an unreachable controller is looked for.
        exists: whether it can come back at all.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[MeshAddress]] = locate,
        patience_s: float = PATIENCE_S,
        exists: Callable[[], Awaitable[bool]] = controller_exists,
    ) -> None:
        self._find = find
        self._patience_s = patience_s
        self._exists = exists
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}

    async def apply(self, specs: Sequence[ApplicationSpec]) -> int:
        """Sets applications; returns the generation.

        Raises:
            MeshServeException: the controller refuses them, for example since a route prefix is taken.
        """
        request = controller_pb2.ApplyRequest(applications=[application_to_proto(spec) for spec in specs])
        return int((await self._call("Apply", request)).generation)

    async def apply_config(
        self, config_json: str, import_paths: Sequence[str], revision: str = "", dry_run: bool = False
    ) -> ConfigAnswer:
        """Sets the applications of a configuration file; see controller.proto.

        Raises:
            ValueError: the file is not valid.
            MeshServeException: the controller refuses it, for example since a route prefix is taken.
        """
        request = controller_pb2.ApplyConfigRequest(
            config_json=config_json, import_paths=import_paths, revision=revision, dry_run=dry_run
        )
        answer = await self._call("ApplyConfig", request)
        return ConfigAnswer(int(answer.generation), changes_from_proto(answer), tuple(answer.ignored))

    async def details(self) -> dict[str, Any]:
        """All that status tells, as plain values; see `wire.details`."""
        return details_from_proto(await self._call("Status", controller_pb2.StatusRequest()))

    async def config(self) -> str:
        """The configuration file in force as JSON; empty for none."""
        return str((await self._call("GetConfig", controller_pb2.GetConfigRequest())).config_json)

    async def delete(self, names: Sequence[str]) -> None:
        """Begins to delete applications; unknown names are ignored."""
        await self._call("Delete", controller_pb2.DeleteRequest(names=names))

    async def status(self) -> MeshOverview:
        """What runs now."""
        return overview_from_proto(await self._call("Status", controller_pb2.StatusRequest()))

    async def start_proxies(self, options: ProxyOptions) -> tuple[ProxyOptions, bool]:
        """Starts proxies; returns the options in force, and whether they were in force before."""
        request = controller_pb2.StartProxiesRequest(options=proxy_options_to_proto(options))
        answer = await self._call("StartProxies", request)
        return proxy_options_from_proto(answer.options), bool(answer.already_started)

    async def shut_down(self) -> None:
        """Deletes everything; returns when all processes but the controller are gone."""
        await self._call("Shutdown", controller_pb2.ShutdownRequest())

    async def watch(self) -> AsyncGenerator[MeshOverview, None]:
        """The state of the mesh, now and whenever it changes; goes on with a restarted controller.

        Raises:
            ControllerUnreachableError: it does not come back.
        """
        heard_at = time.monotonic()
        while True:
            line = await self._line()
            stream = line.stub.WatchStatus(controller_pb2.WatchStatusRequest(), metadata=line.metadata)
            try:
                async for message in stream:
                    heard_at = time.monotonic()
                    yield overview_from_proto(message.status)
            except grpc.aio.AioRpcError as error:
                await self._forget(error)
                await self._pause(heard_at, error)
            finally:
                stream.cancel()

    async def close(self) -> None:
        """Closes the connection of the running loop."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.channel.close()

    async def _call(self, method: str, request: Any) -> Any:
        began_at = time.monotonic()
        while True:
            line = await self._line()
            try:
                return await getattr(line.stub, method)(request, metadata=line.metadata)
            except grpc.aio.AioRpcError as error:
                await self._forget(error)
                await self._pause(began_at, error)

    async def _pause(self, heard_at: float, error: grpc.aio.AioRpcError) -> None:
        """Waits a little before the next attempt, unless there have been enough or none can succeed."""
        if not await self._exists():
            raise ControllerUnreachableError(
                "the controller was killed for good: meshserve.run() or start() begins another one, which takes over "
                "what runs, and shutdown() ends what runs"
            ) from error
        if time.monotonic() > heard_at + self._patience_s:
            raise ControllerUnreachableError(f"the controller does not answer: {error.details()}") from error
        await asyncio.sleep(_PAUSE_S)

    async def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            mesh = await self._find()
            channel = internal_channel(mesh.address)
            stub = controller_pb2_grpc.ControllerServiceStub(channel)
            self._lines[loop] = _Line(channel, stub, token_metadata(mesh.token))
        return self._lines[loop]

    async def _forget(self, error: grpc.aio.AioRpcError) -> None:
        """The controller is to be found anew; an answer of the controller itself is raised.

        Raises:
            ValueError: something given to it was not valid.
            MeshServeException: it refuses for another reason.
        """
        await self.close()
        details = str(error.details())
        match error.code():
            case code if code in _AWAY:
                return
            case grpc.StatusCode.INVALID_ARGUMENT:
                raise ValueError(details) from error
            case _:
                raise MeshServeException(details) from error


_client: ControllerClient | None = None


def client() -> ControllerClient:
    """The client of this process; on the I/O thread."""
    global _client
    if _client is None:
        _client = ControllerClient()
    return _client


async def forget_client() -> None:
    """Closes the client of this process: its mesh is gone."""
    global _client
    if _client is not None:
        await _client.close()
        _client = None


@cache
def _aside() -> LoopThread:
    """Where calls go that are waited for on the I/O thread, which cannot wait for itself."""
    return LoopThread("meshserve-aside").start()


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the I/O thread, or beside it when called there, and waits for it.

    An interrupt (Ctrl-C) cancels it.
    """
    thread = _aside() if io_thread().is_current else io_thread()
    future = thread.submit(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
