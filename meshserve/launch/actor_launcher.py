"""What the controller may ask about actors of users' classes. `ray_actors` is the real one, `testing` has a fake.

They are no processes of the mesh: they listen nowhere, and what replicas say to them goes through Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshserve.launch.launcher import Started


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """An actor to make.

    Attributes:
        name: unique in the mesh; actors are found again by it.
        class_pickle: the class by cloudpickle, with or without Ray's decorator.
        arguments_pickle: arguments of its constructor by cloudpickle, by position and by name; empty for those below.
        args: of its constructor, where JSON can carry them.
        kwargs: the same by name.
        actor_options: resources, runtime_env and more, in Ray's terms.
        environment: the runtime environment in which the class can be loaded, in Ray's terms.
        import_paths: folders that the class may import modules from, where they exist.
    """

    name: str
    class_pickle: bytes
    arguments_pickle: bytes = b""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    actor_options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    import_paths: tuple[str, ...] = ()


class ActorLauncher(Protocol):
    """Makes, finds, checks and kills actors; as patient as `Launcher`."""

    async def start(self, spec: ActorSpec) -> Started:
        """Makes an actor and waits until it is constructed; may wait for resources for ever. It has no address.

        Raises:
            LaunchError: its class cannot be loaded, its constructor raised, or it can never be placed.
        """

    async def find(self, name: str) -> Started | None:
        """The actor of that name once it is constructed; None when there is none, or its constructor raised."""

    async def check(self, name: str) -> None:
        """Returns when the actor answers.

        Raises:
            LaunchError: it is gone.
        """

    async def wait_for_death(self, name: str) -> None:
        """Returns when the actor is known to be dead."""

    async def kill(self, name: str) -> None:
        """Kills an actor, also one that is being made; an unknown name is ignored."""
