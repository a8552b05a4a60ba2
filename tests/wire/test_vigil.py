"""A loop stays awake for a write that another one waits for, not for long and not for many."""

import asyncio

import pytest

from meshserve.rpc.vigil import LONGEST_S, MOST_WRITES, Vigil

pytestmark = pytest.mark.asyncio


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def vigil(clock):
    return Vigil(clock)


@pytest.fixture
async def begin(vigil):
    """Begins writes; they end when their futures do."""
    tasks = []

    async def begin_write():
        write = asyncio.get_running_loop().create_future()
        tasks.append(asyncio.create_task(vigil.over(write)))
        await settled()
        return write

    yield begin_write
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_loop_is_awake_until_the_write_ends(vigil, begin):
    write = await begin()
    assert vigil.awake
    write.set_result(None)
    await settled()
    assert not vigil.awake


async def test_the_loop_sleeps_when_a_write_waits_for_its_client(vigil, clock, begin):
    await begin()
    clock.now = LONGEST_S
    await settled()
    assert not vigil.awake


async def test_the_next_write_of_a_stalled_stream_keeps_the_loop_awake_again(vigil, clock, begin):
    stalled = await begin()
    clock.now = LONGEST_S
    await settled()
    stalled.set_result(None)
    await begin()
    assert vigil.awake


async def test_the_loop_sleeps_while_many_write(vigil, begin):
    for _ in range(MOST_WRITES):
        await begin()
    assert vigil.awake
    await begin()
    assert not vigil.awake


async def test_a_write_that_fails_says_so_and_lets_the_loop_sleep(vigil, begin):
    write = asyncio.get_running_loop().create_future()
    write.set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await vigil.over(write)
    await settled()
    assert not vigil.awake
