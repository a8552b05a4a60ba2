"""`@serve.batch`, as a replica's user loop sees it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import cloudpickle
import pytest

from meshserve.batching import batch
from meshserve.errors import MeshServeException
from meshserve.model.call import CallContext
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.multiplex import get_multiplexed_model_id
from meshserve.routing.scope import RequestScope, request_scope
from meshserve.user import batch_call
from meshserve.user.context import ReplicaContext, get_request_context, set_replica_context

NEVER_S = 3600.0


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that other tasks of this loop bring about."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def settle() -> None:
    """Lets every task that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


class Gate:
    """A batch handler that records its batches and ends them when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.open = asyncio.Event()

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        await self.open.wait()
        return items


def gated(gate: Gate, **options: Any) -> Callable[..., Any]:
    async def handle(items: list[Any]) -> list[Any]:
        return await gate(items)

    return batch(**options)(handle)


async def as_request(context: CallContext, call: Callable[[], Any], deadline: float | None = None) -> Any:
    request_scope.set(RequestScope(context, deadline))
    return await call()


async def collect(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


# -- when a batch closes -------------------------------------------------------------------------------------------


async def test_a_full_batch_starts_without_waiting() -> None:
    seen: list[list[int]] = []

    @batch(max_batch_size=3, batch_wait_timeout_s=NEVER_S)
    async def double(items: list[int]) -> list[int]:
        seen.append(items)
        return [2 * item for item in items]

    assert await asyncio.gather(*(double(i) for i in range(6))) == [0, 2, 4, 6, 8, 10]
    assert seen == [[0, 1, 2], [3, 4, 5]]


async def test_a_batch_that_does_not_fill_starts_after_the_wait() -> None:
    @batch(max_batch_size=100, batch_wait_timeout_s=0.02)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    begin = asyncio.get_running_loop().time()
    assert await asyncio.gather(size(1), size(2)) == [2, 2]
    assert 0.015 <= asyncio.get_running_loop().time() - begin < 2


async def test_without_a_wait_calls_made_together_are_together() -> None:
    @batch(max_batch_size=100, batch_wait_timeout_s=0)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    assert await asyncio.gather(*(size(i) for i in range(7))) == [7] * 7
    assert await size(0) == 1


async def test_calls_that_come_while_batches_run_make_larger_batches() -> None:
    gate = Gate()
    handle = gated(gate, max_batch_size=4, batch_wait_timeout_s=0)
    first = asyncio.create_task(handle(0))
    await until(lambda: len(gate.batches) == 1)
    others = [asyncio.create_task(handle(i)) for i in range(1, 7)]
    await settle()
    assert gate.batches == [[0]]
    gate.open.set()
    assert await asyncio.gather(first, *others) == list(range(7))
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_batches_run_at_a_time_up_to_their_limit() -> None:
    gate = Gate()
    handle = gated(gate, max_batch_size=2, batch_wait_timeout_s=NEVER_S, max_concurrent_batches=2)
    calls = [asyncio.create_task(handle(i)) for i in range(6)]
    await settle()
    assert gate.batches == [[0, 1], [2, 3]]
    gate.open.set()
    assert await asyncio.gather(*calls) == list(range(6))


async def test_a_wait_that_was_shortened_is_not_held_up_by_the_old_timer() -> None:
    gate = Gate()
    gate.open.set()
    handle: Any = gated(gate, max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    await asyncio.gather(handle(1), handle(2))
    handle.set_batch_wait_timeout_s(0)
    assert await asyncio.wait_for(handle(3), 5) == 3


async def test_filled_batches_make_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_later = loop.call_later

    def counted(delay_s: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        timers.append(delay_s)
        return call_later(delay_s, *args, **kwargs)

    @batch(max_batch_size=4, batch_wait_timeout_s=NEVER_S)
    async def handle(items: list[int]) -> list[int]:
        return items

    monkeypatch.setattr(loop, "call_later", counted)
    for _ in range(50):
        await asyncio.gather(*(handle(i) for i in range(4)))
    assert len(timers) == 1


# -- arguments -----------------------------------------------------------------------------------------------------


async def test_every_argument_becomes_a_list() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def join(first: list[str], second: list[str], end: list[str]) -> list[str]:
        return ["".join(parts) for parts in zip(first, second, end, strict=True)]

    assert await asyncio.gather(join("a", "b", end="!"), join("c", "d", end="?")) == ["ab!", "cd?"]


async def test_calls_of_different_shape_share_a_batch_and_not_a_call() -> None:
    seen: list[tuple[list[int], Any]] = []

    @batch(max_batch_size=3, batch_wait_timeout_s=NEVER_S)
    async def add(first: list[int], second: Any = None) -> list[int]:
        seen.append((first, second))
        return [sum(pair) for pair in zip(first, second or [0] * len(first), strict=True)]

    assert await asyncio.gather(add(1), add(1, 10), add(3)) == [1, 11, 3]
    assert seen == [([1, 3], None), ([1], [10])]


class Model:
    """A deployment class with batched methods of each kind."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.batches: list[list[int]] = []

    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def times(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        return [self.factor * item for item in items]

    @staticmethod
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def squares(items: list[int]) -> list[int]:
        return [item * item for item in items]


class Derived(Model):
    async def times(self, item: int) -> int:
        result: int = await super().times(item)
        return result + 1


async def test_methods_keep_their_instance_and_static_methods_have_none() -> None:
    model = Model(3)
    assert await asyncio.gather(model.times(1), model.times(2)) == [3, 6]
    assert await asyncio.gather(model.squares(2), Model.squares(3)) == [4, 9]
    assert model.batches == [[1, 2]]


async def test_a_method_called_through_super_keeps_its_instance() -> None:
    model = Derived(3)
    assert await asyncio.gather(model.times(1), model.times(2)) == [4, 7]


async def test_instances_share_the_queue_of_their_method() -> None:
    first, second = Model(1), Model(100)
    assert await asyncio.gather(first.times(1), second.times(2)) == [1, 2]
    assert (first.batches, second.batches) == ([[1, 2]], [])


# -- what members get ----------------------------------------------------------------------------------------------


async def test_every_member_gets_the_exception_of_the_batch_and_the_next_batch_runs() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def fail(items: list[str]) -> list[str]:
        if "bad" in items:
            raise ZeroDivisionError(items)
        return items

    first, second = await asyncio.gather(fail("good"), fail("bad"), return_exceptions=True)
    assert isinstance(first, ZeroDivisionError)
    assert first is second
    assert await asyncio.gather(fail("good"), fail("fine")) == ["good", "fine"]


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3]])
async def test_another_number_of_results_fails_every_member(results: list[int]) -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def wrong(_items: list[int]) -> list[int]:
        return results

    outcomes = await asyncio.gather(wrong(1), wrong(2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [MeshServeException] * 2
    assert f"batch of 2 requests and gave {len(results)} results" in str(outcomes[0])


@pytest.mark.parametrize("results", [None, 3, "ab", {1: 2, 3: 4}])
async def test_results_that_are_no_list_fail_every_member(results: Any) -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def wrong(_items: list[int]) -> Any:
        return results

    outcomes = await asyncio.gather(wrong(1), wrong(2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TypeError] * 2


async def test_a_batch_that_cancels_itself_leaves_nobody_waiting() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def cancelled(_items: list[int]) -> list[int]:
        raise asyncio.CancelledError

    outcomes = await asyncio.gather(cancelled(1), cancelled(2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2


async def test_a_sync_function_fails_when_it_is_called() -> None:
    @batch(max_batch_size=1)
    def sync(items: list[int]) -> list[int]:
        return items

    call: Any = sync
    with pytest.raises(TypeError, match="await"):
        await call(1)


# -- cancellation --------------------------------------------------------------------------------------------------


async def test_a_call_cancelled_before_its_batch_is_not_in_it() -> None:
    gate = Gate()
    gate.open.set()
    handle = gated(gate, max_batch_size=3, batch_wait_timeout_s=NEVER_S)
    calls = [asyncio.create_task(handle(i)) for i in range(2)]
    await settle()
    calls[0].cancel()
    await settle()
    later = [asyncio.create_task(handle(i)) for i in (2, 3)]
    assert await asyncio.gather(calls[1], *later) == [1, 2, 3]
    assert gate.batches == [[1, 2, 3]]


async def test_a_call_cancelled_after_its_batch_began_hurts_no_other() -> None:
    gate = Gate()
    handle = gated(gate, max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    calls = [asyncio.create_task(handle(i)) for i in range(2)]
    await until(lambda: len(gate.batches) == 1)
    calls[0].cancel()
    await settle()
    assert calls[0].cancelled()
    gate.open.set()
    assert await calls[1] == 1


async def test_a_batch_outlives_the_scope_of_its_first_member() -> None:
    seen: list[Any] = []
    began, end = asyncio.Event(), asyncio.Event()

    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def handle(items: list[int]) -> list[int]:
        scope = request_scope.get()
        assert scope is not None
        seen.append((get_request_context(), scope.deadline))
        scope.add(child)
        began.set()
        await end.wait()
        return items

    class Child:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    child = Child()
    scope = RequestScope(CallContext("r-1", session_id="s"), deadline=5.0)

    async def first() -> Any:
        request_scope.set(scope)
        return await handle(1)

    calls = [asyncio.create_task(first()), asyncio.create_task(handle(2))]
    await began.wait()
    scope.cancel_children()
    end.set()
    assert await asyncio.gather(*calls) == [1, 2]
    assert not child.cancelled
    assert seen == [(scope.context, None)]


# -- models --------------------------------------------------------------------------------------------------------


async def test_models_share_a_batch_and_not_a_call() -> None:
    seen: list[tuple[str, list[int]]] = []
    both = asyncio.Barrier(2)

    @batch(max_batch_size=4, batch_wait_timeout_s=NEVER_S)
    async def predict(items: list[int]) -> list[str]:
        seen.append((get_multiplexed_model_id(), items))
        await both.wait()  # both parts run at a time, under the one permit there is
        return [f"{get_multiplexed_model_id()}:{item}" for item in items]

    calls = [
        as_request(CallContext("r", multiplexed_model_id=model), partial(predict, item))
        for item, model in enumerate(["a", "b", "a", "b"])
    ]
    assert await asyncio.gather(*(asyncio.create_task(call) for call in calls)) == ["a:0", "b:1", "a:2", "b:3"]
    assert seen == [("a", [0, 2]), ("b", [1, 3])]


async def test_a_part_that_fails_leaves_the_other_models_alone() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def predict(items: list[int]) -> list[int]:
        if get_multiplexed_model_id() == "broken":
            raise KeyError("broken")
        return items

    calls = [
        asyncio.create_task(as_request(CallContext("r", multiplexed_model_id=model), partial(predict, 1)))
        for model in ("broken", "fine")
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert (type(outcomes[0]), outcomes[1]) == (KeyError, 1)


# -- sizes ---------------------------------------------------------------------------------------------------------


async def test_a_function_measures_batches() -> None:
    seen: list[list[str]] = []

    @batch(max_batch_size=5, batch_wait_timeout_s=0.01, batch_size_fn=lambda items: sum(len(item) for item in items))
    async def handle(items: list[str]) -> list[str]:
        seen.append(items)
        return items

    texts = ["aa", "bb", "ccc", "dd", "e"]
    assert await asyncio.gather(*(handle(text) for text in texts)) == texts
    assert seen == [["aa", "bb"], ["ccc", "dd"], ["e"]]


async def test_an_item_larger_than_a_batch_is_refused() -> None:
    @batch(max_batch_size=5, batch_wait_timeout_s=0, batch_size_fn=lambda items: sum(items))
    async def handle(items: list[int]) -> list[int]:
        return items

    outcomes = await asyncio.gather(handle(2), handle(6), handle(3), return_exceptions=True)
    assert outcomes[0::2] == [2, 3]
    assert isinstance(outcomes[1], RuntimeError)
    assert "size 6" in str(outcomes[1])


async def test_an_item_that_cannot_be_measured_fails_alone() -> None:
    @batch(max_batch_size=5, batch_wait_timeout_s=0, batch_size_fn=lambda items: sum(len(item) for item in items))
    async def handle(items: list[Any]) -> list[Any]:
        return items

    outcomes = await asyncio.gather(handle("ok"), handle(None), handle("ok"), return_exceptions=True)
    assert outcomes[0::2] == ["ok", "ok"]
    assert isinstance(outcomes[1], TypeError)
    assert await handle("after") == "after"


async def test_items_that_cannot_be_measured_together_run_apart(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[list[int]] = []

    def only_alone(items: list[int]) -> int:
        if len(items) > 1:
            raise ArithmeticError("together")
        return 1

    @batch(max_batch_size=5, batch_wait_timeout_s=0, batch_size_fn=only_alone)
    async def handle(items: list[int]) -> list[int]:
        seen.append(items)
        return items

    assert await asyncio.gather(handle(1), handle(2)) == [1, 2]
    assert seen == [[1], [2]]
    assert "batch_size_fn failed" in caplog.text


# -- streams -------------------------------------------------------------------------------------------------------


async def test_streams_of_a_batch_get_an_item_each_in_every_step() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def count(limits: list[int]) -> AsyncIterator[list[Any]]:
        for step in range(max(limits)):
            yield [step if step < limit else StopIteration for limit in limits]

    assert await asyncio.gather(collect(count(2)), collect(count(4))) == [[0, 1], [0, 1, 2, 3]]


@pytest.mark.parametrize("end", [StopIteration, StopAsyncIteration, StopIteration(), StopAsyncIteration()])
async def test_every_form_of_the_end_ends_one_stream(end: Any) -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def uneven(names: list[str]) -> AsyncIterator[list[Any]]:
        yield names
        yield [end, names[1]]
        yield [end, names[1]]

    assert await asyncio.gather(collect(uneven("a")), collect(uneven("b"))) == [["a"], ["b"] * 3]


async def test_streams_wait_for_their_batch_from_the_call_on() -> None:
    @batch(max_batch_size=3, batch_wait_timeout_s=NEVER_S)
    async def size(items: list[int]) -> AsyncIterator[list[int]]:
        yield [len(items)] * len(items)

    streams = [size(i) for i in range(3)]
    assert [await collect(stream) for stream in streams] == [[3], [3], [3]]


async def test_items_before_an_error_come_before_the_error() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def breaks(items: list[int]) -> AsyncIterator[list[int]]:
        yield items
        raise ZeroDivisionError

    async def read(stream: AsyncIterator[int], into: list[int]) -> None:
        async for item in stream:
            into += [item]

    first: list[int] = []
    second: list[int] = []
    outcomes = await asyncio.gather(read(breaks(1), first), read(breaks(2), second), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    assert (first, second) == ([1], [2])


async def test_a_step_of_another_length_fails_the_streams_that_are_left() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def wrong(_items: list[int]) -> AsyncIterator[list[Any]]:
        yield [StopIteration, 1]
        yield [1]

    outcomes = await asyncio.gather(collect(wrong(1)), collect(wrong(2)), return_exceptions=True)
    assert outcomes[0] == []
    assert isinstance(outcomes[1], MeshServeException)


async def test_a_batch_nobody_reads_any_more_is_closed() -> None:
    closed = asyncio.Event()

    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def endless(items: list[int]) -> AsyncIterator[list[int]]:
        try:
            while True:
                yield items
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def read_two(stream: AsyncIterator[int]) -> list[int]:
        items: list[int] = []
        async with aclosing(stream) as open_stream:  # type: ignore[type-var]  # it is an async generator
            async for item in open_stream:
                items.append(item)
                if len(items) == 2:
                    break
        return items

    assert await asyncio.gather(read_two(endless(1)), read_two(endless(2))) == [[1, 1], [2, 2]]
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_reader_that_falls_far_behind_is_cut_off_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_call, "MAX_LAG_ITEMS", 10)

    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def many(items: list[int]) -> AsyncIterator[list[int]]:
        for step in range(50):
            yield [step] * len(items)
            await asyncio.sleep(0)

    slow, fast = many(1), many(2)
    assert await anext(slow) == 0
    assert await collect(fast) == list(range(50))
    with pytest.raises(MeshServeException, match="too slowly"):
        await collect(slow)


async def test_a_stream_called_on_a_thread_joins_its_batch_when_it_is_read() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def size(items: list[int]) -> AsyncIterator[list[int]]:
        yield [len(items)] * len(items)

    streams: list[AsyncIterator[int]] = []
    thread = threading.Thread(target=lambda: streams.extend([size(1), size(2)]))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert await asyncio.gather(*(collect(stream) for stream in streams)) == [[2], [2]]


async def test_a_stream_cancelled_before_its_batch_is_not_in_it() -> None:
    @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def names(items: list[str]) -> AsyncIterator[list[list[str]]]:
        yield [items] * len(items)

    gone = asyncio.create_task(collect(names("gone")))
    await settle()
    gone.cancel()
    await settle()
    assert await asyncio.gather(collect(names("a")), collect(names("b"))) == [[["a", "b"]]] * 2


# -- decorating ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_batch_size": 0}, ValueError),
        ({"max_batch_size": -1}, ValueError),
        ({"max_batch_size": 1.5}, TypeError),
        ({"max_batch_size": "3"}, TypeError),
        ({"batch_wait_timeout_s": -0.1}, ValueError),
        ({"batch_wait_timeout_s": "1"}, TypeError),
        ({"max_concurrent_batches": 0}, TypeError),
        ({"max_concurrent_batches": 1.5}, TypeError),
        ({"batch_size_fn": 3}, TypeError),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        batch(**options)


def test_the_bare_form_takes_async_functions_only() -> None:
    def sync(items: list[int]) -> list[int]:
        return items

    async def generator(items: list[int]) -> AsyncIterator[list[int]]:
        yield items

    for function in (sync, generator, 3):
        with pytest.raises(TypeError, match=r"decorated with @serve\.batch must be .async def"):
            batch(function)  # type: ignore[call-overload]


async def test_the_bare_form_has_the_defaults() -> None:
    @batch
    async def handle(items: list[int]) -> list[int]:
        return items

    decorated: Any = handle
    assert await decorated(1) == 1
    assert (decorated._get_max_batch_size(), decorated._get_batch_wait_timeout_s()) == (10, 0.01)


async def test_setters_are_on_the_bound_method_and_checked() -> None:
    method: Any = Model(1).times
    method.set_max_batch_size(3.0)
    method.set_batch_wait_timeout_s(1)
    try:
        assert (method._get_max_batch_size(), method._get_batch_wait_timeout_s()) == (3, 1.0)
        with pytest.raises(ValueError, match="max_batch_size"):
            method.set_max_batch_size(0)
        with pytest.raises(TypeError, match="batch_wait_timeout_s"):
            method.set_batch_wait_timeout_s("1")
    finally:
        method.set_max_batch_size(2)
        method.set_batch_wait_timeout_s(NEVER_S)


async def test_what_runs_can_be_looked_at() -> None:
    gate = Gate()
    handle: Any = gated(gate, max_batch_size=1)
    assert handle._get_curr_iteration_start_times().max_start_time is None
    call = asyncio.create_task(handle(1))
    await until(lambda: len(gate.batches) == 1)
    assert await handle._is_batching_task_alive()
    began = handle._get_curr_iteration_start_times()
    assert began.num_requests == 1 and began.min_start_time == began.mean_start_time == began.max_start_time
    assert abs(time.time() - began.start_times[0]) < 10
    assert "Gate.__call__" in await handle._get_handling_task_stack()
    gate.open.set()
    await call
    await settle()
    assert await handle._get_handling_task_stack() == ""


async def test_a_decorated_class_travels_by_value_without_its_queue() -> None:
    class Local(Model):
        @batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
        async def add(self, items: list[int]) -> list[int]:
            assert super().squares is not None
            return [self.factor + item for item in items]

    waiting = asyncio.create_task(Local(1).add(1))
    await settle()
    copy = cloudpickle.loads(cloudpickle.dumps(Local))(10)
    assert await asyncio.gather(copy.add(1), copy.add(2)) == [11, 12]
    waiting.cancel()


def test_every_loop_has_its_own_queue() -> None:
    async def one() -> int:
        result: int = await Model.squares(3)
        return result

    async def two() -> list[int]:
        return await asyncio.gather(Model.squares(1), Model.squares(2))

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(one(), 0.01))
    assert asyncio.run(two()) == [1, 4]


async def test_batches_that_can_never_be_full_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    @batch(max_batch_size=10, batch_wait_timeout_s=0, max_concurrent_batches=2)
    async def handle(items: list[int]) -> list[int]:
        return items

    replica = ReplicaId(DeploymentId("app", "model"), "tag")
    set_replica_context(ReplicaContext(replica, max_ongoing_requests=5))
    try:
        with caplog.at_level(logging.WARNING):
            await asyncio.gather(handle(1), handle(2))
    finally:
        set_replica_context(None)
    assert caplog.text.count("max_ongoing_requests is 5") == 1
