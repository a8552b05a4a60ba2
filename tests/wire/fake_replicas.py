"""Replicas that take their time and do nothing else, for routers in virtual time.

The other end is in hand: a `FakeSession` stands in for `routing.session.Session`, behind it are the replica's real
admission and a network that takes `NETWORK_S` each way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from meshserve.model.call import Call, CallContext, CallKind, Encoding, Payload
from meshserve.model.failure import Failure, FailureKind
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions, RouterOptions
from meshserve.model.targets import DeploymentTargets, ReplicaTarget
from meshserve.replica.admission import Admission
from meshserve.routing.flight import Flight, Stage
from meshserve.routing.open_replicas import NEAR
from meshserve.routing.router import Router
from meshserve.v1 import replica_pb2

DEPLOYMENT = DeploymentId("app", "Model")
NETWORK_S = 0.0002
RESULT = Payload(b"", Encoding.RAW)


class FakeReplica:
    """One replica.

    Args:
        service_s: how long a call takes, or a function that says so for each.

    Attributes:
        most: the most calls it ever had at a time.
        served: calls that it ended.
        by_method: those, by method.
        loads_models: whether a call's model is held from then on; the oldest goes when there are more than three.
    """

    def __init__(
        self,
        tag: str,
        service_s: float | Callable[[], float] = 0.01,
        limit: int = 100,
        node_id: str = "",
        zone: str = "",
        loads_models: bool = False,
    ) -> None:
        self.target = ReplicaTarget(
            tag, f"{tag}:1", node_id=node_id, availability_zone=zone, max_ongoing_requests=limit
        )
        self.admission = Admission(limit)
        self.service_s = service_s if callable(service_s) else lambda: service_s
        self.most = 0
        self.served = 0
        self.rejected = 0
        self.hits = 0
        self.seen: list[str] = []
        self.loads_models = loads_models
        self.models: tuple[str, ...] = ()
        self.sessions: list[FakeSession] = []

    def accept(self, call: Call) -> bool:
        if not self.admission.admit():
            self.rejected += 1
            return False
        self.most = max(self.most, self.admission.ongoing)
        self.seen.append(call.context.request_id)
        model = call.context.multiplexed_model_id
        if model and self.loads_models:
            self.hits += model in self.models
            self.models = (*(held for held in self.models if held != model), model)[-3:]
        return True

    def done(self) -> None:
        self.served += 1
        self.admission.release()


class FakeSession:
    """See `routing.session.Session`."""

    def __init__(self, replica: FakeReplica, owner: Any) -> None:
        self._replica = replica
        self._owner = owner
        self._flights: set[Flight] = set()
        self._hungry = False
        self._running = 0
        self._told: tuple[str, ...] = ()
        self._loop = asyncio.get_running_loop()
        self.calls = 0
        self.closed = False
        replica.sessions.append(self)

    @property
    def idle(self) -> bool:
        return not self._flights

    def start(self, flight: Flight) -> None:
        self.calls += 1
        flight.call_id, flight.stage = self.calls, Stage.SENT
        flight.sent_at = self._loop.time()
        self._flights.add(flight)
        self._loop.call_later(NETWORK_S, self._arrive, flight)

    def cancel(self, flight: Flight) -> None:
        self._flights.discard(flight)
        flight.stage = Stage.DONE
        self._owner.on_over(flight)

    def close(self) -> None:
        self.closed = True

    def break_off(self) -> None:
        """The connection is gone."""
        self._told = ()
        flights, self._flights = self._flights, set()
        for flight in flights:
            flight.finish(None, Failure(FailureKind.REPLICA_LOST, "gone"))
            self._owner.on_lost(flight)
        self._owner.on_closed([], "gone")

    def _arrive(self, flight: Flight) -> None:
        if flight.stage is Stage.DONE:
            return
        if self._replica.accept(flight.call):
            self._running += 1
            self._loop.call_later(self._replica.service_s(), self._done, flight)
            return
        if not self._hungry:
            self._hungry = True
            self._replica.admission.when_room(self._has_room)
        self._loop.call_later(NETWORK_S, self._rejected, flight, self._load())

    def _has_room(self) -> None:
        self._hungry = False
        self._loop.call_later(NETWORK_S, self._owner.on_load, self._load())

    def _done(self, flight: Flight) -> None:
        self._running -= 1
        self._replica.done()
        self._loop.call_later(NETWORK_S, self._result, flight, self._load())

    def _load(self) -> replica_pb2.Load:
        admission = self._replica.admission
        load = replica_pb2.Load(
            ongoing=admission.ongoing, own=self._running, limit=admission.limit, draining=admission.draining
        )
        if self._replica.models != self._told:
            self._told = self._replica.models
            load.models_changed = True
            load.multiplexed_model_ids.extend(self._told)
        return load

    def _rejected(self, flight: Flight, load: replica_pb2.Load) -> None:
        if flight in self._flights:
            self._flights.discard(flight)
            self._owner.on_rejected(flight, None)
        self._owner.on_load(load)

    def _result(self, flight: Flight, load: replica_pb2.Load) -> None:
        if flight in self._flights:
            self._flights.discard(flight)
            self._owner.on_over(flight)
            self._owner.on_answered(flight)
            flight.finish(RESULT, None)
        self._owner.on_load(load)


class FakeMesh:
    """Replicas and routers to them.

    Args:
        policy: `request_router_class`.
        options: of the deployment, beside the router's.
    """

    def __init__(
        self,
        replicas: Sequence[FakeReplica],
        routers: int = 1,
        policy: str = "",
        kwargs: dict[str, Any] | None = None,
        node_id: str = "node",
        seed: int = 1,
        preferred: Sequence[int] = NEAR,
        **options: Any,
    ) -> None:
        self.replicas = {replica.target.tag: replica for replica in replicas}
        self.options = DeploymentOptions(
            request_router_config=RouterOptions(policy, request_router_kwargs=kwargs or {}), **options
        )
        self._version = 0
        loop = asyncio.get_running_loop()
        self.routers = [
            Router(
                DEPLOYMENT,
                node_id,
                lambda: "",
                loop.time,
                Random(seed * 1000 + number),
                loop.create_task,
                preferred=preferred,
                connect=lambda target, owner: FakeSession(self.replicas[target.tag], owner),  # type: ignore[arg-type,return-value]
            )
            for number in range(routers)
        ]
        self.router = self.routers[0]
        self.publish(*replicas)

    def publish(self, *replicas: FakeReplica, **fields: Any) -> None:
        """A new snapshot for every router."""
        self._version += 1
        self.replicas.update((replica.target.tag, replica) for replica in replicas)
        targets = tuple(replica.target for replica in replicas)
        for router in self.routers:
            router.update(
                DeploymentTargets(DEPLOYMENT, (1, self._version), replicas=targets, options=self.options, **fields)
            )


def call(request_id: str = "r", method: str = "predict", **context: Any) -> Call:
    """A unary call."""
    return Call(DEPLOYMENT, method, CallKind.UNARY, RESULT, CallContext(request_id, **context))
