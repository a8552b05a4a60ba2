"""The lifespan of an ASGI application: its startup before the replica serves, its shutdown before the replica goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

AsgiApp: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""An ASGI 3 application."""

log = logging.getLogger(__name__)


class Lifespan:
    """Runs an application's lifespan task on the current loop.

    An application that raises before it has answered the startup does not speak the protocol, and is served without it.

    Args:
        app: the application.

    Attributes:
        state: what the application put into its lifespan state; requests get a shallow copy.
    """

    def __init__(self, app: AsgiApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._answer: asyncio.Future[str | None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Starts the application.

        Raises:
            RuntimeError: the application said that its startup failed.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        failure = await self._ask("lifespan.startup")
        if failure is not None:
            raise RuntimeError(f"The ASGI application failed in its lifespan startup:\n{failure}")

    async def shutdown(self) -> None:
        """Ends the application, if it is still waiting for that; a failure is logged."""
        if self._task is None or self._task.done():
            return
        failure = await self._ask("lifespan.shutdown")
        if failure is not None:
            log.error("The ASGI application failed in its lifespan shutdown:\n%s", failure)

    async def _ask(self, event: str) -> str | None:
        """Sends an event; waits until it is answered or the task is over; the failure reported, or None."""
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        return await self._answer

    async def _run(self) -> None:
        scope: MutableMapping[str, Any] = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._events.get, self._send)
        except Exception as error:  # noqa: BLE001 - user code may raise anything; see the class for what it means
            log.debug("The ASGI application left its lifespan with %r; it is served without one.", error)
        finally:
            self._settle(None)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        failed = message["type"].endswith(".failed")
        self._settle(message.get("message") or "no reason was given" if failed else None)

    def _settle(self, failure: str | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(failure)
