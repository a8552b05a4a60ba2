"""The page about the mesh: the state it shows, and that it is one file which needs nothing else."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import Any

import grpc.aio
import httpx
import pytest
from dashboard_mesh import HOSTILE, NODE, DashboardMesh, Figures, add_shop, dashboard_mesh, traffic
from replicas import on_io

from meshserve.model.notice import Notice
from meshserve.proxy import dashboard, notice_board
from meshserve.proxy.discovery import SMALL_REPLICAS, Discovery
from meshserve.proxy.notice_board import ALIKE
from meshserve.proxy.options import HttpOptions
from meshserve.telemetry.notices import Notices
from meshserve.v1 import proxy_control_pb2, proxy_control_pb2_grpc


@pytest.fixture(autouse=True)
def a_mesh_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look of a test is a look at its mesh, and what other tests have logged in this process is not part of it."""
    monkeypatch.setattr(dashboard, "FRESH_S", 0.0)
    monkeypatch.setattr(notice_board, "NOTICES", Notices())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def state_of(mesh: DashboardMesh) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{mesh.url}/-/dashboard/state")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in entries if one["name"] == name)


@on_io
async def test_rates_are_what_happened_between_two_looks() -> None:
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        traffic(mesh, 100)
        first = await state_of(mesh)
        assert first["window_s"] is None and named(first["applications"], "shop")["http"] is None
        traffic(mesh, 100)
        found = await state_of(mesh)
        window_s = found["window_s"]
        shop = named(found["applications"], "shop")
        ranker = named(shop["deployments"], "Ranker")
        assert ranker["rates"]["calls_per_s"] == pytest.approx(100 / window_s, rel=0.01)
        assert ranker["rates"]["failed_per_s"] == pytest.approx(10 / window_s, rel=0.01)
        assert 0.005 <= ranker["rates"]["p50_s"] <= 0.01
        assert (ranker["ongoing"], ranker["limit"], len(ranker["course"])) == (6, 16, 1)
        assert shop["http"]["failed_per_s"] == pytest.approx(10 / window_s, rel=0.01)
        tags = {one["tag"]: one["rates"]["calls_per_s"] * window_s for one in ranker["replicas"]}
        assert tags == {"ranker-0": pytest.approx(50, rel=0.01), "ranker-1": pytest.approx(50, rel=0.01)}


@on_io
async def test_the_graph_has_who_is_bound_and_who_calls_besides() -> None:
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        traffic(mesh, 10)
        await state_of(mesh)
        traffic(mesh, 10)
        mesh.figures.call(("shop", "Cache", "cache-0"), "shop", "Ranker", 5)
        found = await state_of(mesh)
        calls = {
            (one["from"], one["to"]): (one["bound"], round(one["calls_per_s"] * found["window_s"]))
            for one in named(found["applications"], "shop")["calls"]
        }
        assert calls == {
            ("", "Front"): (True, 10),
            ("Front", "Cache"): (True, 10),
            ("Front", "Embedder"): (True, 10),
            ("Front", "Ranker"): (True, 10),
            ("Cache", "Ranker"): (False, 5),
        }


@on_io
async def test_states_messages_and_events_are_those_of_the_mesh_without_tracebacks() -> None:
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        found = await state_of(mesh)
        assert found["node_id"] == NODE and found["controller"] == {"answers": True, "silent_s": 0}
        broken = named(found["applications"], HOSTILE)
        assert broken["message"] == f"The deployment {HOSTILE} failed 3 times: OSError: full"
        assert (broken["status"], broken["route_prefix"]) == ("DEPLOY_FAILED", None)
        assert [one["level"] for one in found["notices"]][:3] == ["ERROR", "WARNING", "INFO"]
        assert found["notices"][0]["request_id"] == "id-1"
        mesh.speaker.notices = []
        assert "id-1" in {one["request_id"] for one in (await state_of(mesh))["notices"]}  # its replica may be dead


@on_io
async def test_an_error_that_every_request_meets_does_not_push_out_what_else_there_is_to_say() -> None:
    async with dashboard_mesh() as mesh:
        event = Notice(1, "controller 1", time.time() - 60, "INFO", "It runs.", application="shop")
        flood = [Notice(n, "replica 1", time.time(), "ERROR", "It fails.", application="shop") for n in range(2, 302)]
        mesh.speaker.notices = [event, *flood]
        said = [one["text"] for one in (await state_of(mesh))["notices"]]
        assert said == ["It fails."] * ALIKE + ["It runs."]


class OtherNode(proxy_control_pb2_grpc.ProxyControlServiceServicer):
    """The proxy of another node."""

    def __init__(self) -> None:
        self.figures = Figures()

    async def NodeMetrics(self, request: Any, context: Any) -> proxy_control_pb2.NodeMetricsResponse:
        return proxy_control_pb2.NodeMetricsResponse(text=await self.figures.text())


@on_io
async def test_the_figures_are_of_all_nodes_while_the_mesh_is_small() -> None:
    other, server = OtherNode(), grpc.aio.server()
    proxy_control_pb2_grpc.add_ProxyControlServiceServicer_to_server(other, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    far = ("shop", "Ranker", "ranker-far")
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        mesh.controller.status.proxies.add(node_id="node-2", status="HEALTHY", address=address)
        ranker = mesh.controller.status.applications[0].deployments[2]
        ranker.replicas.add(replica_tag=far[2], state="RUNNING", node_id="node-2")
        traffic(mesh, 10)
        other.figures.run(far)
        await state_of(mesh)
        traffic(mesh, 10)
        for _ in range(30):
            other.figures.run(far)
        found = await state_of(mesh)
        assert found["figures_of"] == [NODE, "node-2"]
        shown = named(named(found["applications"], "shop")["deployments"], "Ranker")
        assert shown["rates"]["calls_per_s"] * found["window_s"] == pytest.approx(40, rel=0.01)
        assert [one["seen"] for one in shown["replicas"]] == [True, True, True]
        await server.stop(0)
        assert (await state_of(mesh))["figures_of"] == [NODE]


@on_io
async def test_a_large_mesh_is_not_asked_as_a_whole() -> None:
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        mesh.controller.status.proxies.add(node_id="node-2", status="HEALTHY", address="127.0.0.1:1")
        deployment = mesh.controller.status.applications[0].deployments[0]
        for number in range(SMALL_REPLICAS):
            deployment.replicas.add(
                replica_tag=f"far-{number}", state="RUNNING", node_id="node-2", address="127.0.0.1:1"
            )
        found = Discovery(mesh.locate, NODE)
        assert await found.elsewhere() == {}
        assert [process.deployment for process in await found.speakers()] == [""]  # the controller


@on_io
async def test_with_the_controller_away_its_last_word_is_shown_beside_figures_of_now() -> None:
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        traffic(mesh, 10)
        await state_of(mesh)
        mesh.controller.away = True
        traffic(mesh, 10)
        found = await state_of(mesh)
        assert not found["controller"]["answers"] and found["controller"]["silent_s"] > 0
        assert named(named(found["applications"], "shop")["deployments"], "Front")["rates"]["calls_per_s"] > 0


@on_io
async def test_a_proxy_that_never_heard_of_the_controller_shows_an_empty_mesh() -> None:
    async with dashboard_mesh() as mesh:
        mesh.controller.away = True
        found = await state_of(mesh)
        assert found["controller"] == {"answers": False, "silent_s": None} and found["applications"] == []


@on_io
async def test_the_page_is_one_file_and_the_browser_is_told_to_allow_nothing_else() -> None:
    async with dashboard_mesh() as mesh, httpx.AsyncClient() as client:
        answer = await client.get(f"{mesh.url}/-/dashboard")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("'sha256-") == 2
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-frame-options"] == "DENY" and answer.headers["cache-control"] == "no-store"
    addresses = set(re.findall(r"https?://[^\s'\"]+", answer.text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a namespace; nothing is loaded from there
    assert "innerHTML" not in answer.text and len(answer.content) < 60_000


@on_io
async def test_the_page_is_off_with_an_option() -> None:
    async with dashboard_mesh(HttpOptions(dashboard=False)) as mesh, httpx.AsyncClient() as client:
        statuses = [(await client.get(f"{mesh.url}{path}")).status_code for path in ("/-/dashboard", "/metrics")]
    assert statuses == [404, 200]


@on_io
async def test_metrics_and_page_can_have_a_port_of_their_own() -> None:
    port = free_port()
    async with dashboard_mesh(HttpOptions(metrics_port=port)) as mesh, httpx.AsyncClient() as client:
        add_shop(mesh)
        paths = ("/-/dashboard", "/-/dashboard/state", "/metrics", "/-/metrics/targets")
        beside = await asyncio.gather(*(client.get(f"{mesh.url}{path}") for path in paths))
        own = await asyncio.gather(*(client.get(f"http://127.0.0.1:{port}{path}") for path in paths))
        other = await client.get(f"http://127.0.0.1:{port}/shop")
    assert [one.status_code for one in beside] == [404] * 4
    assert [one.status_code for one in own] == [200] * 4
    assert own[3].json()[0]["targets"] == [f"10.0.0.1:{port}"]
    assert other.status_code == 404 and "/metrics" in other.text
