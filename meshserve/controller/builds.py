"""Declared applications are built: each in a process of its own, one build of an application at a time.

What has to be built follows from desired state alone (`core.declare.to_build`), so a controller that comes back begins
the builds that an earlier one did not end. A build that is not wanted any more is cancelled.
"""

from __future__ import annotations

import asyncio
import logging

from meshserve.controller.declarations import Declarations
from meshserve.controller.ledger import Ledger
from meshserve.core.declare import finish_build, to_build
from meshserve.launch.launcher import Launcher, LaunchError, WorkSpec
from meshserve.model.control import Build, Desired
from meshserve.model.declared import Declaration
from meshserve.v1 import build_pb2
from meshserve.wire.control import application_from_proto

logger = logging.getLogger("meshserve.controller")


class Builds:
    """The builds under way. Lives on the I/O thread.

    Args:
        launcher: starts their processes.
        ledger: where their outcome is recorded.
        declarations: understands what is to be built.
    """

    def __init__(self, launcher: Launcher, ledger: Ledger, declarations: Declarations) -> None:
        self._launcher = launcher
        self._ledger = ledger
        self._declarations = declarations
        self._running: dict[str, tuple[str, asyncio.Task[None]]] = {}

    def follow(self, desired: Desired) -> None:
        """Begins what has to be built by a new desired state, and ends what need not be."""
        wanted = to_build(desired)
        for name, (code_key, task) in tuple(self._running.items()):
            if name not in wanted or wanted[name].code_key != code_key:
                task.cancel()
                del self._running[name]
        for name, declaration in wanted.items():
            if name not in self._running:
                task = asyncio.get_running_loop().create_task(self._build(declaration))
                self._running[name] = declaration.code_key, task

    async def close(self) -> None:
        """Ends all builds; a later controller begins them again."""
        tasks = [task for _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, declaration: Declaration) -> None:
        logger.info("Building application %r.", declaration.name)
        try:
            build = await self._outcome(declaration)
        except Exception as error:  # a fault of this program must not leave the application waiting for ever
            logger.exception("Application %r could not be built.", declaration.name)
            build = Build(declaration.code_key, failure=f"{type(error).__name__}: {error}")
        # Out of the list before the outcome is announced: what that leads to may be another build of the same code.
        self._running.pop(declaration.name, None)
        await self._ledger.change(
            lambda desired: finish_build(desired, declaration.name, build, self._declarations.merge)
        )

    async def _outcome(self, declaration: Declaration) -> Build:
        request = build_pb2.BuildRequest(
            config_json=declaration.config_json,
            import_paths=declaration.import_paths,
            code_version=declaration.code_key,
        )
        environment = await asyncio.to_thread(self._declarations.runtime_env, declaration)
        name, entry = f"meshserve build of {declaration.name}", self._declarations.build_entry
        work = WorkSpec(name, entry, request.SerializeToString(), environment)
        try:
            answer = build_pb2.BuildResponse.FromString(await self._launcher.run(work))
        except LaunchError as error:
            text = f"Application {declaration.name!r} could not be built in its runtime environment. {error}"
            return Build(declaration.code_key, failure=text)
        if answer.failure:
            return Build(declaration.code_key, failure=answer.failure)
        return Build(declaration.code_key, application_from_proto(answer.spec), by_value=dict(answer.by_value))
