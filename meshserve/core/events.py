"""What can be heard of the running mesh. Every action under way ends in one of these; `fold` absorbs them.

An event may come late: its subject may have been given up meanwhile. `fold` ignores what no longer applies.
"""

from __future__ import annotations

from typing import TypeAlias

from meshserve.core.seen import Introduction, Process, ProxyReport, Report, Resources, SeenNode
from meshserve.model.control import ReplicaRank
from meshserve.model.gang import GangContext, GangId
from meshserve.model.ids import ActorId, ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.model.replace import record


@record
class Listed:
    """What was there when the controller began.

    Attributes:
        replicas: processes of replicas.
        proxies: processes of proxies, by node id.
        actors: those that replicas share.
        gangs: those that have a placement group.
    """

    replicas: tuple[ReplicaId, ...]
    proxies: tuple[str, ...]
    actors: tuple[ActorId, ...] = ()
    gangs: tuple[GangId, ...] = ()


@record
class NodesSeen:
    """These machines are there."""

    nodes: tuple[SeenNode, ...]
    resources: Resources


@record
class ReplicaLaunched:
    """Its process listens."""

    replica: ReplicaId
    process: Process


@record
class ReplicaReady:
    """Its user code is constructed and well.

    Attributes:
        log_path: the file of its log; empty for none.
    """

    replica: ReplicaId
    introduction: Introduction
    log_path: str = ""


@record
class ReplicaFailed:
    """It could not be started: no process, or user code raised."""

    replica: ReplicaId
    message: str


@record
class ReplicaReconfigured:
    """It has taken what it was last sent.

    Attributes:
        log_path: the file of its log, which that may have changed; empty for none.
    """

    replica: ReplicaId
    log_path: str = ""


@record
class ReplicaReconfigureFailed:
    """User code refused what it was last sent."""

    replica: ReplicaId
    message: str


@record
class ReplicaHealthy:
    """It passed a health check."""

    replica: ReplicaId
    report: Report


@record
class ReplicaMeasured:
    """Its user code measured something of itself.

    Attributes:
        routing_json: for routers; None when it was not asked for.
        autoscaling_json: for autoscaling; None when it was not asked for.
    """

    replica: ReplicaId
    routing_json: str | None = None
    autoscaling_json: str | None = None


@record
class ReplicaUnhealthy:
    """It failed a health check, or did not answer in time."""

    replica: ReplicaId
    message: str


@record
class ReplicaDescribed:
    """What a recovered replica is.

    Attributes:
        ready: its user code is constructed.
        draining: it was told to drain by an earlier controller.
        code_version: empty when it was never initialized.
        started_at: when its process was started, on this controller's clock.
    """

    replica: ReplicaId
    process: Process
    ready: bool
    draining: bool
    code_version: str
    options: DeploymentOptions
    route_prefix: str
    rank: ReplicaRank | None
    introduction: Introduction
    started_at: float
    gang: GangContext | None = None


@record
class ReplicaLost:
    """A listed replica could not be found or did not say what it is."""

    replica: ReplicaId


@record
class ReplicaDrained:
    """It has ended its calls, or cannot be asked any more."""

    replica: ReplicaId


@record
class ReplicaDied:
    """Its process is gone."""

    replica: ReplicaId


@record
class GangRemoved:
    """The placement group of a gang is gone."""

    gang: GangId


ReplicaEvent: TypeAlias = (
    ReplicaLaunched
    | ReplicaReady
    | ReplicaFailed
    | ReplicaReconfigured
    | ReplicaReconfigureFailed
    | ReplicaHealthy
    | ReplicaMeasured
    | ReplicaUnhealthy
    | ReplicaDescribed
    | ReplicaLost
    | ReplicaDrained
    | ReplicaDied
)


@record
class ActorReady:
    """An actor that replicas share was made, now or by an earlier controller, and its constructor has ended."""

    actor: ActorId


@record
class ActorFailed:
    """It could not be made: no process, or its constructor raised."""

    actor: ActorId
    message: str


@record
class ActorHealthy:
    """It answered."""

    actor: ActorId


@record
class ActorUnhealthy:
    """It did not answer in time."""

    actor: ActorId
    message: str


@record
class ActorDied:
    """It is gone, or was never there."""

    actor: ActorId


ActorEvent: TypeAlias = ActorReady | ActorFailed | ActorHealthy | ActorUnhealthy | ActorDied


@record
class ProxyLaunched:
    """A proxy's process listens (started now, or found)."""

    node_id: str
    process: Process


@record
class ProxyFailed:
    """A proxy could not be started or found."""

    node_id: str
    message: str


@record
class ProxyChecked:
    """A proxy answered."""

    node_id: str
    report: ProxyReport
    process: Process


@record
class ProxyUnreachable:
    """A proxy did not answer in time."""

    node_id: str
    message: str


@record
class ProxyDied:
    """A proxy's process is gone."""

    node_id: str


ProxyEvent: TypeAlias = ProxyLaunched | ProxyFailed | ProxyChecked | ProxyUnreachable | ProxyDied

Event: TypeAlias = Listed | NodesSeen | ReplicaEvent | GangRemoved | ActorEvent | ProxyEvent
