"""What the rest of the mesh may ask of a process launcher. `ray_launcher` is the real one, `testing` has a fake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from meshserve.model.call import Payload


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to start.

    Attributes:
        name: unique in the mesh; processes are found again by it.
        entry: import path `module:function` of the role's main; called with `boot`, returns a `Hosted`.
        boot: what the main needs; picklable.
        actor_options: resources, runtime_env and labels, in Ray's terms.
        node_id: the node it must run on, or empty for any.
        spread: prefer nodes with fewer processes; else pack.
        placement_group_bundles: of the placement group to run in; empty for none.
        placement_group_bundle: which of them it runs in.
        placement_group: the name of the group, which all processes share that name it; empty for one of its own.
        placement_group_strategy: of that group.
        placement_group_bundle_label_selector: of that group.
        max_per_node: at most so many processes with this `group` on a node, or None.
        group: what `max_per_node` counts together.
        restart_for_ever: restarted by Ray whenever it dies (the controller).
        owned: ends with the process that starts it; any other lives until it is killed.
    """

    name: str
    entry: str
    boot: Mapping[str, Any]
    actor_options: Mapping[str, Any] = field(default_factory=dict)
    node_id: str = ""
    spread: bool = True
    placement_group_bundles: tuple[Mapping[str, float], ...] = ()
    placement_group_bundle: int = 0
    placement_group: str = ""
    placement_group_strategy: str = "PACK"
    placement_group_bundle_label_selector: tuple[Mapping[str, str], ...] = ()
    max_per_node: int | None = None
    group: str = ""
    restart_for_ever: bool = False
    owned: bool = False


@dataclass(frozen=True, slots=True)
class WorkSpec:
    """Work to be done once, in a process of its own.

    Attributes:
        name: for people who look at the cluster.
        entry: import path `module:function`; called with `argument`, returns bytes.
        argument: what the function needs.
        runtime_env: the environment of the process, in Ray's terms.
    """

    name: str
    entry: str
    argument: bytes
    runtime_env: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """A process that runs and listens."""

    name: str
    address: str
    node_id: str
    node_ip: str
    pid: int


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster.

    Attributes:
        is_head: whether it is the head node.
        draining_deadline_s: when it will go away, in seconds since the epoch; 0 when it stays.
        total: logical resources it has.
        available: logical resources that are free.
    """

    node_id: str
    node_ip: str
    is_head: bool = False
    draining_deadline_s: float = 0.0
    total: Mapping[str, float] = field(default_factory=dict)
    available: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class Hosted(Protocol):
    """A role's process, from the view of what started it."""

    @property
    def address(self) -> str:
        """Where its internal gRPC server listens, `host:port`."""

    def stop(self) -> None:
        """Ends it."""


@runtime_checkable
class KeepsResults(Protocol):
    """A process that keeps results of calls to be collected through Ray: a replica."""

    async def collect(self, key: str) -> Any:
        """The result that was to be kept under a key; waits for it, raises what the call raised."""

    def parcel(self, key: str) -> Payload:
        """A large result in its encoded form."""

    def release(self, key: str) -> None:
        """Drops a large result."""

    def deposit(self, key: str, payload: Payload) -> None:
        """Takes large arguments for a call to come."""


class Launcher(Protocol):
    """Starts, finds and ends processes. Its methods may take seconds; nobody awaits them on a loop that decides."""

    async def start(self, spec: ProcessSpec) -> Started:
        """Starts a process and waits until it listens; may wait for resources for ever.

        Raises:
            LaunchError: it died while starting, or can never be placed.
        """

    async def run(self, spec: WorkSpec) -> bytes:
        """Has work done, on the machine of this process if there is room; being cancelled ends it.

        Raises:
            LaunchError: its environment could not be set up, or its process died.
        """

    async def wait_for_death(self, name: str) -> None:
        """Returns when the process is known to be dead."""

    async def kill(self, name: str) -> None:
        """Ends a process at once, with a placement group of its own; an unknown name is ignored.

        The name of a shared placement group removes that.
        """

    async def find(self, name: str) -> Started | None:
        """The process of that name if it is alive."""

    async def names(self) -> tuple[str, ...]:
        """All live processes of the mesh, and placement groups: all that `kill` ends or removes."""

    async def nodes(self) -> tuple[Node, ...]:
        """The live machines of the cluster."""


class LaunchError(Exception):
    """A process could not be started; says why."""


class Store(Protocol):
    """Where desired state survives the controller: keys to bytes."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""

    async def put(self, key: str, value: bytes) -> None:
        """Writes a value; durable when it returns."""

    async def delete(self, key: str) -> None:
        """Removes a key; a missing one is ignored."""

    async def keys(self, prefix: str) -> tuple[str, ...]:
        """All keys with the prefix."""
