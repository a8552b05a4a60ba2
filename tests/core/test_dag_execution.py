"""Graphs executed in this process: what runs, in which order, how often, and what arrives where."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import journal
import pytest

from meshserve import Application, DeploymentHandle, deployment, run
from meshserve.dag import InputNode, MeshServeDAGHandle
from meshserve.drivers import DAGDriver
from meshserve.errors import MeshServeException
from meshserve.testing.local import shutdown_local


@deployment
class Model:
    def __init__(self, weight: int = 1) -> None:
        self.weight = weight

    def predict(self, value: Any) -> Any:
        journal.entries.append(f"model {self.weight}")
        return value * self.weight


@deployment
def prepare(value: Any) -> Any:
    journal.entries.append("prepare")
    return value + 1


@deployment
def combine(*values: Any, **named: Any) -> Any:
    journal.entries.append("combine")
    return [*values, *named.values()]


@deployment
def fail(value: Any) -> None:
    raise KeyError(f"no {value}")


@deployment
class Together:
    """Each of its calls ends when another is there: two of them have to run side by side."""

    def __init__(self) -> None:
        self.other = asyncio.Event()
        self.arrived = 0

    async def meet(self, value: Any) -> Any:
        self.arrived += 1
        if self.arrived == 2:
            self.other.set()
        await asyncio.wait_for(self.other.wait(), timeout=20)
        return value


@deployment
class Legacy:
    """A driver as older releases had users write it."""

    def __init__(self, graph: MeshServeDAGHandle) -> None:
        self.graph = graph

    async def predict(self, *args: Any, **kwargs: Any) -> Any:
        ref = await self.graph.remote(*args, **kwargs)
        return await ref


Served = Callable[[Application], DeploymentHandle[Any]]


@pytest.fixture
def served() -> Iterator[Served]:
    journal.entries.clear()
    yield lambda app: run(app, _local_testing_mode=True)
    shutdown_local()


def test_a_diamond_runs_each_node_once_a_request(served: Served) -> None:
    with InputNode() as inp:
        shared = prepare.bind(inp)
        graph = combine.bind(Model.bind(2).predict.bind(shared), Model.bind(3).predict.bind(shared), shared)
    handle = served(DAGDriver.bind(graph))

    assert handle.predict.remote(4).result() == [10, 15, 5]
    assert sorted(journal.entries) == ["combine", "model 2", "model 3", "prepare"]
    assert handle.predict.remote(0).result() == [2, 3, 1]
    assert journal.entries.count("prepare") == 2


def test_branches_run_side_by_side(served: Served) -> None:
    meeting = Together.bind()
    with InputNode() as inp:
        graph = combine.bind(meeting.meet.bind(inp[0]), meeting.meet.bind(inp[1]))

    assert served(DAGDriver.bind(graph)).predict.remote("a", "b").result() == ["a", "b"]


def test_one_input_is_given_as_it_is_and_several_by_place_and_name(served: Served) -> None:
    with InputNode() as inp:
        whole = served(DAGDriver.bind(prepare.bind(inp)))
    assert whole.predict.remote(1).result() == 2

    with InputNode() as inp:
        parts = served(DAGDriver.bind(combine.bind(inp[0], inp[1])))
    assert parts.predict.remote(1, 2).result() == [1, 2]
    assert parts.predict.remote([3, 4]).result() == [3, 4]

    with InputNode() as inp:
        named = served(DAGDriver.bind(combine.bind(inp["x"], inp.y)))
    assert named.predict.remote(x=5, y=6).result() == [5, 6]

    with InputNode() as inp:
        mixed = served(DAGDriver.bind(combine.bind(inp[0], inp.y)))
    assert mixed.predict.remote(7, y=8).result() == [7, 8]


def test_parts_of_one_object_are_its_items_or_its_attributes(served: Served) -> None:
    with InputNode() as inp:
        graph = combine.bind(inp["real"], inp["imag"])
    assert served(DAGDriver.bind(graph)).predict.remote({"real": 1, "imag": 2}).result() == [1, 2]

    with InputNode() as inp:
        graph = combine.bind(inp.real, inp.imag)
    assert served(DAGDriver.bind(graph)).predict.remote(1 + 2j).result() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "error"),
    [({"b": 1}, KeyError), (([],), TypeError), (object(), TypeError)],
    ids=["key", "tuple", "object"],
)
def test_a_part_that_the_input_lacks_is_an_error_before_anything_runs(
    served: Served, given: Any, error: type[Exception]
) -> None:
    with InputNode() as inp:
        handle = served(DAGDriver.bind(combine.bind(prepare.bind(1), inp["a"])))

    with pytest.raises(error):
        handle.predict.remote(given).result()
    assert journal.entries == []


def test_an_index_and_an_attribute_that_are_missing(served: Served) -> None:
    with InputNode() as inp:
        indexed = served(DAGDriver.bind(prepare.bind(inp[3])))
    with pytest.raises(IndexError):
        indexed.predict.remote([1]).result()

    with InputNode() as inp:
        attribute = served(DAGDriver.bind(prepare.bind(inp.height)))
    with pytest.raises(AttributeError, match="height"):
        attribute.predict.remote([1]).result()


def test_an_input_that_was_never_entered_fails_when_it_runs_not_when_it_is_built(served: Served) -> None:
    handle = served(DAGDriver.bind(prepare.bind(InputNode())))

    with pytest.raises(AssertionError, match="never entered"):
        handle.predict.remote(1).result()


def test_the_input_may_be_bound_after_its_block(served: Served) -> None:
    with InputNode() as inp:
        pass

    assert served(DAGDriver.bind(prepare.bind(inp))).predict.remote(1).result() == 2


def test_what_depends_on_a_failure_never_runs_and_the_failure_is_the_users(served: Served) -> None:
    with InputNode() as inp:
        handle = served(DAGDriver.bind(combine.bind(prepare.bind(fail.bind(inp)))))

    with pytest.raises(KeyError, match="no way"):
        handle.predict.remote("way").result()
    assert journal.entries == []


def test_constants_may_be_any_object_that_pickles(served: Served) -> None:
    with InputNode() as inp:
        graph = combine.bind(inp, {1, 2}, wide=range(3))

    assert served(DAGDriver.bind(graph)).predict.remote(0).result() == [0, {1, 2}, range(3)]


def test_the_input_inside_a_container_arrives_as_a_value(served: Served) -> None:
    with InputNode() as inp:
        graph = combine.bind({"all": [inp, inp.real]})

    assert served(DAGDriver.bind(graph)).predict.remote(4).result() == [{"all": [4, 4]}]


def test_a_class_among_the_arguments_of_a_call_is_a_handle(served: Served) -> None:
    @deployment
    async def ask(model: DeploymentHandle[Any], value: Any) -> Any:
        return await model.predict.remote(value)

    with InputNode() as inp:
        graph = ask.bind(Model.bind(10), inp)

    assert served(DAGDriver.bind(graph)).predict.remote(4).result() == 40


def test_a_driver_of_older_releases_awaits_the_reference_and_then_the_value(served: Served) -> None:
    with InputNode() as inp:
        handle = served(Legacy.bind(combine.bind(prepare.bind(inp[0]), inp.y)))

    assert handle.predict.remote(1, y=2).result() == [2, 2]


def test_results_of_all_nodes_are_kept_when_that_is_asked_for(served: Served) -> None:
    with InputNode() as inp:
        prepared = prepare.bind(inp)
        graph = combine.bind(prepared)
    keys = [prepared.get_stable_uuid(), graph.get_stable_uuid(), inp.get_stable_uuid()]

    @deployment
    class Looking:
        def __init__(self, graph: MeshServeDAGHandle) -> None:
            self.graph = graph

        async def look(self) -> Any:
            with pytest.raises(AssertionError, match="_ray_cache_refs"):
                await self.graph.get_intermediate_object_refs()
            await self.graph.remote(1, _ray_cache_refs=True)
            kept = await self.graph.get_intermediate_object_refs()
            return await kept[keys[0]], await kept[keys[1]], kept[keys[2]]

    assert served(Looking.bind(graph)).look.remote().result() == (2, [2], 1)


def test_a_graph_that_is_the_root_is_called_like_a_deployment(served: Served) -> None:
    with InputNode() as inp:
        handle = served(combine.bind(prepare.bind(inp[0]), inp[1]))

    assert handle.remote(1, 5).result() == [2, 5]
    assert handle.predict.remote([1, 5]).result() == [2, 5]


def test_a_driver_with_several_graphs_is_called_by_route(served: Served) -> None:
    @deployment
    class Whole:
        def __call__(self) -> str:
            return "whole"

    @deployment
    class Taking:
        def __call__(self, value: Any) -> str:
            return f"took {value}"

    @deployment
    def constant() -> str:
        return "constant"

    with InputNode() as inp:
        handle = served(
            DAGDriver.bind(
                {
                    "/prepared": prepare.bind(inp),
                    "/whole": Whole.bind(),
                    "/taking": Taking.bind(),
                    "/constant": constant.bind(),
                }
            )
        )

    by_route = handle.predict_with_route
    assert by_route.remote("/prepared", 1).result() == 2
    assert by_route.remote("/whole").result() == by_route.remote("/whole", 1).result() == "whole"
    assert by_route.remote("/taking", 1).result() == "took 1"
    assert by_route.remote("/constant").result() == by_route.remote("/constant", 1).result() == "constant"
    with pytest.raises(MeshServeException, match="/nowhere"):
        by_route.remote("/nowhere", 1).result()
    with pytest.raises(KeyError):
        handle.predict.remote(1).result()


def test_a_driver_refuses_what_is_no_graph_in_its_constructor(served: Served) -> None:
    for wrong in (5, {"/a": "text"}, None):
        with pytest.raises(AssertionError, match="serves bound calls"):
            served(DAGDriver.bind(wrong))
