"""Where the controller is. Every process of the mesh asks here, at first and again when it has lost the controller."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import ray

from meshserve.errors import ControllerUnreachableError
from meshserve.launch.apart import apart
from meshserve.launch.ray_store import RayStore
from meshserve.settings import CONTROLLER_NAME, NAMESPACE

MESH_KEY = "mesh"
"""Under this key the controller stores where it listens, whenever it has started."""


@dataclass(frozen=True, slots=True)
class MeshAddress:
    """Where a mesh's controller listens, and the token it asks for."""

    address: str
    token: str


async def locate() -> MeshAddress:
    """Finds the mesh of the Ray cluster that this process is part of.

    Raises:
        ControllerUnreachableError: this process is not connected to Ray, or no mesh runs in its cluster.
    """
    if _worker_id() in _not_ours:
        raise ControllerUnreachableError(
            "this process was forked from one that is connected to Ray, whose connection a fork does not have: start "
            'processes afresh, as multiprocessing.get_context("spawn") does'
        )
    if not ray.is_initialized():
        raise ControllerUnreachableError("this process is not connected to Ray: call meshserve.start() or run()")
    value = await RayStore().get(MESH_KEY)
    if value is None:
        raise ControllerUnreachableError("no mesh runs in this Ray cluster: start one with meshserve.start() or run()")
    mesh = json.loads(value)
    return MeshAddress(mesh["address"], mesh["token"])


async def controller_exists() -> bool:
    """Whether the controller runs or is being restarted; not once it was killed for good, or has ended."""
    try:
        await apart(ray.get_actor, CONTROLLER_NAME, NAMESPACE)
    except ValueError:  # Ray's way to say that there is none
        return False
    return True


def _worker_id() -> str:
    """Ray's id of this process; empty when it is not connected."""
    return str(ray.get_runtime_context().get_worker_id()) if ray.is_initialized() else ""


_not_ours: set[str] = set()
"""Ids under which the processes that this one was forked from are connected: what is asked of Ray under one of them
would be waited for for ever."""

_forking = ""


def _note_fork() -> None:
    # In the parent: in the child Ray may find a lock taken by a thread that is not there any more.
    global _forking
    _forking = _worker_id()


def _note_parent() -> None:
    if _forking:
        _not_ours.add(_forking)


os.register_at_fork(before=_note_fork, after_in_child=_note_parent)
