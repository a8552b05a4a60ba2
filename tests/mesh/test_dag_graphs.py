"""Deployment graphs on a running mesh: HTTP, Python, references, side by side, values that take the short way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import ray

import meshserve as serve
from meshserve.dag import InputNode, RayServeDAGHandle
from meshserve.drivers import DAGDriver
from meshserve.handle import DeploymentHandle
from meshserve.http_adapters import json_request

SLOW_S = 1.0

Run = Callable[..., Any]

cheap = {"ray_actor_options": {"num_cpus": 0}}


@serve.deployment(max_ongoing_requests=100, **cheap)
class Model:
    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.calls = 0

    def predict(self, value: Any, extra: int = 0) -> Any:
        self.calls += 1
        return value * self.weight + extra

    async def slow(self, value: Any) -> Any:
        await asyncio.sleep(SLOW_S)
        return value * self.weight

    async def fail(self, value: Any) -> Any:
        raise ValueError(f"no {value}")

    def array(self, megabytes: int) -> Any:
        return np.full(megabytes << 17, 2.0)

    def count(self, *_values: Any) -> int:
        return self.calls


@serve.deployment(**cheap)
def combine(left: Any, right: Any) -> Any:
    return [left, right]


@serve.deployment(**cheap)
async def nested(boxed: Any) -> Any:
    refs = [*boxed["refs"], boxed["deep"][0]]
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    return [await ref for ref in refs]


@serve.deployment(**cheap)
def total(array: Any) -> float:
    return float(array.sum())


@serve.deployment(**cheap)
class OldDriver:
    """A driver as older releases had users write it."""

    def __init__(self, graph: RayServeDAGHandle) -> None:
        self.graph = graph

    async def predict(self, value: Any) -> Any:
        ref = await self.graph.remote(value, _ray_cache_refs=True)
        assert isinstance(ref, ray.ObjectRef)
        kept = await self.graph.get_intermediate_object_refs()
        return [await ref, sorted([await one if isinstance(one, ray.ObjectRef) else one for one in kept.values()])]


@serve.deployment(**cheap)
class Sink:
    def __init__(self, **handles: DeploymentHandle[Any]) -> None:
        self.handles = handles

    async def sizes(self) -> list[str]:
        return sorted(self.handles)


def test_a_graph_answers_http_and_python(run: Run) -> None:
    shared = Model.options(num_replicas=2).bind(10)
    with InputNode() as inp:
        value = shared.predict.bind(inp[0], extra=inp[1])
        graph = combine.bind(Model.bind(2).predict.bind(value), value)
    driver = DAGDriver.options(num_replicas=2, name="Front", **cheap).bind(graph, http_adapter=json_request)

    app = run(driver)

    assert app.handle.predict.remote(1, 5).result() == [30, 15]
    assert app.handle.predict.remote([1, 5]).result() == [30, 15]
    assert httpx.post(app.url, json=[2, 1]).json() == [42, 21]
    assert httpx.post(f"{app.url}/any/where", json=[2, 1]).json() == [42, 21]
    assert httpx.put(app.url, json=[2, 1]).status_code == 405
    assert {one.deployment_name for one in [app.handle]} == {"Front"}


def test_several_graphs_answer_at_their_paths(run: Run) -> None:
    model = Model.bind(3)
    with InputNode() as inp:
        app = run(
            DAGDriver.options(**cheap).bind(
                {"/three": model.predict.bind(inp), "/count": model.count.bind()}, http_adapter=json_request
            )
        )

    assert httpx.post(f"{app.url}/three", json=5).json() == 15
    assert httpx.post(f"{app.url}/count", json=0).json() == 1
    assert httpx.post(f"{app.url}/four", json=5).status_code == 404
    assert app.handle.predict_with_route.remote("/three", 2).result() == 6


def test_the_request_itself_is_the_input_without_an_adapter(run: Run) -> None:
    @serve.deployment(**cheap)
    async def read(request: Any) -> Any:
        return {"path": request.url.path, **await request.json()}

    with InputNode() as inp:
        app = run(DAGDriver.options(**cheap).bind(read.bind(inp)))

    answer = httpx.post(f"{app.url}/there", json={"a": 1}).json()
    assert (answer["a"], answer["path"].endswith("/there")) == (1, True)


def test_branches_run_side_by_side(run: Run) -> None:
    with InputNode() as inp:
        app = run(combine.bind(Model.bind(1).slow.bind(inp), Model.bind(2).slow.bind(inp)))
    assert app.handle.remote(1).result() == [1, 2]

    since = time.monotonic()
    assert app.handle.remote(3).result() == [3, 6]
    assert time.monotonic() - since < 1.8 * SLOW_S


def test_a_graph_without_a_driver_answers_http_and_python(run: Run) -> None:
    @serve.deployment(**cheap)
    async def read(request: Any) -> Any:
        return (await request.json())["number"]

    with InputNode() as inp:
        app = run(Model.bind(4).predict.bind(read.bind(inp)))

    assert httpx.post(app.url, json={"number": 3}).json() == 12


def test_results_inside_containers_arrive_as_references(run: Run) -> None:
    with InputNode() as inp:
        first, second = Model.bind(1).predict.bind(inp), Model.bind(2).slow.bind(inp)
        app = run(nested.bind({"refs": [first, second], "deep": (first,)}))

    assert app.handle.remote(5).result() == [5, 10, 5]


def test_a_failure_in_the_graph_is_the_users_in_python_and_a_500_in_http(run: Run) -> None:
    model = Model.bind(1)
    with InputNode() as inp:
        app = run(DAGDriver.options(**cheap).bind(model.predict.bind(model.fail.bind(inp)), http_adapter=json_request))

    with pytest.raises(ValueError, match="no 5"):
        app.handle.predict.remote(5).result()
    reply = httpx.post(app.url, json=5)
    assert (reply.status_code, "no 5" in reply.text) == (500, False)


def test_large_results_do_not_pass_the_driver(run: Run) -> None:
    with InputNode() as inp:
        app = run(DAGDriver.options(**cheap).bind(total.bind(Model.bind(1).array.bind(inp))))

    assert app.handle.predict.remote(16).result() == float(2 * (16 << 17))


def test_a_driver_of_older_releases_gets_real_references(run: Run) -> None:
    model = Model.bind(2)
    with InputNode() as inp:
        app = run(OldDriver.bind(model.predict.bind(model.slow.bind(inp))))

    assert app.handle.predict.remote(3).result() == [12, [3, 6, 12]]


def test_kept_results_of_a_driver_are_references(run: Run) -> None:
    with InputNode() as inp:
        graph = Model.bind(2).predict.bind(inp)
        app = run(DAGDriver.options(**cheap).bind(graph))

    assert app.handle.predict.remote(4, _ray_cache_refs=True).result() == 8
    kept = app.handle.get_intermediate_object_refs.remote().result()
    assert ray.get(kept[graph.get_stable_uuid()], timeout=20) == 8


def test_a_graph_that_cannot_come_up_says_why(run: Run) -> None:
    with pytest.raises(RuntimeError, match="serves bound calls"):
        run(DAGDriver.options(max_constructor_retry_count=1, **cheap).bind("nothing"))
