"""A stand-in for Ray as far as it makes actors of users' classes; a test lets them fail, wait and die."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from meshserve.launch.actor_launcher import ActorSpec
from meshserve.launch.launcher import LaunchError, Started


@dataclass
class FakeActor:
    """One actor."""

    spec: ActorSpec
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class FakeActors:
    """An `ActorLauncher` whose actors are entries of a table.

    Attributes:
        running: the actors that live, by name.
        made: every actor that was ever asked for.
        constructed: constructors wait until this is set.
        constructor_failure: what constructors raise; empty for none.
    """

    def __init__(self) -> None:
        self.running: dict[str, FakeActor] = {}
        self.made: list[ActorSpec] = []
        self.constructed = asyncio.Event()
        self.constructed.set()
        self.constructor_failure = ""

    async def start(self, spec: ActorSpec) -> Started:
        """See `ActorLauncher.start`."""
        self.made.append(spec)
        await self.constructed.wait()
        if self.constructor_failure:
            raise LaunchError(self.constructor_failure)
        self.running[spec.name] = FakeActor(spec)
        return Started(spec.name, "", "", "", 0)

    async def find(self, name: str) -> Started | None:
        """See `ActorLauncher.find`."""
        return Started(name, "", "", "", 0) if name in self.running else None

    async def check(self, name: str) -> None:
        """See `ActorLauncher.check`."""
        if name not in self.running:
            raise LaunchError("it is gone")

    async def wait_for_death(self, name: str) -> None:
        """See `ActorLauncher.wait_for_death`."""
        if name in self.running:
            await self.running[name].dead.wait()

    async def kill(self, name: str) -> None:
        """See `ActorLauncher.kill`; also how a test lets an actor die."""
        if (actor := self.running.pop(name, None)) is not None:
            actor.dead.set()
