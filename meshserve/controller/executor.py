"""Has actions done. Every action becomes a task about one process; its outcome is posted to the loop as an event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from meshserve.controller.actor_keeper import ActorKeeper
from meshserve.controller.connections import Connections
from meshserve.controller.ledger import Ledger
from meshserve.controller.processes import Processes
from meshserve.controller.specs import proxy_process, replica_process
from meshserve.controller.steering import Steering
from meshserve.controller.tasks import Tasks
from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.core.desire import forget, set_failure
from meshserve.core.measuring import Question
from meshserve.core.prefixes import leave_prefixes
from meshserve.core.seen import Process, Resources, SeenNode
from meshserve.launch.actor_launcher import ActorLauncher
from meshserve.launch.launcher import Launcher, LaunchError, Node, ProcessSpec
from meshserve.model.gang import GangId
from meshserve.model.process_names import (
    actor_of,
    gang_name,
    gang_of,
    proxy_name,
    proxy_node_of,
    replica_name,
    replica_of,
)

logger = logging.getLogger("meshserve.controller")

T = TypeVar("T")

ReplicaAction: TypeAlias = (
    ac.StartReplica
    | ac.InitializeReplica
    | ac.ReconfigureReplica
    | ac.CheckReplica
    | ac.DrainReplica
    | ac.DescribeReplica
)
ProxyAction: TypeAlias = ac.StartProxy | ac.FindProxy | ac.CheckProxy | ac.DrainProxy

_PAUSE_S = 0.5
_ZONE_LABEL = "ray.io/availability-zone"


@dataclass(frozen=True, slots=True)
class Boot:
    """What every process of the mesh is given: the token, and the address to bind; and how replicas are placed.

    Attributes:
        spread: replicas are spread over the machines; else these are filled one after the other.
    """

    token: str
    host: str
    spread: bool = True


class Executor:
    """Performs actions; lives on the I/O thread.

    Args:
        launcher: starts and ends processes.
        actors: makes and ends users' actors.
        ledger: where desired state is changed.
        boot: for new processes.
        clock: the monotonic clock.
        post: told every outcome.
        ended: called once the store was cleared: the mesh has stopped.
    """

    def __init__(
        self,
        launcher: Launcher,
        actors: ActorLauncher,
        ledger: Ledger,
        boot: Boot,
        clock: Callable[[], float],
        post: Callable[[ev.Event], None],
        ended: Callable[[], None],
    ) -> None:
        self._launcher = launcher
        self._ledger = ledger
        self._boot = boot
        self._clock = clock
        self._post = post
        self._ended = ended
        self._tasks = Tasks()
        self._connections = Connections()
        self._processes = Processes[ProcessSpec](launcher, self._tasks, self._connections)
        self._actors = ActorKeeper(actors, self._tasks, self._connections, post)
        self._steering = Steering(self._connections, boot.token, clock)

    async def close(self) -> None:
        """Ends all work; processes stay."""
        await self._tasks.close()
        await self._connections.close()

    def perform(self, action: ac.Action) -> None:
        """Begins an action."""
        match action:
            case (
                ac.StartReplica(replica)
                | ac.InitializeReplica(replica)
                | ac.ReconfigureReplica(replica)
                | ac.CheckReplica(replica)
                | ac.DrainReplica(replica)
                | ac.DescribeReplica(replica)
            ):
                self._tasks.spawn(replica_name(replica), self._steer_replica(action))
            case ac.StartActor() | ac.FindActor() | ac.CheckActor() | ac.KillActor():
                self._actors.perform(action)
            case ac.StartProxy(node_id) | ac.FindProxy(node_id) | ac.CheckProxy(node_id) | ac.DrainProxy(node_id):
                self._tasks.spawn(proxy_name(node_id), self._steer_proxy(action))
            case ac.KillReplica(replica):
                name, died = replica_name(replica), ev.ReplicaDied(replica)
                self._tasks.spawn(("kill", name), self._processes.kill(name, lambda: self._post(died)))
            case ac.KillProxy(node_id):
                name, gone = proxy_name(node_id), ev.ProxyDied(node_id)
                self._tasks.spawn(("kill", name), self._processes.kill(name, lambda: self._post(gone)))
            case ac.RemoveGang(gang):
                self._tasks.spawn(("remove", gang_name(gang)), self._remove_gang(gang))
            case ac.ListProcesses():
                self._tasks.spawn("the cluster", self._list())
            case ac.LookAtNodes():
                self._tasks.spawn("the cluster", self._look())
            case ac.RecordFailure() | ac.Forget() | ac.ClearStore():
                self._tasks.spawn("the store", self._write(action))
            case ac.LeavePrefixes(app):
                self._tasks.spawn(("prefixes", app), self._leave_prefixes(action))

    async def ask(self, question: Question) -> None:
        """Has user code measure itself."""
        event = await self._steering.record_stats(question)
        if event is not None:
            self._post(event)

    # -- processes -----------------------------------------------------------------------------------------------

    async def _steer_replica(self, action: ReplicaAction) -> None:
        match action:
            case ac.StartReplica():
                event: ev.Event = await self._start_replica(action)
            case ac.InitializeReplica():
                event = await self._steering.initialize(action)
            case ac.ReconfigureReplica():
                event = await self._steering.reconfigure(action)
            case ac.CheckReplica():
                event = await self._steering.check(action)
            case ac.DrainReplica():
                event = await self._steering.drain(action)
            case ac.DescribeReplica():
                event = await self._describe(action)
        self._post(event)

    async def _start_replica(self, action: ac.StartReplica) -> ev.Event:
        died = ev.ReplicaDied(action.replica)
        proxies = self._ledger.desired.proxies
        tracing = proxies.tracing_json if proxies is not None else ""
        spec = replica_process(action, self._boot.token, self._boot.host, tracing, self._boot.spread)
        try:
            process = await self._processes.start(spec, lambda: self._post(died))
        except LaunchError as error:
            return ev.ReplicaFailed(action.replica, str(error))
        return ev.ReplicaLaunched(action.replica, process)

    async def _describe(self, action: ac.DescribeReplica) -> ev.Event:
        died = ev.ReplicaDied(action.replica)
        process = await self._processes.find(replica_name(action.replica), lambda: self._post(died))
        if process is None:
            return ev.ReplicaLost(action.replica)
        return await self._steering.describe(action.replica, process)

    async def _steer_proxy(self, action: ProxyAction) -> None:
        match action:
            case ac.StartProxy():
                self._post(await self._start_proxy(action))
            case ac.FindProxy():
                self._post(await self._find_proxy(action))
            case ac.CheckProxy():
                known = self._processes.known(proxy_name(action.node_id))
                self._post(await self._steering.check_proxy(action, known or Process(action.address, action.node_id)))
            case ac.DrainProxy():
                await self._steering.drain_proxy(action)

    async def _start_proxy(self, action: ac.StartProxy) -> ev.Event:
        died = ev.ProxyDied(action.node_id)
        spec = proxy_process(action, self._boot.token, self._boot.host)
        try:
            process = await self._processes.start(spec, lambda: self._post(died))
        except LaunchError as error:
            return ev.ProxyFailed(action.node_id, str(error))
        return ev.ProxyLaunched(action.node_id, process)

    async def _find_proxy(self, action: ac.FindProxy) -> ev.Event:
        died = ev.ProxyDied(action.node_id)
        process = await self._processes.find(proxy_name(action.node_id), lambda: self._post(died))
        if process is None:
            return ev.ProxyFailed(action.node_id, "it was lost while the controller was away")
        return ev.ProxyLaunched(action.node_id, process)

    async def _remove_gang(self, gang: GangId) -> None:
        await _insisting(lambda: self._launcher.kill(gang_name(gang)))
        self._post(ev.GangRemoved(gang))

    # -- the cluster and the store -------------------------------------------------------------------------------

    async def _list(self) -> None:
        names = await _insisting(self._launcher.names)
        replicas = tuple(replica for name in names if (replica := replica_of(name)) is not None)
        proxies = tuple(node_id for name in names if (node_id := proxy_node_of(name)) is not None)
        actors = tuple(actor for name in names if (actor := actor_of(name)) is not None)
        gangs = tuple(gang for name in names if (gang := gang_of(name)) is not None)
        self._post(ev.Listed(replicas, proxies, actors, gangs))

    async def _look(self) -> None:
        nodes = await _insisting(self._launcher.nodes)
        offset_s = self._clock() - time.time()
        total: dict[str, float] = {}
        free: dict[str, float] = {}
        for node in nodes:
            for resource, amount in node.total.items():
                total[resource] = total.get(resource, 0.0) + amount
            for resource, amount in node.available.items():
                free[resource] = free.get(resource, 0.0) + amount
        self._post(ev.NodesSeen(tuple(_node(node, offset_s) for node in nodes), Resources(total, free)))

    async def _write(self, action: ac.RecordFailure | ac.Forget | ac.ClearStore) -> None:
        match action:
            case ac.RecordFailure(deployment, version, message):
                await _insisting(
                    lambda: self._ledger.change(lambda desired: set_failure(desired, deployment, version, message))
                )
            case ac.Forget(app, generation):
                await _insisting(lambda: self._ledger.change(lambda desired: forget(desired, app, generation)))
            case ac.ClearStore():
                await _insisting(self._ledger.clear)
                self._ended()

    async def _leave_prefixes(self, action: ac.LeavePrefixes) -> None:
        await asyncio.sleep(action.after_s)
        app, generation = action.app, action.generation
        await _insisting(lambda: self._ledger.change(lambda desired: leave_prefixes(desired, app, generation)))


async def _insisting(work: Callable[[], Awaitable[T]]) -> T:
    """Does work that must be done; what stands in its way, such as a store that is away, is logged and outlasted."""
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("Something is tried again in %g s.", _PAUSE_S)
        await asyncio.sleep(_PAUSE_S)


def _node(node: Node, offset_s: float) -> SeenNode:
    # Whole seconds, so that looking twice at the same machine sees the same.
    leaves_at = float(round(node.draining_deadline_s + offset_s)) if node.draining_deadline_s else 0.0
    return SeenNode(node.node_id, node.node_ip, node.is_head, leaves_at, node.labels.get(_ZONE_LABEL, ""))
