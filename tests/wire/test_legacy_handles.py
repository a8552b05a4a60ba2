"""The handles of older releases in a process without Ray: the same code, with stand-ins for ObjectRefs.

What they do with real ObjectRefs is in tests/mesh.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import meshserve as serve
from meshserve.handle import DeploymentHandle, DeploymentResponse, MeshServeHandle, MeshServeSyncHandle
from meshserve.testing.local import shutdown_local


@serve.deployment
class Numbers:
    async def __call__(self, value: int) -> int:
        return value + 1

    def add(self, left: int, right: int = 0) -> int:
        return left + right

    async def fail(self) -> None:
        raise KeyError("no")

    def count(self, up_to: int) -> Iterator[int]:
        yield from range(up_to)

    async def total(self, boxed: Any) -> int:
        return sum([await one for one in boxed["refs"]])

    async def hang(self) -> None:
        await asyncio.sleep(600)


@serve.deployment
class Composed:
    def __init__(self, numbers: DeploymentHandle[Any]) -> None:
        self.numbers = numbers.options(use_new_handle_api=False)

    async def __call__(self) -> Any:
        assert type(self.numbers) is MeshServeHandle
        first = self.numbers.remote(1)
        ref = await self.numbers.add.remote(first, right=await first)
        nested = await self.numbers.total.remote({"refs": [first, self.numbers.remote(9)]})
        return [await ref, await nested, await (await first)]

    async def again(self) -> int:
        """What arrived by reference goes on as a value."""
        ref = await (await self.numbers.remote(1))
        return await (await self.numbers.remote(ref))

    async def items(self) -> list[int]:
        stream = await self.numbers.options(stream=True, method_name="count").remote(3)
        return [await ref async for ref in stream]

    async def failure(self) -> Any:
        await (await self.numbers.add.remote(self.numbers.fail.remote()))

    async def failure_inside(self) -> Any:
        await (await self.numbers.total.remote({"refs": [self.numbers.fail.remote()]}))

    def outside_a_loop(self) -> Any:
        self.numbers.remote(1)


@pytest.fixture
def composed() -> Iterator[DeploymentHandle[Any]]:
    yield serve.run(Composed.bind(Numbers.bind()), _local_testing_mode=True)
    shutdown_local()


@pytest.fixture
def numbers(composed: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    return DeploymentHandle("Numbers", "default")


def test_calls_are_awaited_twice_and_are_arguments_before_that(composed: DeploymentHandle[Any]) -> None:
    assert composed.remote().result() == [4, 12, 2]
    assert composed.again.remote().result() == 3
    assert composed.items.remote().result() == [0, 1, 2]


@pytest.mark.parametrize("method", ["failure", "failure_inside"])
def test_the_users_error_is_raised_by_the_second_await(composed: DeploymentHandle[Any], method: str) -> None:
    with pytest.raises(KeyError, match="no"):
        composed.options(method_name=method).remote().result()


def test_outside_an_event_loop_the_asynchronous_handle_says_what_to_write(
    composed: DeploymentHandle[Any],
) -> None:
    with pytest.raises(RuntimeError, match="use_new_handle_api=True"):
        composed.outside_a_loop.remote().result()


def test_whom_a_handle_was_made_for_survives_options_attributes_and_pickling(
    numbers: DeploymentHandle[Any],
) -> None:
    for handle, legacy in ((numbers, MeshServeSyncHandle), (DeploymentHandle("N", "a", _sync=False), MeshServeHandle)):
        old = handle.options(use_new_handle_api=False)
        copies = [old, old.add, old.options(stream=True), pickle.loads(pickle.dumps(old))]
        assert [type(one) for one in copies] == [legacy] * 4
        assert type(pickle.loads(pickle.dumps(handle)).options(use_new_handle_api=False)) is legacy
        assert type(old.options(use_new_handle_api=True)) is DeploymentHandle
        assert type(old.options(use_new_handle_api=True, method_name="add")) is DeploymentHandle


def test_a_call_stays_a_response_where_nothing_else_was_asked_for(numbers: DeploymentHandle[Any]) -> None:
    assert type(numbers.options(method_name="add").remote(1)) is DeploymentResponse


def test_the_option_warns_once_in_a_process_where_it_is_written() -> None:
    program = (
        "import warnings\n"
        "from meshserve.handle import DeploymentHandle\n"
        "warnings.simplefilter('always')\n"
        "handle = DeploymentHandle('name', 'app')\n"
        "handle.options(use_new_handle_api=True)\n"
        "for _ in range(3): handle.options(use_new_handle_api=False).options(use_new_handle_api=False)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr.count("DeprecationWarning") == 1
    assert "<string>:6" in done.stderr
    assert "The replacement is the DeploymentHandle" in done.stderr
