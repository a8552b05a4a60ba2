"""The driver's HTTP side: routes, adapters, what comes in and goes out. Requests go straight to its application."""

import io
import json
import pickle
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from starlette.requests import Request

from meshserve import Application, deployment, http_adapters, run
from meshserve.dag import InputNode
from meshserve.drivers import DAGDriver
from meshserve.http_adapters import json_request
from meshserve.model.ids import DeploymentId
from meshserve.routing.directory import process_directory
from meshserve.testing.local import LocalDirectory, shutdown_local
from meshserve.user.buffered_request import BufferedRequest
from meshserve.user.dag_adapter import load_http_adapter


@deployment
def describe(value: Any) -> Any:
    return {
        "type": type(value).__name__,
        "value": value if isinstance(value, int | float | str | list | dict) else None,
    }


@deployment
def double(value: Any) -> Any:
    return value * 2


@deployment
def fail(value: Any) -> Any:
    raise ValueError("broken")


@deployment
async def read_body(request: Request) -> Any:
    return [request.method, request.url.path, request.headers["x-own"], await request.json(), request.query_params["q"]]


class House(BaseModel):
    area: float
    rooms: int = 1


def of_query(left: int, right: int = 10) -> int:
    return left + right


async def of_request(request: Request) -> str:
    return request.url.path


Served = Callable[[Application], httpx.AsyncClient]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    clients: list[httpx.AsyncClient] = []

    def serve(app: Application) -> httpx.AsyncClient:
        run(app, _local_testing_mode=True)
        directory = process_directory()
        assert isinstance(directory, LocalDirectory)
        driver = directory._users[DeploymentId("default", "DAGDriver")].callable
        transport = httpx.ASGITransport(driver, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://driver"))
        return clients[-1]

    yield serve
    for client in clients:
        await client.aclose()
    shutdown_local()


def adapted(adapter: Any, node: Any = describe) -> Application:
    with InputNode() as inp:
        return DAGDriver.bind(node.bind(inp), http_adapter=adapter)


async def test_one_graph_answers_get_and_post_at_every_path(served: Served) -> None:
    client = served(adapted(of_request))

    for path in ("/", "/some", "/some/where"):
        assert (await client.get(path)).json() == {"type": "str", "value": path}
        assert (await client.post(path)).json() == {"type": "str", "value": path}
    assert (await client.put("/")).status_code == 405


async def test_several_graphs_answer_at_their_paths_only(served: Served) -> None:
    with InputNode() as inp:
        client = served(DAGDriver.bind({"/double": double.bind(inp), "/what": describe.bind(inp)}, json_request))

    assert (await client.post("/double", json=4)).json() == 8
    assert (await client.post("/what", json=4)).json() == {"type": "int", "value": 4}
    missing = await client.post("/elsewhere", json=4)
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert (await client.delete("/double")).status_code == 405


async def test_without_an_adapter_the_graph_gets_the_request_with_its_body(served: Served) -> None:
    client = served(adapted(None, read_body))

    reply = await client.post("/there?q=1", json={"a": [1]}, headers={"x-own": "mine"})

    assert reply.json() == ["POST", "/there", "mine", {"a": [1]}, "1"]


async def test_a_list_in_the_body_is_indexed_by_the_graph(served: Served) -> None:
    @deployment
    def join(left: Any, right: Any) -> Any:
        return [right, left]

    with InputNode() as inp:
        client = served(DAGDriver.bind(join.bind(inp[0], inp[1]), http_adapter=json_request))

    assert (await client.post("/", json=[1, 2])).json() == [2, 1]


async def test_an_adapter_by_import_path(served: Served) -> None:
    for path in ("meshserve.http_adapters.json_request", "meshserve.http_adapters:json_request"):
        assert (await served(adapted(path, double)).post("/", json=3)).json() == 6


async def test_parameters_of_an_adapter_are_read_and_checked_by_fastapi(served: Served) -> None:
    client = served(adapted(of_query, double))

    assert (await client.get("/?left=5")).json() == 30
    assert (await client.get("/?left=5&right=1")).json() == 12
    assert (await client.get("/?left=many")).status_code == 422
    assert (await client.get("/")).status_code == 422
    parameters = (await client.get("/openapi.json")).json()["paths"]["/{path}"]["get"]["parameters"]
    assert {one["name"] for one in parameters} >= {"left", "right"}


async def test_a_pydantic_model_is_the_body(served: Served) -> None:
    @deployment
    def price(house: House) -> float:
        return house.area * house.rooms

    client = served(adapted(House, price))

    assert (await client.post("/", json={"area": 2.5, "rooms": 2})).json() == 5.0
    assert (await client.post("/", json={"rooms": 2})).status_code == 422
    assert (await client.post("/")).status_code == 422
    assert "House" in (await client.get("/openapi.json")).json()["components"]["schemas"]


class Reader:
    def __call__(self, request: Request) -> None: ...


@pytest.mark.parametrize("wrong", [Reader(), partial(of_query, 1), [of_query], 5, Reader().__call__])
def test_only_functions_and_models_are_adapters(wrong: Any) -> None:
    with pytest.raises(ValueError, match="callable function or pydantic model"):
        load_http_adapter(wrong)


def test_parameters_of_an_adapter_are_annotated() -> None:
    def bare(request): ...  # type: ignore[no-untyped-def]  # wrong on purpose

    with pytest.raises(ValueError, match=r"type annotated.*'request'"):
        load_http_adapter(bare)
    with pytest.raises(ValueError, match="type annotated"):
        run(adapted(bare), _local_testing_mode=True)
    with pytest.raises(ModuleNotFoundError, match="no module named 'nowhere'"):
        load_http_adapter("nowhere.adapter")


async def test_results_are_json_also_those_of_numpy_and_pandas(served: Served) -> None:
    import numpy

    pandas = pytest.importorskip("pandas")

    results = {
        "array": (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        "scalar": (numpy.float32(0.5), 0.5),
        "frame": (pandas.DataFrame({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
        "error": (ValueError("as text"), "as text"),
        "model": (House(area=1.0), {"area": 1.0, "rooms": 1}),
        "text": ("plain", "plain"),
        "none": (None, None),
    }

    @deployment
    def give(key: str) -> Any:
        return results[key][0]

    client = served(adapted(json_request, give))

    for key, (_, expected) in results.items():
        reply = await client.post("/", json=key)
        assert (reply.headers["content-type"], reply.json()) == ("application/json", expected)


async def test_an_exception_in_the_graph_is_a_500(served: Served) -> None:
    reply = await served(adapted(json_request, fail)).post("/", json=1)

    assert reply.status_code == 500
    assert "broken" not in reply.text


async def test_an_application_in_the_place_of_a_graph_may_ignore_the_request(served: Served) -> None:
    @deployment
    class Fixed:
        def __call__(self) -> str:
            return "fixed"

    @deployment
    class Taking:
        async def __call__(self, request: Request) -> Any:
            return await request.json()

    client = served(DAGDriver.bind({"/fixed": Fixed.bind(), "/taking": Taking.bind()}))

    assert (await client.get("/fixed")).json() == "fixed"
    assert (await client.post("/taking", json=[1])).json() == [1]


# -- the adapters that are shipped -------------------------------------------------------------------------------------


@deployment
def array_of(value: Any) -> Any:
    arrays = value if isinstance(value, Mapping) else {"": value}
    return {name: [array.tolist(), list(array.shape), str(array.dtype)] for name, array in arrays.items()}


async def test_arrays_in_json(served: Served) -> None:
    client = served(adapted(http_adapters.json_to_ndarray, array_of))

    async def answer(body: Any) -> Any:
        return (await client.post("/", json=body)).json()[""]

    assert await answer({"array": [1, 2]}) == [[1.0, 2.0], [2], "float64"]
    assert await answer({"array": [[1, 2], [3, 4]], "shape": [4], "dtype": "int8"}) == [[1, 2, 3, 4], [4], "int8"]
    assert await answer({"array": [[[[1]]]], "shape": []}) == [[[[[1.0]]]], [1, 1, 1, 1], "float64"]
    assert (await client.post("/", json={"shape": [1]})).status_code == 422
    assert (await client.post("/", json={"array": "text"})).status_code == 422


async def test_several_arrays_in_json(served: Served) -> None:
    client = served(adapted(http_adapters.json_to_multi_ndarray, array_of))

    reply = await client.post("/", json={"a": {"array": [1]}, "b": {"array": [[2]], "dtype": "int64"}})

    assert reply.json() == {"a": [[1.0], [1], "float64"], "b": [[[2]], [1, 1], "int64"]}


async def test_an_uploaded_image(served: Served) -> None:
    from PIL import Image

    client = served(adapted(http_adapters.image_to_ndarray, array_of))
    file = io.BytesIO()
    Image.new("RGB", (2, 1), (9, 8, 7)).save(file, format="PNG")

    reply = await client.post("/", files={"img": file.getvalue()})

    assert reply.json() == {"": [[[[9, 8, 7], [9, 8, 7]]], [1, 2, 3], "uint8"]}
    assert (await client.post("/")).status_code == 422


async def test_a_frame_with_options_in_the_query(served: Served) -> None:
    pytest.importorskip("pandas")

    @deployment
    def columns(frame: Any) -> Any:
        return {name: frame[name].tolist() for name in frame.columns}

    client = served(adapted(http_adapters.pandas_read_json, columns))

    rows = json.dumps([{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    assert (await client.post("/", content=rows)).json() == {"a": [1, 3], "b": [2, 4]}
    split = json.dumps({"columns": ["a"], "index": [0], "data": [[5]]})
    assert (await client.post("/?orient=split", content=split)).json() == {"a": [5]}


async def test_a_request_that_is_sent_on_keeps_what_is_data_and_no_connection() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/a",
        "query_string": b"x=1",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
        "app": lambda: None,
    }

    request = pickle.loads(pickle.dumps(BufferedRequest(scope, b"name=value")))

    assert (request.method, request.url.path, request.query_params["x"]) == ("POST", "/a", "1")
    assert await request.body() == b"name=value"
    assert [chunk async for chunk in request.stream()] == [b"name=value", b""]
    assert dict(await request.form()) == {"name": "value"}
    assert not await request.is_disconnected()
    assert "app" not in request.scope
