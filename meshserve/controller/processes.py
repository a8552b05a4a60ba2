"""Starting, finding, watching and killing the mesh's processes.

A process's death is watched from its start, or from when it was found, and ends all other work about it. Killing ends
when the process is known to be dead, so that its place is free when its death is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from meshserve.controller.connections import Connections
from meshserve.controller.tasks import Tasks
from meshserve.core.seen import Process
from meshserve.launch.launcher import LaunchError, Started

FIND_TIMEOUT_S = 5.0
"""For a process found by name to say where it listens; one that cannot is taken for lost."""

DEATH_TIMEOUT_S = 10.0
"""For a kill to show effect; then the process is reported dead all the same."""

_PAUSE_S = 0.5


class Named(Protocol):
    """What a process is started from."""

    @property
    def name(self) -> str:
        """The process's, unique in the mesh."""


S = TypeVar("S", bound=Named)
S_contra = TypeVar("S_contra", bound=Named, contravariant=True)


class Starter(Protocol[S_contra]):
    """The part of `Launcher` and `ActorLauncher` that is about single processes."""

    async def start(self, spec: S_contra) -> Started: ...
    async def find(self, name: str) -> Started | None: ...
    async def wait_for_death(self, name: str) -> None: ...
    async def kill(self, name: str) -> None: ...


class Processes(Generic[S]):
    """The processes of one kind that this controller knows, by name. Lives on the I/O thread.

    Args:
        launcher: starts, finds, watches and kills them.
        tasks: owns the work about processes, with their names as subjects.
        connections: dropped with the process.
        find_timeout_s: for a process found by name to say where it is; None for ever.
    """

    def __init__(
        self,
        launcher: Starter[S],
        tasks: Tasks,
        connections: Connections,
        find_timeout_s: float | None = FIND_TIMEOUT_S,
    ) -> None:
        self._launcher = launcher
        self._find_timeout_s = find_timeout_s
        self._tasks = tasks
        self._connections = connections
        self._starting: dict[str, asyncio.Task[Process | LaunchError]] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, Process] = {}

    def known(self, name: str) -> Process | None:
        """A process that listens."""
        return self._known.get(name)

    async def start(self, spec: S, died: Callable[[], None]) -> Process:
        """Starts a process and waits until it listens, for as long as that takes.

        Args:
            died: called once, when it is dead.

        Raises:
            LaunchError: it could not be started.
        """
        # A task of its own: a kill has to wait until the start is over, whoever else has lost interest in it.
        task = self._starting[spec.name] = self._tasks.spawn(("start", spec.name), self._begin(spec, died))
        started = await asyncio.shield(task)
        if isinstance(started, LaunchError):
            raise started
        return started

    async def _begin(self, spec: S, died: Callable[[], None]) -> Process | LaunchError:
        try:
            return self._keep(spec.name, await self._launcher.start(spec), died)
        except LaunchError as error:
            return error
        finally:
            self._starting.pop(spec.name, None)

    async def find(self, name: str, died: Callable[[], None]) -> Process | None:
        """A process of an earlier controller; None when it is not there or does not say where it listens."""
        try:
            started = await asyncio.wait_for(self._launcher.find(name), self._find_timeout_s)
        except TimeoutError:
            return None
        return self._keep(name, started, died) if started is not None else None

    def _keep(self, name: str, started: Started, died: Callable[[], None]) -> Process:
        process = self._known[name] = Process(started.address, started.node_id, started.node_ip, started.pid)
        self._watching[name] = self._tasks.spawn(("watch", name), self._watch(name, died))
        return process

    async def _watch(self, name: str, died: Callable[[], None]) -> None:
        try:
            await self._launcher.wait_for_death(name)
        finally:
            self._watching.pop(name, None)
        await self._forget(name)
        died()

    async def kill(self, name: str, died: Callable[[], None]) -> None:
        """Kills a process, also one that is still being started.

        Args:
            died: called when it is dead, unless whoever started or found it is told.
        """
        await self._launcher.kill(name)
        while (starting := self._starting.get(name)) is not None:
            # Its start may have been so little advanced that there was nothing to kill yet.
            await asyncio.wait((starting,), timeout=_PAUSE_S)
            await self._launcher.kill(name)
        watching = self._watching.get(name)
        if watching is not None:
            await asyncio.wait((watching,), timeout=DEATH_TIMEOUT_S)
            if watching.done():
                return
            watching.cancel()
        await self._forget(name)
        died()

    async def _forget(self, name: str) -> None:
        """Ends all work about a process that is dead."""
        self._tasks.cancel(name)
        if (process := self._known.pop(name, None)) is not None:
            await self._connections.drop(process.address)
