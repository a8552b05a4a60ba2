"""What the controller counts, and what it knows of the mesh."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator

from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.model.controller_health import ControllerHealth
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.overview import MeshOverview
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState
from meshserve.telemetry import catalogue
from meshserve.telemetry.declared import LATENCY_BUCKETS, START_BUCKETS
from meshserve.telemetry.loop_lag import LoopLag
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.series import Histogram, Reading

RECENT_TURNS = 100
"""Of so many turns it is told how long each took."""


class ControlMetrics:
    """The controller's loop: what it decides, and what it hears of how that went."""

    def __init__(self) -> None:
        self._turns = Histogram(LATENCY_BUCKETS)
        self._began_at = time.time()
        self._turned_at = 0.0
        self._recent_turns: deque[float] = deque(maxlen=RECENT_TURNS)
        self._actions: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._start_failures: Counter[DeploymentId] = Counter()
        self._health_failures: Counter[DeploymentId] = Counter()
        self._starts: dict[DeploymentId, Histogram] = {}
        self._starting: dict[ReplicaId, float] = {}
        self._scaling: dict[DeploymentId, tuple[int, float]] = {}

    def turned(self, seconds: float) -> None:
        """The loop has turned once."""
        self._turns.observe(seconds)
        self._turned_at = time.time()
        self._recent_turns.append(seconds)

    def health(self) -> ControllerHealth:
        """How the loop does; from any thread."""
        io = PROCESS.recorder(LoopLag, "io")
        return ControllerHealth(
            self._began_at,
            time.time(),
            self._turns.count,
            self._turned_at,
            tuple(self._recent_turns),
            io.latest_s,
            io.tasks,
        )

    def ordered(self, action: ac.Action, now: float) -> None:
        """The loop has ordered an action."""
        self._actions[_named(action)] += 1
        if isinstance(action, ac.StartReplica):
            self._starting[action.replica] = now

    def heard(self, event: ev.Event, now: float) -> None:
        """Something was heard of how an action went."""
        match event:
            case ev.ReplicaReady(replica):
                self._ready(replica, now)
            case ev.ReplicaFailed(replica):
                self._starting.pop(replica, None)
                self._start_failures[replica.deployment] += 1
            case ev.ReplicaDied(replica) | ev.ReplicaLost(replica):
                self._starting.pop(replica, None)
            case ev.ReplicaUnhealthy(replica):
                self._health_failures[replica.deployment] += 1
            case ev.ReplicaReconfigureFailed() | ev.ProxyFailed() | ev.ProxyUnreachable():
                self._failures[_named(event)] += 1

    def _ready(self, replica: ReplicaId, now: float) -> None:
        began = self._starting.pop(replica, None)
        if began is not None:
            self._starts.setdefault(replica.deployment, Histogram(START_BUCKETS)).observe(now - began)

    def scaled(self, deployment: DeploymentId, target_replicas: int, calls: float) -> None:
        """The autoscaler has looked at a deployment: what it wants, and the calls it has seen."""
        self._scaling[deployment] = (target_replicas, calls)

    def keep_scaled(self, deployments: Container[DeploymentId]) -> None:
        """Forgets what the autoscaler wanted of deployments that it has nothing to do with any more."""
        self._scaling = {key: value for key, value in self._scaling.items() if key in deployments}

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.CONTROL_TURNS, (), self._turns
        for declared, counts in (
            (catalogue.CONTROL_ACTIONS, self._actions),
            (catalogue.CONTROL_FAILURES, self._failures),
        ):
            for what, count in tuple(counts.items()):
                yield declared, (what,), count
        for deployment, starts in tuple(self._starts.items()):
            yield catalogue.REPLICA_STARTS, (deployment.app, deployment.name), starts
        for declared, failures in (
            (catalogue.REPLICA_START_FAILURES, self._start_failures),
            (catalogue.HEALTH_FAILURES, self._health_failures),
        ):
            for deployment, count in tuple(failures.items()):
                yield declared, (deployment.app, deployment.name), count
        for deployment, (target, calls) in tuple(self._scaling.items()):
            yield catalogue.SCALING_TARGET, (deployment.app, deployment.name), target
            yield catalogue.SCALING_LOAD, (deployment.app, deployment.name), calls


def _named(fact: object) -> str:
    """`StartReplica` as `start_replica`."""
    return _WORD.sub(r"_\1", type(fact).__name__).lower().lstrip("_")


_WORD = re.compile("([A-Z])")


class OverviewMetrics:
    """What the controller shows people, as numbers. Asked at a scrape: nothing is recorded.

    Attributes:
        overview: the mesh as it is now; None before the controller knows.
    """

    def __init__(self) -> None:
        self.overview: Callable[[], MeshOverview] | None = None

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`. A status is one series for each it could be, 1 for the one it is."""
        if self.overview is None:
            return
        mesh = self.overview()
        for application in mesh.applications.values():
            for state in ApplicationState:
                here = float(application.status == state)
                yield catalogue.APPLICATION_STATUS, (application.name, state), here
            for deployment in application.deployments:
                labels = (application.name, deployment.name)
                yield catalogue.DEPLOYMENT_TARGET, labels, deployment.target_num_replicas
                for replica_state, count in deployment.replica_states.items():
                    yield catalogue.DEPLOYMENT_REPLICAS, (*labels, replica_state), count
                for status in DeploymentState:
                    yield catalogue.DEPLOYMENT_STATUS, (*labels, status), float(deployment.status == status)
        for node_id, proxy in mesh.proxies.items():
            for proxy_state in ProxyState:
                yield catalogue.PROXY_STATUS, (node_id, proxy_state), float(proxy.status == proxy_state)
