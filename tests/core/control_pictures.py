"""Small pictures of a mesh for tests of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from meshserve.core.desire import wanted_deployment
from meshserve.core.scene import Scene
from meshserve.core.seen import Build, Health, Phase, Process, Resources, SeenDeployment, SeenNode, SeenReplica
from meshserve.core.seen_actors import ActorChecks
from meshserve.model.control import ApplicationSpec, DeploymentSpec, DesiredDeployment, ReplicaRank
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import DeploymentOptions

MODEL = DeploymentId("app", "Model")


def wanted(version: str = "v1", number: int = 3, **options: Any) -> DesiredDeployment:
    """A deployment of so many replicas."""
    spec = DeploymentSpec(MODEL, version, DeploymentOptions(num_replicas=number, **options))
    return wanted_deployment(ApplicationSpec("app", (spec,), "Model"), spec, 1)


def replica(tag: str, phase: Phase, want: DesiredDeployment, node: str = "n0", **changes: Any) -> SeenReplica:
    """A replica of what is wanted."""
    number = int("".join(filter(str.isdigit, tag)) or 0)
    process = None if phase in (Phase.LAUNCHING, Phase.LISTED) else Process(f"{tag}:1", node)
    rank = ReplicaRank(number, 0, number) if process is not None and phase is not Phase.LAUNCHED else None
    seen = SeenReplica(
        ReplicaId(MODEL, tag),
        phase,
        since=0.0,
        started_at=0.0,
        build=Build(want.version, want.spec.options, want.route_prefix),
        process=process,
        rank=rank,
        health=Health(check_at=1000.0),
    )
    return replace(seen, **changes)


def deployment(want: DesiredDeployment | None, *replicas: SeenReplica, **changes: Any) -> SeenDeployment:
    """A deployment with these replicas, oldest first."""
    return replace(SeenDeployment(MODEL, {one.id.tag: one for one in replicas}, want), **changes)


def ready(want: DesiredDeployment, number: int, first: int = 0) -> list[SeenReplica]:
    """So many replicas that serve."""
    return [replica(f"r{first + at}", Phase.READY, want) for at in range(number)]


def scene(now: float = 100.0, nodes: Mapping[str, SeenNode] | None = None, **changes: Any) -> Scene:
    """Surroundings in which nothing is special."""
    tags = count()
    nodes = nodes or {"n0": SeenNode("n0", is_head=True)}
    plain = Scene(
        now=now,
        new_id=lambda: f"new{next(tags)}",
        nodes=nodes,
        leaves_at={node_id: node.leaves_at for node_id, node in nodes.items() if node.leaves_at},
        resources=Resources(),
        crowding=dict,
        publish_at=0.0,
        actor_checks=ActorChecks(),
    )
    return replace(plain, **changes)


def phases(seen: SeenDeployment) -> dict[str, Phase]:
    """Every replica's phase."""
    return {tag: one.phase for tag, one in seen.replicas.items()}
