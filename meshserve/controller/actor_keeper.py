"""Has actions about actors done that the replicas of a deployment share: users' actors, which speak no gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from meshserve.controller.connections import Connections
from meshserve.controller.processes import Processes
from meshserve.controller.specs import shared_actor
from meshserve.controller.tasks import Tasks
from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.launch.actor_launcher import ActorLauncher, ActorSpec
from meshserve.launch.launcher import LaunchError
from meshserve.model.process_names import actor_name

ActorAction: TypeAlias = ac.StartActor | ac.FindActor | ac.CheckActor | ac.KillActor


class ActorKeeper:
    """Makes, finds, checks and kills actors; lives on the I/O thread.

    Args:
        launcher: does so.
        tasks: owns the work, with actors' names as subjects.
        connections: of the controller; actors have none.
        post: told every outcome.
    """

    def __init__(
        self, launcher: ActorLauncher, tasks: Tasks, connections: Connections, post: Callable[[ev.Event], None]
    ) -> None:
        self._launcher = launcher
        self._tasks = tasks
        # A constructor may take as long as it likes, also that of an actor which an earlier controller has begun.
        self._actors = Processes[ActorSpec](launcher, tasks, connections, find_timeout_s=None)
        self._post = post

    def perform(self, action: ActorAction) -> None:
        """Begins an action."""
        name, died = actor_name(action.actor), ev.ActorDied(action.actor)
        match action:
            case ac.KillActor():
                self._tasks.spawn(("kill", name), self._actors.kill(name, lambda: self._post(died)))
            case ac.StartActor():
                self._tasks.spawn(name, self._start(action))
            case ac.FindActor():
                self._tasks.spawn(name, self._find(action))
            case ac.CheckActor():
                self._tasks.spawn(name, self._check(action))

    async def _start(self, action: ac.StartActor) -> None:
        died = ev.ActorDied(action.actor)
        try:
            await self._actors.start(shared_actor(action), lambda: self._post(died))
        except LaunchError as error:
            self._post(ev.ActorFailed(action.actor, str(error)))
        else:
            self._post(ev.ActorReady(action.actor))

    async def _find(self, action: ac.FindActor) -> None:
        died = ev.ActorDied(action.actor)
        found = await self._actors.find(actor_name(action.actor), lambda: self._post(died))
        self._post(died if found is None else ev.ActorReady(action.actor))

    async def _check(self, action: ac.CheckActor) -> None:
        try:
            await asyncio.wait_for(self._launcher.check(actor_name(action.actor)), action.timeout_s)
        except TimeoutError:
            self._post(ev.ActorUnhealthy(action.actor, f"it did not answer within {action.timeout_s:g} s"))
        except LaunchError as error:
            self._post(ev.ActorUnhealthy(action.actor, str(error)))
        else:
            self._post(ev.ActorHealthy(action.actor))
