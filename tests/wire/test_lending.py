"""Large values are copied beside the loop that sends or receives them, and what that changes for who sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
from conditions import until
from replicas import DEPLOYMENT, LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import BorrowedPayload, CallKind, Encoding, SharedPayload
from meshserve.routing.directory import set_process_directory
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.router import Router
from meshserve.rpc import lending
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.segments import segment_pool
from meshserve.settings import LARGE_ITEM_BYTES
from meshserve.wire.buffers import APART_FROM_BYTES, bytes_of
from meshserve.wire.claims import decode_claim
from meshserve.wire.values import decode_value, encode_value

LARGE = APART_FROM_BYTES + 1000


class Witness:
    """Knows the thread in which it was unpickled."""

    def __setstate__(self, state: object) -> None:
        self.thread = threading.current_thread().name

    def __getstate__(self) -> object:
        return 1


class Model:
    def __init__(self) -> None:
        self.array = np.ones(LARGE, dtype=np.uint8)

    async def __call__(self) -> str:
        return "called"

    async def total(self, array: np.ndarray) -> int:
        return int(array.sum())

    async def thread_of(self, data: bytes, witness: Witness) -> tuple[str, str]:
        return witness.thread, threading.current_thread().name

    async def ones(self, count: int) -> np.ndarray:
        return np.ones(count, dtype=np.uint8)

    async def echo(self, *values: object) -> tuple[object, ...]:
        return values

    async def ones_inside(self, count: int) -> dict[str, object]:
        return {"name": "model", "layers": [1.5, (np.ones(count, dtype=np.uint8), "ones")]}

    async def text_inside(self, count: int) -> dict[str, object]:
        self.kept = [b"a" * count]
        return {"kept": self.kept, "text": "b" * count}

    async def own(self) -> np.ndarray:
        return self.array

    async def own_inside(self) -> dict[str, np.ndarray]:
        return {"own": self.array}

    async def change(self) -> None:
        self.array[:] = 7

    async def parts(self, sizes: list[int]) -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)

    async def sizes(self, arrays: AsyncIterator[np.ndarray]) -> AsyncIterator[int]:
        async for array in arrays:
            yield array.size


class OneDeployment:
    """A directory that knows one deployment, as in one process."""

    is_local = True

    def __init__(self, mesh: LocalMesh) -> None:
        self._mesh = mesh

    def service(self, deployment: object) -> Router:
        assert deployment == DEPLOYMENT
        return self._mesh.router


@pytest.fixture
def served() -> Iterator[DeploymentHandle]:
    mesh = LocalMesh(LocalReplica("a", Model))
    io_thread().run(mesh.__aenter__())
    set_process_directory(OneDeployment(mesh))
    yield DeploymentHandle("Model", "app")
    set_process_directory(None)
    io_thread().run(mesh.__aexit__(None, None, None))


@pytest.fixture
def copies_held() -> Iterator[threading.Event]:
    """No copy is made on the threads for that until the event is set."""
    go_on, held = threading.Event(), threading.Barrier(3)

    def hold() -> None:
        held.wait()
        go_on.wait()

    for _ in range(2):
        lending.threads.submit(hold)
    held.wait()
    yield go_on
    go_on.set()


async def test_a_loop_goes_on_while_what_it_sent_is_copied(
    served: DeploymentHandle, copies_held: threading.Event
) -> None:
    large = served.total.remote(np.ones(LARGE, dtype=np.uint8))
    assert await served.remote() == "called"
    assert "pending" in repr(large)
    copies_held.set()
    assert await large == LARGE


async def test_a_call_that_is_cancelled_while_its_arguments_are_copied_does_not_run(
    served: DeploymentHandle, copies_held: threading.Event
) -> None:
    large = served.total.remote(np.ones(LARGE, dtype=np.uint8))
    large.cancel()
    copies_held.set()
    with pytest.raises(Exception, match="cancelled"):
        await large


async def test_what_cannot_be_copied_fails_its_call(
    served: DeploymentHandle, copies_held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(payload: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(segment_pool(), "store", no_memory)
    large = served.total.remote(np.ones(LARGE, dtype=np.uint8))
    copies_held.set()
    with pytest.raises(MemoryError, match="none left"):
        await large


def test_synchronous_code_may_change_what_it_has_sent(served: DeploymentHandle, copies_held: threading.Event) -> None:
    array = np.ones(LARGE, dtype=np.uint8)
    response = served.total.remote(array)
    array[:] = 7
    assert response.result() == LARGE


async def test_arrays_that_take_no_time_to_copy_may_be_changed_in_a_loop_too(
    served: DeploymentHandle, copies_held: threading.Event
) -> None:
    array = np.ones(1 << 20, dtype=np.uint8)
    response = served.total.remote(array)
    array[:] = 7
    assert await response == 1 << 20


async def test_large_bytes_are_read_on_the_threads_for_that(served: DeploymentHandle) -> None:
    """Not on just any: what the `bytes` of a thread took is kept for it."""
    reader, _ = await served.thread_of.remote(bytes(LARGE), Witness())
    assert reader.startswith("meshserve-copy")
    reader, loop = await served.thread_of.remote(bytes(10), Witness())
    assert reader == loop
    inside, witness = await served.echo.remote({"a": [bytes(LARGE)]}, Witness())
    assert inside == {"a": [bytes(LARGE)]} and witness.thread.startswith("meshserve-copy")
    _, witness = await served.echo.remote(bytes(10), Witness())
    assert witness.thread == threading.current_thread().name


async def test_a_result_that_its_replica_goes_on_to_change_is_as_it_was_returned(served: DeploymentHandle) -> None:
    own, changed = served.own.remote(), served.change.remote()
    await changed
    assert (await own).max() == 1


async def test_large_results_and_input_arrive_whole(served: DeploymentHandle) -> None:
    assert (await served.ones.remote(3 * LARGE)).sum() == 3 * LARGE

    async def arrays() -> AsyncIterator[np.ndarray]:
        for count in (10, LARGE, 2 * LARGE):
            yield np.ones(count, dtype=np.uint8)

    sizes = served.options(stream=True).sizes.remote(arrays())
    assert [size async for size in sizes] == [10, LARGE, 2 * LARGE]
    parts = served.options(stream=True).parts.remote([10, LARGE, 2 * LARGE])
    assert [len(part) async for part in parts] == [10, LARGE, 2 * LARGE]


def test_only_what_nobody_else_can_change_is_copied_later() -> None:
    array = np.ones(LARGE, dtype=np.uint8)
    references = lending.references_to(array)
    assert lending.is_fixed(array, references)
    view = array[:]
    references = lending.references_to(array)
    assert not lending.is_fixed(array, references), "the view is of the same memory"
    references = lending.references_to(view)
    assert not lending.is_fixed(view, references)
    del view
    references = lending.references_to(array)
    assert lending.is_fixed(array, references)
    small, other = np.ones(10), bytearray(LARGE)
    references = lending.references_to(small)
    assert not lending.is_fixed(small, references) and not lending.is_fixed(other, references)


async def test_a_replicas_loop_goes_on_while_its_result_is_copied(
    served: DeploymentHandle, copies_held: threading.Event
) -> None:
    result, inside = served.ones.remote(LARGE), served.ones_inside.remote(LARGE)
    data = served.text_inside.remote(LARGE)
    await until(lambda: lending.threads._work_queue.qsize() == 3)
    assert await served.remote() == "called"
    copies_held.set()
    assert (await result).sum() == LARGE
    assert (await inside)["layers"][1][0].sum() == LARGE
    assert await data == {"kept": [b"a" * LARGE], "text": "b" * LARGE}


@dataclass
class Scored:
    scores: np.ndarray
    shape: tuple[int, ...] = (3, 4)


ELSEWHERE = np.ones(LARGE, dtype=np.uint8)


@dataclass
class SendsAnother:
    part: int = 1

    def __getstate__(self) -> object:
        return {"part": ELSEWHERE}


def test_what_is_in_a_container_may_be_had_by_nobody_else_either() -> None:
    def fixed(value: object, *kept: object) -> bool:
        del kept
        references = lending.references_to(value) - 1  # the caller's own
        return lending.is_fixed(value, references)

    array = np.ones(LARGE, dtype=np.uint8)
    assert fixed({"name": "x", "layers": [1.5, (np.ones(LARGE),)], "scored": Scored(np.ones(LARGE))})
    assert fixed([bytes(LARGE), None, (1, "a")])
    assert not fixed({"name": array})
    assert not fixed([array, array])
    assert not fixed(({"deep": [array]},))
    assert not fixed(Scored(array)) and not fixed(SendsAnother()) and not fixed([SendsAnother()])
    assert not fixed({"view": np.ones(LARGE)[1:]}), "whoever else has what it is a view of is not looked for"
    assert not fixed({"other": bytearray(10)})
    assert not fixed([[] for _ in range(1000)])
    shared = [np.ones(LARGE)]
    assert not fixed({"shared": shared}, shared)


async def test_a_result_inside_a_container_that_its_replica_goes_on_to_change_is_as_it_was_returned(
    served: DeploymentHandle,
) -> None:
    own, changed = served.own_inside.remote(), served.change.remote()
    await changed
    assert (await own)["own"].max() == 1


def test_a_lent_payload_refers_to_its_senders_memory_until_it_is_settled() -> None:
    array = np.ones(LARGE, dtype=np.uint8)
    lent = encode_value(array, lending.lend)
    assert type(lent) is BorrowedPayload
    array[:] = 7
    here = lending.settled(lent, lambda payload: None)
    array[:] = 8
    assert decode_value(here)[0] == 7 and decode_value(lending.settled(lent))[0] == 8


class Owner:
    """Not to be imported by name where `__module__` says so, and so pickled by value."""

    def __init__(self, owned: object) -> None:
        self.owned = owned


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_what_is_large_inside_is_lent_and_read_as_the_same_object(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "__module__", module)
    data, array = bytes(range(256)) * (LARGE >> 8), np.arange(LARGE)
    shared = [data, "é" * LARGE, bytearray(data), array, "small"]
    lent = encode_value({"a": shared, "b": Owner(shared), "c": data}, lending.lend)
    assert len(lent.body) < 2000 and any(memoryview(buffer).obj is data for buffer in lent.buffers)
    read = decode_value(lent)
    assert read["a"][:3] == shared[:3] and (read["a"][3] == array).all() and read["a"][4] == "small"
    assert read["b"].owned is read["a"] and read["c"] is read["a"][0]


def test_a_bytearray_is_as_it_was_when_it_was_sent() -> None:
    array = bytearray(LARGE)
    lent = encode_value([array], lending.lend)
    array[:] = b"changed and shorter"
    assert decode_value(lent) == [bytearray(LARGE)]


def test_bytes_of_any_size_are_what_their_buffer_was() -> None:
    for size in (0, 10, LARGE, 5 * LARGE):
        data = bytes(np.arange(size, dtype=np.uint32).astype(np.uint8))
        assert bytes_of(memoryview(bytearray(data))) == data
        assert bytes_of(data) is data


@on_io
async def test_large_items_without_shared_memory_wait_at_their_replica_until_they_are_released() -> None:
    with mock.patch.object(segment_pool(), "actor_name", "the-replica"):
        await items_wait_and_are_released()


async def items_wait_and_are_released() -> None:
    async with LocalMesh(replica := LocalReplica("a", Model)) as mesh:
        made = call("parts", [10, LARGE_ITEM_BYTES - 1000, LARGE_ITEM_BYTES], kind=CallKind.SERVER_STREAM)
        made.accepts_claims = True
        stream, items = mesh.router.stream(made), []
        while taken := await stream.take():
            items += taken
        assert [item.encoding for item in items] == [Encoding.PICKLE, Encoding.PICKLE, Encoding.CLAIM]
        claim, kept = decode_claim(items[-1]), replica.runner._python._kept
        assert claim.actor_name == "the-replica"
        parcel = kept.parcel(claim.key)
        assert type(parcel) is not SharedPayload and decode_value(parcel) == bytes(LARGE_ITEM_BYTES)
        kept.release(claim.key)
        with pytest.raises(LookupError, match="already released"):
            kept.parcel(claim.key)
        await until(lambda: replica.admission.ongoing == 0)


async def test_nothing_is_left_to_copy_when_the_loop_has_all_it_asked_for(served: DeploymentHandle) -> None:
    arrays = [np.full(LARGE, value, dtype=np.uint8) for value in range(8)]
    totals = await asyncio.gather(*(served.total.remote(array) for array in arrays))
    assert totals == [value * LARGE for value in range(8)]
