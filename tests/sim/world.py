"""A make-believe cluster in virtual time, run by the real control plane: `fold`, `plan`, and nothing else of it.

What the executor does is imitated: every action has an effect on the cluster after a while and then an event for
the controller that asked. Faults are drawn from the seed. When the controller restarts, effects under way still happen,
but their events are lost with the controller that waited for them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from random import Random
from typing import Any

from meshserve.core import actions as ac
from meshserve.core import desire
from meshserve.core import events as ev
from meshserve.core.fold import fold
from meshserve.core.plan import Plan, plan
from meshserve.core.prefixes import leave_prefixes
from meshserve.core.seen import Introduction, Process, ProxyReport, Report, Resources, Seen, SeenNode
from meshserve.model.control import Desired
from meshserve.model.gang import GangId
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.replace import replace
from meshserve.model.targets import DeploymentTargets, RouteTable
from sim.actors import Actors
from sim.fakes import Answer, FakeProxy, FakeReplica, Faults, twin

GRID_S = 0.125

Happening = tuple[float, int, Callable[..., None], tuple[Any, ...]]
"""When, in which order among those of one instant, and what: it is called with the world and its arguments."""


class World:
    """The cluster, the controller's state, and a queue of what will happen.

    Args:
        seed: decides everything that is left to chance.
        faults: how likely things go wrong; may be changed at any time.
        bad_versions: code versions whose constructor always raises.
        bad_actors: names of actors whose constructor always does.
        nodes: how many machines there are.
        room: how many replicas have room at a time.
        grid_s: what happens within so long happens at once.

    Attributes:
        groups: placement groups of gangs, and how many places are reserved in each.
        under_way: what will happen, a heap.
        news: what the controller heard last.
        dies_after: of the next plan with more actions than so many, the controller has the first performed and dies.
    """

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        nodes: int = 2,
        room: int = 10_000,
        grid_s: float = GRID_S,
        rng: Random | None = None,
    ) -> None:
        self.seed = seed
        self.rng = rng or Random(seed)
        self.now = 0.0
        self.faults = faults or Faults()
        self.bad_versions: set[str] = set()
        self.bad_actors: set[str] = set()
        self.desired = Desired()
        self.stored = True
        self.asked_for: set[str] = set()
        self.nodes = {f"n{i}": SeenNode(f"n{i}", f"10.0.0.{i}", is_head=i == 0) for i in range(nodes)}
        self.room = room
        self.grid_s = grid_s
        self.replicas: dict[ReplicaId, FakeReplica] = {}
        self.groups: dict[GangId, int] = {}
        self.proxies: dict[str, FakeProxy] = {}
        self.actors = Actors()
        self.published: dict[DeploymentId, DeploymentTargets] = {}
        self.published_before = self.published
        self.routes: RouteTable | None = None
        self.routes_before: RouteTable | None = None
        self.seen = self.heard = Seen(epoch=1, began_at=0.0)
        self.plan = Plan(self.desired, self.seen, wake_at=0.0)
        self.life = 1
        self.dies_after: int | None = None
        self.turns = 0
        self.before_turn: Callable[[World, float], None] = lambda world, due: None
        self.after_turn: Callable[[World, Plan, Plan], None] = lambda world, before, now: None
        self.log: list[str] = []
        self._planned: Plan | None = None
        self.under_way: list[Happening] = []
        self.news: list[ev.Event] = []
        self._inbox: list[ev.Event] = []
        self._ids = self._sequence = 0

    def fork(self) -> World:
        """The same world, with a future of its own. What has been decided is never edited and need not be copied."""
        fork = twin(self)
        fork.replicas, fork.proxies, fork.actors = dict(self.replicas), dict(self.proxies), self.actors.fork()
        fork.groups, fork.nodes = dict(self.groups), dict(self.nodes)
        fork.asked_for, fork.bad_versions, fork.log = set(self.asked_for), set(self.bad_versions), list(self.log)
        fork.under_way, fork._inbox = list(self.under_way), list(self._inbox)
        return fork

    def know_the_cluster(self) -> None:
        """The controller has found out that nothing runs, and which machines there are."""
        for event in (ev.Listed((), ()), self._nodes_seen()):
            self.seen = fold(self.seen, event, self.now)

    # -- time ----------------------------------------------------------------------------------------------------

    def at(self, delay_s: float, happens: Callable[..., None], *arguments: object) -> None:
        """Something will happen, on a grid: a real loop, too, hears of several things at once.

        Args:
            happens: called with the world as it is then, and with these arguments.
        """
        self._sequence += 1
        heapq.heappush(self.under_way, (self.on_grid(self.now + delay_s), self._sequence, happens, arguments))

    def on_grid(self, at: float) -> float:
        """The instant at which something happens that is due at another."""
        return math.ceil(at / self.grid_s) * self.grid_s if at < math.inf else at

    def soon(self, mean_s: float = 0.5) -> float:
        """A short while, by chance."""
        return self.rng.expovariate(1 / mean_s)

    def between(self, least_s: float, most_s: float) -> float:
        """A while in these bounds, by chance."""
        return self.rng.uniform(least_s, most_s)

    def chance(self, probability: float) -> bool:
        """Whether something happens that need not."""
        return bool(probability) and self.rng.random() < probability

    def waking(self, wake_at: float) -> float:
        """When the loop really wakes: a little late, so that checks that are due together are one turn."""
        return self.on_grid(wake_at)

    def run(self, until: float) -> None:
        """Lets time pass. What the controller neither hears of nor waits for is no turn of its loop."""
        if self.has_news():
            self.turn()
        while True:
            wake_at = self.waking(self.plan.wake_at)
            due = min(self.under_way[0][0], wake_at) if self.under_way else wake_at
            self.before_turn(self, due)
            if due > until:
                self.now = until
                return
            self.now = due
            while self.under_way and self.under_way[0][0] <= due:
                _, _, happens, arguments = heapq.heappop(self.under_way)
                happens(self, *arguments)
            if wake_at <= due or self.has_news():
                self.turn()

    def has_news(self) -> bool:
        """Whether the controller has heard of anything since its last turn."""
        return bool(self._inbox) or self.desired is not self.plan.desired

    def turn(self) -> None:
        """One turn of the controller's loop: absorb, plan, publish, act."""
        self.turns += 1
        self.news, self._inbox = self._inbox, []
        for event in self.news:
            self.seen = fold(self.seen, event, self.now)
        before, self.heard = self.plan, self.seen
        self.plan = self._planned = plan(self.desired, self.seen, self.now, self.new_id, self._planned)
        self.seen = self.plan.seen
        self.published_before, self.routes_before = self.published, self.routes
        if self.plan.targets:
            self.published = {**self.published, **{targets.deployment: targets for targets in self.plan.targets}}
        if self.plan.routes is not None:
            self.routes = self.plan.routes
            if self.proxies:
                self.at(self.soon(0.02), World._tell_proxies)
        self.after_turn(self, before, self.plan)
        for action in self.plan.actions[: self.dies_after]:
            self._perform(action)
        if self.dies_after is not None and len(self.plan.actions) > self.dies_after:
            self.restart_controller()

    def new_id(self) -> str:
        """A tag that was never used before."""
        self._ids += 1
        return f"r{self._ids}"

    def want(self, change: Callable[[Desired], Desired]) -> None:
        """Desired state changes; it is stored at once."""
        self.desired = change(self.desired)

    def restart_controller(self) -> None:
        """The controller dies and a new one begins with what was stored."""
        self.dies_after = None
        self.life += 1
        self._inbox.clear()
        self._planned = None
        self.replicas = {tag: replace(replica, watched=False) for tag, replica in self.replicas.items()}
        self.actors.unwatch()
        self.seen = Seen(epoch=self.life, began_at=self.now)
        self.plan = Plan(self.desired, self.seen, wake_at=self.now)

    def post(self, event: ev.Event) -> None:
        """Tells the controller that runs now."""
        self._inbox.append(event)

    def answer(self, event: ev.Event) -> Answer:
        """What the controller that runs now will hear once it is given."""
        return Answer(self.life, event, self.between(1, 5) if self.chance(self.faults.lost_answer) else 0.0)

    def give(self, answer: Answer) -> None:
        """Tells the controller that has asked, if it still runs."""
        if answer.delay_s:
            self.at(answer.delay_s, World.give, Answer(answer.life, answer.event))
        elif answer.life == self.life:
            self._inbox.append(answer.event)

    # -- actions -------------------------------------------------------------------------------------------------

    def _perform(self, action: ac.Action) -> None:
        _EFFECTS[type(action)](self, action)

    def _list(self, action: ac.ListProcesses) -> None:
        self.at(self.soon(0.1), World._listed, self.life)

    def _listed(self, life: int) -> None:
        replicas = tuple(replica.id for replica in self.replicas.values() if replica.alive)
        proxies = tuple(node_id for node_id, proxy in self.proxies.items() if proxy.alive)
        actors = tuple(one.id for one in self.actors.alive())
        self.give(Answer(life, ev.Listed(replicas, proxies, actors, tuple(self.groups))))

    def look_at_nodes(self, action: ac.LookAtNodes) -> None:
        """The controller asks which machines there are."""
        self.at(self.soon(0.1), World.give, Answer(self.life, self._nodes_seen()))

    def _nodes_seen(self) -> ev.NodesSeen:
        free = float(self.room - len(self.alive()))
        return ev.NodesSeen(tuple(self.nodes.values()), Resources({"CPU": float(self.room)}, {"CPU": free}))

    def change(self, replica: FakeReplica, **changes: Any) -> FakeReplica:
        """Something of a process becomes different."""
        self.replicas[replica.id] = changed = replace(replica, **changes)
        return changed

    def alive(self, deployment: DeploymentId | None = None) -> list[FakeReplica]:
        """Processes that exist, of one deployment or of all."""
        return [
            replica
            for replica in self.replicas.values()
            if replica.alive and deployment in (None, replica.id.deployment)
        ]

    def members(self, gang: GangId) -> list[FakeReplica]:
        """Processes of a gang that exist."""
        return [one for one in self.alive(gang.deployment) if one.gang is not None and one.gang.gang_id == gang.tag]

    def _start(self, action: ac.StartReplica) -> None:
        assert action.replica not in self.replicas, "a replica's tag was used twice"
        stays = [node.node_id for node in self.nodes.values() if not node.leaves_at]
        replica = FakeReplica(action.replica, self.place(stays or list(self.nodes)), gang=action.gang)
        if action.gang is not None:
            self.groups.setdefault(GangId(action.replica.deployment, action.gang.gang_id), 0)
        self.replicas[action.replica] = replica
        self._launch(replica.id, self.life)

    def place(self, nodes: list[str]) -> str:
        """The machine for a new replica, by chance."""
        return self.rng.choice(nodes)

    def _launch(self, replica_id: ReplicaId, life: int) -> None:
        """Waits for room, then for the process."""
        replica = self.replicas[replica_id]
        if not replica.alive:
            return
        if not self._finds_room(replica):
            self.at(1.0, World._launch, replica_id, life)
            return
        if self.chance(self.faults.launch_fails):
            # The process may live although its start was reported as failed.
            self.change(replica, alive=self.chance(0.3))
            self.at(self.soon(), World.give, Answer(life, ev.ReplicaFailed(replica_id, "no process")))
            return
        process = Process(f"{replica.id}:1", replica.node_id, self.nodes[replica.node_id].node_ip, 1)
        if self.faults.life_s:
            self.at(self.rng.expovariate(1 / self.faults.life_s), World._end_of_life, replica_id)
        launched = ev.ReplicaLaunched(replica_id, process)
        answer = self.answer(launched) if life == self.life else Answer(life, launched)
        self.at(self.soon(), World._listen, replica_id, answer)

    def _finds_room(self, replica: FakeReplica) -> bool:
        """Whether there is room for a replica, or for all of its gang: placement groups are reserved as a whole."""
        gang = replica.gang
        if gang is None and len(self.replicas) <= self.room:
            return True  # for all that there ever were
        free = self.room - sum(self.groups.values())
        free -= sum(other.listening and other.gang is None for other in self.alive())
        if gang is None:
            return free > 0
        group = GangId(replica.id.deployment, gang.gang_id)
        if not self.groups[group] and gang.world_size <= free:
            self.groups[group] = gang.world_size
        return self.groups[group] > 0

    def _listen(self, replica_id: ReplicaId, answer: Answer) -> None:
        replica = self.replicas[replica_id]
        if replica.alive:
            self.change(replica, listening=True)
            self.give(answer)

    def _end_of_life(self, replica_id: ReplicaId) -> None:
        if self.faults.life_s:
            self.die(self.replicas[replica_id])

    def die(self, replica: FakeReplica) -> None:
        """A process ends by itself."""
        if replica.alive:
            self.change(replica, alive=False, ready=False)
            if replica.watched:
                self.at(self.soon(0.1), World.give, self.answer(ev.ReplicaDied(replica.id)))

    def _initialize(self, action: ac.InitializeReplica) -> None:
        """A repeated one, by a controller that came later, joins the first."""
        replica = self.replicas[action.replica]
        ready = self.answer(ev.ReplicaReady(replica.id, Introduction(route_patterns=(action.want.spec.code_version,))))
        failed = self.answer(ev.ReplicaFailed(replica.id, "ValueError: the constructor raised"))
        begun, replica = replica.outcomes, self.change(replica, outcomes=(*replica.outcomes, (ready, failed)))
        if replica.constructed is not None:
            self._tell_outcome(replica)
        elif not begun:
            want = action.want
            made_of = {"code_version": want.spec.code_version, "options": want.spec.options}
            self.change(replica, rank=action.rank, route_prefix=want.route_prefix, **made_of)
            self.at(self.soon(1.0), World._construct, replica.id)

    def _construct(self, replica_id: ReplicaId) -> None:
        replica = self.replicas[replica_id]
        fails = replica.code_version in self.bad_versions or self.chance(self.faults.constructor_fails)
        self._tell_outcome(self.change(replica, constructed=not fails, ready=replica.alive and not fails))

    def _tell_outcome(self, replica: FakeReplica) -> None:
        """Answers all who asked."""
        self.change(replica, outcomes=())
        for ready, failed in replica.outcomes if replica.alive else ():
            self.give(ready if replica.constructed else failed)

    def _reconfigure(self, action: ac.ReconfigureReplica) -> None:
        replica = self.replicas[action.replica]
        if self.chance(self.faults.reconfigure_fails):
            event: ev.Event = ev.ReplicaReconfigureFailed(replica.id, "ValueError: reconfigure raised")
            self.change(replica, refused=True)
        else:
            event = ev.ReplicaReconfigured(replica.id)
            self.change(replica, options=action.options, rank=action.rank, route_prefix=action.route_prefix)
        self.at(self.soon(0.2), World.give, self.answer(event))

    def _check(self, action: ac.CheckReplica) -> None:
        replica = self.replicas[action.replica]
        if not replica.alive or replica.ill or self.chance(self.faults.check_fails):
            self.change(replica, strikes=replica.strikes + 1)
            event: ev.Event = ev.ReplicaUnhealthy(replica.id, "it did not answer")
        else:
            self.change(replica, strikes=0)
            event = ev.ReplicaHealthy(replica.id, Report())
        self.at(self.soon(0.1), World.give, self.answer(event))

    def _describe(self, action: ac.DescribeReplica) -> None:
        held_up_s = self.between(1, 14) if self.chance(self.faults.lost_answer) else 0.0
        self.at(self.soon(0.3) + held_up_s, World._described, action.replica, self.life)

    def _described(self, replica_id: ReplicaId, life: int) -> None:
        replica = self.replicas[replica_id]
        if not replica.alive or not replica.listening:
            self.give(Answer(life, ev.ReplicaLost(replica.id)))
            return
        replica = self.change(replica, watched=replica.watched or life == self.life)
        described = ev.ReplicaDescribed(
            replica.id,
            Process(f"{replica.id}:1", replica.node_id, "", 1),
            replica.ready,
            replica.draining,
            replica.code_version,
            replica.options,
            replica.route_prefix,
            replica.rank,
            Introduction(route_patterns=(replica.code_version,)),
            0.0,
            replica.gang,
        )
        self.give(Answer(life, described))

    def _drain(self, action: ac.DrainReplica) -> None:
        self.change(self.replicas[action.replica], draining=True, ended_in=self.life)
        takes_s = min(action.wait_loop_s + self.soon(2.0), action.timeout_s)
        self.at(takes_s, World.give, self.answer(ev.ReplicaDrained(action.replica)))

    def _kill(self, action: ac.KillReplica) -> None:
        self.change(self.replicas[action.replica], ended_in=self.life)
        if self.chance(self.faults.lost_answer):
            return  # it shows no effect, and nobody says so
        self.at(self.soon(0.2), World._killed, action.replica, self.answer(ev.ReplicaDied(action.replica)))

    def _killed(self, replica_id: ReplicaId, answer: Answer) -> None:
        replica = self.replicas[replica_id]
        if answer.life != self.life:
            self.die(replica)  # the next controller may have found it alive: it hears of its death as of any other
        self.change(self.replicas[replica_id], alive=False, ready=False)
        self.give(answer)

    def _remove_gang(self, action: ac.RemoveGang) -> None:
        assert not self.members(action.gang), f"{action.gang} loses its placement group and runs"
        self.at(self.soon(0.2), World._removed, action.gang, self.answer(ev.GangRemoved(action.gang)))

    def _removed(self, gang: GangId, answer: Answer) -> None:
        self.groups.pop(gang, None)
        self.give(answer)

    # -- proxies and the store -----------------------------------------------------------------------------------

    def _start_proxy(self, action: ac.StartProxy) -> None:
        self.proxies[action.node_id] = FakeProxy(routes=self.routes.version if self.routes else (0, 0))
        process = Process(f"{action.node_id}:2", action.node_id)
        self.at(self.soon(1.0), World.give, self.answer(ev.ProxyLaunched(action.node_id, process)))

    def _find_proxy(self, action: ac.FindProxy) -> None:
        process = Process(f"{action.node_id}:2", action.node_id)
        self.at(self.soon(0.1), World.give, self.answer(ev.ProxyLaunched(action.node_id, process)))

    def _check_proxy(self, action: ac.CheckProxy) -> None:
        self.at(self.soon(0.02), World._proxy_checked, action, self.life)

    def _proxy_checked(self, action: ac.CheckProxy, life: int) -> None:
        proxy = self.proxies.get(action.node_id)
        if proxy is None or not proxy.alive:
            self.give(Answer(life, ev.ProxyUnreachable(action.node_id, "it did not answer")))
            return
        report = ProxyReport("", "h:1", "g:1", 0, proxy.routes)
        self.give(Answer(life, ev.ProxyChecked(action.node_id, report, Process(action.address, action.node_id))))

    def _kill_proxy(self, action: ac.KillProxy) -> None:
        self.proxies.pop(action.node_id, None)
        self.at(self.soon(0.1), World.give, self.answer(ev.ProxyDied(action.node_id)))

    def _tell_proxies(self) -> None:
        routes = self.routes.version if self.routes else (0, 0)
        self.proxies = {node_id: replace(proxy, routes=routes) for node_id, proxy in self.proxies.items()}

    def _record_failure(self, action: ac.RecordFailure) -> None:
        self.desired = desire.set_failure(self.desired, action.deployment, action.version, action.message)

    def _forget(self, action: ac.Forget) -> None:
        self.at(0.01, World._forgotten, action)

    def _forgotten(self, action: ac.Forget) -> None:
        self.want(lambda desired: desire.forget(desired, action.app, action.generation))

    def _leave_prefixes(self, action: ac.LeavePrefixes) -> None:
        self.at(action.after_s, World._left, action, self.life)

    def _left(self, action: ac.LeavePrefixes, life: int) -> None:
        if life == self.life:
            self.want(lambda desired: leave_prefixes(desired, action.app, action.generation))

    def _clear(self, action: ac.ClearStore) -> None:
        self.stored = False

    def leave(self, node_id: str, in_s: float) -> None:
        """A machine announces that it goes away."""
        self.nodes[node_id] = replace(self.nodes[node_id], leaves_at=self.now + in_s)


_EFFECTS: dict[type[Any], Callable[[World, Any], None]] = {
    ac.ListProcesses: World._list,
    ac.LookAtNodes: lambda world, action: world.look_at_nodes(action),
    ac.StartReplica: World._start,
    ac.InitializeReplica: World._initialize,
    ac.ReconfigureReplica: World._reconfigure,
    ac.CheckReplica: World._check,
    ac.DescribeReplica: World._describe,
    ac.DrainReplica: World._drain,
    ac.KillReplica: World._kill,
    ac.StartActor: lambda world, action: world.actors.perform(world, action),
    ac.FindActor: lambda world, action: world.actors.perform(world, action),
    ac.CheckActor: lambda world, action: world.actors.perform(world, action),
    ac.KillActor: lambda world, action: world.actors.perform(world, action),
    ac.RemoveGang: World._remove_gang,
    ac.StartProxy: World._start_proxy,
    ac.FindProxy: World._find_proxy,
    ac.CheckProxy: World._check_proxy,
    ac.DrainProxy: lambda world, action: None,
    ac.KillProxy: World._kill_proxy,
    ac.RecordFailure: World._record_failure,
    ac.Forget: World._forget,
    ac.LeavePrefixes: World._leave_prefixes,
    ac.ClearStore: World._clear,
}
