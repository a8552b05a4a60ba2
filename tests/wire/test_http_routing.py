"""Paths, prefixes, built-in pages, and what a request tells the code that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from http_mesh import NODE, HttpMesh, Served, serving
from starlette.requests import Request

from meshserve.proxy.options import HttpOptions
from meshserve.user.context import get_multiplexed_model_id, get_request_context


class Mirror:
    """Says what it was asked."""

    def __init__(self, name: str = "mirror") -> None:
        self.name = name

    async def __call__(self, request: Request) -> dict[str, Any]:
        context = get_request_context()
        assert context is not None
        return {
            "name": self.name,
            "method": request.method,
            "path": request.scope["path"],
            "raw_path": request.scope["raw_path"].decode(),
            "root_path": request.scope["root_path"],
            "query": request.scope["query_string"].decode(),
            "headers": [[key, value] for key, value in request.headers.items()],
            "client": request.client.host if request.client else None,
            "server": list(request.scope["server"]),
            "scheme": request.scope["scheme"],
            "url": str(request.url),
            "request_id": context.request_id,
            "app": context.app,
            "route": context.route,
            "model": get_multiplexed_model_id(),
            "session": context.session_id,
            "traceparent": context.traceparent,
            "tracestate": context.tracestate,
        }


@pytest.fixture(scope="module")
def mirror() -> Iterator[Served]:
    with serving(Mirror, prefix="/mirror", patterns=("/items/{id}", "/")) as served:
        yield served


def test_the_whole_request_arrives(mirror: Served) -> None:
    seen = mirror.patch("/mirror/a%20b/%C3%A9?x=1&y=%20", headers={"X-One": "1", "x-two": "2"}).json()
    assert seen["method"] == "PATCH"
    assert (seen["path"], seen["raw_path"]) == ("/mirror/a b/é", "/mirror/a%20b/%C3%A9")
    assert (seen["root_path"], seen["query"], seen["scheme"]) == ("/mirror", "x=1&y=%20", "http")
    assert ["x-one", "1"] in seen["headers"] and ["x-two", "2"] in seen["headers"]
    assert seen["client"] == "127.0.0.1" and seen["server"][1] == mirror.client.base_url.port
    assert seen["url"].startswith(mirror.mesh.url + "/mirror/a b")


def test_repeated_headers_keep_their_order(mirror: Served) -> None:
    seen = mirror.get("/mirror", headers=[("x-a", "1"), ("x-b", "2"), ("x-a", "3")]).json()
    assert [header for header in seen["headers"] if header[0] in ("x-a", "x-b")] == [
        ["x-a", "1"],
        ["x-b", "2"],
        ["x-a", "3"],
    ]


def test_context_carries_application_and_route_pattern(mirror: Served) -> None:
    seen = mirror.get("/mirror/items/7").json()
    assert (seen["app"], seen["route"]) == ("app", "/mirror/items/{id}")
    assert mirror.get("/mirror/other").json()["route"] == "/mirror"


def test_request_id_goes_in_and_comes_out(mirror: Served) -> None:
    response = mirror.get("/mirror", headers={"X-Request-ID": "mine"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "mine"
    first, second = (mirror.get("/mirror").headers["x-request-id"] for _ in range(2))
    assert first != second and len(first) == 36
    assert mirror.get("/nowhere", headers={"x-request-id": "lost"}).headers["x-request-id"] == "lost"


@pytest.mark.parametrize(
    "name", ["serve_multiplexed_model_id", "serve-multiplexed-model-id", "Serve_Multiplexed_Model_Id"]
)
def test_model_id_header(mirror: Served, name: str) -> None:
    assert mirror.get("/mirror", headers={name: "m1"}).json()["model"] == "m1"


@pytest.mark.parametrize("name", ["x-session-id", "X_Session_ID"])
def test_session_id_header(mirror: Served, name: str) -> None:
    assert mirror.get("/mirror", headers={name: "s1"}).json()["session"] == "s1"


def test_trace_context_headers(mirror: Served) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    seen = mirror.get("/mirror", headers={"traceparent": parent, "tracestate": "a=1"}).json()
    assert (seen["traceparent"], seen["tracestate"]) == (parent, "a=1")


def test_forwarded_headers_of_a_trusted_server_in_front(mirror: Served) -> None:
    seen = mirror.get("/mirror", headers={"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}).json()
    assert (seen["scheme"], seen["client"]) == ("https", "203.0.113.9")


@pytest.fixture
def mesh() -> Iterator[HttpMesh]:
    mesh = HttpMesh()
    mesh.start()
    yield mesh
    mesh.stop()


def test_longest_prefix_wins_and_root_path_is_set(mesh: HttpMesh) -> None:
    mesh.deploy(Mirror, "root", name="root", prefix="/")
    mesh.deploy(Mirror, "a", name="a", prefix="/a")
    mesh.deploy(Mirror, "ab", name="ab", prefix="/a/b")
    with mesh.client() as client:
        for path, name, root_path in (
            ("/", "root", ""),
            ("/ab", "root", ""),
            ("/a", "a", "/a"),
            ("/a/", "a", "/a"),
            ("/a/c", "a", "/a"),
            ("/a/b/c", "ab", "/a/b"),
        ):
            seen = client.get(path).json()
            assert (seen["name"], seen["root_path"], seen["path"]) == (name, root_path, path)


def test_unknown_path_is_404_and_says_where_the_routes_are(mesh: HttpMesh) -> None:
    mesh.deploy(Mirror, name="a", prefix="/a")
    with mesh.client() as client:
        response = client.get("/ab?q=1")
        assert response.status_code == 404 and response.headers["content-type"].startswith("text/plain")
        assert response.text == f"Path '/ab' not found. Ping {mesh.url}/-/routes for available routes."
        assert client.get(mesh.url + "/-/routes").text == '{"/a":"a"}'


def test_an_application_that_moves_is_reached_by_both_prefixes_and_listed_under_the_new_one(mesh: HttpMesh) -> None:
    mesh.deploy(Mirror, name="a", prefix="/new")
    mesh.routes["a"] = replace(mesh.routes["a"], former_prefixes=("/old",))
    mesh.publish()
    with mesh.client() as client:
        for prefix in ("/old", "/new"):
            seen = client.get(f"{prefix}/x").json()
            assert (seen["root_path"], seen["path"], seen["route"]) == (prefix, f"{prefix}/x", prefix)
        assert client.get("/-/routes").json() == {"/new": "a"}


def test_changed_prefix_takes_effect_and_application_without_prefix_is_unreachable(mesh: HttpMesh) -> None:
    mesh.deploy(Mirror, name="a", prefix="/old")
    with mesh.client() as client:
        assert client.get("/old").status_code == 200
        route = mesh.routes["a"]
        mesh.routes["a"] = type(route)("a", "/new", route.ingress)
        mesh.publish()
        assert (client.get("/old").status_code, client.get("/new").status_code) == (404, 200)
        mesh.routes["a"] = type(route)("a", None, route.ingress)
        mesh.publish()
        assert client.get("/new").status_code == 404
        assert client.get("/-/routes").json() == {}


def test_healthz_and_routes_until_populated_and_while_draining(mesh: HttpMesh) -> None:
    with mesh.client() as client:
        for page in ("/-/healthz", "/-/routes"):
            assert (client.get(page).status_code, client.get(page).text) == (503, "Route table is not populated yet.")
        assert client.get("/x").status_code == 503
        mesh.deploy(Mirror, name="a", prefix="/a")
        assert (client.get("/-/healthz").status_code, client.get("/-/healthz").text) == (200, "success")
        mesh.publish(draining_nodes=(NODE,))
        for page in ("/-/healthz", "/-/routes"):
            assert (client.get(page).status_code, client.get(page).text) == (503, "This node is being drained.")
        assert client.get("/a").status_code == 200
        mesh.publish(draining_nodes=("another",))
        assert client.get("/-/healthz").status_code == 200
        mesh.soon(mesh.applications.drain, True)
        assert client.get("/-/healthz").status_code == 503


def test_application_without_a_prefix_does_not_make_the_ingress_healthy(mesh: HttpMesh) -> None:
    mesh.deploy(Mirror, name="a", prefix=None)
    with mesh.client() as client:
        for page in ("/-/healthz", "/-/routes"):
            assert (client.get(page).status_code, client.get(page).text) == (503, "Route table is not populated yet.")
        assert client.get("/").status_code == 404
        mesh.deploy(Mirror, name="b", prefix="/b")
        assert client.get("/-/healthz").text == "success"
        mesh.routes.clear()
        mesh.publish()
        assert (client.get("/-/healthz").status_code, client.get("/-/routes").json()) == (200, {})


def test_built_in_pages_come_before_a_catch_all_and_are_not_counted(mesh: HttpMesh) -> None:
    mesh.deploy(Mirror, name="a", prefix="/")
    with mesh.client() as client:
        assert client.get("/-/healthz").text == "success"
        assert "python_info" in client.get("/metrics").text
        assert client.get("/-/other").json()["path"] == "/-/other"
    assert mesh.in_flight.count == 0


@pytest.mark.parametrize("root_path", ["/outer", "/outer/"])
@pytest.mark.parametrize("stripped", [True, False])
def test_root_path_with_and_without_a_server_in_front_that_strips_it(root_path: str, stripped: bool) -> None:
    with serving(Mirror, prefix="/a", http=HttpOptions(root_path=root_path)) as served:
        base = "" if stripped else "/outer"
        seen = served.get(base + "/a/x").json()
        assert (seen["path"], seen["raw_path"], seen["root_path"]) == ("/outer/a/x", "/outer/a/x", "/outer/a")
        assert served.get(base + "/-/healthz").text == "success"
        missing = served.get(base + "/b")
        assert missing.status_code == 404 and "'/outer/b'" in missing.text and "/outer/-/routes" in missing.text


def test_worker_proxy_waits_for_replicas_and_the_head_does_not() -> None:
    from http_mesh import FakeServices

    from meshserve.model.ids import DeploymentId
    from meshserve.model.targets import ApplicationRoute, RouteTable
    from meshserve.proxy.applications import Applications

    deployment = DeploymentId("a", "b")
    known: set[DeploymentId] = set()
    services = FakeServices()
    services.services[deployment] = None  # type: ignore[assignment]  # never called
    head = Applications(services, NODE)
    worker = Applications(services, NODE, lambda id_: id_ in known)
    table = RouteTable((1, 1), (ApplicationRoute("a", "/", deployment),))
    for watcher in services.watchers:
        watcher(RouteTable((1, 0)))
    assert head.unready() == worker.unready() == "Route table is not populated yet."
    for watcher in services.watchers:
        watcher(table)
    assert (head.unready(), worker.unready()) == ("", "No replicas are available yet.")
    known.add(deployment)
    assert worker.unready() == ""
    known.clear()
    assert worker.unready() == "", "a deployment that is scaled to zero is still woken through this proxy"


def test_port_in_use_is_told_by_name() -> None:
    from meshserve.proxy.http_server import bind

    (taken,) = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(
        OSError, match=rf"Cannot serve HTTP on 127.0.0.1:{port}: Address already in use\. Free the port"
    ):
        bind("127.0.0.1", port)
    taken.close()
    with pytest.raises(OSError, match=r"Cannot serve HTTP on nowhere\.invalid:80"):
        bind("nowhere.invalid", 80)


def test_keep_alive_serves_many_requests_on_one_connection(mirror: Served) -> None:
    with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
        for _ in range(20):
            assert client.get(mirror.mesh.url + "/mirror").status_code == 200
