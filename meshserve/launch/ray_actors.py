"""Actors of users' classes, on Ray: named, detached, never restarted by Ray.

The class is loaded where its modules are: in a short-lived process with the runtime environment of the replicas, which
makes the actor and stays until it is constructed. The controller itself runs none of the user's code.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from typing import Any

import cloudpickle
import ray
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.exceptions import RayError

from meshserve.launch.actor_launcher import ActorSpec
from meshserve.launch.apart import apart
from meshserve.launch.launcher import Launcher, LaunchError, Started, WorkSpec
from meshserve.settings import NAMESPACE

_LOOK_PERIOD_S = 0.5
"""Between looks whether an actor lives. Ray tells every process that holds a handle; asking costs microseconds."""


class RayActors:
    """The `ActorLauncher` on Ray. Ray must be initialised in this process.

    Args:
        launcher: has classes loaded.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._actors: dict[str, Any] = {}

    async def start(self, spec: ActorSpec) -> Started:
        """See `ActorLauncher.start`."""
        work = WorkSpec(spec.name, "meshserve.launch.ray_actors:make", pickle.dumps(spec), spec.environment)
        await self._launcher.run(work)
        found = await self.find(spec.name)
        if found is None:
            raise LaunchError(f"actor {spec.name!r} died as soon as it was constructed")
        return found

    async def find(self, name: str) -> Started | None:
        """See `ActorLauncher.find`."""
        try:
            await self.check(name)
        except LaunchError:
            self._actors.pop(name, None)
            return None
        return Started(name, "", "", "", 0)

    async def check(self, name: str) -> None:
        """See `ActorLauncher.check`."""
        actor = await self._actor(name)
        if actor is None:
            raise LaunchError(f"there is no actor {name!r}")
        try:
            await actor.__ray_ready__.remote()
        except RayError as error:
            raise LaunchError(str(error)) from error

    async def wait_for_death(self, name: str) -> None:
        """See `ActorLauncher.wait_for_death`."""
        actor = await self._actor(name)
        while actor is not None and actor._get_local_state() != ActorTableData.DEAD:  # noqa: ASYNC110 - it cannot be awaited
            await asyncio.sleep(_LOOK_PERIOD_S)
        if self._actors.get(name) is actor:
            self._actors.pop(name, None)

    async def kill(self, name: str) -> None:
        """See `ActorLauncher.kill`."""
        actor = await self._actor(name)
        self._actors.pop(name, None)
        if actor is not None:
            await apart(ray.kill, actor, no_restart=True)

    async def _actor(self, name: str) -> Any:
        """The handle of the actor of that name, or None."""
        if name not in self._actors:
            actor = await apart(actor_named, name)
            if actor is None:
                return None
            self._actors[name] = actor
        return self._actors[name]


def actor_named(name: str) -> Any:
    """The handle of the user's actor of that name, or None; blocks."""
    try:
        return ray.get_actor(name, NAMESPACE)
    except ValueError:  # Ray's way to say that there is none
        return None


def as_actor_class(plain: type) -> Any:
    """A class of this package as a class of actors that reserve no CPU."""
    return ray.remote(num_cpus=0)(plain)


def make(argument: bytes) -> bytes:
    """Makes the actor of a pickled `ActorSpec`, in a process of its own; returns when it is constructed."""
    spec: ActorSpec = pickle.loads(argument)
    sys.path[:0] = [folder for folder in spec.import_paths if os.path.isdir(folder)]
    actor_class = cloudpickle.loads(spec.class_pickle)
    if not hasattr(actor_class, "__ray_actor_class__"):
        actor_class = ray.remote(actor_class)
    args, kwargs = cloudpickle.loads(spec.arguments_pickle) if spec.arguments_pickle else (spec.args, spec.kwargs)
    ours = {"name": spec.name, "namespace": NAMESPACE, "lifetime": "detached", "max_restarts": 0}
    actor = actor_class.options(**{**spec.actor_options, **ours}, get_if_exists=True).remote(*args, **kwargs)
    ray.get(actor.__ray_ready__.remote())
    return b""
