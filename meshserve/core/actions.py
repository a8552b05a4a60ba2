"""What `plan` can ask for. Data only: the executor performs them, and each ends in an event.

Every action may be repeated after a restart of the controller: starting is by unique names, killing ignores
what is not there, and the calls to replicas are idempotent (replica_control.proto).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from meshserve.model.control import DesiredDeployment, ProxyOptions, ReplicaRank
from meshserve.model.gang import GangContext, GangId
from meshserve.model.ids import ActorId, DeploymentId, ReplicaId
from meshserve.model.options import ActorOptions, DeploymentOptions, Json
from meshserve.model.replace import record


@record
class ListProcesses:
    """List what runs. Ends in Listed."""


@record
class LookAtNodes:
    """Look at the cluster. Ends in NodesSeen."""


@record
class StartReplica:
    """Start a process. Ends in ReplicaLaunched or ReplicaFailed; its death is reported for as long as it lives."""

    replica: ReplicaId
    want: DesiredDeployment
    gang: GangContext | None = None


@record
class InitializeReplica:
    """Construct user code. Ends in ReplicaReady or ReplicaFailed."""

    replica: ReplicaId
    address: str
    want: DesiredDeployment
    rank: ReplicaRank
    gang: GangContext | None = None


@record
class ReconfigureReplica:
    """Send options and rank. Ends in ReplicaReconfigured or ReplicaReconfigureFailed."""

    replica: ReplicaId
    address: str
    options: DeploymentOptions
    generation: int
    rank: ReplicaRank | None
    route_prefix: str


@record
class CheckReplica:
    """Check health. Ends in ReplicaHealthy or ReplicaUnhealthy within the timeout."""

    replica: ReplicaId
    address: str
    timeout_s: float


@record
class DescribeReplica:
    """Ask a listed replica what it is. Ends in ReplicaDescribed or ReplicaLost; its death is reported."""

    replica: ReplicaId


@record
class DrainReplica:
    """Let it end its calls. Ends in ReplicaDrained."""

    replica: ReplicaId
    address: str
    timeout_s: float
    wait_loop_s: float


@record
class KillReplica:
    """Kill its process, also one that is still being started. Ends in ReplicaDied."""

    replica: ReplicaId


@record
class StartActor:
    """Make an actor that replicas share. Ends in ActorReady or ActorFailed; its death is reported.

    Attributes:
        environment: the runtime environment of the replicas, in Ray's terms.
        import_paths: see `ApplicationSpec`.
    """

    actor: ActorId
    options: ActorOptions
    environment: Mapping[str, Json]
    import_paths: tuple[str, ...]


@record
class FindActor:
    """Look up a listed actor. Ends in ActorReady, once it is constructed, or ActorDied; its death is reported."""

    actor: ActorId


@record
class CheckActor:
    """Check an actor. Ends in ActorHealthy or ActorUnhealthy within the timeout."""

    actor: ActorId
    timeout_s: float


@record
class KillActor:
    """Kill an actor, also one that is still being made. Ends in ActorDied."""

    actor: ActorId


@record
class RemoveGang:
    """Remove the placement group of a gang that is gone. Ends in GangRemoved."""

    gang: GangId


@record
class StartProxy:
    """Start a proxy on a node. Ends in ProxyLaunched or ProxyFailed; its death is reported."""

    node_id: str
    options: ProxyOptions


@record
class FindProxy:
    """Look up a listed proxy. Ends in ProxyLaunched or ProxyFailed; its death is reported."""

    node_id: str


@record
class CheckProxy:
    """Check a proxy. Ends in ProxyChecked or ProxyUnreachable within the timeout."""

    node_id: str
    address: str
    timeout_s: float


@record
class DrainProxy:
    """Tell a proxy to drain, or to take that back. Its next check tells the rest."""

    node_id: str
    address: str
    draining: bool


@record
class KillProxy:
    """Kill a proxy. Ends in ProxyDied."""

    node_id: str


@record
class RecordFailure:
    """Remember across restarts that a version was given up."""

    deployment: DeploymentId
    version: str
    message: str


@record
class Forget:
    """What was to go away of an application is gone: remove it from desired state."""

    app: str
    generation: int


@record
class LeavePrefixes:
    """An application has moved to another route prefix: remove its former ones from desired state after a while."""

    app: str
    generation: int
    after_s: float


@record
class ClearStore:
    """The mesh has stopped: remove everything from the store."""


Action: TypeAlias = (
    ListProcesses
    | LookAtNodes
    | StartReplica
    | InitializeReplica
    | ReconfigureReplica
    | CheckReplica
    | DescribeReplica
    | DrainReplica
    | KillReplica
    | StartActor
    | FindActor
    | CheckActor
    | KillActor
    | RemoveGang
    | StartProxy
    | FindProxy
    | CheckProxy
    | DrainProxy
    | KillProxy
    | RecordFailure
    | Forget
    | LeavePrefixes
    | ClearStore
)
