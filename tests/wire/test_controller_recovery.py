"""A controller that comes back finds its mesh as it was."""

from conditions import until
from controller_mesh import application, local_mesh

from meshserve.model.ids import DeploymentId
from meshserve.v1 import controller_pb2, watch_pb2

MODEL = DeploymentId("app", "Model")


async def test_a_restarted_controller_keeps_every_replica_and_its_rank():
    async with local_mesh() as mesh:
        await mesh.start_proxies()
        generation = await mesh.apply(application(num_replicas=3))
        await mesh.until_state("RUNNING")
        before = {replica.request.replica_tag: replica.request.rank.rank for replica in mesh.replicas}
        proxy = mesh.launcher.proxies["node"]
        await mesh.restart_controller()
        status = await mesh.until_state("RUNNING")
        assert {replica.replica_tag: replica.rank for replica in status.deployments[0].replicas} == before
        assert status.generation == generation
        assert mesh.launcher.proxies["node"] is proxy
        assert len(mesh.launcher.replicas) == 3, "a replica was started that was not needed"


async def test_the_epoch_rises_and_no_incomplete_snapshot_is_published():
    async with local_mesh() as mesh:
        await mesh.apply(application(num_replicas=3))
        async with mesh.watching(MODEL) as watcher:
            before = await watcher.until_replicas(3)
            last = watcher.versions[-1]
        await mesh.restart_controller()
        async with mesh.watching(MODEL) as watcher:
            await watcher.until(lambda seen: seen.targets is not None)
            assert watcher.targets is not None
            assert {replica.replica_tag for replica in watcher.targets.replicas} == before
            assert watcher.versions[0] > last


async def test_counts_set_from_outside_survive():
    async with local_mesh() as mesh:
        await mesh.apply(application())
        key = watch_pb2.DeploymentKey(app="app", deployment="Model")
        await mesh.call("Scale", controller_pb2.ScaleRequest(key=key, target_num_replicas=2))
        await until(lambda: len(mesh.replicas) == 2)
        await mesh.restart_controller()
        status = await mesh.until_state("RUNNING")
        assert status.deployments[0].target_num_replicas == 2
        assert len(mesh.replicas) == 2


async def test_a_replica_that_died_meanwhile_is_replaced():
    async with local_mesh() as mesh:
        await mesh.apply(application(num_replicas=2))
        await mesh.until_state("RUNNING")
        await mesh.kill_controller()
        await mesh.launcher.kill(next(iter(mesh.launcher.running)))
        await mesh.start_controller()
        await mesh.until_state("RUNNING")
        await until(lambda: len(mesh.replicas) == 2)


async def test_a_replica_still_under_construction_is_waited_for():
    async with local_mesh() as mesh:
        mesh.launcher.prepare = lambda fake: fake.constructed.clear()
        await mesh.apply(application(num_replicas=2))
        await until(lambda: len([fake for fake in mesh.replicas if fake.request.code]) == 2)
        ranks = {fake.request.replica_tag: fake.request.rank.rank for fake in mesh.replicas}
        await mesh.restart_controller()
        for fake in mesh.replicas:
            fake.constructed.set()
        status = await mesh.until_state("RUNNING")
        assert {replica.replica_tag: replica.rank for replica in status.deployments[0].replicas} == ranks
        assert len(mesh.launcher.replicas) == 2, "a replica was started anew"


async def test_a_deletion_goes_on():
    async with local_mesh() as mesh:
        await mesh.apply(application())
        await mesh.until_state("RUNNING")
        replica = mesh.replicas[0]
        replica.drained.clear()
        await mesh.delete("app")
        await until(lambda: replica.drains)
        await mesh.restart_controller()
        await mesh.until_state("DELETING")
        replica.drained.set()
        await mesh.wait(lambda status: not status.applications)
        assert not mesh.replicas


async def test_a_shutdown_goes_on():
    async with local_mesh() as mesh:
        await mesh.apply(application())
        await mesh.until_state("RUNNING")
        replica = mesh.replicas[0]
        replica.drained.clear()
        call = mesh.api.Shutdown(controller_pb2.ShutdownRequest(), metadata=(("meshserve-token", "a-token-for-tests"),))
        await until(lambda: replica.drains)
        await mesh.restart_controller()
        call.cancel()
        replica.drained.set()
        await until(lambda: not mesh.launcher.running and not mesh.store.values)


async def test_a_failed_update_is_not_tried_again():
    async with local_mesh() as mesh:
        await mesh.apply(application(num_replicas=2))
        await mesh.until_state("RUNNING")
        mesh.launcher.prepare = lambda fake: setattr(fake, "constructor_failure", "ValueError: broken")
        await mesh.apply(application(version="v2", num_replicas=2, max_constructor_retry_count=1))
        await mesh.until_state("DEPLOY_FAILED")
        await until(lambda: len(mesh.replicas) == 1)
        started = len(mesh.launcher.replicas)
        await mesh.restart_controller()
        status = await mesh.until_state("DEPLOY_FAILED")
        await mesh.wait(lambda found: dict(found.applications[0].deployments[0].replica_states) == {"RUNNING": 1})
        assert "broken" in status.message
        assert len(mesh.launcher.replicas) == started
