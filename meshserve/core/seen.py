"""What the controller knows of the running mesh: folded from events, read by `plan`, never edited.

Everything here may be a little late. An entry says what was last heard or last begun, and `plan` acts on that.
Times are on the controller's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from meshserve.core.seen_actors import ActorChecks, SeenActors
from meshserve.model.control import DesiredDeployment, ReplicaRank
from meshserve.model.gang import GangContext
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.model.replace import record, replace
from meshserve.model.status import (
    ApplicationStatus,
    DeploymentState,
    DeploymentStatus,
    ProxyState,
    ReplicaState,
    Trigger,
)
from meshserve.model.targets import DeploymentTargets, RouteTable
from meshserve.settings import SLOW_STARTUP_S


class Phase(Enum):
    """Where a replica is on its way; finer than the `ReplicaState` that users see."""

    LAUNCHING = ReplicaState.STARTING, "its process was asked for"
    LAUNCHED = ReplicaState.STARTING, "its process listens, or constructs user code for an earlier controller"
    INITIALIZING = ReplicaState.STARTING, "user code is being constructed"
    ASSEMBLING = ReplicaState.STARTING, "it is well and waits for the rest of its gang"
    LISTED = ReplicaState.RECOVERING, "found by name after a restart of the controller"
    DESCRIBING = ReplicaState.RECOVERING, "it was asked what it is"
    READY = ReplicaState.RUNNING, "it serves"
    RECONFIGURING = ReplicaState.UPDATING, "new options were sent; it takes no new calls"
    MIGRATING = ReplicaState.PENDING_MIGRATION, "it serves, on a node that goes away"
    DRAINING = ReplicaState.STOPPING, "it ends its calls"
    BROKEN = ReplicaState.STOPPING, "it has to be killed"
    KILLING = ReplicaState.STOPPING, "its process is being killed"

    # Members are looked up in the sets below all the time while planning; Enum's own hash is written in Python.
    __hash__ = object.__hash__

    @property
    def state(self) -> ReplicaState:
        """The name users know."""
        return self.value[0]


STARTING = frozenset({Phase.LAUNCHING, Phase.LAUNCHED, Phase.INITIALIZING, Phase.ASSEMBLING})
RECOVERING = frozenset({Phase.LISTED, Phase.DESCRIBING})
SERVING = frozenset({Phase.READY, Phase.MIGRATING})
STOPPING = frozenset({Phase.DRAINING, Phase.BROKEN, Phase.KILLING})
ACTIVE = STARTING | RECOVERING | {Phase.READY, Phase.RECONFIGURING}
"""Counts towards the wanted number. A migrating replica does not: its successor has to come first."""

UNHEALTHY = "unhealthy"
"""Why a replica has to stop that serves and is not well."""


@record
class Process:
    """A process that listens."""

    address: str
    node_id: str = ""
    node_ip: str = ""
    pid: int = 0
    log_path: str = ""


@record
class Build:
    """What a replica was made of and what it was last sent."""

    version: str
    options: DeploymentOptions
    route_prefix: str = ""


@record
class Introduction:
    """What a replica said of itself when it became ready."""

    metadata_json: str = ""
    docs_path: str = ""
    route_patterns: tuple[str, ...] = ()
    records_routing_stats: bool = False
    records_autoscaling_stats: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """What user code last measured of itself; empty for nothing yet."""

    routing_json: str = ""
    autoscaling_json: str = ""


@record
class Report:
    """What a replica said with its last good health check."""

    multiplexed_model_ids: tuple[str, ...] = ()
    ongoing: int = 0


@record
class Health:
    """Health checks of one process.

    Attributes:
        check_at: when the next one is due.
        checking: one is under way.
        checks: how many were begun; spreads them in time.
        strikes: how many failed in a row.
    """

    check_at: float = 0.0
    checking: bool = False
    checks: int = 0
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class SeenReplica:
    """One replica.

    Attributes:
        since: when it entered its phase.
        started_at: when its process was asked for.
        rank: None until its node is known.
        ranking: a new rank was sent and is not yet confirmed.
        retire: why it has to stop; empty while it may stay.
        gang: it belongs to; None for none, and while that is not known.
    """

    id: ReplicaId
    phase: Phase
    since: float
    started_at: float
    build: Build
    process: Process | None = None
    rank: ReplicaRank | None = None
    ranking: bool = False
    introduction: Introduction = field(default_factory=Introduction)
    health: Health = field(default_factory=Health)
    report: Report = field(default_factory=Report)
    stats: Stats = field(default_factory=Stats)
    retire: str = ""
    gang: GangContext | None = None

    @property
    def address(self) -> str:
        """Where it listens; empty until it does."""
        return self.process.address if self.process is not None else ""


@dataclass(frozen=True, slots=True)
class Attempts:
    """How the starts of the wanted version went.

    Attributes:
        failures: replicas of this version that failed since it was last all well.
        failed_at: when the last one did.
        message: what it said.
        succeeded: one replica of this version has become ready.
        rolling: replicas of an earlier version or configuration served when this one came, and not all are replaced.
        given_up: why nothing more is started for this version; empty while it is tried.
    """

    failures: int = 0
    failed_at: float = 0.0
    message: str = ""
    succeeded: bool = False
    rolling: bool = False
    given_up: str = ""

    def proven(self) -> Attempts:
        """Once a replica, or a whole gang, of the wanted version is ready.

        It shows that the version can start; what fails from now on is tried for ever. Not so in a rolling update, where
        every attempt costs a replica of the version that still serves.
        """
        return replace(self, succeeded=True, given_up=self.given_up if self.rolling else "")


@dataclass(frozen=True, slots=True)
class SeenDeployment:
    """One deployment.

    Attributes:
        replicas: by tag, oldest first.
        want: the desired state that was last taken in; None before the first.
        since: when `want` last changed.
        published: what routers were last told; None while nothing was.
        actors: what its replicas share.
        gangs: those that may have a placement group, and whether its removal was asked for.
    """

    id: DeploymentId
    replicas: Mapping[str, SeenReplica] = field(default_factory=dict)
    want: DesiredDeployment | None = None
    since: float = 0.0
    status: DeploymentStatus = field(
        default_factory=lambda: DeploymentStatus(DeploymentState.UPDATING, Trigger.CONFIG_UPDATE_STARTED)
    )
    attempts: Attempts = field(default_factory=Attempts)
    published: DeploymentTargets | None = None
    actors: SeenActors = field(default_factory=SeenActors)
    gangs: Mapping[str, bool] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it runs or holds a place."""
        return not self.replicas and not self.actors.all and not self.gangs

    def having(self, replicas: Mapping[str, SeenReplica]) -> SeenDeployment:
        """With some replicas put in the place of their former selves; the same object when there are none."""
        return replace(self, replicas={**self.replicas, **replicas}) if replicas else self


@dataclass(frozen=True, slots=True)
class SeenNode:
    """One machine.

    Attributes:
        leaves_at: when it goes away; 0 when it stays.
    """

    node_id: str
    node_ip: str = ""
    is_head: bool = False
    leaves_at: float = 0.0
    availability_zone: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """Logical resources of the cluster by name: in all, and free."""

    total: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, float] = field(default_factory=dict)


class ProxyPhase(Enum):
    """Where a proxy is on its way."""

    LISTED = "found by name after a restart of the controller"
    FINDING = "looked up"
    WAITING = "to be started again after a while"
    LAUNCHING = "its process was asked for"
    UP = "its process listens"
    DRAINING = "it ends its requests"
    BROKEN = "it has to be killed"
    KILLING = "its process is being killed"


@dataclass(frozen=True, slots=True)
class ProxyReport:
    """What a proxy said of itself.

    Attributes:
        failure: why it does not serve; empty when it does.
        remark: what there is to know of it though it serves.
        routes: version of the route table it serves by.
    """

    failure: str = ""
    http_address: str = ""
    grpc_address: str = ""
    ongoing: int = 0
    routes: tuple[int, int] = (0, 0)
    remark: str = ""


@dataclass(frozen=True, slots=True)
class SeenProxy:
    """The proxy of one node.

    Attributes:
        since: when it entered its phase.
        starts: how often in a row it was started without becoming well.
    """

    node_id: str
    phase: ProxyPhase
    since: float
    status: ProxyState = ProxyState.STARTING
    message: str = ""
    process: Process | None = None
    health: Health = field(default_factory=Health)
    report: ProxyReport = field(default_factory=ProxyReport)
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """The machines, and when they were looked at.

    Attributes:
        nodes: by id.
        resources: changes often and matters only to messages, hence apart.
        looked_at: when the last answer came.
        looking: a look is under way.
    """

    nodes: Mapping[str, SeenNode] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    looked_at: float = float("-inf")
    looking: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is known.

    Attributes:
        epoch: of this life of the controller; the first part of every published version.
        number: the second part of the version last published.
        began_at: when this life of the controller began.
        actor_checks: how the health of shared actors is checked.
        listing: the running processes were asked for.
        listed: and are known; nothing is published or started before.
        applications: what was last reported about them.
        routes: the route table last published.
        routes_at: when.
        forgetting: (application, generation) whose removal from the store was asked for.
        leaving: (application, generation) whose former route prefixes were asked to be removed.
        clearing: the removal of everything from the store was asked for.
        slow_s: a replica that takes so long to start is called slow; said anew with fresh figures after each such time.
    """

    epoch: int = 1
    number: int = 0
    began_at: float = 0.0
    actor_checks: ActorChecks = field(default_factory=ActorChecks)
    listing: bool = False
    listed: bool = False
    cluster: Cluster = field(default_factory=Cluster)
    deployments: Mapping[DeploymentId, SeenDeployment] = field(default_factory=dict)
    proxies: Mapping[str, SeenProxy] = field(default_factory=dict)
    applications: Mapping[str, ApplicationStatus] = field(default_factory=dict)
    routes: RouteTable | None = None
    routes_at: float = float("-inf")
    forgetting: frozenset[tuple[str, int]] = frozenset()
    leaving: frozenset[tuple[str, int]] = frozenset()
    clearing: bool = False
    slow_s: float = SLOW_STARTUP_S
