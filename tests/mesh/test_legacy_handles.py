"""The handles of older releases on a running mesh: real ObjectRefs, in drivers and in deployments."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import ray

import meshserve as serve
from meshserve.errors import InvalidCallError
from meshserve.handle import DeploymentHandle, MeshServeHandle, MeshServeSyncHandle, RayServeHandle, RayServeSyncHandle

SLOW_S = 2.0
"""How long a slow call takes; what does not wait for it is there in a fraction of that."""


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Numbers:
    def __init__(self) -> None:
        self.cancelled = 0

    async def __call__(self, value: int) -> int:
        return value + 1

    async def slow(self, value: int) -> int:
        await asyncio.sleep(SLOW_S)
        return value + 1

    def add(self, left: int, right: int = 0) -> int:
        return left + right

    async def fail(self, value: int) -> int:
        raise KeyError(f"no {value}")

    async def count(self, up_to: int) -> Any:
        for number in range(up_to):
            yield number

    async def total(self, boxed: Any) -> int:
        assert all(isinstance(one, ray.ObjectRef) for one in boxed["refs"])
        return sum([await one for one in boxed["refs"]])

    async def hang(self) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def array(self, megabytes: int) -> Any:
        return np.full(megabytes << 17, 3.0)

    def sum(self, array: Any) -> float:
        return float(array.sum())

    async def seen_cancelled(self) -> int:
        return self.cancelled


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Composed:
    """Composition as older releases had users write it."""

    def __init__(self, numbers: DeploymentHandle[Any], single: DeploymentHandle[Any]) -> None:
        self.numbers = numbers.options(use_new_handle_api=False)
        self.single = single.options(use_new_handle_api=False)

    async def kind(self) -> str:
        return type(self.numbers).__name__

    async def twice(self, value: int) -> int:
        ref = await self.numbers.remote(value)
        assert isinstance(ref, ray.ObjectRef)
        return await ref

    async def chain(self, value: int) -> tuple[int, float, float]:
        since = time.monotonic()
        first = self.numbers.slow.remote(value)
        second = await self.numbers.add.remote(first, right=10)
        assigned_s = time.monotonic() - since
        return await second, assigned_s, time.monotonic() - since

    async def nested(self) -> int:
        tasks = [self.numbers.remote(value) for value in range(3)]
        return await (await self.numbers.total.remote({"refs": tasks}))

    async def awaited_many_times(self) -> list[int]:
        task = self.numbers.remote(1)
        assert isinstance(task, asyncio.Task)
        refs = [await task, await task]
        return await asyncio.gather(*refs)

    async def given_up(self) -> bool:
        """A call whose replica is full, given up before another has it."""
        full = self.single.hang.remote()
        await full
        waiting = self.single.hang.remote()
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return waiting._response.cancelled()

    async def stream(self) -> list[int]:
        items = await self.numbers.options(method_name="count", stream=True).remote(4)
        return [await ref async for ref in items]


@pytest.fixture(scope="module")
def handles(mesh: object) -> Iterator[tuple[DeploymentHandle[Any], DeploymentHandle[Any]]]:
    single = Numbers.options(name="Single", max_ongoing_requests=1, graceful_shutdown_timeout_s=0.1)
    composed = serve.run(Composed.bind(Numbers.bind(), single.bind()), name="legacy", route_prefix=None)
    yield serve.get_deployment_handle("Numbers", "legacy"), composed
    serve.delete("legacy")


@pytest.fixture
def numbers(handles: Any) -> DeploymentHandle[Any]:
    legacy: DeploymentHandle[Any] = handles[0].options(use_new_handle_api=False)
    return legacy


def took(work: Callable[[], Any]) -> float:
    since = time.monotonic()
    work()
    return time.monotonic() - since


def test_a_driver_gets_object_refs(numbers: DeploymentHandle[Any]) -> None:
    assert isinstance(numbers, MeshServeSyncHandle)
    ref = numbers.remote(1)
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref) == 2
    assert ray.get([numbers.add.remote(1, right=n) for n in range(5)]) == [1, 2, 3, 4, 5]


def test_a_call_is_submitted_long_before_it_is_done(numbers: DeploymentHandle[Any]) -> None:
    numbers_ready = ray.get(numbers.remote(0))
    assert numbers_ready == 1
    refs: list[Any] = []

    assert took(lambda: refs.append(numbers.slow.remote(1))) < SLOW_S / 2
    ready, waiting = ray.wait(refs, timeout=0)
    assert (ready, waiting) == ([], refs)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(refs[0], timeout=0.05)
    assert ray.get(refs[0]) == 2


def test_references_are_arguments_of_calls_that_do_not_wait_for_them(numbers: DeploymentHandle[Any]) -> None:
    first = numbers.slow.remote(1)
    chained: list[Any] = []

    assert took(lambda: chained.append(numbers.add.remote(first, right=first))) < SLOW_S / 2
    assert took(lambda: chained.append(numbers.add.remote(chained[0], right=1))) < SLOW_S / 2
    assert ray.get(chained) == [4, 5]


def test_one_call_is_referred_to_as_often_as_one_likes(handles: Any) -> None:
    response = handles[0].slow.remote(1)
    refs = [response._to_object_ref_sync() for _ in range(3)]
    both = handles[0].total.remote({"refs": [response, response, handles[0].remote(1)]})

    assert ray.get(refs) == [2, 2, 2]
    assert both.result() == 6


def test_references_inside_containers_arrive_as_references(numbers: DeploymentHandle[Any]) -> None:
    refs = [numbers.remote(n) for n in range(3)]
    assert ray.get(numbers.total.remote({"refs": refs})) == 6
    assert ray.get(numbers.total.remote({"refs": [ray.put(5), refs[0]]})) == 6


def test_large_values_are_referred_to_and_are_arguments(numbers: DeploymentHandle[Any]) -> None:
    ref = numbers.array.remote(8)
    assert ray.get(numbers.sum.remote(ref)) == float(3 * (8 << 17))
    assert ray.get(ref).shape == (8 << 17,)
    assert ray.get(numbers.sum.remote(ref)) == float(3 * (8 << 17))


def test_references_go_to_tasks_and_come_from_them(numbers: DeploymentHandle[Any]) -> None:
    @ray.remote(num_cpus=0)
    def triple(value: int) -> int:
        return value * 3

    assert ray.get(triple.remote(numbers.remote(1))) == 6
    assert ray.get(numbers.remote(triple.remote(2))) == 7


def test_errors_come_from_the_reference_as_what_user_code_raised(numbers: DeploymentHandle[Any]) -> None:
    ref = numbers.fail.remote(7)  # nothing is raised here
    with pytest.raises(KeyError, match="no 7"):
        ray.get(ref)
    with pytest.raises(KeyError, match="no 8"):
        ray.get(numbers.add.remote(numbers.fail.remote(8)))
    with pytest.raises(InvalidCallError, match="no method 'nope'"):
        ray.get(numbers.nope.remote())


def test_cancelling_a_reference_cancels_the_call(numbers: DeploymentHandle[Any]) -> None:
    before = ray.get(numbers.seen_cancelled.remote())
    ref = numbers.hang.remote()
    # Ray drops what it has not begun, and tells nobody; it begins in order.
    assert ray.get(numbers.seen_cancelled.remote()) == before

    ray.cancel(ref)

    with pytest.raises(ray.exceptions.RayError):
        ray.get(ref, timeout=30)
    deadline = time.monotonic() + 30
    while ray.get(numbers.seen_cancelled.remote()) == before:
        assert time.monotonic() < deadline, "user code was not cancelled"
        time.sleep(0.02)


def test_a_streaming_call_gives_references_of_its_items(numbers: DeploymentHandle[Any]) -> None:
    items = numbers.options(method_name="count", stream=True).remote(4)
    assert ray.get(list(items)) == [0, 1, 2, 3]


def test_deployments_await_twice(handles: Any) -> None:
    composed = handles[1]
    assert composed.kind.remote().result() == "MeshServeHandle"
    assert composed.twice.remote(1).result() == 2
    assert composed.awaited_many_times.remote().result() == [2, 2]
    assert composed.nested.remote().result() == 6
    assert composed.stream.remote().result() == [0, 1, 2, 3]


def test_calls_that_are_not_awaited_are_arguments(handles: Any) -> None:
    value, assigned_s, whole_s = handles[1].chain.remote(1).result()

    assert value == 12
    assert assigned_s < SLOW_S / 2 <= SLOW_S <= whole_s


def test_a_call_given_up_before_a_replica_has_it_is_cancelled(handles: Any) -> None:
    assert handles[1].given_up.remote().result() is True


def test_both_styles_convert_into_each_other_and_keep_their_options(handles: Any) -> None:
    new = handles[0].options(method_name="add", multiplexed_model_id="m")
    legacy = new.options(use_new_handle_api=False)
    back = legacy.options(use_new_handle_api=True)

    assert (type(legacy), type(legacy.fail), type(back)) == (MeshServeSyncHandle, MeshServeSyncHandle, DeploymentHandle)
    assert back._options == new._options == legacy._options
    assert back.handle_id == legacy.handle_id == new.handle_id
    assert back.remote(1, 2).result() == ray.get(legacy.remote(1, 2)) == 3
    assert (RayServeHandle, RayServeSyncHandle) == (MeshServeHandle, MeshServeSyncHandle)


PROGRAM = """
import warnings
import ray
import meshserve as serve
from meshserve.handle import DeploymentHandle, MeshServeHandle, MeshServeSyncHandle

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Inner:
    def __call__(self, value): return value + 1

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Outer:
    def __init__(self, inner): self.inner = inner
    async def __call__(self, value):
        return type(self.inner).__name__, await (await self.inner.remote(value))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    handle = serve.run(Outer.bind(Inner.bind()), name="switched", route_prefix=None)
    print(type(handle).__name__, ray.get(handle.remote(1)))
    again = serve.get_deployment_handle("Inner", "switched")
    print(type(again).__name__, ray.get(again.remote(2)))
    print(type(again.options(use_new_handle_api=True)).__name__)
    serve.delete("switched")
ours = [one for one in caught if one.category is DeprecationWarning and "DeploymentHandle" in str(one.message)]
print(len(ours), ours[0].filename == __file__)
"""


@pytest.mark.parametrize("variable", ["MESHSERVE_ENABLE_NEW_HANDLE_API", "RAY_SERVE_ENABLE_NEW_HANDLE_API"])
def test_the_environment_switches_all_handles_and_warns_once(
    mesh: object, cluster: str, tmp_path: Any, variable: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, variable: "0", "RAY_ADDRESS": cluster},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.stdout.splitlines() == [
        "MeshServeSyncHandle ('MeshServeHandle', 2)",
        "MeshServeSyncHandle 3",
        "DeploymentHandle",
        "1 True",
    ], done.stderr
