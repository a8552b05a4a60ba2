"""The plans of all deployments, made anew only where something changed.

A deployment keeps its part of the previous plan while its picture and its desired state are the same objects as they
were then, its time to wake has not come, and the machines are the same. Deployments on their way out depend on each
other (`tiers`), so they are always planned, callers before callees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from meshserve.core.deployment import Part, leave, plan_deployment
from meshserve.core.scene import Scene
from meshserve.core.seen import Seen, SeenDeployment
from meshserve.core.tiers import TIER_S, callers_first, is_held
from meshserve.model.control import Desired, DesiredDeployment
from meshserve.model.ids import DeploymentId
from meshserve.model.replace import record, replace
from meshserve.model.targets import DeploymentTargets

_FOREVER = float("inf")

RECOVERY_S = 10.0
"""After a restart, how long targets are withheld at most while replicas are being recovered."""


@record
class Parts:
    """The plans of all deployments.

    Attributes:
        all: by deployment.
        changed: those that were planned anew.
        nodes: where replicas are.
        waits: a replica waits for its process.
        wake_at: when one of them has to be planned again although nothing was heard.
    """

    all: Mapping[DeploymentId, Part]
    changed: tuple[DeploymentId, ...]
    nodes: frozenset[str]
    waits: bool
    wake_at: float


def plan_parts(
    desired: Desired, seen: Seen, now: float, new_id: Callable[[], str], previous: tuple[Seen, Parts] | None
) -> Parts:
    """Plans every deployment that is wanted or known.

    Args:
        previous: what the previous plan made of the world, and its parts.
    """
    scene = Scene(
        now=now,
        new_id=new_id,
        nodes=seen.cluster.nodes,
        leaves_at={node_id: node.leaves_at for node_id, node in seen.cluster.nodes.items() if node.leaves_at},
        resources=seen.cluster.resources,
        crowding=lambda: _crowding(seen),
        publish_at=seen.began_at + RECOVERY_S,
        actor_checks=seen.actor_checks,
        slow_s=seen.slow_s,
        shutting_down=desired.shutting_down,
    )
    kept: Mapping[DeploymentId, Part] = {}
    if previous is not None and previous[0].cluster.nodes is seen.cluster.nodes:
        kept = previous[1].all
    due = _due(desired, seen, now, kept)
    parts = dict(kept)
    for gone in kept.keys() - desired.deployments.keys() - seen.deployments.keys():
        del parts[gone]
    ending = [one for one in due if one in desired.deployments and desired.deployments[one].deleting]
    for deployment_id in due:
        want = desired.deployments.get(deployment_id)
        if want is None or not want.deleting:
            parts[deployment_id] = _plan_one(deployment_id, want, seen, scene)
    if ending:
        for deployment_id, callers in callers_first(ending, desired).items():
            parts[deployment_id] = _plan_ending(deployment_id, callers, desired, seen, scene, parts)
    return Parts(
        all=parts,
        changed=tuple(due),
        nodes=_nodes(parts, due, previous[1] if previous is not None else None),
        waits=any(part.waits for part in parts.values()),
        wake_at=min((part.wake_at for part in parts.values()), default=_FOREVER),
    )


def _due(desired: Desired, seen: Seen, now: float, kept: Mapping[DeploymentId, Part]) -> list[DeploymentId]:
    """Deployments to plan anew."""
    deployments, due = seen.deployments, []
    for one, want in desired.deployments.items():
        part = kept.get(one)
        rests = part is not None and part.seen is deployments.get(one) and part.seen.want is want
        if part is None or not rests or want.deleting or part.wake_at <= now:
            due.append(one)
    return [*due, *(deployments.keys() - desired.deployments.keys())]


def _nodes(parts: Mapping[DeploymentId, Part], due: Iterable[DeploymentId], before: Parts | None) -> frozenset[str]:
    known = before.all if before is not None and len(before.all) == len(parts) else {}
    if before is not None and known and all(one in known and parts[one].nodes == known[one].nodes for one in due):
        return before.nodes
    return frozenset[str]().union(*(part.nodes for part in parts.values()))


def _plan_one(deployment_id: DeploymentId, want: DesiredDeployment | None, seen: Seen, scene: Scene) -> Part:
    deployment = seen.deployments.get(deployment_id) or SeenDeployment(deployment_id, since=scene.now)
    try:
        return plan_deployment(deployment, want, scene)
    except Exception as error:  # noqa: BLE001 - a fault in deciding about one deployment must not stop the others
        return leave(deployment, error, scene.now)


def _plan_ending(
    deployment_id: DeploymentId,
    callers: list[DeploymentId],
    desired: Desired,
    seen: Seen,
    scene: Scene,
    parts: Mapping[DeploymentId, Part],
) -> Part:
    """The plan of a deployment that goes away: once its callers have ended, or the time for that is over."""
    want, known = desired.deployments[deployment_id], seen.deployments.get(deployment_id)
    since = known.since if known is not None and known.want is want else scene.now
    held = is_held(callers, parts, since, scene.now)
    part = _plan_one(deployment_id, want, seen, replace(scene, held=held))
    return replace(part, wake_at=min(part.wake_at, since + TIER_S)) if held else part


def _crowding(seen: Seen) -> Mapping[str, int]:
    return Counter(
        replica.process.node_id
        for deployment in seen.deployments.values()
        for replica in deployment.replicas.values()
        if replica.process is not None
    )


def number_snapshots(seen: Seen, parts: Parts) -> tuple[int, Parts, tuple[DeploymentTargets, ...]]:
    """Gives the snapshots that changed their versions.

    Returns:
        The number last given, the parts with what is published noted in them, and what to publish.
    """
    number = seen.number
    numbered: dict[DeploymentId, Part] = {}
    for deployment_id in parts.changed:
        part = parts.all[deployment_id]
        if part.targets is not None:
            number += 1
            targets = replace(part.targets, version=(seen.epoch, number))
            numbered[deployment_id] = replace(part, targets=targets, seen=replace(part.seen, published=targets))
    if not numbered:
        return number, parts, ()
    published = tuple(part.targets for part in numbered.values() if part.targets is not None)
    return number, replace(parts, all={**parts.all, **numbered}), published


def pictures(seen: Seen, parts: Parts) -> Mapping[DeploymentId, SeenDeployment]:
    """What is known of the deployments, with the plans' actions under way; what nobody wants or knows is left out."""
    if not parts.changed:
        return seen.deployments
    after = dict(seen.deployments)
    for deployment_id in parts.changed:
        picture = parts.all[deployment_id].seen
        if picture.want is None and picture.is_empty:
            after.pop(deployment_id, None)
        else:
            after[deployment_id] = picture
    return after
