"""Calls to chosen replicas: `broadcast`, `choose_replica` and `dispatch`, on real replicas over loopback."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from conditions import until
from replicas import DEPLOYMENT, LocalMesh, LocalReplica

from meshserve.errors import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.routing.directory import set_process_directory
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.service import stack
from meshserve.rpc.io_thread import io_thread
from meshserve.telemetry.catalogue import SESSION_SENT


class OneDeployment:
    """A directory that knows one deployment."""

    def __init__(self, mesh):
        self.mesh = mesh

    def service(self, deployment):
        assert deployment == DEPLOYMENT
        return stack(CALLER_STACK, self.mesh.router)

    def router(self, deployment):
        assert deployment == DEPLOYMENT
        return self.mesh.router


class Model:
    def __init__(self, name):
        self.name = name
        self.running = 0
        self.cancelled = 0

    async def __call__(self, value="called"):
        return self.name, value

    async def who(self):
        return self.name

    def size_of(self, value):
        return len(value)

    async def hold(self):
        self.running += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def fail_at(self, name):
        if self.name == name:
            raise KeyError(name)
        await asyncio.sleep(0.01)
        return self.name

    async def gone(self):
        raise ReplicaUnavailableError("some other one")

    async def count(self, n):
        for number in range(n):
            yield self.name, number


class Served:
    """Two replicas with two slots each, and a handle."""

    def __init__(self, limit=2, **options):
        options = DeploymentOptions(max_ongoing_requests=limit, **options)
        self.replicas = [LocalReplica(tag, Model, tag, options=options) for tag in "ab"]
        self.mesh = LocalMesh(*self.replicas)
        self.handle = DeploymentHandle("Model", "app")

    @property
    def slots(self):
        return [replica.admission.ongoing for replica in self.replicas]

    def publish(self, *replicas, **fields):
        async def publish():
            self.mesh.publish(*replicas, **fields)

        io_thread().run(publish())


@pytest.fixture
def served():
    served = Served()
    io_thread().run(served.mesh.__aenter__())
    set_process_directory(OneDeployment(served.mesh))
    yield served
    set_process_directory(None)
    io_thread().run(served.mesh.__aexit__(None, None, None))


# -- broadcast -------------------------------------------------------------------------------------------------------


async def test_broadcast_reaches_every_replica_also_full_ones(served):
    held = [served.handle.hold.remote() for _ in range(5)]
    await until(lambda: served.slots == [2, 2])
    assert sorted(await served.handle.broadcast("who").results_async(timeout_s=5)) == ["a", "b"]
    for response in held:
        response.cancel()


def test_broadcast_results_can_be_had_in_synchronous_code(served):
    response = served.handle.broadcast("__call__", value=7)
    assert sorted(response.results(timeout_s=5)) == [("a", 7), ("b", 7)]
    assert sorted(response.results()) == [("a", 7), ("b", 7)]


def sum_sent(served):
    """Bytes written to the replicas."""
    metrics = served.mesh.router.replicas[0].session.metrics
    return sum(value for metric, _, value in metrics.read() if metric is SESSION_SENT)


def test_large_arguments_of_a_broadcast_do_not_ride_the_sessions(served):
    assert served.handle.broadcast("size_of", b"").results(timeout_s=5) == [0, 0]
    before = sum_sent(served)
    assert served.handle.broadcast("size_of", bytes(2_000_000)).results(timeout_s=5) == [2_000_000, 2_000_000]
    assert sum_sent(served) - before < 10_000


async def test_the_first_exception_of_a_broadcast_is_raised_or_given_among_the_results(served):
    response = served.handle.broadcast("fail_at", "a")
    with pytest.raises(KeyError):
        await response.results_async()
    results = await response.results_async(return_exceptions=True)
    assert "b" in results and any(isinstance(result, KeyError) for result in results)


async def test_what_user_code_raises_is_not_mistaken_for_a_replica_that_is_gone(served):
    with pytest.raises(ReplicaUnavailableError):
        await served.handle.broadcast("gone").results_async()


async def test_broadcast_waits_no_longer_than_told_and_can_be_waited_for_again(served):
    response = served.handle.broadcast("hold")
    with pytest.raises(TimeoutError):
        await response.results_async(timeout_s=0.05)
    with pytest.raises(ValueError, match="negative"):
        await response.results_async(timeout_s=-1)
    assert served.slots == [1, 1]
    response.cancel()
    with pytest.raises(RequestCancelledError):
        await response.results_async()
    await until(lambda: served.slots == [0, 0])


async def test_broadcast_results_refuse_to_block_a_loop(served):
    with pytest.raises(RuntimeError, match="results_async"):
        served.handle.broadcast("who").results()


async def test_a_replica_that_has_gone_is_left_out_of_a_broadcast(served):
    served.replicas[0].admission.draining = True  # nobody was told: it refuses
    assert await served.handle.broadcast("who").results_async() == ["b"]


async def test_broadcast_to_nobody_is_an_error(served):
    served.publish(replicas=())
    with pytest.raises(DeploymentUnavailableError, match="no running replica"):
        await served.handle.broadcast("who").results_async()
    served.publish(replicas=(), exists=False)
    with pytest.raises(DeploymentUnavailableError, match="no such deployment"):
        await served.handle.broadcast("who").results_async()


async def test_broadcast_of_a_fresh_handle_waits_to_know_the_replicas():
    mesh = LocalMesh(LocalReplica("a", Model, "a"))
    set_process_directory(OneDeployment(mesh))
    response = DeploymentHandle("Model", "app").broadcast("who")
    try:
        await asyncio.wrap_future(io_thread().submit(mesh.__aenter__()))
        assert await response.results_async(timeout_s=5) == ["a"]
    finally:
        set_process_directory(None)
        await asyncio.wrap_future(io_thread().submit(mesh.__aexit__(None, None, None)))


async def test_responses_and_bad_arguments_of_a_broadcast(served):
    upstream = served.handle.remote("up")
    results = await served.handle.broadcast("__call__", upstream).results_async()
    assert {value[1] for _, value in results} == {"up"}
    with pytest.raises(TypeError, match="broadcast"):
        await served.handle.broadcast("__call__", (number for number in range(3))).results_async()


async def test_a_deadline_ends_a_broadcast(served):
    with pytest.raises(TimeoutError):
        await served.handle.options(timeout_s=0.05).broadcast("hold").results_async()
    await until(lambda: served.slots == [0, 0])


# -- choose_replica and dispatch -------------------------------------------------------------------------------------


async def test_a_selection_holds_a_slot_and_its_dispatch_uses_it(served):
    async with served.handle.choose_replica() as selection:
        assert sorted(served.slots) == [0, 1]
        name, value = await served.handle.dispatch(selection, "x")
        assert (name, value) == (selection.replica_id, "x")
        await until(lambda: served.slots == [0, 0])
    assert served.slots == [0, 0]
    assert served.mesh.router.running == 0


async def test_a_selection_says_where_it_is(served):
    target = replace(
        served.replicas[0].target,
        node_id="n1",
        node_ip="10.0.0.1",
        availability_zone="z",
        metadata_json=json.dumps({"gpu": 1}),
    )
    served.publish(replicas=(target,))
    async with served.handle.choose_replica() as selection:
        assert (selection.replica_id, selection.node_id, selection.availability_zone) == ("a", "n1", "z")
        assert selection.replica_metadata == {"gpu": 1}
        assert selection.address == f"10.0.0.1:{target.address.rpartition(':')[2]}"
        assert json.loads(json.dumps(selection.to_dict()))["replica_id"] == "a"


async def test_a_held_slot_counts_for_everybody(served):
    async with asyncio.timeout(10):
        choices = [served.handle.choose_replica() for _ in range(4)]
        selections = [await choice.__aenter__() for choice in choices]
        assert served.slots == [2, 2]
        waiting = served.handle.who.remote()
        await until(lambda: served.mesh.router.queued == 1)
        assert await served.handle.dispatch(selections[0]) is not None  # full, yet there is room for this one
        await waiting
        for choice in choices:
            await choice.__aexit__(None, None, None)
        await until(lambda: served.slots == [0, 0])


async def test_leaving_without_a_dispatch_gives_the_slot_back(served):
    async with served.handle.choose_replica():
        assert sum(served.slots) == 1
    await until(lambda: served.slots == [0, 0])
    with pytest.raises(KeyError):
        async with served.handle.choose_replica():
            raise KeyError("user code")
    await until(lambda: served.slots == [0, 0])


async def test_cancelling_while_choosing_leaves_no_slot_behind(served):
    async def choose():
        async with served.handle.choose_replica():
            await asyncio.sleep(60)

    for pause_s in (0, 0.0005, 0.001, 0.002, 0.005):
        tasks = [asyncio.create_task(choose()) for _ in range(8)]  # four get a slot, four wait for one
        await asyncio.sleep(pause_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: served.slots == [0, 0] and not served.mesh.router.queued)
    assert await served.handle.who.remote() in "ab"


async def test_streams_and_methods_are_those_of_the_handle_that_chose(served):
    streaming = served.handle.options(method_name="count", stream=True)
    async with streaming.choose_replica() as selection:
        got = [item async for item in served.handle.dispatch(selection, 3)]
    assert got == [(selection.replica_id, number) for number in range(3)]


async def test_a_second_dispatch_is_an_error_on_its_response(served):
    async with served.handle.who.choose_replica() as selection:
        assert await served.handle.dispatch(selection) == selection.replica_id
        with pytest.raises(RuntimeError, match="dispatched already"):
            await served.handle.dispatch(selection)


async def test_a_dispatch_without_a_reservation_is_an_error_on_its_response(served):
    async with served.handle.choose_replica() as selection:
        pass
    with pytest.raises(RuntimeError, match="no reservation"):
        await served.handle.dispatch(selection)
    async with served.handle.choose_replica(_reserve=False) as selection:
        await until(lambda: served.slots == [0, 0])
        with pytest.raises(RuntimeError, match="no reservation"):
            await served.handle.dispatch(selection)


async def test_a_dispatch_to_another_deployment_is_refused(served):
    async with served.handle.choose_replica() as selection:
        with pytest.raises(ValueError, match="app#Model"):
            DeploymentHandle("Other", "app").dispatch(selection)
    assert DeploymentHandle("Other", "app").deployment_id == DeploymentId("app", "Other")


async def test_a_replica_that_died_after_it_was_chosen_is_unavailable(served):
    async with served.handle.who.choose_replica() as selection:
        chosen = next(replica for replica in served.replicas if replica.tag == selection.replica_id)
        await asyncio.wrap_future(io_thread().submit(chosen.stop()))
        await until(lambda: not served.mesh.router.running)
        with pytest.raises(ReplicaUnavailableError, match=selection.replica_id):
            await served.handle.dispatch(selection)


async def test_a_caller_that_is_gone_holds_no_slots(served):
    choice = served.handle.choose_replica()
    await choice.__aenter__()
    session = next(replica.session for replica in served.mesh.router.replicas if replica.session is not None)
    io_thread().call_soon(session.close)
    await until(lambda: served.slots == [0, 0])
    await choice.__aexit__(None, None, None)


async def test_a_draining_replica_still_takes_the_call_it_holds_a_slot_for(served):
    async with served.handle.who.choose_replica() as selection:
        chosen = next(replica for replica in served.replicas if replica.tag == selection.replica_id)
        chosen.admission.draining = True
        assert await served.handle.dispatch(selection) == selection.replica_id
    await until(lambda: served.slots == [0, 0])


async def test_cancelling_a_dispatched_call_frees_its_slot(served):
    async with served.handle.hold.choose_replica() as selection:
        response = served.handle.dispatch(selection)
        await until(lambda: any(replica.user.callable.running for replica in served.replicas))
        response.cancel()
        with pytest.raises(RequestCancelledError):
            await response
        await until(lambda: served.slots == [0, 0])


async def test_choosing_meets_the_same_limits_and_deadlines_as_calling(served):
    served.publish(options=DeploymentOptions(max_ongoing_requests=2, max_queued_requests=0))
    held = [served.handle.hold.remote() for _ in range(4)]
    await until(lambda: served.slots == [2, 2])
    with pytest.raises(BackPressureError):
        async with served.handle.choose_replica():
            pass
    served.publish(options=DeploymentOptions(max_ongoing_requests=2))
    with pytest.raises(TimeoutError):
        async with served.handle.options(timeout_s=0.05).choose_replica():
            pass
    for response in held:
        response.cancel()
    served.publish(replicas=(), exists=False)
    with pytest.raises(DeploymentUnavailableError):
        async with served.handle.choose_replica():
            pass


async def test_a_block_is_entered_once(served):
    choice = served.handle.choose_replica()
    async with choice:
        pass
    with pytest.raises(RuntimeError, match="again"):
        await choice.__aenter__()
