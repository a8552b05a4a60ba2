"""The capacity queue as its callers see it; its class without Ray's decorator."""

import asyncio
import os

import pytest
from conditions import until

from meshserve.experimental.capacity_queue import CapacityQueue, CapacityQueueStats
from meshserve.experimental.capacity_queue_router import CapacityQueueRouter
from meshserve.model.ids import DeploymentId
from meshserve.routing.policies import policy_name
from meshserve.rpc.import_path import import_object

PLAIN = CapacityQueue.__ray_actor_class__
MODEL = DeploymentId("app", "Model")


def queue(acquire_timeout_s: float = 30.0, token_ttl_s: float | None = None, **limits: int):
    made = PLAIN(acquire_timeout_s, token_ttl_s, _enable_long_poll=False)
    for tag, limit in limits.items():
        made.register_replica(tag, limit)
    return made


async def test_a_caller_waits_for_a_token_that_is_given_back():
    own = queue(a=1)
    assert await own.acquire() == "a"
    waiting = [asyncio.create_task(own.acquire()) for _ in range(2)]
    await until(lambda: own.get_num_waiters() == 2)
    own.release("a")
    assert await waiting[0] == "a"
    assert own.get_num_waiters() == 1, "in the order of arrival"
    own.register_replica("b", 1)
    assert await waiting[1] == "b"
    assert own.get_replica_in_flight() == {"a": (1, 1), "b": (1, 1)}
    assert own.get_stats() == CapacityQueueStats(0, 0, 2, 2, 2, 3, 1, 0, 2)


async def test_a_caller_that_waited_too_long_gets_none():
    own = queue(acquire_timeout_s=0.01)
    assert await own.acquire() is None
    assert (own.get_stats().total_timeouts, own.get_num_waiters()) == (1, 0)
    own.register_replica("a", 1)
    assert await own.acquire(timeout_s=0.01) == "a"


async def test_a_caller_that_is_cancelled_takes_nothing():
    own = queue()
    waiting = asyncio.create_task(own.acquire())
    await until(lambda: own.get_num_waiters() == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    own.register_replica("a", 2)
    assert (own.get_num_waiters(), own.get_queue_length()) == (0, 2)


async def test_tokens_of_callers_that_are_gone_are_free_again_after_a_while():
    own = queue(token_ttl_s=0.05, a=1)
    assert await own.acquire() == "a"
    assert await own.acquire() == "a", "it waits for the token to expire"


async def test_a_replica_that_is_gone_has_no_tokens():
    own = queue(a=1, b=1)
    own.register_replica("a", 5)
    own.unregister_replica("b")
    assert own.get_registered_replicas() == ["a"]
    assert own.get_queue_length() == 1, "one that is known keeps its limit"
    own.release("b")


async def test_the_queue_needs_to_know_whose_it_is():
    assert "RAY_SERVE_INTERNAL_DEPLOYMENT_NAME" not in os.environ
    with pytest.raises(Exception, match="may only be called from within"):
        PLAIN(1.0)


def test_the_router_needs_to_know_its_queue():
    with pytest.raises(ValueError, match="requires 'capacity_queue_actor_name'"):
        CapacityQueueRouter(MODEL).initialize_state()


@pytest.mark.parametrize("root", ["meshserve", "ray.serve"])
def test_files_may_name_queue_and_router_as_ray_serve_does(root):
    assert import_object(f"{root}.experimental.capacity_queue:CapacityQueue") is CapacityQueue
    router = f"{root}.experimental.capacity_queue_router:CapacityQueueRouter"
    assert import_object(router) is CapacityQueueRouter
    assert policy_name(router) is None, "it is a class that is asked, not a policy"
