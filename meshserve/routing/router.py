"""Finds a replica for every call of one deployment, in order of arrival.

The replica decides: it accepts up to its limit and rejects the rest before user code runs. The router only guesses
well: it counts what it has in flight, adds what the replica last said of others, and has its chooser pick among those
that seem to have room. A rejected call comes back to its place in the line. Nothing polls: room is announced by
results, by the load on every message, and by the message a replica sends to whom it rejected; a slow timer guards
against an announcement that got lost, and a quick one asks again for calls that would rather wait than go where there
is room.

Single-threaded: everything here runs on the I/O thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from meshserve.errors import DeploymentUnavailableError, ReplicaUnavailableError
from meshserve.model.call import Call
from meshserve.model.failure import Failure
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import RouterOptions
from meshserve.model.targets import DeploymentTargets, ReplicaTarget
from meshserve.routing.alarm import Alarm
from meshserve.routing.chooser_options import make_chooser
from meshserve.routing.choosing import Chooser
from meshserve.routing.fleet import Fleet
from meshserve.routing.flight import Flight, Stage
from meshserve.routing.line import Line
from meshserve.routing.link import Link
from meshserve.routing.open_replicas import NEAR, OpenReplicas
from meshserve.routing.replica import Replica
from meshserve.routing.service import Reply, ReplyStream
from meshserve.routing.session import Session, SessionOwner
from meshserve.routing.standing import Standing
from meshserve.routing.traced import told_of_wait
from meshserve.telemetry.caller import CALLER, RouterMetrics, SessionMetrics
from meshserve.telemetry.registry import PROCESS
from meshserve.wire.failures import failure_of

if TYPE_CHECKING:
    import asyncio

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
Connect = Callable[[ReplicaTarget, SessionOwner], Session]


class Router:
    """A `Service` for one deployment.

    Args:
        deployment: which one.
        node_id: of this process; replicas there are preferred.
        token: gives the mesh token.
        now: the monotonic clock.
        rng: chance.
        spawn: starts a task that someone owns.
        zone: the availability zone of this process, empty for not known.
        preferred: which distances count, of those in `open_replicas`.
        connect: opens a session; None for the real one.
        starved: told when a call waits and there is no replica.

    Attributes:
        metrics: of calls to the deployment.
    """

    def __init__(
        self,
        deployment: DeploymentId,
        node_id: str,
        token: Callable[[], str],
        now: Callable[[], float],
        rng: Random,
        spawn: Spawn,
        *,
        zone: str = "",
        preferred: Collection[int] = NEAR,
        connect: Connect | None = None,
        starved: Callable[[], None] | None = None,
    ) -> None:
        self.deployment = deployment
        self.now = now
        self.queued = 0
        self.running = 0
        self._rng = rng
        self._connect = connect or _connector(token, now, spawn)
        self._starved = starved
        self._standing = Standing(deployment)
        self._arrivals = 0
        self._line = Line()
        self.fleet = Fleet(OpenReplicas(node_id, zone, preferred), self._open_session, now)
        self.chooser: Chooser = make_chooser(RouterOptions(), self, self.fleet.open, now, rng)
        self._doubting = Alarm(self._doubt)
        self._reconsidering = Alarm(self.pump)
        self.metrics = PROCESS.recorder(RouterMetrics, deployment.app, deployment.name)
        self.metrics.routers.add(self)

    # -- Service -------------------------------------------------------------------------------------------------

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        flight = self._flight(call)
        self._enter(flight)
        assert flight.reply is not None
        return flight.reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        flight = self._flight_of_stream(call)
        self._enter(flight)
        assert flight.stream is not None
        return flight.stream

    def _flight(self, call: Call) -> Flight:
        self._arrivals = arrival = self._arrivals + 1
        flight = Flight(call, arrival, self)
        flight.reply = reply = Reply()
        reply.canceller = flight.cancel
        reply.retainer = flight.retain
        return flight

    def _flight_of_stream(self, call: Call) -> Flight:
        self._arrivals = arrival = self._arrivals + 1
        flight = Flight(call, arrival, self)
        flight.open_stream().canceller = flight.cancel
        return flight

    def _enter(self, flight: Flight) -> None:
        refusal = self._standing.refusal
        if refusal is not None:
            self.metrics.turned_away += 1
            flight.finish(None, refusal)
            return
        if not self.queued or not self._line.holds(self.chooser.group(flight)):
            replica = self.chooser.choose(flight, 0.0)
            if replica is not None:
                self.metrics.at_once += 1
                self._assign(flight, replica)
                return
        if self.queued >= self._standing.longest_line:
            self._enter_full_line(flight)
            return
        self.metrics.lined_up += 1
        self._wait(flight)

    def _enter_full_line(self, flight: Flight) -> None:
        """Rather anywhere than refused: those who wait for something better make room first."""
        self._serve(at_last=True)
        if self.queued < self._standing.longest_line:
            self.metrics.lined_up += 1
            self._wait(flight)
        elif not self.queued and (replica := self.chooser.choose(flight, math.inf)) is not None:
            self.metrics.at_once += 1
            self._assign(flight, replica)
        else:
            self.metrics.turned_away += 1
            flight.finish(None, self._standing.too_many(self.queued))

    # -- to a certain replica ------------------------------------------------------------------------------------

    def unary_at(self, replica: Replica, call: Call) -> Reply:
        """Sends a call to one replica, full or not; it goes nowhere else.

        The call is to name a reservation or to bypass the limit.
        """
        flight = self._flight(call)
        self.metrics.at_once += 1
        self._assign(flight, replica)
        assert flight.reply is not None
        return flight.reply

    def stream_at(self, replica: Replica, call: Call) -> ReplyStream:
        """As `unary_at`, with a stream on either side."""
        flight = self._flight_of_stream(call)
        self.metrics.at_once += 1
        self._assign(flight, replica)
        assert flight.stream is not None
        return flight.stream

    def unavailable_replica(self, replica: Replica) -> Failure:
        """Why a call meant for a replica fails when that is gone."""
        error = ReplicaUnavailableError(str(ReplicaId(self.deployment, replica.target.tag)))
        return replace(failure_of(error), traceback="")  # it was raised nowhere

    # -- the line ------------------------------------------------------------------------------------------------

    def _wait(self, flight: Flight) -> None:
        flight.stage = Stage.WAITING
        flight.replica = None
        if not flight.waiting_since:
            flight.waiting_since = self.now()
        self._line.add(flight, self.chooser.group(flight))
        self.queued += 1
        self._set_alarms()
        if self._starved is not None and not self.fleet:
            self._starved()

    def _set_alarms(self) -> None:
        if self.fleet.open:
            self._reconsidering.set(self.chooser.reconsider_s)
        elif self.fleet:
            self.doubt_later()

    def doubt_later(self) -> None:
        """What was heard of a replica grows old."""
        self._doubting.set(0.25 + 0.25 * self._rng.random())

    def pump(self) -> None:
        """Serves the line as far as there is room that suits."""
        if self.queued:
            self._serve()
            if self.queued:
                self._set_alarms()

    def _serve(self, at_last: bool = False) -> None:
        """Serves the line; at last means that calls take what they can get."""
        now, fleet, chooser = self.now(), self.fleet, self.chooser
        for flight in self._line.turns():
            if not fleet.open:
                return
            replica = chooser.choose(flight, math.inf if at_last else now - flight.waiting_since)
            if replica is not None:
                self.queued -= 1
                self.metrics.waited(now - flight.waiting_since)
                told_of_wait(flight.call, flight.waiting_since)
                self._assign(flight, replica)

    def _assign(self, flight: Flight, replica: Replica) -> None:
        replica.in_flight += 1
        self.running += 1
        if replica.in_flight + replica.others >= replica.limit:
            self.fleet.open.refresh(replica)
        flight.replica = replica
        if self.chooser.observer is not None:
            self.chooser.observer.assigned(replica, flight)
        session = replica.session
        if session is None:
            session = self.fleet.session(replica)
        session.start(flight)

    def cancel(self, flight: Flight, failure: Failure) -> None:
        """Ends a call with a failure wherever it is."""
        if flight.stage is Stage.WAITING:
            self.queued -= 1
            flight.stage = Stage.DONE  # its entry in the line is skipped when its turn comes
            self._line.ended()
        elif flight.replica is not None and flight.replica.session is not None:
            flight.replica.session.cancel(flight)
        flight.finish(None, failure)

    def _doubt(self) -> None:
        """Guards against old news and lost announcements: who is not heard of has less and less to do."""
        again = False
        for replica in self.fleet.replicas:
            if self.queued:
                if replica.in_flight < replica.limit <= replica.load:
                    replica.others = replica.limit - 1 - replica.in_flight
            elif replica.others and not replica.in_flight:
                replica.others = min(replica.others, replica.limit) // 2
                again = again or replica.others > 0
            self.fleet.open.refresh(replica)
        if again:
            self.doubt_later()
        self.pump()

    def put_back(self, flight: Flight) -> None:
        """A call that did not run finds its place in the line again, or fails if it was meant for that replica."""
        if flight.stage is Stage.DONE:
            return
        if flight.pinned and flight.replica is not None:
            flight.finish(None, self.unavailable_replica(flight.replica))
            return
        if flight.input is not None:
            flight.input.rewind()
        self._wait(flight)

    def fail_line(self, failure: Failure) -> None:
        """Fails every call that waits, and whoever waits for a first snapshot."""
        self.queued = 0
        for flight in self._line.clear():
            flight.finish(None, failure)
        self._standing.inform(failure)

    # -- replicas ------------------------------------------------------------------------------------------------

    def update(self, targets: DeploymentTargets) -> None:
        """Acts on a new snapshot; an older one is ignored."""
        standing = self._standing
        if standing.is_old(targets):
            return
        first, before = standing.targets is None, standing.options.request_router_config
        standing.update(targets)
        self.fleet.update(targets.replicas)
        if targets.options.request_router_config != before or standing.is_broken:
            self._change_chooser(targets.options.request_router_config)
        self.chooser.update(self.fleet.replicas)
        # Calls that waited before the deployment failed go on waiting: the next version may serve them.
        if standing.refusal is not None and (first or not targets.exists):
            self.fail_line(standing.refusal)
        standing.inform(None)
        self.pump()

    def _change_chooser(self, options: RouterOptions) -> None:
        """Calls that wait are asked anew how they are grouped."""
        self._standing.break_down(None)
        try:
            chooser = make_chooser(options, self, self.fleet.open, self.now, self._rng)
        except (TypeError, ValueError) as error:
            self.break_down(failure_of(error))
            return
        self.chooser.close()
        self.chooser = chooser
        for flight in self._line.clear():
            self._line.add(flight, self.chooser.group(flight))

    def break_down(self, failure: Failure) -> None:
        """Nobody can choose: fails every call that waits or comes, until the next snapshot, which is another try."""
        self._standing.break_down(failure)
        self.fail_line(failure)

    @property
    def informed(self) -> bool:
        """Whether it ever received a snapshot."""
        return self._standing.targets is not None

    @property
    def version(self) -> tuple[int, int]:
        """Of the snapshot in force; before the first (0, 0)."""
        return self._standing.targets.version if self._standing.targets is not None else (0, 0)

    @property
    def refusal(self) -> Failure | None:
        """Why it takes no call now; None when it does."""
        return self._standing.refusal

    def when_informed(self, callback: Callable[[Failure | None], None]) -> None:
        """See `Standing`."""
        self._standing.when_informed(callback)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The replicas it knows."""
        return self.fleet.replicas

    def _open_session(self, replica: Replica) -> Session:
        link = Link(self, replica)
        link.session = session = self._connect(replica.target, link)
        session.metrics = PROCESS.recorder(SessionMetrics, CALLER, self.deployment.app, self.deployment.name)
        session.metrics.opened += 1
        return session

    def room_changed(self, replica: Replica) -> None:
        """A replica's load or slots have changed."""
        self.fleet.open.refresh(replica)
        if self.queued:
            self.pump()

    def reopen(self, replica: Replica) -> None:
        """Tries a replica again after its session broke."""
        replica.closed = False
        self.room_changed(replica)

    def backoff_s(self, replica: Replica) -> float:
        """How long to leave a replica alone after its session broke, with jitter."""
        replica.backoffs += 1
        return float(min(0.05 * 2**replica.backoffs, 2.0) * (0.5 + self._rng.random()))

    async def close(self) -> None:
        """Fails what is waiting and closes all sessions."""
        self._doubting.clear()
        self._reconsidering.clear()
        self.chooser.close()
        self.fail_line(failure_of(DeploymentUnavailableError(str(self.deployment), "the caller is shutting down")))
        self.fleet.close()


def _connector(token: Callable[[], str], now: Callable[[], float], spawn: Spawn) -> Connect:
    """Opens real sessions."""

    def connect(target: ReplicaTarget, owner: SessionOwner) -> Session:
        session = Session(target.address, token(), owner, now)
        session.task = spawn(session.run())
        return session

    return connect
