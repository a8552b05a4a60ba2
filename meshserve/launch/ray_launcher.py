"""Starts the mesh's processes as detached, named Ray actors, and tells when they die.

Ray's own calls block; here they run on threads, so that the loop that asks (the I/O thread's) goes on.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from functools import lru_cache
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from meshserve.launch.apart import apart
from meshserve.launch.launcher import LaunchError, Node, ProcessSpec, Started, WorkSpec
from meshserve.launch.placement import actor_options
from meshserve.launch.ray_groups import PlacementGroups
from meshserve.launch.ray_host import RayHost
from meshserve.launch.ray_nodes import live_nodes
from meshserve.settings import NAMESPACE

_PREFIX = "MESHSERVE_"
"""Of the names of all processes."""

_COLOUR = re.compile("\x1b\\[[0-9;]*m")
"""Ray colours its messages."""


class RayLauncher:
    """The `Launcher` on Ray. Ray must be initialised in this process."""

    def __init__(self) -> None:
        self._actors: dict[str, Any] = {}
        self._groups = PlacementGroups()

    async def start(self, spec: ProcessSpec) -> Started:
        """See `Launcher.start`. Waits for resources for as long as it takes; `kill` ends the wait."""
        try:
            actor = self._actors[spec.name] = await apart(self._create, spec)
            return await _info(actor)
        except (RayError, ValueError) as error:
            self._actors.pop(spec.name, None)
            await apart(self._groups.remove, spec.name)
            raise LaunchError(_reason(spec, error)) from error

    async def run(self, spec: WorkSpec) -> bytes:
        """See `Launcher.run`."""
        task = await apart(_begin_work, spec)
        try:
            result: bytes = await task
        except asyncio.CancelledError:
            await apart(ray.cancel, task, force=True)
            raise
        except RayError as error:
            raise LaunchError(_COLOUR.sub("", str(error)).strip()) from error
        return result

    async def wait_for_death(self, name: str) -> None:
        """See `Launcher.wait_for_death`; also returns when there is no such process."""
        actor = await self._actor(name)
        if actor is None:
            return
        try:
            await actor.await_death.remote()
        except RayError:  # the actor is dead: this is what was waited for
            if self._actors.get(name) is actor:
                del self._actors[name]

    async def kill(self, name: str) -> None:
        """See `Launcher.kill`."""
        actor = await self._actor(name)
        self._actors.pop(name, None)
        if actor is not None:
            await apart(ray.kill, actor, no_restart=True)
        await apart(self._groups.remove, name)

    async def find(self, name: str) -> Started | None:
        """See `Launcher.find`. Waits for one that is still being started."""
        actor = await self._actor(name)
        if actor is None:
            return None
        try:
            return await _info(actor)
        except RayError:  # it died between the listing and the question
            return None

    async def names(self) -> tuple[str, ...]:
        """See `Launcher.names`. Includes processes that are still being started."""
        return await apart(_names)

    async def nodes(self) -> tuple[Node, ...]:
        """See `Launcher.nodes`."""
        return await apart(live_nodes)

    def _create(self, spec: ProcessSpec) -> Any:
        options = actor_options(spec, self._groups.group_of(spec))
        return _host_class(_title(spec.name)).options(**options).remote(spec.name, spec.entry, dict(spec.boot))

    async def _actor(self, name: str) -> Any:
        """The handle of the actor of that name, or None."""
        if name not in self._actors:
            try:
                self._actors[name] = await apart(ray.get_actor, name, NAMESPACE)
            except ValueError:  # Ray's way to say that there is none
                return None
        return self._actors[name]


def _names() -> tuple[str, ...]:
    """Names of actors, and of placement groups: one whose actor died while nobody watched is there to be removed.

    Programs may have actors of their own in our namespace, and groups have none: only our names are ours.
    """
    listed = ray.util.list_named_actors(all_namespaces=True)
    actors = [entry["name"] for entry in listed if entry["namespace"] == NAMESPACE]
    groups = [entry["name"] for entry in ray.util.placement_group_table().values() if entry["state"] != "REMOVED"]
    return tuple(name for name in dict.fromkeys((*actors, *groups)) if name.startswith(_PREFIX))


async def _info(actor: Any) -> Started:
    started: Started = await actor.info.remote()
    return started


def _begin_work(spec: WorkSpec) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"name": spec.name, "runtime_env": dict(spec.runtime_env), "scheduling_strategy": here}
    return _work.options(**options).remote(spec.entry, spec.argument)


# A process of its own: what it imports is nobody else's.
@ray.remote(num_cpus=0, max_calls=1)  # type: ignore[untyped-decorator]  # Ray's types leave it out
def _work(entry: str, argument: bytes) -> bytes:
    module, _, function = entry.partition(":")
    result: bytes = getattr(importlib.import_module(module), function)(argument)
    return result


@lru_cache(maxsize=1024)
def _host_class(title: str) -> Any:
    """The actor class under a name of its own: Ray titles the operating system's process with it."""
    return ray.remote(type(title, (RayHost,), {}))


def _title(name: str) -> str:
    """`MESHSERVE_REPLICA::app#deployment#tag` -> `MeshReplica:app:deployment`, which all its replicas share."""
    role, _, rest = name.removeprefix(_PREFIX).partition("::")
    parts = rest.split("#")[:2] if rest else []
    return ":".join([f"Mesh{role.partition('-')[0].capitalize()}", *parts])


def _reason(spec: ProcessSpec, error: Exception) -> str:
    text = _COLOUR.sub("", str(error)).strip()
    return f"process {spec.name!r} could not be started: {text}"
