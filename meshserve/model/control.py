"""Desired state: what people asked to run. The controller keeps one `Desired` and replaces it whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from meshserve.model.declared import FULL, Capacity, Declaration
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.settings import PROXY_MIN_DRAIN_S


class Source(IntEnum):
    """Who set an application. Numbers are those of the wire."""

    IMPERATIVE = 1
    DECLARATIVE = 2


class CountSource(Enum):
    """Who decides how many replicas a deployment has; it decides which status a change of the count leads to."""

    PEOPLE = "people"
    AUTOSCALER = "autoscaler"


@dataclass(frozen=True, slots=True)
class ReplicaRank:
    """A replica's place among its deployment's replicas; small integers, reused after a replica is gone.

    Attributes:
        rank: among all of them.
        node_rank: of its node among the nodes they are on.
        local_rank: among those on its node.
    """

    rank: int = 0
    node_rank: int = 0
    local_rank: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """One deployment as its author described it.

    Attributes:
        id: its name.
        code_version: replicas of another version are replaced.
        options: how it runs.
        code: the callable with its constructor arguments, by cloudpickle; `code_version` stands for it in comparisons.
        uses: the deployments whose handles its constructor arguments hold.
        docs_path: of an ASGI application; empty for none.
    """

    id: DeploymentId
    code_version: str
    options: DeploymentOptions = field(default_factory=DeploymentOptions)
    code: bytes = field(default=b"", repr=False, compare=False)
    uses: tuple[DeploymentId, ...] = ()
    docs_path: str = ""


@dataclass(frozen=True, slots=True)
class ApplicationSpec:
    """One application as its author described it.

    Attributes:
        ingress: the name of the deployment that answers at the ingress.
        route_prefix: None when it is not reachable by HTTP.
        external_scaler_enabled: whether replica counts are set from outside.
        import_paths: folders replicas import user modules from, where they exist.
        grpc_servicer_functions: import paths of functions that add gRPC services to the ingress.
        logging_config_json: logging of the application; empty for the default.
        autoscaling_policy_json: application-level policy; empty for none.
    """

    name: str
    deployments: tuple[DeploymentSpec, ...]
    ingress: str
    route_prefix: str | None = None
    external_scaler_enabled: bool = False
    import_paths: tuple[str, ...] = ()
    grpc_servicer_functions: tuple[str, ...] = ()
    source: Source = Source.IMPERATIVE
    logging_config_json: str = ""
    autoscaling_policy_json: str = ""


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """Where proxies run and what they open; the JSON texts are read by the proxies.

    Attributes:
        min_drain_s: one that is no longer needed stays at least so long: load balancers in front need that to notice.
    """

    location: str = "EveryNode"
    http_json: str = ""
    grpc_json: str = ""
    logging_json: str = ""
    tracing_json: str = ""
    min_drain_s: float = PROXY_MIN_DRAIN_S


@dataclass(frozen=True, slots=True)
class DesiredDeployment:
    """One deployment that is wanted, or that is to go away.

    Attributes:
        spec: what to run.
        version: what a replica is built from; another one needs another process (see `core.weights.build_version`).
        count: how many replicas.
        count_source: who decided the count.
        generation: of the desired state that set it last.
        deleting: it is to go away.
        ingress: it answers at the ingress.
        route_prefix: the application's, for the ingress deployment; else empty.
        import_paths: see `ApplicationSpec`.
        failure: why this version's deployment was given up in an earlier life of the controller; else empty.
    """

    spec: DeploymentSpec
    version: str
    count: int
    count_source: CountSource = CountSource.PEOPLE
    generation: int = 0
    deleting: bool = False
    ingress: bool = False
    route_prefix: str = ""
    import_paths: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """What came of building a declared application.

    Attributes:
        code_key: of the declaration that it was built for.
        base: the application as its code describes it; None when it could not be built.
        failure: why it could not be built, or why the declaration does not fit it; empty when all is well.
        by_value: the routers and policies that the declaration names, by cloudpickle as base64 text, by import path.
    """

    code_key: str
    base: ApplicationSpec | None = None
    failure: str = ""
    by_value: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DesiredApplication:
    """One application that is wanted, or that is to go away.

    Attributes:
        spec: what to run.
        generation: of the desired state that set it last.
        deployed_at_s: when, in seconds since the epoch.
        deleting: it is to go away.
        dropped: deployments of earlier specs that still have to go away.
        declaration: what the configuration file says of it; None when a program has set it.
        build: the newest build that has ended; `spec` is that of the newest one that succeeded.
        former_prefixes: earlier route prefixes by which it is reached until it has moved (see `core.prefixes`).
    """

    spec: ApplicationSpec
    generation: int
    deployed_at_s: float
    deleting: bool = False
    dropped: tuple[DeploymentSpec, ...] = ()
    declaration: Declaration | None = None
    build: Build | None = None
    former_prefixes: tuple[str, ...] = ()

    @property
    def building(self) -> bool:
        """Whether it is being built for its declaration."""
        if self.declaration is None or self.deleting:
            return False
        return self.build is None or self.build.code_key != self.declaration.code_key


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that is wanted.

    `core.desire` makes every next one. Entries that a change does not touch stay the same objects: that
    is how planning knows what it need not look at again.

    Attributes:
        generation: counts changes by people.
        applications: by name.
        deployments: of all applications, dropped ones included.
        proxies: None until proxies are asked for.
        shutting_down: everything is to go away.
        config_json: the configuration file that was applied last; empty for none.
        capacity: of the applications that the file declares.
    """

    generation: int = 0
    applications: Mapping[str, DesiredApplication] = field(default_factory=dict)
    deployments: Mapping[DeploymentId, DesiredDeployment] = field(default_factory=dict)
    proxies: ProxyOptions | None = None
    shutting_down: bool = False
    config_json: str = ""
    capacity: Capacity = FULL

    def capacity_of(self, application: ApplicationSpec) -> Capacity:
        """How large an application is to be."""
        return self.capacity if application.source is Source.DECLARATIVE else FULL


@dataclass(frozen=True, slots=True)
class Declared:
    """A configuration file.

    Attributes:
        config_json: the file, as it was written.
        applications: what it says of each.
        proxies: how proxies are to be started, if there are none.
        target_capacity: in percent; None for full size.
    """

    config_json: str
    applications: tuple[Declaration, ...]
    proxies: ProxyOptions
    target_capacity: float | None = None
