"""Gangs by a real controller over loopback: what replicas are told, and what becomes of their placement groups."""

from conditions import until
from controller_mesh import application, local_mesh

from meshserve.model.ids import DeploymentId
from meshserve.model.options import GangOptions

MODEL = DeploymentId("app", "Model")


def gangs(number=4, **options):
    return application(num_replicas=number, gang_scheduling_config=GangOptions(2), **options)


def told(mesh):
    """Gang -> the tags of its members by rank, as its members were told."""
    found = {}
    for replica in mesh.replicas:
        gang = replica.request.gang
        assert gang.member_tags[gang.rank] == replica.request.replica_tag
        found[gang.gang_id] = list(gang.member_tags)
    return found


def tags(mesh):
    return {replica.request.replica_tag for replica in mesh.replicas}


async def test_members_are_told_of_their_gang_and_run_in_its_placement_group():
    async with local_mesh() as mesh:
        await mesh.apply(gangs(ray_actor_options={"num_cpus": 1, "num_gpus": 0.5}))
        await mesh.until_state("RUNNING")
        members = told(mesh)
        assert len(members) == 2 and {tag for gang in members.values() for tag in gang} == tags(mesh)
        specs = [process.spec for process in mesh.launcher.running.values()]
        assert {spec.placement_group for spec in specs} == mesh.launcher.groups
        assert all(spec.placement_group_bundles == ({"CPU": 1.0, "GPU": 0.5},) * 2 for spec in specs)
        assert sorted(spec.placement_group_bundle for spec in specs) == [0, 0, 1, 1]


async def test_every_member_has_all_of_its_own_bundles():
    async with local_mesh() as mesh:
        bundles, labels = ({"CPU": 1}, {"GPU": 1}), ({"a": "1"}, {"a": "2"})
        options = {"placement_group_bundles": bundles, "placement_group_bundle_label_selector": labels}
        await mesh.apply(gangs(2, **options))
        await mesh.until_state("RUNNING")
        specs = [process.spec for process in mesh.launcher.running.values()]
        assert {len(spec.placement_group_bundles) for spec in specs} == {4}
        assert {len(spec.placement_group_bundle_label_selector) for spec in specs} == {4}
        assert sorted(spec.placement_group_bundle for spec in specs) == [0, 2]


async def test_routers_hear_of_a_gang_when_all_of_it_is_ready():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        slow = []

        def prepare(fake):
            slow.append(fake)
            if len(slow) == 2:
                fake.constructed.clear()

        mesh.launcher.prepare = prepare
        await mesh.apply(gangs(2))
        await mesh.wait(lambda status: dict(status.applications[0].deployments[0].replica_states) == {"STARTING": 2})
        await until(lambda: any(replica.ready for replica in mesh.replicas))
        assert watcher.targets is None or not watcher.targets.replicas
        slow[1].constructed.set()
        assert await watcher.until_replicas(2) == tags(mesh)


async def test_a_member_that_dies_takes_its_gang_and_its_placement_group():
    async with local_mesh() as mesh:
        await mesh.apply(gangs())
        await mesh.until_state("RUNNING")
        lost, kept = told(mesh).values()
        before = set(mesh.launcher.groups)
        await mesh.launcher.kill(next(name for name in mesh.launcher.running if name.endswith(lost[1])))
        await until(lambda: len(mesh.replicas) == 4 and len(mesh.launcher.groups) == 2 and not tags(mesh) & set(lost))
        await mesh.until_state("RUNNING")
        assert set(kept) < tags(mesh)
        assert len(mesh.launcher.groups & before) == 1


async def test_a_restarted_controller_finds_gangs_as_they_were():
    async with local_mesh() as mesh:
        await mesh.apply(gangs())
        await mesh.until_state("RUNNING")
        before, groups = told(mesh), set(mesh.launcher.groups)
        await mesh.restart_controller()
        await mesh.until_state("RUNNING")
        assert told(mesh) == before and mesh.launcher.groups == groups
        assert len(mesh.launcher.replicas) == 4, "a replica was started that was not needed"


async def test_what_died_while_the_controller_was_away_is_missed_by_its_gang():
    async with local_mesh() as mesh:
        await mesh.apply(gangs())
        await mesh.until_state("RUNNING")
        lost, kept = told(mesh).values()
        await mesh.kill_controller()
        await mesh.launcher.kill(next(name for name in mesh.launcher.running if name.endswith(lost[0])))
        mesh.launcher.groups.add("MESHSERVE_GANG::app#Model#leftover")
        await mesh.start_controller()
        await until(lambda: len(mesh.replicas) == 4 and not tags(mesh) & set(lost) and len(mesh.launcher.groups) == 2)
        await mesh.until_state("RUNNING")
        assert set(kept) < tags(mesh)


async def test_a_deleted_application_leaves_no_placement_group():
    async with local_mesh() as mesh:
        await mesh.apply(gangs())
        await mesh.until_state("RUNNING")
        await mesh.delete("app")
        await mesh.wait(lambda status: not status.applications)
        assert not mesh.replicas and not mesh.launcher.groups
