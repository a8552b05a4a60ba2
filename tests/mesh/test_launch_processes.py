"""Processes on a real Ray cluster, with roles that do nothing."""

import asyncio
import itertools
import os
import signal
from typing import Any

import pytest
import ray

from meshserve.launch.launcher import LaunchError, ProcessSpec
from meshserve.launch.ray_launcher import RayLauncher
from meshserve.launch.ray_store import RayStore
from meshserve.settings import NAMESPACE

pytestmark = pytest.mark.usefixtures("cluster")

_numbers = itertools.count()


def spec(entry: str = "small_roles:idle", **fields: Any) -> ProcessSpec:
    fields = {"boot": {"host": "127.0.0.1"}, "actor_options": {"num_cpus": 0}, **fields}
    return ProcessSpec(f"MESHSERVE_process-{next(_numbers)}", entry, **fields)


@pytest.fixture
async def launcher() -> Any:
    launcher = RayLauncher()
    before = set(await launcher.names())
    yield launcher
    for name in set(await launcher.names()) - before:
        await launcher.kill(name)


async def test_a_started_process_tells_where_it_is_and_is_found_by_name(launcher: RayLauncher) -> None:
    wanted = spec()

    started = await launcher.start(wanted)

    assert started.address == "127.0.0.1:1"
    assert started.node_id == (await launcher.nodes())[0].node_id
    assert wanted.name in await launcher.names()
    assert await RayLauncher().find(wanted.name) == started
    assert await launcher.find("no such process") is None


async def test_the_address_to_listen_on_is_that_of_the_node_unless_it_is_loopback(launcher: RayLauncher) -> None:
    started = await launcher.start(spec(boot={"host": "192.0.2.99"}))

    assert started.address == f"{started.node_ip}:1"


async def test_a_death_is_noticed_by_whoever_waits_for_it(launcher: RayLauncher) -> None:
    wanted = spec()
    started = await launcher.start(wanted)
    waiting = asyncio.create_task(RayLauncher().wait_for_death(wanted.name))

    os.kill(started.pid, signal.SIGKILL)

    await asyncio.wait_for(waiting, 10)
    assert await launcher.find(wanted.name) is None


async def test_killing_ends_a_process_and_its_placement_group(launcher: RayLauncher) -> None:
    wanted = spec(actor_options={"num_cpus": 1}, placement_group_bundles=({"CPU": 1}, {"CPU": 1}))
    await launcher.start(wanted)

    await launcher.kill(wanted.name)
    await launcher.kill("no such process")

    await asyncio.wait_for(launcher.wait_for_death(wanted.name), 10)
    groups = {group["name"]: group["state"] for group in ray.util.placement_group_table().values()}
    assert groups[wanted.name] == "REMOVED"


async def test_a_group_that_processes_share_outlives_them(
    launcher: RayLauncher,
) -> None:
    shared = {
        "actor_options": {"num_cpus": 1},
        "placement_group": f"MESHSERVE_group-{next(_numbers)}",
        "placement_group_bundles": ({"CPU": 1}, {"CPU": 1}),
        "placement_group_bundle_label_selector": ({"kind": "!in(none)"},),
    }
    wanted = [spec(**shared, placement_group_bundle=bundle) for bundle in (0, 1)]
    await asyncio.gather(*(launcher.start(one) for one in wanted))
    for one in wanted:
        await launcher.kill(one.name)
    assert shared["placement_group"] in await launcher.names()

    await launcher.kill(str(shared["placement_group"]))

    assert shared["placement_group"] not in await launcher.names()


async def test_what_is_left_of_a_process_that_died_is_listed_until_it_is_killed(launcher: RayLauncher) -> None:
    wanted = spec(actor_options={"num_cpus": 1}, placement_group_bundles=({"CPU": 1},))
    started = await launcher.start(wanted)
    os.kill(started.pid, signal.SIGKILL)
    await asyncio.wait_for(launcher.wait_for_death(wanted.name), 10)
    assert wanted.name in await launcher.names()

    await launcher.kill(wanted.name)

    assert wanted.name not in await launcher.names()


async def test_actors_of_others_are_none_of_ours_wherever_they_are(launcher: RayLauncher) -> None:
    class Other:
        pass

    others = ray.remote(num_cpus=0)(Other).options(name="other", namespace=NAMESPACE).remote()
    ray.get(others.__ray_ready__.remote())

    assert "other" not in await launcher.names()
    ray.kill(others)


async def test_a_role_that_fails_to_start_says_why(launcher: RayLauncher) -> None:
    with pytest.raises(LaunchError, match="ValueError: cannot start: no reason"):
        await launcher.start(spec("small_roles:failing", boot={"reason": "no reason"}))


async def test_a_process_that_waits_for_resources_can_be_killed(launcher: RayLauncher) -> None:
    wanted = spec(actor_options={"num_cpus": 1000})
    starting = asyncio.create_task(launcher.start(wanted))
    while wanted.name not in await launcher.names():
        await asyncio.sleep(0.01)

    await launcher.kill(wanted.name)

    with pytest.raises(LaunchError):
        await asyncio.wait_for(starting, 10)


async def test_a_node_that_is_gone_cannot_be_started_on(launcher: RayLauncher) -> None:
    with pytest.raises(LaunchError, match="doesn't exist"):
        await launcher.start(spec(node_id="0" * 56))


async def test_so_many_of_a_group_and_no_more_run_on_a_node(launcher: RayLauncher) -> None:
    wanted = [spec(max_per_node=2, group="pair") for _ in range(3)]
    starting = [asyncio.create_task(launcher.start(one)) for one in wanted]

    while len(done := [task for task in starting if task.done()]) < 2:
        await asyncio.wait([task for task in starting if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    [third] = [task for task in starting if task not in done]
    running = done[0].result()
    assert not third.done()
    await launcher.kill(running.name)

    assert (await asyncio.wait_for(third, 20)).node_id == running.node_id


async def test_nodes_tell_their_resources(launcher: RayLauncher) -> None:
    [node] = await launcher.nodes()

    assert node.is_head
    assert node.total["CPU"] == 64
    assert node.available["CPU"] <= 64
    assert node.draining_deadline_s == 0


async def test_the_store_keeps_and_lists_values_by_key() -> None:
    store = RayStore()

    await store.put("test/a", b"1")
    await store.put("test/b", b"2")
    await store.put("test/b", b"3")
    await store.delete("test/a")
    await store.delete("test/none")

    assert await store.keys("test/") == ("test/b",)
    assert (await store.get("test/a"), await store.get("test/b")) == (None, b"3")
    await store.delete("test/b")
