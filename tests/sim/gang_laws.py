"""The laws of gangs, checked after every turn of a simulated mesh."""

from __future__ import annotations

from collections import Counter

from meshserve.core import actions as ac
from meshserve.core.plan import Plan
from meshserve.core.seen import RECOVERING, STARTING, STOPPING, UNHEALTHY, Phase, SeenDeployment, SeenReplica
from meshserve.model.gang import GangId
from meshserve.model.options import DeploymentOptions
from meshserve.model.status import DeploymentState
from sim.world import World


def check_gangs(deployment: SeenDeployment) -> None:
    """What holds at every instant in the picture of one deployment."""
    if any(one.phase in RECOVERING for one in deployment.replicas.values()):
        return  # which gang they are of is not known yet
    published = {one.tag for one in deployment.published.replicas} if deployment.published is not None else set()
    for gang_id, members in members_by_gang(deployment).items():
        standing = [one for one in members if one.phase not in STOPPING]
        size = members[0].gang.world_size if members[0].gang is not None else 0
        assert len(standing) in (0, size), f"{len(standing)} of {size} are left of gang {gang_id} of {deployment.id}"
        serving = [one for one in members if one.id.tag in published or one.phase is Phase.RECONFIGURING]
        assert len(serving) in (0, size), f"{len(serving)} of {size} of gang {gang_id} of {deployment.id} serve"
        assert gang_id in deployment.gangs, f"gang {gang_id} of {deployment.id} would keep its placement group"


def members_by_gang(deployment: SeenDeployment) -> dict[str, list[SeenReplica]]:
    """The replicas of a deployment that belong to gangs."""
    found: dict[str, list[SeenReplica]] = {}
    for one in deployment.replicas.values():
        if one.gang is not None:
            found.setdefault(one.gang.gang_id, []).append(one)
    return found


def check_started_whole(now: Plan) -> None:
    """A gang is started in one plan."""
    gangs = [one.gang for one in now.actions if type(one) is ac.StartReplica and one.gang is not None]
    if not gangs:
        return
    started = Counter(gang.gang_id for gang in gangs)
    assert all(started[gang.gang_id] == gang.world_size for gang in gangs), f"started in part: {started}"


def has_failed(deployment: SeenDeployment, replica: SeenReplica) -> bool:
    """Whether a gang may be killed though a member of it is well: another one has failed or starts yet."""
    if replica.gang is None:
        return False
    members = [deployment.replicas.get(tag) for tag in replica.gang.member_replica_ids]
    failed = STARTING | {Phase.BROKEN, Phase.KILLING}
    return any(one is not None and (one.phase in failed or one.retire == UNHEALTHY) for one in members)


def loses_a_node(now: Plan, deployment: SeenDeployment, replica: SeenReplica) -> bool:
    """Whether the replica, or another one of its gang, is on a node that goes away."""
    gang = [replica] if replica.gang is None else members_by_gang(deployment)[replica.gang.gang_id]
    nodes = [now.seen.cluster.nodes.get(one.process.node_id) for one in gang if one.process is not None]
    return any(node is not None and node.leaves_at for node in nodes)


def larger_gang(deployment: SeenDeployment, options: DeploymentOptions) -> int:
    """By how much a gang of an earlier version may be larger than those that are wanted now."""
    sizes = (one.gang.world_size if one.gang is not None else 1 for one in deployment.replicas.values())
    return max((size - 1 for size in sizes if size != options.gang_size), default=0)


def check_groups(world: World) -> None:
    """Once all is quiet every gang is whole, in its placement group, and no other group is there.

    A version that has gone bad is tried for ever, and is never quiet.
    """
    for gang in world.groups:
        known = world.seen.deployments[gang.deployment]
        if known.status.state is not DeploymentState.HEALTHY:
            continue
        members = world.members(gang)
        assert members, f"the placement group of {gang} is left over"
        sizes = {one.gang.world_size for one in members if one.gang is not None}
        assert sizes == {len(members)}, f"{len(members)} of {sizes} of {gang} are left"
    for replica in world.alive():
        if replica.gang is not None:
            assert GangId(replica.id.deployment, replica.gang.gang_id) in world.groups, f"{replica.id} has no group"
