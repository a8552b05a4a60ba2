"""`@serve.multiplexed`, as a replica's user loop sees it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from meshserve.errors import MeshServeException
from meshserve.model.call import CallContext
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.multiplex import get_multiplexed_model_id, multiplexed
from meshserve.routing.scope import RequestScope, request_scope
from meshserve.user.context import ReplicaContext, set_replica_context
from meshserve.user.multiplex import ModelRegistry


@pytest.fixture(autouse=True)
def in_a_replica() -> Iterator[None]:
    set_replica_context(ReplicaContext(ReplicaId(DeploymentId("app", "model"), "tag")))
    yield
    set_replica_context(None)
    gc.collect()


async def settle() -> None:
    """Lets every task that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


class Weights:
    """A model that says when it is destroyed."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def __del__(self) -> None:
        self.log.append(f"del {self.name}")


class AsyncWeights:
    """A model whose destructor takes a while."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def __del__(self) -> None:
        await asyncio.sleep(0)
        self.log.append(f"del {self.name}")


class Zoo:
    """A deployment with models."""

    def __init__(self, model: Callable[[str, list[str]], Any] = Weights) -> None:
        self.log: list[str] = []
        self.model = model

    @multiplexed(max_num_models_per_replica=2)
    async def load(self, model_id: str) -> Any:
        self.log.append(f"load {model_id}")
        await asyncio.sleep(0)
        if model_id.startswith("bad"):
            raise FileNotFoundError(model_id)
        return self.model(model_id, self.log)


# -- the cache -----------------------------------------------------------------------------------------------------


async def test_a_model_is_loaded_once_and_then_found() -> None:
    zoo = Zoo()
    first = await zoo.load("a")
    assert await zoo.load("a") is first
    assert await zoo.load(model_id="a") is first
    assert zoo.log == ["load a"]


async def test_the_least_recently_used_model_leaves_before_the_next_is_loaded() -> None:
    zoo = Zoo()
    for model_id in ("a", "b", "a", "c", "b"):
        await zoo.load(model_id)
    assert zoo.log == ["load a", "load b", "del b", "load c", "del a", "load b"]


async def test_calls_for_one_model_wait_for_one_load() -> None:
    zoo = Zoo()
    models = await asyncio.gather(*(zoo.load("a") for _ in range(10)))
    assert zoo.log == ["load a"]
    assert all(model is models[0] for model in models)


async def test_models_are_loaded_one_at_a_time_and_hits_do_not_wait() -> None:
    loading: list[str] = []
    gates = {"slow": asyncio.Event(), "next": asyncio.Event()}

    @multiplexed(max_num_models_per_replica=3)
    async def load(model_id: str) -> str:
        if model_id in gates:
            loading.append(model_id)
            await gates[model_id].wait()
        return model_id

    await load("warm")
    calls = [asyncio.create_task(load(model_id)) for model_id in gates]
    await settle()
    assert loading == ["slow"]
    assert await asyncio.wait_for(load("warm"), 5) == "warm"
    gates["slow"].set()
    await settle()
    assert loading == ["slow", "next"]
    gates["next"].set()
    assert await asyncio.gather(*calls) == ["slow", "next"]


async def test_a_load_that_fails_is_not_kept_but_has_made_room() -> None:
    zoo = Zoo()
    await zoo.load("a")
    await zoo.load("b")
    outcomes = await asyncio.gather(zoo.load("bad"), zoo.load("bad"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [FileNotFoundError] * 2
    with pytest.raises(FileNotFoundError):
        await zoo.load("bad")
    assert zoo.log == ["load a", "load b", "del a", "load bad", "load bad"]
    assert ModelRegistry.current_models() == ("b",)


async def test_a_load_goes_on_when_its_caller_gives_up() -> None:
    gate = asyncio.Event()

    @multiplexed
    async def load(model_id: str) -> str:
        await gate.wait()
        return model_id.upper()

    first = asyncio.create_task(load("a"))
    second = asyncio.create_task(load("a"))
    await settle()
    first.cancel()
    await settle()
    gate.set()
    assert await second == "A"
    assert first.cancelled()


async def test_a_load_cancelled_from_inside_is_an_error_for_those_who_wait() -> None:
    @multiplexed
    async def load(_model_id: str) -> str:
        raise asyncio.CancelledError

    with pytest.raises(MeshServeException, match="cancelled"):
        await load("a")


async def test_without_a_limit_no_model_leaves() -> None:
    @multiplexed(max_num_models_per_replica=-1)
    async def load(model_id: str) -> str:
        return model_id

    for number in range(20):
        await load(str(number))
    assert len(ModelRegistry.current_models()) == 20


async def test_none_is_a_model_too() -> None:
    loads: list[str] = []

    @multiplexed
    async def load(model_id: str) -> None:
        loads.append(model_id)

    await load("a")
    await load("a")
    assert loads == ["a"]


async def test_a_load_outlives_the_scope_of_the_call_that_began_it() -> None:
    seen: list[tuple[str, float | None]] = []

    @multiplexed
    async def load(model_id: str) -> str:
        scope = request_scope.get()
        assert scope is not None
        seen.append((get_multiplexed_model_id(), scope.deadline))
        return model_id

    request_scope.set(RequestScope(CallContext("r", multiplexed_model_id="m"), deadline=3.0))
    await load(get_multiplexed_model_id())
    assert seen == [("m", None)]


# -- unloading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Weights, AsyncWeights])
async def test_a_destructor_runs_once_though_the_model_is_still_in_use(model: Any) -> None:
    zoo = Zoo(model)
    held = await zoo.load("a")
    await zoo.load("b")
    await zoo.load("c")
    assert zoo.log == ["load a", "load b", "del a", "load c"]
    assert isinstance(held, model)
    assert held.name == "a"
    del held
    gc.collect()
    assert zoo.log.count("del a") == 1
    await ModelRegistry.unload_all()


async def test_a_destructor_of_a_class_with_slots_runs_once() -> None:
    deleted: list[str] = []

    class Slotted:
        __slots__ = ("name",)

        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            deleted.append(self.name)

    @multiplexed(max_num_models_per_replica=1)
    async def load(model_id: str) -> Slotted:
        return Slotted(model_id)

    await load("a")
    await load("b")
    gc.collect()
    assert deleted == ["a"]


async def test_a_destructor_that_fails_does_not_keep_the_next_model_out(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn:
        def __del__(self) -> None:
            raise ArithmeticError("will not go")

    @multiplexed(max_num_models_per_replica=1)
    async def load(_model_id: str) -> Stubborn:
        return Stubborn()

    await load("a")
    await load("b")
    assert "will not go" in caplog.text
    assert ModelRegistry.current_models() == ("b",)
    await ModelRegistry.unload_all()


async def test_at_the_end_of_a_replica_every_model_is_unloaded() -> None:
    zoo, other = Zoo(), Zoo(AsyncWeights)
    await zoo.load("a")
    await zoo.load("b")
    await other.load("c")
    await ModelRegistry.unload_all()
    assert zoo.log[2:] == ["del a", "del b"]
    assert other.log[1:] == ["del c"]
    assert ModelRegistry.current_models() == ()


# -- what routers are told -----------------------------------------------------------------------------------------


async def test_models_are_known_while_they_are_loading_and_changes_are_told() -> None:
    told: list[tuple[str, ...]] = []
    end = ModelRegistry.on_change(lambda: told.append(ModelRegistry.current_models()))
    zoo = Zoo()
    call = asyncio.create_task(zoo.load("b"))
    await settle()
    await call
    await zoo.load("a")
    await zoo.load("b")
    await zoo.load("c")
    with pytest.raises(FileNotFoundError):
        await zoo.load("bad")
    end()
    await zoo.load("d")
    assert told == [
        ("b",),
        ("a", "b"),
        ("a", "b", "c"),
        ("b", "c"),
        ("b", "bad", "c"),
        ("bad", "c"),
        ("c",),
    ]


async def test_models_of_all_functions_are_known_together() -> None:
    @multiplexed
    async def load(model_id: str) -> str:
        return model_id

    await Zoo().load("gone")
    gc.collect()
    zoo = Zoo()
    await zoo.load("a")
    await load("b")
    assert ModelRegistry.current_models() == ("a", "b")


# -- functions and methods -----------------------------------------------------------------------------------------


async def test_instances_have_models_of_their_own() -> None:
    first, second = Zoo(), Zoo()
    assert await first.load("a") is not await second.load("a")


async def test_a_method_called_through_super_has_models_of_its_own() -> None:
    class Bigger(Zoo):
        @multiplexed(max_num_models_per_replica=1)
        async def load(self, model_id: str) -> Any:
            return ["bigger", await super().load(model_id)]

    kind, weights = await asyncio.wait_for(Bigger().load("a"), 5)
    assert (kind, weights.name) == ("bigger", "a")


async def test_a_decorated_class_travels_by_value_without_its_models() -> None:
    class Local(Zoo):
        @multiplexed(max_num_models_per_replica=1)
        async def load_upper(self, model_id: str) -> str:
            return model_id.upper()

    await Local().load_upper("a")
    copy = cloudpickle.loads(cloudpickle.dumps(Local))()
    assert await copy.load_upper("b") == "B"


async def test_it_works_only_inside_a_replica() -> None:
    set_replica_context(None)
    with pytest.raises(RuntimeError, match="replica"):
        await Zoo().load("a")


@pytest.mark.parametrize(("model_id", "error"), [(3, TypeError), (None, TypeError), ("", ValueError)])
async def test_a_model_id_is_a_text_that_is_not_empty(model_id: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="model id"):
        await Zoo().load(model_id)


async def test_a_call_takes_one_model_id() -> None:
    call: Any = Zoo().load
    for args in ((), ("a", "b")):
        with pytest.raises(TypeError, match="argument"):
            await call(*args)


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-2, ValueError), (1.0, TypeError), ("3", TypeError), (True, TypeError)]
)
def test_a_limit_out_of_range_is_refused(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_num_models_per_replica"):
        multiplexed(max_num_models_per_replica=limit)


async def nothing_to_load() -> None: ...


async def too_much_to_load(model_id: str, size: int) -> None: ...


def not_async(model_id: str) -> None: ...


class Wrong:
    async def no_id(self) -> None: ...

    async def two_ids(self, one: str, two: str) -> None: ...

    def not_async(self, model_id: str) -> None: ...


@pytest.mark.parametrize(
    "function", [nothing_to_load, too_much_to_load, not_async, Wrong.no_id, Wrong.two_ids, Wrong.not_async, 3]
)
def test_a_function_that_does_not_load_by_id_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"@serve\.multiplexed can only be used to decorate"):
        multiplexed(function)
