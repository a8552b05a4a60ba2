"""The watch stream: snapshots down, reports of load up."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from conditions import until
from controller_mesh import TOKEN, application, local_mesh

from meshserve.controller.loads import Loads, RouterLoad
from meshserve.controller.publisher import Publisher
from meshserve.controller.watch import WatchService
from meshserve.core.plan import Plan
from meshserve.core.seen import Seen
from meshserve.launch.locator import MeshAddress
from meshserve.model.control import Desired
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import DeploymentTargets
from meshserve.routing.directory import Directory
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.server import start_internal_server
from meshserve.rpc.token import token_metadata
from meshserve.v1 import watch_pb2, watch_pb2_grpc
from meshserve.wire.overview import overview_from_proto

MODEL = DeploymentId("app", "Model")
KEY = watch_pb2.DeploymentKey(app="app", deployment="Model")


def published(number: int, *names: str) -> Plan:
    """A plan in which these deployments changed."""
    targets = tuple(DeploymentTargets(DeploymentId("app", name), (1, number)) for name in names)
    desired = Desired(deployments={DeploymentId("app", name): None for name in ("Model", "Other")})
    return Plan(desired, Seen(epoch=1, number=number, listed=True), targets=targets)


async def test_a_slow_watcher_gets_the_newest_snapshot_only():
    publisher = Publisher(lambda: published(0).desired)
    subscription = publisher.subscribe()
    subscription.want([MODEL], (), routes=False)
    for number in range(1, 50):
        publisher.publish(published(number, "Model"))
    message = await subscription.next()
    assert [targets.version for targets in message.deployments] == [49]


async def test_nothing_is_said_of_what_was_not_asked_for_or_is_no_longer_wanted():
    publisher = Publisher(lambda: published(0).desired)
    subscription = publisher.subscribe()
    subscription.want([MODEL], (), routes=False)
    publisher.publish(published(1, "Model"))
    await subscription.next()
    subscription.want((), [MODEL], routes=False)
    publisher.publish(published(2, "Model", "Other"))
    waiting = asyncio.create_task(subscription.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_deployment_just_set_is_not_called_unknown():
    publisher = Publisher(lambda: published(0).desired)
    publisher.publish(published(1))
    assert publisher.snapshot(MODEL) is None
    unknown = publisher.snapshot(DeploymentId("app", "Nobody"))
    assert unknown is not None and not unknown.exists


async def test_reports_of_load_are_summed_and_die_with_their_stream():
    loads, lost = Loads(), []
    loads.listen(lambda watcher, deployment, load: None, lost.append)
    service = WatchService(Publisher(Desired), loads)
    server, address = await start_internal_server(
        TOKEN, "127.0.0.1", [lambda on: watch_pb2_grpc.add_WatchServiceServicer_to_server(service, on)]
    )
    channel = internal_channel(address)
    streams = [watch_pb2_grpc.WatchServiceStub(channel).Watch(metadata=token_metadata(TOKEN)) for _ in range(2)]
    for queued, stream in enumerate(streams, 1):
        report = watch_pb2.RouterReport(key=KEY, queued=queued, running=10)
        await stream.write(watch_pb2.WatchRequest(watcher=f"w{queued}", role="driver", reports=[report]))
    await until(lambda: loads.total(MODEL) == RouterLoad(3, 20))
    streams[0].cancel()
    await until(lambda: loads.total(MODEL) == RouterLoad(2, 10))
    assert len(lost) == 1
    await channel.close()
    await server.stop(None)


class ThisLoop:
    """The test's own loop in the place of the I/O thread."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task


async def test_whoever_waits_for_a_version_has_heard_what_was_published():
    async with local_mesh() as mesh:
        found = asyncio.Event()

        async def locate() -> MeshAddress:
            await found.wait()
            return MeshAddress(mesh.controller.address, TOKEN)

        directory = Directory(locate, "driver", "node", ThisLoop(), Random(1))  # type: ignore[arg-type]
        router = directory.router(MODEL)
        await mesh.apply(application(num_replicas=2))
        await mesh.until_state("RUNNING")
        [told] = overview_from_proto(await mesh.status()).applications["app"].deployments
        waiting = asyncio.create_task(directory.catch_up({MODEL: told.published, DeploymentId("app", "Other"): (9, 9)}))
        await asyncio.sleep(0)
        assert not waiting.done()
        found.set()
        await waiting
        assert router.version == told.published
        assert len(list(router.replicas)) == 2
        await directory.close()


async def test_a_deleted_deployment_that_is_set_again_is_published_with_a_higher_version():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        for _ in range(2):
            await mesh.apply(application())
            await watcher.until_replicas(1)
            await mesh.delete("app")
            await watcher.until(lambda seen: not seen.targets.exists)
            await mesh.wait(lambda status: not status.applications)
        assert watcher.versions == sorted(set(watcher.versions))
