"""Request routers written by users: real replicas over loopback, the router on its own thread."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
import time

import cloudpickle
import pytest
from conditions import until
from replicas import DEPLOYMENT, LocalMesh, LocalReplica, call, on_io

from meshserve.config import RequestRouterConfig
from meshserve.experimental.consistent_hash_router import ConsistentHashRouter
from meshserve.experimental.round_robin_router import RoundRobinRouter
from meshserve.model.call import CallContext
from meshserve.model.failure import FailureKind
from meshserve.model.options import DeploymentOptions, RouterOptions
from meshserve.request_router import (
    FIFOMixin,
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    PowerOfTwoChoicesRequestRouter,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)
from meshserve.routing.service import CallFailed
from meshserve.wire.values import decode_value


class Model:
    def __init__(self, name="m"):
        self.name = name
        self.order = []

    async def who(self, *args, **kwargs):
        self.order.append(args)
        return self.name

    async def hold(self, seconds):
        await asyncio.sleep(seconds)
        return self.name

    async def seen(self):
        return self.order


class Fixed(RequestRouter):
    """Always the replica of one tag; keeps everything it is told."""

    made: list[Fixed] = []

    def initialize_state(self, tag="a", **others):
        self.tag, self.others = tag, others
        self.told = []
        self.threads = set()
        self.asked = 0
        Fixed.made.append(self)

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        return [[one for one in candidate_replicas if one.replica_id.unique_id == self.tag]]

    def update_replicas(self, replicas):
        super().update_replicas(replicas)
        self.told.append(("update", sorted(one.replica_id.unique_id for one in replicas)))

    def on_request_routed(self, pending_request, replica_id, result):
        self.told.append(("routed", replica_id, pending_request.metadata.internal_request_id))

    def on_request_completed(self, replica_id, internal_request_id):
        self.told.append(("completed", replica_id, internal_request_id))

    def on_request_cancelled(self, internal_request_id):
        self.told.append(("cancelled", internal_request_id))

    def on_replica_actor_died(self, replica_id):
        self.told.append(("died", replica_id))

    def on_replica_actor_unavailable(self, replica_id):
        self.told.append(("unavailable", replica_id))

    def on_new_queue_len_info(self, replica_id, queue_len_info):
        self.told.append(("load", replica_id, queue_len_info.accepted))


class Spy(RequestRouter):
    """Takes any replica and remembers what it saw."""

    seen: list[PendingRequest] = []
    replicas: list[RunningReplica] = []

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        Spy.seen.append(pending_request)
        Spy.replicas[:] = candidate_replicas
        return [candidate_replicas]


class Failing(RequestRouter):
    async def choose_replicas(self, candidate_replicas, pending_request=None):
        return [[candidate_replicas[0]]] if pending_request.args == ("fine",) else 1 / 0


class Odd(RequestRouter):
    async def choose_replicas(self, candidate_replicas, pending_request=None):
        return candidate_replicas[0]


class SelfCancelling(RequestRouter):
    async def choose_replicas(self, candidate_replicas, pending_request=None):
        raise asyncio.CancelledError


class Blocking(RequestRouter):
    release = threading.Event()

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        Blocking.release.wait(10)
        return [candidate_replicas]


class Unmakeable(RequestRouter):
    def initialize_state(self, **kwargs):
        raise OSError("no such table")


class Backwards(FIFOMixin, RequestRouter):
    """Decides the last asked first."""

    waiting: list[asyncio.Future] = []

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        turn = asyncio.get_running_loop().create_future()
        Backwards.waiting.append(turn)
        if len(Backwards.waiting) == 3:
            for other in reversed(Backwards.waiting):
                other.set_result(None)
        await turn
        return [candidate_replicas]


class NearAndWarm(MultiplexMixin, LocalityMixin, RequestRouter):
    async def choose_replicas(self, candidate_replicas, pending_request=None):
        model = pending_request.metadata.multiplexed_model_id
        if model:
            return self.rank_replicas_via_multiplex(candidate_replicas, model)
        return self.rank_replicas_via_locality(self.select_available_replicas(candidate_replicas))


def routed_by(router, **kwargs):
    """Options with a router by its class."""
    pickled = base64.b64encode(cloudpickle.dumps(router)).decode()
    return DeploymentOptions(
        max_ongoing_requests=10,
        request_router_config=RouterOptions(router.__qualname__, pickled, request_router_kwargs=kwargs),
    )


def by_path(name, **kwargs):
    """Options with a router by its import path."""
    options = RouterOptions(f"{__name__}:{name}", request_router_kwargs=kwargs)
    return DeploymentOptions(max_ongoing_requests=10, request_router_config=options)


def replicas(tags, options):
    return [LocalReplica(tag, Model, tag, options=options) for tag in tags]


async def value(reply):
    return decode_value(await reply)


def test_calls_go_where_the_users_router_says_and_it_runs_on_a_thread_of_its_own():
    @on_io
    async def check():
        Fixed.made.clear()
        async with LocalMesh(*replicas("abc", by_path("Fixed", tag="b", size=3))) as mesh:
            assert [await value(mesh.router.unary(call("who"))) for _ in range(20)] == ["b"] * 20
            router = Fixed.made[-1]
            assert router.others == {"size": 3} and router.deployment_id == DEPLOYMENT
            assert router.threads == {"meshserve-request-routers"}

    check()


@on_io
async def test_a_class_that_came_by_pickle_works_as_one_that_came_by_name():
    class Last(RequestRouter):
        async def choose_replicas(self, candidate_replicas, pending_request=None):
            return [[candidate_replicas[-1]]]

    async with LocalMesh(*replicas("abc", routed_by(Last))) as mesh:
        assert await value(mesh.router.unary(call("who"))) == "c"


@on_io
async def test_hooks_are_told_what_becomes_of_calls_and_replicas():
    Fixed.made.clear()
    a, b = replicas("ab", by_path("Fixed"))
    async with LocalMesh(a, b) as mesh:
        await mesh.router.unary(call("who"))
        router = Fixed.made[-1]
        replica_id = ReplicaID(DEPLOYMENT, "a")
        await until(lambda: any(one[0] == "completed" for one in router.told))
        by_kind = {one[0]: one[1:] for one in router.told}
        assert by_kind["update"] == (["a", "b"],)
        assert by_kind["routed"] == by_kind["completed"] and by_kind["routed"][0] == replica_id
        await until(lambda: ("load", replica_id, True) in router.told)
        assert router.curr_replicas.keys() == {replica_id, ReplicaID(DEPLOYMENT, "b")}
        assert router.replica_queue_len_cache.get(replica_id) == 0
        assert router.replica_queue_len_cache.get(ReplicaID(DEPLOYMENT, "x")) is None
        await a.stop()
        await until(lambda: ("unavailable", replica_id) in router.told)
        mesh.publish(b)
        await until(lambda: ("died", replica_id) in router.told)
        assert router.told[-1] == ("update", ["b"]) or ("update", ["b"]) in router.told


@on_io
async def test_a_router_sees_the_call_and_the_replicas():
    Spy.seen.clear()
    options = by_path("Spy")
    async with LocalMesh(*replicas("ab", options)) as mesh:
        context = CallContext("req-1", "app", "/route", "model-1", "session-1")
        await mesh.router.unary(call("who", 1, [2], kwargs={"x": 3}, context=context))
        pending = Spy.seen[-1]
        assert (pending.args, pending.kwargs) == ((1, [2]), {"x": 3})
        metadata = pending.metadata
        assert (metadata.request_id, metadata.call_method, metadata.app_name) == ("req-1", "who", "app")
        assert (metadata.multiplexed_model_id, metadata.session_id) == ("model-1", "session-1")
        assert not metadata.is_streaming and metadata.internal_request_id
        assert 0 <= time.monotonic() - pending.created_at < 10
        replica = Spy.replicas[0]
        assert (replica.max_ongoing_requests, replica.availability_zone, replica.has_room) == (10, None, True)
        assert replica.routing_stats == {} and replica.replica_metadata == {}
        assert await replica.get_queue_len() == replica.queue_len == 0


@on_io
async def test_an_exception_fails_its_call_and_is_logged_and_the_next_call_goes_on():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("meshserve.routing.user_host").addHandler(handler)
    try:
        async with LocalMesh(*replicas("a", by_path("Failing"))) as mesh:
            with pytest.raises(CallFailed, match="deployment app#Model has failed: ZeroDivisionError") as caught:
                await mesh.router.unary(call("who"))
            assert "1 / 0" in caught.value.failure.traceback
            assert await value(mesh.router.unary(call("who", "fine"))) == "a"
            assert any("ZeroDivisionError" in record.getMessage() for record in records)
            assert mesh.router.queued == 0
    finally:
        logging.getLogger("meshserve.routing.user_host").removeHandler(handler)


@pytest.mark.parametrize(
    ("router", "message"),
    [
        ("Odd", "list of lists"),
        ("SelfCancelling", "was cancelled"),
        ("Unmakeable", "could not be made: OSError: no such table"),
        ("Missing", "no attribute 'Missing'"),
        ("Model", "not a subclass of meshserve.request_router.RequestRouter"),
    ],
)
def test_a_router_that_cannot_choose_fails_calls_and_never_hangs(router, message):
    @on_io
    async def check():
        async with LocalMesh(*replicas("a", by_path(router))) as mesh:
            for _ in range(2):
                with pytest.raises(CallFailed, match=message):
                    async with asyncio.timeout(10):
                        await mesh.router.unary(call("who"))

    check()


@on_io
async def test_a_router_that_blocks_holds_up_nothing_else():
    Blocking.release.clear()
    blocked, free = replicas("a", by_path("Blocking")), replicas("b", DeploymentOptions())
    try:
        async with LocalMesh(*blocked) as held_up, LocalMesh(*free) as mesh:
            waiting, given_up = held_up.router.unary(call("who")), held_up.router.unary(call("who"))
            for _ in range(10):
                assert await value(mesh.router.unary(call("who"))) == "b"
            given_up.cancel()
            assert given_up.failure.kind is FailureKind.CANCELLED and held_up.router.queued == 1
            Blocking.release.set()
            assert await value(waiting) == "a"
    finally:
        Blocking.release.set()


@on_io
async def test_a_call_whose_replicas_are_full_waits_for_one_of_them():
    Fixed.made.clear()
    options = by_path("Fixed")
    a, b = replicas("ab", options)
    async with LocalMesh(a, b) as mesh:
        held = [mesh.router.unary(call("hold", 0.2)) for _ in range(10)]
        await until(lambda: a.admission.ongoing == 10)
        late = mesh.router.unary(call("who"))
        assert await value(late) == "a" and a.admission.limit == 10
        for reply in held:
            await reply


@on_io
async def test_a_router_is_asked_also_while_all_are_full_and_hears_of_calls_that_end_meanwhile():
    Fixed.made.clear()
    options = by_path("Fixed")
    (a,) = replicas("a", options)
    async with LocalMesh(a) as mesh:
        held = [mesh.router.unary(call("hold", 0.2)) for _ in range(10)]
        await until(lambda: a.admission.ongoing == 10)
        router = Fixed.made[-1]
        late = mesh.router.unary(call("who"))
        await until(lambda: router.asked == 11)
        late.cancel()
        await until(lambda: any(one[0] == "cancelled" for one in router.told))
        routed = {one[2] for one in router.told if one[0] == "routed"}
        assert len(routed) == 10
        assert all(one[1] not in routed for one in router.told if one[0] == "cancelled")
        for reply in held:
            await reply


@on_io
async def test_with_a_fifo_router_the_call_that_waited_longest_goes_first():
    Backwards.waiting.clear()
    (a,) = replicas("a", by_path("Backwards"))
    async with LocalMesh(a) as mesh:
        replies = [mesh.router.unary(call("who", number)) for number in range(3)]
        for reply in replies:
            await reply
        assert a.user.callable.order == [(0,), (1,), (2,)]


@on_io
async def test_locality_and_models_can_be_asked_for():
    options = by_path("NearAndWarm")
    a, b = replicas("ab", options)
    a.models, b.models = ("m1",), ("m2",)
    async with LocalMesh(a, b) as mesh:
        while any(not replica.models for replica in mesh.router.replicas):
            await mesh.router.unary(call("who"))
        for model, home in (("m1", "a"), ("m2", "b")) * 5:
            assert await value(mesh.router.unary(call("who", context=CallContext("r", "", "", model)))) == home


@on_io
async def test_another_router_can_be_deployed_over_a_broken_one():
    (a,) = replicas("a", by_path("Unmakeable"))
    async with LocalMesh(a) as mesh:
        with pytest.raises(CallFailed):
            await mesh.router.unary(call("who"))
        mesh.publish(options=by_path("Fixed"))
        assert await value(mesh.router.unary(call("who"))) == "a"
        mesh.publish(options=DeploymentOptions())
        assert await value(mesh.router.unary(call("who"))) == "a"


# -- routers that ship, as classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("router", "policy"),
    [
        (PowerOfTwoChoicesRequestRouter, "two_choices"),
        (RoundRobinRouter, "round_robin"),
        (ConsistentHashRouter, "by_key"),
    ],
)
def test_a_shipped_class_stands_for_the_policy_of_the_same_behaviour(router, policy):
    options = RequestRouterConfig(request_router_class=router).to_options()
    assert (options.request_router_class, options.request_router_pickle) == (policy, "")


@on_io
async def test_what_is_built_upon_round_robin_takes_turns_and_passes_over_the_full():
    class Mine(RoundRobinRouter):
        pass

    async with LocalMesh(*replicas("abc", routed_by(Mine))) as mesh:
        order = [await value(mesh.router.unary(call("who"))) for _ in range(9)]
        assert order[:3] == order[3:6] == order[6:] and set(order) == set("abc")
        mesh.replicas[0].admission.limit = 0
        assert {await value(mesh.router.unary(call("who"))) for _ in range(6)} == {"b", "c"}


@on_io
async def test_what_is_built_upon_consistent_hashing_keeps_sessions_where_they_are():
    class Mine(ConsistentHashRouter):
        pass

    async with LocalMesh(*replicas("abc", routed_by(Mine, num_virtual_nodes=50))) as mesh:

        async def homes(session):
            calls = [call("who", context=CallContext(str(n), "", "", session_id=session)) for n in range(4)]
            return {await value(mesh.router.unary(one)) for one in calls}

        found = [await homes(f"s{number}") for number in range(12)]
        assert all(len(home) == 1 for home in found) and len(set.union(*found)) == 3


@on_io
async def test_what_is_built_upon_two_choices_reaches_every_replica():
    class Mine(PowerOfTwoChoicesRequestRouter):
        pass

    async with LocalMesh(*replicas("abc", routed_by(Mine))) as mesh:
        assert {await value(mesh.router.unary(call("who"))) for _ in range(40)} == set("abc")


# -- the mixins by themselves ----------------------------------------------------------------------------------------


class Place:
    """A replica as mixins see it."""

    def __init__(self, tag, node="", zone=None, models=()):
        self.replica_id = ReplicaID(DEPLOYMENT, tag)
        self.node_id, self.availability_zone, self.multiplexed_model_ids = node, zone, set(models)


def tags(ids):
    return {one.unique_id for one in ids}


def pending(model=""):
    return PendingRequest(call("who", context=CallContext("r", "", "", model)), "1", 0.0)


def test_near_replicas_are_ranked_first_and_farther_ones_are_tried_after_them():
    router = NearAndWarm(DEPLOYMENT, "n1", "z1")
    places = [Place("near", "n1", "z1"), Place("zone", "n2", "z1"), Place("far", "n3", "z2")]
    router.update_replicas(places)
    assert [[one.replica_id.unique_id for one in rank] for rank in router.rank_replicas_via_locality(places)] == [
        ["near"],
        ["zone"],
        ["far"],
    ]
    asked = pending()
    tried = [tags(router.apply_locality_routing(asked)) for _ in range(3)]
    assert tried == [{"near"}, {"near", "zone"}, {"near", "zone", "far"}]


def test_warm_replicas_are_ranked_first_and_those_with_the_fewest_models_next():
    router = NearAndWarm(DEPLOYMENT)
    places = [Place("full", models="xyz"), Place("warm", models="m"), Place("empty")]
    router.update_replicas(places)
    ranks = router.rank_replicas_via_multiplex(places, "m")
    assert [[one.replica_id.unique_id for one in rank] for rank in ranks] == [["warm"], ["empty"], ["full"]]
    asked = pending("m")
    assert tags(router.apply_multiplex_routing(asked)) == {"warm"}
    assert tags(router.apply_multiplex_routing(asked)) == {"empty"}
    asked.routing_context.multiplexed_start_matching_time -= 3.0
    assert tags(router.apply_multiplex_routing(asked)) == {"empty"}
    assert tags(router.apply_multiplex_routing(asked)) == {"full", "warm", "empty"}
